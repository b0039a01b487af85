//! Money moves between accounts while everything goes wrong; none is made or lost.

use std::{collections::BTreeSet, time::Duration};

use tern_tikv_test_server::{Options, TestServer};
use tikv_client::{Config, Transaction, TransactionClient, TransactionOptions};

use crate::common::*;

const ACCOUNTS: u64 = 8;
const EACH: u64 = 100;
const TELLERS: u64 = 3;
const TRANSFERS: u64 = 25;

fn account(n: u64) -> String {
    format!("account {n}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_money_is_made_or_lost_in_chaos() {
    for (seed, options) in [one_phase(), two_phases(), pessimistic()].into_iter().enumerate() {
        run(seed as u64, options).await;
    }
}

async fn run(seed: u64, options: TransactionOptions) {
    let server = TestServer::start(Options::default()).unwrap();
    server.split(account(4).as_bytes()).unwrap();
    server.move_leader(account(4).as_bytes(), 2).unwrap();
    let client = client(&server).await;
    let accounts: Vec<_> = (0..ACCOUNTS).map(|n| (account(n), EACH.to_string())).collect();
    let borrowed: Vec<_> = accounts.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    put(&client, one_phase(), &borrowed).await;

    server.chaos(seed, 0.15);
    let tellers: Vec<_> = (0..TELLERS)
        .map(|teller| {
            let (pd, options) = (server.pd_address().to_string(), options.clone());
            tokio::spawn(teller_at(pd, options, seed, teller))
        })
        .collect();
    let mut receipts = BTreeSet::new();
    for teller in tellers {
        receipts.extend(
            tokio::time::timeout(PATIENCE * 3, teller).await.expect("a teller hangs").unwrap(),
        );
    }
    assert!(server.struck().len() > 4, "{:?}", server.struck());

    server.clear_faults();
    // What clients left behind expires; what they sent and gave up lands within 4 s, and moves no money either.
    server.advance_clock(Duration::from_secs(60)).unwrap();
    let (sum, found) = patiently(async {
        loop {
            if let Ok(books) = books(&client).await {
                return books;
            }
            // A lock that readers don't get past: `dead_clients.rs` shows which there are.
            if let Ok(now) = client.current_timestamp().await {
                let _ = client.gc(now).await;
            }
        }
    })
    .await;
    assert_eq!(sum, ACCOUNTS * EACH, "seed {seed}");
    // Every transfer that was said to be done has left its receipt.
    assert!(receipts.is_subset(&found), "seed {seed}: lost {:?}", receipts.difference(&found));
}

/// Makes transfers, and returns the receipts of those that it was told are done.
async fn teller_at(pd: String, options: TransactionOptions, seed: u64, teller: u64) -> Vec<String> {
    let client = loop {
        let config = Config::default().with_timeout(Duration::from_millis(500));
        if let Ok(client) =
            patiently(TransactionClient::new_with_config(vec![pd.clone()], config)).await
        {
            break client;
        }
    };
    let mut receipts = Vec::new();
    for n in 0..TRANSFERS {
        let mixed = (seed * 7919 + teller * 104_729 + n * 15_485_863) % (ACCOUNTS * ACCOUNTS);
        let (from, to) = (mixed / ACCOUNTS, mixed % ACCOUNTS);
        let receipt = format!("receipt {teller}/{n}");
        let mut transaction = begin(&client, options.clone()).await;
        match patiently(transfer(&mut transaction, from, to, &receipt)).await {
            Ok(()) => receipts.push(receipt),
            Err(_) => drop(patiently(transaction.rollback()).await),
        }
        let mut transaction = begin(&client, two_phases()).await;
        if let Ok(sum) = patiently(sum(&mut transaction)).await {
            assert_eq!(
                sum,
                ACCOUNTS * EACH,
                "seed {seed}, seen by teller {teller} after transfer {n}"
            );
        }
    }
    receipts
}

async fn transfer(
    transaction: &mut Transaction,
    from: u64,
    to: u64,
    receipt: &str,
) -> tikv_client::Result<()> {
    let left = read(transaction, from).await?;
    transaction.insert(receipt.to_owned(), "1".to_owned()).await?;
    if from != to && left > 0 {
        let there = read(transaction, to).await?;
        transaction.put(account(from), (left - 1).to_string()).await?;
        transaction.put(account(to), (there + 1).to_string()).await?;
    }
    transaction.commit().await.map(|_| ())
}

async fn sum(transaction: &mut Transaction) -> tikv_client::Result<u64> {
    let found = transaction.batch_get((0..ACCOUNTS).map(account)).await?;
    Ok(found.map(|pair| number(pair.value())).sum())
}

/// All money, and all receipts.
async fn books(client: &TransactionClient) -> tikv_client::Result<(u64, BTreeSet<String>)> {
    let mut transaction = begin(client, two_phases()).await;
    let sum = sum(&mut transaction).await?;
    let receipts =
        transaction.scan_keys("receipt ".to_owned().."receipt!".to_owned(), 1_000).await?;
    Ok((sum, receipts.map(|key| String::from_utf8(key.into()).unwrap()).collect()))
}

async fn read(transaction: &mut Transaction, n: u64) -> tikv_client::Result<u64> {
    let value = transaction.get_for_update(account(n)).await?;
    Ok(number(&value.expect("accounts aren't deleted")))
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}
