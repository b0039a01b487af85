//! Between the engine's types and the protocol's.

use crate::{
    mvcc::{
        ConflictReason, KeyError, Lock, LockKind, LockedKey, ReadOptions, ReadResult, Timestamp,
    },
    proto::kvrpcpb::{self, write_conflict::Reason},
};

/// What the context of a read says of locks.
pub(crate) fn read_options(context: Option<&kvrpcpb::Context>) -> ReadOptions {
    let Some(context) = context else { return ReadOptions::default() };
    ReadOptions {
        resolved: context.resolved_locks.iter().copied().map(Timestamp).collect(),
        committed: context.committed_locks.iter().copied().map(Timestamp).collect(),
        read_committed: context.isolation_level == kvrpcpb::IsolationLevel::Rc as i32,
    }
}

pub(crate) fn pair(found: ReadResult) -> kvrpcpb::KvPair {
    match found {
        Ok((key, value)) => kvrpcpb::KvPair { error: None, key, value },
        Err(error) => {
            let error = key_error(error);
            let key = error.locked.as_ref().map(|lock| lock.key.clone()).unwrap_or_default();
            kvrpcpb::KvPair { error: Some(error), key, ..Default::default() }
        }
    }
}

pub(crate) fn lock_info(at: LockedKey) -> kvrpcpb::LockInfo {
    let LockedKey { key, lock } = at;
    let Lock { kind, primary, start_ts, ttl_ms, for_update_ts, min_commit_ts, .. } = lock;
    kvrpcpb::LockInfo {
        primary_lock: primary,
        lock_version: start_ts.0,
        key,
        lock_ttl: ttl_ms,
        txn_size: lock.txn_size,
        lock_type: match kind {
            LockKind::Put => kvrpcpb::Op::Put,
            LockKind::Delete => kvrpcpb::Op::Del,
            LockKind::Lock => kvrpcpb::Op::Lock,
            LockKind::Pessimistic => kvrpcpb::Op::PessimisticLock,
        } as i32,
        lock_for_update_ts: for_update_ts.0,
        use_async_commit: lock.use_async_commit,
        min_commit_ts: min_commit_ts.0,
        secondaries: lock.secondaries,
        ..Default::default()
    }
}

pub(crate) fn key_error(error: KeyError) -> kvrpcpb::KeyError {
    let none = kvrpcpb::KeyError::default();
    match error {
        KeyError::Locked(at) => kvrpcpb::KeyError { locked: Some(lock_info(*at)), ..none },
        KeyError::WriteConflict {
            start_ts,
            conflict_start_ts,
            conflict_commit_ts,
            key,
            reason,
        } => kvrpcpb::KeyError {
            conflict: Some(kvrpcpb::WriteConflict {
                start_ts: start_ts.0,
                conflict_ts: conflict_start_ts.0,
                conflict_commit_ts: conflict_commit_ts.0,
                key,
                reason: match reason {
                    ConflictReason::Optimistic => Reason::Optimistic,
                    ConflictReason::PessimisticRetry => Reason::PessimisticRetry,
                    ConflictReason::SelfRolledBack => Reason::SelfRolledBack,
                } as i32,
                ..Default::default()
            }),
            ..none
        },
        KeyError::AlreadyExists(key) => {
            kvrpcpb::KeyError { already_exist: Some(kvrpcpb::AlreadyExist { key }), ..none }
        }
        KeyError::CommitTsExpired { start_ts, attempted_commit_ts, key, min_commit_ts } => {
            kvrpcpb::KeyError {
                commit_ts_expired: Some(kvrpcpb::CommitTsExpired {
                    start_ts: start_ts.0,
                    attempted_commit_ts: attempted_commit_ts.0,
                    key,
                    min_commit_ts: min_commit_ts.0,
                }),
                ..none
            }
        }
        KeyError::TransactionNotFound { start_ts, primary } => kvrpcpb::KeyError {
            txn_not_found: Some(kvrpcpb::TxnNotFound {
                start_ts: start_ts.0,
                primary_key: primary,
            }),
            ..none
        },
        KeyError::PrimaryMismatch(at) => kvrpcpb::KeyError {
            primary_mismatch: Some(kvrpcpb::PrimaryMismatch { lock_info: Some(lock_info(*at)) }),
            ..none
        },
        // A transaction that has lost its locks may begin anew; this one can't commit.
        error @ KeyError::LockNotFound { .. } => {
            kvrpcpb::KeyError { retryable: format!("{error:?}"), ..none }
        }
        error => kvrpcpb::KeyError { abort: format!("{error:?}"), ..none },
    }
}

/// The client's list of keys, each an error of a lock, or the one error that ends the command.
pub(crate) fn key_errors(errors: Vec<KeyError>) -> Vec<kvrpcpb::KeyError> {
    errors.into_iter().map(key_error).collect()
}
