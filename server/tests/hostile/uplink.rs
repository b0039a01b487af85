//! Uplinks that ask for what they can't have.

use tern_protocol::{
    code::Code,
    frame::{Envelope, Frame, OpenUplink, ReadMark, RequestBody},
    id::{AccountId, ConversationId},
};

use crate::common::{
    World,
    client::{Uplink, send},
    raw::{Ended, var_int},
    talk::Talk,
};

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_speak_there_has_the_stream_reset() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let mut eve = world.register("eve").await;
    let (ann, bob) = (talk.ann.account(), talk.bob.account());
    let theirs = talk.ann.with(&talk.bob);
    let nobody = AccountId::new(1).unwrap();
    let with_ann = eve.with(&talk.ann);
    let bad = [
        // A conversation of others, as an existing one or under a wrong peer.
        (theirs, None),
        (theirs, Some(ann)),
        (theirs, Some(eve.account())),
        // A wrong id for a right peer.
        (ConversationId::new([9; 16]), Some(ann)),
        (eve.with(&talk.bob), Some(ann)),
        // One that doesn't exist yet, as an existing one.
        (with_ann, None),
        (ConversationId::new([0; 16]), None),
        // An account that doesn't exist, and oneself.
        (ConversationId::direct(eve.account(), nobody).unwrap(), Some(nobody)),
        (ConversationId::direct(ann, bob).unwrap(), Some(bob)),
        (with_ann, Some(eve.account())),
    ];
    for (conversation, peer) in bad {
        let mut up = eve.raw.open().await;
        up.say_all(&[
            Frame::OpenUplink(OpenUplink { conversation, peer }),
            Frame::Send(send(1, 0, "let me in")),
        ])
        .await;
        assert_eq!(up.end().await, Ended::Reset(Code::UnknownConversation), "{peer:?}");
        assert_eq!(up.stopped().await, Some(Code::UnknownConversation));
    }
    assert_eq!(world.metrics().streams_reset.get(Code::UnknownConversation), 10);
    talk.goes_on().await;
    // Eve's connection is still good, also for this conversation once it exists.
    let mut up = eve.uplink(&talk.ann).await;
    up.send("hello ann").await;
    up.finish().await;
    let mut up = Uplink::open(&eve.raw, with_ann, None).await;
    (up.next, up.settled) = (2, 1);
    assert_eq!(up.send("still there?").await.seq, 2);
    eve.done(RequestBody::Ping).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_has_one_uplink_at_a_time() {
    let world = World::start().await;
    let [ann, bob] = world.two().await;
    let mut up = ann.uplink(&bob).await;
    up.send("one").await;
    let mut second = ann.uplink(&bob).await;
    assert_eq!(second.stream.end().await, Ended::Reset(Code::DuplicateStream));
    up.send("two").await;
    up.finish().await;
    let mut third = ann.uplink(&bob).await;
    (third.next, third.settled) = (3, 2);
    third.send("three").await;
    assert_eq!(world.metrics().streams_reset.get(Code::DuplicateStream), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uplink_that_was_reset_is_followed_at_once() {
    let world = World::start().await;
    let [ann, bob] = world.two().await;
    let mut up = ann.uplink(&bob).await;
    let mut last = up.send("0").await;
    for n in 1..=20 {
        // A send is under way, or isn't, when the stream is given up; whatever became of it, it is
        // repeated.
        let message = up.number(&n.to_string());
        if n % 2 == 0 {
            up.stream.say(&Frame::Send(message.clone())).await;
        }
        up.stream.send.reset(var_int(Code::NoError)).unwrap();
        up.stream.recv.stop(var_int(Code::NoError)).unwrap();
        let mut next = ann.uplink(&bob).await;
        (next.next, next.settled) = (up.next, last.counter);
        next.stream.say(&Frame::Send(message)).await;
        let accepted = next.accepted().await;
        assert_eq!(accepted.seq, last.seq + 1);
        (up, last) = (next, accepted);
    }
    let mut down = bob.downlink().await;
    for n in 0..=20 {
        down.hears(&n.to_string()).await;
    }
    assert_eq!(world.metrics().streams_reset.get(Code::DuplicateStream), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_are_held_to_their_order() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let eve = world.register("eve").await;
    let mut up = eve.uplink(&talk.ann).await;
    let metrics = world.metrics();

    // A gap, at the beginning and later; what came behind it is told where to go on.
    assert_eq!(up.refused(send(2, 0, "gap")).await.code, Code::CounterGap);
    assert_eq!(up.refused(send(u64::MAX, 0, "gap")).await.code, Code::CounterGap);
    let first = send(1, 0, "first");
    up.stream.say(&Frame::Send(first.clone())).await;
    let accepted = up.accepted().await;
    let refused = up.refused(send(3, 0, "gap")).await;
    assert_eq!((refused.code, refused.last, refused.counter), (Code::CounterGap, 1, 3));
    assert_eq!(refused.retry_after_ms, 0);

    // A repeat has the first answer; another message under the number isn't taken.
    up.stream.say(&Frame::Send(first.clone())).await;
    assert_eq!(up.accepted().await, accepted);
    let refused = up.refused(send(1, 0, "other")).await;
    assert_eq!((refused.code, refused.last), (Code::CounterReused, 1));
    assert_eq!(up.refused(send(0, 0, "zero")).await.code, Code::CounterReused);

    // What is settled is forgotten. More than was accepted isn't settled, whoever says so.
    up.next = 2;
    up.settled = u64::MAX;
    up.send("second").await;
    assert_eq!(up.refused(first).await.code, Code::CounterReused);

    // Whoever never settles is stopped at 128 answers that must be remembered.
    up.settled = 1;
    let unsettled = |up: &mut Uplink| {
        let counter = up.next;
        up.next += 1;
        send(counter, 1, "unsettled")
    };
    for _ in 3..=129 {
        let send = unsettled(&mut up);
        up.stream.say(&Frame::Send(send)).await;
        up.accepted().await;
    }
    let send_130 = unsettled(&mut up);
    let refused = up.refused(send_130).await;
    assert_eq!((refused.code, refused.last), (Code::WindowExceeded, 129));
    up.next = 130;
    up.settled = 129;
    up.send("settled").await;

    let counted = |code| metrics.sends_refused.get(code);
    assert_eq!(counted(Code::CounterGap), 3);
    assert_eq!(counted(Code::CounterReused), 3);
    assert_eq!(counted(Code::WindowExceeded), 1);
    assert_eq!(metrics.sends_accepted.get(), 1 + 130 + 1, "the repeat included");
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envelopes_have_a_size() {
    let world = World::with(|config| config.limits.envelope_bytes = 100).await;
    let [ann, bob] = world.two().await;
    assert_eq!(ann.welcome.limits.envelope_bytes, 100);
    let mut up = ann.uplink(&bob).await;
    for bytes in [0, 101, 65_536, 65_537, 100_000] {
        let mut bad = send(1, 0, "");
        bad.envelope = Envelope(vec![1; bytes].into());
        let refused = up.refused(bad).await;
        assert_eq!((refused.code, refused.retry_after_ms), (Code::EnvelopeSize, 0), "{bytes}");
    }
    up.send(&"x".repeat(100)).await;
    assert_eq!(world.metrics().sends_refused.get(Code::EnvelopeSize), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_mark_beyond_the_head_closes_the_connection() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let eve = world.register("eve").await;
    let mut up = eve.uplink(&talk.ann).await;
    // Nothing is there, and that is read.
    assert_eq!(up.read(0).await, 0);
    up.stream.say(&Frame::ReadMark(ReadMark { up_to: 1 })).await;
    assert_eq!(eve.raw.closed().await, Code::MarkBeyondHead);
    let eve = eve.away().back(&world).await;
    let mut up = eve.uplink(&talk.ann).await;
    up.send("one").await;
    assert_eq!(up.read(1).await, 1);
    up.stream.say(&Frame::ReadMark(ReadMark { up_to: 2 })).await;
    assert_eq!(eve.raw.closed().await, Code::MarkBeyondHead);
    assert_eq!(world.metrics().closed.get(Code::MarkBeyondHead), 2);
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_be_spoken_to_who_has_no_device() {
    let world = World::start().await;
    let [ann, mut bob] = world.two().await;
    let mut up = ann.uplink(&bob).await;
    up.send("one").await;
    let own = bob.device();
    bob.raw
        .session
        .say(&Frame::Request(tern_protocol::frame::Request {
            id: 1,
            body: RequestBody::RemoveDevice(own),
        }))
        .await;
    assert_eq!(bob.raw.closed().await, Code::DeviceRemoved);
    let refused = up.refused(send(2, 1, "two")).await;
    assert_eq!((refused.code, refused.last), (Code::PeerGone, 1));
    assert_eq!(world.metrics().sends_refused.get(Code::PeerGone), 1);
}
