//! The first phase: what a transaction writes, under locks. With async commit and in one phase also the last.

use super::{
    Change, Columns, Engine, Key, KeyError, Lock, LockKind, LockedKey, Timestamp, Value, Write,
    WriteKind,
    columns::{Record, is_rollback_of},
    commit::put_write,
    key_error::ConflictReason,
};

/// What a transaction does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutationKind {
    /// Sets a value.
    Put,
    /// Ends the value.
    Delete,
    /// Only holds the key.
    Lock,
    /// Sets a value; there must be none before.
    Insert,
    /// Writes nothing, not even a lock; there must be no value.
    CheckNotExists,
}

/// What holds at a key that a pessimistic transaction prewrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PessimisticCheck {
    /// Nothing: it wasn't locked and needn't be.
    #[default]
    Skip,
    /// It was locked, and still is.
    Locked,
    /// It wasn't locked; check it as an optimistic transaction would, against its start.
    Constraint,
}

/// One key of a prewrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// What.
    pub kind: MutationKind,
    /// Where.
    pub key: Key,
    /// The value, for [`MutationKind::Put`] and [`MutationKind::Insert`].
    pub value: Value,
    /// In a pessimistic transaction only.
    pub check: PessimisticCheck,
}

/// A prewrite of keys of one region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prewrite {
    /// The keys, each at most once.
    pub mutations: Vec<Mutation>,
    /// The transaction's primary key.
    pub primary: Key,
    /// The transaction's start.
    pub start_ts: Timestamp,
    /// For how long others leave the locks alone, from the start on, in milliseconds.
    pub ttl_ms: u64,
    /// How many keys the transaction has in this region, as the client says.
    pub txn_size: u64,
    /// Not zero: the transaction is pessimistic.
    pub for_update_ts: Timestamp,
    /// The transaction won't commit below this; zero: it doesn't say.
    pub min_commit_ts: Timestamp,
    /// The transaction must not commit above this by async commit or in one phase; zero: no limit.
    pub max_commit_ts: Timestamp,
    /// The transaction counts as committed once all its locks are there.
    pub use_async_commit: bool,
    /// For async commit, if the primary key is among the mutations: all other keys of the transaction.
    pub secondaries: Vec<Key>,
    /// These are all keys of the transaction: commit at once.
    pub one_phase: bool,
}

/// How a prewrite went that went well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prewritten {
    /// With async commit: the transaction commits at or above this. Zero: it can't commit that way any more.
    pub min_commit_ts: Timestamp,
    /// Committed in one phase, at this timestamp; zero: only prewritten.
    pub one_phase_commit_ts: Timestamp,
}

/// What becomes of one mutation.
enum Step {
    /// A lock to write, and whether a pessimistic one is replaced.
    Lock(Box<Lock>, Option<Value>),
    /// It is prewritten already; its lock says so.
    Already(Timestamp),
    /// A check alone, which passed.
    Nothing,
}

