//! Snapshot reads.

use super::{Engine, Key, KeyError, Lock, LockKind, LockedKey, Timestamp, Value};

/// Whose locks a read doesn't wait for, beside the rule of [`Engine::get`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Starts of transactions that are rolled back, or commit above the read: their locks count for nothing.
    pub resolved: Vec<Timestamp>,
    /// Starts of transactions that are committed below the read: their locks count as committed.
    pub committed: Vec<Timestamp>,
    /// Read committed instead of snapshot isolation: no lock counts.
    pub read_committed: bool,
}

/// A range, and how to read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// First key, inclusive.
    pub from: Key,
    /// End, exclusive; empty: no end.
    pub to: Key,
    /// At most so many entries, values and locks together.
    pub limit: usize,
    /// Highest keys first.
    pub reverse: bool,
    /// Without values.
    pub key_only: bool,
}

/// One entry of a scan or of a read of several keys.
pub type ReadResult = Result<(Key, Value), KeyError>;

impl Engine {
    /// The value of a key as of `ts`; [`Timestamp::MAX`] reads the newest.
    ///
    /// # Errors
    ///
    /// [`KeyError::Locked`] if a transaction that began at or before `ts` holds a lock and may yet commit at or
    /// before it.
    pub fn get(
        &mut self,
        key: &Key,
        ts: Timestamp,
        options: &ReadOptions,
    ) -> Result<Option<Value>, KeyError> {
        self.raise_max_ts(ts);
        self.read(key, ts, options)
    }

    /// The values of several keys; keys without a value are left out.
    pub fn batch_get(
        &mut self,
        keys: &[Key],
        ts: Timestamp,
        options: &ReadOptions,
    ) -> Vec<ReadResult> {
        self.raise_max_ts(ts);
        keys.iter()
            .filter_map(|key| match self.read(key, ts, options) {
                Ok(value) => value.map(|value| Ok((key.clone(), value))),
                Err(error) => Some(Err(error)),
            })
            .collect()
    }

    /// The values of a range, in order. A key whose lock is in the way is an error of its own in the list; what
    /// comes after it is read nevertheless.
    pub fn scan(
        &mut self,
        ts: Timestamp,
        scan: &ScanOptions,
        options: &ReadOptions,
    ) -> Vec<ReadResult> {
        self.raise_max_ts(ts);
        let mut found = Vec::new();
        // A key that is only locked has no record yet, and may have to be waited for all the same.
        let mut written =
            self.columns.written_in(&scan.from, &scan.to).cloned().peekable_both(scan.reverse);
        let mut locked = self
            .columns
            .locks_in(&scan.from, &scan.to)
            .map(|(key, _)| key.clone())
            .peekable_both(scan.reverse);
        while found.len() < scan.limit {
            let Some(key) = next_of_both(&mut written, &mut locked, scan.reverse) else { break };
            match self.read(&key, ts, options) {
                Ok(Some(value)) => {
                    found.push(Ok((key, if scan.key_only { Value::new() } else { value })))
                }
                Ok(None) => {}
                Err(error) => found.push(Err(error)),
            }
        }
        found
    }

    fn read(
        &self,
        key: &Key,
        ts: Timestamp,
        options: &ReadOptions,
    ) -> Result<Option<Value>, KeyError> {
        if let Some(lock) = self.columns.lock(key)
            && !options.read_committed
            && must_be_seen(key, lock, ts)
            && !options.resolved.contains(&lock.start_ts)
        {
            if !options.committed.contains(&lock.start_ts) {
                return Err(KeyError::Locked(Box::new(LockedKey {
                    key: key.clone(),
                    lock: lock.clone(),
                })));
            }
            return Ok(match lock.kind {
                LockKind::Put => self.columns.value(key, lock.start_ts).cloned(),
                _ => None,
            });
        }
        Ok(self.columns.committed_value(key, ts).cloned())
    }
}

/// Whether the transaction that holds the lock may commit a change at or before `ts`.
fn must_be_seen(key: &Key, lock: &Lock, ts: Timestamp) -> bool {
    if lock.start_ts > ts || matches!(lock.kind, LockKind::Lock | LockKind::Pessimistic) {
        return false;
    }
    if lock.min_commit_ts > ts {
        return false;
    }
    // The newest of a primary key that isn't committed is what was there before: the transaction's commit would
    // be decided right here, and isn't yet. Not so with async commit, where it may be decided elsewhere.
    !(ts == Timestamp::MAX && lock.primary == *key && !lock.use_async_commit)
}

/// A peekable iterator from either end.
trait PeekableBoth: DoubleEndedIterator + Sized {
    fn peekable_both<'a>(
        self,
        reverse: bool,
    ) -> std::iter::Peekable<Box<dyn Iterator<Item = Self::Item> + 'a>>
    where
        Self: 'a,
    {
        let boxed: Box<dyn Iterator<Item = Self::Item> + 'a> =
            if reverse { Box::new(self.rev()) } else { Box::new(self) };
        boxed.peekable()
    }
}

impl<I: DoubleEndedIterator> PeekableBoth for I {}

type Keys<'a> = std::iter::Peekable<Box<dyn Iterator<Item = Key> + 'a>>;

/// The next key of two ordered lists, once if it is in both.
fn next_of_both(a: &mut Keys<'_>, b: &mut Keys<'_>, reverse: bool) -> Option<Key> {
    let order = match (a.peek(), b.peek()) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => return a.next(),
        (None, Some(_)) => return b.next(),
        (None, None) => return None,
    };
    let order = if reverse { order.reverse() } else { order };
    match order {
        std::cmp::Ordering::Less => a.next(),
        std::cmp::Ordering::Greater => b.next(),
        std::cmp::Ordering::Equal => {
            b.next();
            a.next()
        }
    }
}
