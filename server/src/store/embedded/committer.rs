//! The committer thread: many transactions, one sync.

use std::{
    mem,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver as Done, Sender as Jobs, TryRecvError},
    },
    time::{Duration, Instant},
};

use tokio::sync::{mpsc::Receiver, oneshot};

use super::{
    EmbeddedSettings, Shared,
    base::BaseError,
    checkpoint::Job,
    frame::Builder,
    layer::{Known, Layer},
    log::Log,
};
use crate::store::{CommitError, Transaction};

/// From here on a commit's parts are worth a line in the debug log.
const SLOW_COMMIT: Duration = Duration::from_millis(10);
/// How many times the active layer (or the log) may outgrow its setting before commits wait
/// for the checkpoint.
const MOST_LAYERS: usize = 3;

/// A transaction and who waits for it.
pub(super) struct Request {
    pub(super) transaction: Transaction,
    pub(super) answer: oneshot::Sender<Result<(), CommitError>>,
}

/// Bytes of keys and values in a transaction.
pub(super) fn size(transaction: &Transaction) -> usize {
    use crate::store::Mutation::{Delete, DeleteRange, Put};
    let mutations = transaction.mutations.iter().map(|mutation| match mutation {
        Put(a, b) | DeleteRange(a, b) => a.len() + b.len() + 9,
        Delete(key) => key.len() + 5,
    });
    mutations.sum()
}

