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
mod shared;
mod stored;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use tern_protocol::id::DeviceId;

use self::shared::Shared;
pub use self::{
    counts::RouteCacheCounts,
    error::OpenCacheError,
    settings::{DiskSettings, RouteCacheSettings},
};
use super::Route;
use crate::clock::Clock;

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

impl fmt::Debug for RouteCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteCache").field("settings", self.0.settings()).finish_non_exhaustive()
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
        Ok(Self(Arc::new(Shared::open(settings, clock).await?)))
    }

    /// Where the device is, as far as is known. Looks into memory first, then on the disk.
    ///
    /// A route that was put too long ago isn't known any more.
    pub async fn get(&self, device: DeviceId) -> Option<Route> {
        self.0.get(device).await
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
        self.0.remove(device);
    }

    /// Forgets all, also on the disk.
    ///
    /// From the first poll on nothing is served that was put before; waiting for the rest frees the disk.
    pub async fn clear(&self) {
        self.0.clear().await;
    }

    /// Writes what is still to be written, and gives the folder back; from then on nothing is found and
    /// nothing is kept.
    ///
    /// After [`RouteCacheSettings::close_within_ms`] it is no longer waited for. If the process ends then, the next start
    /// finds nothing on the disk; until foyer is done or the process ends, nobody else can open the folder. A
    /// cache that is dropped without this is as one whose process was killed.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// What has been counted since the cache was opened.
    pub fn counts(&self) -> RouteCacheCounts {
        self.0.counts()
    }
}
