//! The uplink of one conversation (SPEC.md chapter 6): [`Sender`] is the client's half, [`Answers`] the
//! server's memory of what it has accepted from one device.
//!
//! Together they make sends idempotent. The server accepts counters densely and in order, so its
//! memory is one number and the answers that the client may not have stored yet.

use std::collections::VecDeque;

use crate::{
    code::Code,
    frame::{Accepted, Refused, Send},
    limits,
};

/// The client's half: which message has which counter, what is on its way, what to send next.
///
/// It holds no envelopes, only message ids; the caller's outbox has the rest. What it decides about
/// counters ([`Sender::assign`], [`RefusedOutcome::renumbered`]) must be made durable before the
/// sends concerned leave, and an answer must be durable before [`Sender::settle`].
#[derive(Debug)]
pub struct Sender {
    /// Messages with a counter and without an answer; their counters are dense and end before `next`.
    pending: VecDeque<Pending>,
    /// What was sent on the present stream and not answered, in order: answers come in this order.
    awaited: VecDeque<SendHead>,
    /// How many of `pending`, from the front, were sent on the present stream and still count.
    sent: usize,
    next: u64,
    settled: u64,
    window: u16,
    resume_at_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    counter: u64,
    message_id: u64,
}

/// The fixed part of a send; the caller adds the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendHead {
    /// See [`Send::counter`].
    pub counter: u64,
    /// See [`Send::message_id`].
    pub message_id: u64,
    /// See [`Send::settled`].
    pub settled: u64,
}

/// What a refusal means for the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefusedOutcome {
    /// This message will never be accepted: tell the user why.
    pub failed: Option<(u64, Code)>,
    /// These messages (ids) have new counters, to be made durable before they are sent.
    pub renumbered: Vec<(u64, u64)>,
    /// The new counters are right only if the caller's store agrees; see [`Conflict`].
    pub conflict: Option<Conflict>,
    /// Nothing may be sent before this time, in milliseconds of the caller's clock.
    pub resume_at_ms: Option<u64>,
}

/// The server has accepted other counters than this sender believes ([`Code::CounterGap`],
/// [`Code::CounterReused`]).
///
/// There are two causes, and only the caller's store tells them apart. If the store still gives the refused
/// message this counter and has settled no more than the send said, then the store itself is older than what the
/// server knows: it was restored from a copy, and the new counters are to be stored. Otherwise another uplink of the
/// same device, on a connection that is being replaced, has taken answers or moved counters meanwhile: the new
/// counters would have messages accepted a second time. Then this sender is to be thrown away, and another to begin
/// from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// The send that was refused.
    pub refused: SendHead,
    /// The last counter that the server accepted.
    pub last: u64,
}

impl Sender {
    /// Takes up where the local store left off: `settled` is the highest counter whose answer and the
    /// answers to all before it are stored, `unanswered` the messages with a counter above it, in
    /// the order of their counters, which must be dense.
    pub fn new(
        settled: u64,
        unanswered: impl IntoIterator<Item = (u64, u64)>,
        window: u16,
    ) -> Self {
        let pending: VecDeque<_> = unanswered
            .into_iter()
            .map(|(counter, message_id)| Pending { counter, message_id })
            .collect();
        let next = pending.back().map_or(settled, |last| last.counter) + 1;
        Self {
            pending,
            awaited: VecDeque::new(),
            sent: 0,
            next,
            settled,
            window: window.max(1),
            resume_at_ms: 0,
        }
    }

    /// Sets how many sends may be unanswered: `Limits.unansweredSends` of the welcome.
    pub fn set_window(&mut self, window: u16) {
        self.window = window.max(1);
    }

    /// Gives a message the next counter, or `None` while too many are without an answer.
    pub fn assign(&mut self, message_id: u64) -> Option<u64> {
        let ahead = self.next.saturating_sub(self.settled);
        if self.pending.len() >= usize::from(self.window) || ahead > limits::SETTLED_WINDOW {
            return None;
        }
        let counter = self.next;
        self.next += 1;
        self.pending.push_back(Pending { counter, message_id });
        Some(counter)
    }

    /// A new stream takes the place of the old one: everything without an answer is sent again.
    pub fn restart(&mut self) {
        self.awaited.clear();
        self.sent = 0;
    }

