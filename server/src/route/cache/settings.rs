//! The settings of the cache of routes, their bounds and the reasons for the defaults.

use std::{path::PathBuf, time::Duration};

use super::OpenCacheError;

/// How much the cache of routes keeps, where and for how long.
///
/// [`RouteCacheSettings::check`] names the bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteCacheSettings {
    /// Routes that are kept in memory, 1 to 100,000,000; each takes about 150 bytes. The default of
    /// 100,000 is what a node of that many connections writes to in a short while.
    pub memory_routes: usize,
    /// The disk under the memory; `None` keeps routes in memory alone, without threads and without I/O.
    /// The default is `None`: a route that isn't in memory is one read of the store away, so a disk
    /// pays where a restart must find the cache warm.
    pub disk: Option<DiskSettings>,
    /// How long a route is believed after it was put, in milliseconds, 1,000 to 604,800,000 (a week).
    /// A wrong route costs one detour, since the node that is asked in vain says so; a right one that
    /// was forgotten costs one read of the store. The default is an hour.
    pub keep_for_ms: u64,
    /// How long [`RouteCache::close`](super::RouteCache::close) may take, in milliseconds, 10 to 60,000.
    /// What isn't written by then is given up, and the next start finds nothing on the disk. The
    /// default is 5 s.
    pub close_within_ms: u64,
}

/// Where on the disk routes are kept, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSettings {
    /// A folder for this cache alone. It is made if it isn't there.
    pub dir: PathBuf,
    /// Bytes of it that the routes may take, 16 MiB to 256 GiB. A route takes 4,096 bytes, and 140 bytes of memory in
    /// two indices, which is hardly less than in memory alone: a disk isn't there to keep more routes, but to
    /// keep them over a restart.
    pub bytes: u64,
}

impl Default for RouteCacheSettings {
    fn default() -> Self {
        Self { memory_routes: 100_000, disk: None, keep_for_ms: 3_600_000, close_within_ms: 5_000 }
    }
}

impl RouteCacheSettings {
    /// Checks every field against its bounds.
    ///
    /// # Errors
    ///
    /// [`OpenCacheError::Setting`] names the first field that is out of bounds.
    pub fn check(&self) -> Result<(), OpenCacheError> {
        let memory_routes = u64::try_from(self.memory_routes).unwrap_or(u64::MAX);
        let disk_bytes = self.disk.as_ref().map(|disk| disk.bytes);
        let bounds = [
            ("memory_routes", Some(memory_routes), 1, 100_000_000),
            ("disk.bytes", disk_bytes, 16 << 20, 256 << 30),
            ("keep_for_ms", Some(self.keep_for_ms), 1_000, 604_800_000),
            ("close_within_ms", Some(self.close_within_ms), 10, 60_000),
        ];
        for (name, value, least, most) in bounds {
            if let Some(value) = value
                && !(least..=most).contains(&value)
            {
                return Err(OpenCacheError::Setting { name, value, least, most });
            }
        }
        Ok(())
    }

    pub(super) fn close_within(&self) -> Duration {
        Duration::from_millis(self.close_within_ms)
    }
}
