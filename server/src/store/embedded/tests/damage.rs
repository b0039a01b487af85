//! Damage is noticed and said; a torn end isn't damage.

use std::io::{Seek, SeekFrom, Write};

use super::*;

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().write(true).open(path).expect("the file");
    file.seek(SeekFrom::Start(offset)).expect("the offset");
    file.write_all(bytes).expect("a write");
}

/// A closed store with 100 commits in the log and none in the tree.
async fn closed_store(settings: EmbeddedSettings) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path(), settings).expect("a store");
    for number in 0..100 {
        put(&store, number).await;
    }
    dir
}

fn refused(dir: &Path, settings: EmbeddedSettings) -> String {
    match EmbeddedStore::open(dir, settings) {
        Err(error @ OpenError::Damaged { .. }) => error.to_string(),
        other => panic!("damage went unnoticed: {other:?}"),
    }
}

#[tokio::test]
async fn a_zeroed_page_in_the_log_is_noticed() {
    // The last frames fill less than these pages, so each is in the middle.
    for page in 0..8 {
        let dir = closed_store(no_checkpoint()).await;
        overwrite(&log::segment_path(dir.path(), 1), page * 4096, &[0; 4096]);
        let error = refused(dir.path(), no_checkpoint());
        assert!(error.contains("acknowledged commits"), "page {page}: {error}");
    }
}

#[tokio::test]
async fn one_changed_bit_anywhere_in_the_log_is_noticed() {
    let dir = closed_store(no_checkpoint()).await;
    let path = log::segment_path(dir.path(), 1);
    let good = fs::read(&path).expect("the log");
    // The closing frame is all header, and its loss is the loss of nothing.
    let end = good.iter().rposition(|&byte| byte != 0).expect("a used log") - 24;
    for offset in (0..end).step_by(997) {
        overwrite(&path, offset as u64, &[good[offset] ^ 0x10]);
        refused(dir.path(), no_checkpoint());
        overwrite(&path, offset as u64, &good[offset..=offset]);
    }
    EmbeddedStore::open(dir.path(), no_checkpoint()).expect("the repaired store");
}

#[tokio::test]
async fn a_torn_end_is_dropped_and_the_store_goes_on() {
    let dir = closed_store(no_checkpoint()).await;
    let path = log::segment_path(dir.path(), 1);
    let good = fs::read(&path).expect("the log");
    let end = good.iter().rposition(|&byte| byte != 0).expect("a used log") + 1;
    // The start of a frame that was being written when the power went.
    let torn: Vec<u8> = good[..200].to_vec();
    overwrite(&path, end as u64 + 8, &torn);
    for round in 0..3 {
        let store = EmbeddedStore::open(dir.path(), no_checkpoint()).expect("the store");
        assert_eq!(count(&store).await.expect("a read"), 100 + round);
        put(&store, 200 + u32::try_from(round).expect("small")).await;
    }
}

#[tokio::test]
async fn a_missing_file_is_noticed() {
    let small = EmbeddedSettings { segment_bytes: 8 << 10, ..no_checkpoint() };
    for segment in 1..=3 {
        let dir = closed_store(small.clone()).await;
        fs::remove_file(log::segment_path(dir.path(), segment)).expect("a log file");
        let error = refused(dir.path(), small.clone());
        assert!(error.contains("missing"), "{error}");
    }
    let dir = closed_store(small.clone()).await;
    fs::remove_file(dir.path().join("tree.redb")).expect("the tree");
    assert!(refused(dir.path(), small).contains("missing"));
}

#[tokio::test]
async fn damage_in_the_tree_is_noticed() {
    let settings = EmbeddedSettings { step_keys: 1_000, ..tiny() };
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path(), settings.clone()).expect("a store");
    for number in 0..300 {
        put(&store, number).await;
    }
    drop(store);
    let path = dir.path().join("tree.redb");
    let good = fs::read(&path).expect("the tree");
    let mut noticed = 0;
    for page in 1..good.len() / 4096 {
        let at = page * 4096;
        overwrite(&path, at as u64, &[0; 4096]);
        match EmbeddedStore::open(dir.path(), settings.clone()) {
            Err(OpenError::Damaged { .. }) => noticed += 1,
            Err(other) => panic!("page {page}: {other}"),
            Ok(store) => match count(&store).await {
                Err(ReadError::Corrupt(_)) => noticed += 1,
                // The page was free, or held what only writing needs.
                Ok(300) => {}
                other => panic!("page {page}: {other:?}"),
            },
        }
        fs::write(&path, &good).expect("the repair");
    }
    assert!(noticed >= 10, "only {noticed} damaged pages were noticed");
}
