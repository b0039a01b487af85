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
