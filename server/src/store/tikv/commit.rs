//! One commit: tried, and tried again while it is certain that nothing has happened.

use bytes::Bytes;
use tikv_client::{Snapshot, Transaction as TikvTransaction, TransactionOptions};
use tokio::time::Instant;

use super::{
    LOCKED_FOR, Stored, TikvStore,
    cluster::CallError,
    effects::{Effects, condition_keys, first_broken, held_keys},
    error::{Verdict, judge},
    settle::Settled,
};
use crate::store::{CommitError, Transaction};

/// Keys that are read by one call.
pub(super) const KEYS_AT_ONCE: usize = 1_024;

/// How one try ended.
enum Tried {
    Committed,
    /// A condition doesn't hold.
    Broken(usize),
    /// Nothing has happened; a later try may succeed.
    Again(String),
    /// Nothing has happened, and no try will succeed.
    Never(String),
    /// It may have happened, or may yet.
    Unclear(Box<TikvTransaction>, Effects, String),
}

impl TikvStore {
    pub(super) async fn commit_within(
        &self,
        transaction: Transaction,
        deadline: Instant,
    ) -> Result<(), CommitError> {
        let mut clear_at = Instant::now() + LOCKED_FOR;
        for attempt in 1.. {
            if Instant::now() >= clear_at {
                clear_at += LOCKED_FOR;
                for key in Effects::of(&transaction).finals.keys() {
                    self.clear_way(self.stored_range(key), deadline).await;
                }
            }
            let why = match self.try_commit(&transaction, deadline).await {
                Tried::Committed => return Ok(()),
                Tried::Broken(index) => return Err(CommitError::Conflict { index }),
                Tried::Never(why) => return Err(CommitError::Unavailable(why)),
                Tried::Again(why) => why,
                Tried::Unclear(begun, effects, why) => {
                    tracing::debug!(why, "a commit's outcome must be found out");
                    let (finals, start) = (&effects.finals, begun.start_timestamp());
                    match self.settle(finals, &transaction.conditions, start, deadline).await {
                        Settled::Committed => return Ok(()),
                        Settled::NotCommitted => {
                            // Locks of which the first was never there are in everybody's way: the client
                            // finds nothing by which to judge them, and gives up.
                            self.roll_back(*begun, deadline).await;
                            why
                        }
                        Settled::Unclear => return Err(CommitError::Unknown(why)),
                    }
                }
            };
            tracing::debug!(why, attempt, "a commit is tried again");
            if !self.pause(attempt, deadline).await {
                return Err(CommitError::Unavailable(why));
            }
        }
        unreachable!("the tries have no end but those above")
    }

    async fn try_commit(&self, transaction: &Transaction, deadline: Instant) -> Tried {
        let mut effects = Effects::of(transaction);
        let (mut begun, mut snapshot) = match self.cluster.begin(options()).await {
            Ok(begun) => begun,
            Err(error) => return Tried::Again(error.to_string()),
        };
        match self.read_first(&mut snapshot, transaction, &mut effects, deadline).await {
            Ok(None) => {}
            Ok(Some(index)) => return Tried::Broken(index),
            Err(error) => return Tried::Again(error.to_string()),
        }
        if effects.finals.is_empty() {
            // The conditions held in one snapshot, and there is nothing to do.
            return Tried::Committed;
        }
        if let Err(error) = self.fill(&mut begun, transaction, &effects).await {
            return Tried::Never(error.to_string());
        }
        match self.cluster.call("a commit", begun.commit(), deadline).await {
            Ok(_) => Tried::Committed,
            Err(CallError::Client(error)) => match judge(&error) {
                Verdict::Unclear => Tried::Unclear(Box::new(begun), effects, error.to_string()),
                verdict => {
                    if verdict == Verdict::NotReady {
                        self.find_again(&effects, deadline).await;
                    }
                    self.roll_back(begun, deadline).await;
                    match verdict {
                        Verdict::TooLarge => Tried::Never(error.to_string()),
                        _ => Tried::Again(error.to_string()),
                    }
                }
            },
            Err(error) => Tried::Unclear(Box::new(begun), effects, error.to_string()),
        }
    }