impl Engine {
    /// Prewrites. Once more with the same request is the same as once.
    ///
    /// # Errors
    ///
    /// One per key that is locked by another transaction; or one alone, for the first key at which something was
    /// committed since, a value is where none may be, a pessimistic lock is missing, or the transaction was
    /// rolled back already, however late this prewrite comes.
    pub fn prewrite(
        &mut self,
        request: &Prewrite,
    ) -> Result<(Prewritten, Vec<Change>), Vec<KeyError>> {
        let mut locked = Vec::new();
        let mut steps = Vec::with_capacity(request.mutations.len());
        for mutation in &request.mutations {
            match check(&self.columns, request, mutation) {
                Ok(step) => steps.push((mutation, step)),
                Err(error @ KeyError::Locked(_)) => locked.push(error),
                // A client whose reply was lost asks again for what is done: in one phase there is no lock left
                // that says so, but a record.
                Err(
                    error @ (KeyError::WriteConflict { .. }
                    | KeyError::PessimisticLockNotFound { .. }),
                ) => match self.columns.record(&mutation.key, request.start_ts) {
                    Record::Committed(commit_ts, _) => {
                        return Ok((done_before(request, commit_ts), Vec::new()));
                    }
                    _ => return Err(vec![error]),
                },
                Err(error) => return Err(vec![error]),
            }
        }
        if !locked.is_empty() {
            return Err(locked);
        }

        // Above every read so far: whoever has read didn't see this transaction, and mustn't have needed to.
        let floor = self.max_ts.max(request.start_ts).max(request.for_update_ts).next();
        let mut min_commit_ts = floor.max(request.min_commit_ts);
        // What an earlier try has locked keeps its own least commit, which was answered then: who meets the locks
        // may have committed them at it since.
        let (mut before, mut fell_back, mut any_new) = (Timestamp::ZERO, false, false);
        for (_, step) in &steps {
            match step {
                Step::Lock(lock, _) => {
                    any_new = true;
                    min_commit_ts = min_commit_ts.max(lock.min_commit_ts);
                }
                Step::Already(ts) => {
                    before = before.max(*ts);
                    fell_back |= ts.is_zero();
                }
                Step::Nothing => {}
            }
        }
        let any_before = fell_back || !before.is_zero();
        let too_late =
            any_new && !request.max_commit_ts.is_zero() && min_commit_ts > request.max_commit_ts;
        // Locks from an earlier try, without one phase, stay what they are.
        let one_phase = request.one_phase && !too_late && !any_before;
        let use_async_commit = request.use_async_commit && !too_late && !fell_back;

        let mut changes = Vec::new();
        for (mutation, step) in steps {
            let Step::Lock(mut lock, value) = step else { continue };
            if let Some(value) = value {
                changes.push(Change::PutValue(mutation.key.clone(), request.start_ts, value));
            }
            if one_phase {
                if self.columns.lock(&mutation.key).is_some() {
                    changes.push(Change::DropLock(mutation.key.clone()));
                }
                let write = Write::new(committed_kind(lock.kind), request.start_ts);
                changes.push(put_write(&self.columns, &mutation.key, min_commit_ts, write));
                continue;
            }
            if use_async_commit {
                lock.use_async_commit = true;
                lock.min_commit_ts = min_commit_ts;
                if mutation.key == request.primary {
                    lock.secondaries = request.secondaries.clone();
                }
            }
            changes.push(Change::PutLock(mutation.key.clone(), *lock));
        }
        let prewritten = Prewritten {
            min_commit_ts: match (use_async_commit && !one_phase, any_new || !any_before) {
                (false, _) => Timestamp::ZERO,
                (true, true) => min_commit_ts.max(before),
                (true, false) => before,
            },
            one_phase_commit_ts: if one_phase { min_commit_ts } else { Timestamp::ZERO },
        };
        Ok((prewritten, changes))
    }
}

/// The record that a lock of this kind becomes. A pessimistic lock that is committed held its key, no more.
pub(crate) fn committed_kind(kind: LockKind) -> WriteKind {
    match kind {
        LockKind::Put => WriteKind::Put,
        LockKind::Delete => WriteKind::Delete,
        LockKind::Lock | LockKind::Pessimistic => WriteKind::Lock,
    }
}

/// The answer to a transaction that is committed already.
fn done_before(request: &Prewrite, commit_ts: Timestamp) -> Prewritten {
    if request.one_phase {
        Prewritten { min_commit_ts: Timestamp::ZERO, one_phase_commit_ts: commit_ts }
    } else {
        Prewritten { min_commit_ts: commit_ts, one_phase_commit_ts: Timestamp::ZERO }
    }
}

