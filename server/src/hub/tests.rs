use bytes::Bytes;
use futures_util::FutureExt;
use tern_protocol::frame::{Mailbox, Receipt};

use super::*;
use crate::{conversation::Appended, records::MessageRecord};

fn account(id: u64) -> AccountId {
    AccountId::new(id).unwrap()
}

fn device(id: u64) -> DeviceId {
    DeviceId::new(id).unwrap()
}

fn conversation(id: u8) -> ConversationId {
    ConversationId::new([id; 16])
}

fn inbox(live_messages: usize) -> Arc<Inbox> {
    Arc::new(Inbox::new(InboxSettings { live_messages, events: 2 }))
}

fn message(seq: u64) -> News {
    let message = MessageRecord {
        account: account(1),
        device: device(1),
        message_id: seq,
        time_ms: 0,
        envelope: Bytes::new(),
    };
    News::Message { foreign_head: seq - 1, appended: Arc::new(Appended { seq, message }) }
}

fn receipt(delivered: u64) -> News {
    let receipt =
        Receipt { revision: delivered, account: account(1), delivered, read: 0, expired: vec![] };
    News::Receipt(Arc::new(receipt))
}

fn presences(inbox: &Inbox) -> Vec<PresenceState> {
    let of = |event| match event {
        Event::Presence(presence) => Some(presence.state),
        _ => None,
    };
    inbox.take_events().into_iter().filter_map(of).collect()
}

#[test]
fn a_newer_connection_replaces_the_older_whichever_comes_last() {
    let hub = Hub::default();
    let (first, second) = (inbox(1), inbox(1));
    hub.connect(account(1), device(1), 7, first.clone(), true, 0);
    hub.connect(account(1), device(1), 8, second.clone(), true, 0);
    assert_eq!(first.close_code(), Some(Code::Replaced));
    // One that was overtaken while it signed in doesn't come back.
    let late = inbox(1);
    hub.connect(account(1), device(1), 6, late.clone(), true, 0);
    assert_eq!(late.close_code(), Some(Code::Replaced));
    assert_eq!(second.close_code(), None);
    // The end of the replaced one is nobody's end.
    assert!(!hub.disconnect(device(1), 7));
    assert!(hub.disconnect(device(1), 8));
}

#[test]
fn a_reconnect_within_the_grace_does_not_flicker() {
    let hub = Hub::default();
    let watcher = inbox(1);
    hub.connect(account(2), device(2), 1, watcher.clone(), true, 0);
    hub.connect(account(1), device(1), 2, inbox(1), true, 0);
    assert!(hub.watch(device(2), account(1), 4));
    assert_eq!(hub.presence(account(1)).state, PresenceState::Online);
    hub.disconnect(device(1), 2);
    hub.connect(account(1), device(1), 3, inbox(1), true, 10);
    hub.offline(account(1), device(1), 5);
    assert_eq!(presences(&watcher), []);
    hub.disconnect(device(1), 3);
    hub.offline(account(1), device(1), 20);
    assert_eq!(presences(&watcher), [PresenceState::Offline]);
    assert!(hub.watch(device(2), account(1), 4));
    assert_eq!(hub.presence(account(1)).last_seen_ms, 20);
}

#[test]
fn an_account_is_online_while_one_of_its_devices_is_active() {
    let hub = Hub::default();
    let watcher = inbox(1);
    hub.connect(account(2), device(2), 1, watcher.clone(), true, 0);
    hub.watch(device(2), account(1), 4);
    hub.connect(account(1), device(10), 2, inbox(1), false, 0);
    assert_eq!(presences(&watcher), []);
    hub.connect(account(1), device(11), 3, inbox(1), true, 0);
    hub.set_active(account(1), device(10), true, 0);
    hub.set_active(account(1), device(11), false, 0);
    assert_eq!(presences(&watcher), [PresenceState::Online]);
    hub.set_active(account(1), device(10), false, 9);
    assert_eq!(presences(&watcher), [PresenceState::Offline]);
}

#[test]
fn watching_is_bounded_and_ends_with_the_connection() {
    let hub = Hub::default();
    hub.connect(account(9), device(9), 1, inbox(1), true, 0);
    assert!(hub.watch(device(9), account(1), 2));
    assert!(hub.watch(device(9), account(2), 2));
    assert!(hub.watch(device(9), account(2), 2));
    assert!(!hub.watch(device(9), account(3), 2));
    hub.unwatch(device(9), account(1));
    assert!(hub.watch(device(9), account(3), 2));
    hub.disconnect(device(9), 1);
    assert_eq!(hub.watched(device(9)), []);
}

#[test]
fn what_does_not_fit_into_memory_is_noted_as_behind_and_stays_in_order() {
    let inbox = inbox(2);
    for seq in 1..=3 {
        inbox.news(conversation(1), message(seq));
    }
    inbox.news(conversation(2), message(1));
    let (first, _) = inbox.next_ready().unwrap();
    assert_eq!(first, conversation(1));
    let slot = inbox.take(first);
    assert_eq!(slot.live.iter().map(|(_, appended)| appended.seq).collect::<Vec<_>>(), [1, 2]);
    assert!(slot.behind);
    let (second, _) = inbox.next_ready().unwrap();
    let slot = inbox.take(second);
    assert!(slot.live.is_empty() && slot.behind);
    // The room was given back.
    inbox.news(conversation(1), message(4));
    assert_eq!(inbox.take(first).live.len(), 1);
}