/// Owns the end of the log; the only writer of the active layer.
pub(super) struct Committer {
    shared: Arc<Shared>,
    settings: EmbeddedSettings,
    log: Log,
    requests: Receiver<Request>,
    jobs: Jobs<Job>,
    done: Done<()>,
    /// Whether a checkpoint is running.
    checkpoint: bool,
    /// Bytes of log since the last checkpoint began.
    log_bytes: u64,
    frame: Builder,
    /// The mutations of the batch so far: what its later conditions must see.
    pending: Layer,
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        settings: EmbeddedSettings,
        log: Log,
        log_bytes: u64,
        requests: Receiver<Request>,
        (jobs, done): (Jobs<Job>, Done<()>),
    ) -> Self {
        Self {
            shared,
            settings,
            log,
            requests,
            jobs,
            done,
            checkpoint: false,
            log_bytes,
            frame: Builder::new(),
            pending: Layer::default(),
        }
    }

    pub(super) fn run(mut self) {
        let mut batch = Vec::new();
        while let Some(first) = self.requests.blocking_recv() {
            let mut bytes = size(&first.transaction);
            batch.push(first);
            while batch.len() < self.settings.batch_transactions
                && bytes < self.settings.batch_bytes
                && let Ok(next) = self.requests.try_recv()
            {
                bytes += size(&next.transaction);
                batch.push(next);
            }
            self.commit(&mut batch);
            self.checkpoint_if_due();
        }
        if self.shared.poisoned().is_none() {
            // An empty frame behind the last commit: if that is damaged later, it can't be
            // taken for a torn end.
            self.frame.clear();
            if let Err(error) = self.log.append(&mut self.frame) {
                tracing::warn!(%error, "the log could not be closed; nothing is lost");
            }
        }
    }

    fn commit(&mut self, batch: &mut Vec<Request>) {
        if let Some(why) = self.shared.poisoned() {
            for request in batch.drain(..) {
                let _ = request.answer.send(Err(CommitError::Unavailable(why.clone())));
            }
            return;
        }
        let began = Instant::now();
        self.frame.clear();
        self.pending.clear();
        let transactions = batch.len();
        let mut outcomes = Vec::with_capacity(batch.len());
        for request in batch.iter() {
            let outcome = self.check(&request.transaction);
            if outcome.is_ok() {
                for mutation in &request.transaction.mutations {
                    self.pending.apply(mutation);
                    self.frame.push(mutation);
                }
            }
            outcomes.push(outcome);
        }

        let checked = Instant::now();
        let mut synced = checked;
        if !self.frame.is_empty() {
            match self.log.append(&mut self.frame) {
                Ok(bytes) => self.log_bytes += bytes,
                Err(error) => {
                    let why = format!("the log can't be written: {error}");
                    // Readers stop first, so that none sees a state from which the outcome
                    // differs that the next open finds.
                    self.shared.poison(why.clone());
                    for request in batch.drain(..) {
                        let _ = request.answer.send(Err(CommitError::Unknown(why.clone())));
                    }
                    return;
                }
            }
            synced = Instant::now();
            let mut view = self.shared.view_mut();
            for (request, outcome) in batch.iter().zip(&outcomes) {
                if outcome.is_ok() {
                    for mutation in &request.transaction.mutations {
                        view.active.apply(mutation);
                    }
                }
            }
        }
        // Conflicts wait for the sync too: what they saw may have been of this batch.
        for (request, outcome) in batch.drain(..).zip(outcomes) {
            // A caller that went away doesn't need the answer.
            let _ = request.answer.send(outcome);
        }
        if began.elapsed() >= SLOW_COMMIT {
            tracing::debug!(
                transactions,
                check_us = (checked - began).as_micros(),
                sync_us = (synced - checked).as_micros(),
                apply_us = synced.elapsed().as_micros(),
                "a slow commit"
            );
        }
    }

    fn check(&self, transaction: &Transaction) -> Result<(), CommitError> {
        for (index, condition) in transaction.conditions.iter().enumerate() {
            let key = condition.key();
            let found = match self.pending.get(key) {
                Known::Value(value) => Some(value),
                Known::Gone => None,
                Known::Nothing => self.committed(key)?,
            };
            if !condition.holds(found.as_ref()) {
                return Err(CommitError::Conflict { index });
            }
        }
        Ok(())
    }

    fn committed(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, CommitError> {
        let in_memory = self.shared.view().get(key);
        match in_memory {
            Ok(found) => Ok(found),
            Err(base) => base.get(key).map_err(|error| {
                if let BaseError::Corrupt(_) = error {
                    tracing::error!(%error, "a condition can't be checked");
                }
                CommitError::Unavailable(error.to_string())
            }),
        }
    }

    /// Starts a checkpoint when memory or log have grown enough; waits for the running one
    /// when they have grown too much.
    fn checkpoint_if_due(&mut self) {
        if self.shared.closing.load(Ordering::Relaxed) {
            // The log keeps what is left.
            return;
        }
        let layer_bytes = self.shared.view().active.bytes();
        let layer_permille = layer_bytes.saturating_mul(1_000) / self.settings.layer_bytes;
        let log_permille = self.log_bytes.saturating_mul(1_000) / self.settings.log_bytes;
        let log_permille = usize::try_from(log_permille).unwrap_or(usize::MAX);
        let fill_permille = layer_permille.max(log_permille);
        self.shared.fill_permille.store(fill_permille, Ordering::Relaxed);
        let full = |part: usize| fill_permille >= part * 1_000;
        if self.checkpoint {
            let ended = if full(MOST_LAYERS) {
                tracing::warn!(layer_bytes, "commits wait for a checkpoint");
                self.done.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.done.try_recv()
            };
            match ended {
                Ok(()) => self.checkpoint = false,
                // The thread has said why it went.
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
        if !full(1) {
            return;
        }
        let segment = self.log.rotate();
        let layer = {
            let mut view = self.shared.view_mut();
            let layer = Arc::new(mem::take(&mut view.active));
            view.frozen = Some(Arc::clone(&layer));
            layer
        };
        self.log_bytes = 0;
        let job = Job { layer, applied: self.log.number(), segment };
        if self.jobs.send(job).is_ok() {
            self.checkpoint = true;
        } else {
            self.shared.poison("the checkpoint thread is gone".into());
        }
    }
}
