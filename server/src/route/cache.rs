//! The cache of routes: memory over an optional disk, with foyer under both.
//!
//! The truth about routes is in the store. What is here saves reading it, may be forgotten at any time, and may be
//! wrong as the world goes on: a node that is told to deliver to a device which it doesn't have says so, and the
//! route is read again. What is promised is that the cache never goes *back*:
//!
//! - A route that was replaced or removed is never served again, also not after a restart, whether
//!   the process was closed or killed. foyer alone doesn't keep that (its removals and overwritings may be lost
//!   on the way to the disk, or undone when it reads the disk back), so what comes
//!   from the disk is compared with a ledger of ours.
//! - [`RouteCache::put`] never replaces a route by one with a lower epoch, wherever the newer one lies.
//! - After a kill the disk is thrown away: nobody knows what it holds. After [`RouteCache::close`] it is warm.
//! - No error of the disk reaches a caller. It is a miss, and counted.
//!
//! Whoever puts routes must not use one epoch for two connections of a device: of two routes with the same epoch, the
//! cache may serve either.
//!
//! # What it costs
//!
//! A hit in memory is a hash and a shared lock, without a point at which the caller could be suspended. A
//! hit on the disk is one read of 4 KiB by another thread. Without a disk there are no threads, no tasks and no I/O, and what is evicted
//! depends on the order of the calls alone, so that a simulation repeats.

mod counts;
mod disk;
mod error;
mod folder;
mod ledger;
mod settings;
mod stored;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
};

use foyer::{Cache, CacheBuilder, DefaultHasher, HybridCacheProperties, S3FifoConfig};
use tern_protocol::id::DeviceId;

pub use self::{
    counts::RouteCacheCounts,
    error::OpenCacheError,
    settings::{DiskSettings, RouteCacheSettings},
};
use self::{
    counts::{Counters, count},
    disk::Disk,
    ledger::Ledger,
    stored::Stored,
};
use super::Route;
use crate::clock::Clock;

/// Routes in memory, by the number of their device. The hash is the same in every process.
type Memory = Cache<u64, Stored, DefaultHasher, HybridCacheProperties>;

/// Routes for each lock of the memory, at least: a route is evicted by others under its lock, so few
/// under each would be evicted unevenly.
const ROUTES_PER_LOCK: usize = 8_192;
/// Locks of the memory, at most.
const LOCKS: usize = 16;

/// A cache of routes. Cheap to clone.
///
/// ```
/// # use tern_server::{clock::Clock, cluster::NodeId, route::{Route, cache::*}};
/// # use tern_protocol::id::DeviceId;
/// # async fn run(node: NodeId, device: DeviceId) -> Result<(), OpenCacheError> {
/// let cache = RouteCache::open(RouteCacheSettings::default(), Clock::system()).await?;
/// cache.put(device, Route { node, epoch: 7 });
/// assert!(cache.get(device).await.is_some());
/// cache.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RouteCache(Arc<Shared>);

struct Shared {
    memory: Memory,
    disk: Option<Disk>,
    /// Held while memory or ledger are changed, so that they agree; never while something is waited for.
    state: Mutex<State>,
    counters: Counters,
    clock: Clock,
    settings: RouteCacheSettings,
}

struct State {
    /// Nothing is put any more.
    closed: bool,
    /// There with a disk, until the cache is closed.
    ledger: Option<Ledger>,
}

impl fmt::Debug for RouteCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteCache").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl RouteCache {
    /// Opens a cache. With a disk, it is warm if it was [closed](Self::close) the last time and keeps
    /// the size that it had.
    ///
    /// # Errors
    ///
    /// What the operator must put right: settings out of bounds, a folder that another process uses or that can't
    /// be written. They aren't passed over in silence, since two nodes on one folder or a wrong owner
    /// stay until somebody looks. Files that are damaged, cut off or not foyer's are no error: they are
    /// thrown away with a warning.
    pub async fn open(settings: RouteCacheSettings, clock: Clock) -> Result<Self, OpenCacheError> {
        settings.check()?;
        let (memory, disk, ledger) = match &settings.disk {
            None => (memory(settings.memory_routes), None, None),
            Some(disk) => {
                let (disk, ledger) = Disk::open(disk, settings.memory_routes).await?;
                (disk.memory().clone(), Some(disk), Some(ledger))
            }
        };
        let state = Mutex::new(State { closed: false, ledger });
        let counters = Counters::default();
        Ok(Self(Arc::new(Shared { memory, disk, state, counters, clock, settings })))
    }

    /// Where the device is, as far as is known. Looks into memory first, then on the disk.
    ///
    /// A route that was put too long ago isn't known any more.
    pub async fn get(&self, device: DeviceId) -> Option<Route> {
        let shared = &self.0;
        let found = match shared.in_memory(device) {
            Looked::Found(route) => Some(route),
            Looked::Nothing => None,
            Looked::OnDisk { disk, epoch } => shared.on_disk(disk, device, epoch).await,
        };
        if found.is_none() {
            count(&shared.counters.misses);
        }
        found
    }

    /// Keeps a route, unless a newer one is known.
    ///
    /// A route with a higher epoch stays, in memory or on the disk. One with the same epoch is replaced, so that it is
    /// kept for longer. A higher epoch is forgotten when its route is removed, evicted from memory and disk, or found
    /// to be too old by [`RouteCache::get`].
    pub fn put(&self, device: DeviceId, route: Route) {
        self.0.put(device, route);
    }

    /// Forgets the route of a device.
    pub fn remove(&self, device: DeviceId) {
        let shared = &self.0;
        shared.forget(&mut shared.state(), device);
    }

    /// Forgets all, also on the disk.
    ///
    /// From the first poll on nothing is served that was put before; waiting for the rest frees the disk.
    pub async fn clear(&self) {
        let shared = &self.0;
        {
            let mut state = shared.state();
            shared.memory.clear();
            if let Some(ledger) = &mut state.ledger {
                ledger.clear();
            }
        }
        if let Some(disk) = &shared.disk
            && let Err(why) = disk.clear(shared.settings.close_within()).await
        {
            shared.counters.disk_error(&why);
        }
    }

    /// Writes what is still to be written, and gives the folder back; from then on nothing is found and
    /// nothing is kept.
    ///
    /// After [`RouteCacheSettings::close_within_ms`] it is no longer waited for. If the process ends then, the next start
    /// finds nothing on the disk; until foyer is done or the process ends, nobody else can open the folder. A
    /// cache that is dropped without this is as one whose process was killed.
    pub async fn close(&self) {
        let shared = &self.0;
        let ledger = {
            let mut state = shared.state();
            state.closed = true;
            shared.memory.clear();
            // Without a ledger nothing that the disk still brings is served.
            state.ledger.take()
        };
        if let (Some(disk), Some(ledger)) = (&shared.disk, ledger)
            && let Err(why) = disk.close(ledger, shared.settings.close_within()).await
        {
            shared.counters.disk_error(&why);
        }
    }

    /// What has been counted since the cache was opened.
    pub fn counts(&self) -> RouteCacheCounts {
        self.0.counters.now()
    }
}

