//! What becomes of a transaction whose lock somebody met.

use super::{
    Change, Engine, Key, KeyError, Lock, LockKind, LockedKey, Timestamp, WriteKind,
    columns::Record,
    commit::{drop_own_lock, put_rollback},
};

/// A question for a transaction's fate, asked at its primary key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckStatus {
    /// The primary key.
    pub primary: Key,
    /// The transaction's start.
    pub lock_ts: Timestamp,
    /// The start of who asks; a lock that can be pushed won't commit at or before it. [`Timestamp::MAX`] or
    /// zero: nobody in particular.
    pub caller_start_ts: Timestamp,
    /// The time by which locks expire. [`Timestamp::MAX`]: all have.
    pub current_ts: Timestamp,
    /// A transaction that isn't known is rolled back, so that it can't come later.
    pub rollback_if_missing: bool,
    /// The transaction is known to have given async commit up.
    pub force_sync_commit: bool,
    /// It was a pessimistic lock that was met.
    pub resolving_pessimistic_lock: bool,
    /// A lock whose primary is another key isn't judged.
    pub verify_is_primary: bool,
}

/// A transaction's fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionStatus {
    /// It is under way.
    Locked {
        /// The primary's lock, as it is now.
        lock: Box<Lock>,
        /// Who asked needn't wait: it won't commit at or before their start.
        pushed: bool,
    },
    /// It is committed, at this timestamp.
    Committed(Timestamp),
    /// It was rolled back before.
    RolledBack,
    /// Its lock had expired, and it is rolled back now.
    ExpiredRolledBack,
    /// Its pessimistic lock had expired and is gone; it may lock again.
    ExpiredPessimisticDropped,
    /// It wasn't known, and is rolled back now.
    MissingRolledBack,
    /// It wasn't known, and nothing was done.
    MissingLeft,
}

/// What the secondary keys of an async commit say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secondaries {
    /// All asked about are locked.
    Locked(Vec<LockedKey>),
    /// One is committed, so the transaction is, at this timestamp.
    Committed(Timestamp),
    /// One was never locked, or is rolled back, so the transaction is.
    RolledBack,
}

impl Engine {
    /// What became of a transaction; ends it if its lock has expired.
    ///
    /// An async commit isn't ended here: it may be committed already, which only its secondary keys can tell.
    ///
    /// # Errors
    ///
    /// [`KeyError::TransactionNotFound`] if it isn't known and needn't be rolled back,
    /// [`KeyError::PrimaryMismatch`] if the key isn't its primary.
    pub fn check_status(
        &mut self,
        ask: &CheckStatus,
    ) -> Result<(TransactionStatus, Vec<Change>), KeyError> {
        for ts in [ask.lock_ts, ask.caller_start_ts, ask.current_ts] {
            self.raise_max_ts(ts);
        }
        match self.own_lock(&ask.primary, ask.lock_ts) {
            Some(lock) => self.check_lock(ask, lock),
            None => self.check_missing(ask),
        }
    }

    /// Lengthens the time for which others leave a transaction alone, and returns it, in milliseconds.
    ///
    /// # Errors
    ///
    /// [`KeyError::TransactionNotFound`] if it has no lock at the key.
    pub fn heart_beat(
        &self,
        primary: &Key,
        start_ts: Timestamp,
        ttl_ms: u64,
    ) -> Result<(u64, Vec<Change>), KeyError> {
        let Some(lock) = self.own_lock(primary, start_ts) else {
            return Err(KeyError::TransactionNotFound { start_ts, primary: primary.clone() });
        };
        if lock.ttl_ms >= ttl_ms {
            return Ok((lock.ttl_ms, Vec::new()));
        }
        let lock = Lock { ttl_ms, ..lock.clone() };
        Ok((ttl_ms, vec![Change::PutLock(primary.clone(), lock)]))
    }

