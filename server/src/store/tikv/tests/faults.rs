//! Clusters that fail: nothing is lost, and nothing happens twice.

use tern_tikv_test_server::{Effect, Fate, Loss, Planted, Rule};

use super::*;

/// Adds one to a counter, as domain code would: what became of an unknown outcome is read back, which the
/// counter's own value tells as long as nobody else counts.
async fn count_up(store: &TikvStore, from: u32) -> u32 {
    let (old, new) = (from.to_string(), (from + 1).to_string());
    commit(store, vec![Condition::Equals(b("n"), b(old))], vec![put("n", &new), put("z", &new)])
        .await;
    from + 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_a_commit_is_got_over() {
    let server = TestServer::start(Options::default()).expect("a test server");
    let late = Duration::from_millis(700);
    let lost = [Loss::Unavailable, Loss::Hang];
    let mut effects = vec![
        Effect::NotLeader,
        Effect::EpochNotMatch,
        Effect::Split,
        Effect::Merge,
        Effect::ServerIsBusy,
        Effect::WriteConflict,
        Effect::Disconnect,
        Effect::DelayRequest(late),
        Effect::DelayReply(late),
    ];
    effects.extend(lost.map(Effect::LoseRequest));
    effects.extend(lost.map(Effect::LoseReply));
    effects.extend(lost.map(|loss| Effect::ApplyLate { after: late, loss }));
    // In one region, and then in two, which takes two phases.
    for regions in 1..=2 {
        let store = Prefixes::of(&server, 30_000).open(regions).await;
        if regions == 2 {
            server.split(b"tern-0002/p").expect("a split");
        }
        commit(&store, vec![], vec![put("n", "0"), put("z", "0")]).await;
        let mut count = 0;
        for effect in &effects {
            for method in [Method::KvPrewrite, Method::KvCommit, Method::KvBatchGet, Method::Tso] {
                server.fault(Rule::on(method, effect.clone()).next(1));
                count = count_up(&store, count).await;
                server.clear_faults();
                let all = Scan { from: b("a"), to: b("zz"), limit: 10, reverse: false };
                let stored = store.scan(all).await.expect("a scan");
                let value = b(count.to_string());
                assert_eq!(
                    stored,
                    [(b("n"), value.clone()), (b("z"), value)],
                    "{effect:?} {method:?}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_late_changes_nothing_any_more() {
    let server = TestServer::start(Options::default()).expect("a test server");
    let store = open(&server).await;
    commit(&store, vec![], vec![put("n", "0"), put("z", "0")]).await;
    let after = Duration::from_millis(400);
    let effect = Effect::ApplyLate { after, loss: Loss::Unavailable };
    server.fault(Rule::on(Method::KvPrewrite, effect).next(1));
    // Without a condition nothing tells whether it happened when others have written since; here nobody has.
    count_up(&store, 0).await;
    commit(&store, vec![], vec![put("n", "others")]).await;
    tokio::time::sleep(2 * after).await;
    assert_eq!(store.get(b("n")).await.expect("a read"), Some(b("others")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_at_once() {
    let server = TestServer::start(Options::default()).expect("a test server");
    let store = open(&server).await;
    server.limit_raft_entries(Some(1_000)).expect("a running server");
    let large = Transaction { conditions: vec![], mutations: vec![put("k", &"x".repeat(2_000))] };
    let refused = store.commit(large).await;
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    assert_eq!(store.get(b("k")).await.expect("a read"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_of_a_dead_node_are_taken_away() {
    let server = TestServer::start(Options::default()).expect("a test server");
    let store = open(&server).await;
    for fate in [Fate::Prewritten, Fate::PrimaryCommitted] {
        commit(&store, vec![], vec![put("n", "0"), put("z", "0")]).await;
        let writes = ["t/n", "t/z"].map(|key| (b(key), Some(b("dead"))));
        let ttl = Duration::from_secs(3);
        server.plant(&Planted { writes: writes.to_vec(), ttl, fate }).expect("free keys");
        server.advance_clock(2 * ttl).expect("a running server");
        let expected = if fate == Fate::Prewritten { "0" } else { "dead" };
        for key in ["z", "n"] {
            assert_eq!(store.get(b(key)).await.expect("a read"), Some(b(expected)), "{fate:?}");
        }
        commit(&store, vec![Condition::Equals(b("z"), b(expected))], vec![put("n", "1")]).await;
    }
}

/// Money moves between accounts while anything fails; the sum stays, and every transfer that was acknowledged is in
/// the accounts' own counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_add_up_whatever_fails() {
    const ACCOUNTS: u64 = 4;
    const TRANSFERS: u64 = 25;
    let seed = 7;
    let server = TestServer::start(Options::default()).expect("a test server");
    let store = Prefixes::of(&server, 60_000).open(0).await;
    let accounts: Vec<_> = (0..ACCOUNTS).map(|n| put(&format!("a{n}"), "100")).collect();
    commit(&store, vec![], accounts).await;
    // Within one region. In two, a prewrite whose first part is lost leaves a lock that the client's readers can't
    // judge, and that stays until old versions are collected, which nobody does yet.
    server.seed_faults(seed);
    let late = Duration::from_millis(50);
    for effect in [
        Effect::NotLeader,
        Effect::ServerIsBusy,
        Effect::WriteConflict,
        Effect::DelayReply(late),
        Effect::LoseRequest(Loss::Unavailable),
        Effect::LoseReply(Loss::Unavailable),
        Effect::ApplyLate { after: late, loss: Loss::Unavailable },
    ] {
        server.fault(Rule::on_any(effect).probability(0.03));
    }
    let tasks: Vec<_> = (0..3_u64)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut unknown = 0_u64;
                for step in 0..TRANSFERS {
                    loop {
                        let (from, to) =
                            ((task + step) % ACCOUNTS, (task + 2 * step + 1) % ACCOUNTS);
                        if from == to {
                            break;
                        }
                        let keys = [from, to].map(|n| b(format!("a{n}")));
                        let mut held = Vec::new();
                        for key in &keys {
                            let value =
                                store.get(key.clone()).await.expect("a read").expect("an account");
                            held.push(value);
                        }
                        let amount = |value: &Bytes| -> i64 {
                            std::str::from_utf8(value).expect("text").parse().expect("a number")
                        };
                        let id = format!("done/{task}/{step}");
                        let transaction = Transaction {
                            conditions: vec![
                                Condition::Equals(keys[0].clone(), held[0].clone()),
                                Condition::Equals(keys[1].clone(), held[1].clone()),
                                Condition::Absent(b(&id)),
                            ],
                            mutations: vec![
                                Mutation::Put(
                                    keys[0].clone(),
                                    b((amount(&held[0]) - 1).to_string()),
                                ),
                                Mutation::Put(
                                    keys[1].clone(),
                                    b((amount(&held[1]) + 1).to_string()),
                                ),
                                put(&id, &format!("{from}>{to}")),
                            ],
                        };
                        match store.commit(transaction).await {
                            Ok(()) | Err(CommitError::Conflict { index: 2 }) => break,
                            Err(CommitError::Conflict { .. }) => {}
                            Err(CommitError::Unknown(_)) => unknown += 1,
                            Err(other) => panic!("seed {seed}: {other}"),
                        }
                    }
                }
                unknown
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task");
    }
    server.clear_faults();
    let mut expected = [100_i64; ACCOUNTS as usize];
    let done = Scan { from: b("done/"), to: b("done0"), limit: 1_000, reverse: false };
    let done = store.scan(done).await.expect("a scan");
    for (_, value) in &done {
        let text = std::str::from_utf8(value).expect("text");
        let (from, to) = text.split_once('>').expect("two accounts");
        expected[from.parse::<usize>().expect("a number")] -= 1;
        expected[to.parse::<usize>().expect("a number")] += 1;
    }
    let accounts = Scan { from: b("a"), to: b("b"), limit: 100, reverse: false };
    let held: Vec<i64> = store
        .scan(accounts)
        .await
        .expect("a scan")
        .iter()
        .map(|(_, value)| std::str::from_utf8(value).expect("text").parse().expect("a number"))
        .collect();
    assert_eq!(held, expected, "seed {seed}: {} transfers", done.len());
    assert!(server.struck().values().sum::<u64>() > 0, "nothing failed");
}
