//! The notes to one node. No I/O.

use std::collections::VecDeque;

use super::{
    Note,
    codec::{Heard, ITEMS, weight_of_note},
};

/// Notes that wait, within bounds, and whether the other node must be told to look itself.
///
/// What is promised: each note that was pushed is either taken and arrives, or a resync is taken after it was pushed
/// and arrives. For that, a resync is owed from the moment at which a note is dropped, or a connection ends of which
/// nobody knows what arrived, until one is taken; and it is taken before all notes.
#[derive(Debug)]
pub(super) struct Outbox {
    most_bytes: usize,
    most: usize,
    queue: VecDeque<(Note, usize)>,
    bytes: usize,
    is_up: bool,
    owes_resync: bool,
}

impl Outbox {
    /// An outbox of a link without a connection.
    pub(super) fn new(most_bytes: usize, most: usize) -> Self {
        Self { most_bytes, most, queue: VecDeque::new(), bytes: 0, is_up: false, owes_resync: true }
    }

    /// A connection is there: it begins with a resync.
    pub(super) fn connected(&mut self) {
        self.is_up = true;
        self.owes_resync = true;
    }

    /// The connection is gone. Answers how many notes are dropped.
    pub(super) fn lost(&mut self) -> usize {
        self.is_up = false;
        self.owes_resync = true;
        self.drop_all()
    }

    /// Adds a note. Answers how many notes are dropped: this one if there is no connection, all before it if there is
    /// no room.
    pub(super) fn push(&mut self, note: Note) -> usize {
        if !self.is_up {
            return 1;
        }
        let weight = weight_of_note(&note);
        let mut dropped = 0;
        if self.bytes + weight > self.most_bytes || self.queue.len() >= self.most {
            self.owes_resync = true;
            dropped = self.drop_all();
        }
        self.bytes += weight;
        self.queue.push_back((note, weight));
        dropped
    }

    /// Takes what is to be sent next, about so many bytes of it, and its weight.
    pub(super) fn take(&mut self, batch_bytes: usize) -> (Vec<Heard>, usize) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        if std::mem::take(&mut self.owes_resync) {
            batch.push(Heard::Resync);
            bytes += 32;
        }
        while bytes < batch_bytes
            && batch.len() < ITEMS
            && let Some((note, weight)) = self.queue.pop_front()
        {
            self.bytes -= weight;
            bytes += weight;
            batch.push(Heard::Note(note));
        }
        (batch, bytes)
    }

    /// Whether it is at most half full, or nothing would be kept anyway.
    pub(super) fn has_room(&self) -> bool {
        !self.is_up || (self.bytes <= self.most_bytes / 2 && self.queue.len() <= self.most / 2)
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.is_up
    }

    /// The other node is to look itself.
    pub(super) fn owe_resync(&mut self) {
        self.owes_resync = true;
    }

    fn drop_all(&mut self) -> usize {
        let dropped = self.queue.len();
        self.queue = VecDeque::new();
        self.bytes = 0;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tern_protocol::id::AccountId;

    use super::*;

    fn note(number: u64) -> Note {
        Note::AccountChanged { account: AccountId::new(number).unwrap() }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push,
        /// Takes a batch, which arrives.
        Arrive(usize),
        /// Takes a batch, which is lost with the connection.
        Lose(usize),
        Connect,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => Just(Step::Push),
            2 => (1..1_000_usize).prop_map(Step::Arrive),
            1 => (1..1_000_usize).prop_map(Step::Lose),
            2 => Just(Step::Connect),
        ]
    }

    proptest! {
        #[test]
        fn no_note_is_lost_without_a_resync_behind_it(
            steps in proptest::collection::vec(step(), 1..300),
        ) {
            let mut outbox = Outbox::new(2_000, 30);
            let mut is_up = false;
            let mut last = 0;
            // Those pushed that neither arrived nor were followed by a resync.
            let mut open = std::collections::BTreeSet::new();
            let arrive = |batch: Vec<Heard>, open: &mut std::collections::BTreeSet<u64>| {
                for heard in batch {
                    match heard {
                        Heard::Resync => open.clear(),
                        Heard::Note(Note::AccountChanged { account }) => {
                            open.remove(&account.get());
                        }
                        Heard::Note(_) => unreachable!(),
                    }
                }
            };
            for step in steps {
                match step {
                    Step::Push => {
                        last += 1;
                        open.insert(last);
                        outbox.push(note(last));
                        prop_assert!(outbox.bytes <= 2_000 && outbox.queue.len() <= 30);
                    }
                    Step::Arrive(bytes) if is_up => arrive(outbox.take(bytes).0, &mut open),
                    Step::Lose(bytes) if is_up => {
                        outbox.take(bytes);
                        outbox.lost();
                        is_up = false;
                    }
                    Step::Connect if !is_up => {
                        outbox.connected();
                        is_up = true;
                    }
                    _ => {}
                }
            }
            if !is_up {
                outbox.connected();
            }
            for _ in 0..100 {
                arrive(outbox.take(1_000).0, &mut open);
            }
            prop_assert!(open.is_empty(), "lost: {open:?}");
        }
    }

    #[test]
    fn a_full_outbox_owes_a_resync_before_the_next_note() {
        let mut outbox = Outbox::new(1_000_000, 4);
        outbox.connected();
        assert!(matches!(outbox.take(1_000).0[..], [Heard::Resync]));
        for number in 1..=3 {
            assert_eq!(outbox.push(note(number)), 0);
        }
        assert!(!outbox.has_room());
        outbox.push(note(4));
        assert_eq!(outbox.push(note(5)), 4);
        assert!(outbox.has_room());
        assert!(matches!(outbox.take(1_000).0[..], [Heard::Resync, Heard::Note(_)]));
        assert!(outbox.take(1_000).0.is_empty());
    }

    #[test]
    fn without_a_connection_nothing_is_kept() {
        let mut outbox = Outbox::new(1_000, 4);
        assert_eq!(outbox.push(note(1)), 1);
        outbox.connected();
        assert!(matches!(outbox.take(1_000).0[..], [Heard::Resync]));
    }
}
