//! Listeners that refuse, and connections that hang.

use std::time::Duration;

use tern_tikv_test_server::{Endpoint, FaultError};
use tikv_client::{Config, TransactionClient};

use crate::common::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_connects_are_accepted_again() {
    let server = server();
    let connect = || TransactionClient::new(vec![server.pd_address().to_string()]);
    server.refuse_connects(Endpoint::Pd, true).unwrap();
    patiently(async { while connect().await.is_ok() {} }).await;
    server.refuse_connects(Endpoint::Pd, false).unwrap();
    patiently(async { while connect().await.is_err() {} }).await;
    assert!(matches!(server.freeze(Endpoint::Store(4), true), Err(FaultError::NoSuchEndpoint(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_frozen_hangs_and_then_goes_on() {
    let server = server();
    let client = client_with(&server, Config::default().with_timeout(PATIENCE)).await;
    put(&client, one_phase(), &[("k", "v")]).await;
    server.freeze(Endpoint::Store(1), true).unwrap();
    let mut transaction = begin(&client, one_phase()).await;
    let reading = transaction.get("k".to_owned());
    tokio::pin!(reading);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut reading).await.is_err());
    server.freeze(Endpoint::Store(1), false).unwrap();
    assert_eq!(patiently(reading).await.unwrap().unwrap(), b"v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_reset_and_made_again() {
    let server = server();
    let client = client(&server).await;
    for endpoint in [Endpoint::Pd, Endpoint::Store(1)] {
        put(&client, one_phase(), &[("k", "v")]).await;
        server.disconnect(endpoint).unwrap();
        assert_eq!(get(&client, "k").await.as_deref(), Some("v"));
    }
}
