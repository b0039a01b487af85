//! Commands by which a transaction writes.

use bytes::Bytes;

use super::{
    command::{Command, regional},
    convert::{key_error, key_errors},
};
use crate::{
    method::Method,
    mvcc::{
        Change, ConflictReason, Engine, KeyError, LockKeys, Mutation, MutationKind,
        PessimisticCheck, Prewrite, Timestamp,
    },
    proto::{
        errorpb,
        kvrpcpb::{self, Assertion, Op, prewrite_request::PessimisticAction},
    },
    regions::Region,
};

impl Command for kvrpcpb::PrewriteRequest {
    regional!(PrewriteResponse, KvPrewrite);

    fn keys(&self) -> Vec<&Bytes> {
        self.mutations.iter().map(|mutation| &mutation.key).collect()
    }

    fn entry_size(&self) -> Option<usize> {
        Some(self.mutations.iter().map(|mutation| mutation.key.len() + mutation.value.len()).sum())
    }

    fn run(&self, engine: &mut Engine, _: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let Some(prewrite) = prewrite(self) else {
            let abort = kvrpcpb::KeyError {
                abort: "no such operation in a prewrite".into(),
                ..Default::default()
            };
            return (
                kvrpcpb::PrewriteResponse { errors: vec![abort], ..Default::default() },
                Vec::new(),
            );
        };
        match engine.prewrite(&prewrite) {
            Ok((done, changes)) => {
                let reply = kvrpcpb::PrewriteResponse {
                    min_commit_ts: done.min_commit_ts.0,
                    one_pc_commit_ts: done.one_phase_commit_ts.0,
                    ..Default::default()
                };
                (reply, changes)
            }
            Err(errors) => {
                let reply =
                    kvrpcpb::PrewriteResponse { errors: key_errors(errors), ..Default::default() };
                (reply, Vec::new())
            }
        }
    }

    fn conflict(&self) -> Option<Self::Reply> {
        let key = self.mutations.first()?.key.clone();
        let error = made_up_conflict(key, self.start_version, ConflictReason::Optimistic);
        Some(kvrpcpb::PrewriteResponse { errors: vec![error], ..Default::default() })
    }
}

impl Command for kvrpcpb::PessimisticLockRequest {
    regional!(PessimisticLockResponse, KvPessimisticLock);

    fn keys(&self) -> Vec<&Bytes> {
        self.mutations.iter().map(|mutation| &mutation.key).collect()
    }

    fn run(&self, engine: &mut Engine, _: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let request = LockKeys {
            keys: self
                .mutations
                .iter()
                .map(|m| (m.key.clone(), m.assertion == Assertion::NotExist as i32))
                .collect(),
            primary: self.primary_lock.clone(),
            start_ts: Timestamp(self.start_version),
            ttl_ms: self.lock_ttl,
            for_update_ts: Timestamp(self.for_update_ts),
            min_commit_ts: Timestamp(self.min_commit_ts),
            lock_only_if_exists: self.lock_only_if_exists,
        };
        match engine.lock_keys(&request) {
            Ok((values, changes)) => {
                let mut reply = kvrpcpb::PessimisticLockResponse::default();
                if self.return_values || self.check_existence {
                    reply.not_founds = values.iter().map(Option::is_none).collect();
                }
                if self.return_values {
                    reply.values = values.into_iter().map(Option::unwrap_or_default).collect();
                }
                (reply, changes)
            }
            Err(error) => {
                let reply = kvrpcpb::PessimisticLockResponse {
                    errors: vec![key_error(error)],
                    ..Default::default()
                };
                (reply, Vec::new())
            }
        }
    }

    fn conflict(&self) -> Option<Self::Reply> {
        let key = self.mutations.first()?.key.clone();
        let error = made_up_conflict(key, self.start_version, ConflictReason::PessimisticRetry);
        Some(kvrpcpb::PessimisticLockResponse { errors: vec![error], ..Default::default() })
    }
}

impl Command for kvrpcpb::PessimisticRollbackRequest {
    regional!(PessimisticRollbackResponse, KvPessimisticRollback);

    fn keys(&self) -> Vec<&Bytes> {
        self.keys.iter().collect()
    }

    fn run(&self, engine: &mut Engine, _: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let changes = engine.unlock_keys(
            &self.keys,
            Timestamp(self.start_version),
            Timestamp(self.for_update_ts),
        );
        (kvrpcpb::PessimisticRollbackResponse::default(), changes)
    }
}

