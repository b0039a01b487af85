//! Presence, typing, and what inactive clients are spared.

use tern_protocol::{
    code::Code,
    frame::{Event, Frame, Hello, Presence, PresenceState, Request, RequestBody},
};

use crate::common::{
    World,
    client::Client,
    is_pending,
    raw::{Raw, hello, var_int},
    relay::Relay,
    until,
};

/// The presence that the next event tells, which must be of this client's account.
async fn told(watcher: &mut Client, of: &Client) -> PresenceState {
    match watcher.event().await {
        Event::Presence(presence) => {
            assert_eq!(presence.account, of.account());
            presence.state
        }
        other => panic!("presence was due: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_a_conversation_sees_who_is_online() {
    let world = World::start().await;
    let [mut ann, mut bob] = world.two().await;
    // Before they have talked, they are strangers, and so is whoever doesn't exist.
    let stranger = tern_protocol::id::AccountId::new(5).unwrap();
    for presence in ann.watch(&[bob.account(), stranger]).await {
        assert_eq!((presence.state, presence.last_seen_ms), (PresenceState::Unknown, 0));
    }
    bob.uplink(&ann).await.send("hello").await;
    let [presence] = ann.watch(&[bob.account()]).await[..] else { panic!("one was asked for") };
    assert_eq!(presence.state, PresenceState::Online);
    // Leaving and coming back is told, with when he was seen.
    let away = bob.leave(&world).await;
    let Event::Presence(offline) = ann.event().await else { panic!("presence was due") };
    assert_eq!(offline.state, PresenceState::Offline);
    assert!(offline.last_seen_ms >= away.welcome.time_ms);
    bob = away.back(&world).await;
    assert_eq!(told(&mut ann, &bob).await, PresenceState::Online);
    // Once she doesn't watch any more, nothing is told.
    ann.done(RequestBody::Unwatch(vec![bob.account()])).await;
    let bob = bob.leave(&world).await;
    until("bob to be forgotten", async || world.metrics().sessions.get() == 1).await;
    assert_eq!(ann.events_so_far().await, []);
    // Asked again, the server still knows when it was.
    let is_offline = |presence: &Presence| {
        presence.state == PresenceState::Offline && presence.last_seen_ms >= offline.last_seen_ms
    };
    until("bob's last sign", async || {
        let presence = ann.watch(&[bob.welcome.account]).await;
        ann.done(RequestBody::Unwatch(vec![bob.welcome.account])).await;
        is_offline(&presence[0])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_the_connection() {
    let world = World::start().await;
    let [mut ann, bob] = world.two().await;
    bob.uplink(&ann).await.send("hello").await;
    ann.watch(&[bob.account()]).await;
    let mut ann = ann.again(&world).await;
    let bob = bob.again(&world).await;
    until("bob to be back", async || world.metrics().sessions.get() == 2).await;
    assert_eq!(ann.events_so_far().await, []);
    assert_eq!(ann.watch(&[bob.account()]).await[0].state, PresenceState::Online);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_online_while_one_of_its_devices_is_active() {
    let world = World::start().await;
    let [mut ann, mut bob] = world.two().await;
    let mut phone = world.link(&mut bob).await;
    bob.uplink(&ann).await.send("hello").await;
    ann.watch(&[bob.account()]).await;
    bob.done(RequestBody::SetActive(false)).await;
    assert_eq!(ann.events_so_far().await, [], "the phone is active");
    phone.done(RequestBody::SetActive(false)).await;
    assert_eq!(told(&mut ann, &bob).await, PresenceState::Offline);
    bob.done(RequestBody::SetActive(true)).await;
    assert_eq!(told(&mut ann, &bob).await, PresenceState::Online);
    // Who signs in as inactive isn't online.
    let bob = bob.leave(&world).await;
    assert!(matches!(
        ann.event().await,
        Event::Presence(Presence { state: PresenceState::Offline, .. })
    ));
    let mut bob = bob.back_as(&world, false).await;
    assert_eq!(ann.events_so_far().await, []);
    bob.done(RequestBody::SetActive(true)).await;
    assert_eq!(told(&mut ann, &bob).await, PresenceState::Online);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_at_once_was_never_gone() {
    let world = World::with(|config| config.presence.grace_ms = 5_000).await;
    let [mut ann, bob] = world.two().await;
    bob.uplink(&ann).await.send("hello").await;
    ann.watch(&[bob.account()]).await;
    // His network changes: the connection ends for another reason than that he left.
    bob.raw.connection.close(var_int(Code::Internal), b"");
    until("bob to be gone", async || world.metrics().sessions.get() == 1).await;
    assert_eq!(ann.events_so_far().await, []);
    let bob = bob.away().back(&world).await;
    assert_eq!(ann.events_so_far().await, []);
    // If he leaves himself, that is told at once.
    let _bob = bob.leave(&world).await;
    assert!(matches!(
        ann.event().await,
        Event::Presence(Presence { state: PresenceState::Offline, .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_vanishes_is_offline_after_a_while() {
    let world = World::with(|config| config.listen.idle_for_ms = 5_000).await;
    let [mut ann, bob] = world.two().await;
    assert_eq!(ann.welcome.limits.idle_for_ms, 5_000);
    bob.uplink(&ann).await.send("hello").await;
    let bob = bob.leave(&world).await;
    let relay = Relay::to(world.server().address()).await;
    let mut raw = Raw::connect(&world.endpoint, world.quic(), relay.address).await.unwrap();
    let welcome = raw.hello_as(hello(bob.ticket())).await.unwrap();
    assert_eq!(ann.watch(&[welcome.account]).await[0].state, PresenceState::Online);
    relay.pass_up(0);
    relay.pass_down(false);
    assert!(matches!(
        ann.event().await,
        Event::Presence(Presence { state: PresenceState::Offline, .. })
    ));
    until("the session to end", async || world.metrics().sessions.get() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_sends_keeps_nobody_alive() {
    let world = World::with(|config| config.listen.idle_for_ms = 5_000).await;
    let [mut ann, bob] = world.two().await;
    let mut up = ann.uplink(&bob).await;
    up.send("hello").await;
    let bob = bob.leave(&world).await;
    let relay = Relay::to(world.server().address()).await;
    let mut raw = Raw::connect(&world.endpoint, world.quic(), relay.address).await.unwrap();
    let welcome = raw.hello_as(hello(bob.ticket())).await.unwrap();
    ann.watch(&[welcome.account]).await;
    relay.pass_up(0);
    relay.pass_down(false);
    // As long as he is connected the server has something to send to him.
    until("bob to be gone", async || {
        up.typing(true).await;
        ann.done(RequestBody::Ping).await;
        world.metrics().sessions.get() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inactive_client_may_be_silent_for_longer() {
    let world = World::with(|config| config.listen.idle_for_ms = 5_000).await;
    let [mut ann, bob] = world.two().await;
    let eve = world.register("eve").await;
    assert_eq!(ann.welcome.limits.inactive_idle_for_ms, 600_000);
    bob.uplink(&ann).await.send("hello").await;
    let bobs_account = bob.account();
    let mut silent = Vec::new();
    for (away, active) in [(eve.leave(&world).await, false), (bob.leave(&world).await, true)] {
        let relay = Relay::to(world.server().address()).await;
        let mut raw = Raw::connect(&world.endpoint, world.quic(), relay.address).await.unwrap();
        raw.hello_as(Hello { active, ..hello(away.ticket()) }).await.unwrap();
        silent.push((raw, relay));
    }
    for (_, relay) in &silent {
        relay.pass_up(0);
        relay.pass_down(false);
    }
    until("bob to be offline", async || {
        ann.watch(&[bobs_account]).await[0].state == PresenceState::Offline
    })
    .await;
    assert_eq!(world.metrics().sessions.get(), 2, "she may be silent for ten minutes");
    // From when she looks on, no longer.
    let (eve, relay) = &mut silent[0];
    relay.pass_up(usize::MAX);
    relay.pass_down(true);
    let body = RequestBody::SetActive(true);
    eve.session.say(&Frame::Request(Request { id: 1, body })).await;
    while !matches!(eve.session.frame().await, Frame::Response(_)) {}
    relay.pass_up(0);
    until("eve to be gone", async || world.metrics().sessions.get() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_goes_to_the_others_active_devices_and_nowhere_else() {
    let world = World::start().await;
    let [mut ann, mut bob] = world.two().await;
    let mut desk = world.link(&mut ann).await;
    let mut phone = world.link(&mut bob).await;
    let mut eve = world.register("eve").await;
    let mut up = ann.uplink(&bob).await;
    up.send("hello").await;
    bob.events_so_far().await;
    ann.events_so_far().await;
    phone.done(RequestBody::SetActive(false)).await;
    let conversation = ann.with(&bob);
    for active in [true, false] {
        up.typing(active).await;
        let account = ann.account();
        assert_eq!(bob.event().await, Event::Typing { conversation, account, active });
    }
    for other in [&mut ann, &mut desk, &mut phone, &mut eve] {
        assert_eq!(other.events_so_far().await, []);
    }
    // Nobody who comes later hears of it.
    up.typing(true).await;
    bob.event().await;
    let mut bob = bob.again(&world).await;
    assert_eq!(bob.events_so_far().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inactive_client_is_spared_until_it_looks_again() {
    let world = World::start().await;
    let [mut ann, mut bob] = world.two().await;
    let mut up = bob.uplink(&ann).await;
    up.send("hello").await;
    ann.watch(&[bob.account()]).await;
    ann.done(RequestBody::SetActive(false)).await;
    up.typing(true).await;
    bob.done(RequestBody::SetActive(false)).await;
    bob.done(RequestBody::SetActive(true)).await;
    bob.done(RequestBody::SetActive(false)).await;
    up.send("are you there?").await;
    assert_eq!(ann.events_so_far().await, []);
    // Messages aren't held back.
    let mut down = ann.downlink().await;
    down.hears("hello").await;
    down.hears("are you there?").await;
    // When she looks, she gets the state of now.
    ann.done(RequestBody::SetActive(true)).await;
    assert_eq!(told(&mut ann, &bob).await, PresenceState::Offline);
    assert_eq!(ann.events_so_far().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inactive_client_gets_receipts_with_the_next_message_or_when_it_looks() {
    let world = World::start().await;
    let [mut ann, bob] = world.two().await;
    let mut up = ann.uplink(&bob).await;
    up.send("one").await;
    ann.done(RequestBody::SetActive(false)).await;
    let mut down = bob.downlink().await;
    down.hears("one").await;
    bob.uplink(&ann).await.read(1).await;
    // The mark is durable, and with it what ann is to be told; it waits for her to look.
    ann.done(RequestBody::Ping).await;
    {
        let connection = ann.raw.connection.clone();
        let mut downlink = std::pin::pin!(connection.accept_bi());
        assert!(is_pending(downlink.as_mut()).await, "nobody looks");
    }
    ann.done(RequestBody::SetActive(true)).await;
    let mut receipts = ann.downlink().await;
    receipts.receipt_when(bob.account(), |it| it.delivered == 1 && it.read == 1).await;
}
