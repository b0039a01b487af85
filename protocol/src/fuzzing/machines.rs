//! The state machines under arbitrary sequences of inputs: what each must keep whatever happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Source, frames};
use crate::{
    code::Code,
    downlink,
    frame::*,
    limits,
    receipts::{MemberReceipt, Tick},
    session, uplink,
};

/// Both halves of a session get arbitrary frames; the server is read from only when it may be.
pub fn session(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    if source.bool() { session_server(&mut source) } else { session_client(&mut source) }
}

fn session_server(source: &mut Source<'_>) {
    let requests = source.u16().max(1);
    let mut server = session::Server::new(requests);
    let (mut hellos, mut welcomed, mut unanswered) = (0, false, 0_u32);
    while !source.is_empty() {
        assert!(server.frame_bytes() == limits::FRAME_BYTES || !welcomed);
        if source.below(4) == 0 && unanswered > 0 {
            server.responded();
            unanswered -= 1;
        }
        if !server.may_read() {
            assert!(unanswered >= u32::from(requests));
            continue;
        }
        let frame = match source.below(4) {
            0 => Frame::Hello(frames::hello(source)),
            1 => Frame::Request(frames::request(source)),
            2 => frames::of_kind(0, source),
            _ => frames::any(source),
        };
        match server.receive(frame) {
            Ok(session::ServerInput::Hello(_)) => {
                assert!(!welcomed, "a second hello was taken");
                assert!(!server.may_read(), "read on while a hello is judged");
                hellos += 1;
                assert!(hellos <= limits::HELLOS);
                if source.bool() {
                    server.welcomed();
                    welcomed = true;
                } else if let Err(code) = server.rejected() {
                    assert_eq!((code, hellos), (Code::TooManyHellos, limits::HELLOS));
                    return;
                }
            }
            Ok(session::ServerInput::Request(_)) => {
                assert!(welcomed, "a request before the welcome was taken");
                unanswered += 1;
                assert!(unanswered <= u32::from(requests));
            }
            Ok(session::ServerInput::Ignored) => assert!(hellos > 0),
            Err(code) => {
                assert_eq!(code, Code::UnexpectedFrame);
                return;
            }
        }
    }
}

fn session_client(source: &mut Source<'_>) {
    let mut ticket = source.bool().then(|| Secret::new(*b"first"));
    let mut client = session::Client::new(ticket.clone());
    let mut open = BTreeSet::new();
    let (mut welcomed, mut awaiting, mut by_ticket) = (false, false, false);
    while !source.is_empty() {
        if !welcomed && !awaiting {
            let presented = client.begin_hello().cloned();
            assert_eq!(presented, ticket);
            by_ticket = presented.is_some();
            awaiting = true;
        }
        if source.below(3) == 0 {
            let body = frames::request(source).body;
            if let Some(request) = client.request(body) {
                assert!(welcomed, "a request before the welcome");
                assert!(open.insert(request.id), "an id in use was given again");
            }
        }
        let frame = match source.below(6) {
            0 => Frame::Welcome(frames::welcome(source)),
            1 => frames::of_kind(4, source),
            2 => Frame::Event(frames::event(source)),
            3 => match open.first() {
                Some(&id) => Frame::Response(Response { id, body: ResponseBody::Done }),
                None => Frame::Response(frames::response(source)),
            },
            4 => frames::of_kind(0, source),
            _ => frames::any(source),
        };
        match client.receive(frame) {
            Ok(session::ClientInput::Welcome(welcome)) => {
                assert!(awaiting && !welcomed, "a second welcome was taken");
                (welcomed, awaiting) = (true, false);
                ticket = Some(welcome.ticket.clone());
            }
            Ok(session::ClientInput::Rejected(rejected, next)) => {
                assert!(awaiting && !welcomed);
                awaiting = false;
                match next {
                    session::AfterRejection::SignIn => {
                        assert!(by_ticket, "a signature was to follow a signature");
                        ticket = None;
                    }
                    session::AfterRejection::Later(after_ms) => {
                        assert_eq!(after_ms, rejected.retry_after_ms);
                        return;
                    }
                    session::AfterRejection::GiveUp => return,
                }
            }
            Ok(session::ClientInput::Response(response)) => {
                assert!(open.remove(&response.id), "a response to nothing was taken");
            }
            Ok(session::ClientInput::Event(_) | session::ClientInput::GoAway(_)) => {
                assert!(welcomed);
            }
            Ok(session::ClientInput::Ignored) => {}
            Err(code) => {
                assert_eq!(code, Code::UnexpectedFrame);
                return;
            }
        }
        assert_eq!(client.ticket(), ticket.as_ref());
    }
}

