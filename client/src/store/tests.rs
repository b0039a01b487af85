//! The store's promises: a device that forgets everything but its store, at any point, neither loses,
//! repeats nor falsely acknowledges a message.
//!
//! A crash is modelled by dropping all that is in memory and opening the file again; between steps that is
//! exactly what a kill does, since each step is one transaction.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;
use tern_protocol::{
    code::Code,
    frame::{Accepted, Account, Deliver, Envelope, OpenDownlink, Receipt, Refused, Send, Span},
    id::{AccountId, ConversationId, DeviceId},
    uplink::{Answers, Sender, Verdict},
};

use super::{
    conversations,
    history::{self, Tick},
    inbox::{self, Arrival},
    outbox::{self, Answer, LocalId, Outgoing, Target},
    schema, *,
};

const CONVERSATION: ConversationId = ConversationId::new([7; 16]);

fn account(n: u64) -> AccountId {
    AccountId::new(n).unwrap()
}

fn database() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    schema::migrate(&connection).unwrap();
    connection
}

fn outgoing(target: Target, message_id: u64) -> Outgoing {
    Outgoing {
        target,
        message_id,
        account: account(1),
        device: DeviceId::new(1).unwrap(),
        time_ms: 1,
        envelope: Envelope(Bytes::from(message_id.to_string())),
    }
}

fn enqueue(db: &Connection, message_id: u64) -> LocalId {
    let target = Target::Account(account(2), CONVERSATION);
    outbox::enqueue(db, &outgoing(target, message_id)).unwrap()
}

fn deliver(seq: u64) -> Arrival {
    Arrival::Message(Deliver {
        seq,
        account: account(2),
        device: DeviceId::new(2).unwrap(),
        message_id: seq,
        time_ms: seq,
        envelope: Envelope(Bytes::from_static(b"x")),
    })
}

fn open_downlink(start: u64) -> OpenDownlink {
    OpenDownlink {
        conversation: CONVERSATION,
        start,
        head: start,
        peer: Account { account: account(2), name: "bob".into() },
        revision: 0,
    }
}

