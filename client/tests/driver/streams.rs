//! The streams of a connection: how many, and how they end.

use std::time::Duration;

use futures_util::FutureExt;
use tern_client::{AccountId, Code, ConversationId, Settings, Tick};
use tern_protocol::{
    codec,
    frame::{Account, Frame, OpenDownlink},
};

use crate::{
    fake::{End, Fake, from_var_int, var_int},
    person::{person, person_with},
};

#[tokio::test]
async fn more_conversations_than_streams_take_turns() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    for n in 0..12 {
        drop(person(&fake, &format!("peer{n}")).await);
    }
    ann.client.connect();
    let mut locals = Vec::new();
    for round in 0..3 {
        for n in 0..12 {
            let text = round.to_string();
            let local = ann.client.send(format!("peer{n}").as_str(), text.as_bytes()).await;
            locals.push(local.unwrap());
        }
    }
    for local in locals {
        ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    }
    assert!(fake.world().logs.values().all(|log| log.len() == 3));
}

#[tokio::test]
async fn the_server_may_open_as_many_streams_as_it_needs() {
    for (downlinks, expected) in [(Settings::default().downlinks, 32), (1, 4)] {
        let fake = Fake::start();
        let settings = Settings { downlinks, ..Default::default() };
        // The registration alone takes a stream of one direction, for the greeting.
        let mut ann = person_with(&fake, "ann", settings).await;
        ann.connected().await;
        let connection = fake.connection(fake.device(0));
        // They don't count as long as nothing is sent on them.
        let mut streams = Vec::new();
        while let Some(stream) = connection.open_bi().now_or_never() {
            streams.push(stream.unwrap());
        }
        assert!(streams.len() >= expected, "{} of {expected}", streams.len());
    }
}

#[tokio::test]
async fn streams_of_one_direction_are_stopped() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    ann.connected().await;
    let connection = fake.connection(fake.device(0));
    // More than may be open at a time: one that was stopped makes place for the next.
    for _ in 0..5 {
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&[0xff; 100]).await.unwrap();
        let code = stream.stopped().await.unwrap().map(from_var_int);
        assert_eq!(code, Some(Code::UnknownStream));
    }
    ann.client.ping().await.unwrap();
}

#[tokio::test]
async fn an_idle_uplink_is_ended_and_another_opened_when_needed() {
    let fake = Fake::start();
    let settings = Settings { uplink_idle: Duration::from_millis(1), ..Default::default() };
    let ann = person_with(&fake, "ann", settings).await;
    let _bob = person(&fake, "bob").await;
    ann.client.connect();
    for round in 1..=3 {
        let local = ann.client.send("bob", b"x").await.unwrap();
        ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
        fake.until(|world| world.uplinks.iter().all(|uplink| uplink.ended.is_some())).await;
        assert_eq!(fake.world().uplinks.len(), round);
    }
    for uplink in &fake.world().uplinks {
        assert_eq!(uplink.ended, Some(End::Finished));
    }
}

#[tokio::test]
async fn a_downlink_that_the_server_ends_is_acknowledged_and_ended() {
    let fake = Fake::start();
    fake.world().end_downlinks = true;
    let ann = person(&fake, "ann").await;
    let bob = person(&fake, "bob").await;
    ann.client.connect();
    for text in [b"1", b"2"] {
        let local = ann.client.send("bob", text).await.unwrap();
        ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    }
    let (id, device) = (fake.conversation(0, 1), fake.device(1));
    let before = fake.world().downlinks.len();
    bob.client.connect();
    fake.until(|world| world.downlinks[before..].iter().any(|it| it.ended.is_some())).await;
    let world = fake.world();
    assert_eq!(world.downlinks[before].ended, Some(End::Finished));
    // What was due came before the end.
    assert_eq!(world.cursors[&(device, id)].seq, 2);
}

#[tokio::test]
async fn a_stream_that_the_server_breaks_off_ends_in_both_directions() {
    let fake = Fake::start();
    let settings = Settings { downlinks: 4, ..Default::default() };
    let mut ann = person_with(&fake, "ann", settings).await;
    ann.connected().await;
    let connection = fake.connection(fake.device(0));
    let open = Frame::OpenDownlink(OpenDownlink {
        conversation: ConversationId::new([1; 16]),
        start: 0,
        head: 1,
        peer: Account { account: AccountId::new(77).unwrap(), name: "bob".into() },
        revision: 0,
    });
    // More than may be open at a time: one makes place for the next when both directions have ended.
    for _ in 0..20 {
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&codec::encode(&open)).await.unwrap();
        send.reset(var_int(Code::StreamIdle)).unwrap();
        recv.stop(var_int(Code::StreamIdle)).unwrap();
    }
    ann.client.ping().await.unwrap();
}
