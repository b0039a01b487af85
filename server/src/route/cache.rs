//! Placeholder until the hybrid cache is merged.
use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;
use tern_protocol::id::DeviceId;

use super::Route;
use crate::clock::Clock;

/// x
#[derive(Debug, Clone)]
pub struct RouteCacheDisk {
    /// x
    pub dir: PathBuf,
    /// x
    pub bytes: u64,
}
/// x
#[derive(Debug, Clone)]
pub struct RouteCacheSettings {
    /// x
    pub memory_routes: usize,
    /// x
    pub disk: Option<RouteCacheDisk>,
    /// x
    pub keep_for_ms: u64,
    /// x
    pub close_within_ms: u64,
}
impl Default for RouteCacheSettings {
    fn default() -> Self {
        Self { memory_routes: 100_000, disk: None, keep_for_ms: 3_600_000, close_within_ms: 5_000 }
    }
}
/// x
#[derive(Debug)]
pub struct OpenCacheError(String);
impl std::fmt::Display for OpenCacheError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for OpenCacheError {}
/// x
#[derive(Clone)]
pub struct RouteCache(Arc<Mutex<LruCache<DeviceId, Route>>>);
impl RouteCache {
    /// x
    pub async fn open(settings: RouteCacheSettings, _clock: Clock) -> Result<Self, OpenCacheError> {
        Ok(Self(Arc::new(Mutex::new(LruCache::new(
            NonZeroUsize::new(settings.memory_routes).unwrap_or(NonZeroUsize::MIN),
        )))))
    }
    /// x
    pub async fn get(&self, device: DeviceId) -> Option<Route> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&device).copied()
    }
    /// x
    pub fn put(&self, device: DeviceId, route: Route) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(device, route);
    }
    /// x
    pub fn remove(&self, device: DeviceId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop(&device);
    }
    /// x
    pub async fn close(&self) {}
}