#[test]
fn a_counter_is_stored_before_it_is_used_and_settled_only_covers_stored_answers() {
    let db = database();
    let locals: Vec<_> = (1..=3).map(|id| enqueue(&db, id)).collect();
    let taken = outbox::take(&db, CONVERSATION, 0, 2).unwrap();
    assert_eq!(taken.messages.iter().map(|m| m.counter).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(taken.settled, 0);
    // The same again, as after a crash, and one more.
    let again = outbox::take(&db, CONVERSATION, 0, 3).unwrap();
    assert_eq!(again.messages[..2], taken.messages[..]);
    assert_eq!(again.messages[2].counter, 3);
    let accepted = |n: usize, seq| Answer::Accepted { local: locals[n], seq, time_ms: 9 };
    // The answer to 2 alone settles nothing.
    assert_eq!(outbox::answered(&db, CONVERSATION, &[accepted(1, 6)]).unwrap(), 0);
    assert_eq!(outbox::answered(&db, CONVERSATION, &[accepted(0, 5)]).unwrap(), 2);
    // A repeated answer changes nothing.
    assert_eq!(outbox::answered(&db, CONVERSATION, &[accepted(0, 77)]).unwrap(), 2);
    assert_eq!(history::last(&db, CONVERSATION, 9).unwrap()[0].seq, Some(5));
    assert_eq!(history::waiting(&db).unwrap(), 1);
}

#[test]
fn a_failed_message_gives_its_counter_to_the_next_one() {
    let db = database();
    let locals: Vec<_> = (1..=3).map(|id| enqueue(&db, id)).collect();
    outbox::take(&db, CONVERSATION, 0, 3).unwrap();
    let failed = Answer::Failed { local: locals[0], code: Code::PeerGone };
    outbox::answered(&db, CONVERSATION, &[failed]).unwrap();
    let taken = outbox::take(&db, CONVERSATION, 0, 9).unwrap();
    let counters: Vec<_> = taken.messages.iter().map(|m| (m.message_id, m.counter)).collect();
    assert_eq!(counters, [(2, 1), (3, 2)]);
    let tick = history::tick_of(&db, locals[0]).unwrap();
    assert_eq!(tick, Some((Tick::Failed, Some(Code::PeerGone))));
}

#[test]
fn a_name_that_is_found_keeps_the_order_of_its_messages() {
    let db = database();
    outbox::enqueue(&db, &outgoing(Target::Name("bob".into()), 1)).unwrap();
    outbox::enqueue(&db, &outgoing(Target::Name("bob".into()), 2)).unwrap();
    outbox::enqueue(&db, &outgoing(Target::Name("eve".into()), 3)).unwrap();
    assert_eq!(outbox::names_to_look_up(&db).unwrap().len(), 2);
    outbox::name_found(&db, "bob", account(2), CONVERSATION).unwrap();
    enqueue(&db, 4);
    let taken = outbox::take(&db, CONVERSATION, 0, 9).unwrap();
    assert_eq!(taken.messages.iter().map(|m| m.message_id).collect::<Vec<_>>(), [1, 2, 4]);
    let failed = outbox::name_not_found(&db, "eve", Code::UnknownName).unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!(history::waiting(&db).unwrap(), 3);
}

#[test]
fn a_delivery_is_stored_once_and_a_hole_is_refused() {
    let db = database();
    inbox::open(&db, &open_downlink(4)).unwrap();
    let store = |arrivals: &[Arrival]| {
        inbox::store(&db, CONVERSATION, account(1), arrivals, &mut Vec::new())
    };
    let cursor = store(&[deliver(5), deliver(6), Arrival::Skipped(8), deliver(9)]).unwrap();
    assert_eq!(cursor.position, 9);
    assert_eq!(store(&[deliver(5), deliver(9), Arrival::Skipped(7)]).unwrap().position, 9);
    assert!(matches!(store(&[deliver(11)]), Err(StoreError::Inconsistent(_))));
    let shown = history::unshown(&db, LocalId::default(), 9).unwrap();
    assert_eq!(shown.iter().map(|m| m.seq).collect::<Vec<_>>(), [Some(5), Some(6), Some(9)]);
    inbox::shown(&db, &[shown[0].local]).unwrap();
    assert_eq!(history::unshown(&db, LocalId::default(), 9).unwrap().len(), 2);
    // A later start doesn't move a position that is there.
    assert_eq!(inbox::open(&db, &open_downlink(2)).unwrap().position, 9);
}

#[test]
fn receipts_turn_ticks_and_never_back() {
    let db = database();
    let local = enqueue(&db, 1);
    inbox::open(&db, &open_downlink(0)).unwrap();
    let tick = || history::tick_of(&db, local).unwrap().unwrap().0;
    assert_eq!(tick(), Tick::Waiting);
    outbox::take(&db, CONVERSATION, 0, 1).unwrap();
    let accepted = Answer::Accepted { local, seq: 3, time_ms: 1 };
    outbox::answered(&db, CONVERSATION, &[accepted]).unwrap();
    assert_eq!(tick(), Tick::Sent);
    let receipt = |revision, of, delivered, read, expired| {
        let account = account(of);
        let receipt = Receipt { revision, account, delivered, read, expired };
        inbox::store(
            &db,
            CONVERSATION,
            self::account(1),
            &[Arrival::Receipt(receipt)],
            &mut Vec::new(),
        )
        .unwrap();
    };
    // The own account's receipts are about what others wrote.
    receipt(1, 1, 9, 9, Vec::new());
    assert_eq!(tick(), Tick::Sent);
    receipt(2, 2, 3, 0, Vec::new());
    assert_eq!(tick(), Tick::Delivered);
    receipt(3, 2, 3, 3, Vec::new());
    receipt(4, 2, 0, 0, Vec::new());
    assert_eq!(tick(), Tick::Read);
    receipt(5, 2, 3, 3, vec![Span { first: 2, last: 3 }]);
    assert_eq!(tick(), Tick::Failed);
}

#[test]
fn a_read_mark_stays_within_what_is_known_and_is_told_once() {
    let db = database();
    inbox::open(&db, &open_downlink(0)).unwrap();
    inbox::store(&db, CONVERSATION, account(1), &[deliver(1), deliver(2)], &mut Vec::new())
        .unwrap();
    assert_eq!(conversations::list(&db).unwrap()[0].unread, 2);
    assert!(conversations::want_read(&db, CONVERSATION, 1_000).unwrap());
    assert_eq!(conversations::read_to_tell(&db, CONVERSATION).unwrap(), Some(2));
    assert_eq!(conversations::list(&db).unwrap()[0].unread, 0);
    assert_eq!(conversations::with_something_to_say(&db).unwrap(), [CONVERSATION]);
    conversations::read_known(&db, CONVERSATION, 2).unwrap();
    assert_eq!(conversations::read_to_tell(&db, CONVERSATION).unwrap(), None);
    assert!(!conversations::want_read(&db, CONVERSATION, 1).unwrap());
}

/// What is in memory and on the wires while a stream is open.
#[derive(Default)]
struct Lane {
    sender: Option<Sender>,
    up: VecDeque<Send>,
    down: VecDeque<std::result::Result<Accepted, Refused>>,
}

/// A device with one conversation, its server, and the wires between them: two, of a connection and of the one that
/// takes its place.
struct World {
    db: Connection,
    lanes: [Lane; 2],
    answers: Answers,
    log: Vec<u64>,
    /// Message ids in the order in which the application sent them.
    wanted: Vec<u64>,
    locals: Vec<LocalId>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Enqueue,
    Send(usize),
    ServerTakes(usize),
    ServerRefuses(usize),
    ClientTakes(usize),
    StreamLost(usize),
    Crash,
}

/// The server refuses each so-many-th message for good.
const HOPELESS: u64 = 5;

fn lane() -> impl Strategy<Value = usize> {
    0..2_usize
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Enqueue),
        4 => lane().prop_map(Step::Send),
        6 => lane().prop_map(Step::ServerTakes),
        1 => lane().prop_map(Step::ServerRefuses),
        6 => lane().prop_map(Step::ClientTakes),
        1 => lane().prop_map(Step::StreamLost),
        1 => Just(Step::Crash),
    ]
}

