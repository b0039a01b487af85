//! A home that was restored from an old copy: what it remembers is older than what the server does.

use tern_client::{ClientEvent, Tick};

use crate::{
    fake::Fake,
    person::{Person, backup, person},
};

#[tokio::test]
async fn an_old_copy_of_a_home_goes_on_behind_what_the_server_accepted() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    ann.client.connect();
    let first = ann.client.send("bob", b"1").await.unwrap();
    ann.client.wait_for_tick(first, Tick::Sent).await.unwrap();
    let (id, device) = (fake.conversation(0, 1), fake.device(0));
    fake.until(|world| world.is_acknowledged(id, &[device])).await;
    let copy = backup(ann.home.path());
    for n in 2..=4 {
        let local = ann.client.send("bob", n.to_string().as_bytes()).await.unwrap();
        ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    }
    drop(ann);

    // Its counters 2 and 3 were used for other messages.
    let ann = Person::restored(copy).await;
    let mut locals = Vec::new();
    for text in ["restored 1", "restored 2"] {
        locals.push(ann.client.send("bob", text.as_bytes()).await.unwrap());
    }
    ann.client.connect();
    for &local in &locals {
        let tick = ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
        assert_eq!(tick, (Tick::Sent, None));
    }
    assert_eq!(fake.texts(id), ["1", "2", "3", "4", "restored 1", "restored 2"]);
    assert_eq!(fake.world().answers[&(device, id)].last(), 6);
    // And so it does after a further restart.
    let ann = ann.restart().await;
    let local = ann.client.send("bob", b"after").await.unwrap();
    ann.client.connect();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    assert_eq!(fake.texts(id).last().unwrap(), "after");
    assert_eq!(ann.client.status().await.unwrap().outbox, 0);
}

#[tokio::test]
async fn what_an_old_copy_sent_anew_is_not_sent_twice_when_it_dies() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    ann.client.connect();
    let first = ann.client.send("bob", b"1").await.unwrap();
    ann.client.wait_for_tick(first, Tick::Sent).await.unwrap();
    let (id, device) = (fake.conversation(0, 1), fake.device(0));
    fake.until(|world| world.is_acknowledged(id, &[device])).await;
    let copy = backup(ann.home.path());
    let second = ann.client.send("bob", b"2").await.unwrap();
    ann.client.wait_for_tick(second, Tick::Sent).await.unwrap();
    drop(ann);

    // Its counter 2 is refused, and the answer to 3 is lost with the process.
    let ann = Person::restored(copy).await;
    fake.world().swallow_answers = true;
    let local = ann.client.send("bob", b"restored").await.unwrap();
    ann.client.connect();
    fake.until(|world| world.logs[&id].len() == 3).await;
    let ann = ann.restart().await;
    fake.world().swallow_answers = false;
    ann.client.connect();
    ann.client.wait_for_tick(local, Tick::Sent).await.unwrap();
    assert_eq!(fake.texts(id), ["1", "2", "restored"]);
}

#[tokio::test]
async fn a_message_that_an_old_copy_still_holds_is_not_sent_twice_while_it_is_remembered() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    // The copy is made between the first transmission and the answer.
    fake.world().swallow_answers = true;
    ann.client.send("bob", b"once").await.unwrap();
    ann.client.connect();
    fake.until(|world| !world.logs.is_empty()).await;
    let copy = backup(ann.home.path());
    fake.world().swallow_answers = false;
    drop(ann);
    let ann = Person::restored(copy).await;
    let behind = ann.client.send("bob", b"behind").await.unwrap();
    ann.client.connect();
    ann.client.wait_for_tick(behind, Tick::Sent).await.unwrap();
    assert_eq!(fake.texts(fake.conversation(0, 1)), ["once", "behind"]);
}

#[tokio::test]
async fn an_old_copy_that_misses_messages_is_told_so() {
    let fake = Fake::start();
    let mut ann = person(&fake, "ann").await;
    let mut bob = person(&fake, "bob").await;
    ann.connected().await;
    bob.connected().await;
    ann.client.send("bob", b"1").await.unwrap();
    assert_eq!(bob.messages(1).await, ["1"]);
    let (id, devices) = (fake.conversation(0, 1), [fake.device(0), fake.device(1)]);
    fake.until(|world| world.is_acknowledged(id, &devices)).await;
    let copy = backup(bob.home.path());
    ann.client.send("bob", b"2").await.unwrap();
    assert_eq!(bob.messages(1).await, ["2"]);
    fake.until(|world| world.is_acknowledged(id, &devices)).await;
    drop(bob);
    let mut bob = Person::restored(copy).await;
    bob.client.connect();
    loop {
        if let ClientEvent::Gap { conversation } = bob.events.next().await.unwrap() {
            assert_eq!(conversation, id);
            return;
        }
    }
}
