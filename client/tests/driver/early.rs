//! What goes out before the handshake is complete.

use tern_client::{ConnectionState, Tick};
use tern_protocol::frame::{Frame, RequestBody};

use crate::{
    fake::{CLIENT_STREAMS, Fake, Visit},
    person::person,
    relay::Relay,
};

/// The kind of a frame that may be in 0-RTT data.
fn early_kind(frame: &Frame) -> &'static str {
    match frame {
        Frame::Hello(_) => "hello",
        Frame::Extension(_) => "extension",
        Frame::OpenUplink(_) => "openUplink",
        Frame::Send(_) => "send",
        Frame::ReadMark(_) => "readMark",
        other => panic!("{other:?} in early data"),
    }
}

fn has(visit: &Visit, kind: &str) -> bool {
    visit.frames.iter().any(|frame| early_kind(frame) == kind)
}

#[tokio::test]
async fn hello_sends_and_read_marks_go_out_in_early_data_and_nothing_else() {
    let fake = Fake::start();
    let relay = Relay::start(fake.address).await;
    let mut ann = person(&fake, "ann").await;
    let mut bob = person(&fake, "bob").await;
    let _carl = person(&fake, "carl").await;
    ann.client.move_server(Some(relay.address.to_string()), None, None).await.unwrap();
    ann.connected().await;
    bob.connected().await;
    bob.client.send("ann", b"hello").await.unwrap();
    assert_eq!(ann.messages(1).await, ["hello"]);
    ann.client.shutdown().await;

    // All that the driver ever says waits.
    let id = fake.conversation(0, 1);
    relay.hold();
    ann.client.watch([fake.account(1)]).await;
    let local = ann.client.send(id, b"early").await.unwrap();
    ann.client.send("carl", b"a name to look up").await.unwrap();
    ann.client.mark_read(id, 1).await.unwrap();
    let before = fake.world().visits.len();
    ann.client.connect();
    ann.client.set_active(false).await;
    ann.client.typing(id, true).await;
    fake.until(|world| {
        let early = world.visits.get(before);
        early.is_some_and(|visit| has(visit, "send") && has(visit, "readMark"))
    })
    .await;
    let visit = fake.world().visits[before].clone();
    assert!(visit.is_early);
    let mut kinds: Vec<_> = visit.frames.iter().map(early_kind).collect();
    assert_eq!(kinds[0], "hello");
    kinds.sort_unstable();
    assert_eq!(kinds, ["extension", "hello", "openUplink", "readMark", "send"]);

    // The rest follows when the server has spoken.
    relay.release();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    fake.until(|world| {
        let frames = &world.visits[before].frames;
        let asked = |wanted: fn(&RequestBody) -> bool| {
            frames.iter().any(|it| matches!(it, Frame::Request(it) if wanted(&it.body)))
        };
        frames.iter().any(|frame| matches!(frame, Frame::Typing(_)))
            && asked(|body| matches!(body, RequestBody::Watch(_)))
            && asked(|body| matches!(body, RequestBody::SetActive(false)))
            && asked(|body| matches!(body, RequestBody::Lookup(_)))
    })
    .await;
    assert_eq!(fake.texts(id), ["hello", "early"]);
    assert_eq!(fake.world().visits.len(), before + 1);
}

#[tokio::test]
async fn what_was_rejected_as_early_data_is_sent_again_on_the_same_connection() {
    let peers = usize::try_from(CLIENT_STREAMS).unwrap() * 2;
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    let mut locals = Vec::new();
    for n in 0..peers {
        drop(person(&fake, &format!("peer{n}")).await);
        locals.push(ann.client.send(format!("peer{n}").as_str(), b"first").await.unwrap());
    }
    ann.connected().await;
    for &local in &locals {
        ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    }
    ann.client.shutdown().await;

    fake.forget_tls_sessions();
    let before = fake.world().visits.len();
    locals.clear();
    for n in 0..peers {
        for text in ["second", "third"] {
            let peer = format!("peer{n}");
            locals.push(ann.client.send(peer.as_str(), text.as_bytes()).await.unwrap());
        }
    }
    // Not a second connection: what was said anew was said on the first.
    ann.client.connect();
    ann.connection(|state| match state {
        ConnectionState::Connected => true,
        ConnectionState::Connecting => false,
        other => panic!("{other:?}"),
    })
    .await;
    for &local in &locals {
        let tick = ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
        assert_eq!(tick, (Tick::Sent, None));
    }
    let world = fake.world();
    assert_eq!(world.visits.len(), before + 1);
    assert!(!world.visits[before].is_early);
    for log in world.logs.values() {
        let texts: Vec<_> = log.iter().map(|entry| entry.text.as_str()).collect();
        assert_eq!(texts, ["first", "second", "third"]);
    }
}
