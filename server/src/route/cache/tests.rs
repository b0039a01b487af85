//! The cache in memory, on the disk, across restarts and kills, and over damaged files.

mod damage;
mod disk;
mod memory;
mod restart;

use std::{ops::Range, path::Path};

use super::{shared::ROUTES_PER_LOCK, stored::Stored, *};
use crate::cluster::NodeId;

fn device(id: u64) -> DeviceId {
    DeviceId::new(id).unwrap()
}

fn route(epoch: u64) -> Route {
    Route { node: NodeId::new(epoch + 1_000).unwrap(), epoch }
}

fn in_memory(memory_routes: usize) -> RouteCacheSettings {
    RouteCacheSettings { memory_routes, ..RouteCacheSettings::default() }
}

/// A disk of 16 MiB under a memory for so many routes. Nothing waits for less than a minute.
fn on_disk(dir: &Path, memory_routes: usize) -> RouteCacheSettings {
    let disk = DiskSettings { dir: dir.to_path_buf(), bytes: 16 << 20 };
    RouteCacheSettings { disk: Some(disk), close_within_ms: 60_000, ..in_memory(memory_routes) }
}

async fn open(settings: RouteCacheSettings) -> RouteCache {
    RouteCache::open(settings, Clock::system()).await.expect("the cache")
}

/// What is served of these devices.
async fn served(cache: &RouteCache, ids: Range<u64>) -> Vec<(u64, Route)> {
    let mut served = Vec::new();
    for id in ids {
        served.extend(cache.get(device(id)).await.map(|route| (id, route)));
    }
    served
}

/// The seed of a random test: `TERN_TEST_SEED`, else 1. A failure shows it.
#[expect(clippy::print_stderr, reason = "a failure must name its seed")]
fn seed() -> u64 {
    let seed = std::env::var("TERN_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    eprintln!("TERN_TEST_SEED={seed}");
    seed
}
