//! What waits for a device that wasn't there.

use tern_protocol::frame::{Event, Frame, Mailbox, SkipReason};

use crate::common::{World, client::Client, store, until};

/// Friends of ann, each with so many messages for her, the first friend's being the oldest.
async fn friends(world: &World, ann: &Client, counts: &[u64]) -> Vec<Client> {
    let mut friends = Vec::new();
    for (n, &count) in counts.iter().enumerate() {
        let friend = world.register(&format!("friend{n}")).await;
        let mut up = friend.uplink(ann).await;
        for seq in 1..=count {
            up.send(&format!("{n}: {seq}")).await;
        }
        friends.push(friend);
        // Their times differ, so that there is a newest.
        let last = tern_server::clock::Clock::system().now_ms();
        until("the next millisecond", async || tern_server::clock::Clock::system().now_ms() > last)
            .await;
    }
    friends
}

async fn caught_up(client: &mut Client) -> Mailbox {
    match client.any_event().await {
        Event::CaughtUp(mailbox) => mailbox,
        other => panic!("caughtUp was due: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_is_counted_and_drained_the_newest_conversation_first() {
    let world = World::start().await;
    let mut ann = world.register("ann").await;
    assert_eq!(caught_up(&mut ann).await, Mailbox::default());
    let away = ann.leave(&world).await;
    let back = away.back(&world).await;
    let counts = [3, 1, 5, 2];
    let away = back.leave(&world).await;
    let friends = friends_of_away(&world, &away.welcome, &counts).await;
    let mut ann = away.back(&world).await;
    let waits = Mailbox { conversations: 4, positions: 11 };
    assert_eq!(ann.welcome.mailbox, waits);
    let mut downs = Vec::new();
    for n in (0..4).rev() {
        let mut down = ann.downlink().await;
        assert_eq!(down.open.peer.account, friends[n].account(), "{n}");
        assert_eq!(down.open.head, counts[n]);
        for seq in 1..=counts[n] {
            assert_eq!(down.delivery().await.seq, seq);
        }
        downs.push(down);
    }
    // Nothing is caught up with before the last ack.
    for down in &mut downs[1..] {
        down.ack(down.open.head).await;
    }
    assert_eq!(ann.events_so_far().await, []);
    downs[0].ack(1).await;
    downs[0].ack(2).await;
    assert_eq!(caught_up(&mut ann).await, waits);
    // And it is said once.
    let mut up = friends[0].uplink(&ann).await;
    (up.next, up.settled) = (4, 3);
    up.send("more").await;
    downs[3].hears("more").await;
    ann.done(tern_protocol::frame::RequestBody::Ping).await;
    assert_eq!(ann.events_so_far().await, []);
}

async fn friends_of_away(
    world: &World,
    welcome: &tern_protocol::frame::Welcome,
    counts: &[u64],
) -> Vec<Client> {
    let raw = world.connect().await;
    let stand_in = Client::new(raw, welcome.clone(), crate::common::Key::new());
    friends(world, &stand_in, counts).await
}

#[tokio::test(flavor = "multi_thread")]
async fn more_conversations_than_downlinks_are_drained_without_waiting() {
    let world = World::with(|config| {
        config.limits.downlinks_per_session = 2;
        config.listen.stream_idle_for_ms = 600_000;
    })
    .await;
    let ann = world.register("ann").await.leave(&world).await;
    let friends = friends_of_away(&world, &ann.welcome, &[2; 9]).await;
    let mut ann = ann.back(&world).await;
    assert_eq!(ann.welcome.mailbox, Mailbox { conversations: 9, positions: 18 });
    for n in (0..9).rev() {
        let mut down = ann.downlink().await;
        assert_eq!(down.open.peer.account, friends[n].account(), "{n}");
        down.hears(&format!("{n}: 1")).await;
        down.hears(&format!("{n}: 2")).await;
        // The server may end it for another's sake; the client then ends its direction.
        tokio::spawn(async move {
            let _ = down.stream.recv.read_to_end(1_000).await;
            let _ = down.stream.send.finish();
            let _ = down.stream.send.stopped().await;
        });
    }
    assert_eq!(caught_up(&mut ann).await.conversations, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_alone_are_nothing_to_catch_up_with() {
    let world = World::start().await;
    let [ann, bob] = world.two().await;
    ann.uplink(&bob).await.send("one").await;
    let ann = ann.leave(&world).await;
    let mut down = bob.downlink().await;
    down.hears("one").await;
    bob.uplink(&ann_stand_in(&world, &ann.welcome).await).await.read(1).await;
    let mut ann = ann.back(&world).await;
    assert_eq!(ann.welcome.mailbox, Mailbox::default());
    // It is said although the receipt isn't acknowledged.
    assert_eq!(caught_up(&mut ann).await, Mailbox::default());
    let receipt = ann.downlink().await.receipt().await;
    assert_eq!((receipt.account, receipt.delivered, receipt.read), (bob.account(), 1, 1));
}

async fn ann_stand_in(world: &World, welcome: &tern_protocol::frame::Welcome) -> Client {
    Client::new(world.connect().await, welcome.clone(), crate::common::Key::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_sent_itself_is_skipped() {
    let world = World::start().await;
    let [ann, bob] = world.two().await;
    let mut up = ann.uplink(&bob).await;
    up.send("one").await;
    up.send("two").await;
    let mut back = bob.uplink(&ann).await;
    back.send("three").await;
    up.send("four").await;
    let ann = ann.again(&world).await;
    // One position waits behind two of her own; what is left at the end is her own as well.
    assert_eq!(ann.welcome.mailbox, Mailbox { conversations: 1, positions: 3 });
    let mut down = ann.downlink().await;
    assert_eq!(down.open.head, 4);
    let skip = down.skip_behind_receipts().await;
    assert_eq!((skip.up_to, skip.reason), (2, SkipReason::Own));
    down.hears("three").await;
    // Bob is told once her ack has arrived.
    bob.downlink().await.receipt_of(ann.account(), 3).await;
    let ann = ann.again(&world).await;
    assert_eq!(ann.welcome.mailbox, Mailbox::default());
    back.send("five").await;
    let mut down = ann.downlink().await;
    assert_eq!(down.open.start, 3);
    assert_eq!(down.skip_behind_receipts().await.up_to, 4);
    assert_eq!(down.hears("five").await.seq, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_takes_part_from_where_it_joins() {
    let world = World::start().await;
    let [mut ann, bob] = world.two().await;
    let mut up = bob.uplink(&ann).await;
    up.send("before").await;
    ann.downlink().await.hears("before").await;
    let phone = world.link(&mut ann).await;
    assert_eq!(phone.welcome.mailbox, Mailbox::default());
    up.send("after").await;
    let mut down = phone.downlink().await;
    assert_eq!(down.open.start, 1);
    assert_eq!(down.hears("after").await.seq, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_device_has_is_deleted_from_the_store() {
    let world = World::start().await;
    let [ann, mut bob] = world.two().await;
    let phone = world.link(&mut bob).await;
    let conversation = ann.with(&bob);
    let mut up = ann.uplink(&bob).await;
    for n in 1..=4 {
        up.send(&format!("{n}")).await;
    }
    let mut at_bob = bob.downlink().await;
    for n in 1..=4 {
        at_bob.hears(&format!("{n}")).await;
    }
    let mut at_phone = phone.downlink().await;
    at_phone.hears("1").await;
    at_phone.hears("2").await;
    store::until_stored(&world, conversation, &[3, 4]).await;
    at_phone.hears("3").await;
    at_phone.hears("4").await;
    store::until_stored(&world, conversation, &[]).await;
    // The conversation goes on behind them.
    assert_eq!(up.send("5").await.seq, 5);
    at_bob.hears("5").await;
    store::until_stored(&world, conversation, &[5]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_survives_a_restart() {
    let mut world = World::start().await;
    let ann = world.register("ann").await.leave(&world).await;
    let friends = friends_of_away(&world, &ann.welcome, &[300]).await;
    world.restart().await;
    let ann = ann.back(&world).await;
    assert_eq!(ann.welcome.mailbox, Mailbox { conversations: 1, positions: 300 });
    let mut down = ann.downlink().await;
    // A window of 256, whatever waits.
    for n in 1..=256 {
        assert_eq!(down.delivery().await.seq, n);
    }
    let ann = ann.away();
    drop(friends);
    world.restart().await;
    // Nothing was acknowledged, so all of it comes again.
    let mut ann = ann.back(&world).await;
    let mut down = ann.downlink().await;
    assert_eq!(down.open.start, 0);
    for n in 1..=300 {
        match down.stream.frame().await {
            Frame::Deliver(deliver) => assert_eq!(deliver.seq, n),
            other => panic!("{other:?}"),
        }
        down.ack(n).await;
    }
    assert_eq!(caught_up(&mut ann).await.positions, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_many_messages_of_its_own_a_device_is_served() {
    // More than the server reads from its store at once, however small they are.
    const OWN: u64 = 320;
    let world = World::with(|config| config.limits.messages_per_device_burst = 1_000).await;
    let [ann, bob] = world.two().await;
    // Ann doesn't acknowledge them, so they are kept.
    let mut up = bob.uplink(&ann).await;
    for _ in 0..OWN / 64 {
        for _ in 0..64 {
            let send = up.number("own");
            up.stream.say(&Frame::Send(send)).await;
        }
        for _ in 0..64 {
            up.settled = up.accepted().await.counter;
        }
    }
    up.finish().await;
    // Bob has no downlink yet: it begins in front of all of them.
    let metrics = world.metrics();
    let scans = metrics.store_scans.get();
    let mut up = ann.uplink(&bob).await;
    assert_eq!(up.send("foreign").await.seq, OWN + 1);
    let mut down = bob.downlink().await;
    assert_eq!(down.open.start, 0);
    let skip = down.skip_behind_receipts().await;
    assert_eq!((skip.up_to, skip.reason), (OWN, SkipReason::Own));
    // It makes room for more as a delivery does.
    down.ack(OWN).await;
    down.hears("foreign").await;
    up.send("another").await;
    down.hears("another").await;
    assert!(metrics.store_scans.get() - scans <= 10, "the store is read on and on");
}
