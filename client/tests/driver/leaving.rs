//! How a client leaves a server, or is left.

use tern_client::{ClientEvent, Code, ConnectError, ConnectionState, Tick};
use tern_protocol::frame::{Frame, GoAway};

use crate::{
    fake::Fake,
    person::{Person, person},
};

fn go_away(target: &str, within_ms: u64) -> Frame {
    let (code, target) = (Code::GoingAway, target.to_owned());
    Frame::GoAway(GoAway { code, within_ms, target, text: String::new() })
}

/// Waits until the device is connected anew, without having been disconnected.
async fn moved(person: &mut Person) {
    loop {
        match person.events.next().await.unwrap() {
            ClientEvent::Connection(ConnectionState::Connected) => return,
            ClientEvent::Connection(other) => panic!("{other:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_replaced_device_does_not_fight() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    ann.connected().await;
    // It may have been attempts of its own, of a process before this one that was killed: three at most.
    for _ in 0..3 {
        fake.drop_connections(Code::Replaced);
        ann.connection(|state| matches!(state, ConnectionState::Connected)).await;
    }
    fake.drop_connections(Code::Replaced);
    ann.connection(|state| {
        matches!(state, ConnectionState::Stopped { error: ConnectError::Closed(Code::Replaced) })
    })
    .await;
}

#[tokio::test]
async fn a_draining_server_is_left_for_another_connection() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    ann.connected().await;
    fake.tell_all(&go_away(&fake.address.to_string(), 100)).await;
    moved(&mut ann).await;
    let local = ann.client.send("bob", b"moved").await.unwrap();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
}

#[tokio::test]
async fn a_move_leads_to_the_target_and_everything_is_sent_there() {
    let fake = Fake::start();
    let other = fake.node(1);
    let mut ann = person(&fake, "ann").await;
    let mut bob = person(&fake, "bob").await;
    ann.connected().await;
    bob.connected().await;
    // An uplink is open when the move begins.
    let local = ann.client.send("bob", b"before").await.unwrap();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    assert_eq!(bob.messages(1).await, ["before"]);
    // The server takes the new connection for the newest and closes the old one with `replaced`.
    fake.tell_all(&go_away(&other.address.to_string(), 100)).await;
    moved(&mut ann).await;
    moved(&mut bob).await;
    let local = ann.client.send("bob", b"after").await.unwrap();
    ann.client.wait_for_tick(local, Tick::Delivered).await.unwrap();
    assert_eq!(bob.messages(1).await, ["after"]);

    let world = fake.world();
    let sent = |node: usize| {
        let visits = world.visits.iter().filter(move |visit| visit.node == node);
        let sends = visits.flat_map(|visit| &visit.frames).filter_map(|frame| match frame {
            Frame::Send(send) => Some(String::from_utf8(send.envelope.0.to_vec()).unwrap()),
            _ => None,
        });
        sends.collect::<Vec<_>>()
    };
    assert_eq!((sent(0), sent(1)), (vec!["before".to_owned()], vec!["after".to_owned()]));
    let signed_in: Vec<_> = world.visits.iter().map(|visit| visit.node).collect();
    assert_eq!(signed_in, [0, 0, 0, 0, 1, 1]);
}

#[tokio::test]
async fn being_replaced_while_moving_is_no_reason_to_stop() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    ann.connected().await;
    let old = fake.connection(fake.device(0));
    fake.tell_all(&go_away("", 1_000)).await;
    // Its answer comes behind the goAway.
    ann.client.ping().await.unwrap();
    old.close(u32::from(Code::Replaced.value()).into(), b"");
    moved(&mut ann).await;
    let local = ann.client.send("bob", b"still here").await.unwrap();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
}
