//! What every [`Store`] must do, as a suite that any backend runs.
//!
//! A backend implements [`Backend`] and calls [`run_all`] in a test on a multi-threaded tokio
//! runtime. Each part starts from an empty store. Failures panic, as tests do; a failing random
//! sequence prints the seed that repeats it.

mod model;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use super::{CommitError, Condition, Mutation, Pair, Scan, Store, Transaction, prefix_end};

/// How the suite gets a store.
pub trait Backend: Sync {
    /// The store under test.
    type Store: Store;

    /// Opens an empty store that shares nothing with the others.
    fn fresh(&self) -> impl Future<Output = Self::Store> + Send;

    /// Closes a store and opens it again with what it holds; a backend that keeps nothing
    /// across a reopen returns the store as it is.
    fn reopen(&self, store: Self::Store) -> impl Future<Output = Self::Store> + Send;

    /// Whether commits that are begun one after the other, without waiting, take effect in that order. The trait
    /// doesn't ask for it; where it is so, the suite looks.
    fn keeps_order(&self) -> bool {
        true
    }
}

/// How much the random part does.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Random sequences; each opens a fresh store.
    pub sequences: u64,
    /// Operations of each sequence.
    pub operations: u64,
    /// The first seed; sequence `n` uses `seed + n`.
    pub seed: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { sequences: 40, operations: 150, seed: 1 }
    }
}

/// Runs every part of the suite.
///
/// # Panics
///
/// When the backend breaks its contract.
pub async fn run_all<B: Backend>(backend: &B, effort: Effort) {
    puts_are_read_back(backend).await;
    mutations_apply_in_order(backend).await;
    scans_are_ordered_and_bounded(backend).await;
    conditions_decide(backend).await;
    ranges_are_deleted(backend).await;
    large_ranges_are_deleted(backend).await;
    odd_keys_and_values_survive(backend).await;
    one_slot_has_one_winner(backend).await;
    counters_lose_no_increment(backend).await;
    readers_see_whole_transactions(backend).await;
    reopen_keeps_everything(backend).await;
    model::random_sequences_match_a_model(backend, effort).await;
}

