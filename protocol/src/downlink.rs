//! The downlink of one conversation (SPEC.md chapter 7): [`Sender`] is the server's half, [`Receiver`]
//! the client's.
//!
//! A downlink is dense: behind its start, every sequence number is delivered or skipped, in order. So
//! the client notices a hole, and an ack needs no more than one number.

use crate::{
    code::Code,
    frame::{Ack, Deliver, OpenDownlink, Receipt, Skip},
    limits,
};

/// The server's half: what was sent, what was acknowledged, how much more may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    sent: Ack,
    acked: Ack,
}

impl Sender {
    /// A downlink that starts behind the device's cursor: the entries and receipts that it has
    /// acknowledged.
    pub fn new(cursor: Ack) -> Self {
        Self { sent: cursor, acked: cursor }
    }

    /// The last sequence number sent, delivered or skipped.
    pub fn sent_seq(&self) -> u64 {
        self.sent.seq
    }

    /// The last receipt revision sent.
    pub fn sent_revision(&self) -> u64 {
        self.sent.revision
    }

    /// What the device has acknowledged.
    pub fn acked(&self) -> Ack {
        self.acked
    }

    /// How many more sequence numbers may be sent before an ack comes.
    pub fn room(&self) -> u64 {
        limits::DELIVERY_WINDOW.saturating_sub(self.sent.seq - self.acked.seq)
    }

    /// Whether everything sent was acknowledged.
    pub fn is_settled(&self) -> bool {
        self.acked == self.sent
    }

    /// Notes that everything up to `seq` was sent. Lower numbers change nothing.
    pub fn sent_up_to(&mut self, seq: u64) {
        self.sent.seq = self.sent.seq.max(seq);
    }

    /// Notes that the receipts up to this revision were sent. Lower numbers change nothing.
    pub fn sent_receipts_up_to(&mut self, revision: u64) {
        self.sent.revision = self.sent.revision.max(revision);
    }

    /// Takes an ack; says whether it acknowledged anything new.
    pub fn ack(&mut self, ack: &Ack) -> Result<bool, Code> {
        if ack.seq < self.acked.seq || ack.revision < self.acked.revision {
            return Err(Code::AckBackwards);
        }
        if ack.seq > self.sent.seq || ack.revision > self.sent.revision {
            return Err(Code::AckBeyondHead);
        }
        let is_news = *ack != self.acked;
        self.acked = *ack;
        Ok(is_news)
    }
}

/// Whether the application sees an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It is new: store it, then acknowledge.
    New,
    /// It is held already: acknowledge only.
    Known,
}

/// The client's half: checks that the downlink is dense, tells new entries from known ones, and says
/// which ack is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receiver {
    /// The last entry and receipt seen on this stream.
    seen: Ack,
    /// What the device has stored, as far as this stream goes.
    stored: Ack,
    /// What was acknowledged on this stream.
    acked: Ack,
    /// The last sequence number that the device held when the stream was opened.
    held: u64,
}

impl Receiver {
    /// Begins with the first frame. `held` is the last sequence number that the device's store holds
    /// of the conversation, with everything before it; `None` if it never had anything of it.
    ///
    /// A start beyond that is [`Code::Gap`]: the stream is reset and the user told.
    pub fn open(open: &OpenDownlink, held: Option<u64>) -> Result<Self, Code> {
        if held.is_some_and(|held| open.start > held) {
            return Err(Code::Gap);
        }
        let start = Ack { seq: open.start, revision: open.revision };
        Ok(Self { seen: start, stored: start, acked: start, held: held.unwrap_or(open.start) })
    }

    /// Takes a delivery.
    pub fn deliver(&mut self, deliver: &Deliver) -> Result<Delivery, Code> {
        if self.seen.seq.checked_add(1) != Some(deliver.seq) {
            return Err(Code::UnexpectedFrame);
        }
        self.seen.seq = deliver.seq;
        Ok(if deliver.seq > self.held { Delivery::New } else { Delivery::Known })
    }

    /// Takes a skip. The caller stores the position.
    pub fn skip(&mut self, skip: &Skip) -> Result<(), Code> {
        if skip.up_to <= self.seen.seq {
            return Err(Code::UnexpectedFrame);
        }
        self.seen.seq = skip.up_to;
        Ok(())
    }

    /// Takes a receipt. The caller merges and stores it.
    pub fn receipt(&mut self, receipt: &Receipt) -> Result<(), Code> {
        if receipt.revision <= self.seen.revision {
            return Err(Code::UnexpectedFrame);
        }
        self.seen.revision = receipt.revision;
        Ok(())
    }

    /// What was seen on the stream up to now: to be passed to [`Receiver::stored`] when it is stored.
    pub fn seen(&self) -> Ack {
        self.seen
    }

    /// Everything up to here is stored and survives the death of the process.
    pub fn stored(&mut self, up_to: Ack) {
        self.stored.seq = self.stored.seq.max(up_to.seq.min(self.seen.seq));
        self.stored.revision = self.stored.revision.max(up_to.revision.min(self.seen.revision));
    }