impl World {
    fn new() -> Self {
        Self {
            db: database(),
            lanes: Default::default(),
            answers: Answers::default(),
            log: Vec::new(),
            wanted: Vec::new(),
            locals: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Enqueue => {
                let message_id = self.wanted.len() as u64 + 1;
                self.wanted.push(message_id);
                self.locals.push(enqueue(&self.db, message_id));
            }
            Step::Send(lane) => self.send(lane),
            Step::ServerTakes(lane) => self.serve(lane, false),
            Step::ServerRefuses(lane) => self.serve(lane, true),
            Step::ClientTakes(lane) => self.take_answer(lane),
            // All that is on the wires and in memory is gone. The store has each step whole.
            Step::StreamLost(lane) => self.lanes[lane] = Lane::default(),
            Step::Crash => self.lanes = Default::default(),
        }
    }

    fn send(&mut self, lane: usize) {
        if self.wanted.is_empty() {
            return;
        }
        let taken = outbox::take(&self.db, CONVERSATION, 0, 4).unwrap();
        let lane = &mut self.lanes[lane];
        let sender = lane.sender.get_or_insert_with(|| {
            let unanswered = taken.messages.iter().map(|m| (m.counter, m.message_id));
            Sender::new(taken.settled, unanswered, 4)
        });
        while let Some(head) = sender.next_send(u64::MAX) {
            lane.up.push_back(Send {
                counter: head.counter,
                message_id: head.message_id,
                settled: head.settled,
                envelope: Envelope(Bytes::from_static(b"x")),
            });
        }
    }

