//! Messages on their way up and down, and what their senders are told.

use tern_protocol::{
    code::Code,
    frame::{Frame, SkipReason},
};

use crate::common::{
    World,
    client::{send, text_of},
};

#[tokio::test(flavor = "multi_thread")]
async fn ticks_turn_as_a_message_is_stored_delivered_and_read() {
    let world = World::start().await;
    let [mut ann, mut bob] = world.two().await;
    let metrics = world.metrics();
    let mut up = ann.uplink(&bob).await;
    for n in 1..=3 {
        assert_eq!(up.send(&format!("message {n}")).await.seq, n);
    }
    let mut down = bob.downlink().await;
    for n in 1..=3 {
        let delivery = down.delivery().await;
        assert_eq!((delivery.seq, text_of(&delivery)), (n, &*format!("message {n}")));
        assert_eq!((delivery.account, delivery.device), (ann.account(), ann.device()));
    }
    // Sent isn't delivered: without an ack nobody is told of anything.
    bob.events_so_far().await;
    ann.events_so_far().await;
    assert_eq!(metrics.receipts.get(), 0);
    down.ack(2).await;
    let mut receipts = ann.downlink().await;
    let receipt = receipts.receipt_when(bob.account(), |_| true).await;
    assert_eq!((receipt.delivered, receipt.read), (2, 0));
    down.ack(3).await;
    let delivered = receipts.receipt_when(bob.account(), |it| it.delivered > 2).await;
    assert_eq!((delivered.delivered, delivered.read), (3, 0));
    assert!(delivered.revision > receipt.revision);
    // The mark is cumulative: it is answered with the highest, and never goes back.
    let mut mark = bob.uplink(&ann).await;
    assert_eq!(mark.read(2).await, 2);
    let read = receipts.receipt_when(bob.account(), |it| it.read > 0).await;
    assert_eq!((read.delivered, read.read), (3, 2));
    assert_eq!(mark.read(1).await, 2);
    assert_eq!(mark.read(3).await, 3);
    let read = receipts.receipt_when(bob.account(), |it| it.read > 2).await;
    assert_eq!((read.delivered, read.read), (3, 3));
    assert_eq!(mark.read(3).await, 3);
    assert!(receipts.open.revision < receipt.revision);
    assert!(read.expired.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_device_but_the_sending_one_gets_a_message() {
    let world = World::start().await;
    let [mut ann, mut bob] = world.two().await;
    let desk = world.link(&mut ann).await;
    let phone = world.link(&mut bob).await;
    let mut up = ann.uplink(&bob).await;
    up.send("from ann").await;
    up.send("again").await;
    let mut all = Vec::new();
    for device in [&desk, &bob, &phone] {
        let mut down = device.downlink().await;
        assert_ne!(down.open.peer.account, device.account());
        for (seq, text) in [(1, "from ann"), (2, "again")] {
            let delivery = down.hears(text).await;
            assert_eq!((delivery.seq, delivery.device), (seq, ann.device()));
        }
        all.push(down);
    }
    // What ann's desk sends comes to ann's phone, behind a skip of what that had sent itself.
    let mut from_desk = desk.uplink(&bob).await;
    from_desk.send("from the desk").await;
    let mut down = ann.downlink().await;
    assert_eq!(down.open.start, 0);
    let skip = down.skip_behind_receipts().await;
    assert_eq!((skip.up_to, skip.reason), (2, SkipReason::Own));
    down.hears("from the desk").await;
    for down in &mut all[1..] {
        down.hears("from the desk").await;
    }
    let conversation = ann.with(&bob);
    assert_eq!(all[1].open.conversation, conversation);
    // Her own other device gets her read mark as well, so that it shows nothing as new.
    let mut mark = phone.uplink(&ann).await;
    mark.read(3).await;
    all[1].receipt_when(bob.account(), |it| it.read == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivered_is_what_the_fastest_device_has() {
    let world = World::start().await;
    let [ann, mut bob] = world.two().await;
    let phone = world.link(&mut bob).await;
    let mut up = ann.uplink(&bob).await;
    up.send("one").await;
    up.send("two").await;
    let mut at_phone = phone.downlink().await;
    at_phone.hears("one").await;
    at_phone.hears("two").await;
    let mut receipts = ann.downlink().await;
    receipts.receipt_when(bob.account(), |it| it.delivered == 2).await;
    // The slower device changes nothing, and still gets all of it.
    let mut at_bob = bob.downlink().await;
    at_bob.hears("one").await;
    at_bob.hears("two").await;
    up.send("three").await;
    at_bob.hears("three").await;
    let receipt = receipts.receipt().await;
    assert_eq!((receipt.account, receipt.delivered), (bob.account(), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_speak_at_once_agree_on_the_order() {
    let world = World::start().await;
    let [ann, bob] = world.two().await;
    let (mut from_ann, mut from_bob) = (ann.uplink(&bob).await, bob.uplink(&ann).await);
    let sends = |up: &mut crate::common::client::Uplink, who: &str| -> Vec<Frame> {
        (0..40).map(|n| Frame::Send(up.number(&format!("{who} {n}")))).collect()
    };
    let (by_ann, by_bob) = (sends(&mut from_ann, "ann"), sends(&mut from_bob, "bob"));
    tokio::join!(from_ann.stream.say_all(&by_ann), from_bob.stream.say_all(&by_bob));
    let mut taken = std::collections::BTreeMap::new();
    for (up, who) in [(&mut from_ann, "ann"), (&mut from_bob, "bob")] {
        let mut last = (0, 0);
        for n in 0..40 {
            let accepted = up.accepted().await;
            assert_eq!(accepted.counter, n + 1);
            assert!(accepted.seq > last.0 && accepted.time_ms >= last.1);
            last = (accepted.seq, accepted.time_ms);
            assert!(taken.insert(accepted.seq, format!("{who} {n}")).is_none());
        }
    }
    assert_eq!(taken.keys().copied().collect::<Vec<u64>>(), (1..=80).collect::<Vec<u64>>());
    for (device, own) in [(&ann, "ann"), (&bob, "bob")] {
        let mut down = device.downlink().await;
        let theirs: Vec<(&u64, &String)> =
            taken.iter().filter(|(_, text)| !text.starts_with(own)).collect();
        let mut seen = 0;
        for (&seq, text) in theirs {
            let delivery = loop {
                match down.stream.frame().await {
                    Frame::Deliver(deliver) => break deliver,
                    Frame::Skip(skip) => {
                        assert!(skip.up_to > seen && skip.reason == SkipReason::Own);
                        seen = skip.up_to;
                    }
                    Frame::Receipt(_) => {}
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(delivery.seq, seen + 1, "without holes");
            assert_eq!((delivery.seq, text_of(&delivery)), (seq, text.as_str()));
            seen = seq;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_repeated_over_a_restart() {
    let mut world = World::start().await;
    let [ann, bob] = world.two().await;
    let mut up = ann.uplink(&bob).await;
    let first = send(1, 0, "one");
    up.stream.say(&Frame::Send(first.clone())).await;
    let accepted = up.accepted().await;
    let second = send(2, 0, "two");
    up.stream.say(&Frame::Send(second.clone())).await;
    up.accepted().await;
    let mut down = bob.downlink().await;
    down.hears("one").await;
    // Bob has seen the second, and not stored it.
    down.delivery().await;
    let mut receipts = ann.downlink().await;
    receipts.receipt_when(bob.account(), |it| it.delivered == 1).await;
    let (ann, bob) = (ann.away(), bob.away());
    world.restart().await;
    let (ann, mut bob) = (ann.back(&world).await, bob.back(&world).await);
    // The repeat has the first answer, also from another server and on another connection.
    let mut up = ann.uplink(&bob).await;
    up.stream.say(&Frame::Send(first)).await;
    assert_eq!(up.accepted().await, accepted);
    up.stream.say(&Frame::Send(second)).await;
    up.accepted().await;
    (up.next, up.settled) = (3, 2);
    assert_eq!(up.send("three").await.seq, 3);
    let mut down = bob.downlink().await;
    assert_eq!(down.open.start, 1);
    down.hears("two").await;
    down.hears("three").await;
    let mut receipts = ann.downlink().await;
    receipts.receipt_when(bob.account(), |it| it.delivered == 3).await;
    assert_eq!(
        bob.refused(tern_protocol::frame::RequestBody::Lookup("x".into())).await,
        Code::UnknownName
    );
}
