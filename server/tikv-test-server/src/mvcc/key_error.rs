//! Why a command wasn't done.

use super::{Key, LockedKey, Timestamp};

/// Why a command didn't do what it was asked to at a key. Nothing was changed.
///
/// One type for all commands, as on the wire: which of them a command can return is said there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// Another transaction's lock is in the way.
    Locked(Box<LockedKey>),
    /// Another transaction was faster.
    WriteConflict {
        /// Who asked.
        start_ts: Timestamp,
        /// Who was faster.
        conflict_start_ts: Timestamp,
        /// When it committed.
        conflict_commit_ts: Timestamp,
        /// Where.
        key: Key,
        /// Which rule was broken.
        reason: ConflictReason,
    },
    /// There is a value where none may be.
    AlreadyExists(Key),
    /// Readers have pushed the transaction's commit above the timestamp that was asked for.
    CommitTsExpired {
        /// Who asked.
        start_ts: Timestamp,
        /// For when.
        attempted_commit_ts: Timestamp,
        /// Where.
        key: Key,
        /// From when on it would go.
        min_commit_ts: Timestamp,
    },
    /// The transaction has no lock here, and what became of it isn't known or isn't what was asked for.
    LockNotFound {
        /// The transaction.
        start_ts: Timestamp,
        /// Where.
        key: Key,
    },
    /// The transaction isn't known at its primary key.
    TransactionNotFound {
        /// The transaction.
        start_ts: Timestamp,
        /// The key asked about.
        primary: Key,
    },
    /// The key asked about isn't the primary of its lock.
    PrimaryMismatch(Box<LockedKey>),
    /// It is committed, at this timestamp, and can't be rolled back.
    Committed(Timestamp),
    /// The pessimistic lock, which must be there, isn't.
    PessimisticLockNotFound {
        /// The transaction.
        start_ts: Timestamp,
        /// Where.
        key: Key,
    },
    /// The transaction was rolled back before it asked for the lock.
    PessimisticLockRolledBack {
        /// The transaction.
        start_ts: Timestamp,
        /// Where.
        key: Key,
    },
    /// The transaction has prewritten the key already, so it can't lock it pessimistically.
    LockTypeMismatch {
        /// The transaction.
        start_ts: Timestamp,
        /// Where.
        key: Key,
    },
    /// A commit must be after its start.
    InvalidTimestamp {
        /// Start.
        start_ts: Timestamp,
        /// Commit.
        commit_ts: Timestamp,
    },
}

/// Which rule a [`KeyError::WriteConflict`] broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictReason {
    /// Something was committed after the optimistic transaction began.
    Optimistic,
    /// Something was committed after the pessimistic transaction last looked.
    PessimisticRetry,
    /// The transaction itself was rolled back.
    SelfRolledBack,
}
