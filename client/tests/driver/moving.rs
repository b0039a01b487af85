//! Changes of the network, and connections that fall silent.

use std::time::Duration;

use tern_client::{Client, ClientEvent, Code, ConnectionState, KeepAlive, Settings, Tick};
use tern_protocol::{
    codec,
    frame::{Ack, Deliver, Envelope, Frame, OpenDownlink, RequestBody},
    grease, limits,
};

use crate::{
    fake::{End, Fake, Visit, var_int},
    person::{Person, person, person_with, registration},
    relay::Relay,
};

/// Waits until the device is connected anew, without having been disconnected.
async fn connected_anew(person: &mut Person) {
    loop {
        match person.events.next().await.unwrap() {
            ClientEvent::Connection(ConnectionState::Connected) => return,
            ClientEvent::Connection(other) => panic!("{other:?}"),
            _ => {}
        }
    }
}

/// Through the relay, and not any more: the next attempt has a TLS session, and is heard without an answer.
async fn connected_once(person: &mut Person, relay: &Relay) {
    person.client.move_server(Some(relay.address.to_string()), None, None).await.unwrap();
    person.connected().await;
    person.client.ping().await.unwrap();
    person.client.shutdown().await;
}

fn has_ping(visit: &Visit) -> bool {
    visit
        .frames
        .iter()
        .any(|frame| matches!(frame, Frame::Request(it) if it.body == RequestBody::Ping))
}

#[tokio::test]
async fn what_is_unanswered_goes_again_at_once_on_a_new_stream() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    ann.connected().await;
    fake.world().hold_answers = true;
    let local = ann.client.send("bob", b"once").await.unwrap();
    let id = fake.conversation(0, 1);
    fake.until(|world| world.logs.get(&id).is_some_and(|log| log.len() == 1)).await;
    fake.world().hold_answers = false;
    let connection = fake.connection(fake.device(0));
    let before = connection.remote_address();

    ann.client.network_changed().await;
    let tick = ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    assert_eq!(tick, (Tick::Sent, None));
    fake.until(|world| world.uplinks[0].ended.is_some()).await;
    fake.until(|world| has_ping(world.visits.last().unwrap())).await;
    assert_ne!(connection.remote_address(), before);
    // On the same connection, and in the place that it had.
    assert!(connection.close_reason().is_none());
    assert_eq!(fake.texts(id), ["once"]);
    let world = fake.world();
    assert_eq!(world.uplinks.len(), 2);
    assert_eq!(world.uplinks[0].ended, Some(End::Reset(Code::NoError)));
    assert_eq!(world.uplinks[0].stopped, Some(Code::NoError));
    // So much went up that what waits may come down.
    let mut bytes = 0;
    for frame in &world.visits.last().unwrap().frames {
        if let Frame::Extension(extension) = frame {
            assert!(grease::is_grease(extension.id));
            assert!(extension.body.len() <= limits::GREASE_BYTES);
            bytes += codec::encode(frame).len();
        }
    }
    assert!(bytes >= 2_000, "{bytes}");
}

#[tokio::test]
async fn a_silent_connection_is_left_for_another() {
    let fake = Fake::start();
    let relay = Relay::start(fake.address).await;
    let mut ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    ann.client.move_server(Some(relay.address.to_string()), None, None).await.unwrap();
    ann.connected().await;
    relay.cut();
    let local = ann.client.send("bob", b"into the void").await.unwrap();
    connected_anew(&mut ann).await;
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    assert_eq!(fake.texts(fake.conversation(0, 1)), ["into the void"]);
    // In its first flight.
    assert_eq!(fake.world().hellos().last(), Some(&(true, true)));
    assert_eq!(fake.world().hellos().len(), 4);
    ann.client.ping().await.unwrap();
}

#[tokio::test]
async fn a_connection_without_a_word_is_known_to_be_dead() {
    let fake = Fake::start();
    let relay = Relay::start(fake.address).await;
    let keep_alive = Some(KeepAlive::fixed(Duration::from_millis(50)));
    let mut ann = person_with(&fake, "ann", Settings { keep_alive, ..Default::default() }).await;
    ann.client.move_server(Some(relay.address.to_string()), None, None).await.unwrap();
    ann.connected().await;
    // Nobody has anything to say.
    relay.cut();
    connected_anew(&mut ann).await;
    ann.client.ping().await.unwrap();
}

#[tokio::test]
async fn who_begins_to_look_hears_soon_that_the_connection_is_dead() {
    let fake = Fake::start();
    let relay = Relay::start(fake.address).await;
    let settings = Settings { keep_alive: None, active: false, ..Default::default() };
    let mut ann = person_with(&fake, "ann", settings).await;
    ann.client.move_server(Some(relay.address.to_string()), None, None).await.unwrap();
    ann.connected().await;
    relay.cut();
    ann.client.set_active(true).await;
    connected_anew(&mut ann).await;
}