impl Command for kvrpcpb::CommitRequest {
    regional!(CommitResponse, KvCommit);

    fn keys(&self) -> Vec<&Bytes> {
        self.keys.iter().collect()
    }

    fn run(&self, engine: &mut Engine, _: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        match engine.commit(
            &self.keys,
            Timestamp(self.start_version),
            Timestamp(self.commit_version),
        ) {
            Ok(changes) => {
                let reply = kvrpcpb::CommitResponse {
                    commit_version: self.commit_version,
                    ..Default::default()
                };
                (reply, changes)
            }
            Err(error) => {
                let reply =
                    kvrpcpb::CommitResponse { error: Some(key_error(error)), ..Default::default() };
                (reply, Vec::new())
            }
        }
    }
}

impl Command for kvrpcpb::BatchRollbackRequest {
    regional!(BatchRollbackResponse, KvBatchRollback);

    fn keys(&self) -> Vec<&Bytes> {
        self.keys.iter().collect()
    }

    fn run(&self, engine: &mut Engine, _: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        match engine.rollback(&self.keys, Timestamp(self.start_version)) {
            Ok(changes) => (kvrpcpb::BatchRollbackResponse::default(), changes),
            Err(error) => {
                let reply = kvrpcpb::BatchRollbackResponse {
                    error: Some(key_error(error)),
                    ..Default::default()
                };
                (reply, Vec::new())
            }
        }
    }
}

impl Command for kvrpcpb::CleanupRequest {
    regional!(CleanupResponse, KvCleanup);

    fn keys(&self) -> Vec<&Bytes> {
        vec![&self.key]
    }

    fn run(&self, engine: &mut Engine, _: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        match engine.cleanup(&self.key, Timestamp(self.start_version), Timestamp(self.current_ts)) {
            Ok(changes) => (kvrpcpb::CleanupResponse::default(), changes),
            Err(KeyError::Committed(ts)) => (
                kvrpcpb::CleanupResponse { commit_version: ts.0, ..Default::default() },
                Vec::new(),
            ),
            Err(error) => {
                let reply = kvrpcpb::CleanupResponse {
                    error: Some(key_error(error)),
                    ..Default::default()
                };
                (reply, Vec::new())
            }
        }
    }
}

/// A prewrite as the engine takes it; `None` if a mutation is none that can be prewritten.
fn prewrite(request: &kvrpcpb::PrewriteRequest) -> Option<Prewrite> {
    let mutations = request
        .mutations
        .iter()
        .enumerate()
        .map(|(index, mutation)| {
            Some(Mutation {
                kind: match Op::try_from(mutation.op).ok()? {
                    Op::Put => MutationKind::Put,
                    Op::Del => MutationKind::Delete,
                    Op::Lock => MutationKind::Lock,
                    Op::Insert => MutationKind::Insert,
                    Op::CheckNotExists => MutationKind::CheckNotExists,
                    Op::Rollback | Op::PessimisticLock => return None,
                },
                key: mutation.key.clone(),
                value: mutation.value.clone(),
                check: match request.pessimistic_actions.get(index) {
                    Some(action) => match PessimisticAction::try_from(*action).ok()? {
                        PessimisticAction::SkipPessimisticCheck => PessimisticCheck::Skip,
                        PessimisticAction::DoPessimisticCheck => PessimisticCheck::Locked,
                        PessimisticAction::DoConstraintCheck => PessimisticCheck::Constraint,
                    },
                    None => PessimisticCheck::Skip,
                },
            })
        })
        .collect::<Option<_>>()?;
    Some(Prewrite {
        mutations,
        primary: request.primary_lock.clone(),
        start_ts: Timestamp(request.start_version),
        ttl_ms: request.lock_ttl,
        txn_size: request.txn_size,
        for_update_ts: Timestamp(request.for_update_ts),
        min_commit_ts: Timestamp(request.min_commit_ts),
        max_commit_ts: Timestamp(request.max_commit_ts),
        use_async_commit: request.use_async_commit,
        secondaries: request.secondaries.clone(),
        one_phase: request.try_one_pc,
    })
}

/// A conflict with a transaction that never was.
fn made_up_conflict(key: Bytes, start_version: u64, reason: ConflictReason) -> kvrpcpb::KeyError {
    let start_ts = Timestamp(start_version);
    key_error(KeyError::WriteConflict {
        start_ts,
        conflict_start_ts: start_ts.next(),
        conflict_commit_ts: start_ts.next().next(),
        key,
        reason,
    })
}
