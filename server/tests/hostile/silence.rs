//! Those who don't say what is due. The times are the protocol's, so each test takes as long.

use tern_protocol::{
    code::Code,
    frame::{Credential, RequestBody, Secret},
};

use crate::common::{World, raw::Ended, talk::Talk, until};

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_an_acceptable_hello_are_closed() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(world.connect().await);
    }
    // Half a hello is none, nor is one that is rejected.
    silent[0].session.bytes(&[0, 0, 0, 0, 100]).await;
    let wrong = Credential::Ticket(Secret::new(*b"wrong"));
    assert_eq!(silent[1].rejected(wrong).await, Code::TicketInvalid);
    talk.goes_on().await;
    assert_eq!(world.metrics().handshakes_in_progress.get(), 200);
    for raw in &silent {
        assert_eq!(raw.closed().await, Code::HelloTimeout);
    }
    talk.goes_on().await;
    let metrics = world.metrics();
    assert_eq!(metrics.closed.get(Code::HelloTimeout), 200);
    until("the memory of them to go", async || {
        metrics.connections.get() == 2 && metrics.handshakes_in_progress.get() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_without_a_first_frame_are_reset() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let mut eve = world.register("eve").await;
    let mut streams = Vec::new();
    for bytes in [&[0][..], &[0, 0, 0, 0, 5, 0, 0, 0, 1]] {
        let mut stream = eve.raw.open().await;
        stream.bytes(bytes).await;
        streams.push(stream);
    }
    talk.goes_on().await;
    for stream in &mut streams {
        assert_eq!(stream.end().await, Ended::Reset(Code::StreamIdle));
        assert_eq!(stream.stopped().await, Some(Code::StreamIdle));
    }
    assert_eq!(world.metrics().streams_reset.get(Code::StreamIdle), 2);
    eve.done(RequestBody::Ping).await;
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_streams_are_ended_and_opened_anew_when_needed() {
    let world = World::with(|config| config.listen.stream_idle_for_ms = 1_000).await;
    let [ann, bob] = world.two().await;
    assert_eq!(ann.welcome.limits.stream_idle_for_ms, 1_000);
    let mut up = ann.uplink(&bob).await;
    up.send("one").await;
    let mut down = bob.downlink().await;
    down.hears("one").await;
    // Ann is told of that, and acknowledges it.
    let mut receipts = ann.downlink().await;
    receipts.receipt_when(bob.account(), |receipt| receipt.delivered == 1).await;
    assert_eq!(up.stream.end().await, Ended::Reset(Code::StreamIdle));
    // The server ends its downlinks with FIN, and the client answers with one.
    assert_eq!(down.stream.end().await, Ended::Finished);
    down.stream.finish();
    assert_eq!(receipts.stream.end().await, Ended::Finished);
    receipts.stream.finish();
    let metrics = world.metrics();
    until("the streams to end", async || {
        metrics.downlinks.get() == 0 && metrics.uplinks.get() == 0
    })
    .await;
    let mut up = ann.uplink(&bob).await;
    (up.next, up.settled) = (2, 1);
    up.send("two").await;
    let mut down = bob.downlink().await;
    assert_eq!(down.open.start, 1);
    down.hears("two").await;
}