fn b(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Mutation {
    Mutation::Put(b(key), b(value))
}

fn transaction(conditions: Vec<Condition>, mutations: Vec<Mutation>) -> Transaction {
    Transaction { conditions, mutations }
}

async fn commit<S: Store>(store: &S, mutations: Vec<Mutation>) {
    store.commit(transaction(vec![], mutations)).await.expect("an unconditional commit");
}

async fn get<S: Store>(store: &S, key: impl AsRef<[u8]>) -> Option<Bytes> {
    store.get(b(key)).await.expect("a read")
}

async fn scan<S: Store>(
    store: &S,
    from: impl AsRef<[u8]>,
    to: impl AsRef<[u8]>,
    limit: usize,
    reverse: bool,
) -> Vec<Pair> {
    let scan = Scan { from: b(from), to: b(to), limit, reverse };
    store.scan(scan).await.expect("a scan")
}

fn keys(pairs: &[Pair]) -> Vec<String> {
    pairs.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
}

async fn puts_are_read_back<B: Backend>(backend: &B) {
    let store = backend.fresh().await;
    assert_eq!(get(&store, "a").await, None);
    commit(&store, vec![put("a", "1")]).await;
    assert_eq!(get(&store, "a").await, Some(b("1")));
    commit(&store, vec![put("a", "2"), put("b", "")]).await;
    assert_eq!(get(&store, "a").await, Some(b("2")));
    assert_eq!(get(&store, "b").await, Some(b("")), "an empty value is a value");
    commit(&store, vec![Mutation::Delete(b("a")), Mutation::Delete(b("never"))]).await;
    assert_eq!(get(&store, "a").await, None);
    commit(&store, vec![]).await;
}

async fn mutations_apply_in_order<B: Backend>(backend: &B) {
    let store = backend.fresh().await;
    let list = vec![
        put("k1", "old"),
        put("k2", "old"),
        Mutation::DeleteRange(b("k"), b("l")),
        put("k2", "new"),
        put("k3", "gone"),
        Mutation::Delete(b("k3")),
        put("k4", "1"),
        put("k4", "2"),
    ];
    commit(&store, list).await;
    let expected = [(b("k2"), b("new")), (b("k4"), b("2"))];
    assert_eq!(scan(&store, "", "z", 10, false).await, expected);
}

async fn scans_are_ordered_and_bounded<B: Backend>(backend: &B) {
    let store = backend.fresh().await;
    for key in ["d", "a", "c", "b", "aa", "e"] {
        commit(&store, vec![put(key, key)]).await;
    }
    let all = scan(&store, "a", "e", 100, false).await;
    assert_eq!(keys(&all), ["a", "aa", "b", "c", "d"], "`to` is exclusive, `from` isn't");
    let all = scan(&store, "a", "e", 100, true).await;
    assert_eq!(keys(&all), ["d", "c", "b", "aa", "a"]);
    assert_eq!(keys(&scan(&store, "a", "e", 2, false).await), ["a", "aa"]);
    assert_eq!(keys(&scan(&store, "a", "e", 2, true).await), ["d", "c"], "the highest");
    assert_eq!(keys(&scan(&store, "ab", "c", 9, false).await), ["b"]);
    assert_eq!(keys(&scan(&store, "ab", "b", 9, true).await), [""; 0]);
    assert_eq!(keys(&scan(&store, "c", "c", 9, false).await), [""; 0], "empty");
    assert_eq!(keys(&scan(&store, "d", "b", 9, false).await), [""; 0], "inverted");
    assert_eq!(keys(&scan(&store, "d", "b", 9, true).await), [""; 0], "inverted");
    let end = prefix_end(b"a").expect("a prefix with an end");
    assert_eq!(keys(&scan(&store, "a", end, 9, false).await), ["a", "aa"]);
}

async fn conditions_decide<B: Backend>(backend: &B) {
    let store = backend.fresh().await;
    commit(&store, vec![put("full", "v")]).await;
    let absent = |key: &str| Condition::Absent(b(key));
    let equals = |key: &str, value: &str| Condition::Equals(b(key), b(value));
    let seen = |key: &str, value: Option<&str>| Condition::Seen(b(key), value.map(b));
    let cases = [
        (vec![absent("free")], None),
        (vec![absent("full")], Some(0)),
        (vec![equals("full", "v")], None),
        (vec![equals("full", "w")], Some(0)),
        (vec![equals("full", "")], Some(0)),
        (vec![equals("free", "")], Some(0)),
        (vec![seen("full", Some("v"))], None),
        (vec![seen("full", Some("w"))], Some(0)),
        (vec![seen("full", None)], Some(0)),
        (vec![seen("free", None)], None),
        (vec![absent("free"), seen("free", Some(""))], Some(1)),
        (vec![absent("free"), equals("full", "v"), absent("full"), absent("full")], Some(2)),
    ];
    for (number, (conditions, conflict)) in cases.into_iter().enumerate() {
        let key = format!("written-{number}");
        let outcome =
            store.commit(transaction(conditions, vec![put(&key, "x"), put("last", "x")])).await;
        let found = match outcome {
            Ok(()) => None,
            Err(CommitError::Conflict { index }) => Some(index),
            Err(other) => panic!("case {number}: {other}"),
        };
        assert_eq!(found, conflict, "case {number}");
        assert_eq!(get(&store, &key).await.is_some(), conflict.is_none(), "case {number}");
    }
    // Conditions see the store before the mutations of their own transaction.
    let own = transaction(vec![absent("own")], vec![put("own", "1")]);
    store.commit(own.clone()).await.expect("the slot was free");
    let again = store.commit(own).await;
    assert!(matches!(again, Err(CommitError::Conflict { index: 0 })), "{again:?}");
}

async fn ranges_are_deleted<B: Backend>(backend: &B) {
    let mut store = backend.fresh().await;
    let fill = || ["a", "b", "b1", "c", "d"].map(|key| put(key, "v")).to_vec();
    let range = |from: &str, to: &str| vec![Mutation::DeleteRange(b(from), b(to))];
    let cases = [
        ("b", "c", vec!["a", "c", "d"]),
        ("b", "b", vec!["a", "b", "b1", "c", "d"]),
        ("d", "a", vec!["a", "b", "b1", "c", "d"]),
        ("", "zz", vec![]),
        ("bb", "bc", vec!["a", "b", "b1", "c", "d"]),
        ("b\0", "d", vec!["a", "b", "d"]),
    ];
    for (from, to, left) in cases {
        commit(&store, fill()).await;
        store = backend.reopen(store).await;
        commit(&store, range(from, to)).await;
        assert_eq!(keys(&scan(&store, "", "zz", 9, false).await), left, "{from:?} to {to:?}");
        let mut reversed = scan(&store, "", "zz", 9, true).await;
        reversed.reverse();
        assert_eq!(keys(&reversed), left, "{from:?} to {to:?}, reverse");
        for key in ["a", "b", "b1", "c", "d"] {
            assert_eq!(get(&store, key).await.is_some(), left.contains(&key), "{key}");
        }
    }
    commit(&store, range("", "zz")).await;
    commit(&store, vec![put("b", "after")]).await;
    assert_eq!(get(&store, "b").await, Some(b("after")), "a deleted range can be filled again");
}

async fn large_ranges_are_deleted<B: Backend>(backend: &B) {
    let store = backend.fresh().await;
    let key = |number: u32| format!("m/{number:05}");
    for group in 0..10 {
        let puts = (group * 1_000..(group + 1) * 1_000).map(|n| put(key(n), "message"));
        commit(&store, puts.collect()).await;
    }
    let store = backend.reopen(store).await;
    commit(&store, vec![Mutation::DeleteRange(b(key(1)), b(key(9_999)))]).await;
    let left = scan(&store, "", "z", 100, false).await;
    assert_eq!(keys(&left), [key(0), key(9_999)]);
    let store = backend.reopen(store).await;
    assert_eq!(scan(&store, "", "z", 100, true).await.len(), 2);
}

async fn odd_keys_and_values_survive<B: Backend>(backend: &B) {
    let store = backend.fresh().await;
    let large = vec![0xabu8; 200_000];
    let cases: Vec<(Vec<u8>, Vec<u8>)> = vec![
        (vec![0], vec![0]),
        (vec![0, 0], vec![0; 9]),
        (vec![0xff; 40], b"high".to_vec()),
        (vec![0xff; 41], b"higher".to_vec()),
        (b"large".to_vec(), large),
        ((0..=255).collect(), b"every byte".to_vec()),
    ];
    for (key, value) in &cases {
        commit(&store, vec![put(key, value)]).await;
    }
    let store = backend.reopen(store).await;
    for (key, value) in &cases {
        assert_eq!(get(&store, key).await.as_deref(), Some(value.as_slice()), "{key:?}");
    }
    let found = scan(&store, [0], vec![0xff; 41], 100, false).await;
    let mut expected: Vec<_> = cases.iter().map(|(key, _)| b(key)).collect();
    expected.sort();
    expected.pop();
    assert_eq!(found.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), expected);
}

