//! Messages on their way up, and their ticks.

use tern_client::{Code, SendError, Tick};

use crate::{fake::Fake, person::person};

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
    let id = fake.conversation(0, 1);
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
    assert_eq!(fake.texts(fake.conversation(0, 1)), expected);
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
    assert_eq!(fake.texts(fake.conversation(0, 1)), ["once"]);
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
    assert_eq!(fake.texts(fake.conversation(0, 1)), ["1", "3", "4", "5", "7"]);
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
async fn what_expired_has_failed_whatever_was_delivered() {
    let fake = Fake::start();
    let ann = person(&fake, "ann").await;
    let _bob = person(&fake, "bob").await;
    ann.client.connect();
    let mut locals = Vec::new();
    for n in 0..140 {
        locals.push(ann.client.send("bob", n.to_string().as_bytes()).await.unwrap());
    }
    ann.client.wait_for_tick(locals[139], Tick::Sent).await.unwrap();
    let (id, bob) = (fake.conversation(0, 1), fake.account(1));
    fake.change(|world| {
        world.expire(id, bob, &[(2, 3)]);
        world.raise(id, bob, 4, 0);
    });
    let expired = Some((Tick::Failed, None));
    ann.client.wait_for_tick(locals[3], Tick::Delivered).await.unwrap();
    for (seq, tick) in [(1, Tick::Delivered), (2, Tick::Failed), (3, Tick::Failed)] {
        assert_eq!(ann.client.tick(locals[seq - 1]).await.unwrap(), Some((tick, None)), "{seq}");
    }

    // So many spans that the first isn't told any more; the last has grown since.
    let later: Vec<_> = (0..64).map(|n| (10 + 2 * n, 10 + 2 * n)).collect();
    fake.change(|world| world.expire(id, bob, &later));
    ann.client.wait_for_tick(locals[135], Tick::Failed).await.unwrap();
    let grown: Vec<_> = later.iter().map(|&(at, _)| (at, at + u64::from(at == 136))).collect();
    fake.change(|world| {
        world.expire(id, bob, &grown);
        world.raise(id, bob, 140, 138);
    });
    ann.client.wait_for_tick(locals[137], Tick::Read).await.unwrap();
    let ann = ann.restart().await;
    for seq in 1..=140 {
        let in_spans = grown.iter().any(|&(first, last)| (first..=last).contains(&seq));
        let tick = match seq {
            2 | 3 => Tick::Failed,
            _ if in_spans => Tick::Failed,
            ..=138 => Tick::Read,
            _ => Tick::Delivered,
        };
        let local = locals[usize::try_from(seq).unwrap() - 1];
        assert_eq!(ann.client.tick(local).await.unwrap(), Some((tick, None)), "{seq}");
    }
    assert_eq!(ann.client.tick(locals[1]).await.unwrap(), expired);
}
