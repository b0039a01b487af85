//! The data: three ordered maps, and the changes that they know.

use std::{
    collections::BTreeMap,
    ops::{Bound, RangeBounds},
};

use serde::{Deserialize, Serialize};

use super::{Key, Lock, Timestamp, Value, Write, WriteKind};

/// One change of the columns. A command's changes are one frame of the log, so that all or none survive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Sets a key's lock.
    PutLock(Key, Lock),
    /// Takes a key's lock away.
    DropLock(Key),
    /// Sets what happened at a commit timestamp.
    PutWrite(Key, Timestamp, Write),
    /// Forgets what happened at a commit timestamp.
    DropWrite(Key, Timestamp),
    /// Sets the value that a transaction, named by its start, gives a key.
    PutValue(Key, Timestamp, Value),
    /// Forgets a value.
    DropValue(Key, Timestamp),
    /// Forgets everything in `[from, to)`; no upper border if `to` is empty.
    DropRange(Key, Key),
}

/// The columns `lock`, `write` and `default`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    locks: BTreeMap<Key, Lock>,
    writes: BTreeMap<Key, BTreeMap<Timestamp, Write>>,
    values: BTreeMap<Key, BTreeMap<Timestamp, Value>>,
}

/// What the columns say of a transaction at a key that it holds no lock of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// Committed, at this timestamp.
    Committed(Timestamp, WriteKind),
    /// Rolled back.
    RolledBack,
    /// Never seen, or forgotten.
    None,
}

impl Columns {
    /// Makes one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::PutLock(key, lock) => {
                self.locks.insert(key.clone(), lock.clone());
            }
            Change::DropLock(key) => {
                self.locks.remove(key);
            }
            Change::PutWrite(key, ts, write) => {
                self.writes.entry(key.clone()).or_default().insert(*ts, write.clone());
            }
            Change::DropWrite(key, ts) => drop_version(&mut self.writes, key, *ts),
            Change::PutValue(key, ts, value) => {
                self.values.entry(key.clone()).or_default().insert(*ts, value.clone());
            }
            Change::DropValue(key, ts) => drop_version(&mut self.values, key, *ts),
            Change::DropRange(from, to) => {
                let inside = |key: &Key| key >= from && (to.is_empty() || key < to);
                self.locks.retain(|key, _| !inside(key));
                self.writes.retain(|key, _| !inside(key));
                self.values.retain(|key, _| !inside(key));
            }
        }
    }

    /// A key's lock.
    pub fn lock(&self, key: &[u8]) -> Option<&Lock> {
        self.locks.get(key)
    }

    /// The locks of a range, in order.
    pub fn locks_in(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl DoubleEndedIterator<Item = (&Key, &Lock)> {
        self.locks.range::<[u8], _>(range(from, to))
    }

    /// What happened to a key at or before `until`, newest first.
    pub fn writes(
        &self,
        key: &[u8],
        until: Timestamp,
    ) -> impl Iterator<Item = (Timestamp, &Write)> {
        self.writes
            .get(key)
            .into_iter()
            .flat_map(move |of| of.range(..=until).rev())
            .map(|(ts, write)| (*ts, write))
    }

    /// What happened at exactly this timestamp.
    pub(crate) fn write_at(&self, key: &[u8], ts: Timestamp) -> Option<&Write> {
        self.writes.get(key)?.get(&ts)
    }

    /// The keys of a range at which anything happened, in order.
    pub fn written_in(&self, from: &[u8], to: &[u8]) -> impl DoubleEndedIterator<Item = &Key> {
        self.writes.range::<[u8], _>(range(from, to)).map(|(key, _)| key)
    }

    /// The value that a transaction gave a key.
    pub fn value(&self, key: &[u8], start_ts: Timestamp) -> Option<&Value> {
        self.values.get(key)?.get(&start_ts)
    }

    /// The record of the newest value or deletion at or before `until`, with its commit timestamp.
    pub(crate) fn newest_data(&self, key: &[u8], until: Timestamp) -> Option<(Timestamp, &Write)> {
        self.writes(key, until)
            .find(|(_, write)| matches!(write.kind, WriteKind::Put | WriteKind::Delete))
    }

    /// The value that is committed at or before `until`.
    pub(crate) fn committed_value(&self, key: &[u8], until: Timestamp) -> Option<&Value> {
        let (_, write) = self.newest_data(key, until)?;
        if write.kind == WriteKind::Put { self.value(key, write.start_ts) } else { None }
    }

    /// What became of a transaction at a key.
    pub(crate) fn record(&self, key: &[u8], start_ts: Timestamp) -> Record {
        // A commit is above its start. A rollback lies at it, alone or in another's record.
        for (commit_ts, write) in self.writes(key, Timestamp::MAX) {
            if commit_ts < start_ts {
                break;
            }
            if write.kind != WriteKind::Rollback && write.start_ts == start_ts {
                return Record::Committed(commit_ts, write.kind);
            }
            if commit_ts == start_ts && is_rollback_of(write, start_ts) {
                return Record::RolledBack;
            }
        }
        Record::None
    }

    /// Changes that make these columns out of empty ones.
    pub(crate) fn as_changes(&self) -> impl Iterator<Item = Change> {
        let locks = self.locks.iter().map(|(key, lock)| Change::PutLock(key.clone(), lock.clone()));
        let writes = self.writes.iter().flat_map(|(key, versions)| {
            versions.iter().map(|(ts, write)| Change::PutWrite(key.clone(), *ts, write.clone()))
        });
        let values = self.values.iter().flat_map(|(key, versions)| {
            versions.iter().map(|(ts, value)| Change::PutValue(key.clone(), *ts, value.clone()))
        });
        locks.chain(writes).chain(values)
    }

    /// How many locks there are.
    pub fn lock_count(&self) -> usize {
        self.locks.len()
    }
}

/// Whether a record at the timestamp `start_ts` says that the transaction of that name was rolled back.
pub(crate) fn is_rollback_of(write: &Write, start_ts: Timestamp) -> bool {
    write.rolled_back_too || (write.kind == WriteKind::Rollback && write.start_ts == start_ts)
}

/// `[from, to)`, open above if `to` is empty. An inverted range is an empty one.
fn range<'a>(from: &'a [u8], to: &'a [u8]) -> impl RangeBounds<[u8]> + 'a {
    if to.is_empty() {
        (Bound::Included(from), Bound::Unbounded)
    } else {
        // Such a range makes ordered maps panic.
        (Bound::Included(from), Bound::Excluded(to.max(from)))
    }
}

/// Takes one version away, and the key with its last.
fn drop_version<T>(column: &mut BTreeMap<Key, BTreeMap<Timestamp, T>>, key: &Key, ts: Timestamp) {
    if let Some(versions) = column.get_mut(key) {
        versions.remove(&ts);
        if versions.is_empty() {
            column.remove(key);
        }
    }
}
