//! With a disk, within one run.

use super::*;

/// A memory for one route, so that all others are read from the disk.
async fn one_in_memory(dir: &Path) -> RouteCache {
    open(on_disk(dir, 1)).await
}

#[tokio::test]
async fn what_memory_evicts_is_found_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let cache = one_in_memory(dir.path()).await;
    for id in 1..=200 {
        cache.put(device(id), route(id));
    }
    let expected: Vec<_> = (1..=200).map(|id| (id, route(id))).collect();
    assert_eq!(served(&cache, 1..201).await, expected);
    let counts = cache.counts();
    assert_eq!(counts.memory_hits + counts.disk_hits, 200);
    assert!(counts.disk_hits >= 198, "{counts:?}");
    assert_eq!(counts.disk_errors, 0);
    // What isn't there is known without a look at the disk.
    assert_eq!(served(&cache, 201..300).await, []);
}

#[tokio::test]
async fn a_route_on_the_disk_bars_an_older_one() {
    let dir = tempfile::tempdir().unwrap();
    let cache = one_in_memory(dir.path()).await;
    for id in 1..=100 {
        cache.put(device(id), route(7));
    }
    for id in 1..=100 {
        cache.put(device(id), route(6));
    }
    assert_eq!(cache.counts().outdated, 100);
    assert_eq!(
        served(&cache, 1..101).await,
        (1..=100).map(|id| (id, route(7))).collect::<Vec<_>>()
    );
    for id in 1..=100 {
        cache.put(device(id), route(8));
    }
    assert_eq!(
        served(&cache, 1..101).await,
        (1..=100).map(|id| (id, route(8))).collect::<Vec<_>>()
    );
    // Also after a restart.
    cache.close().await;
    let cache = one_in_memory(dir.path()).await;
    cache.put(device(1), route(7));
    assert_eq!(cache.get(device(1)).await, Some(route(8)));
}

#[tokio::test]
async fn a_removed_route_is_on_no_disk() {
    let dir = tempfile::tempdir().unwrap();
    let cache = one_in_memory(dir.path()).await;
    for id in 1..=100 {
        cache.put(device(id), route(7));
    }
    for id in 1..=50 {
        cache.remove(device(id));
    }
    assert_eq!(
        served(&cache, 1..101).await,
        (51..=100).map(|id| (id, route(7))).collect::<Vec<_>>()
    );
    cache.put(device(1), route(3));
    assert_eq!(cache.get(device(1)).await, Some(route(3)));
}

#[tokio::test]
async fn a_cleared_cache_is_empty_now_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let cache = one_in_memory(dir.path()).await;
    for id in 1..=100 {
        cache.put(device(id), route(7));
    }
    cache.clear().await;
    assert_eq!(served(&cache, 1..101).await, []);
    assert_eq!(cache.counts().disk_errors, 0);
    // It takes routes again, also older ones.
    for id in 1..=50 {
        cache.put(device(id), route(5));
    }
    let expected: Vec<_> = (1..=50).map(|id| (id, route(5))).collect();
    assert_eq!(served(&cache, 1..101).await, expected);
    cache.close().await;
    let cache = one_in_memory(dir.path()).await;
    assert_eq!(served(&cache, 1..101).await, expected);
}

#[tokio::test]
async fn a_route_gets_too_old_on_the_disk_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let settings = on_disk(dir.path(), 1);
    let keep_for_ms = settings.keep_for_ms;
    // Each cache has a clock of its own, since a paused one doesn't go with threads.
    let at = |now_ms| RouteCache::open(settings.clone(), Clock::starting_at(now_ms));
    let cache = at(1_000).await.unwrap();
    for id in 1..=10 {
        cache.put(device(id), route(7));
    }
    cache.close().await;
    let cache = at(1_000 + keep_for_ms / 2).await.unwrap();
    assert_eq!(served(&cache, 1..11).await.len(), 10);
    cache.put(device(1), route(7));
    cache.close().await;
    let cache = at(1_000 + keep_for_ms + 60_000).await.unwrap();
    assert_eq!(served(&cache, 1..11).await, [(1, route(7))]);
    // What is found too old is gone, and bars nobody.
    cache.put(device(2), route(3));
    assert_eq!(cache.get(device(2)).await, Some(route(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_never_see_a_route_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let cache = one_in_memory(dir.path()).await;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let mut newest = [0; 20];
                for round in 0.. {
                    let id = round % 20;
                    if let Some(route) = cache.get(device(id as u64 + 1)).await {
                        assert!(route.epoch >= newest[id], "a route went back");
                        newest[id] = route.epoch;
                        if route.epoch == u64::MAX - 1_000 {
                            return;
                        }
                    }
                }
            })
        })
        .collect();
    for epoch in 1..=2_000 {
        cache.put(device(epoch % 20 + 1), route(epoch));
        tokio::task::yield_now().await;
    }
    for id in 1..=20 {
        cache.put(device(id), route(u64::MAX - 1_000));
    }
    for reader in readers {
        reader.await.expect("a reader");
    }
    assert_eq!(cache.counts().disk_errors, 0);
}

#[tokio::test]
async fn a_reader_that_goes_away_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let cache = one_in_memory(dir.path()).await;
    for id in 1..=100 {
        cache.put(device(id), route(7));
    }
    for id in 1..=100 {
        // Polled once and dropped, while the disk is being read.
        let _ = futures_util::poll!(std::pin::pin!(cache.get(device(id))));
    }
    assert_eq!(served(&cache, 1..101).await.len(), 100);
    cache.close().await;
}

#[tokio::test]
async fn after_a_close_nothing_is_found_and_the_folder_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let cache = one_in_memory(dir.path()).await;
    cache.put(device(1), route(7));
    cache.put(device(2), route(7));
    cache.close().await;
    cache.close().await;
    cache.put(device(3), route(7));
    cache.remove(device(1));
    cache.clear().await;
    assert_eq!(served(&cache, 1..4).await, []);
    // Nothing of this got into the next run.
    let next = one_in_memory(dir.path()).await;
    assert_eq!(served(&next, 1..4).await, [(1, route(7)), (2, route(7))]);
}

#[tokio::test]
async fn one_folder_has_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let cache = one_in_memory(dir.path()).await;
    let error = RouteCache::open(on_disk(dir.path(), 1), Clock::system()).await.unwrap_err();
    assert!(matches!(error, OpenCacheError::InUse(_)), "{error}");
    assert!(error.to_string().contains("a folder of its own"), "{error}");
    // The first one isn't disturbed.
    cache.put(device(1), route(7));
    cache.close().await;
    assert_eq!(one_in_memory(dir.path()).await.get(device(1)).await, Some(route(7)));
}

#[tokio::test]
async fn a_folder_that_cant_be_made_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let settings = on_disk(&file.join("below"), 1);
    let error = RouteCache::open(settings, Clock::system()).await.unwrap_err();
    assert!(matches!(error, OpenCacheError::Io { doing: "creating", .. }), "{error:?}");
    assert!(error.to_string().contains("must be able to write"), "{error}");
}