    /// Whether an async commit is complete at these of its secondary keys. Where it isn't, it can't become so
    /// any more: the first key without its lock is rolled back, which decides the transaction.
    pub fn check_secondaries(
        &mut self,
        keys: &[Key],
        start_ts: Timestamp,
    ) -> (Secondaries, Vec<Change>) {
        self.raise_max_ts(start_ts);
        let mut locks = Vec::with_capacity(keys.len());
        for key in keys {
            let mut changes = Vec::new();
            match self.own_lock(key, start_ts) {
                Some(lock) if lock.kind != LockKind::Pessimistic => {
                    locks.push(LockedKey { key: key.clone(), lock: lock.clone() });
                    continue;
                }
                Some(lock) => drop_own_lock(key, lock, &mut changes),
                None => match self.columns.record(key, start_ts) {
                    Record::Committed(commit_ts, _) => {
                        return (Secondaries::Committed(commit_ts), Vec::new());
                    }
                    Record::RolledBack => return (Secondaries::RolledBack, Vec::new()),
                    Record::None => {}
                },
            }
            changes.push(put_rollback(&self.columns, key, start_ts));
            return (Secondaries::RolledBack, changes);
        }
        (Secondaries::Locked(locks), Vec::new())
    }

    fn check_lock(
        &self,
        ask: &CheckStatus,
        lock: &Lock,
    ) -> Result<(TransactionStatus, Vec<Change>), KeyError> {
        if ask.verify_is_primary && lock.primary != ask.primary {
            let found = LockedKey { key: ask.primary.clone(), lock: lock.clone() };
            return Err(KeyError::PrimaryMismatch(Box::new(found)));
        }
        if lock.use_async_commit && !ask.force_sync_commit {
            let status = TransactionStatus::Locked { lock: Box::new(lock.clone()), pushed: false };
            return Ok((status, Vec::new()));
        }
        let mut changes = Vec::new();
        if lock.is_expired(ask.current_ts) {
            drop_own_lock(&ask.primary, lock, &mut changes);
            if ask.resolving_pessimistic_lock && lock.kind == LockKind::Pessimistic {
                return Ok((TransactionStatus::ExpiredPessimisticDropped, changes));
            }
            changes.push(put_rollback(&self.columns, &ask.primary, ask.lock_ts));
            return Ok((TransactionStatus::ExpiredRolledBack, changes));
        }
        let mut lock = lock.clone();
        // Only who has said when it commits at the earliest can be made to commit later: it asks again.
        let mut pushed = ask.caller_start_ts == Timestamp::MAX;
        if !lock.min_commit_ts.is_zero() && !pushed {
            if ask.caller_start_ts >= lock.min_commit_ts {
                lock.min_commit_ts = ask.caller_start_ts.next();
                if ask.current_ts != Timestamp::MAX {
                    lock.min_commit_ts = lock.min_commit_ts.max(ask.current_ts);
                }
                changes.push(Change::PutLock(ask.primary.clone(), lock.clone()));
            }
            pushed = true;
        }
        Ok((TransactionStatus::Locked { lock: Box::new(lock), pushed }, changes))
    }

    fn check_missing(
        &self,
        ask: &CheckStatus,
    ) -> Result<(TransactionStatus, Vec<Change>), KeyError> {
        match self.columns.record(&ask.primary, ask.lock_ts) {
            Record::Committed(commit_ts, kind) => {
                debug_assert_ne!(kind, WriteKind::Rollback, "a rollback is no commit");
                Ok((TransactionStatus::Committed(commit_ts), Vec::new()))
            }
            Record::RolledBack => Ok((TransactionStatus::RolledBack, Vec::new())),
            Record::None if !ask.rollback_if_missing => Err(KeyError::TransactionNotFound {
                start_ts: ask.lock_ts,
                primary: ask.primary.clone(),
            }),
            Record::None if ask.resolving_pessimistic_lock => {
                Ok((TransactionStatus::MissingLeft, Vec::new()))
            }
            Record::None => {
                let changes = vec![put_rollback(&self.columns, &ask.primary, ask.lock_ts)];
                Ok((TransactionStatus::MissingRolledBack, changes))
            }
        }
    }
}
