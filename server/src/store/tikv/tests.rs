//! The store's suite on the test server, and what only this backend promises.

mod faults;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use tern_tikv_test_server::{Fate, Method, Options, Planted, TestServer};

use super::*;
use crate::store::{
    Condition, Mutation,
    suite::{self, Backend, Effort},
};

/// Prefixes of one cluster that share nothing.
struct Prefixes {
    pd: Vec<String>,
    base: String,
    give_up_after_ms: u64,
    count: AtomicU64,
}

impl Prefixes {
    fn of(server: &TestServer, give_up_after_ms: u64) -> Self {
        let pd = vec![server.pd_address().to_string()];
        Self { pd, base: "tern-".to_owned(), give_up_after_ms, count: AtomicU64::new(0) }
    }

    async fn open(&self, number: u64) -> TikvStore {
        let settings = TikvSettings {
            pd: self.pd.clone(),
            key_prefix: format!("{}{number:04}/", self.base).into(),
            give_up_after_ms: self.give_up_after_ms,
            ..defaults()
        };
        TikvStore::connect(settings, Random::seeded(number)).await.expect("the cluster")
    }
}

impl Backend for Prefixes {
    type Store = TikvStore;

    async fn fresh(&self) -> TikvStore {
        self.open(self.count.fetch_add(1, Ordering::Relaxed)).await
    }

    async fn reopen(&self, store: TikvStore) -> TikvStore {
        let prefix = store.cluster.settings().key_prefix.clone();
        drop(store);
        let number = &prefix[self.base.len()..self.base.len() + 4];
        let number = std::str::from_utf8(number).expect("digits").parse().expect("a number");
        self.open(number).await
    }

    fn keeps_order(&self) -> bool {
        false
    }
}

fn defaults() -> TikvSettings {
    TikvSettings {
        pd: Vec::new(),
        key_prefix: Bytes::new(),
        tls: None,
        request_timeout_ms: 1_000,
        give_up_after_ms: 20_000,
    }
}

fn settings(server: &TestServer, prefix: &str) -> TikvSettings {
    TikvSettings {
        pd: vec![server.pd_address().to_string()],
        key_prefix: Bytes::copy_from_slice(prefix.as_bytes()),
        ..defaults()
    }
}

async fn open(server: &TestServer) -> TikvStore {
    TikvStore::connect(settings(server, "t/"), Random::seeded(1)).await.expect("the test server")
}

