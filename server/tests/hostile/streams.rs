//! Streams of kinds and in numbers that nobody asked for.

use tern_protocol::{
    code::Code,
    frame::{Frame, Mailbox, OpenUplink, RequestBody},
};

use crate::common::{
    World, is_pending,
    raw::{Ended, Stream},
    talk::Talk,
    until, wait,
};

#[tokio::test(flavor = "multi_thread")]
async fn unidirectional_streams_are_stopped() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let mut eve = world.register("eve").await;
    for _ in 0..50 {
        let mut stream = wait("permission", eve.raw.connection.open_uni()).await.unwrap();
        // It may be stopped before all is sent.
        let _ = stream.write_all(&[1; 1_000]).await;
        let code = wait("the stop", stream.stopped()).await.unwrap();
        assert_eq!(code, Some(u32::from(Code::UnknownStream.value()).into()));
        // One at a time is allowed, and a stopped one is to be reset before the next.
        let _ = stream.reset(0u32.into());
    }
    assert_eq!(world.metrics().streams_reset.get(Code::UnknownStream), 50);
    eve.done(RequestBody::Ping).await;
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_streams_stops_at_the_limit() {
    // A client that uses all of them isn't given more.
    let world =
        World::with(|config| config.listen.bidi_streams_busy = config.listen.bidi_streams).await;
    let mut talk = Talk::begin(&world).await;
    let mut eve = world.register("eve").await;
    let most = world.config().listen.bidi_streams as usize;
    // Opened and silent: as many as may be, and not one more.
    let mut silent = Vec::new();
    for _ in 1..most {
        let mut stream = eve.raw.open().await;
        stream.bytes(&[0]).await;
        silent.push(stream);
    }
    {
        let mut next = std::pin::pin!(eve.raw.connection.open_bi());
        assert!(is_pending(next.as_mut()).await, "{most} streams are the limit");
        talk.goes_on().await;
        // One that ends makes room.
        silent.pop().unwrap().send.reset(0u32.into()).unwrap();
        let mut stream = Stream::new(wait("permission", next).await.unwrap());
        let conversation = eve.with(&talk.ann);
        let peer = Some(talk.ann.account());
        stream.say(&Frame::OpenUplink(OpenUplink { conversation, peer })).await;
        stream.finish();
        assert_eq!(stream.end().await, Ended::Finished);
    }
    for mut stream in silent {
        stream.send.reset(0u32.into()).unwrap();
    }
    // Opened and dropped at once, many times over.
    for _ in 0..1_000 {
        let mut stream = eve.raw.open().await;
        stream.bytes(&[0, 0, 0]).await;
        stream.send.reset(0u32.into()).unwrap();
        stream.recv.stop(0u32.into()).unwrap();
    }
    eve.done(RequestBody::Ping).await;
    talk.goes_on().await;
    let metrics = world.metrics();
    until("the uplinks to end", async || metrics.uplinks.get() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_much_to_say_gets_more_streams() {
    const PEERS: usize = 20;
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let mut eve = world.register("eve").await;
    let mut peers = Vec::new();
    for n in 0..PEERS {
        peers.push(world.register(&format!("peer{n}")).await);
    }
    // All at once, and each is served while all others are open.
    let mut ups = Vec::new();
    for peer in &peers {
        ups.push(eve.uplink(peer).await);
    }
    for up in &mut ups {
        up.send("hello").await;
    }
    let metrics = world.metrics();
    assert_eq!(metrics.uplinks.get(), 1 + PEERS as i64);
    for peer in &peers {
        peer.downlink().await.hears("hello").await;
    }
    // There is a limit all the same. The session stream is one of those that are open.
    let most = world.config().listen.bidi_streams_busy as usize;
    let mut silent = Vec::new();
    for _ in 1 + PEERS..most {
        let mut stream = eve.raw.open().await;
        stream.bytes(&[0]).await;
        silent.push(stream);
    }
    eve.done(RequestBody::Ping).await;
    {
        let mut next = std::pin::pin!(eve.raw.connection.open_bi());
        assert!(is_pending(next.as_mut()).await, "{most} streams are the limit");
        for up in &mut ups {
            up.send("still here?").await;
        }
        talk.goes_on().await;
        assert!(is_pending(next.as_mut()).await, "{most} streams are the limit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_streams_are_answered_and_ended() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let eve = world.register("eve").await;
    // Nothing but FIN.
    let mut stream = eve.raw.open().await;
    stream.finish();
    // The server has nothing to say and no reason to complain: the connection goes on.
    let _ = stream.end().await;
    // What is due is said although the client says no more.
    let mut up = eve.uplink(&talk.ann).await;
    for counter in 1..=20 {
        let send = up.number(&format!("message {counter}"));
        up.stream.say(&Frame::Send(send)).await;
    }
    up.stream.finish();
    for counter in 1..=20 {
        assert_eq!(up.accepted().await.counter, counter);
    }
    assert_eq!(up.stream.end().await, Ended::Finished);
    // A client that doesn't want answers has its messages taken all the same.
    let mut up = eve.uplink(&talk.bob).await;
    up.stream.recv.stop(0u32.into()).unwrap();
    let send = up.number("unanswered");
    up.stream.say(&Frame::Send(send)).await;
    let metrics = world.metrics();
    until("the message", async || metrics.sends_accepted.get() > 1 + 20).await;
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_session_stream_is_the_end_of_the_connection() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let mut eve = world.register("eve").await;
    assert_eq!(eve.welcome.mailbox, Mailbox::default());
    eve.raw.session.finish();
    assert_eq!(eve.raw.closed().await, Code::NoError);
    let mut eve = eve.away().back(&world).await;
    eve.raw.session.send.reset(0u32.into()).unwrap();
    assert_eq!(eve.raw.closed().await, Code::NoError);
    // Also before the hello.
    let mut raw = world.connect().await;
    raw.session.finish();
    assert_eq!(raw.closed().await, Code::NoError);
    let mut raw = world.connect().await;
    raw.session.bytes(&[0]).await;
    raw.session.send.reset(0u32.into()).unwrap();
    assert_eq!(raw.closed().await, Code::NoError);
    assert_eq!(world.metrics().closed.get(Code::NoError), 4);
    talk.goes_on().await;
}
