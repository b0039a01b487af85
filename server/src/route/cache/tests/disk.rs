//! With a disk, within one run.

use futures_util::FutureExt;

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

/// A runtime with one thread for files.
fn one_blocking_thread() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap()
}

/// On one thread, so that nothing is written until the test waits for something.
#[tokio::test]
async fn an_old_copy_on_the_disk_isnt_served_when_the_new_one_didnt_get_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = on_disk(dir.path(), 1);
    // Nothing has to make room.
    settings.disk.as_mut().unwrap().bytes = 256 << 20;
    let cache = open(settings.clone()).await;
    cache.put(device(1), route(7));
    cache.close().await;
    let cache = open(settings).await;
    // More than may wait, so that what comes now isn't written.
    for id in 2..50_000 {
        cache.put(device(id), route(1));
    }
    cache.put(device(1), route(8));
    // Memory has room for one, and it isn't the first.
    cache.put(device(2), route(1));
    cache.0.memory.remove(&1);
    assert_eq!(cache.get(device(1)).await, None);
    assert_eq!(cache.counts().stale, 1);
    // It was looked for once.
    assert_eq!(cache.get(device(1)).await, None);
    assert_eq!(cache.counts().stale, 1);
}

/// What a `get` returns during which the disk isn't read until something has happened.
async fn read_during(cache: &RouteCache, id: u64, happens: impl FnOnce()) -> Option<Route> {
    // It takes the only thread that could read.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let thread = tokio::task::spawn_blocking(move || held.recv());
    let mut read = std::pin::pin!(cache.get(device(id)));
    assert!(futures_util::poll!(read.as_mut()).is_pending(), "it isn't on the disk");
    happens();
    release.send(()).unwrap();
    thread.await.unwrap().unwrap();
    read.await
}

#[test]
fn what_happens_while_the_disk_is_read_counts() {
    let dir = tempfile::tempdir().unwrap();
    one_blocking_thread().block_on(async {
        let cache = one_in_memory(dir.path()).await;
        for id in 1..=10 {
            cache.put(device(id), route(7));
        }
        cache.close().await;
        let cache = one_in_memory(dir.path()).await;
        // Nothing happens.
        assert_eq!(read_during(&cache, 1, || {}).await, Some(route(7)));
        // It is put anew, and the old one doesn't take its place in memory.
        let newer = read_during(&cache, 2, || cache.put(device(2), route(8))).await;
        assert_eq!(newer, Some(route(8)));
        assert_eq!(cache.0.remembered(device(2)).map(|stored| stored.route), Some(route(8)));
        // It is removed.
        assert_eq!(read_during(&cache, 3, || cache.remove(device(3))).await, None);
        assert_eq!(cache.get(device(3)).await, None);
        // All is cleared, by somebody who doesn't wait for it. That counts from the first poll on.
        let clear = || {
            let _ = cache.clear().now_or_never();
        };
        assert_eq!(read_during(&cache, 4, clear).await, None);
        assert_eq!(served(&cache, 1..11).await, []);
    });
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

#[test]
fn a_close_that_hangs_is_given_up_and_the_folder_stays_taken() {
    let dir = tempfile::tempdir().unwrap();
    one_blocking_thread().block_on(async {
        let settings = RouteCacheSettings { close_within_ms: 10, ..on_disk(dir.path(), 1) };
        let cache = open(settings).await;
        cache.put(device(1), route(7));
        // Nothing can be written now.
        let (release, held) = std::sync::mpsc::channel::<()>();
        let thread = tokio::task::spawn_blocking(move || held.recv());
        cache.close().await;
        assert_eq!(cache.counts().disk_errors, 1);
        let lock = std::fs::File::open(dir.path().join("lock")).unwrap();
        assert!(lock.try_lock().is_err(), "foyer may still write, and the folder is free");
        assert!(!dir.path().join("ledger").exists(), "it counts as closed well");
        // It comes to its end after all.
        release.send(()).unwrap();
        thread.await.unwrap().unwrap();
        while lock.try_lock().is_err() {
            tokio::task::yield_now().await;
        }
        drop(lock);
        assert_eq!(one_in_memory(dir.path()).await.get(device(1)).await, Some(route(7)));
    });
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
