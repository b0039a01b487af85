//! A server that stops.

use tern_protocol::{code::Code, frame::Frame};

use crate::common::{World, store};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_so_and_keeps_what_it_accepted() {
    let mut world = World::with(|config| config.drain.within_ms = 500).await;
    let [mut ann, bob] = world.two().await;
    let mut up = ann.uplink(&bob).await;
    up.send("one").await;
    let conversation = ann.with(&bob);
    let metrics = world.metrics();
    let address = world.server().address();
    let stop = world.begin_stop();
    let away = loop {
        match ann.raw.session.frame().await {
            Frame::GoAway(away) => break away,
            Frame::Event(_) => {}
            other => panic!("goAway was due: {other:?}"),
        }
    };
    assert_eq!((away.code, away.within_ms), (Code::GoingAway, 500));
    assert_eq!(away.target, "");
    // Until it closes, it works; newcomers are refused.
    up.send("two").await;
    let new = crate::common::raw::Raw::connect(&world.endpoint, world.quic(), address).await;
    assert!(new.is_err());
    assert_eq!(ann.raw.closed().await, Code::GoingAway);
    assert_eq!(bob.raw.closed().await, Code::GoingAway);
    crate::common::wait("the server's end", stop).await.unwrap();
    assert_eq!(metrics.closed.get(Code::GoingAway), 2);
    assert_eq!(metrics.draining.get(), 1);
    let (ann, bob) = (ann.away(), bob.away());
    world.restart().await;
    assert_eq!(store::messages(&world, conversation).await, [1, 2]);
    let _ann = ann.back(&world).await;
    let bob = bob.back(&world).await;
    let mut down = bob.downlink().await;
    down.hears("one").await;
    down.hears("two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_at_once_is_not_waited_for() {
    let mut world = World::with(|config| config.drain.within_ms = 600_000).await;
    let ann = world.register("ann").await;
    let silent = world.connect().await;
    let stop = world.begin_stop();
    let mut ann = ann;
    while !matches!(ann.raw.session.frame().await, Frame::GoAway(_)) {}
    ann.raw.connection.close(0u32.into(), b"");
    silent.connection.close(0u32.into(), b"");
    crate::common::wait("the server's end", stop).await.unwrap();
}