/// What a client's store holds of an uplink; it survives what the state machine doesn't.
#[derive(Default)]
struct Outbox {
    settled: u64,
    /// Messages without a stored answer, by counter.
    unanswered: BTreeMap<u64, u64>,
}

/// A client and a server at the two ends of an uplink, with connections that die, sends that are read
/// after their connection's death, a client that dies, and refusals for now and for good. Or, one time in four, one end alone with a peer that
/// answers or sends anything.
pub fn uplink(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    match source.below(8) {
        6 => uplink_sender_alone(&mut source),
        7 => uplink_answers_alone(&mut source),
        _ => Uplink::default().run(&mut source),
    }
}

#[derive(Default)]
struct Uplink {
    outbox: Outbox,
    next_message: u64,
    failed: BTreeSet<u64>,
    accepted: BTreeMap<u64, u64>,
    answers: uplink::Answers,
    /// The conversation: message ids in the order of their sequence numbers.
    log: Vec<u64>,
    up: VecDeque<Send>,
    down: VecDeque<Result<Accepted, Refused>>,
    /// Sends of earlier connections that the server reads late; nobody awaits their answers.
    late: VecDeque<Send>,
    now_ms: u64,
}

/// Messages whose id is a multiple of this are refused for good.
const BAD: u64 = 7;

impl Uplink {
    fn run(&mut self, source: &mut Source<'_>) {
        let window = 1 + source.u8() as u16;
        let mut sender = uplink::Sender::new(0, [], window);
        while !source.is_empty() {
            match source.below(13) {
                0..=2 => self.assign(&mut sender),
                3..=5 => self.send(&mut sender),
                6..=7 => self.serve(source.below(6) == 0),
                8..=9 => self.take_answer(&mut sender),
                10 => self.now_ms += 500,
                11 => {
                    if let Some(send) = self.late.pop_front() {
                        let _ = self.answer(&send, false);
                    }
                }
                _ => {
                    // A connection dies. What it carried is lost, or read late.
                    if source.bool() {
                        self.late.append(&mut self.up);
                    }
                    self.up.clear();
                    self.down.clear();
                    sender.restart();
                    if source.bool() {
                        sender = self.reborn(window);
                    }
                }
            }
        }
        // Once nothing goes wrong any more, everything comes to its end.
        let mut rounds = 0;
        while !(sender.is_idle() && self.outbox.unanswered.is_empty()) {
            self.now_ms += 500;
            self.send(&mut sender);
            self.serve(false);
            self.take_answer(&mut sender);
            rounds += 1;
            assert!(rounds < 20_000, "the uplink never comes to rest");
        }
        for message in 1..=self.next_message {
            let accepted = self.accepted.contains_key(&message);
            assert_ne!(accepted, self.failed.contains(&message), "message {message}");
        }
        assert_eq!(self.log.len(), self.accepted.len());
        for (index, message) in self.log.iter().enumerate() {
            assert_eq!(self.accepted.get(message), Some(&(index as u64 + 1)));
        }
        assert!(self.log.is_sorted(), "out of order: {:?}", self.log);
    }

    fn reborn(&self, window: u16) -> uplink::Sender {
        let unanswered = self.outbox.unanswered.iter().map(|(&counter, &id)| (counter, id));
        uplink::Sender::new(self.outbox.settled, unanswered, window)
    }

