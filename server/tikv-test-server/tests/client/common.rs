//! What the tests share.

use std::time::Duration;

use tern_tikv_test_server::{Options, TestServer};
use tikv_client::{CheckLevel, Config, Transaction, TransactionClient, TransactionOptions};

/// Nothing in a test takes longer unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two tries of what a client gives up too soon.
const RETRY: Duration = Duration::from_millis(20);

pub(crate) fn server() -> TestServer {
    TestServer::start(Options::default()).unwrap()
}

pub(crate) async fn client(server: &TestServer) -> TransactionClient {
    client_with(server, Config::default()).await
}

pub(crate) async fn client_with(server: &TestServer, config: Config) -> TransactionClient {
    patiently(TransactionClient::new_with_config(vec![server.pd_address().to_string()], config))
        .await
        .unwrap()
}

/// Waits, and fails rather than hangs.
pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

/// In one phase where that can be, else in two.
pub(crate) fn one_phase() -> TransactionOptions {
    TransactionOptions::new_optimistic().try_one_pc().drop_check(CheckLevel::None)
}

/// In one phase where that can be, else by async commit.
pub(crate) fn async_commit() -> TransactionOptions {
    one_phase().use_async_commit()
}

pub(crate) fn two_phases() -> TransactionOptions {
    TransactionOptions::new_optimistic().drop_check(CheckLevel::None)
}

pub(crate) fn pessimistic() -> TransactionOptions {
    TransactionOptions::new_pessimistic().drop_check(CheckLevel::None)
}

/// Begins. A client of version 0.4.0 doesn't reconnect to PD within a second after it last did, and fails at once
/// meanwhile: who uses it must try again.
pub(crate) async fn begin(client: &TransactionClient, options: TransactionOptions) -> Transaction {
    patiently(async {
        loop {
            match client.begin_with_options(options.clone()).await {
                Ok(transaction) => return transaction,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    })
    .await
}

/// Writes in a transaction of its own.
pub(crate) async fn put(
    client: &TransactionClient,
    options: TransactionOptions,
    pairs: &[(&str, &str)],
) {
    let mut transaction = begin(client, options).await;
    for (key, value) in pairs {
        patiently(transaction.put(key.to_string(), value.to_string())).await.unwrap();
    }
    patiently(transaction.commit()).await.unwrap();
}

pub(crate) async fn get(client: &TransactionClient, key: &str) -> Option<String> {
    let mut transaction = begin(client, two_phases()).await;
    let value = patiently(transaction.get(key.to_string())).await.unwrap();
    value.map(|value| String::from_utf8(value).unwrap())
}
