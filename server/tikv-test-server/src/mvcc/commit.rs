//! The second phase: locks become records, or go.

use super::{
    Change, Columns, Engine, Key, KeyError, Lock, LockKind, LockedKey, Timestamp, Write, WriteKind,
    columns::{Record, is_rollback_of},
    prewrite::committed_kind,
};

impl Engine {
    /// Commits a transaction at keys of one region. What is committed already stays so.
    ///
    /// # Errors
    ///
    /// [`KeyError::LockNotFound`] if the transaction isn't prewritten at a key, or was rolled back there;
    /// [`KeyError::CommitTsExpired`] if readers have pushed it above `commit_ts`;
    /// [`KeyError::InvalidTimestamp`] if it would commit before it began.
    pub fn commit(
        &self,
        keys: &[Key],
        start_ts: Timestamp,
        commit_ts: Timestamp,
    ) -> Result<Vec<Change>, KeyError> {
        if commit_ts <= start_ts {
            return Err(KeyError::InvalidTimestamp { start_ts, commit_ts });
        }
        let mut changes = Vec::new();
        for key in keys {
            self.commit_key(key, start_ts, commit_ts, &mut changes)?;
        }
        Ok(changes)
    }

    /// Rolls a transaction back at keys of one region, also where it never came to.
    ///
    /// # Errors
    ///
    /// [`KeyError::Committed`] if it is committed at a key.
    pub fn rollback(&self, keys: &[Key], start_ts: Timestamp) -> Result<Vec<Change>, KeyError> {
        let mut changes = Vec::new();
        for key in keys {
            self.rollback_key(key, start_ts, &mut changes)?;
        }
        Ok(changes)
    }

    /// Rolls a transaction back at one key, if its lock there has expired at `now`; whatever its lock says, if
    /// `now` is zero.
    ///
    /// # Errors
    ///
    /// [`KeyError::Locked`] if the lock hasn't expired, [`KeyError::Committed`] if it is committed.
    pub fn cleanup(
        &self,
        key: &Key,
        start_ts: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Change>, KeyError> {
        if let Some(lock) = self.own_lock(key, start_ts)
            && !now.is_zero()
            && !lock.is_expired(now)
        {
            return Err(KeyError::Locked(Box::new(LockedKey {
                key: key.clone(),
                lock: lock.clone(),
            })));
        }
        self.rollback(std::slice::from_ref(key), start_ts)
    }

    /// The lock of this very transaction.
    pub(crate) fn own_lock(&self, key: &Key, start_ts: Timestamp) -> Option<&Lock> {
        self.columns.lock(key).filter(|lock| lock.start_ts == start_ts)
    }

    pub(crate) fn commit_key(
        &self,
        key: &Key,
        start_ts: Timestamp,
        commit_ts: Timestamp,
        changes: &mut Vec<Change>,
    ) -> Result<(), KeyError> {
        let Some(lock) = self.own_lock(key, start_ts) else {
            return match self.columns.record(key, start_ts) {
                Record::Committed(..) => Ok(()),
                Record::RolledBack | Record::None => {
                    Err(KeyError::LockNotFound { start_ts, key: key.clone() })
                }
            };
        };
        if commit_ts < lock.min_commit_ts {
            return Err(KeyError::CommitTsExpired {
                start_ts,
                attempted_commit_ts: commit_ts,
                key: key.clone(),
                min_commit_ts: lock.min_commit_ts,
            });
        }
        let write = Write::new(committed_kind(lock.kind), start_ts);
        changes.push(put_write(&self.columns, key, commit_ts, write));
        changes.push(Change::DropLock(key.clone()));
        Ok(())
    }

    pub(crate) fn rollback_key(
        &self,
        key: &Key,
        start_ts: Timestamp,
        changes: &mut Vec<Change>,
    ) -> Result<(), KeyError> {
        if let Some(lock) = self.own_lock(key, start_ts) {
            drop_own_lock(key, lock, changes);
            changes.push(put_rollback(&self.columns, key, start_ts));
            return Ok(());
        }
        match self.columns.record(key, start_ts) {
            Record::Committed(commit_ts, _) => Err(KeyError::Committed(commit_ts)),
            Record::RolledBack => Ok(()),
            // The prewrite may still be under way, and must find the record when it comes.
            Record::None => {
                changes.push(put_rollback(&self.columns, key, start_ts));
                Ok(())
            }
        }
    }
}

/// Takes a transaction's lock away, with the value that it prewrote.
pub(crate) fn drop_own_lock(key: &Key, lock: &Lock, changes: &mut Vec<Change>) {
    if lock.kind == LockKind::Put {
        changes.push(Change::DropValue(key.clone(), lock.start_ts));
    }
    changes.push(Change::DropLock(key.clone()));
}

/// Writes a commit's record, keeping a rollback that has the same place.
///
/// One transaction can commit at the very timestamp at which another began: async commit and one phase make their
/// timestamps themselves.
pub(crate) fn put_write(
    columns: &Columns,
    key: &Key,
    commit_ts: Timestamp,
    mut write: Write,
) -> Change {
    if let Some(before) = columns.write_at(key, commit_ts) {
        write.rolled_back_too = is_rollback_of(before, commit_ts);
    }
    Change::PutWrite(key.clone(), commit_ts, write)
}

/// Writes a rollback's record, keeping a commit that has the same place.
pub(crate) fn put_rollback(columns: &Columns, key: &Key, start_ts: Timestamp) -> Change {
    let write = match columns.write_at(key, start_ts) {
        Some(before) if before.kind != WriteKind::Rollback => {
            Write { rolled_back_too: true, ..before.clone() }
        }
        _ => Write::new(WriteKind::Rollback, start_ts),
    };
    Change::PutWrite(key.clone(), start_ts, write)
}