    fn assign(&mut self, sender: &mut uplink::Sender) {
        if let Some(counter) = sender.assign(self.next_message + 1) {
            self.next_message += 1;
            let before = self.outbox.unanswered.insert(counter, self.next_message);
            assert_eq!(before, None, "a counter was given twice");
        }
    }

    fn send(&mut self, sender: &mut uplink::Sender) {
        while let Some(head) = sender.next_send(self.now_ms) {
            let uplink::SendHead { counter, message_id, settled } = head;
            assert!(counter - settled <= limits::SETTLED_WINDOW);
            let bad = message_id.is_multiple_of(BAD);
            let envelope = if bad { Vec::new() } else { vec![1] };
            let envelope = Envelope(envelope.into());
            self.up.push_back(Send { counter, message_id, settled, envelope });
        }
    }

    fn serve(&mut self, busy: bool) {
        if let Some(send) = self.up.pop_front() {
            let answer = self.answer(&send, busy);
            self.down.push_back(answer);
        }
    }

    fn answer(&mut self, send: &Send, busy: bool) -> Result<Accepted, Refused> {
        let refuse = |code, retry_after_ms, last| {
            Err(Refused { counter: send.counter, code, retry_after_ms, last })
        };
        let last = self.answers.last();
        let answer = match self.answers.judge(send, 100) {
            uplink::Verdict::Append if busy => refuse(Code::Overloaded, 1_000, last),
            uplink::Verdict::Append => {
                assert!(!self.log.contains(&send.message_id), "appended twice");
                self.log.push(send.message_id);
                Ok(self.answers.record(send, self.log.len() as u64, 1))
            }
            uplink::Verdict::Repeat(accepted) => Ok(accepted),
            uplink::Verdict::Refuse(code) => refuse(code, 0, last),
        };
        assert!(self.answers.kept().len() as u64 <= limits::SETTLED_WINDOW);
        // The store gives back what it was given.
        let kept: Vec<_> = self.answers.kept().copied().collect();
        let restored = uplink::Answers::restore(self.answers.last(), self.answers.settled(), kept);
        assert_eq!(restored, self.answers);
        answer
    }

    fn take_answer(&mut self, sender: &mut uplink::Sender) {
        match self.down.pop_front() {
            None => {}
            Some(Ok(accepted)) => {
                if let Some(message) = sender.accepted(&accepted).unwrap() {
                    assert_eq!(self.outbox.unanswered.remove(&accepted.counter), Some(message));
                    let before = self.accepted.insert(message, accepted.seq);
                    assert!(before.is_none(), "two ticks for one message");
                    self.outbox.settled = accepted.counter;
                    sender.settle(accepted.counter);
                }
            }
            Some(Err(refused)) => {
                let outcome = sender.refused(&refused, self.now_ms).unwrap();
                if let Some((message, code)) = outcome.failed {
                    assert_eq!(code, Code::EnvelopeSize);
                    assert!(message.is_multiple_of(BAD) && self.failed.insert(message));
                    self.outbox.unanswered.retain(|_, id| *id != message);
                }
                for &(message, _) in &outcome.renumbered {
                    self.outbox.unanswered.retain(|_, id| *id != message);
                }
                for (message, counter) in outcome.renumbered {
                    let before = self.outbox.unanswered.insert(counter, message);
                    assert_eq!(before, None, "a counter was given twice");
                }
            }
        }
    }
}

