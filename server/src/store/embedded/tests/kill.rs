//! Acknowledged commits survive kill -9, and every transaction is whole.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
};

use super::*;

/// Names the directory for the process that is to be killed.
const VICTIM_DIR: &str = "TERN_TEST_VICTIM_DIR";

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
            .args(["--exact", "--ignored", "--nocapture", "store::embedded::tests::kill::victim"])
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
