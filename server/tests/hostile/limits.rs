//! More than one address or device may ask for.

use std::net::Ipv4Addr;

use quinn::{ConnectionError, TransportErrorCode};
use tern_protocol::{
    code::Code,
    frame::{Credential, Entitlement, Frame, RequestBody, Secret},
};

use crate::common::{Key, World, raw::Raw, talk::Talk, until};

fn is_refused(result: Result<Raw, ConnectionError>) -> bool {
    match result {
        Ok(_) => false,
        Err(ConnectionError::ConnectionClosed(close)) => {
            close.error_code == TransportErrorCode::CONNECTION_REFUSED
        }
        Err(other) => panic!("refused otherwise: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_have_a_limit() {
    let world = World::with(|config| config.listen.connections = 5).await;
    let mut talk = Talk::begin(&world).await;
    let mut more = Vec::new();
    for _ in 0..3 {
        more.push(world.connect().await);
    }
    for _ in 0..20 {
        assert!(is_refused(world.try_connect().await));
    }
    assert_eq!(world.limited("connections"), 20);
    assert_eq!(world.metrics().connections.get(), 5);
    talk.goes_on().await;
    // Who leaves makes room.
    more.pop().unwrap().connection.close(0u32.into(), b"");
    until("room for another", async || world.metrics().connections.get() < 5).await;
    world.connect().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_connections_is_held_to_the_limit() {
    let world = World::with(|config| config.listen.connections = 10).await;
    let all = (0..100).map(|_| world.try_connect());
    let all = futures_util::future::join_all(all).await;
    let taken: Vec<Raw> = all.into_iter().filter_map(Result::ok).collect();
    assert_eq!(taken.len(), 10);
    assert_eq!(world.metrics().connections.get(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_a_limit_of_its_own() {
    let world = World::with(|config| config.limits.connections_per_address = 4).await;
    let mut talk = Talk::begin(&world).await;
    let _more = [world.connect().await, world.connect().await];
    for _ in 0..20 {
        assert!(is_refused(world.try_connect().await));
    }
    assert_eq!(world.limited("addressConnections"), 20);
    // Another address of loopback is another one.
    let there = quinn::Endpoint::client((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
    let raw = Raw::connect(&there, world.quic(), world.server().address()).await.unwrap();
    Talk::goes_on(&mut talk).await;
    drop(raw);
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_in_progress_have_a_limit() {
    let world = World::with(|config| config.listen.handshakes = 3).await;
    let mut talk = Talk::begin(&world).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(world.connect().await);
    }
    assert!(is_refused(world.try_connect().await));
    assert_eq!(world.limited("handshakes"), 1);
    talk.goes_on().await;
    // One that gets on with it makes room.
    let mut raw = silent.pop().unwrap();
    let credential = raw.register(&Key::new(), "eve", Entitlement::None);
    raw.hello(credential).await.unwrap();
    world.connect().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_an_address_must_prove_itself() {
    let world = World::with(|config| config.listen.handshakes_before_retry = 2).await;
    let metrics = world.metrics();
    let _silent = [world.connect().await, world.connect().await];
    assert_eq!(metrics.retries_demanded.get(), 0);
    let mut raw = world.connect().await;
    assert_eq!(metrics.retries_demanded.get(), 1);
    // It costs a round trip and nothing else.
    let credential = raw.register(&Key::new(), "ann", Entitlement::None);
    raw.hello(credential).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_of_an_address_have_a_rate() {
    let world = World::with(|config| {
        config.limits.registrations_per_address_burst = 3;
        config.limits.registrations_per_address_per_hour = 1;
    })
    .await;
    let mut talk = Talk::begin(&world).await;
    let eve = world.register("eve").await;
    let mut raw = world.connect().await;
    let credential = raw.register(&Key::new(), "eve2", Entitlement::None);
    let rejected = raw.hello(credential).await.unwrap_err();
    assert_eq!(rejected.code, Code::RateLimited);
    assert!(rejected.retry_after_ms > 1_000 && rejected.retry_after_ms <= 3_600_000);
    // Sign-ins aren't held up by it.
    eve.again(&world).await;
    assert_eq!(world.limited("registrations"), 1);
    assert_eq!(world.metrics().hellos_rejected.get(Code::RateLimited), 1);
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_ins_of_an_address_have_a_rate() {
    let world = World::with(|config| {
        config.limits.sign_ins_per_address_burst = 10;
        config.limits.sign_ins_per_address_per_second = 1;
    })
    .await;
    let mut talk = Talk::begin(&world).await;
    let eve = world.register("eve").await.away();
    let mut limited = None;
    for _ in 0..20 {
        let mut raw = world.connect().await;
        let wrong = Credential::Ticket(Secret::new(*b"wrong"));
        let rejected = raw.hello(wrong).await.unwrap_err();
        if rejected.code == Code::RateLimited {
            limited = Some(rejected);
        }
    }
    let limited = limited.unwrap();
    assert!(limited.retry_after_ms > 0 && limited.retry_after_ms <= 10_000);
    assert!(world.limited("signIns") > 0);
    talk.goes_on().await;
    // After a while one may again.
    until("the limit to have room", async || {
        let mut raw = world.connect().await;
        raw.hello(eve.ticket()).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_sends_too_fast_is_slowed_down() {
    let world = World::with(|config| {
        config.limits.messages_per_device_burst = 10;
        config.limits.messages_per_device_per_second = 50;
    })
    .await;
    let mut talk = Talk::begin(&world).await;
    let mut eve = world.register("eve").await;
    let mut up = eve.uplink(&talk.ann).await;
    let sends: Vec<Frame> = (0..60).map(|_| Frame::Send(up.number("fast"))).collect();
    up.stream.say_all(&sends).await;
    talk.goes_on().await;
    for counter in 1..=60 {
        assert_eq!(up.accepted().await.counter, counter);
    }
    assert!(world.limited("messages") > 0);
    assert_eq!(world.metrics().sends_refused.get(Code::RateLimited), 0);
    eve.done(RequestBody::Ping).await;
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_have_a_limit() {
    let world = World::with(|config| config.limits.watches = 2).await;
    let mut ann = world.register("ann").await;
    assert_eq!(ann.welcome.limits.watches, 2);
    let mut accounts = Vec::new();
    for name in ["bob", "carl", "dora"] {
        let peer = world.register(name).await;
        ann.uplink(&peer).await.send("hello").await;
        accounts.push(peer.account());
    }
    assert_eq!(ann.watch(&accounts[..2]).await.len(), 2);
    // The same again is no more.
    ann.watch(&accounts[..2]).await;
    let third = RequestBody::Watch(accounts[2..].to_vec());
    assert_eq!(ann.refused(third.clone()).await, Code::TooMany);
    ann.done(RequestBody::Unwatch(accounts[..1].to_vec())).await;
    assert!(matches!(ann.ask(third).await, tern_protocol::frame::ResponseBody::Presence(_)));
    assert_eq!(world.metrics().requests_refused.get(Code::TooMany), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_have_as_many_devices_as_configured() {
    let world = World::with(|config| config.limits.devices_per_account = 3).await;
    let mut ann = world.register("ann").await;
    let spare = ann.link().await;
    let _phones = [world.link(&mut ann).await, world.link(&mut ann).await];
    assert_eq!(ann.refused(RequestBody::CreateLink).await, Code::TooMany);
    let mut raw = world.connect().await;
    let credential = raw.register(&Key::new(), "ann", Entitlement::Link(spare));
    assert_eq!(raw.rejected(credential).await, Code::TooMany);
}
