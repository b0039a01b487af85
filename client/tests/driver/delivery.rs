//! Messages on their way down: stored, acknowledged, shown once.

use std::sync::{Arc, Mutex};

use tern_client::{ClientEvent, Code, Tick};

use crate::{
    fake::{self, End, Fake},
    person::{Person, backup, person},
};

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
    let id = fake.conversation(0, 1);
    let device = fake.device(1);
    fake.until(|world| world.cursors.get(&(device, id)).is_some_and(|ack| ack.seq == 5)).await;
    let mut bob = bob.restart().await;
    assert_eq!(bob.messages(2).await, ["3", "4"]);
    ann.client.send("bob", b"5").await.unwrap();
    bob.client.connect();
    assert_eq!(bob.messages(1).await, ["5"]);
}

#[tokio::test]
async fn a_large_mailbox_is_drained() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let mut bob = person(&fake, "bob").await;
    ann.client.connect();
    let first = ann.client.send("bob", b"0").await.unwrap();
    ann.client.wait_for_tick(first, Tick::Sent).await.unwrap();
    let id = fake.conversation(0, 1);
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
async fn what_is_acknowledged_survives_the_death_of_the_process() {
    const MESSAGES: usize = 30;
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let bob = person(&fake, "bob").await;
    let (device, home) = (fake.device(1), bob.home.path().to_owned());
    // The home as it was when the server had read the ack.
    let copies = Arc::new(Mutex::new(Vec::new()));
    let at_ack = copies.clone();
    let mut before = 0;
    fake.world().at_ack = Some(Box::new(move |from, ack| {
        if from == device && ack.seq > std::mem::replace(&mut before, ack.seq) {
            at_ack.lock().unwrap().push((ack.seq, backup(&home)));
        }
    }));
    ann.client.connect();
    bob.client.connect();
    for n in 0..MESSAGES {
        let local = ann.client.send("bob", n.to_string().as_bytes()).await.unwrap();
        ann.client.wait_for_tick(local, Tick::Delivered).await.unwrap();
    }
    fake.world().at_ack = None;
    drop((ann, bob));
    let copies = std::mem::take(&mut *copies.lock().unwrap());
    assert_eq!(copies.len(), MESSAGES);
    for (seq, home) in copies {
        let mut bob = Person::restored(home).await;
        let count = usize::try_from(seq).unwrap();
        let expected: Vec<_> = (0..count).map(|n| n.to_string()).collect();
        assert_eq!(bob.messages(count).await, expected);
    }
}

#[tokio::test]
async fn what_is_held_already_is_acknowledged_and_not_shown_again() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    let mut bob = person(&fake, "bob").await;
    ann.connected().await;
    bob.connected().await;
    for n in 0..5 {
        ann.client.send("bob", n.to_string().as_bytes()).await.unwrap();
    }
    assert_eq!(bob.messages(5).await, ["0", "1", "2", "3", "4"]);
    let (id, device) = (fake.conversation(0, 1), fake.device(1));
    let all = [fake.device(0), device];
    fake.until(|world| world.is_acknowledged(id, &all)).await;
    // The acks are lost to the server, and everything is delivered again, with nothing new in it.
    fake.world().cursors.get_mut(&(device, id)).unwrap().seq = 0;
    fake.drop_connections(Code::Internal);
    bob.connected().await;
    fake.until(|world| world.cursors.get(&(device, id)).is_some_and(|ack| ack.seq == 5)).await;
    ann.client.send("bob", b"5").await.unwrap();
    assert_eq!(bob.messages(1).await, ["5"]);
    let history = bob.client.history(id, 20).await.unwrap();
    assert_eq!(history.iter().map(|m| m.seq.unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_gap_breaks_the_stream_off_and_is_told() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let mut bob = person(&fake, "bob").await;
    ann.client.connect();
    bob.connected().await;
    ann.client.send("bob", b"1").await.unwrap();
    assert_eq!(bob.messages(1).await, ["1"]);
    let (id, device) = (fake.conversation(0, 1), fake.device(1));
    fake.until(|world| world.is_acknowledged(id, &[device])).await;
    bob.client.shutdown().await;
    for n in 2..=4 {
        let local = ann.client.send("bob", n.to_string().as_bytes()).await.unwrap();
        ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    }
    fake.world().cursors.get_mut(&(device, id)).unwrap().seq = 3;
    let before = fake.world().downlinks.len();
    bob.client.connect();
    loop {
        match bob.events.next().await.unwrap() {
            ClientEvent::Gap { conversation } if conversation == id => break,
            ClientEvent::Message(message) => panic!("{message:?} behind a gap"),
            _ => {}
        }
    }
    fake.until(|world| world.downlinks[before..].iter().any(|it| it.ended.is_some())).await;
    let downlink = fake.world().downlinks.last().unwrap().clone();
    assert_eq!(downlink.ended, Some(End::Reset(Code::Gap)));
    assert_eq!(downlink.stopped, Some(Code::Gap));
    // The connection goes on.
    bob.client.ping().await.unwrap();
    let local = bob.client.send(id, b"hello").await.unwrap();
    bob.client.wait_for_tick(local, Tick::Sent).await.unwrap();
}