#[tokio::test]
async fn a_connection_that_stays_silent_is_given_up() {
    let fake = Fake::start();
    let relay = Relay::start(fake.address).await;
    let settings = Settings { idle_timeout: Duration::ZERO, ..Default::default() };
    let mut ann = person_with(&fake, "ann", settings).await;
    let _bob = person(&fake, "bob").await;
    ann.client.move_server(Some(relay.address.to_string()), None, None).await.unwrap();
    ann.connected().await;
    // No other connection can be made either.
    relay.hold();
    ann.client.send("bob", b"into the void").await.unwrap();
    ann.connection(|state| !matches!(state, ConnectionState::Connected)).await;
}

#[tokio::test]
async fn an_attempt_to_connect_begins_anew() {
    let fake = Fake::start();
    let relay = Relay::start(fake.address).await;
    let home = tempfile::tempdir().unwrap();
    // Nothing but the change of the network ends the attempt.
    let for_ever = Duration::from_secs(3_600);
    let settings =
        Settings { connect_timeout: for_ever, idle_timeout: for_ever, ..Default::default() };
    let (client, events) = Client::open(home.path(), settings).await.unwrap();
    client.register(registration(&fake, "ann")).await.unwrap();
    let mut ann = Person { client, events, home };
    let _bob = person(&fake, "bob").await;
    connected_once(&mut ann, &relay).await;
    let local = ann.client.send("bob", b"waits").await.unwrap();
    relay.hold();
    let before = fake.world().visits.len();
    ann.client.connect();
    fake.until(|world| world.visits.len() == before + 1).await;
    ann.client.network_changed().await;
    fake.until(|world| world.visits.len() == before + 2).await;
    relay.release();
    ann.connection(|state| match state {
        ConnectionState::Connected => true,
        ConnectionState::Connecting => false,
        other => panic!("{other:?}"),
    })
    .await;
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
}

#[tokio::test]
async fn being_replaced_by_an_attempt_that_was_given_up_is_no_reason_to_stop() {
    let fake = Fake::start();
    let relay = Relay::start(fake.address).await;
    let mut ann = person(&fake, "ann").await;
    connected_once(&mut ann, &relay).await;
    relay.hold();
    let before = fake.world().visits.len();
    ann.client.connect();
    fake.until(|world| world.visits.len() == before + 1).await;
    ann.client.network_changed().await;
    relay.release();
    ann.connection(|state| matches!(state, ConnectionState::Connected)).await;
    // As if the server had read the first attempt only now, and before it those of a process that was killed.
    for _ in 0..4 {
        fake.drop_connections(Code::Replaced);
        ann.connection(|state| match state {
            ConnectionState::Connected => true,
            ConnectionState::Stopped { error } => panic!("{error}"),
            _ => false,
        })
        .await;
    }
    // The next one says that somebody else is the device.
    fake.drop_connections(Code::Replaced);
    ann.connection(|state| matches!(state, ConnectionState::Stopped { .. })).await;
}

#[tokio::test]
async fn a_downlink_may_follow_another_before_its_end() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let mut bob = person(&fake, "bob").await;
    ann.client.connect();
    bob.connected().await;
    ann.client.send("bob", b"1").await.unwrap();
    assert_eq!(bob.messages(1).await, ["1"]);
    let (id, device) = (fake.conversation(0, 1), fake.device(1));
    // The server repeats what it has no ack of, while the first downlink is still open.
    let connection = fake.connection(device);
    let open = Frame::OpenDownlink(OpenDownlink {
        conversation: id,
        start: 0,
        head: 2,
        peer: tern_protocol::frame::Account { account: fake.account(0), name: "ann".into() },
        revision: 0,
    });
    let deliver = |seq: u64, text: &'static str| {
        Frame::Deliver(Deliver {
            seq,
            account: fake.account(0),
            device: fake.device(0),
            message_id: seq + 100,
            time_ms: 7,
            envelope: Envelope(text.into()),
        })
    };
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    for frame in [open, deliver(1, "1"), deliver(2, "2")] {
        send.write_all(&codec::encode(&frame)).await.unwrap();
    }
    assert_eq!(bob.messages(1).await, ["2"]);
    let expected = codec::encode(&Frame::Ack(Ack { seq: 2, revision: 0 }));
    let mut acks = Vec::new();
    while !acks.ends_with(&expected) {
        let chunk = recv.read_chunk(usize::MAX, true).await.unwrap().unwrap();
        acks.extend_from_slice(&chunk.bytes);
    }
    // A stream that is reset with something under way does no harm either.
    send.reset(var_int(Code::NoError)).unwrap();
    recv.stop(var_int(Code::NoError)).unwrap();
    bob.client.ping().await.unwrap();
}
