//! What a transaction comes to, key by key. Pure.
//!
//! A [`Transaction`](crate::store::Transaction) is a list of changes in order, some of them to whole ranges. TiKV takes one
//! change for each key. So the list is reduced to the last state of each key that it names, and
//! the ranges whose stored keys must be looked up.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::store::{Condition, Mutation, Transaction};

/// The last state of each key: its value, or `None` when it is deleted.
pub(super) type Finals = BTreeMap<Bytes, Option<Bytes>>;

/// A transaction, reduced. Keys are the caller's, without the deployment's prefix.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// Of the keys that the transaction names.
    pub(super) finals: Finals,
    /// Ranges of which every stored key that isn't in `finals` is deleted.
    pub(super) ranges: Vec<(Bytes, Bytes)>,
}

impl Effects {
    pub(super) fn of(transaction: &Transaction) -> Self {
        let mut effects = Self::default();
        for mutation in &transaction.mutations {
            match mutation {
                Mutation::Put(key, value) => {
                    effects.finals.insert(key.clone(), Some(value.clone()));
                }
                Mutation::Delete(key) => {
                    effects.finals.insert(key.clone(), None);
                }
                Mutation::DeleteRange(from, to) if from < to => {
                    for (_, state) in effects.finals.range_mut(from.clone()..to.clone()) {
                        *state = None;
                    }
                    effects.ranges.push((from.clone(), to.clone()));
                }
                Mutation::DeleteRange(..) => {}
            }
        }
        effects
    }

    /// Notes a key that is stored in one of the ranges.
    pub(super) fn found(&mut self, key: Bytes) {
        self.finals.entry(key).or_insert(None);
    }
}

/// The keys that conditions speak of.
pub(super) fn condition_keys(conditions: &[Condition]) -> BTreeSet<Bytes> {
    conditions.iter().map(|condition| key_of(condition).clone()).collect()
}

/// The first condition that doesn't hold for what is stored.
pub(super) fn first_broken(
    conditions: &[Condition],
    stored: &BTreeMap<Bytes, Bytes>,
) -> Option<usize> {
    conditions.iter().position(|condition| match condition {
        Condition::Absent(key) => stored.contains_key(key),
        Condition::Equals(key, value) => stored.get(key) != Some(value),
    })
}

/// What reading back says of a transaction whose outcome wasn't told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadBack {
    /// Everything is as it would have left it.
    Committed,
    /// It would have broken a condition of its own that still holds, so it didn't happen.
    NotCommitted,
    /// Others have written since, or it would have left no trace.
    Unclear,
}

/// Judges what is stored after a transaction whose outcome wasn't told, and that can't happen any more.
///
/// `stored` has what is stored of the keys in `finals` and `conditions`.
pub(super) fn read_back(
    finals: &Finals,
    conditions: &[Condition],
    stored: &BTreeMap<Bytes, Bytes>,
) -> ReadBack {
    if finals.iter().all(|(key, state)| stored.get(key) == state.as_ref()) {
        return ReadBack::Committed;
    }
    // A condition that the transaction itself makes false tells before from after, unless somebody has
    // made it true again. Tern's own never come back: they hold sequence numbers and revisions.
    let breaks = |condition: &Condition| match condition {
        Condition::Absent(key) => matches!(finals.get(key), Some(Some(_))),
        Condition::Equals(key, value) => {
            finals.get(key).is_some_and(|state| state.as_ref() != Some(value))
        }
    };
    if first_broken(conditions, stored).is_none() && conditions.iter().any(breaks) {
        return ReadBack::NotCommitted;
    }
    ReadBack::Unclear
}

fn key_of(condition: &Condition) -> &Bytes {
    match condition {
        Condition::Absent(key) | Condition::Equals(key, _) => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn b(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn put(key: &'static str, value: &'static str) -> Mutation {
        Mutation::Put(b(key), b(value))
    }

    fn stored(pairs: &[(&'static str, &'static str)]) -> BTreeMap<Bytes, Bytes> {
        pairs.iter().map(|&(key, value)| (b(key), b(value))).collect()
    }

    #[test]
    fn the_last_change_of_a_key_counts() {
        let effects = Effects::of(&Transaction {
            conditions: vec![],
            mutations: vec![
                put("a", "1"),
                put("b", "1"),
                Mutation::DeleteRange(b("a"), b("c")),
                put("b", "2"),
                Mutation::Delete(b("d")),
                Mutation::DeleteRange(b("z"), b("y")),
            ],
        });
        let finals = [(b("a"), None), (b("b"), Some(b("2"))), (b("d"), None)];
        assert_eq!(effects.finals, finals.into());
        assert_eq!(effects.ranges, [(b("a"), b("c"))]);
    }

    #[test]
    fn a_stored_key_of_a_range_is_deleted_unless_it_was_put_later() {
        let mut effects = Effects::of(&Transaction {
            conditions: vec![],
            mutations: vec![Mutation::DeleteRange(b("a"), b("c")), put("b", "2")],
        });
        effects.found(b("aa"));
        effects.found(b("b"));
        assert_eq!(effects.finals, [(b("aa"), None), (b("b"), Some(b("2")))].into());
    }

    #[test]
    fn reading_back_tells_before_from_after() {
        let conditions = [Condition::Equals(b("meta"), b("1")), Condition::Absent(b("slot"))];
        let finals: Finals =
            [(b("meta"), Some(b("2"))), (b("slot"), Some(b("m"))), (b("old"), None)].into();
        let judge = |pairs: &[_]| read_back(&finals, &conditions, &stored(pairs));
        assert_eq!(judge(&[("meta", "2"), ("slot", "m")]), ReadBack::Committed);
        assert_eq!(judge(&[("meta", "1"), ("old", "x")]), ReadBack::NotCommitted);
        assert_eq!(judge(&[("meta", "3"), ("slot", "m")]), ReadBack::Unclear, "others went on");
        assert_eq!(judge(&[("meta", "2"), ("slot", "n")]), ReadBack::Unclear, "or were first");
    }

    #[test]
    fn without_a_condition_that_it_breaks_nothing_is_concluded() {
        let finals: Finals = [(b("k"), Some(b("v")))].into();
        let blind = read_back(&finals, &[], &stored(&[("k", "w")]));
        assert_eq!(blind, ReadBack::Unclear);
        let kept = [Condition::Equals(b("other"), b("1"))];
        let kept = read_back(&finals, &kept, &stored(&[("other", "1")]));
        assert_eq!(kept, ReadBack::Unclear);
    }
}
