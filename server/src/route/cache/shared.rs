//! Memory, disk and ledger, and how they are kept in agreement.

use std::sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicU64};

use foyer::{Cache, CacheBuilder, DefaultHasher, HybridCacheProperties, S3FifoConfig};
use tern_protocol::id::DeviceId;

use super::{
    OpenCacheError, Route, RouteCacheCounts, RouteCacheSettings,
    counts::{Counters, count},
    disk::Disk,
    ledger::Ledger,
    stored::Stored,
};
use crate::clock::Clock;

/// Routes in memory, by the number of their device. The hash is the same in every process.
pub(super) type Memory = Cache<u64, Stored, DefaultHasher, HybridCacheProperties>;

/// Routes for each lock of the memory, at least: a route is evicted by others under its lock, so few
/// under each would be evicted unevenly.
pub(super) const ROUTES_PER_LOCK: usize = 8_192;
/// Locks of the memory, at most.
const LOCKS: usize = 16;

/// What all clones of a cache have in common.
pub(super) struct Shared {
    pub(super) memory: Memory,
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
    pub(super) async fn open(
        settings: RouteCacheSettings,
        clock: Clock,
    ) -> Result<Self, OpenCacheError> {
        settings.check()?;
        let (memory, disk, ledger) = match &settings.disk {
            None => (memory(settings.memory_routes), None, None),
            Some(disk) => {
                let (disk, ledger) = Disk::open(disk, settings.memory_routes).await?;
                (disk.memory().clone(), Some(disk), Some(ledger))
            }
        };
        let state = Mutex::new(State { closed: false, ledger });
        Ok(Self { memory, disk, state, counters: Counters::default(), clock, settings })
    }

    pub(super) fn settings(&self) -> &RouteCacheSettings {
        &self.settings
    }

    pub(super) fn counts(&self) -> RouteCacheCounts {
        self.counters.now()
    }

    pub(super) async fn get(&self, device: DeviceId) -> Option<Route> {
        let found = match self.in_memory(device) {
            Looked::Found(route) => Some(route),
            Looked::Nothing => None,
            Looked::OnDisk { disk, epoch } => self.on_disk(disk, device, epoch).await,
        };
        if found.is_none() {
            count(&self.counters.misses);
        }
        found
    }

    pub(super) fn remove(&self, device: DeviceId) {
        self.forget(&mut self.state(), device);
    }

    pub(super) async fn clear(&self) {
        {
            let mut state = self.state();
            self.memory.clear();
            if let Some(ledger) = &mut state.ledger {
                ledger.clear();
            }
        }
        if let Some(disk) = &self.disk
            && let Err(why) = disk.clear(self.settings.close_within()).await
        {
            self.counters.disk_error(&why);
        }
    }

    pub(super) async fn close(&self) {
        let ledger = {
            let mut state = self.state();
            state.closed = true;
            self.memory.clear();
            // Without a ledger nothing that the disk still brings is served.
            state.ledger.take()
        };
        if let (Some(disk), Some(ledger)) = (&self.disk, ledger)
            && let Err(why) = disk.close(ledger, self.settings.close_within()).await
        {
            self.counters.disk_error(&why);
        }
    }

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

    pub(super) fn put(&self, device: DeviceId, route: Route) {
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
    pub(super) fn remembered(&self, device: DeviceId) -> Option<Stored> {
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

/// Locks of a memory for so many routes.
pub(super) fn locks(routes: usize) -> usize {
    (routes / ROUTES_PER_LOCK).clamp(1, LOCKS)
}
