//! Carries out what [`Lease`] and [`Observer`] decide.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use super::{
    lease::Lease,
    observer::{self, Observer},
};
use crate::{
    cluster::{NODES, NodeId, Standing, View, Views},
    keys,
    metrics::Metrics,
    store::{CommitError, ReadError, Store, Transaction},
};

/// How often a node that leaves tries to delete its record.
const LEAVE_ATTEMPTS: u32 = 4;

/// What the membership is told.
pub(super) enum Command {
    /// Says that the node is about to stop. Answered when the store has it.
    Drain(oneshot::Sender<Arc<View>>),
    /// Leaves. Answered when the node has left, or can't do so in good order.
    Leave(oneshot::Sender<()>),
}

/// One membership at work.
pub(super) struct Runner {
    pub(super) me: NodeId,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lease_time: Duration,
    pub(super) lease: Lease,
    pub(super) observer: Observer,
    /// Who waits until the store has it that this node drains.
    pub(super) drained: Vec<oneshot::Sender<Arc<View>>>,
}

impl Runner {
    /// Renews and observes until the node has left or is fenced.
    pub(super) async fn run(mut self, views: Views, mut commands: mpsc::Receiver<Command>) {
        let mut next_round = Instant::now() + self.pause();
        loop {
            // What was due and couldn't be done is seen to with the next round.
            let due = self.observer.next_due().filter(|&due| due > Instant::now());
            let wake = due.map_or(next_round, |due| due.min(next_round));
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Drain(reply)) => {
                        self.lease.drain();
                        self.drained.push(reply);
                        next_round = Instant::now();
                    }
                    Some(Command::Leave(reply)) => {
                        // Before anybody can see that the record is gone.
                        self.lease.left();
                        self.show(&views);
                        self.leave().await;
                        // Who asked may have gone meanwhile.
                        let _ = reply.send(());
                        return;
                    }
                    None => return,
                },
                () = sleep_until(wake) => {}
            }
            if Instant::now() >= next_round {
                let started = Instant::now();
                next_round = match self.round().await {
                    true => started + self.pause(),
                    // Soon, so that there is time for more than one try before the lease is over.
                    false => Instant::now() + self.pause() / 2,
                };
            }
            if self.lease.standing(Instant::now()) == Standing::Serving {
                self.declare_dead().await;
            }
            self.show(&views);
            if self.lease.standing(Instant::now()) == Standing::Fenced {
                tracing::error!(node = %self.me, "this node was declared dead and serves no more");
                return;
            }
        }
    }

    /// Renews the own record, then looks at the others'. Says whether both succeeded.
    pub(super) async fn round(&mut self) -> bool {
        if let Err(error) = self.renew().await {
            tracing::warn!(%error, "the node's record isn't renewed");
            return false;
        }
        if self.lease.standing(Instant::now()) == Standing::Fenced {
            return true;
        }
        match self.read(|store| store.scan(keys::nodes(NODES))).await {
            Ok(pairs) => {
                self.observer.observe(&pairs, Instant::now());
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the other nodes' records can't be read");
                false
            }
        }
    }

    /// Renews the own record, or finds that it can't be renewed any more.
    pub(super) async fn renew(&mut self) -> Result<(), CommitError> {
        let transaction = self.lease.renew(Instant::now());
        let error = match self.commit(transaction, self.lease_time / 2).await {
            Ok(()) => {
                self.lease.renewed();
                return Ok(());
            }
            Err(error @ CommitError::Unavailable(_)) => {
                self.lease.refused();
                return Err(error);
            }
            Err(error) => error,
        };
        let is_conflict = matches!(error, CommitError::Conflict { .. });
        if is_conflict {
            // This one is refused, but an earlier one may have arrived after it was given up.
            self.lease.refused();
        }
        let key = self.lease.key().clone();
        match self.read(|store| store.get(key)).await {
            Ok(found) => {
                let before = self.lease.good_until();
                self.lease.found(found.as_ref());
                let is_settled = self.lease.good_until() > before
                    || self.lease.standing(Instant::now()) == Standing::Fenced;
                if is_settled { Ok(()) } else { Err(error) }
            }
            Err(read) => {
                tracing::warn!(error = %read, "the node's record can't be read back");
                Err(error)
            }
        }
    }

    /// Declares the nodes dead that are overdue.
    async fn declare_dead(&mut self) {
        let overdue = self.observer.overdue(Instant::now());
        let patience = self.pause();
        let outcomes = join_all(overdue.into_iter().map(|(node, transaction)| {
            let commit = self.commit(transaction, patience);
            async move { (node, commit.await) }
        }));
        for (node, outcome) in outcomes.await {
            match outcome {
                Ok(()) => {
                    tracing::warn!(%node, "declared dead: its record wasn't renewed");
                    self.metrics.cluster_nodes_declared_dead.inc();
                    self.observer.declared_dead(node);
                }
                // It has renewed after all, or is gone: seen with the next round, which comes before that.
                Err(error) => {
                    tracing::info!(%node, %error, "not declared dead");
                    self.observer.not_declared(node, Instant::now() + self.pause());
                }
            }
        }
    }

    async fn leave(&mut self) {
        for _ in 0..LEAVE_ATTEMPTS {
            let left = self.commit(self.lease.leave(), self.lease_time / 2).await;
            match left {
                // With a conflict it is gone, or a renewal that was given up has arrived; then the others wait for
                // a lease.
                Ok(()) | Err(CommitError::Conflict { .. }) => break,
                Err(error) => {
                    tracing::warn!(%error, "the node's record isn't deleted");
                    tokio::time::sleep(self.pause() / 2).await;
                }
            }
        }
    }

    /// Shows what is so now.
    pub(super) fn show(&mut self, views: &Views) {
        let view = self.view();
        self.metrics.cluster_nodes.set(view.nodes().count() as i64);
        let drains = self.lease.drains() || view.standing() != Standing::Serving;
        views.show(view, self.lease.good_until());
        self.metrics.cluster_serving.set(i64::from(views.is_serving()));
        if drains {
            for reply in self.drained.drain(..) {
                // Who asked may have gone meanwhile.
                let _ = reply.send(views.now());
            }
        }
    }

    /// The cluster as it is now.
    pub(super) fn view(&self) -> View {
        let standing = self.lease.standing(Instant::now());
        let mut nodes: std::collections::BTreeMap<_, _> = self.observer.nodes().collect();
        if matches!(standing, Standing::Serving | Standing::Suspended) {
            let mut me = observer::node(self.lease.record());
            me.draining = self.lease.drains();
            nodes.insert(self.me, Arc::new(me));
        }
        View::new(self.me, standing, nodes)
    }

    fn commit(
        &self,
        transaction: Transaction,
        patience: Duration,
    ) -> impl Future<Output = Result<(), CommitError>> + Send + use<> {
        let store = self.store.clone();
        async move {
            match timeout(patience, store.commit(transaction)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(CommitError::Unknown("no answer in time".to_owned())),
            }
        }
    }

    async fn read<'a, T>(
        &'a self,
        read: impl FnOnce(&'a dyn Store) -> crate::store::StoreFuture<'a, Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        match timeout(self.pause(), read(self.store.as_ref())).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ReadError::Unavailable("no answer in time".to_owned())),
        }
    }

    /// From one renewal to the next.
    fn pause(&self) -> Duration {
        self.lease_time / 4
    }
}
