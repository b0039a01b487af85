//! Locks that are taken before it is known what will be written.

use super::{
    Change, Engine, Key, KeyError, Lock, LockKind, LockedKey, Timestamp, Value, WriteKind,
    columns::{Record, is_rollback_of},
    key_error::ConflictReason,
};

/// A pessimistic transaction's wish for keys of one region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockKeys {
    /// The keys, and whether each must have no value.
    pub keys: Vec<(Key, bool)>,
    /// The transaction's primary key.
    pub primary: Key,
    /// The transaction's start.
    pub start_ts: Timestamp,
    /// For how long others leave the locks alone, from the start on, in milliseconds.
    pub ttl_ms: u64,
    /// Until when it has seen others' commits.
    pub for_update_ts: Timestamp,
    /// It won't commit below this; zero: it doesn't say.
    pub min_commit_ts: Timestamp,
    /// Keys without a value aren't locked.
    pub lock_only_if_exists: bool,
}

/// What was found at a locked key: its newest value.
pub type LockedValue = Option<Value>;

impl Engine {
    /// Takes the locks, and reads what is under them. All keys or none.
    ///
    /// # Errors
    ///
    /// One alone, for the first key that is locked by another transaction, at which something was committed after
    /// `for_update_ts`, or where the transaction was rolled back, or has prewritten already.
    pub fn lock_keys(
        &mut self,
        request: &LockKeys,
    ) -> Result<(Vec<LockedValue>, Vec<Change>), KeyError> {
        // It reads there.
        self.raise_max_ts(request.for_update_ts);
        let mut values = Vec::with_capacity(request.keys.len());
        let mut changes = Vec::new();
        for (key, must_be_absent) in &request.keys {
            let value = self.columns.committed_value(key, Timestamp::MAX).cloned();
            if self.may_lock(request, key, *must_be_absent)?
                && (value.is_some() || !request.lock_only_if_exists)
            {
                changes.push(Change::PutLock(key.clone(), self.pessimistic_lock(request, key)));
            }
            values.push(value);
        }
        Ok((values, changes))
    }

    /// Gives pessimistic locks back. Locks that were prewritten, that are another's or that were taken again
    /// later stay.
    pub fn unlock_keys(
        &self,
        keys: &[Key],
        start_ts: Timestamp,
        for_update_ts: Timestamp,
    ) -> Vec<Change> {
        keys.iter()
            .filter(|key| {
                self.own_lock(key, start_ts).is_some_and(|lock| {
                    lock.kind == LockKind::Pessimistic && lock.for_update_ts <= for_update_ts
                })
            })
            .map(|key| Change::DropLock(key.clone()))
            .collect()
    }

    /// Whether a lock is to be written: not if it is there already, as new as asked for.
    fn may_lock(
        &self,
        request: &LockKeys,
        key: &Key,
        must_be_absent: bool,
    ) -> Result<bool, KeyError> {
        let start_ts = request.start_ts;
        if let Some(held) = self.columns.lock(key) {
            if held.start_ts != start_ts {
                let held = LockedKey { key: key.clone(), lock: held.clone() };
                return Err(KeyError::Locked(Box::new(held)));
            }
            if held.kind != LockKind::Pessimistic {
                return Err(KeyError::LockTypeMismatch { start_ts, key: key.clone() });
            }
            self.check_absent(key, must_be_absent)?;
            return Ok(held.for_update_ts < request.for_update_ts || held.ttl_ms < request.ttl_ms);
        }
        if let Some((commit_ts, write)) = self.columns.writes(key, Timestamp::MAX).next() {
            if commit_ts > request.for_update_ts {
                return Err(KeyError::WriteConflict {
                    start_ts,
                    conflict_start_ts: write.start_ts,
                    conflict_commit_ts: commit_ts,
                    key: key.clone(),
                    reason: ConflictReason::PessimisticRetry,
                });
            }
            let ended = commit_ts >= start_ts && self.columns.record(key, start_ts) != Record::None;
            if ended || (commit_ts == start_ts && is_rollback_of(write, start_ts)) {
                return Err(KeyError::PessimisticLockRolledBack { start_ts, key: key.clone() });
            }
        }
        self.check_absent(key, must_be_absent)?;
        Ok(true)
    }

    fn check_absent(&self, key: &Key, must_be_absent: bool) -> Result<(), KeyError> {
        match self.columns.newest_data(key, Timestamp::MAX) {
            Some((_, write)) if must_be_absent && write.kind == WriteKind::Put => {
                Err(KeyError::AlreadyExists(key.clone()))
            }
            _ => Ok(()),
        }
    }

    fn pessimistic_lock(&self, request: &LockKeys, key: &Key) -> Lock {
        let held = self.own_lock(key, request.start_ts);
        Lock {
            kind: LockKind::Pessimistic,
            primary: request.primary.clone(),
            start_ts: request.start_ts,
            ttl_ms: request.ttl_ms.max(held.map_or(0, |held| held.ttl_ms)),
            for_update_ts: request
                .for_update_ts
                .max(held.map_or(Timestamp::ZERO, |held| held.for_update_ts)),
            // It can't commit before what it has read under the lock.
            min_commit_ts: request
                .min_commit_ts
                .max(request.for_update_ts.next())
                .max(held.map_or(Timestamp::ZERO, |held| held.min_commit_ts)),
            txn_size: 0,
            use_async_commit: false,
            secondaries: Vec::new(),
        }
    }
}