    /// The ack to send now, if one is due; it counts as sent.
    pub fn take_ack(&mut self) -> Option<Ack> {
        (self.stored != self.acked).then(|| {
            self.acked = self.stored;
            self.acked
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        frame::{Account, Envelope, SkipReason},
        id::{AccountId, ConversationId, DeviceId},
    };

    fn open(start: u64) -> OpenDownlink {
        let peer = Account { account: AccountId::new(1).unwrap(), name: "bob".into() };
        let conversation = ConversationId::new([1; 16]);
        OpenDownlink { conversation, start, head: start + 10, peer, revision: 0 }
    }

    fn deliver(seq: u64) -> Deliver {
        Deliver {
            seq,
            account: AccountId::new(1).unwrap(),
            device: DeviceId::new(1).unwrap(),
            message_id: seq,
            time_ms: 0,
            envelope: Envelope::default(),
        }
    }

    fn skip(up_to: u64) -> Skip {
        Skip { up_to, reason: SkipReason::Own }
    }

    fn receipt(revision: u64) -> Receipt {
        let account = AccountId::new(1).unwrap();
        Receipt { revision, account, delivered: 0, read: 0, expired: Vec::new() }
    }

    #[test]
    fn a_hole_is_noticed() {
        let mut receiver = Receiver::open(&open(3), Some(3)).unwrap();
        assert_eq!(receiver.deliver(&deliver(4)), Ok(Delivery::New));
        assert_eq!(receiver.deliver(&deliver(6)), Err(Code::UnexpectedFrame));
        assert_eq!(receiver.deliver(&deliver(4)), Err(Code::UnexpectedFrame));
        assert_eq!(receiver.skip(&skip(4)), Err(Code::UnexpectedFrame));
        assert_eq!(receiver.skip(&skip(8)), Ok(()));
        assert_eq!(receiver.deliver(&deliver(9)), Ok(Delivery::New));
        assert_eq!(Receiver::open(&open(3), Some(2)), Err(Code::Gap));
    }

    #[test]
    fn nothing_comes_behind_the_greatest_number() {
        let mut receiver = Receiver::open(&open(0), None).unwrap();
        receiver.skip(&skip(u64::MAX)).unwrap();
        assert_eq!(receiver.deliver(&deliver(0)), Err(Code::UnexpectedFrame));
        assert_eq!(receiver.deliver(&deliver(u64::MAX)), Err(Code::UnexpectedFrame));
    }

    #[test]
    fn a_device_that_holds_nothing_begins_where_it_is_told() {
        let mut receiver = Receiver::open(&open(30), None).unwrap();
        assert_eq!(receiver.deliver(&deliver(31)), Ok(Delivery::New));
    }

    #[test]
    fn what_is_held_is_known_and_acknowledged_again() {
        let mut receiver = Receiver::open(&open(3), Some(5)).unwrap();
        assert_eq!(receiver.deliver(&deliver(4)), Ok(Delivery::Known));
        assert_eq!(receiver.deliver(&deliver(5)), Ok(Delivery::Known));
        assert_eq!(receiver.deliver(&deliver(6)), Ok(Delivery::New));
        assert_eq!(receiver.take_ack(), None);
        receiver.stored(Ack { seq: 6, revision: 0 });
        assert_eq!(receiver.take_ack(), Some(Ack { seq: 6, revision: 0 }));
        assert_eq!(receiver.take_ack(), None);
    }

    #[test]
    fn nothing_is_acknowledged_that_was_not_seen_and_stored() {
        let mut receiver = Receiver::open(&open(0), None).unwrap();
        receiver.deliver(&deliver(1)).unwrap();
        receiver.stored(Ack { seq: 9, revision: 9 });
        assert_eq!(receiver.take_ack(), Some(Ack { seq: 1, revision: 0 }));
        receiver.receipt(&receipt(4)).unwrap();
        assert_eq!(receiver.take_ack(), None);
        receiver.stored(receiver.seen());
        assert_eq!(receiver.take_ack(), Some(Ack { seq: 1, revision: 4 }));
        assert_eq!(receiver.receipt(&receipt(4)), Err(Code::UnexpectedFrame));
    }

    #[test]
    fn acks_are_held_to_what_was_sent_and_to_each_other() {
        let mut sender = Sender::new(Ack { seq: 5, revision: 2 });
        sender.sent_up_to(8);
        sender.sent_receipts_up_to(3);
        assert_eq!(sender.ack(&Ack { seq: 4, revision: 2 }), Err(Code::AckBackwards));
        assert_eq!(sender.ack(&Ack { seq: 9, revision: 2 }), Err(Code::AckBeyondHead));
        assert_eq!(sender.ack(&Ack { seq: 8, revision: 4 }), Err(Code::AckBeyondHead));
        assert_eq!(sender.ack(&Ack { seq: 7, revision: 2 }), Ok(true));
        assert_eq!(sender.ack(&Ack { seq: 7, revision: 2 }), Ok(false));
        assert!(!sender.is_settled());
        assert_eq!(sender.ack(&Ack { seq: 8, revision: 3 }), Ok(true));
        assert!(sender.is_settled());
    }

    #[test]
    fn the_window_opens_with_acks() {
        let mut sender = Sender::new(Ack::default());
        assert_eq!(sender.room(), limits::DELIVERY_WINDOW);
        sender.sent_up_to(limits::DELIVERY_WINDOW);
        assert_eq!(sender.room(), 0);
        sender.ack(&Ack { seq: 10, revision: 0 }).unwrap();
        assert_eq!(sender.room(), 10);
    }
}