/// Checks one mutation against lock and records.
fn check(columns: &Columns, request: &Prewrite, mutation: &Mutation) -> Result<Step, KeyError> {
    let pessimistic = !request.for_update_ts.is_zero();
    let mut lock = new_lock(request, mutation);
    match columns.lock(&mutation.key) {
        Some(held) if held.start_ts != request.start_ts => {
            if pessimistic && mutation.check == PessimisticCheck::Locked {
                return Err(KeyError::PessimisticLockNotFound {
                    start_ts: request.start_ts,
                    key: mutation.key.clone(),
                });
            }
            let held = LockedKey { key: mutation.key.clone(), lock: held.clone() };
            return Err(KeyError::Locked(Box::new(held)));
        }
        Some(held) if held.kind != LockKind::Pessimistic => {
            return Ok(Step::Already(held.min_commit_ts));
        }
        Some(held) => {
            // The lock was taken after the newest record was looked at, so no record can have come since.
            lock.ttl_ms = lock.ttl_ms.max(held.ttl_ms);
            lock.for_update_ts = lock.for_update_ts.max(held.for_update_ts);
            lock.min_commit_ts = lock.min_commit_ts.max(held.min_commit_ts);
        }
        None => check_records(columns, request, mutation, pessimistic)?,
    }
    if mutation.kind == MutationKind::CheckNotExists {
        return Ok(Step::Nothing);
    }
    let value = matches!(mutation.kind, MutationKind::Put | MutationKind::Insert)
        .then(|| mutation.value.clone());
    Ok(Step::Lock(Box::new(lock), value))
}

/// Checks a mutation at a key without a lock.
fn check_records(
    columns: &Columns,
    request: &Prewrite,
    mutation: &Mutation,
    pessimistic: bool,
) -> Result<(), KeyError> {
    let start_ts = request.start_ts;
    let newest = columns.writes(&mutation.key, Timestamp::MAX).next();
    if let Some((commit_ts, write)) = newest {
        let conflict = |reason| KeyError::WriteConflict {
            start_ts,
            conflict_start_ts: write.start_ts,
            conflict_commit_ts: commit_ts,
            key: mutation.key.clone(),
            reason,
        };
        if pessimistic {
            match mutation.check {
                // The lock may have got lost with a leader; if nothing has happened since, it is as if it were
                // still there.
                PessimisticCheck::Locked if commit_ts >= start_ts => {
                    return Err(KeyError::PessimisticLockNotFound {
                        start_ts,
                        key: mutation.key.clone(),
                    });
                }
                PessimisticCheck::Constraint if commit_ts > start_ts => {
                    return Err(conflict(ConflictReason::Optimistic));
                }
                _ => {}
            }
        } else if commit_ts > start_ts {
            return Err(conflict(ConflictReason::Optimistic));
        }
        let rolled_back = match mutation.check {
            // Unless told to look, it hasn't looked at the newest record above.
            PessimisticCheck::Skip => columns.record(&mutation.key, start_ts) == Record::RolledBack,
            _ => commit_ts == start_ts && is_rollback_of(write, start_ts),
        };
        if rolled_back {
            return Err(conflict(ConflictReason::SelfRolledBack));
        }
        if pessimistic && matches!(columns.record(&mutation.key, start_ts), Record::Committed(..)) {
            return Err(KeyError::PessimisticLockNotFound { start_ts, key: mutation.key.clone() });
        }
    }
    if matches!(mutation.kind, MutationKind::Insert | MutationKind::CheckNotExists)
        && let Some((_, write)) = columns.newest_data(&mutation.key, Timestamp::MAX)
        && write.kind == WriteKind::Put
    {
        return Err(KeyError::AlreadyExists(mutation.key.clone()));
    }
    Ok(())
}

/// The lock of a mutation, before it is known how the transaction commits.
fn new_lock(request: &Prewrite, mutation: &Mutation) -> Lock {
    Lock {
        kind: match mutation.kind {
            MutationKind::Put | MutationKind::Insert => LockKind::Put,
            MutationKind::Delete => LockKind::Delete,
            MutationKind::Lock | MutationKind::CheckNotExists => LockKind::Lock,
        },
        primary: request.primary.clone(),
        start_ts: request.start_ts,
        ttl_ms: request.ttl_ms,
        for_update_ts: request.for_update_ts,
        min_commit_ts: request.min_commit_ts,
        txn_size: request.txn_size,
        use_async_commit: false,
        secondaries: Vec::new(),
    }
}
