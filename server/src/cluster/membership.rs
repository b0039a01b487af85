//! Who is a member, and who isn't any more.
//!
//! Each process writes a record under a key of its own and renews it every quarter of a lease, on the condition
//! that the record is still the one that it wrote last. Everybody reads all records as often.
//!
//! - **Dead** is a node whose record an observer has *deleted*, on the condition that it was still the record that
//!   hadn't changed for a lease of the observer's own clock (`observer.rs`). Clocks of two nodes are never
//!   compared.
//! - **Suspended** is a node that hasn't renewed for a lease, counted from the *start* of its last renewal
//!   (`lease.rs`). An observer sees a renewal after it started, so a node is suspended before anybody may declare
//!   it dead. It serves again if a later renewal succeeds, because then nobody did.
//! - **Fenced** is a node that finds its record gone. It never serves again; its process is to be ended, and another
//!   started, which is another node.
//!
//! When the store is away for everybody, everybody is suspended, and nobody is declared dead for it: an observer
//! counts only the time in which it could itself renew and read.
//!
//! With a lease of 2 s, what a killed node owned has another owner after 2.5 s: a node's last renewal is seen
//! within a quarter of a lease.

mod lease;
mod observer;
mod runner;
#[cfg(test)]
mod tests;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::DnsName;
use tern_protocol::limits;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use self::{
    lease::Lease,
    observer::Observer,
    runner::{Command, Runner},
};
use super::{
    NODES, NodeId, View, Views,
    links::{self, OutOfBounds},
};
use crate::{
    clock::Clock,
    keys,
    metrics::Metrics,
    random::Random,
    records::NodeRecord,
    store::{CommitError, ReadError, Store},
};

/// How a node keeps up its membership. Every node must have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipSettings {
    /// How long a node is held for alive after its last sign of life, in milliseconds. 400 to 60,000. A
    /// shorter one finds a dead node sooner, and must be several times the slowest commit of the store.
    pub lease_ms: u32,
}

impl Default for MembershipSettings {
    fn default() -> Self {
        Self { lease_ms: 2_000 }
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Myself {
    /// Its name: a DNS name, which its certificate holds; at most 253 bytes.
    pub name: String,
    /// Where other nodes reach it.
    pub peer_address: SocketAddr,
    /// Where clients reach it, `HOST:PORT`, at most 256 bytes; empty: not said.
    pub client_address: String,
}

/// A node can't become a member.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// A setting is out of its bounds.
    Settings(OutOfBounds),
    /// The name isn't a DNS name.
    Name(String),
    /// The address for clients is too long.
    ClientAddress,
    /// There are as many nodes as there may be.
    Full,
    /// The store can't be read.
    Read(ReadError),
    /// The record can't be written. If it was after all, the others find it dead after a lease.
    Commit(CommitError),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(error) => error.fmt(f),
            Self::Name(name) => write!(f, "the node's name {name:?} isn't a DNS name"),
            Self::ClientAddress => f.write_str("the node's address for clients is too long"),
            Self::Full => write!(f, "the cluster has {} nodes already", super::NODES),
            Self::Read(error) => write!(f, "the nodes can't be read: {error}"),
            Self::Commit(error) => write!(f, "the node's record can't be written: {error}"),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Settings(error) => Some(error),
            Self::Read(error) => Some(error),
            Self::Commit(error) => Some(error),
            Self::Name(_) | Self::ClientAddress | Self::Full => None,
        }
    }
}

