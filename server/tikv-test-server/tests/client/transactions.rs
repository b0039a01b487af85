//! Transactions without any fault.

use tern_tikv_test_server::Method;

use crate::common::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_phase_is_one_timestamp_and_one_prewrite() {
    let server = server();
    let client = client(&server).await;
    for options in [one_phase(), async_commit()] {
        put(&client, options.clone(), &[("warm", "up")]).await;
        server.reset_counts();
        put(&client, options, &[("a", "1"), ("b", "2")]).await;
        let counts = server.counts();
        assert_eq!((counts.calls(Method::Tso), counts.timestamps()), (1, 1));
        assert_eq!(counts.calls(Method::KvPrewrite), 1);
        assert_eq!(counts.store_calls(), 1, "{counts:?}");
        assert_eq!(server.columns().unwrap().lock_count(), 0);
    }
    assert_eq!(get(&client, "b").await.as_deref(), Some("2"));
    assert_eq!(get(&client, "c").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn async_commit_is_one_timestamp_too_and_commits_behind_the_answer() {
    let server = server();
    server.split(b"m").unwrap();
    let client = client(&server).await;
    put(&client, async_commit(), &[("a", "0"), ("z", "0")]).await;
    // Its commits would be met, and cost timestamps.
    patiently(async {
        while server.columns().unwrap().lock_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.reset_counts();
    put(&client, async_commit(), &[("a", "1"), ("z", "2")]).await;
    let counts = server.counts();
    assert_eq!(counts.timestamps(), 1);
    assert_eq!(counts.calls(Method::KvPrewrite), 2);
    // Whoever reads meets the locks, and waits for the commits.
    assert_eq!(get(&client, "a").await.as_deref(), Some("1"));
    assert_eq!(get(&client, "z").await.as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_phases_span_regions_and_large_transactions() {
    let server = server();
    server.split(b"m").unwrap();
    server.move_leader(b"m", 2).unwrap();
    let client = client(&server).await;
    let large = "x".repeat(40_000);
    server.reset_counts();
    put(&client, one_phase(), &[("a", &large), ("b", &large), ("z", "3")]).await;
    assert_eq!(get(&client, "a").await, Some(large.clone()));
    assert_eq!(get(&client, "b").await, Some(large));
    assert_eq!(get(&client, "z").await.as_deref(), Some("3"));
    let counts = server.counts();
    assert_eq!(counts.calls(Method::KvPrewrite), 3);
    assert!(counts.of(Method::KvPrewrite).request_bytes > 80_000);
    assert!(counts.of(Method::KvGet).response_bytes > 80_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_of_what_exists_is_refused() {
    let server = server();
    let client = client(&server).await;
    put(&client, one_phase(), &[("taken", "1")]).await;
    for options in [one_phase(), async_commit(), two_phases()] {
        let mut transaction = begin(&client, options).await;
        patiently(transaction.insert("taken".to_owned(), "2".to_owned())).await.unwrap();
        patiently(transaction.put("beside".to_owned(), "2".to_owned())).await.unwrap();
        let error = patiently(transaction.commit()).await.unwrap_err();
        assert!(format!("{error:?}").contains("AlreadyExist"), "{error:?}");
        let _ = patiently(transaction.rollback()).await;
    }
    let mut transaction = begin(&client, pessimistic()).await;
    assert!(patiently(transaction.insert("taken".to_owned(), "2".to_owned())).await.is_err());
    let _ = patiently(transaction.rollback()).await;
    assert_eq!(get(&client, "taken").await.as_deref(), Some("1"));
    assert_eq!(get(&client, "beside").await, None);

    let mut transaction = begin(&client, one_phase()).await;
    patiently(transaction.delete("taken".to_owned())).await.unwrap();
    patiently(transaction.commit()).await.unwrap();
    let mut transaction = begin(&client, one_phase()).await;
    patiently(transaction.insert("taken".to_owned(), "3".to_owned())).await.unwrap();
    patiently(transaction.commit()).await.unwrap();
    assert_eq!(get(&client, "taken").await.as_deref(), Some("3"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slower_of_two_writers_is_refused() {
    let server = server();
    let client = client(&server).await;
    let mut slower = begin(&client, one_phase()).await;
    patiently(slower.get("k".to_owned())).await.unwrap();
    put(&client, one_phase(), &[("k", "faster")]).await;
    patiently(slower.put("k".to_owned(), "slower".to_owned())).await.unwrap();
    let error = patiently(slower.commit()).await.unwrap_err();
    assert!(format!("{error:?}").contains("conflict: Some"), "{error:?}");
    assert_eq!(get(&client, "k").await.as_deref(), Some("faster"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_go_over_borders_both_ways() {
    let server = server();
    let client = client(&server).await;
    let pairs: Vec<_> = (0..30).map(|n| (format!("k{n:02}"), format!("v{n}"))).collect();
    let borrowed: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    put(&client, one_phase(), &borrowed).await;
    for (border, store) in [("k05", 2), ("k15", 3), ("k155", 1)] {
        server.split(border.as_bytes()).unwrap();
        server.move_leader(border.as_bytes(), store).unwrap();
    }
    let keys = |found: Vec<tikv_client::KvPair>| -> Vec<String> {
        found
            .into_iter()
            .map(|pair| String::from_utf8(Vec::from(pair.key().clone())).unwrap())
            .collect()
    };
    let expected: Vec<String> = pairs[3..25].iter().map(|(key, _)| key.clone()).collect();
    let mut transaction = begin(&client, two_phases()).await;
    let range = || "k03".to_owned().."k25".to_owned();
    let found = patiently(transaction.scan(range(), 100)).await.unwrap().collect();
    assert_eq!(keys(found), expected);
    let found = patiently(transaction.scan_reverse(range(), 100)).await.unwrap().collect();
    assert_eq!(keys(found), expected.iter().rev().cloned().collect::<Vec<_>>());
    let found =
        patiently(transaction.batch_get(pairs.iter().map(|(key, _)| key.clone()))).await.unwrap();
    assert_eq!(found.count(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_stays_as_it_was() {
    let server = server();
    let client = client(&server).await;
    put(&client, one_phase(), &[("a", "1"), ("b", "1")]).await;
    let mut before = begin(&client, two_phases()).await;
    for options in [one_phase(), async_commit(), two_phases(), pessimistic()] {
        put(&client, options, &[("a", "2"), ("b", "2")]).await;
    }
    assert_eq!(patiently(before.get("a".to_owned())).await.unwrap().unwrap(), b"1");
    assert_eq!(patiently(before.get("b".to_owned())).await.unwrap().unwrap(), b"1");
    assert_eq!(get(&client, "a").await.as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_increments_lose_nothing() {
    const EACH: u64 = 20;
    let server = server();
    for options in [one_phase(), async_commit(), two_phases(), pessimistic()] {
        let clients: Vec<_> = (0..4)
            .map(|_| (options.clone(), server.pd_address().to_string()))
            .map(|(options, pd)| {
                tokio::spawn(async move {
                    let client =
                        patiently(tikv_client::TransactionClient::new(vec![pd])).await.unwrap();
                    let mut done = 0;
                    while done < EACH {
                        done += u64::from(increment(&client, options.clone()).await);
                    }
                })
            })
            .collect();
        for client in clients {
            patiently(client).await.unwrap();
        }
        let client = client(&server).await;
        assert_eq!(get(&client, "counter").await.unwrap(), (4 * EACH).to_string());
        let mut transaction = begin(&client, two_phases()).await;
        patiently(transaction.delete("counter".to_owned())).await.unwrap();
        patiently(transaction.commit()).await.unwrap();
    }
}

/// Adds one, if nobody is faster.
async fn increment(
    client: &tikv_client::TransactionClient,
    options: tikv_client::TransactionOptions,
) -> bool {
    let is_pessimistic = options.is_pessimistic();
    let mut transaction = begin(client, options).await;
    let key = "counter".to_owned();
    let read = if is_pessimistic {
        patiently(transaction.get_for_update(key.clone())).await
    } else {
        patiently(transaction.get(key.clone())).await
    };
    let committed = match read {
        Ok(value) => {
            let value =
                value.map_or(0, |value| String::from_utf8(value).unwrap().parse::<u64>().unwrap());
            patiently(transaction.put(key, (value + 1).to_string())).await.is_ok()
                && patiently(transaction.commit()).await.is_ok()
        }
        Err(_) => false,
    };
    if !committed {
        let _ = patiently(transaction.rollback()).await;
    }
    committed
}