fn uplink_sender_alone(source: &mut Source<'_>) {
    let mut sender = uplink::Sender::new(source.u64() >> 1, [], 1 + u16::from(source.u8()));
    let (mut message, mut last_sent) = (0, 0);
    while !source.is_empty() {
        let counter = if source.bool() { last_sent } else { source.u64() };
        let result = match source.below(5) {
            0 => {
                message += 1;
                sender.assign(message);
                Ok(())
            }
            1 => {
                last_sent = sender.next_send(u64::MAX).map_or(last_sent, |head| head.counter);
                Ok(())
            }
            2 => {
                sender.settle(sender.settled());
                Ok(())
            }
            3 => {
                let accepted = Accepted { counter, seq: source.u64(), time_ms: 0 };
                sender.accepted(&accepted).map(drop)
            }
            _ => {
                let refused = Refused {
                    counter,
                    code: frames::code(source),
                    retry_after_ms: source.u64(),
                    last: source.u64(),
                };
                sender.refused(&refused, source.u64()).map(drop)
            }
        };
        if let Err(code) = result {
            assert_eq!(code, Code::UnexpectedFrame);
            return;
        }
    }
}

fn uplink_answers_alone(source: &mut Source<'_>) {
    let mut answers = uplink::Answers::default();
    let mut seq = 0;
    while !source.is_empty() {
        let near = (answers.last() + 1).wrapping_sub(u64::from(source.u8() % 4));
        let send = Send {
            counter: if source.below(8) > 0 { near } else { source.u64() },
            message_id: source.u64(),
            settled: source.u64(),
            envelope: Envelope(source.bytes(3).into()),
        };
        let before = answers.last();
        match answers.judge(&send, 2) {
            uplink::Verdict::Append => {
                assert_eq!(send.counter, before + 1);
                seq += 1;
                let accepted = answers.record(&send, seq, 1);
                assert_eq!(accepted, Accepted { counter: send.counter, seq, time_ms: 1 });
                assert_eq!(answers.judge(&send, 2), uplink::Verdict::Repeat(accepted));
            }
            uplink::Verdict::Repeat(accepted) => assert_eq!(accepted.counter, send.counter),
            uplink::Verdict::Refuse(code) => assert!(matches!(
                code,
                Code::CounterGap | Code::CounterReused | Code::WindowExceeded | Code::EnvelopeSize
            )),
        }
        assert!(answers.kept().len() as u64 <= limits::SETTLED_WINDOW);
        assert!(answers.settled() <= answers.last());
    }
}

/// A server and a client at the two ends of a downlink, with streams that die and a client that
/// dies. Or, one time in four, one end alone with a peer that sends anything.
pub fn downlink(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    match source.below(8) {
        6 => downlink_receiver_alone(&mut source),
        7 => downlink_sender_alone(&mut source),
        _ => Downlink::default().run(&mut source),
    }
}

fn opening(cursor: Ack, head: u64) -> OpenDownlink {
    let mut open = match frames::of_kind(16, &mut Source::new(&[])) {
        Frame::OpenDownlink(open) => open,
        other => panic!("{other:?}"),
    };
    (open.start, open.head, open.revision) = (cursor.seq, head, cursor.revision);
    open
}

fn delivery(seq: u64) -> Deliver {
    match frames::of_kind(17, &mut Source::new(&[])) {
        Frame::Deliver(deliver) => Deliver { seq, ..deliver },
        other => panic!("{other:?}"),
    }
}

fn receipt(revision: u64) -> Receipt {
    match frames::of_kind(19, &mut Source::new(&[])) {
        Frame::Receipt(receipt) => Receipt { revision, ..receipt },
        other => panic!("{other:?}"),
    }
}

#[derive(Default)]
struct Downlink {
    /// The server's store: how much there is, and what the device has acknowledged.
    head: Ack,
    cursor: Ack,
    down: VecDeque<Frame>,
    up: VecDeque<Ack>,
    /// The client's store: what it holds, and what its application was shown.
    held: Ack,
    shown: Vec<u64>,
    /// Received and not yet stored.
    fresh: Vec<u64>,
}

/// Sequence numbers that are multiples of this are skipped.
const SKIPPED: u64 = 5;