    fn serve(&mut self, lane: usize, is_full: bool) {
        let Some(send) = self.lanes[lane].up.pop_front() else { return };
        let refused = |code, retry_after_ms, last| {
            Err(Refused { counter: send.counter, code, retry_after_ms, last })
        };
        let last = self.answers.last();
        let answer = match self.answers.judge(&send, 100) {
            Verdict::Append if send.message_id.is_multiple_of(HOPELESS) => {
                refused(Code::EnvelopeSize, 0, last)
            }
            Verdict::Append if is_full => refused(Code::MailboxFull, 1, last),
            Verdict::Append => {
                self.log.push(send.message_id);
                Ok(self.answers.record(&send, self.log.len() as u64, 1))
            }
            Verdict::Repeat(accepted) => Ok(accepted),
            Verdict::Refuse(code) => refused(code, 0, last),
        };
        self.lanes[lane].down.push_back(answer);
    }

    fn take_answer(&mut self, lane: usize) {
        let Lane { sender: Some(sender), down, .. } = &mut self.lanes[lane] else { return };
        let Some(answer) = down.pop_front() else { return };
        let local = |message_id: u64| self.locals[message_id as usize - 1];
        let (answer, conflict) = match answer {
            Ok(accepted) => {
                let message_id = sender.accepted(&accepted).unwrap();
                let answer = message_id.map(|id| Answer::Accepted {
                    local: local(id),
                    seq: accepted.seq,
                    time_ms: 1,
                });
                (answer, None)
            }
            Err(refused) => {
                let outcome = sender.refused(&refused, 0).unwrap();
                let answer =
                    outcome.failed.map(|(id, code)| Answer::Failed { local: local(id), code });
                (answer, outcome.conflict)
            }
        };
        let settled = outbox::answered(&self.db, CONVERSATION, answer.as_slice()).unwrap();
        if let Some(conflict) = conflict {
            let refused = local(conflict.refused.message_id);
            // No memory of this world is ever restored from a copy.
            assert!(!outbox::renumber(&self.db, CONVERSATION, refused, &conflict).unwrap());
            self.lanes[lane] = Lane::default();
            return;
        }
        sender.settle(settled);
        if sender.is_idle() {
            self.lanes[lane].sender = None;
        }
    }

    fn failed(&self) -> Vec<u64> {
        let is_failed = |id: &u64| {
            let tick = history::tick_of(&self.db, self.locals[*id as usize - 1]).unwrap();
            tick.unwrap().0 == Tick::Failed
        };
        self.wanted.iter().copied().filter(is_failed).collect()
    }
}