/// Many transactions of (mostly) the same group commit want the same slot.
async fn one_slot_has_one_winner<B: Backend>(backend: &B) {
    let store = Arc::new(backend.fresh().await);
    for round in 0..20 {
        let slot = format!("slot-{round}");
        let tasks: Vec<_> = (0..16)
            .map(|number: u32| {
                let (store, slot) = (Arc::clone(&store), slot.clone());
                tokio::spawn(async move {
                    let claim = transaction(
                        vec![Condition::Absent(b(&slot))],
                        vec![put(&slot, number.to_string()), put(format!("by-{number}"), &slot)],
                    );
                    store.commit(claim).await
                })
            })
            .collect();
        let mut winners = Vec::new();
        for (number, task) in tasks.into_iter().enumerate() {
            match task.await.expect("the task") {
                Ok(()) => winners.push(number),
                Err(CommitError::Conflict { index: 0 }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        let [winner] = winners.as_slice() else { panic!("{slot} was won by {winners:?}") };
        assert_eq!(get(&*store, &slot).await, Some(b(winner.to_string())));
    }
}

/// Compare-and-set loops: a condition that misses an earlier transaction loses a count. The
/// odd step deletes a range and puts the value back, so that conditions must see range
/// deletes of their own batch too.
async fn counters_lose_no_increment<B: Backend>(backend: &B) {
    const TASKS: u32 = 8;
    const INCREMENTS: u32 = 20;
    let store = Arc::new(backend.fresh().await);
    commit(&*store, vec![put("n/count", "0")]).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for step in 0..INCREMENTS {
                    loop {
                        let old = get(&*store, "n/count").await.expect("the counter");
                        let count: u32 =
                            std::str::from_utf8(&old).expect("text").parse().expect("a number");
                        let mut mutations = vec![put("n/count", (count + 1).to_string())];
                        if step % 2 == 1 {
                            mutations.insert(0, Mutation::DeleteRange(b("n/"), b("n0")));
                        }
                        let swap =
                            transaction(vec![Condition::Equals(b("n/count"), old)], mutations);
                        match store.commit(swap).await {
                            Ok(()) => break,
                            Err(CommitError::Conflict { index: 0 }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task");
    }
    assert_eq!(get(&*store, "n/count").await, Some(b((TASKS * INCREMENTS).to_string())));
}

/// Every transaction writes all keys with one value; a reader that sees two values saw half.
async fn readers_see_whole_transactions<B: Backend>(backend: &B) {
    let store = Arc::new(backend.fresh().await);
    let stop = Arc::new(AtomicBool::new(false));
    let all = |value: &str| -> Vec<Mutation> {
        let mut list = vec![Mutation::DeleteRange(b("w"), b("x"))];
        list.extend((0..20).map(|number| put(format!("w{number:02}"), value)));
        list
    };
    commit(&*store, all("start")).await;
    let readers: Vec<_> = [false, true]
        .map(|reverse| {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let found = scan(&*store, "w", "x", 100, reverse).await;
                    assert_eq!(found.len(), 20);
                    let first = &found[0].1;
                    assert!(found.iter().all(|(_, value)| value == first), "{found:?}");
                    tokio::task::yield_now().await;
                }
            })
        })
        .into_iter()
        .collect();
    for number in 0..100 {
        commit(&*store, all(&number.to_string())).await;
        // What was answered is seen.
        assert_eq!(get(&*store, "w07").await, Some(b(number.to_string())));
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("the reader");
    }
}

async fn reopen_keeps_everything<B: Backend>(backend: &B) {
    let mut store = backend.fresh().await;
    for round in 0..10 {
        for number in 0..30 {
            commit(&store, vec![put(format!("r{round}/{number}"), "v"), put("latest", [round])])
                .await;
        }
        commit(&store, vec![Mutation::DeleteRange(b("r3/"), b("r30"))]).await;
        store = backend.reopen(store).await;
        assert_eq!(get(&store, "latest").await, Some(b([round])));
        let expected = (0..=round).filter(|round| *round != 3).count() * 30;
        assert_eq!(scan(&store, "r", "s", 1_000, false).await.len(), expected);
    }
}
