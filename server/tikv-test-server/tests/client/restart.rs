//! Stops and starts of the whole server.

use std::time::Duration;

use tern_tikv_test_server::{Fate, Options, Planted, StartError, TestServer};

use crate::common::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_again_and_clients_find_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { folder: Some(folder.path().to_owned()), ..Options::default() };
    let mut server = TestServer::start(options.clone()).unwrap();
    let client = client(&server).await;
    put(&client, one_phase(), &[("a", "1"), ("m", "1"), ("z", "1")]).await;
    server.split(b"m").unwrap();
    server.move_leader(b"m", 3).unwrap();
    let writes = vec![("b".into(), Some("dead".into())), ("y".into(), Some("dead".into()))];
    let ttl = Duration::from_secs(3);
    let start = server.plant(&Planted { writes, ttl, fate: Fate::PrimaryCommitted }).unwrap();
    let (addresses, regions) = (server.store_addresses(), server.regions());

    for _ in 0..3 {
        server.stop();
        server.start_again().unwrap();
        assert!(matches!(server.start_again(), Err(StartError::Running)));
    }
    assert_eq!((server.store_addresses(), server.regions()), (addresses, regions));
    for (key, value) in [("a", "1"), ("z", "1"), ("y", "dead")] {
        assert_eq!(get(&client, key).await.as_deref(), Some(value), "{key}");
    }
    // Timestamps go on above those of before.
    assert!(
        begin(&client, two_phases()).await.start_timestamp().physical as u64 >= start.physical_ms()
    );

    // Another handle, as of another process, finds the ports too.
    let before = (server.pd_address(), server.store_addresses());
    drop(server);
    let server = TestServer::start(options.clone()).unwrap();
    assert_eq!((server.pd_address(), server.store_addresses()), before);
    assert!(matches!(TestServer::start(options), Err(StartError::Log(_))));
}
