//! Locks that nobody will ever take away but who meets them.

use std::time::Duration;

use tern_tikv_test_server::{Fate, Method, Planted};
use tikv_client::TimestampExt;

use crate::common::*;

fn planted(fate: Fate) -> Planted {
    Planted {
        writes: vec![("a".into(), Some("dead".into())), ("z".into(), Some("dead".into()))],
        ttl: Duration::from_secs(3),
        fate,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prewritten_transaction_is_rolled_back_when_its_locks_have_expired() {
    let server = server();
    server.split(b"m").unwrap();
    let client = client(&server).await;
    // One by one: of two regions the second would be committed behind the answer.
    put(&client, one_phase(), &[("a", "alive")]).await;
    put(&client, one_phase(), &[("z", "alive")]).await;
    server.plant(&planted(Fate::Prewritten)).unwrap();
    server.advance_clock(Duration::from_secs(4)).unwrap();
    assert_eq!(get(&client, "z").await.as_deref(), Some("alive"));
    put(&client, one_phase(), &[("a", "again"), ("z", "again")]).await;
    assert_eq!(get(&client, "a").await.as_deref(), Some("again"));
    assert_eq!(get(&client, "z").await.as_deref(), Some("again"));
    assert_eq!(server.columns().unwrap().lock_count(), 0);
    assert!(server.counts().calls(Method::KvResolveLock) >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_that_have_not_expired_are_left_alone() {
    let server = server();
    let client = client(&server).await;
    server.plant(&planted(Fate::Prewritten)).unwrap();
    let mut transaction = begin(&client, one_phase().no_resolve_locks()).await;
    assert!(patiently(transaction.get("a".to_owned())).await.is_err());
    assert_eq!(server.columns().unwrap().lock_count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_primary_is_committed_is_completed() {
    let server = server();
    server.split(b"m").unwrap();
    let client = client(&server).await;
    server.plant(&planted(Fate::PrimaryCommitted)).unwrap();
    // The commit is decided, so nobody waits for the lock to expire.
    assert_eq!(get(&client, "z").await.as_deref(), Some("dead"));
    assert_eq!(get(&client, "a").await.as_deref(), Some("dead"));
    assert_eq!(server.columns().unwrap().lock_count(), 0);
}

/// What a client of version 0.4.0 makes of an async commit whose client died: nothing. Readers don't ask the
/// secondary keys, so they wait for ever, and `gc` alone takes such locks away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_get_past_a_dead_async_commit_and_gc_completes_it() {
    let server = server();
    server.split(b"m").unwrap();
    let client = client(&server).await;
    server.plant(&planted(Fate::AsyncCommitted)).unwrap();
    server.advance_clock(Duration::from_secs(3_600)).unwrap();
    let mut transaction = begin(&client, two_phases()).await;
    let error = patiently(transaction.get("z".to_owned())).await.unwrap_err();
    assert!(format!("{error:?}").contains("ResolveLockError"), "{error:?}");

    let now = patiently(client.current_timestamp()).await.unwrap();
    patiently(client.gc(now)).await.unwrap();
    assert_eq!(get(&client, "z").await.as_deref(), Some("dead"));
}

/// An async commit of one key alone has no secondary keys to ask, and `gc` of version 0.4.0 takes that for a
/// transaction that isn't committed: what its client was told is committed is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gc_loses_a_dead_async_commit_of_one_key() {
    let server = server();
    let client = client(&server).await;
    let writes = vec![("a".into(), Some("dead".into()))];
    server.plant(&Planted { writes, ..planted(Fate::AsyncCommitted) }).unwrap();
    server.advance_clock(Duration::from_secs(3_600)).unwrap();
    let now = patiently(client.current_timestamp()).await.unwrap();
    patiently(client.gc(now)).await.unwrap();
    assert_eq!(get(&client, "a").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gc_rolls_an_incomplete_async_commit_back() {
    let server = server();
    server.split(b"m").unwrap();
    let client = client(&server).await;
    let start = server.plant(&planted(Fate::AsyncIncomplete)).unwrap();
    server.advance_clock(Duration::from_secs(3_600)).unwrap();
    let now = patiently(client.current_timestamp()).await.unwrap();
    assert!(now.version() > start.0);
    patiently(client.gc(now)).await.unwrap();
    assert_eq!(get(&client, "a").await, None);
    assert_eq!(server.columns().unwrap().lock_count(), 0);
}

/// A lock whose primary key never got one: a client of version 0.4.0 doesn't understand that its transaction isn't
/// known, so readers fail, also when the lock has long expired, until `gc` takes it away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_get_past_a_lock_without_its_primary_and_gc_takes_it_away() {
    let server = server();
    let client = client(&server).await;
    put(&client, one_phase(), &[("z", "alive")]).await;
    server.plant(&planted(Fate::PrimaryMissing)).unwrap();
    server.advance_clock(Duration::from_secs(3_600)).unwrap();
    let mut transaction = begin(&client, two_phases()).await;
    let error = patiently(transaction.get("z".to_owned())).await.unwrap_err();
    assert!(format!("{error:?}").contains("txn_not_found: Some"), "{error:?}");

    let now = patiently(client.current_timestamp()).await.unwrap();
    patiently(client.gc(now)).await.unwrap();
    assert_eq!(get(&client, "z").await.as_deref(), Some("alive"));
}