/// What a look into memory says.
enum Looked<'a> {
    Found(Route),
    Nothing,
    /// It may be on the disk, with this epoch.
    OnDisk {
        disk: &'a Disk,
        epoch: u64,
    },
}

impl Shared {
    fn in_memory(&self, device: DeviceId) -> Looked<'_> {
        if let Some(stored) = self.remembered(device) {
            let route = self.unless_old(device, stored, &self.counters.memory_hits);
            return route.map_or(Looked::Nothing, Looked::Found);
        }
        let Some(disk) = &self.disk else { return Looked::Nothing };
        match self.state().epoch(device) {
            Some(epoch) => Looked::OnDisk { disk, epoch },
            None => Looked::Nothing,
        }
    }

    async fn on_disk(&self, disk: &Disk, device: DeviceId, epoch: u64) -> Option<Route> {
        let found = match disk.get(device.get()).await {
            Ok(found) => found,
            Err(why) => {
                self.counters.disk_error(&why);
                return None;
            }
        };
        let mut state = self.state();
        // It may have been removed meanwhile, or put anew.
        let current = state.epoch(device)?;
        if let Some(newer) = self.remembered(device) {
            drop(state);
            return self.unless_old(device, newer, &self.counters.memory_hits);
        }
        match found {
            Some(stored) if stored.route.epoch == current => {
                self.memory.insert(device.get(), stored);
                drop(state);
                self.unless_old(device, stored, &self.counters.disk_hits)
            }
            found => {
                if found.is_some() {
                    count(&self.counters.stale);
                }
                if current == epoch {
                    // The disk has lost it, or never got it. Nobody needs to look there again.
                    self.forget(&mut state, device);
                }
                None
            }
        }
    }

    fn put(&self, device: DeviceId, route: Route) {
        let now_ms = self.clock.now_ms();
        let expires_ms = now_ms.saturating_add(self.settings.keep_for_ms);
        let stored = Stored { route, expires_ms };
        let mut state = self.state();
        if state.closed {
            return;
        }
        let newest = match self.remembered(device) {
            Some(kept) => (kept.expires_ms > now_ms).then_some(kept.route.epoch),
            None => state.epoch(device),
        };
        if newest.is_some_and(|newest| newest > route.epoch) {
            count(&self.counters.outdated);
            return;
        }
        match (&self.disk, &mut state.ledger) {
            (Some(disk), Some(ledger)) => {
                ledger.set(device, route.epoch);
                disk.put(device.get(), stored);
            }
            _ => drop(self.memory.insert(device.get(), stored)),
        }
    }

    /// The route of what was found, which is counted, unless it is too old; then it is forgotten.
    fn unless_old(&self, device: DeviceId, found: Stored, hits: &AtomicU64) -> Option<Route> {
        if found.expires_ms > self.clock.now_ms() {
            count(hits);
            return Some(found.route);
        }
        let mut state = self.state();
        // It may have been put anew meanwhile.
        if self.remembered(device) == Some(found) {
            self.forget(&mut state, device);
        }
        None
    }

    fn forget(&self, state: &mut State, device: DeviceId) {
        self.memory.remove(&device.get());
        // What isn't in the ledger isn't served, and a removal costs the disk something.
        if let (Some(disk), Some(ledger)) = (&self.disk, &mut state.ledger)
            && ledger.remove(device)
        {
            disk.remove(device.get());
        }
    }

    /// What is in memory: always what was put last, also if it is too old.
    fn remembered(&self, device: DeviceId) -> Option<Stored> {
        self.memory.get(&device.get()).map(|entry| *entry.value())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between may have left a route in the ledger that isn't cached: a miss.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The epoch that a route of the disk must have to be served.
    fn epoch(&self, device: DeviceId) -> Option<u64> {
        self.ledger.as_ref()?.epoch(device)
    }
}

/// Memory for so many routes, without anything behind it.
fn memory(routes: usize) -> Memory {
    CacheBuilder::new(routes)
        .with_shards(locks(routes))
        .with_eviction_config(S3FifoConfig::default())
        .build()
}

fn locks(routes: usize) -> usize {
    (routes / ROUTES_PER_LOCK).clamp(1, LOCKS)
}