    /// The next send, or `None` when there is nothing to send now.
    pub fn next_send(&mut self, now_ms: u64) -> Option<SendHead> {
        if now_ms < self.resume_at_ms || self.awaited.len() >= usize::from(self.window) {
            return None;
        }
        let &Pending { counter, message_id } = self.pending.get(self.sent)?;
        self.sent += 1;
        let head = SendHead { counter, message_id, settled: self.settled };
        self.awaited.push_back(head);
        Some(head)
    }

    /// When [`Sender::next_send`] should be asked again although nothing happens before, in
    /// milliseconds of the caller's clock.
    pub fn resume_at_ms(&self, now_ms: u64) -> Option<u64> {
        (self.resume_at_ms > now_ms && self.sent < self.pending.len()).then_some(self.resume_at_ms)
    }

    /// Takes an answer. Returns the id of the message that is now accepted, or `None` if the answer
    /// is to a send that was superseded. An answer to nothing is [`Code::UnexpectedFrame`].
    pub fn accepted(&mut self, accepted: &Accepted) -> Result<Option<u64>, Code> {
        let SendHead { message_id, .. } = self.answered(accepted.counter)?;
        match self.pending.front() {
            Some(first) if first.message_id == message_id && first.counter == accepted.counter => {
                self.pending.pop_front();
                self.sent = self.sent.saturating_sub(1);
                Ok(Some(message_id))
            }
            // One sent before it was refused on this stream, and accepted from an earlier one that
            // the server read late. Both are sent again, and get their first answers.
            _ if self
                .pending
                .iter()
                .any(|it| it.message_id == message_id && it.counter == accepted.counter) =>
            {
                Ok(None)
            }
            _ => Err(Code::UnexpectedFrame),
        }
    }

    /// Takes a refusal.
    pub fn refused(&mut self, refused: &Refused, now_ms: u64) -> Result<RefusedOutcome, Code> {
        let head = self.answered(refused.counter)?;
        let SendHead { message_id, .. } = head;
        let mut outcome = RefusedOutcome::default();
        let stands = self.pending.front().is_some_and(|first| {
            first.message_id == message_id && first.counter == refused.counter
        });
        if !stands || self.sent == 0 {
            // It was sent behind one that was refused, and is to be sent again already.
            return Ok(outcome);
        }
        // Whatever was sent behind it will be refused as well: all goes again from here.
        self.sent = 0;
        match refused.code {
            Code::CounterGap | Code::CounterReused => {
                // The counters of all that waits must fit behind what the server says.
                let room = u64::MAX - self.pending.len() as u64;
                if refused.last >= room {
                    return Err(Code::UnexpectedFrame);
                }
                self.renumber(refused.last + 1, &mut outcome);
                outcome.conflict = Some(Conflict { refused: head, last: refused.last });
                // What the server accepted up to there isn't of use to this client any more, and a
                // server takes nothing that settles less than it was told before.
                self.settled = refused.last;
            }
            // The answers are settled as soon as the caller has stored them.
            Code::WindowExceeded => {}
            code if refused.retry_after_ms == 0 => {
                self.pending.pop_front();
                outcome.failed = Some((message_id, code));
                self.renumber(refused.counter, &mut outcome);
            }
            _ => {
                self.resume_at_ms = now_ms.saturating_add(refused.retry_after_ms);
                outcome.resume_at_ms = Some(self.resume_at_ms);
            }
        }
        Ok(outcome)
    }

    /// The answers to all counters up to this one are stored.
    pub fn settle(&mut self, up_to: u64) {
        self.settled = self.settled.max(up_to);
    }

    /// The highest counter whose answer, and the answers to all before it, are stored.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Whether nothing waits for an answer or to be sent.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.awaited.is_empty()
    }

    fn answered(&mut self, counter: u64) -> Result<SendHead, Code> {
        match self.awaited.pop_front() {
            Some(awaited) if awaited.counter == counter => Ok(awaited),
            _ => Err(Code::UnexpectedFrame),
        }
    }

    fn renumber(&mut self, first: u64, outcome: &mut RefusedOutcome) {
        self.next = first;
        for pending in &mut self.pending {
            if pending.counter != self.next {
                pending.counter = self.next;
                outcome.renumbered.push((pending.message_id, self.next));
            }
            self.next += 1;
        }
    }
}

/// One answer that the server remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The send's message id.
    pub message_id: u64,
    /// What was answered.
    pub accepted: Accepted,
}

/// What to do with a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one: append it.
    Append,
    /// It is a repeat: answer this.
    Repeat(Accepted),
    /// Refuse it with this code; repeating it unchanged is pointless.
    Refuse(Code),
}