impl Downlink {
    fn run(&mut self, source: &mut Source<'_>) {
        let (mut sender, mut receiver) = self.reopen();
        while !source.is_empty() {
            match source.below(10) {
                0 => self.head.seq += u64::from(source.u8()),
                1 => self.head.revision += 1 + u64::from(source.u8() % 4),
                2..=3 => self.send(&mut sender, source.u8()),
                4..=5 => self.receive(&mut receiver),
                6 => self.store(&mut receiver),
                7 => self.up.extend(receiver.take_ack()),
                8 => self.take_ack(&mut sender),
                _ => {
                    // What was received and not stored is gone with the process, or kept.
                    if source.bool() {
                        self.store(&mut receiver);
                    }
                    (sender, receiver) = self.reopen();
                }
            }
        }
        let mut rounds = 0;
        while self.cursor != self.head {
            self.send(&mut sender, u8::MAX);
            self.receive(&mut receiver);
            self.store(&mut receiver);
            self.up.extend(receiver.take_ack());
            self.take_ack(&mut sender);
            rounds += 1;
            assert!(rounds < 100_000, "the downlink never comes to rest");
        }
        assert!(sender.is_settled());
        let all: Vec<u64> =
            (1..=self.head.seq).filter(|seq| !seq.is_multiple_of(SKIPPED)).collect();
        assert_eq!(self.shown, all, "each message once and in order");
    }

    fn reopen(&mut self) -> (downlink::Sender, downlink::Receiver) {
        self.down.clear();
        self.up.clear();
        self.fresh.clear();
        let held = (self.held != Ack::default()).then_some(self.held.seq);
        let open = opening(self.cursor, self.head.seq);
        (downlink::Sender::new(self.cursor), downlink::Receiver::open(&open, held).unwrap())
    }

    fn send(&mut self, sender: &mut downlink::Sender, count: u8) {
        for _ in 0..count {
            let next = sender.sent_seq() + 1;
            if sender.room() > 0 && next <= self.head.seq {
                self.down.push_back(if next.is_multiple_of(SKIPPED) {
                    Frame::Skip(Skip { up_to: next, reason: SkipReason::Own })
                } else {
                    Frame::Deliver(delivery(next))
                });
                sender.sent_up_to(next);
            }
            let revision = sender.sent_revision() + 1;
            if revision <= self.head.revision {
                self.down.push_back(Frame::Receipt(receipt(revision)));
                sender.sent_receipts_up_to(revision);
            }
        }
        assert!(sender.sent_seq() - sender.acked().seq <= limits::DELIVERY_WINDOW);
    }

    fn receive(&mut self, receiver: &mut downlink::Receiver) {
        match self.down.pop_front() {
            None => {}
            Some(Frame::Deliver(deliver)) => {
                let delivery = receiver.deliver(&deliver).unwrap();
                let new = delivery == downlink::Delivery::New;
                self.fresh.extend(new.then_some(deliver.seq));
            }
            Some(Frame::Skip(skip)) => receiver.skip(&skip).unwrap(),
            Some(Frame::Receipt(receipt)) => receiver.receipt(&receipt).unwrap(),
            Some(other) => panic!("{other:?}"),
        }
    }

    fn store(&mut self, receiver: &mut downlink::Receiver) {
        let seen = receiver.seen();
        self.shown.append(&mut self.fresh);
        self.held.seq = self.held.seq.max(seen.seq);
        self.held.revision = self.held.revision.max(seen.revision);
        receiver.stored(seen);
    }

    fn take_ack(&mut self, sender: &mut downlink::Sender) {
        if let Some(ack) = self.up.pop_front() {
            assert!(ack.seq <= self.held.seq, "a tick that lies");
            assert!(ack.revision <= self.held.revision);
            sender.ack(&ack).unwrap();
            self.cursor = sender.acked();
        }
    }
}

