//! The driver against a server that misbehaves on demand, over real sockets on the loopback interface.
//!
//! Every test waits for conditions, never for times; a hung one is ended by the test runner.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic")]

mod fake;

use std::path::Path;

use fake::Fake;
use tempfile::TempDir;
use tern_client::{
    Client, ClientEvent, Code, ConnectError, ConnectionState, ConversationId, Entitlement, Events,
    RegisterError, Registration, SendError, Server, Settings, Tick, content,
};
use tern_protocol::frame::{Frame, GoAway};

struct Person {
    client: Client,
    events: Events,
    home: TempDir,
}

fn registration(fake: &Fake, name: &str) -> Registration {
    Registration {
        server: Server {
            address: fake.address.to_string(),
            name: None,
            ca_pem: fake.ca_pem.clone(),
        },
        name: name.into(),
        label: "test".into(),
        entitlement: Entitlement::None,
    }
}

async fn open(home: &Path) -> (Client, Events) {
    Client::open(home, Settings::default()).await.unwrap()
}

async fn person(fake: &Fake, name: &str) -> Person {
    let home = tempfile::tempdir().unwrap();
    let (client, events) = open(home.path()).await;
    client.register(registration(fake, name)).await.unwrap();
    Person { client, events, home }
}

impl Person {
    /// The process dies and another one takes its place.
    async fn restart(self) -> Self {
        let Self { client, events, home } = self;
        drop((client, events));
        loop {
            match Client::open(home.path(), Settings::default()).await {
                Ok((client, events)) => return Self { client, events, home },
                // Aborted tasks let the lock go when the runtime has got to them.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// The next `count` messages, confirmed.
    async fn messages(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            if let ClientEvent::Message(message) = self.events.next().await.unwrap() {
                texts.push(content::text(&content::open(&message.envelope)));
                self.client.confirm([message.local]).await.unwrap();
            }
        }
        texts
    }

    async fn connection(&mut self, wanted: impl Fn(&ConnectionState) -> bool) {
        loop {
            if let Some(ClientEvent::Connection(state)) = self.events.next().await
                && wanted(&state)
            {
                return;
            }
        }
    }
}

fn conversation(fake: &Fake, a: usize, b: usize) -> ConversationId {
    let world = fake.world();
    ConversationId::direct(world.devices[a].account, world.devices[b].account).unwrap()
}

#[tokio::test]
async fn two_people_talk_and_the_ticks_turn() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let mut bob = person(&fake, "bob").await;
    ann.client.connect();
    let first = ann.client.send("bob", "Grüße".as_bytes()).await.unwrap();
    assert_eq!(ann.client.wait_for_tick(first, Tick::Sent).await.unwrap().0, Tick::Sent);
    bob.client.connect();
    assert_eq!(bob.messages(1).await, ["Grüße"]);
    ann.client.wait_for_tick(first, Tick::Delivered).await.unwrap();
    let id = conversation(&fake, 0, 1);
    bob.client.mark_read(id, 99).await.unwrap();
    assert_eq!(ann.client.wait_for_tick(first, Tick::Read).await.unwrap().0, Tick::Read);
    bob.client.send(id, b"read it").await.unwrap();
    let mut ann = ann;
    assert_eq!(ann.messages(1).await, ["read it"]);
    let history = ann.client.history(id, 10).await.unwrap();
    assert_eq!(history.iter().map(|m| m.seq).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert_eq!(bob.client.lookup("nobody").await.unwrap(), None);
    assert_eq!(bob.client.devices().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_sent_without_a_connection_goes_out_later_in_order() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    let mut last = None;
    for n in 0..50 {
        last = Some(ann.client.send("bob", n.to_string().as_bytes()).await.unwrap());
    }
    let ann = ann.restart().await;
    assert_eq!(ann.client.status().await.unwrap().outbox, 50);
    ann.client.connect();
    ann.client.wait_for_tick(last.unwrap(), Tick::Sent).await.unwrap();
    let expected: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(fake.texts(conversation(&fake, 0, 1)), expected);
    assert_eq!(ann.client.status().await.unwrap().outbox, 0);
}

#[tokio::test]
async fn a_swallowed_answer_makes_no_second_message() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    fake.world().swallow_answers = true;
    let local = ann.client.send("bob", b"once").await.unwrap();
    ann.client.connect();
    fake.until(|world| !world.logs.is_empty()).await;
    let ann = ann.restart().await;
    fake.world().swallow_answers = false;
    ann.client.connect();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    assert_eq!(fake.texts(conversation(&fake, 0, 1)), ["once"]);
}

#[tokio::test]
async fn a_refused_message_fails_and_the_others_go_on() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    fake.world().refuse =
        vec![(2, Code::EnvelopeSize, 0), (4, Code::MailboxFull, 1), (5, Code::PeerGone, 0)];
    let mut locals = Vec::new();
    for n in 1..=7 {
        locals.push(ann.client.send("bob", n.to_string().as_bytes()).await.unwrap());
    }
    ann.client.connect();
    ann.client.wait_for_tick(locals[6], Tick::Sent).await.unwrap();
    assert_eq!(fake.texts(conversation(&fake, 0, 1)), ["1", "3", "4", "5", "7"]);
    let failed = |code| Some((Tick::Failed, Some(code)));
    assert_eq!(ann.client.tick(locals[1]).await.unwrap(), failed(Code::EnvelopeSize));
    assert_eq!(ann.client.tick(locals[5]).await.unwrap(), failed(Code::PeerGone));
}

#[tokio::test]
async fn impossible_receivers_are_named() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let local = ann.client.send("nobody", b"hello?").await.unwrap();
    let stranger = tern_client::AccountId::new(77).unwrap();
    let to_stranger = ann.client.send(stranger, b"hello?").await.unwrap();
    ann.client.connect();
    let tick = ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    assert_eq!(tick, (Tick::Failed, Some(Code::UnknownName)));
    let tick = ann.client.wait_for_tick(to_stranger, Tick::Sent).await.unwrap();
    assert_eq!(tick, (Tick::Failed, Some(Code::UnknownConversation)));
    assert!(matches!(ann.client.send("ann", b"me").await, Err(SendError::Oneself)));
    assert!(matches!(ann.client.send("A N", b"x").await, Err(SendError::NameInvalid(_))));
    assert!(matches!(ann.client.send("bob", b"").await, Err(SendError::Content(_))));
}