proptest! {
    #[test]
    fn no_crash_loses_repeats_or_reorders_a_send(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            // A sent tick is never a lie.
            for stored in world.locals.iter().zip(&world.wanted) {
                let (tick, _) = history::tick_of(&world.db, *stored.0).unwrap().unwrap();
                prop_assert!(tick != Tick::Sent || world.log.contains(stored.1));
            }
        }
        // The network and both ends behave from here on: everything gets through.
        world.step(Step::Crash);
        while history::waiting(&world.db).unwrap() > 0 {
            world.step(Step::Send(0));
            world.step(Step::ServerTakes(0));
            world.step(Step::ClientTakes(0));
        }
        let failed = world.failed();
        let expected: Vec<_> =
            world.wanted.iter().copied().filter(|id| !failed.contains(id)).collect();
        prop_assert_eq!(&world.log, &expected);
    }

    #[test]
    fn no_crash_loses_repeats_or_reorders_a_delivery(
        // How many entries come before each crash, and how many of them are acknowledged.
        lives in prop::collection::vec((1_u64..9, 0_u64..9), 1..20),
    ) {
        let db = database();
        let (mut acked, mut printed) = (0, Vec::new());
        for (count, confirmed) in lives {
            // The server begins behind the last ack that it saw; the store may hold more.
            let position = inbox::open(&db, &open_downlink(acked)).unwrap().position;
            prop_assert!(position >= acked);
            let arrivals: Vec<_> = (acked + 1..=acked + count).map(deliver).collect();
            let cursor = inbox::store(&db, CONVERSATION, account(1), &arrivals, &mut Vec::new()).unwrap();
            prop_assert_eq!(cursor.position, position.max(acked + count));
            // The ack may be lost; the application confirms what it gets to before the crash.
            acked += confirmed.min(count);
            for message in history::unshown(&db, LocalId::default(), confirmed as usize).unwrap() {
                printed.push(message.seq.unwrap());
                inbox::shown(&db, &[message.local]).unwrap();
            }
        }
        for message in history::unshown(&db, LocalId::default(), 1_000).unwrap() {
            printed.push(message.seq.unwrap());
        }
        let last = printed.len() as u64;
        prop_assert_eq!(printed, (1..=last).collect::<Vec<_>>());
        prop_assert!(last >= acked);
    }
}

#[tokio::test]
async fn a_step_that_fails_leaves_nothing_and_disturbs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    for inline in [false, true] {
        let store = Store::open(&dir.path().join(format!("{inline}.db")), inline).unwrap();
        let bad = store.durably(|db| {
            enqueue(db, 1);
            Err::<(), _>(StoreError::UnknownConversation)
        });
        let good = store.durably(|db| Ok(enqueue(db, 2)));
        let (bad, good) = tokio::join!(bad, good);
        assert!(bad.is_err());
        good.unwrap();
        assert_eq!(store.quickly(history::waiting).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn what_was_answered_survives_the_loss_of_everything_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tern.db");
    let store = Store::open(&path, false).unwrap();
    for id in 1..=20 {
        store.durably(move |db| Ok(enqueue(db, id))).await.unwrap();
        // What a kill at this instant leaves: the files as they are, without any closing.
        let copy = dir.path().join(format!("{id}.db"));
        std::fs::copy(&path, &copy).unwrap();
        std::fs::copy(path.with_extension("db-wal"), copy.with_extension("db-wal")).unwrap();
        let left = Store::open(&copy, true).unwrap();
        assert_eq!(left.quickly(history::waiting).await.unwrap(), id);
    }
}

#[test]
fn the_history_stands_in_the_order_of_the_conversation() {
    let db = database();
    inbox::open(&db, &open_downlink(0)).unwrap();
    let first = enqueue(&db, 1);
    let refused = enqueue(&db, 2);
    outbox::take(&db, CONVERSATION, 0, 2).unwrap();
    // The other's message overtook the first one on its way to the server.
    inbox::store(&db, CONVERSATION, account(1), &[deliver(1)], &mut Vec::new()).unwrap();
    let answers = [
        Answer::Accepted { local: first, seq: 2, time_ms: 1 },
        Answer::Failed { local: refused, code: Code::PeerGone },
    ];
    outbox::answered(&db, CONVERSATION, &answers).unwrap();
    inbox::store(
        &db,
        CONVERSATION,
        account(1),
        &[Arrival::Skipped(2), deliver(3)],
        &mut Vec::new(),
    )
    .unwrap();
    enqueue(&db, 4);
    let history = history::last(&db, CONVERSATION, 9).unwrap();
    let order: Vec<_> = history.iter().map(|m| (m.seq, m.tick)).collect();
    assert_eq!(order[0].0, Some(1));
    assert_eq!(order.iter().filter_map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(order.last(), Some(&(None, Tick::Waiting)));
    assert!(order.contains(&(None, Tick::Failed)));
    assert_eq!(history::last(&db, CONVERSATION, 2).unwrap(), history[history.len() - 2..]);
}