/// The membership of this process. Dropped without [`Membership::leave`], it ends like a process that is killed.
#[derive(Debug)]
pub struct Membership {
    views: Views,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

impl Membership {
    /// Becomes a member. When it returns, this node's record is in the store, and its first view holds all who were
    /// there.
    pub async fn join(
        myself: Myself,
        store: Arc<dyn Store>,
        clock: Clock,
        random: &Random,
        metrics: Arc<Metrics>,
        settings: MembershipSettings,
    ) -> Result<Self, JoinError> {
        settings.check().map_err(JoinError::Settings)?;
        let record = myself.into_record(clock.now_ms())?;
        let id = random.id();
        let me = NodeId::new(id).unwrap_or(NodeId(std::num::NonZeroU64::MAX));
        let there = store.scan(keys::nodes(NODES)).await.map_err(JoinError::Read)?;
        if there.len() >= NODES {
            return Err(JoinError::Full);
        }
        let lease_time = Duration::from_millis(u64::from(settings.lease_ms));
        let now = Instant::now();
        let mut runner = Runner {
            me,
            store,
            metrics: metrics.clone(),
            lease_time,
            lease: Lease::new(keys::node(me), record, lease_time, now),
            observer: Observer::new(me, lease_time, now),
            drained: Vec::new(),
        };
        runner.renew().await.map_err(JoinError::Commit)?;
        if !runner.lease.is_stored() {
            return Err(JoinError::Commit(CommitError::Unknown("it isn't there".to_owned())));
        }
        // What couldn't be read now is with the next round.
        runner.observer.observe(&there, Instant::now());
        runner.round().await;
        let views = Views::new(runner.view(), runner.lease.good_until());
        runner.show(&views);
        let (commands, queue) = mpsc::channel(1);
        let run = runner.run(views.clone(), queue);
        let watched = views.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                // First, so that what happens at the same moment finds the node suspended.
                () = watch_lease(&watched, &metrics) => {}
                () = run => {}
            }
        });
        tracing::info!(node = %me, "this node is a member");
        Ok(Self { views, commands, task })
    }

    /// What this node sees of the cluster.
    pub fn views(&self) -> Views {
        self.views.clone()
    }

    /// Says that this node is about to stop: it owns nothing from the next view on, and is still reachable.
    /// Returns the view in which it is so, or in which it isn't serving anyway.
    pub async fn drain(&self) -> Arc<View> {
        let (reply, drained) = oneshot::channel();
        // Without anybody who hears it, the membership is over, as the view says.
        let _ = self.commands.send(Command::Drain(reply)).await;
        match drained.await {
            Ok(view) => view,
            Err(_) => self.views.now(),
        }
    }

    /// Leaves: deletes the record, so that the others needn't wait for a lease. When the store can't do it now, they do.
    pub async fn leave(&self) {
        let (reply, left) = oneshot::channel();
        // As in `drain`.
        let _ = self.commands.send(Command::Leave(reply)).await;
        let _ = left.await;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MembershipSettings {
    /// Whether each setting is within its bounds; the first that isn't otherwise.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        let (value, bounds) = (u64::from(self.lease_ms), (400, 60_000));
        if (bounds.0..=bounds.1).contains(&value) {
            return Ok(());
        }
        Err(OutOfBounds { setting: "lease_ms", value, bounds })
    }
}

impl Myself {
    fn into_record(self, started_ms: u64) -> Result<NodeRecord, JoinError> {
        if DnsName::try_from(self.name.as_str()).is_err() {
            return Err(JoinError::Name(self.name));
        }
        if self.client_address.len() > limits::TARGET_BYTES {
            return Err(JoinError::ClientAddress);
        }
        Ok(NodeRecord {
            name: self.name,
            peer_address: self.peer_address,
            client_address: self.client_address,
            started_ms,
            beat: 0,
            draining: false,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            peer_version: links::VERSION,
        })
    }
}

/// Suspends the node whenever its lease is over, whatever its renewals wait for.
async fn watch_lease(views: &Views, metrics: &Metrics) {
    loop {
        let version = views.now().version();
        sleep_until(views.good_until()).await;
        if views.expire() {
            metrics.cluster_suspensions.inc();
            metrics.cluster_serving.set(0);
            tracing::warn!("this node's record wasn't renewed in time: it doesn't serve for now");
        }
        if !views.is_serving() {
            let version = version.max(views.now().version());
            views.beyond(version).await;
        }
    }
}