fn b(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

fn put(key: &str, value: &str) -> Mutation {
    Mutation::Put(b(key), b(value))
}

async fn commit(store: &TikvStore, conditions: Vec<Condition>, mutations: Vec<Mutation>) {
    store.commit(Transaction { conditions, mutations }).await.expect("a commit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes() {
    let server = TestServer::start(Options::default()).expect("a test server");
    for number in (0..24).step_by(3) {
        server.split(format!("tern-{number:04}/b").as_bytes()).expect("a split");
    }
    let effort = Effort { sequences: 12, ..Effort::default() };
    suite::run_all(&Prefixes::of(&server, 20_000), effort).await;
}

/// On a cluster that isn't ours: `TERN_TIKV_PD` has the addresses of its placement drivers. Leaves keys behind, under a
/// prefix that no other run has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_on_the_cluster_that_is_named() {
    let Ok(pd) = std::env::var("TERN_TIKV_PD") else { return };
    let prefixes = Prefixes {
        pd: pd.split(',').map(|address| address.trim().to_owned()).collect(),
        base: format!("tern-test-{:016x}-", Random::system().id()),
        give_up_after_ms: 60_000,
        count: AtomicU64::new(0),
    };
    suite::run_all(&prefixes, Effort::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_keep_deployments_apart() {
    let server = TestServer::start(Options::default()).expect("a test server");
    let prefixes = Prefixes::of(&server, 20_000);
    let (one, other) = (prefixes.fresh().await, prefixes.fresh().await);
    commit(&one, vec![], vec![put("k", "one")]).await;
    commit(&other, vec![Condition::Absent(b("k"))], vec![put("k", "other")]).await;
    assert_eq!(one.get(b("k")).await.expect("a read"), Some(b("one")));
    let everything = Scan { from: b(""), to: b([0xff]), limit: 10, reverse: true };
    assert_eq!(other.scan(everything).await.expect("a scan"), [(b("k"), b("other"))]);
}

/// The table at the head of the module.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_cost_what_is_said() {
    let server = TestServer::start(Options::default()).expect("a test server");
    let store = open(&server).await;
    commit(&store, vec![], vec![put("a", "1")]).await;
    let counted = async |what: &str, expected: &[(Method, u64)], act: &dyn Fn() -> Vec<_>| {
        let before = server.counts();
        let (conditions, mutations): (Vec<_>, Vec<_>) =
            act().into_iter().unzip::<Option<Condition>, Option<Mutation>, Vec<_>, Vec<_>>();
        let (conditions, mutations) =
            (conditions.into_iter().flatten().collect(), mutations.into_iter().flatten().collect());
        commit(&store, conditions, mutations).await;
        let cost = server.counts().since(&before);
        for method in [Method::Tso, Method::KvBatchGet, Method::KvScan, Method::KvPrewrite] {
            let of_method = expected.iter().find(|(named, _)| *named == method);
            assert_eq!(
                cost.calls(method),
                of_method.map_or(0, |(_, calls)| *calls),
                "{what}: {method:?}"
            );
        }
    };
    let one_phase = [(Method::Tso, 1), (Method::KvPrewrite, 1)];
    counted("a put", &one_phase, &|| vec![(None, Some(put("b", "1")))]).await;
    let with_condition = [one_phase[0], one_phase[1], (Method::KvBatchGet, 1)];
    counted("a condition", &with_condition, &|| {
        vec![(Some(Condition::Equals(b("a"), b("1"))), Some(put("a", "1")))]
    })
    .await;
    let with_range = [one_phase[0], one_phase[1], (Method::KvScan, 1)];
    counted("a range", &with_range, &|| vec![(None, Some(Mutation::DeleteRange(b("a"), b("c"))))])
        .await;

    let before = server.counts();
    assert_eq!(store.get(b("a")).await.expect("a read"), None);
    let cost = server.counts().since(&before);
    assert_eq!((cost.calls(Method::Tso), cost.calls(Method::KvGet)), (1, 1));

    server.split(b"t/m").expect("a split");
    commit(&store, vec![], vec![put("b", "2"), put("z", "2")]).await;
    let before = server.counts();
    commit(&store, vec![], vec![put("b", "3"), put("z", "3")]).await;
    let cost = server.counts().since(&before);
    let waited = (cost.calls(Method::Tso), cost.calls(Method::KvPrewrite));
    assert_eq!(waited, (2, 2), "two regions take two phases");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_process_has_locked_is_in_the_way_for_a_while_and_not_for_ever() {
    let server = TestServer::start(Options::default()).expect("a test server");
    let store = open(&server).await;
    for key in ["read", "scanned", "written"] {
        commit(&store, vec![], vec![put(key, "1")]).await;
        // Its first key was never locked, and readers find nothing by which to judge it.
        let planted = Planted {
            writes: vec![(b("t/first"), Some(b("2"))), (b(format!("t/{key}")), Some(b("2")))],
            ttl: Duration::from_secs(1),
            fate: Fate::PrimaryMissing,
        };
        server.plant(&planted).expect("a running server");
    }
    assert_eq!(store.get(b("read")).await.expect("a read"), Some(b("1")));
    let scan = Scan { from: b("s"), to: b("t"), limit: 10, reverse: false };
    assert_eq!(store.scan(scan).await.expect("a scan"), [(b("scanned"), b("1"))]);
    let condition = Condition::Equals(b("written"), b("1"));
    commit(&store, vec![condition], vec![put("written", "3")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_versions_and_locks_are_collected() {
    let server = TestServer::start(Options::default()).expect("a test server");
    let store = open(&server).await;
    for n in 0..5 {
        commit(&store, vec![], vec![put("a", &n.to_string())]).await;
    }
    server.advance_clock(Duration::from_secs(60)).expect("a running server");
    store.collect_garbage(Duration::from_secs(30)).await.expect("a collection");
    assert_eq!(store.get(b("a")).await.expect("a read"), Some(b("4")));
    // What was begun later than the point goes on.
    commit(&store, vec![Condition::Equals(b("a"), b("4"))], vec![put("a", "5")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_not_there_is_told() {
    let mut server = TestServer::start(Options::default()).expect("a test server");
    let mut settings = settings(&server, "t/");
    settings.give_up_after_ms = 300;
    server.stop();
    let error =
        TikvStore::connect(settings, Random::seeded(1)).await.err().expect("nobody is there");
    assert!(error.to_string().contains(&server.pd_address().to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_may_go_and_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { folder: Some(folder.path().to_owned()), ..Options::default() };
    let mut server = TestServer::start(options).expect("a test server");
    let store = open(&server).await;
    commit(&store, vec![], vec![put("a", "1")]).await;
    server.stop();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.get(b("a")).await }
    });
    server.start_again().expect("the same addresses");
    assert_eq!(waiting.await.expect("the task").expect("a read"), Some(b("1")));
    commit(&store, vec![Condition::Equals(b("a"), b("1"))], vec![put("a", "2")]).await;

    // A stream of time-stamps that is open and silent costs its connection, and not the store.
    server.silence_oracle(true).expect("a running server");
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.get(b("a")).await }
    });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    server.silence_oracle(false).expect("a running server");
    assert_eq!(waiting.await.expect("the task").expect("a read"), Some(b("2")));
}
