//! What the cache of routes counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of the questions and answers of a [`RouteCache`](super::RouteCache) since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteCacheCounts {
    /// Routes that were found in memory.
    pub memory_hits: u64,
    /// Routes that were found on the disk.
    pub disk_hits: u64,
    /// Questions without an answer, for whatever reason.
    pub misses: u64,
    /// Routes that weren't put since a newer one was there.
    pub outdated: u64,
    /// Routes of the disk that weren't believed, since they had been replaced or removed.
    pub stale: u64,
    /// Reads of the disk that failed or took too long, and a close that did.
    pub disk_errors: u64,
}

/// The counters behind [`RouteCacheCounts`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) memory_hits: AtomicU64,
    pub(super) disk_hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) outdated: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) disk_errors: AtomicU64,
}

impl Counters {
    pub(super) fn now(&self) -> RouteCacheCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RouteCacheCounts {
            memory_hits: of(&self.memory_hits),
            disk_hits: of(&self.disk_hits),
            misses: of(&self.misses),
            outdated: of(&self.outdated),
            stale: of(&self.stale),
            disk_errors: of(&self.disk_errors),
        }
    }

    /// Counts an error of the disk, and logs it unless many have been.
    pub(super) fn disk_error(&self, why: &dyn std::fmt::Display) {
        let before = self.disk_errors.fetch_add(1, Ordering::Relaxed);
        // A disk that fails at every read mustn't fill the log as well.
        if (before + 1).is_power_of_two() {
            tracing::warn!(%why, errors = before + 1, "the disk under the route cache fails");
        }
    }
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