    /// Reads what the transaction depends on, in its snapshot. Answers the first condition that doesn't hold.
    async fn read_first(
        &self,
        snapshot: &mut Snapshot,
        transaction: &Transaction,
        effects: &mut Effects,
        deadline: Instant,
    ) -> Result<Option<usize>, CallError> {
        let conditions = &transaction.conditions;
        if !conditions.is_empty() {
            let keys: Vec<Bytes> = condition_keys(conditions).into_iter().collect();
            let stored = self.read_keys(snapshot, &keys, deadline).await?;
            if let Some(index) = first_broken(conditions, &stored) {
                return Ok(Some(index));
            }
        }
        for (from, to) in std::mem::take(&mut effects.ranges) {
            let (mut from, to) = (self.stored_key(&from), self.stored_key(&to));
            loop {
                let scan = snapshot.scan_keys(from.clone()..to.clone(), KEYS_AT_ONCE as u32);
                let keys: Vec<Vec<u8>> =
                    self.cluster.call("a scan", scan, deadline).await?.map(Into::into).collect();
                let is_last = keys.len() < KEYS_AT_ONCE;
                if let Some(last) = keys.last() {
                    from = [last, &[0][..]].concat();
                }
                keys.into_iter().for_each(|key| effects.found(self.own_key(key)));
                if is_last {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Reads keys, many at a time.
    pub(super) async fn read_keys(
        &self,
        snapshot: &mut Snapshot,
        keys: &[Bytes],
        deadline: Instant,
    ) -> Result<Stored, CallError> {
        let mut stored = Stored::new();
        for some in keys.chunks(KEYS_AT_ONCE) {
            let wanted: Vec<Vec<u8>> = some.iter().map(|key| self.stored_key(key)).collect();
            let pairs = self.cluster.call("a get", snapshot.batch_get(wanted), deadline).await?;
            stored.extend(pairs.map(|pair| (self.own_key(pair.0), Bytes::from(pair.1))));
        }
        Ok(stored)
    }

    /// Puts the changes into the client's buffer; nothing is sent.
    async fn fill(
        &self,
        begun: &mut TikvTransaction,
        transaction: &Transaction,
        effects: &Effects,
    ) -> tikv_client::Result<()> {
        for (key, state) in &effects.finals {
            let key = self.stored_key(key);
            match state {
                Some(value) => begun.put(key, value.to_vec()).await?,
                None => begun.delete(key).await?,
            }
        }
        let only_read = held_keys(&transaction.conditions)
            .into_iter()
            .filter(|key| !effects.finals.contains_key(key))
            .map(|key| self.stored_key(&key));
        begun.lock_keys(only_read).await
    }

    /// Lets the client find out where the keys are now. It does so when a request that reads is refused, and not
    /// when one that writes is, since that isn't repeated.
    async fn find_again(&self, effects: &Effects, deadline: Instant) {
        let keys: Vec<Bytes> = effects.finals.keys().cloned().collect();
        let found = async {
            let mut snapshot = self.cluster.snapshot().await?;
            self.read_keys(&mut snapshot, &keys, deadline).await
        };
        if let Err(error) = found.await {
            tracing::debug!(%error, "the cluster's regions aren't found again yet");
        }
    }

    /// Takes back what a refused transaction may have locked, so that nobody waits for it. If that fails,
    /// the locks are removed by whoever meets them when their time is over.
    async fn roll_back(&self, mut begun: TikvTransaction, deadline: Instant) {
        if let Err(error) = self.cluster.call("a rollback", begun.rollback(), deadline).await {
            tracing::debug!(%error, "a refused transaction's locks stay until their time is over");
        }
    }
}

/// How a transaction is committed: in one phase if it can be. The client must not repeat its requests, see
/// [`judge`].
fn options() -> TransactionOptions {
    TransactionOptions::new_optimistic().no_resolve_regions().try_one_pc()
}