/// The server's memory of one device's sends in one conversation.
///
/// Bounded: never more than [`limits::SETTLED_WINDOW`] answers, usually one or two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    last: u64,
    settled: u64,
    kept: VecDeque<Answer>,
}

impl Answers {
    /// Restores the memory; `kept` are the remembered answers in order of their counters, the last
    /// of which is `last`.
    pub fn restore(last: u64, settled: u64, kept: impl IntoIterator<Item = Answer>) -> Self {
        Self { last, settled, kept: kept.into_iter().collect() }
    }

    /// The last accepted counter.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The highest `settled` that the client has said.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// The remembered answers in order of their counters.
    pub fn kept(&self) -> impl ExactSizeIterator<Item = &Answer> {
        self.kept.iter()
    }

    /// Judges a send against the memory and the longest envelope allowed. Changes nothing.
    pub fn judge(&self, send: &Send, envelope_bytes: u32) -> Verdict {
        if send.counter <= self.last {
            let remembered = self.kept.iter().find(|kept| kept.accepted.counter == send.counter);
            return match remembered {
                Some(answer) if answer.message_id == send.message_id => {
                    Verdict::Repeat(answer.accepted)
                }
                _ => Verdict::Refuse(Code::CounterReused),
            };
        }
        if send.counter != self.last + 1 {
            return Verdict::Refuse(Code::CounterGap);
        }
        // A send of an earlier connection may be read after later ones. Its message may have got
        // another counter meanwhile, and been accepted under that: then the answer is remembered,
        // or a later send, which alone can have settled it, has said more than this one.
        let is_remembered = |kept: &Answer| {
            kept.message_id == send.message_id && kept.accepted.counter > send.settled
        };
        if send.settled < self.settled || self.kept.iter().any(is_remembered) {
            return Verdict::Refuse(Code::CounterReused);
        }
        // What this very send settles counts already, but not beyond what was accepted.
        let settled = self.settled.max(send.settled.min(self.last));
        if send.counter - settled > limits::SETTLED_WINDOW {
            return Verdict::Refuse(Code::WindowExceeded);
        }
        if send.envelope.0.is_empty() || send.envelope.0.len() > envelope_bytes as usize {
            return Verdict::Refuse(Code::EnvelopeSize);
        }
        Verdict::Append
    }

