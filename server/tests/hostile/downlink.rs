//! Acks that can't be.

use tern_protocol::{
    code::Code,
    frame::{Ack, Frame},
};

use crate::common::{World, raw::var_int, talk::Talk};

#[tokio::test(flavor = "multi_thread")]
async fn acks_are_held_to_what_was_sent_and_to_each_other() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let eve = world.register("eve").await;
    let mut up = talk.ann.uplink(&eve).await;
    for text in ["one", "two", "three"] {
        up.send(text).await;
    }
    let mut down = eve.downlink().await;
    for _ in 0..3 {
        down.delivery().await;
    }
    let start = down.open.revision;
    let mut eve = eve.away();
    let ack = |seq, revision| Ack { seq, revision };
    let cases = [
        (vec![ack(4, start)], Code::AckBeyondHead),
        (vec![ack(u64::MAX, start)], Code::AckBeyondHead),
        (vec![ack(1, start + 1_000)], Code::AckBeyondHead),
        (vec![ack(2, start), ack(1, start)], Code::AckBackwards),
        // Only the last of several that come together counts, but each is looked at.
        (vec![ack(3, start), ack(1, start), ack(3, start)], Code::AckBackwards),
    ];
    for (acks, code) in cases {
        let eve_now = eve.back(&world).await;
        let mut down = match eve_now.welcome.mailbox.conversations {
            // What she had acknowledged in an earlier case isn't sent again.
            0 => {
                up.send("more").await;
                eve_now.downlink().await
            }
            _ => eve_now.downlink().await,
        };
        let to = down.open.head;
        while down.delivery().await.seq < to {}
        let shift = |ack: &Ack| Ack {
            seq: ack.seq.saturating_add(to - 3),
            revision: ack.revision.max(down.open.revision),
        };
        let acks: Vec<Frame> = acks.iter().map(|ack| Frame::Ack(shift(ack))).collect();
        down.stream.say_all(&acks).await;
        assert_eq!(eve_now.raw.closed().await, code, "{acks:?}");
        eve = eve_now.away();
    }
    let metrics = world.metrics();
    assert_eq!(metrics.closed.get(Code::AckBeyondHead), 3);
    assert_eq!(metrics.closed.get(Code::AckBackwards), 2);
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_a_downlink_up_disturbs_nobody() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let mut eve = world.register("eve").await;
    let mut up = talk.ann.uplink(&eve).await;
    let metrics = world.metrics();
    up.send("one").await;
    let mut down = eve.downlink().await;
    let open = metrics.downlinks.get();
    down.stream.send.reset(var_int(Code::Gap)).unwrap();
    down.stream.recv.stop(var_int(Code::Gap)).unwrap();
    crate::common::until("the end of the downlink", async || metrics.downlinks.get() < open).await;
    eve.done(tern_protocol::frame::RequestBody::Ping).await;
    // With the next news it is tried again, from where eve is.
    up.send("two").await;
    let mut down = eve.downlink().await;
    assert_eq!(down.open.start, 0);
    down.hears("one").await;
    down.hears("two").await;
    talk.goes_on().await;
}
