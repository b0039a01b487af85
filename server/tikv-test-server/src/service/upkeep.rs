//! Commands by which others' transactions are ended, and old data goes.

use bytes::Bytes;

use super::{
    command::{Command, regional, within},
    convert::{key_error, lock_info},
};
use crate::{
    method::Method,
    mvcc::{Change, CheckStatus, Engine, LockedKey, Secondaries, Timestamp, TransactionStatus},
    proto::{
        errorpb,
        kvrpcpb::{self, Action},
    },
    regions::{Asked, Region},
};

impl Command for kvrpcpb::CheckTxnStatusRequest {
    regional!(CheckTxnStatusResponse, KvCheckTxnStatus);

    fn keys(&self) -> Vec<&Bytes> {
        vec![&self.primary_key]
    }

    fn run(&self, engine: &mut Engine, _: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let asked = engine.check_status(&CheckStatus {
            primary: self.primary_key.clone(),
            lock_ts: Timestamp(self.lock_ts),
            caller_start_ts: Timestamp(self.caller_start_ts),
            current_ts: Timestamp(self.current_ts),
            rollback_if_missing: self.rollback_if_not_exist,
            force_sync_commit: self.force_sync_commit,
            resolving_pessimistic_lock: self.resolving_pessimistic_lock,
            verify_is_primary: self.verify_is_primary,
        });
        let mut reply = kvrpcpb::CheckTxnStatusResponse::default();
        let (status, changes) = match asked {
            Ok(answer) => answer,
            Err(error) => {
                reply.error = Some(key_error(error));
                return (reply, Vec::new());
            }
        };
        let action = match status {
            TransactionStatus::Locked { lock, pushed } => {
                reply.lock_ttl = lock.ttl_ms;
                reply.lock_info =
                    Some(lock_info(LockedKey { key: self.primary_key.clone(), lock: *lock }));
                if pushed { Action::MinCommitTsPushed } else { Action::NoAction }
            }
            TransactionStatus::Committed(commit_ts) => {
                reply.commit_version = commit_ts.0;
                Action::NoAction
            }
            TransactionStatus::RolledBack => Action::NoAction,
            TransactionStatus::ExpiredRolledBack => Action::TtlExpireRollback,
            TransactionStatus::ExpiredPessimisticDropped => Action::TtlExpirePessimisticRollback,
            TransactionStatus::MissingRolledBack => Action::LockNotExistRollback,
            TransactionStatus::MissingLeft => Action::LockNotExistDoNothing,
        };
        reply.action = action as i32;
        (reply, changes)
    }
}

impl Command for kvrpcpb::TxnHeartBeatRequest {
    regional!(TxnHeartBeatResponse, KvTxnHeartBeat);

    fn keys(&self) -> Vec<&Bytes> {
        vec![&self.primary_lock]
    }

    fn run(&self, engine: &mut Engine, _: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let start_ts = Timestamp(self.start_version);
        match engine.heart_beat(&self.primary_lock, start_ts, self.advise_lock_ttl) {
            Ok((lock_ttl, changes)) => {
                (kvrpcpb::TxnHeartBeatResponse { lock_ttl, ..Default::default() }, changes)
            }
            Err(error) => {
                let reply = kvrpcpb::TxnHeartBeatResponse {
                    error: Some(key_error(error)),
                    ..Default::default()
                };
                (reply, Vec::new())
            }
        }
    }
}

impl Command for kvrpcpb::CheckSecondaryLocksRequest {
    regional!(CheckSecondaryLocksResponse, KvCheckSecondaryLocks);

    fn keys(&self) -> Vec<&Bytes> {
        self.keys.iter().collect()
    }

    fn run(&self, engine: &mut Engine, _: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let (found, changes) = engine.check_secondaries(&self.keys, Timestamp(self.start_version));
        let mut reply = kvrpcpb::CheckSecondaryLocksResponse::default();
        match found {
            Secondaries::Locked(locks) => reply.locks = locks.into_iter().map(lock_info).collect(),
            Secondaries::Committed(commit_ts) => reply.commit_ts = commit_ts.0,
            Secondaries::RolledBack => {}
        }
        (reply, changes)
    }
}

impl Command for kvrpcpb::ScanLockRequest {
    regional!(ScanLockResponse, KvScanLock);

    fn run(&self, engine: &mut Engine, region: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let (from, to) = within(region, &self.start_key, &self.end_key);
        let found = engine.scan_locks(&from, &to, Timestamp(self.max_version), self.limit as usize);
        let locks = found.into_iter().map(lock_info).collect();
        (kvrpcpb::ScanLockResponse { locks, ..Default::default() }, Vec::new())
    }
}

impl Command for kvrpcpb::ResolveLockRequest {
    regional!(ResolveLockResponse, KvResolveLock);

    fn keys(&self) -> Vec<&Bytes> {
        self.keys.iter().collect()
    }

    fn run(&self, engine: &mut Engine, region: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let (from, to) = within(region, &Bytes::new(), &Bytes::new());
        let transactions: Vec<_> = if self.txn_infos.is_empty() {
            vec![(Timestamp(self.start_version), Timestamp(self.commit_version))]
        } else {
            self.txn_infos
                .iter()
                .map(|info| (Timestamp(info.txn), Timestamp(info.status)))
                .collect()
        };
        match engine.resolve(&from, &to, &transactions, &self.keys) {
            Ok(changes) => (kvrpcpb::ResolveLockResponse::default(), changes),
            Err(error) => {
                let reply = kvrpcpb::ResolveLockResponse {
                    error: Some(key_error(error)),
                    ..Default::default()
                };
                (reply, Vec::new())
            }
        }
    }
}

impl Command for kvrpcpb::GcRequest {
    regional!(GcResponse, KvGc);

    fn run(&self, engine: &mut Engine, region: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let (from, to) = within(region, &Bytes::new(), &Bytes::new());
        (kvrpcpb::GcResponse::default(), engine.collect(&from, &to, Timestamp(self.safe_point)))
    }
}

impl Command for kvrpcpb::DeleteRangeRequest {
    regional!(DeleteRangeResponse, KvDeleteRange);

    fn run(&self, engine: &mut Engine, region: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let (from, to) = within(region, &self.start_key, &self.end_key);
        let changes = if self.notify_only { Vec::new() } else { engine.destroy_range(&from, &to) };
        (kvrpcpb::DeleteRangeResponse::default(), changes)
    }
}

impl Command for kvrpcpb::UnsafeDestroyRangeRequest {
    type Reply = kvrpcpb::UnsafeDestroyRangeResponse;

    const METHOD: Method = Method::UnsafeDestroyRange;

    // It goes to every store, whatever leads where; the stores share their data, so the first does all.
    fn asked(&self) -> Option<Asked> {
        None
    }

    fn refused(error: errorpb::Error) -> Self::Reply {
        kvrpcpb::UnsafeDestroyRangeResponse { region_error: Some(error), ..Default::default() }
    }

    fn run(&self, engine: &mut Engine, _: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let changes = engine.destroy_range(&self.start_key, &self.end_key);
        (kvrpcpb::UnsafeDestroyRangeResponse::default(), changes)
    }
}
