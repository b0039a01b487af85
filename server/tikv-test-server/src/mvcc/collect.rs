//! What nobody can read any more goes.

use super::{Change, Engine, Key, Timestamp, WriteKind};

impl Engine {
    /// Forgets what is older than the newest version at or before `safe_point`, in a range. Reads at or above
    /// the safe point see what they saw before; reads below it don't. Locks must have been resolved before.
    pub fn collect(&self, from: &Key, to: &Key, safe_point: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in self.columns.written_in(from, to) {
            let mut newest_is_kept = false;
            for (commit_ts, write) in self.columns.writes(key, safe_point) {
                // A value stays if it is what a read at the safe point finds.
                let keep = !newest_is_kept && write.kind == WriteKind::Put;
                newest_is_kept |= matches!(write.kind, WriteKind::Put | WriteKind::Delete);
                if keep {
                    continue;
                }
                changes.push(Change::DropWrite(key.clone(), commit_ts));
                if write.kind == WriteKind::Put {
                    changes.push(Change::DropValue(key.clone(), write.start_ts));
                }
            }
        }
        changes
    }

    /// Forgets everything in a range, locks and history too.
    pub fn destroy_range(&self, from: &Key, to: &Key) -> Vec<Change> {
        vec![Change::DropRange(from.clone(), to.clone())]
    }
}
