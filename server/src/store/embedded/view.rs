//! What readers see: changes in memory over the tree.

use std::{collections::BTreeMap, iter, ops::Bound, sync::Arc};

use bytes::Bytes;

use super::{
    base::{BaseError, Snapshot},
    layer::{Known, Layer, Window},
};
use crate::store::{Pair, Scan};

/// The newest committed state.
///
/// Readers hold the lock for memory operations only, never while they read the tree.
pub(super) struct View {
    /// Commits since the last checkpoint began.
    pub(super) active: Layer,
    /// Commits that a checkpoint is writing to the tree. It says the same as the tree once
    /// written, so it doesn't matter how much of it a reader's snapshot has already.
    pub(super) frozen: Option<Arc<Layer>>,
    /// The tree, at any moment between the start of that checkpoint and now.
    pub(super) base: Arc<Snapshot>,
}

impl View {
    /// The answer, if memory has it; else the tree to ask.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Arc<Snapshot>> {
        let layers = iter::once(&self.active).chain(self.frozen.as_deref());
        for layer in layers {
            match layer.get(key) {
                Known::Value(value) => return Ok(Some(value)),
                Known::Gone => return Ok(None),
                Known::Nothing => {}
            }
        }
        Err(Arc::clone(&self.base))
    }

    /// Takes from memory what changes under the lock; the rest of the scan needs no lock.
    pub(super) fn begin_scan(&self, scan: Scan) -> Merged {
        let Scan { mut from, mut to, limit, reverse } = scan;
        let limit = limit.max(1);
        let active = self.active.window(&mut from, &mut to, limit, reverse, |_| false);
        Merged {
            scan: Scan { from, to, limit, reverse },
            active,
            frozen: self.frozen.clone(),
            base: Arc::clone(&self.base),
        }
    }
}

/// A scan of one state of the store.
pub(super) struct Merged {
    scan: Scan,
    active: Window,
    frozen: Option<Arc<Layer>>,
    base: Arc<Snapshot>,
}

impl Merged {
    /// Reads the tree and merges; may wait for the disk.
    pub(super) fn run(self) -> Result<Vec<Pair>, BaseError> {
        let Scan { mut from, mut to, limit, reverse } = self.scan;
        let mut entries = self.active.entries;
        let mut cleared: BTreeMap<Bytes, Bytes> = self.active.cleared.into_iter().collect();
        if let Some(frozen) = self.frozen {
            let hidden = |key: &[u8]| {
                let entry = entries.binary_search_by(|(other, _)| {
                    let order = other.as_ref().cmp(key);
                    if reverse { order.reverse() } else { order }
                });
                entry.is_ok()
                    || cleared
                        .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
                        .next_back()
                        .is_some_and(|(_, end)| key < end.as_ref())
            };
            let below = frozen.window(&mut from, &mut to, limit, reverse, hidden);
            entries.extend(below.entries);
            entries.sort_unstable_by(|(a, _), (b, _)| if reverse { b.cmp(a) } else { a.cmp(b) });
            for (start, end) in below.cleared {
                let slot = cleared.entry(start).or_default();
                if *slot < end {
                    *slot = end;
                }
            }
        }

        let mut out = Vec::new();
        let mut entries = entries.into_iter().peekable();
        let mut gaps = gaps(&from, &to, &cleared);
        if reverse {
            gaps.reverse();
        }
        for (from, to) in gaps {
            let more = self.base.walk(&from, &to, reverse, |key, value| {
                let before = |other: &[u8]| if reverse { other > key } else { other < key };
                while let Some((key, value)) = entries.next_if(|(other, _)| before(other)) {
                    out.extend(value.map(|value| (key, value)));
                    if out.len() >= limit {
                        return false;
                    }
                }
                let pair = match entries.next_if(|(other, _)| other == key) {
                    Some((key, value)) => value.map(|value| (key, value)),
                    None => Some((Bytes::copy_from_slice(key), value)),
                };
                out.extend(pair);
                out.len() < limit
            })?;
            if !more {
                break;
            }
        }
        let missing = limit.saturating_sub(out.len());
        let rest = entries.filter_map(|(key, value)| value.map(|value| (key, value)));
        out.extend(rest.take(missing));
        Ok(out)
    }
}

/// What of `[from, to)` no cleared range covers, ascending.
fn gaps(from: &Bytes, to: &Bytes, cleared: &BTreeMap<Bytes, Bytes>) -> Vec<(Bytes, Bytes)> {
    let mut gaps = Vec::new();
    let mut at = from.clone();
    for (start, end) in cleared {
        if *start > at && at < *to {
            gaps.push((at.clone(), start.min(to).clone()));
        }
        if *end > at {
            at = end.clone();
        }
    }
    if at < *to {
        gaps.push((at, to.clone()));
    }
    gaps
}
