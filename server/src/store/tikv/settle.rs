//! What became of a commit that wasn't answered.

use bytes::Bytes;
use tikv_client::{Timestamp, TransactionOptions};
use tokio::time::Instant;

use super::{
    TikvStore,
    cluster::CallError,
    effects::{Finals, ReadBack, condition_keys, read_back},
    error::{Verdict, judge},
};
use crate::store::Condition;

/// What became of it.
pub(super) enum Settled {
    /// It is committed.
    Committed,
    /// It isn't and never will be.
    NotCommitted,
    /// It can't be told.
    Unclear,
}

impl TikvStore {
    /// Makes sure that the transaction can't be committed any more, if it isn't; then finds out if it is.
    pub(super) async fn settle(
        &self,
        finals: &Finals,
        conditions: &[Condition],
        start: Timestamp,
        deadline: Instant,
    ) -> Settled {
        // Without this key's part nothing of the transaction can be committed.
        let Some(key) = finals.keys().next() else { return Settled::NotCommitted };
        for attempt in 1.. {
            match self.fence(key, deadline).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::debug!(%error, attempt, "a commit's outcome isn't settled yet");
                    if !self.pause(attempt, deadline).await {
                        return Settled::Unclear;
                    }
                }
            }
        }
        let mut keys = condition_keys(conditions);
        keys.extend(finals.keys().cloned());
        let keys: Vec<Bytes> = keys.into_iter().collect();
        for attempt in 1.. {
            let read = async {
                // Locks of which the first was never there are judged by this alone: readers find nothing to
                // judge them by, and fail. After the fence it can only find what is decided.
                for key in finals.keys() {
                    self.cluster.clean(self.stored_range(key), &start, deadline).await?;
                }
                let mut snapshot = self.cluster.snapshot().await?;
                self.read_keys(&mut snapshot, &keys, deadline).await
            };
            match read.await {
                Ok(stored) => {
                    return match read_back(finals, conditions, &stored) {
                        ReadBack::Committed => Settled::Committed,
                        ReadBack::NotCommitted => Settled::NotCommitted,
                        ReadBack::Unclear => Settled::Unclear,
                    };
                }
                Err(error) => {
                    tracing::debug!(%error, attempt, "a commit's outcome isn't read back yet");
                    if !self.pause(attempt, deadline).await {
                        return Settled::Unclear;
                    }
                }
            }
        }
        unreachable!("the tries have no end but those above")
    }

    /// Commits a transaction that does nothing but leave a record at `key`: a lock. An older transaction's request
    /// for this key that comes later is refused, as for any newer record. One that has come already and isn't
    /// decided is decided first, by the client, since its lock is in the way.
    ///
    /// Any try of it that succeeds will do, so nothing needs to be known of those that fail.
    async fn fence(&self, key: &Bytes, deadline: Instant) -> Result<(), CallError> {
        let (mut begun, _) = self.cluster.begin(TransactionOptions::new_optimistic()).await?;
        begun.lock_keys([self.stored_key(key)]).await?;
        match self.cluster.call("a fence", begun.commit(), deadline).await {
            Ok(_) => Ok(()),
            Err(error) => {
                if let CallError::Client(of_client) = &error
                    && judge(of_client) != Verdict::Unclear
                {
                    let roll_back = self.cluster.call("a rollback", begun.rollback(), deadline);
                    // Best effort, as for any other.
                    drop(roll_back.await);
                }
                Err(error)
            }
        }
    }
}
