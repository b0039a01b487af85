//! Faults one by one.

use std::time::Duration;

use tern_tikv_test_server::{Effect, Loss, Method, Rule};

use crate::common::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_gets_over_moved_regions_and_lost_calls() {
    let server = server();
    let client = client(&server).await;
    put(&client, one_phase(), &[("a", "0"), ("b", "0"), ("c", "0")]).await;
    let effects = [
        Effect::NotLeader,
        Effect::EpochNotMatch,
        Effect::Split,
        Effect::Merge,
        Effect::DelayRequest(Duration::from_millis(5)),
        Effect::DelayReply(Duration::from_millis(5)),
        Effect::LoseRequest(Loss::Unavailable),
        Effect::LoseReply(Loss::Unavailable),
        Effect::ApplyLate { after: Duration::from_millis(1), loss: Loss::Unavailable },
        Effect::Disconnect,
    ];
    for (n, effect) in effects.into_iter().enumerate() {
        for method in [Method::KvPrewrite, Method::KvGet] {
            server.fault(Rule::on(method, effect.clone()).next(1));
        }
        let value = n.to_string();
        put(&client, one_phase(), &[("a", &value), ("b", &value), ("c", &value)]).await;
        for key in ["a", "b", "c"] {
            assert_eq!(get(&client, key).await.as_ref(), Some(&value), "{effect:?}");
        }
        assert_eq!(server.struck().get(effect.name()), Some(&2), "{effect:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_errors_are_left_to_who_uses_the_client() {
    let server = server();
    let client = client(&server).await;
    let said = [
        (Effect::ServerIsBusy, "server_is_busy: Some"),
        (Effect::RaftEntryTooLarge, "raft_entry_too_large: Some"),
        (Effect::WriteConflict, "conflict: Some"),
    ];
    for (effect, expected) in said {
        server.fault(Rule::on(Method::KvPrewrite, effect).next(1));
        let mut transaction = begin(&client, one_phase()).await;
        patiently(transaction.put("k".to_owned(), "v".to_owned())).await.unwrap();
        let error = patiently(transaction.commit()).await.unwrap_err();
        assert!(format!("{error:?}").contains(expected), "{error:?}");
    }
    server.limit_raft_entries(Some(1_000)).unwrap();
    let mut transaction = begin(&client, one_phase()).await;
    patiently(transaction.put("k".to_owned(), "v".repeat(2_000))).await.unwrap();
    assert!(patiently(transaction.commit()).await.is_err());
    put(&client, one_phase(), &[("k", "small")]).await;
    assert_eq!(get(&client, "k").await.as_deref(), Some("small"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_of_one_phase_is_answered_the_second_time() {
    let server = server();
    let client = client(&server).await;
    server.fault(Rule::on(Method::KvPrewrite, Effect::LoseReply(Loss::Unavailable)).next(1));
    let mut transaction = begin(&client, one_phase()).await;
    // It finds its own record, not another's.
    patiently(transaction.insert("k".to_owned(), "v".to_owned())).await.unwrap();
    patiently(transaction.commit()).await.unwrap();
    assert_eq!(server.counts().calls(Method::KvPrewrite), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_of_one_phase_lands_after_its_client_was_told_of_a_failure() {
    let server = server();
    let client = client(&server).await;
    let late = Effect::ApplyLate { after: Duration::from_millis(300), loss: Loss::Unavailable };
    server.fault(Rule::on(Method::KvPrewrite, late));
    let mut transaction = begin(&client, one_phase().no_resolve_regions()).await;
    patiently(transaction.put("k".to_owned(), "late".to_owned())).await.unwrap();
    patiently(transaction.commit()).await.unwrap_err();
    server.clear_faults();
    patiently(async {
        while get(&client, "k").await.as_deref() != Some("late") {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_prewrite_after_a_newer_write_is_refused() {
    let server = server();
    let client = client(&server).await;
    let late = Effect::ApplyLate { after: Duration::from_millis(200), loss: Loss::Unavailable };
    server.fault(Rule::on(Method::KvPrewrite, late).next(1));
    let mut transaction = begin(&client, one_phase().no_resolve_regions()).await;
    patiently(transaction.put("k".to_owned(), "late".to_owned())).await.unwrap();
    patiently(transaction.commit()).await.unwrap_err();
    // Should the late one be first after all, this one is refused and tried again; it is the newer either way.
    patiently(async {
        loop {
            let mut newer = begin(&client, one_phase()).await;
            newer.put("k".to_owned(), "newer".to_owned()).await.unwrap();
            if newer.commit().await.is_ok() {
                return;
            }
        }
    })
    .await;
    // Its reply is the sign that the late one, sent before and delayed less, has landed.
    server.fault(Rule::on(Method::KvGet, Effect::DelayRequest(Duration::from_millis(500))).next(1));
    assert_eq!(get(&client, "k").await.as_deref(), Some("newer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_oracle_holds_transactions_up_and_lets_them_go_on() {
    let server = server();
    let client = client(&server).await;
    server.silence_oracle(true).unwrap();
    let beginning = client.begin_with_options(one_phase());
    tokio::pin!(beginning);
    let soon = tokio::time::timeout(Duration::from_millis(50), &mut beginning).await;
    assert!(soon.is_err(), "it got a timestamp");
    server.silence_oracle(false).unwrap();
    patiently(beginning).await.unwrap();

    server.fault(Rule::on(Method::Tso, Effect::LoseReply(Loss::Unavailable)).next(1));
    put(&client, one_phase(), &[("k", "v")]).await;
}
