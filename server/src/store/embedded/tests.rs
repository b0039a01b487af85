//! The suite on the embedded store, and what only it promises: kill -9 and damage.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::AtomicU64,
};

use super::*;
use crate::store::{
    Condition, Mutation,
    suite::{self, Backend, Effort},
};

/// Names the directory for the process that is to be killed.
const VICTIM_DIR: &str = "TERN_TEST_VICTIM_DIR";

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

/// Values that one transaction of the victim writes.
const VICTIM_KEYS: u32 = 5;

/// Not a test of its own: the process that `acknowledged_commits_survive_kill_9` kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in a process of its own, to be killed"]
async fn victim() {
    let Some(dir) = std::env::var_os(VICTIM_DIR) else {
        return;
    };
    let store = Arc::new(EmbeddedStore::open(dir.as_ref(), tiny()).expect("the victim's store"));
    let start = victim_end(&store).await;
    // Eight writers, so that group commits hold several transactions.
    let next = Arc::new(AtomicU64::new(u64::from(start)));
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (store, next) = (Arc::clone(&store), Arc::clone(&next));
            tokio::spawn(async move {
                // More than it lives to do.
                for _ in 0..1_000_000 {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let transaction = victim_transaction(u32::try_from(number).expect("few"));
                    store.commit(transaction).await.expect("a commit of the victim");
                    let mut out = std::io::stdout().lock();
                    // One write per line, so that a kill leaves no half line that parses.
                    let line = format!("acknowledged {number}.\n");
                    out.write_all(line.as_bytes()).expect("a pipe");
                    out.flush().expect("a pipe");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
}

fn victim_transaction(number: u32) -> Transaction {
    let key = |part: u32| Bytes::from(format!("{part}/{number:08}"));
    let mut mutations: Vec<_> = (0..VICTIM_KEYS)
        .map(|part| Mutation::Put(key(part), Bytes::from(vec![number as u8; 100])))
        .collect();
    mutations.push(Mutation::Put(Bytes::from(format!("temporary/{number:08}")), Bytes::new()));
    mutations.push(Mutation::DeleteRange(Bytes::from_static(b"t"), Bytes::from_static(b"u")));
    Transaction { conditions: vec![Condition::Absent(key(0))], mutations }
}

async fn victim_keys(store: &EmbeddedStore, part: u32) -> Vec<u32> {
    let scan = Scan {
        from: Bytes::from(format!("{part}/")),
        to: Bytes::from(format!("{part}0")),
        limit: usize::MAX,
        reverse: false,
    };
    let pairs = store.scan(scan).await.expect("a scan");
    let number = |key: &[u8]| std::str::from_utf8(&key[2..]).ok()?.parse().ok();
    pairs.iter().map(|(key, _)| number(key).expect("a number")).collect()
}

/// The number after the highest that the victim has committed.
async fn victim_end(store: &EmbeddedStore) -> u32 {
    victim_keys(store, 0).await.last().map_or(0, |last| last + 1)
}

#[tokio::test]
async fn acknowledged_commits_survive_kill_9() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut acknowledged = Vec::new();
    // The kill comes after so many acknowledgements: the moment depends on them and not on
    // a clock, and is another one in each round.
    for kill_after in [1, 40, 7, 150, 333, 90, 500, 3] {
        let mut victim = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "--ignored", "--nocapture", "store::embedded::tests::victim"])
            .env(VICTIM_DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the victim");
        let mut lines = BufReader::new(victim.stdout.take().expect("its output"));
        let mut seen = 0;
        let mut line = String::new();
        while seen < kill_after {
            line.clear();
            assert_ne!(lines.read_line(&mut line).expect("a line"), 0, "the victim gave up");
            seen += note(&line, &mut acknowledged);
        }
        victim.kill().expect("SIGKILL");
        let mut rest = String::new();
        lines.read_to_string(&mut rest).expect("what it still said");
        for line in rest.lines() {
            note(line, &mut acknowledged);
        }
        victim.wait().expect("its end");

        let store = EmbeddedStore::open(dir.path(), tiny()).expect("the store after the kill");
        let found = victim_keys(&store, 0).await;
        for number in &acknowledged {
            assert!(found.binary_search(number).is_ok(), "{number} was acknowledged and lost");
        }
        for part in 1..VICTIM_KEYS {
            assert_eq!(victim_keys(&store, part).await, found, "a transaction is not whole");
        }
        assert_eq!(count_range(&store, "t", "u").await, 0, "a range delete is not whole");
    }
}

async fn count_range(store: &EmbeddedStore, from: &'static str, to: &'static str) -> usize {
    let (from, to) = (Bytes::from_static(from.as_bytes()), Bytes::from_static(to.as_bytes()));
    let scan = Scan { from, to, limit: usize::MAX, reverse: false };
    store.scan(scan).await.expect("a scan").len()
}

/// Collects the number of an acknowledgement; returns how many there were.
fn note(line: &str, acknowledged: &mut Vec<u32>) -> usize {
    // The test harness writes on the same pipe, so the line may start with its words.
    let number: Option<u32> = line
        .trim_end()
        .split_once("acknowledged ")
        .and_then(|(_, number)| number.strip_suffix('.')?.parse().ok());
    acknowledged.extend(number);
    usize::from(number.is_some())
}
