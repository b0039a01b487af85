use tern_protocol::{code::Code, frame::Span, receipts::Tick};

use super::world::*;
use crate::conversation::state::{Age, News};

/// The devices that have news of messages, with the sequence numbers.
fn messages(world: &World) -> Vec<(u64, u64)> {
    let of = |(device, news): &(tern_protocol::id::DeviceId, News)| match news {
        News::Message { appended, .. } => Some((device.get(), appended.seq)),
        News::Receipt(_) | News::Unsure => None,
    };
    world.news.iter().filter_map(of).collect()
}

#[test]
fn a_message_goes_to_every_device_but_its_own() {
    let mut world = World::new();
    assert_eq!(world.say(10, 1), 1);
    assert_eq!(messages(&world), [(11, 1), (20, 1)]);
    assert!(world.is_marked(11) && world.is_marked(20) && !world.is_marked(10));
    assert_eq!(world.stored()[&1].envelope, "message 1");
}

#[test]
fn a_repeat_gets_the_first_answer_even_after_a_crash() {
    let mut world = World::new();
    let first = world.append(10, &send(1, 0)).unwrap();
    world.commit();
    assert_eq!(world.append(10, &send(1, 0)), Ok(first));
    world.crash();
    assert_eq!(world.append(10, &send(1, 0)), Ok(first));
    world.commit();
    assert_eq!(world.stored().len(), 1);
}

#[test]
fn an_append_that_was_not_committed_never_was() {
    let mut world = World::new();
    world.append(10, &send(1, 0)).unwrap();
    world.crash();
    assert!(!world.state.exists());
    assert_eq!(world.say(20, 1), 1);
}

#[test]
fn counters_are_dense() {
    let mut world = World::new();
    world.say(10, 1);
    assert_eq!(world.append(10, &send(3, 1)).unwrap_err().code, Code::CounterGap);
    let mut other = send(1, 0);
    other.message_id = 99;
    let refused = world.append(10, &other).unwrap_err();
    assert_eq!((refused.code, refused.last), (Code::CounterReused, 1));
    // Each device counts for itself.
    assert_eq!(world.say(11, 1), 2);
}

#[test]
fn time_does_not_go_back_along_a_conversation() {
    let mut world = World::new();
    let first = world.append(10, &send(1, 0)).unwrap();
    world.now_ms -= 5_000;
    let second = world.append(20, &send(1, 0)).unwrap();
    assert!(second.time_ms >= first.time_ms);
}

#[test]
fn what_every_device_has_is_deleted_and_its_mark_taken_back() {
    let mut world = World::new();
    for counter in 1..=3 {
        world.say(10, counter);
    }
    world.ack(20, 3);
    world.settle();
    assert_eq!(world.stored().len(), 3, "the sender's other device has nothing yet");
    assert!(world.is_marked(11));
    world.ack(11, 3);
    world.ack(10, 0);
    world.settle();
    assert_eq!(world.stored().len(), 0);
    for device in [10, 11, 20] {
        // The receipt of account 2 still waits for the devices of account 1.
        world.ack(device, world.snapshot(device).cursor.seq);
    }
    world.settle();
    assert!(![10, 11, 20].into_iter().any(|device| world.is_marked(device)));
}

#[test]
fn a_sender_that_never_acknowledges_its_own_messages_holds_nothing_back() {
    let mut world = World::new();
    world.accounts = [info(1, &[10]), info(2, &[20])];
    world.say(20, 1);
    world.ack(10, 1);
    for counter in 1..=5 {
        world.say(10, counter);
    }
    world.ack(20, 6);
    world.settle();
    assert_eq!(world.stored().len(), 0);
    // It is sent the rest as skipped when something foreign follows.
    world.say(20, 2);
    let snapshot = world.snapshot(10);
    assert_eq!((snapshot.cursor.seq, snapshot.foreign_head), (1, 7));
}

#[test]
fn with_retention_nothing_is_deleted_by_acks() {
    let mut world = World::new();
    world.rules.delete_delivered = false;
    world.say(10, 1);
    world.ack(20, 1);
    world.ack(11, 1);
    world.settle();
    assert_eq!(world.stored().len(), 1);
}

#[test]
fn receipts_tell_what_a_device_has_and_only_the_others() {
    let mut world = World::new();
    world.say(10, 1);
    world.news.clear();
    world.ack(20, 1);
    world.commit();
    let told: Vec<_> = world.news.iter().map(|(device, _)| device.get()).collect();
    assert_eq!(told, [10, 11]);
    assert_eq!(world.snapshot(10).receipts[0].delivered, 1);
    assert_eq!(world.snapshot(20).receipts, []);
    assert_eq!(world.state.read(account(2), 1, &mut world.news), Ok(1));
    world.commit();
    world.crash();
    // Its own devices are told of a read mark, so that they agree.
    assert_eq!(world.snapshot(20).receipts[0].read, 1);
    assert_eq!(world.snapshot(11).receipts[0].read, 1);
}