#[tokio::test]
async fn unconfirmed_messages_come_again_and_confirmed_ones_do_not() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let mut bob = person(&fake, "bob").await;
    ann.client.connect();
    bob.client.connect();
    for n in 0..5 {
        ann.client.send("bob", n.to_string().as_bytes()).await.unwrap();
    }
    assert_eq!(bob.messages(3).await, ["0", "1", "2"]);
    // All five are stored and acknowledged before the restart, but two weren't confirmed.
    let id = conversation(&fake, 0, 1);
    let device = fake.world().devices[1].device;
    fake.until(|world| world.cursors.get(&(device, id)).is_some_and(|ack| ack.seq == 5)).await;
    let mut bob = bob.restart().await;
    assert_eq!(bob.messages(2).await, ["3", "4"]);
    ann.client.send("bob", b"5").await.unwrap();
    bob.client.connect();
    assert_eq!(bob.messages(1).await, ["5"]);
}

#[tokio::test]
async fn a_lost_connection_comes_back_with_the_ticket_in_early_data() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    ann.client.connect();
    ann.connection(|state| matches!(state, ConnectionState::Connected)).await;
    fake.drop_connections(Code::Internal);
    ann.connection(|state| matches!(state, ConnectionState::Waiting { .. })).await;
    let local = ann.client.send("bob", b"back").await.unwrap();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    let hellos = fake.world().hellos.clone();
    assert_eq!(hellos.first(), Some(&(false, false)));
    assert_eq!(hellos.last(), Some(&(true, true)), "{hellos:?}");
}

#[tokio::test]
async fn a_void_ticket_is_followed_by_a_signature() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    fake.world().no_tickets = true;
    ann.client.connect();
    ann.connection(|state| matches!(state, ConnectionState::Connected)).await;
    assert_eq!(fake.world().hellos[1..], [(true, true), (false, true)][..]);
}

#[tokio::test]
async fn a_replaced_device_does_not_fight() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    ann.client.connect();
    ann.connection(|state| matches!(state, ConnectionState::Connected)).await;
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
    ann.client.connect();
    ann.connection(|state| matches!(state, ConnectionState::Connected)).await;
    fake.tell_all(&Frame::GoAway(GoAway {
        code: Code::GoingAway,
        within_ms: 100,
        target: fake.address.to_string(),
        text: String::new(),
    }));
    // Connected anew without having been disconnected.
    loop {
        match ann.events.next().await.unwrap() {
            ClientEvent::Connection(ConnectionState::Connected) => break,
            ClientEvent::Connection(other) => panic!("{other:?}"),
            _ => {}
        }
    }
    let local = ann.client.send("bob", b"moved").await.unwrap();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
}

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
async fn a_large_mailbox_is_drained() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let mut bob = person(&fake, "bob").await;
    ann.client.connect();
    let first = ann.client.send("bob", b"0").await.unwrap();
    ann.client.wait_for_tick(first, Tick::Sent).await.unwrap();
    let id = conversation(&fake, 0, 1);
    {
        let mut world = fake.world();
        let log = world.logs.get_mut(&id).unwrap();
        for n in 1..2_000_u64 {
            let entry = fake::Entry { message_id: n, text: n.to_string(), ..log[0].clone() };
            log.push(entry);
        }
    }
    bob.client.connect();
    let expected: Vec<_> = (0..2_000).map(|n| n.to_string()).collect();
    assert_eq!(bob.messages(2_000).await, expected);
}

#[tokio::test]
async fn a_new_network_keeps_the_connection() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    ann.client.connect();
    ann.connection(|state| matches!(state, ConnectionState::Connected)).await;
    ann.client.network_changed().await;
    let local = ann.client.send("bob", b"from elsewhere").await.unwrap();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    assert_eq!(fake.world().hellos.iter().filter(|(by_ticket, _)| *by_ticket).count(), 1);
}

#[tokio::test]
async fn registration_can_be_repeated_and_says_what_is_wrong() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let again = ann.client.register(registration(&fake, "ann")).await;
    assert!(matches!(again, Err(RegisterError::AlreadyRegistered { .. })));
    let home = tempfile::tempdir().unwrap();
    let (client, _events) = open(home.path()).await;
    let taken = client.register(registration(&fake, "ann")).await;
    assert!(matches!(
        taken,
        Err(RegisterError::Connect(ConnectError::Rejected { code: Code::NameTaken, .. }))
    ));
    let bad = client.register(registration(&fake, "-")).await;
    assert!(matches!(bad, Err(RegisterError::NameInvalid(_))));
    client.register(registration(&fake, "carl")).await.unwrap();
    let other = Fake::start();
    let distrusted = Registration {
        server: Server { ca_pem: other.ca_pem.clone(), ..registration(&fake, "dora").server },
        ..registration(&fake, "dora")
    };
    let home = tempfile::tempdir().unwrap();
    let (client, _events) = open(home.path()).await;
    let error = client.register(distrusted).await.unwrap_err();
    assert!(error.to_string().contains("ca.pem"), "{error}");
}
