//! Locks of transactions whose fate is known.

use super::{Change, Engine, Key, KeyError, LockedKey, Timestamp};

impl Engine {
    /// The locks of a range that began at or before `max_ts`, in order, at most `limit`; 0: no limit.
    pub fn scan_locks(
        &mut self,
        from: &Key,
        to: &Key,
        max_ts: Timestamp,
        limit: usize,
    ) -> Vec<LockedKey> {
        self.raise_max_ts(max_ts);
        self.columns
            .locks_in(from, to)
            .filter(|(_, lock)| lock.start_ts <= max_ts)
            .take(if limit == 0 { usize::MAX } else { limit })
            .map(|(key, lock)| LockedKey { key: key.clone(), lock: lock.clone() })
            .collect()
    }

    /// Ends transactions in a range: each is given with its commit timestamp, or zero to roll it back. Only at
    /// `keys`, unless there are none.
    ///
    /// # Errors
    ///
    /// [`KeyError::CommitTsExpired`] if a transaction can't commit as early as that.
    pub fn resolve(
        &self,
        from: &Key,
        to: &Key,
        transactions: &[(Timestamp, Timestamp)],
        keys: &[Key],
    ) -> Result<Vec<Change>, KeyError> {
        let mut changes = Vec::new();
        for (key, lock) in self.columns.locks_in(from, to) {
            if !keys.is_empty() && !keys.contains(key) {
                continue;
            }
            let Some((start_ts, commit_ts)) =
                transactions.iter().find(|(start_ts, _)| *start_ts == lock.start_ts)
            else {
                continue;
            };
            if commit_ts.is_zero() {
                self.rollback_key(key, *start_ts, &mut changes)?;
            } else {
                self.commit_key(key, *start_ts, *commit_ts, &mut changes)?;
            }
        }
        Ok(changes)
    }
}