#[test]
fn a_read_mark_is_cumulative_and_bounded_by_the_head() {
    let mut world = World::new();
    world.say(10, 1);
    world.say(10, 2);
    assert_eq!(world.state.read(account(2), 2, &mut world.news), Ok(2));
    assert_eq!(world.state.read(account(2), 1, &mut world.news), Ok(2));
    assert_eq!(world.state.read(account(2), 3, &mut world.news), Err(Code::MarkBeyondHead));
}

#[test]
fn a_full_mailbox_refuses_for_now() {
    let mut world = World::new();
    world.rules.undelivered = 2;
    world.say(10, 1);
    world.say(10, 2);
    let refused = world.append(10, &send(3, 2)).unwrap_err();
    assert_eq!((refused.code, refused.retry_after_ms), (Code::MailboxFull, 5));
    world.ack(20, 2);
    world.ack(11, 2);
    world.commit();
    assert_eq!(world.say(10, 3), 3);
}

#[test]
fn expired_entries_are_skipped_and_their_sender_told() {
    let mut world = World::new();
    for counter in 1..=4 {
        world.say(10, counter);
    }
    world.ack(20, 1);
    world.ack(11, 4);
    world.commit();
    let span = |first, last| Span { first, last };
    let sent = vec![(account(1), span(1, 3))];
    world.state.age(&Age { up_to: 3, undelivered: true, bucket: 10, sent }, &mut world.news);
    world.commit();
    world.crash();
    assert_eq!(world.stored().into_keys().collect::<Vec<_>>(), [4]);
    let snapshot = world.snapshot(20);
    assert_eq!((snapshot.cursor.seq, snapshot.expired_to, snapshot.foreign_head), (1, 3, 4));
    let receipts = world.snapshot(10).receipts;
    let of_bob = receipts.iter().find(|receipt| receipt.account == account(2)).unwrap();
    assert_eq!(of_bob.expired, [Span { first: 2, last: 3 }]);
    let of_ann = world.snapshot(20).receipts;
    assert!(of_ann.iter().all(|receipt| receipt.expired.is_empty()), "she sent them");
    let mut member = tern_protocol::receipts::MemberReceipt::default();
    member.merge(of_bob);
    let ticks: Vec<_> = (1..=4).map(|seq| member.tick(seq)).collect();
    assert_eq!(ticks, [Tick::Delivered, Tick::Failed, Tick::Failed, Tick::Sent]);
}

#[test]
fn with_retention_what_is_delivered_goes_first_and_what_waits_stays_longer() {
    let mut world = World::new();
    world.rules.delete_delivered = false;
    world.say(10, 1);
    world.say(10, 2);
    let bucket = world.now_ms / world.rules.bucket_ms;
    let is_indexed =
        |world: &World| world.disk.contains_key(&crate::keys::expiry(bucket, conversation()));
    world.ack(20, 1);
    world.ack(11, 2);
    let sent = vec![(account(1), Span { first: 1, last: 2 })];
    let age = |undelivered| Age { up_to: 2, undelivered, bucket, sent: sent.clone() };
    world.state.age(&age(false), &mut world.news);
    world.commit();
    assert_eq!(world.stored().into_keys().collect::<Vec<_>>(), [2]);
    assert!(is_indexed(&world));
    world.state.age(&age(true), &mut world.news);
    world.commit();
    assert!(world.stored().is_empty() && !is_indexed(&world));
    assert_eq!(world.snapshot(20).expired_to, 2);
}

#[test]
fn a_new_device_takes_part_from_now_and_a_removed_one_holds_nothing_back() {
    let mut world = World::new();
    world.say(10, 1);
    world.accounts = [info(1, &[10]), info(2, &[20, 21])];
    world.say(10, 2);
    let snapshot = world.snapshot(21);
    assert_eq!((snapshot.cursor.seq, snapshot.foreign_head), (1, 2));
    assert!(world.state.snapshot(device(11)).is_none());
    assert!(!world.is_marked(11));
    world.ack(20, 2);
    world.accounts = [info(1, &[10]), info(2, &[20])];
    world.settle();
    assert_eq!(world.stored().len(), 0);
}

#[test]
fn nobody_is_left_to_write_to() {
    let mut world = World::new();
    world.accounts = [info(1, &[10]), info(2, &[])];
    assert_eq!(world.append(10, &send(1, 0)).unwrap_err().code, Code::PeerGone);
    world.accounts = [info(1, &[]), info(2, &[20])];
    assert_eq!(world.append(10, &send(1, 0)).unwrap_err().code, Code::UnknownDevice);
}
