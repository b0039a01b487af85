//! Without a disk: under a paused clock, on one thread.

use std::time::Duration;

use futures_util::FutureExt;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

/// What is polled once; memory never waits.
fn now(cache: &RouteCache, id: u64) -> Option<Route> {
    cache.get(device(id)).now_or_never().expect("memory waited for something")
}

#[tokio::test(start_paused = true)]
async fn what_was_put_is_found_until_it_is_removed() {
    let cache = open(in_memory(100)).await;
    assert_eq!(now(&cache, 1), None);
    cache.put(device(1), route(7));
    cache.put(device(2), route(8));
    assert_eq!((now(&cache, 1), now(&cache, 2)), (Some(route(7)), Some(route(8))));
    cache.remove(device(1));
    cache.remove(device(3));
    assert_eq!((now(&cache, 1), now(&cache, 2)), (None, Some(route(8))));
    let counts = cache.counts();
    assert_eq!((counts.memory_hits, counts.misses), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_newer_route_is_never_replaced_by_an_older_one() {
    let cache = open(in_memory(100)).await;
    cache.put(device(1), route(7));
    cache.put(device(1), route(6));
    assert_eq!(now(&cache, 1), Some(route(7)));
    assert_eq!(cache.counts().outdated, 1);
    cache.put(device(1), route(8));
    assert_eq!(now(&cache, 1), Some(route(8)));
    // A removed one isn't known any more, and bars nobody.
    cache.remove(device(1));
    cache.put(device(1), route(5));
    assert_eq!(now(&cache, 1), Some(route(5)));
}

#[tokio::test(start_paused = true)]
async fn a_route_is_believed_for_its_time_and_not_a_millisecond_longer() {
    let settings = in_memory(100);
    let keep_for = Duration::from_millis(settings.keep_for_ms);
    let (step, start) = (Duration::from_millis(1), tokio::time::Instant::now());
    let cache = open(settings).await;
    cache.put(device(1), route(7));
    cache.put(device(2), route(7));
    tokio::time::sleep_until(start + keep_for - step).await;
    assert_eq!(now(&cache, 1), Some(route(7)));
    // The same again: it is believed for as long anew.
    cache.put(device(2), route(7));
    tokio::time::sleep_until(start + keep_for).await;
    assert_eq!((now(&cache, 1), now(&cache, 2)), (None, Some(route(7))));
    // What is too old bars nobody.
    tokio::time::sleep_until(start + keep_for * 2).await;
    cache.put(device(2), route(3));
    assert_eq!(now(&cache, 2), Some(route(3)));
}

#[tokio::test(start_paused = true)]
async fn a_full_memory_evicts_and_keeps_what_is_used() {
    let cache = open(in_memory(1_000)).await;
    for id in 1..=10_000 {
        cache.put(device(id), route(1));
        // The first hundred are asked for all the time.
        now(&cache, id % 100 + 1);
    }
    let kept = served(&cache, 1..10_001).await;
    assert!((900..=1_000).contains(&kept.len()), "{} routes are kept", kept.len());
    let used = kept.iter().filter(|(id, _)| *id <= 100).count();
    assert!(used >= 90, "only {used} of the 100 that are used");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_found_after_clear_or_close() {
    let cache = open(in_memory(100)).await;
    cache.put(device(1), route(7));
    cache.clear().now_or_never().expect("memory waited for something");
    assert_eq!(now(&cache, 1), None);
    cache.put(device(1), route(6));
    assert_eq!(now(&cache, 1), Some(route(6)));
    for _ in 0..2 {
        cache.close().now_or_never().expect("memory waited for something");
        assert_eq!(now(&cache, 1), None);
        cache.put(device(1), route(9));
        assert_eq!(now(&cache, 1), None);
    }
}

#[test]
fn memory_alone_needs_no_tasks_no_threads_and_no_drivers() {
    // Neither time nor I/O is enabled: whoever needs them panics.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let opened = RouteCache::open(in_memory(100), Clock::system()).now_or_never();
        let cache = opened.expect("opening waited for something").unwrap();
        for id in 1..=1_000 {
            cache.put(device(id), route(id));
            now(&cache, id);
            cache.remove(device(id / 2 + 1));
        }
        cache.clear().await;
        cache.close().await;
    });
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
}

/// What two caches answer to the same random calls: they must agree about what is evicted. A hash that is drawn for
/// each cache, or a victim that is, would show.
#[tokio::test(start_paused = true)]
async fn the_same_calls_get_the_same_answers() {
    let seed = seed();
    // With one lock and with several.
    for memory_routes in [100, ROUTES_PER_LOCK * 4] {
        let caches = [open(in_memory(memory_routes)).await, open(in_memory(memory_routes)).await];
        let mut random = StdRng::seed_from_u64(seed);
        let devices = memory_routes as u64 * 3;
        let mut hits = 0;
        for step in 0..memory_routes * 20 {
            // Small numbers come more often.
            let most = random.random_range(1..=devices);
            let id = random.random_range(1..=most);
            let [first, second] = caches.each_ref().map(|cache| now(cache, id));
            assert_eq!(first, second, "at step {step}");
            hits += usize::from(first.is_some());
            for cache in &caches {
                match step % 7 {
                    6 => cache.remove(device(id)),
                    _ => cache.put(device(id), route(step as u64)),
                }
            }
            if step % 1_000 == 0 {
                tokio::time::advance(Duration::from_secs(100)).await;
            }
        }
        assert!(hits > memory_routes, "{hits} hits say little");
    }
}

#[tokio::test(start_paused = true)]
async fn settings_out_of_bounds_are_refused() {
    let good = RouteCacheSettings::default;
    let disk = |bytes| Some(DiskSettings { dir: "nowhere".into(), bytes });
    let wrong = [
        (RouteCacheSettings { memory_routes: 0, ..good() }, "memory_routes"),
        (RouteCacheSettings { memory_routes: 100_000_001, ..good() }, "memory_routes"),
        (RouteCacheSettings { keep_for_ms: 999, ..good() }, "keep_for_ms"),
        (RouteCacheSettings { close_within_ms: 60_001, ..good() }, "close_within_ms"),
        (RouteCacheSettings { disk: disk((16 << 20) - 1), ..good() }, "disk.bytes"),
        (RouteCacheSettings { disk: disk((256 << 30) + 1), ..good() }, "disk.bytes"),
    ];
    for (settings, field) in wrong {
        let error = RouteCache::open(settings, Clock::system()).await.unwrap_err();
        assert!(matches!(error, OpenCacheError::Setting { name, .. } if name == field), "{error}");
        assert!(error.to_string().contains(field), "{error}");
    }
}