    /// Remembers that a send, judged [`Verdict::Append`], was accepted.
    pub fn record(&mut self, send: &Send, seq: u64, time_ms: u64) -> Accepted {
        let accepted = Accepted { counter: send.counter, seq, time_ms };
        self.settled = self.settled.max(send.settled.min(self.last));
        self.last = send.counter;
        self.kept.push_back(Answer { message_id: send.message_id, accepted });
        while self.kept.front().is_some_and(|first| first.accepted.counter <= self.settled) {
            self.kept.pop_front();
        }
        accepted
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::frame::Envelope;

    fn send(head: SendHead) -> Send {
        let SendHead { counter, message_id, settled } = head;
        Send { counter, message_id, settled, envelope: Envelope(Bytes::from_static(b"Hi")) }
    }

    /// A server that accepts what it should and gives sequence numbers from 1.
    #[derive(Default)]
    struct Server {
        answers: Answers,
        log: Vec<u64>,
    }

    impl Server {
        fn take(&mut self, send: &Send) -> Result<Accepted, Refused> {
            match self.answers.judge(send, 100) {
                Verdict::Append => {
                    self.log.push(send.message_id);
                    Ok(self.answers.record(send, self.log.len() as u64, 5))
                }
                Verdict::Repeat(accepted) => Ok(accepted),
                Verdict::Refuse(code) => Err(Refused {
                    counter: send.counter,
                    code,
                    retry_after_ms: 0,
                    last: self.answers.last(),
                }),
            }
        }
    }

    #[test]
    fn a_lost_answer_is_given_again_and_nothing_is_appended_twice() {
        let mut sender = Sender::new(0, [], 8);
        let mut server = Server::default();
        for id in 1..=3 {
            sender.assign(id).unwrap();
        }
        while let Some(head) = sender.next_send(0) {
            server.take(&send(head)).unwrap();
        }
        // The connection dies with all three answers.
        sender.restart();
        let mut accepted = Vec::new();
        while let Some(head) = sender.next_send(0) {
            let answer = server.take(&send(head)).unwrap();
            accepted.push((sender.accepted(&answer).unwrap().unwrap(), answer.seq));
            sender.settle(answer.counter);
        }
        assert_eq!(accepted, [(1, 1), (2, 2), (3, 3)]);
        assert_eq!(server.log, [1, 2, 3]);
        assert!(sender.is_idle());
    }

    #[test]
    fn settled_answers_are_forgotten_and_others_are_not() {
        let mut server = Server::default();
        for counter in 1..=5 {
            let head =
                SendHead { counter, message_id: counter, settled: counter.saturating_sub(3) };
            server.take(&send(head)).unwrap();
        }
        assert_eq!(server.answers.kept().len(), 3);
        let repeat = |counter| send(SendHead { counter, message_id: counter, settled: 0 });
        assert!(matches!(server.answers.judge(&repeat(3), 100), Verdict::Repeat(a) if a.seq == 3));
        assert_eq!(server.answers.judge(&repeat(2), 100), Verdict::Refuse(Code::CounterReused));
        assert_eq!(server.answers.judge(&repeat(7), 100), Verdict::Refuse(Code::CounterGap));
        let other = send(SendHead { counter: 5, message_id: 99, settled: 0 });
        assert_eq!(server.answers.judge(&other, 100), Verdict::Refuse(Code::CounterReused));
    }

    #[test]
    fn an_answer_may_overtake_one_that_was_refused_for_now() {
        let mut sender = Sender::new(0, [(1, 10), (2, 20)], 8);
        while sender.next_send(0).is_some() {}
        let busy = Refused { counter: 1, code: Code::Overloaded, retry_after_ms: 5, last: 0 };
        sender.refused(&busy, 0).unwrap();
        // The server has read 1 from a connection before, and so 2 is the next one.
        let accepted = |counter| Accepted { counter, seq: counter, time_ms: 1 };
        assert_eq!(sender.accepted(&accepted(2)), Ok(None));
        while sender.next_send(5).is_some() {}
        assert_eq!(sender.accepted(&accepted(1)), Ok(Some(10)));
        assert_eq!(sender.accepted(&accepted(2)), Ok(Some(20)));
        assert!(sender.is_idle());
    }

    #[test]
    fn a_late_send_of_a_renumbered_message_is_not_appended_again() {
        // On the first connection: two messages that are refused for good, 30 and 40 behind them.
        // The refusals arrive and 30 and 40 get the counters 1 and 2 on a second connection.
        let late = |counter, message_id| send(SendHead { counter, message_id, settled: 0 });
        let mut server = Server::default();
        let head = |counter, message_id, settled| send(SendHead { counter, message_id, settled });
        server.take(&head(1, 30, 0)).unwrap();
        // Now the server reads what is left of the first.
        let refused = server.take(&late(2, 30)).unwrap_err();
        assert_eq!(refused.code, Code::CounterReused);
        server.take(&head(2, 40, 1)).unwrap();
        let refused = server.take(&late(3, 30)).unwrap_err();
        assert_eq!(refused.code, Code::CounterReused);
        assert_eq!(server.log, [30, 40]);
    }

    #[test]
    fn a_client_that_never_settles_is_stopped() {
        let mut server = Server::default();
        let head = |counter| SendHead { counter, message_id: counter, settled: 0 };
        for counter in 1..=limits::SETTLED_WINDOW {
            server.take(&send(head(counter))).unwrap();
        }
        let refused = server.take(&send(head(limits::SETTLED_WINDOW + 1))).unwrap_err();
        assert_eq!(refused.code, Code::WindowExceeded);
        assert_eq!(server.answers.kept().len() as u64, limits::SETTLED_WINDOW);
        // A client can't settle what wasn't accepted, and so forget answers in advance.
        let ahead = SendHead { settled: u64::MAX, ..head(limits::SETTLED_WINDOW + 1) };
        server.take(&send(ahead)).unwrap();
        assert_eq!(server.answers.kept().len(), 1);
    }

    #[test]
    fn envelopes_have_a_size() {
        let answers = Answers::default();
        let mut message = send(SendHead { counter: 1, message_id: 1, settled: 0 });
        for (length, verdict) in [
            (0, Verdict::Refuse(Code::EnvelopeSize)),
            (1, Verdict::Append),
            (100, Verdict::Append),
            (101, Verdict::Refuse(Code::EnvelopeSize)),
        ] {
            message.envelope = Envelope(vec![0; length].into());
            assert_eq!(answers.judge(&message, 100), verdict, "{length}");
        }
    }

    #[test]
    fn a_refusal_for_good_gives_the_counter_to_the_next_message() {
        let mut sender = Sender::new(0, [], 8);
        for id in [10, 20, 30] {
            sender.assign(id).unwrap();
        }
        let sent: Vec<_> = std::iter::from_fn(|| sender.next_send(0)).collect();
        assert_eq!(sent.len(), 3);
        let refuse = |counter, code| Refused { counter, code, retry_after_ms: 0, last: 0 };
        let outcome = sender.refused(&refuse(1, Code::EnvelopeSize), 0).unwrap();
        assert_eq!(outcome.failed, Some((10, Code::EnvelopeSize)));
        assert_eq!(outcome.renumbered, [(20, 1), (30, 2)]);
        // The others come back with a gap, which says nothing new.
        for counter in [2, 3] {
            let outcome = sender.refused(&refuse(counter, Code::CounterGap), 0).unwrap();
            assert_eq!(outcome, RefusedOutcome::default());
        }
        let again: Vec<_> = std::iter::from_fn(|| sender.next_send(0))
            .map(|head| (head.counter, head.message_id))
            .collect();
        assert_eq!(again, [(1, 20), (2, 30)]);
    }

    #[test]
    fn a_refusal_for_now_waits_and_repeats_in_order() {
        let mut sender = Sender::new(4, [(5, 50), (6, 60)], 8);
        while sender.next_send(100).is_some() {}
        let refused =
            Refused { counter: 5, code: Code::MailboxFull, retry_after_ms: 1_000, last: 4 };
        assert_eq!(sender.refused(&refused, 100).unwrap().resume_at_ms, Some(1_100));
        let gap = Refused { counter: 6, code: Code::CounterGap, retry_after_ms: 0, last: 4 };
        assert_eq!(sender.refused(&gap, 100).unwrap(), RefusedOutcome::default());
        assert_eq!(sender.next_send(1_099), None);
        assert_eq!(sender.resume_at_ms(1_099), Some(1_100));
        let again: Vec<_> =
            std::iter::from_fn(|| sender.next_send(1_100)).map(|head| head.counter).collect();
        assert_eq!(again, [5, 6]);
    }

    #[test]
    fn a_client_with_an_old_memory_goes_on_behind_the_servers() {
        let mut sender = Sender::new(2, [(3, 77), (4, 78)], 8);
        sender.next_send(0).unwrap();
        sender.next_send(0).unwrap();
        let reused = Refused { counter: 3, code: Code::CounterReused, retry_after_ms: 0, last: 9 };
        let outcome = sender.refused(&reused, 0).unwrap();
        assert_eq!(outcome.renumbered, [(77, 10), (78, 11)]);
        assert_eq!(outcome.failed, None);
        // Whether they stand is for the store to say.
        let refused = SendHead { counter: 3, message_id: 77, settled: 2 };
        assert_eq!(outcome.conflict, Some(Conflict { refused, last: 9 }));
        let reused = Refused { counter: 4, ..reused };
        assert_eq!(sender.refused(&reused, 0).unwrap(), RefusedOutcome::default());
        let head = sender.next_send(0).unwrap();
        assert_eq!((head.counter, head.settled), (10, 9));
    }

    #[test]
    fn counters_that_can_not_be_are_unexpected() {
        for last in [u64::MAX, u64::MAX - 1] {
            let mut sender = Sender::new(2, [(3, 77), (4, 78)], 8);
            sender.next_send(0).unwrap();
            let gap = Refused { counter: 3, code: Code::CounterGap, retry_after_ms: 0, last };
            assert_eq!(sender.refused(&gap, 0), Err(Code::UnexpectedFrame));
        }
    }

    #[test]
    fn the_window_bounds_what_is_unanswered() {
        let mut sender = Sender::new(0, [], 2);
        assert_eq!(sender.assign(1), Some(1));
        assert_eq!(sender.assign(2), Some(2));
        assert_eq!(sender.assign(3), None);
        sender.next_send(0).unwrap();
        sender.accepted(&Accepted { counter: 1, seq: 1, time_ms: 0 }).unwrap();
        assert_eq!(sender.assign(3), Some(3));
    }

    #[test]
    fn answers_to_nothing_are_unexpected() {
        let mut sender = Sender::new(0, [], 2);
        let accepted = Accepted { counter: 1, seq: 1, time_ms: 0 };
        assert_eq!(sender.accepted(&accepted), Err(Code::UnexpectedFrame));
        sender.assign(1);
        sender.next_send(0);
        assert_eq!(
            sender.accepted(&Accepted { counter: 2, ..accepted }),
            Err(Code::UnexpectedFrame)
        );
    }
}
