//! What isn't fetched, and what there is no room for.

use tern_protocol::{
    code::Code,
    frame::{Frame, SkipReason, Span},
};
use tern_server::config::RetentionPolicy;

use crate::common::{World, client::send, store};

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_fetches_expires_and_its_sender_is_told() {
    let world = World::with(|config| {
        config.retention.unfetched_for_ms = 1_000;
        config.retention.sweep_every_ms = 100;
    })
    .await;
    let [ann, bob] = world.two().await;
    let conversation = ann.with(&bob);
    let bob = bob.leave(&world).await;
    let mut up = ann.uplink_to(bob.welcome.account).await;
    up.send("one").await;
    up.send("two").await;
    let mut receipts = ann.downlink().await;
    let receipt = receipts.receipt().await;
    assert_eq!(receipt.account, bob.welcome.account);
    assert_eq!((receipt.delivered, receipt.read), (0, 0));
    assert_eq!(receipt.expired, [Span { first: 1, last: 2 }]);
    receipts.ack_receipt(&receipt).await;
    store::until_stored(&world, conversation, &[]).await;
    assert_eq!(world.metrics().messages_expired.get(), 2);
    // Bob is told that there was something; what comes behind it is delivered, and that doesn't make
    // the others delivered.
    let bob = bob.back(&world).await;
    let mut down = bob.downlink().await;
    let skip = down.skip().await;
    assert_eq!((skip.up_to, skip.reason), (2, SkipReason::Expired));
    down.ack(2).await;
    up.send("three").await;
    // No receipt comes in between: ann's own device had her messages, so for her account nothing has
    // failed.
    assert_eq!(down.delivery().await.seq, 3);
    down.ack(3).await;
    let receipt = receipts.receipt_when(bob.account(), |it| it.delivered == 3).await;
    assert_eq!(receipt.expired, [Span { first: 1, last: 2 }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_retention_messages_are_kept_for_their_time() {
    let world = World::with(|config| {
        config.retention.policy = RetentionPolicy::Keep;
        config.retention.keep_for_ms = 1_500;
        config.retention.sweep_every_ms = 100;
    })
    .await;
    let [ann, bob] = world.two().await;
    let mut up = ann.uplink(&bob).await;
    up.send("one").await;
    let mut down = bob.downlink().await;
    down.hears("one").await;
    let mut receipts = ann.downlink().await;
    let receipt = receipts.receipt_when(bob.account(), |it| it.delivered == 1).await;
    assert!(receipt.expired.is_empty());
    assert_eq!(store::messages(&world, ann.with(&bob)).await, [1]);
    store::until_stored(&world, ann.with(&bob), &[]).await;
    // It was had, so nobody is told of anything.
    up.send("two").await;
    down.hears("two").await;
    let receipt = receipts.receipt().await;
    assert_eq!((receipt.account, receipt.delivered), (bob.account(), 2));
    assert!(receipt.expired.is_empty());
    assert_eq!(world.metrics().messages_expired.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_refuses_for_now() {
    let world = World::with(|config| config.limits.undelivered_per_conversation = 3).await;
    let [ann, bob] = world.two().await;
    let mut up = ann.uplink(&bob).await;
    for n in 1..=3 {
        up.send(&format!("{n}")).await;
    }
    let refused = up.refused(send(4, 3, "too much")).await;
    assert_eq!((refused.code, refused.last), (Code::MailboxFull, 3));
    assert!(refused.retry_after_ms > 0);
    // A repeat isn't refused, and other conversations have room.
    let carl = world.register("carl").await;
    ann.uplink(&carl).await.send("hello").await;
    let mut down = bob.downlink().await;
    down.hears("1").await;
    crate::common::until("room", async || {
        up.stream.say(&Frame::Send(send(4, 3, "4"))).await;
        matches!(up.stream.frame().await, Frame::Accepted(_))
    })
    .await;
    assert!(world.metrics().sends_refused.get(Code::MailboxFull) > 0);
}
