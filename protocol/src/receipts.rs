//! What one account has of a conversation (SPEC.md 8.1): delivered, read, expired.
//!
//! Both ends keep a [`MemberReceipt`] per account. It only grows: a stale or repeated receipt changes
//! nothing, so receipts may be sent again at will.

use crate::{
    frame::{Receipt, Span},
    limits,
};

/// How far a sent message has come. Later variants are further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tick {
    /// Durable on the server.
    Sent,
    /// Stored by a device of the other account.
    Delivered,
    /// Seen by the other user.
    Read,
    /// Deleted before any device of the other account had it.
    Failed,
}

/// The receipts of one account in one conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberReceipt {
    delivered: u64,
    read: u64,
    expired: Vec<Span>,
}

impl MemberReceipt {
    /// Restores stored receipts; `expired` ascending and disjoint.
    pub fn restore(delivered: u64, read: u64, expired: Vec<Span>) -> Self {
        Self { delivered, read, expired }
    }

    /// A device of the account stores everything up to here.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The user has read everything up to here.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// What was deleted before any device of the account had it.
    pub fn expired(&self) -> &[Span] {
        &self.expired
    }

    /// A device acknowledged up to `seq`. Says whether that is news.
    pub fn raise_delivered(&mut self, seq: u64) -> bool {
        let news = seq > self.delivered;
        self.delivered = self.delivered.max(seq);
        news
    }

    /// The user read up to `seq`. Says whether that is news.
    pub fn raise_read(&mut self, seq: u64) -> bool {
        let news = seq > self.read;
        self.read = self.read.max(seq);
        news
    }

    /// Entries were deleted before any device of the account had them. Says whether that is news.
    ///
    /// Spans that touch become one. Of more than [`limits::SPANS`] the oldest are forgotten: every
    /// span stands for a stretch of at least the time for which messages are kept.
    pub fn expire(&mut self, span: Span) -> bool {
        if span.last < span.first
            || self.expired.iter().any(|old| old.first <= span.first && span.last <= old.last)
        {
            return false;
        }
        let mut merged = span;
        self.expired.retain(|old| {
            // The other end chooses the numbers, so they may be the greatest there are.
            let apart = old.last.saturating_add(1) < merged.first
                || merged.last.saturating_add(1) < old.first;
            if !apart {
                merged.first = merged.first.min(old.first);
                merged.last = merged.last.max(old.last);
            }
            apart
        });
        let mut place = self.expired.partition_point(|old| old.first < merged.first);
        if self.expired.len() == limits::SPANS {
            if place == 0 {
                // Older than all that is remembered: forgotten at once.
                return false;
            }
            self.expired.remove(0);
            place -= 1;
        }
        self.expired.insert(place, merged);
        true
    }

    /// Takes in a receipt from the wire. Says whether it is news.
    pub fn merge(&mut self, receipt: &Receipt) -> bool {
        let mut news = self.raise_delivered(receipt.delivered);
        news |= self.raise_read(receipt.read);
        for &span in &receipt.expired {
            news |= self.expire(span);
        }
        news
    }

    /// How far a message with this sequence number has come towards this account.
    pub fn tick(&self, seq: u64) -> Tick {
        if self.expired.iter().any(|span| (span.first..=span.last).contains(&seq)) {
            Tick::Failed
        } else if seq <= self.read {
            Tick::Read
        } else if seq <= self.delivered {
            Tick::Delivered
        } else {
            Tick::Sent
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(first: u64, last: u64) -> Span {
        Span { first, last }
    }

    #[test]
    fn receipts_never_go_back() {
        let mut member = MemberReceipt::default();
        assert!(member.raise_delivered(5));
        assert!(member.raise_read(4));
        assert!(!member.raise_delivered(3));
        assert!(!member.raise_read(4));
        assert_eq!((member.delivered(), member.read()), (5, 4));
    }

    #[test]
    fn an_expired_message_has_failed_whatever_was_delivered_behind_it() {
        let mut member = MemberReceipt::default();
        member.expire(span(2, 3));
        member.raise_delivered(6);
        member.raise_read(5);
        let ticks: Vec<_> = (1..=7).map(|seq| member.tick(seq)).collect();
        use Tick::*;
        assert_eq!(ticks, [Read, Failed, Failed, Read, Read, Delivered, Sent]);
    }

    #[test]
    fn there_is_a_most_of_spans() {
        let mut member = MemberReceipt::default();
        for index in 0..200 {
            member.expire(span(index * 10 + 1, index * 10 + 2));
        }
        assert_eq!(member.expired().len(), limits::SPANS);
        assert_eq!(member.expired().last(), Some(&span(1991, 1992)));
        // What was forgotten is no news, however often it comes.
        assert!(!member.expire(span(1, 2)));
        assert_eq!(member.expired().len(), limits::SPANS);
        assert!(member.expire(span(1981, 1999)));
    }

    #[test]
    fn the_greatest_numbers_do_no_harm() {
        let mut member = MemberReceipt::default();
        assert!(member.expire(span(9, u64::MAX)));
        assert!(member.expire(span(1, 2)));
        assert!(member.expire(span(8, 8)));
        assert_eq!(member.expired(), [span(1, 2), span(8, u64::MAX)]);
    }

    proptest! {
        #[test]
        fn spans_stay_ascending_disjoint_and_complete(
            spans in prop::collection::vec((1u64..200, 0u64..20), 0..40)
        ) {
            let mut member = MemberReceipt::default();
            let mut all = std::collections::BTreeSet::new();
            for (first, more) in spans {
                let news = member.expire(span(first, first + more));
                let before = all.len();
                all.extend(first..=first + more);
                prop_assert_eq!(news, all.len() > before);
            }
            prop_assert!(member.expired().windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
            for seq in 0..=230 {
                prop_assert_eq!(member.tick(seq) == Tick::Failed, all.contains(&seq));
            }
        }
    }
}
