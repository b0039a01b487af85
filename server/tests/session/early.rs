//! 0-RTT: hello and sends in the first flight.

use tern_protocol::{
    code::Code,
    frame::{Event, Frame, OpenUplink, PresenceState, RequestBody},
};

use crate::common::{
    World,
    client::{Client, Uplink, send},
    raw::{Raw, Stream, client_config, hello},
    relay::Relay,
    until,
};

/// A client's QUIC settings with a TLS session to resume, and its device, which has left.
async fn resumable(
    world: &World,
    client: Client,
) -> (quinn::ClientConfig, crate::common::client::Away) {
    // The end of one connection isn't to be taken for that of the other.
    let away = client.leave(world).await;
    let quic = client_config(world.tls());
    let address = world.server().address();
    let mut raw = Raw::connect(&world.endpoint, quic.clone(), address).await.unwrap();
    // The session tickets are there at the latest when the server has answered something.
    let welcome = raw.hello(away.ticket()).await.unwrap();
    let client = Client::new(raw, welcome, away.key);
    (quic, client.leave(world).await)
}

/// Connects with 0-RTT.
fn resume(
    world: &World,
    quic: quinn::ClientConfig,
    address: std::net::SocketAddr,
) -> (quinn::Connection, quinn::ZeroRttAccepted) {
    let connecting = world.endpoint.connect_with(quic, address, "localhost").unwrap();
    connecting.into_0rtt().unwrap_or_else(|_| panic!("there is no session to resume"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_and_sends_are_taken_in_the_first_flight() {
    let world = World::start().await;
    let [ann, bob] = world.two().await;
    let conversation = ann.with(&bob);
    let peer = Some(bob.account());
    let (quic, ann) = resumable(&world, ann).await;
    let metrics = world.metrics();
    // The handshake isn't complete before they are taken.
    let relay = Relay::to(world.server().address()).await;
    relay.pass_down(false);
    let (connection, accepted) = resume(&world, quic, relay.address);
    let mut session = Stream::new(connection.open_bi().await.unwrap());
    session.say(&Frame::Hello(hello(ann.ticket()))).await;
    let mut stream = Stream::new(connection.open_bi().await.unwrap());
    let message = send(1, 0, "at once");
    stream.say(&Frame::OpenUplink(OpenUplink { conversation, peer })).await;
    stream.say(&Frame::Send(message)).await;
    until("the send to be taken", async || metrics.sends_accepted.get() == 1).await;
    relay.pass_down(true);
    assert!(crate::common::wait("the handshake", accepted).await, "0-RTT was rejected");
    match session.frame().await {
        Frame::Welcome(welcome) => assert_eq!(welcome.device, ann.welcome.device),
        other => panic!("a welcome was due: {other:?}"),
    }
    let mut up = Uplink { stream, next: 2, settled: 0 };
    assert_eq!(up.accepted().await.seq, 1);
    bob.downlink().await.hears("at once").await;
    up.settled = 1;
    up.send("later").await;
    until("the handshake to be noticed", async || metrics.early_data.get() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn until_the_handshake_is_complete_nothing_but_sends_has_an_effect() {
    let world = World::start().await;
    let [ann, mut bob] = world.two().await;
    let conversation = ann.with(&bob);
    let peer = Some(bob.account());
    // Bob watches ann, and something waits for her.
    let mut up = bob.uplink(&ann).await;
    up.send("for ann").await;
    let (quic, ann) = resumable(&world, ann).await;
    // Others may hear that she left a moment later.
    if bob.watch(&[ann.welcome.account]).await[0].state != PresenceState::Offline {
        let event = bob.event().await;
        assert!(matches!(event, Event::Presence(it) if it.state == PresenceState::Offline));
    }
    let metrics = world.metrics();

    // Ann's first flight arrives; what the server says doesn't.
    let relay = Relay::to(world.server().address()).await;
    relay.pass_down(false);
    let (connection, accepted) = resume(&world, quic, relay.address);
    let mut session = Stream::new(connection.open_bi().await.unwrap());
    session.say(&Frame::Hello(hello(ann.ticket()))).await;
    let mut stream = Stream::new(connection.open_bi().await.unwrap());
    stream
        .say_all(&[
            Frame::OpenUplink(OpenUplink { conversation, peer }),
            Frame::Send(send(1, 0, "at once")),
        ])
        .await;
    // Her message is accepted and delivered, and she is not online.
    let mut down = bob.downlink().await;
    down.skip().await;
    down.hears("at once").await;
    let sessions = metrics.sessions.get();
    assert_eq!(sessions, 1, "bob's alone");
    assert_eq!(bob.events_so_far().await, []);

    // Her phone signs in for good on another connection meanwhile: it isn't ended.
    let mut raw = world.connect().await;
    let credential = raw.sign_in(&ann.key, ann.welcome.account, ann.welcome.device);
    let welcome = raw.hello(credential).await.unwrap();
    let other = Client::new(raw, welcome, ann.key);
    assert!(matches!(bob.event().await, Event::Presence(it) if it.state == PresenceState::Online));
    other.downlink().await.hears("for ann").await;
    assert!(other.raw.connection.close_reason().is_none());

    // The handshake is completed at last. The connection is the older one of the two.
    relay.pass_down(true);
    assert!(crate::common::wait("the handshake", accepted).await);
    let end = crate::common::wait("the older connection's end", connection.closed()).await;
    assert_eq!(crate::common::raw::code_of(&end), Code::Replaced);
    assert!(other.raw.connection.close_reason().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provisional_hello_replaces_an_older_connection_once_it_is_sure() {
    let world = World::start().await;
    let [ann, mut bob] = world.two().await;
    let mut up = bob.uplink(&ann).await;
    up.send("for ann").await;
    let (quic, ann) = resumable(&world, ann).await;
    let older = ann.back(&world).await;
    assert_eq!(bob.watch(&[older.account()]).await[0].state, PresenceState::Online);
    let metrics = world.metrics();
    let relay = Relay::to(world.server().address()).await;
    relay.pass_down(false);
    let (connection, accepted) = resume(&world, quic, relay.address);
    let mut session = Stream::new(connection.open_bi().await.unwrap());
    let tickets = metrics.sign_ins_by_ticket.get();
    let ticket = tern_protocol::frame::Credential::Ticket(older.welcome.ticket.clone());
    session.say(&Frame::Hello(hello(ticket))).await;
    until("the hello to be taken", async || metrics.sign_ins_by_ticket.get() > tickets).await;
    // The older one goes on, and is who gets messages.
    let mut down = older.downlink().await;
    down.delivery().await;
    assert!(older.raw.connection.close_reason().is_none());
    relay.pass_down(true);
    assert!(crate::common::wait("the handshake", accepted).await);
    assert_eq!(older.raw.closed().await, Code::Replaced);
    let Frame::Welcome(welcome) = session.frame().await else { panic!("a welcome was due") };
    assert!(welcome.epoch > older.welcome.epoch);
    assert_eq!(welcome.mailbox.positions, 1);
    let mut down = Stream::new(connection.accept_bi().await.unwrap());
    assert!(matches!(down.frame().await, Frame::OpenDownlink(_)));
    assert!(matches!(down.frame().await, Frame::Deliver(_)));
    assert_eq!(bob.events_so_far().await, [], "ann was online all the time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_first_flight_has_no_effect_the_second_time() {
    let world = World::start().await;
    let [ann, bob] = world.two().await;
    let conversation = ann.with(&bob);
    let peer = Some(bob.account());
    let message = send(1, 0, "once");
    let mut last = None;
    let (quic, ann) = resumable(&world, ann).await;
    for _ in 0..2 {
        let (connection, accepted) = resume(&world, quic.clone(), world.server().address());
        let mut session = Stream::new(connection.open_bi().await.unwrap());
        session.say(&Frame::Hello(hello(ann.ticket()))).await;
        let mut stream = Stream::new(connection.open_bi().await.unwrap());
        stream.say(&Frame::OpenUplink(OpenUplink { conversation, peer })).await;
        stream.say(&Frame::Send(message.clone())).await;
        assert!(crate::common::wait("the handshake", accepted).await);
        session.frame().await;
        let mut up = Uplink { stream, next: 2, settled: 0 };
        assert_eq!(up.accepted().await.seq, 1);
        last = Some((connection, session, up));
    }
    let (_connection, _session, mut up) = last.unwrap();
    up.settled = 1;
    up.send("twice").await;
    let mut down = bob.downlink().await;
    down.hears("once").await;
    assert_eq!(down.hears("twice").await.seq, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_take_no_early_data() {
    let world = World::with(|config| config.tls.resumption_sessions = 0).await;
    let ann = world.register("ann").await;
    let (quic, _ann) = resumable(&world, ann).await;
    let connecting =
        world.endpoint.connect_with(quic, world.server().address(), "localhost").unwrap();
    assert!(connecting.into_0rtt().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_removed_while_it_signs_in_does_not_get_in() {
    let world = World::start().await;
    let mut ann = world.register("ann").await;
    let phone = world.link(&mut ann).await;
    let (quic, phone) = resumable(&world, phone).await;
    let metrics = world.metrics();
    let relay = Relay::to(world.server().address()).await;
    relay.pass_down(false);
    let (connection, accepted) = resume(&world, quic, relay.address);
    let mut session = Stream::new(connection.open_bi().await.unwrap());
    let tickets = metrics.sign_ins_by_ticket.get();
    session.say(&Frame::Hello(hello(phone.ticket()))).await;
    until("the hello to be taken", async || metrics.sign_ins_by_ticket.get() > tickets).await;
    ann.done(RequestBody::RemoveDevice(phone.welcome.device)).await;
    relay.pass_down(true);
    assert!(crate::common::wait("the handshake", accepted).await);
    let end = crate::common::wait("the connection's end", connection.closed()).await;
    assert_eq!(crate::common::raw::code_of(&end), Code::DeviceRemoved);
    until("ann alone", async || metrics.sessions.get() == 1).await;
}
