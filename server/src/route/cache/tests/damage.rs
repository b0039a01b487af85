//! Files that are damaged, cut off, missing or somebody else's: the cache opens and serves what is right or nothing.

use std::{fs, path::PathBuf};

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

use super::*;

const ROUTES: u64 = 300;

/// A folder with a cache that was closed well.
async fn closed_cache() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(on_disk(dir.path(), 1)).await;
    for id in 1..=ROUTES {
        cache.put(device(id), route(id));
    }
    cache.close().await;
    dir
}

/// Opens what is there and says how many routes are served. None may be wrong, and the cache must be good for new
/// ones.
async fn served_rightly(dir: &Path) -> usize {
    let cache = open(on_disk(dir, 1)).await;
    let served = served(&cache, 1..ROUTES + 1).await;
    for (id, found) in &served {
        assert_eq!(*found, route(*id), "a wrong route of device {id}");
    }
    for id in ROUTES + 1..=ROUTES + 10 {
        cache.put(device(id), route(id));
        assert_eq!(cache.get(device(id)).await, Some(route(id)));
    }
    cache.close().await;
    let again = open(on_disk(dir, 1)).await;
    assert_eq!(super::served(&again, ROUTES + 1..ROUTES + 11).await.len(), 10);
    again.close().await;
    served.len()
}

/// foyer's files, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(dir.join("entries")).unwrap();
    let mut files: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn an_undamaged_cache_serves_all() {
    let dir = closed_cache().await;
    assert_eq!(served_rightly(dir.path()).await, ROUTES as usize);
}

#[tokio::test]
async fn a_cache_without_its_ledger_is_thrown_away() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("foreign", |path| fs::write(path, "this is no ledger".repeat(100)).unwrap()),
        ("cut off", |path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }),
        ("damaged", |path| {
            let mut ledger = fs::read(path).unwrap();
            let middle = ledger.len() / 2;
            ledger[middle] ^= 1;
            fs::write(path, ledger).unwrap();
        }),
        ("a folder", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
            fs::write(path.join("file"), "").unwrap();
        }),
    ];
    for (name, damage) in damages {
        let dir = closed_cache().await;
        damage(&dir.path().join("ledger"));
        assert_eq!(served_rightly(dir.path()).await, 0, "{name}");
    }
}

#[tokio::test]
async fn a_cache_of_another_size_is_thrown_away() {
    let dir = closed_cache().await;
    let mut settings = on_disk(dir.path(), 1);
    settings.disk.as_mut().unwrap().bytes *= 2;
    let cache = open(settings).await;
    assert_eq!(served(&cache, 1..ROUTES + 1).await, []);
}

#[tokio::test]
async fn foyers_files_may_be_missing_empty_or_foreign() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("all missing", |dir| fs::remove_dir_all(dir.join("entries")).unwrap()),
        ("a file in their place", |dir| {
            fs::remove_dir_all(dir.join("entries")).unwrap();
            fs::write(dir.join("entries"), "not a folder").unwrap();
        }),
        ("one of two missing", |dir| {
            files(dir).iter().step_by(2).for_each(|file| fs::remove_file(file).unwrap());
        }),
        ("empty", |dir| files(dir).iter().for_each(|file| fs::write(file, "").unwrap())),
        ("folders in their place", |dir| {
            for file in files(dir) {
                fs::remove_file(&file).unwrap();
                fs::create_dir(&file).unwrap();
            }
        }),
    ];
    for (name, damage) in damages {
        let dir = closed_cache().await;
        damage(dir.path());
        let served = served_rightly(dir.path()).await;
        assert!(served < ROUTES as usize, "{name}: {served} are served");
    }
}

#[tokio::test]
async fn no_damage_of_foyers_files_makes_a_wrong_route() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut served = 0;
    for _ in 0..30 {
        let dir = closed_cache().await;
        for file in files(dir.path()) {
            let mut content = fs::read(&file).unwrap();
            // Where something is written, and just behind it.
            let used = content.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 4_096;
            let used = used.min(content.len());
            match random.random_range(0..4) {
                0 => {}
                // Single bits.
                1 => {
                    for _ in 0..random.random_range(1..200) {
                        content[random.random_range(0..used)] ^= 1 << random.random_range(0..8);
                    }
                }
                // A stretch of rubbish.
                2 => {
                    let from = random.random_range(0..used);
                    let to = random.random_range(from..used);
                    random.fill_bytes(&mut content[from..to]);
                }
                // The file's end.
                _ => content.truncate(random.random_range(0..used)),
            }
            fs::write(&file, content).unwrap();
        }
        served += served_rightly(dir.path()).await;
    }
    // Some of it survives, so the damage was seen by those who read.
    assert!(served > 0, "everything was thrown away");
}

#[tokio::test]
async fn what_else_lies_in_the_folder_is_left_alone() {
    let dir = closed_cache().await;
    let theirs = dir.path().join("somebody's.txt");
    fs::write(&theirs, "keep me").unwrap();
    fs::remove_file(dir.path().join("ledger")).unwrap();
    open(on_disk(dir.path(), 1)).await.close().await;
    assert_eq!(fs::read_to_string(theirs).unwrap(), "keep me");
}