#[test]
fn large_messages_are_bounded_by_their_bytes() {
    let inbox = inbox(1_000);
    for seq in 1..=100 {
        let News::Message { foreign_head, appended } = message(seq) else { panic!() };
        let envelope = Bytes::from(vec![0; 64 * 1024]);
        let message = MessageRecord { envelope, ..appended.message.clone() };
        let appended = Arc::new(Appended { seq, message });
        inbox.news(conversation(1), News::Message { foreign_head, appended });
    }
    // A mebibyte is sixteen of them; a downlink takes no more at once, and then reads the store.
    let slot = inbox.take(conversation(1));
    assert_eq!((slot.live.len(), slot.behind), (16, true));
    assert!(inbox.take(conversation(1)).is_empty());
}

#[test]
fn many_messages_are_taken_a_few_at_a_time_and_the_rest_of_the_store_last() {
    let inbox = inbox(20);
    for seq in 1..=30 {
        inbox.news(conversation(1), message(seq));
    }
    let first = inbox.take(conversation(1));
    assert_eq!((first.live.len(), first.behind), (16, false));
    let second = inbox.take(conversation(1));
    assert_eq!((second.live.front().map(|(_, a)| a.seq), second.live.len()), (Some(17), 4));
    assert!(second.behind);
}

#[test]
fn behind_a_gap_nothing_is_taken_from_memory() {
    let inbox = inbox(1);
    inbox.news(conversation(1), message(1));
    inbox.news(conversation(1), message(2));
    inbox.news(conversation(2), message(1));
    inbox.take(conversation(1));
    inbox.news(conversation(2), message(2));
    let slot = inbox.take(conversation(2));
    assert!(slot.behind && slot.live.is_empty(), "2 must not overtake 1");
}

#[test]
fn a_conversation_that_is_served_is_not_asked_for_again() {
    let inbox = inbox(8);
    inbox.news(conversation(1), message(1));
    let (_, wake) = inbox.next_ready().unwrap();
    inbox.take(conversation(1));
    inbox.news(conversation(1), message(2));
    assert!(inbox.next_ready().is_none());
    assert!(wake.notified().now_or_never().is_some());
    // What came as the downlink ended asks for another.
    inbox.release(conversation(1));
    assert!(inbox.next_ready().is_some());
    inbox.take(conversation(1));
    inbox.release(conversation(1));
    assert!(inbox.next_ready().is_none());
}

#[test]
fn caught_up_is_said_once_when_all_that_was_counted_is_acknowledged() {
    let inbox = inbox(8);
    let mailbox = Mailbox { conversations: 2, positions: 7 };
    let waiting = [(conversation(1), Some(5)), (conversation(2), Some(2)), (conversation(3), None)];
    inbox.fill(&waiting, mailbox);
    inbox.acknowledged(conversation(1), 4);
    inbox.acknowledged(conversation(2), 2);
    assert_eq!(inbox.take_events(), []);
    inbox.acknowledged(conversation(1), 6);
    assert_eq!(inbox.take_events(), [Event::CaughtUp(mailbox)]);
    inbox.acknowledged(conversation(1), 9);
    assert_eq!(inbox.take_events(), []);
    let empty = super::tests::inbox(1);
    empty.fill(&[], Mailbox::default());
    assert_eq!(empty.take_events(), [Event::CaughtUp(Mailbox::default())]);
}

#[test]
fn for_an_inactive_client_receipts_are_held_and_messages_are_not() {
    let inbox = inbox(8);
    inbox.set_active(false);
    inbox.news(conversation(1), receipt(1));
    inbox.event(Event::Typing { conversation: conversation(1), account: account(1), active: true });
    assert!(inbox.next_ready().is_none());
    assert_eq!(inbox.take_events(), []);
    inbox.news(conversation(2), message(1));
    assert_eq!(inbox.next_ready().unwrap().0, conversation(2));
    inbox.set_active(true);
    assert_eq!(inbox.next_ready().unwrap().0, conversation(1));
}

#[test]
fn events_are_bounded_and_presence_is_kept_once_per_account() {
    let inbox = inbox(8);
    for state in [PresenceState::Online, PresenceState::Offline, PresenceState::Online] {
        inbox.event(Event::Presence(Presence { account: account(1), state, last_seen_ms: 0 }));
    }
    for id in 0..10 {
        let conversation = conversation(id);
        inbox.event(Event::Typing { conversation, account: account(1), active: true });
    }
    let events = inbox.take_events();
    assert_eq!(events.len(), 2);
    assert!(matches!(events[0], Event::Presence(p) if p.state == PresenceState::Online));
}