fn downlink_receiver_alone(source: &mut Source<'_>) {
    let (a, b) = (source.u64(), source.u64());
    let mut open = opening(Ack { seq: a.min(b), revision: source.u64() }, a.max(b));
    let held = source.bool().then(|| source.u64());
    if source.bool() {
        open.start = open.start.min(held.unwrap_or(u64::MAX));
    }
    let mut receiver = match downlink::Receiver::open(&open, held) {
        Ok(receiver) => receiver,
        Err(code) => {
            assert_eq!(code, Code::Gap);
            assert!(held.is_some_and(|held| open.start > held));
            return;
        }
    };
    let mut acked = receiver.seen();
    while !source.is_empty() {
        let before = receiver.seen();
        let near = before.seq.wrapping_add(u64::from(source.u8() % 4));
        let seq = if source.bool() { near } else { source.u64() };
        let result = match source.below(5) {
            0 | 1 => receiver.deliver(&delivery(seq)).map(|delivery| {
                assert_eq!(seq, before.seq + 1);
                assert_eq!(delivery == downlink::Delivery::New, seq > held.unwrap_or(open.start));
            }),
            2 => receiver.skip(&Skip { up_to: seq, reason: SkipReason::Expired }),
            3 => receiver.receipt(&receipt(source.u64())),
            _ => {
                receiver.stored(Ack { seq: source.u64(), revision: source.u64() });
                Ok(())
            }
        };
        if let Err(code) = result {
            assert_eq!(code, Code::UnexpectedFrame);
            return;
        }
        let seen = receiver.seen();
        assert!(seen.seq >= before.seq && seen.revision >= before.revision);
        if let Some(ack) = receiver.take_ack() {
            assert!(ack.seq >= acked.seq && ack.revision >= acked.revision && ack != acked);
            assert!(ack.seq <= seen.seq && ack.revision <= seen.revision);
            acked = ack;
        }
    }
}

fn downlink_sender_alone(source: &mut Source<'_>) {
    let mut sender = downlink::Sender::new(Ack { seq: source.u64(), revision: source.u64() });
    while !source.is_empty() {
        match source.below(3) {
            0 => {
                let room = sender.room();
                assert!(room <= limits::DELIVERY_WINDOW);
                let more = source.below(room as usize + 1) as u64;
                sender.sent_up_to(sender.sent_seq().saturating_add(more));
            }
            1 => sender.sent_receipts_up_to(source.u64()),
            _ => {
                let before = sender.acked();
                let ack = Ack { seq: source.u64(), revision: source.u64() };
                match sender.ack(&ack) {
                    Ok(is_news) => {
                        assert_eq!(sender.acked(), ack);
                        assert_eq!(is_news, ack != before);
                        assert!(ack.seq >= before.seq && ack.seq <= sender.sent_seq());
                    }
                    Err(Code::AckBackwards) => {
                        assert!(ack.seq < before.seq || ack.revision < before.revision);
                    }
                    Err(code) => assert_eq!(code, Code::AckBeyondHead),
                }
            }
        }
    }
}

/// Receipts arrive in any order, any number of times and with any numbers: what is shown never goes
/// back, and what is kept is bounded and can be sent on.
pub fn receipts(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let mut member = MemberReceipt::default();
    while !source.is_empty() {
        let Frame::Receipt(receipt) = frames::of_kind(19, &mut source) else {
            panic!("not a receipt");
        };
        let before = member.clone();
        let news = member.merge(&receipt);
        assert_eq!(news, member != before);
        assert!(member.delivered() >= before.delivered().max(receipt.delivered));
        assert!(member.read() >= before.read().max(receipt.read));
        assert!(member.expired().len() <= limits::SPANS);
        let apart = |pair: &[Span]| pair[0].last < pair[1].first;
        assert!(member.expired().windows(2).all(apart), "{:?}", member.expired());
        if before.expired().len() + receipt.expired.len() < limits::SPANS {
            assert!(!member.merge(&receipt), "the same again was news");
            for span in before.expired().iter().chain(&receipt.expired) {
                assert_eq!(member.tick(span.first), Tick::Failed);
                assert_eq!(member.tick(span.last), Tick::Failed);
            }
        }
        let restored =
            MemberReceipt::restore(member.delivered(), member.read(), member.expired().to_vec());
        assert_eq!(restored, member);
    }
}
