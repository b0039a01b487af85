//! The suite on the embedded store, and what only it promises.

mod damage;
mod kill;

use std::sync::atomic::AtomicU64;

use super::*;
use crate::store::{
    Condition, Mutation,
    suite::{self, Backend, Effort},
};

/// Everything as small as allowed: checkpoints run all the time, and each takes many steps.
fn tiny() -> EmbeddedSettings {
    EmbeddedSettings {
        layer_bytes: 4 << 10,
        log_bytes: 4 << 10,
        segment_bytes: 4 << 10,
        cache_bytes: 1 << 20,
        step_keys: 3,
        ..EmbeddedSettings::default()
    }
}

/// Nothing reaches the tree.
fn no_checkpoint() -> EmbeddedSettings {
    EmbeddedSettings { segment_bytes: 64 << 10, ..EmbeddedSettings::default() }
}

struct Directories {
    root: tempfile::TempDir,
    settings: EmbeddedSettings,
    count: AtomicU64,
}

impl Directories {
    fn new(settings: EmbeddedSettings) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        Self { root, settings, count: AtomicU64::new(0) }
    }
}

impl Backend for Directories {
    type Store = EmbeddedStore;

    async fn fresh(&self) -> EmbeddedStore {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let dir = self.root.path().join(number.to_string());
        EmbeddedStore::open(&dir, self.settings.clone()).expect("a fresh store")
    }

    async fn reopen(&self, store: EmbeddedStore) -> EmbeddedStore {
        assert_eq!(store.health(), Ok(()));
        let dir = store.dir.clone();
        drop(store);
        EmbeddedStore::open(&dir, self.settings.clone()).expect("the same store")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_while_checkpoints_run() {
    suite::run_all(&Directories::new(tiny()), Effort::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_in_memory_over_the_log() {
    let effort = Effort { sequences: 10, ..Effort::default() };
    suite::run_all(&Directories::new(no_checkpoint()), effort).await;
}

async fn put(store: &EmbeddedStore, number: u32) {
    let key = Bytes::from(format!("k{number:06}"));
    let transaction = Transaction {
        conditions: vec![Condition::Absent(key.clone())],
        mutations: vec![Mutation::Put(key, Bytes::from(vec![7; 300]))],
    };
    store.commit(transaction).await.expect("a commit");
}

async fn count(store: &EmbeddedStore) -> Result<usize, ReadError> {
    let scan = Scan {
        from: Bytes::from_static(b"k"),
        to: Bytes::from_static(b"l"),
        limit: usize::MAX,
        reverse: false,
    };
    Ok(store.scan(scan).await?.len())
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let _store = EmbeddedStore::open(dir.path(), tiny()).expect("a store");
    let second = EmbeddedStore::open(dir.path(), tiny());
    assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
}

#[test]
fn settings_have_bounds() {
    let settings = EmbeddedSettings { batch_bytes: 1, ..EmbeddedSettings::default() };
    let error = settings.check().expect_err("a setting out of bounds");
    assert!(error.to_string().contains("batch_bytes"), "{error}");
    EmbeddedSettings::default().check().expect("the defaults");
}

#[tokio::test]
async fn a_poisoned_store_answers_nothing_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path(), tiny()).expect("a store");
    put(&store, 1).await;
    store.shared.poison("the disk is gone".into());
    assert_eq!(store.health(), Err("the disk is gone".into()));
    let refused = store.commit(Transaction::default()).await;
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    let read = store.get(Bytes::from_static(b"k000001")).await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "{read:?}");
    drop(store);
    let store = EmbeddedStore::open(dir.path(), tiny()).expect("the same store");
    assert_eq!(count(&store).await.expect("a read"), 1);
}

#[tokio::test]
async fn a_huge_transaction_is_refused_and_a_large_one_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path(), tiny()).expect("a store");
    let of = |bytes: usize| Transaction {
        conditions: vec![],
        mutations: vec![Mutation::Put(Bytes::from_static(b"k"), vec![1; bytes].into())],
    };
    let refused = store.commit(of(MAX_TRANSACTION_BYTES)).await;
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    store.commit(of(3 << 20)).await.expect("a transaction larger than a log file");
    put(&store, 1).await;
    drop(store);
    let store = EmbeddedStore::open(dir.path(), tiny()).expect("the same store");
    assert_eq!(count(&store).await.expect("a read"), 2);
}

/// Log files are used again; what they held before must never come back.
#[tokio::test]
async fn log_files_are_used_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut highest = 0;
    for round in 0..4 {
        let store = EmbeddedStore::open(dir.path(), tiny()).expect("a store");
        assert_eq!(count(&store).await.expect("a read"), usize::from(round > 0) * 50);
        for number in 0..200 {
            let key = Bytes::from(format!("k{:06}", number % 50));
            let mutations = vec![
                Mutation::DeleteRange(key.clone(), Bytes::from_static(b"k9")),
                Mutation::Put(key, Bytes::from(format!("round {round}, {number}"))),
            ];
            let conditions = Vec::new();
            store.commit(Transaction { conditions, mutations }).await.expect("a commit");
        }
        drop(store);
        let segments = log::list(dir.path()).expect("the log files");
        // What a checkpoint retires and what stands ready, not a file for each number.
        assert!(segments.len() <= 12, "{segments:?}");
        let last = segments.last().expect("a log file").0;
        assert!(last > highest + 4, "the log didn't move on: {segments:?}");
        highest = last;
    }
}

/// What is deleted takes no disk after the next start.
#[tokio::test]
async fn a_tree_that_is_mostly_empty_gets_shorter() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = EmbeddedSettings {
        layer_bytes: 1 << 20,
        log_bytes: 1 << 20,
        segment_bytes: 1 << 20,
        ..EmbeddedSettings::default()
    };
    let open = || EmbeddedStore::open(dir.path(), settings.clone()).expect("a store");
    let commit = async |store: &EmbeddedStore, mutation| {
        let transaction = Transaction { conditions: Vec::new(), mutations: vec![mutation] };
        store.commit(transaction).await.expect("a commit");
    };
    let value = Bytes::from(vec![7; 64 << 10]);
    let tree_bytes = || dir.path().join("tree.redb").metadata().expect("the tree").len();

    let mut store = open();
    let mut number = 0;
    while tree_bytes() < 2 * base::SPARE_BYTES {
        let key = Bytes::from(format!("m{number:06}"));
        commit(&store, Mutation::Put(key, value.clone())).await;
        number += 1;
    }
    let all = Mutation::DeleteRange(Bytes::from_static(b"m"), Bytes::from_static(b"n"));
    commit(&store, all).await;
    let kept = Bytes::from_static(b"z");
    // A checkpoint begins when so much was written, and it may be cut short by the end.
    for _ in 0..20 {
        for _ in 0..64 {
            commit(&store, Mutation::Put(kept.clone(), value.clone())).await;
        }
        drop(store);
        store = open();
        if tree_bytes() < base::SPARE_BYTES / 8 {
            break;
        }
    }
    assert!(tree_bytes() < base::SPARE_BYTES / 8, "{} bytes", tree_bytes());
    assert_eq!(store.get(kept).await.expect("a read"), Some(value));
}
