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
    conditions.iter().map(|condition| condition.key().clone()).collect()
}

/// The keys that must be as the conditions say until the commit, and not just at its start.
pub(super) fn held_keys(conditions: &[Condition]) -> BTreeSet<Bytes> {
    let is_held = |condition: &&Condition| !matches!(condition, Condition::Seen(..));
    conditions.iter().filter(is_held).map(|condition| condition.key().clone()).collect()
}

/// The first condition that doesn't hold for what is stored.
pub(super) fn first_broken(
    conditions: &[Condition],
    stored: &BTreeMap<Bytes, Bytes>,
) -> Option<usize> {
    conditions.iter().position(|condition| !condition.holds(stored.get(condition.key())))
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
    let breaks = |condition: &Condition| {
        let state = finals.get(condition.key());
        state.is_some_and(|state| !condition.holds(state.as_ref()))
    };
    // What was only seen may have changed since, whatever became of the transaction.
    let is_held = |condition: &&Condition| !matches!(condition, Condition::Seen(..));
    let mut held = conditions.iter().filter(is_held);
    let all_hold = held.clone().all(|held| held.holds(stored.get(held.key())));
    if all_hold && held.any(breaks) {
        return ReadBack::NotCommitted;
    }
    ReadBack::Unclear
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
    fn what_was_only_seen_is_no_evidence() {
        let finals: Finals = [(b("meta"), Some(b("2"))), (b("route"), None)].into();
        let judge = |conditions: &[_], pairs: &[_]| read_back(&finals, conditions, &stored(pairs));
        let seen = Condition::Seen(b("route"), Some(b("x")));
        let held = Condition::Equals(b("meta"), b("1"));
        assert_eq!(judge(std::slice::from_ref(&seen), &[("route", "x")]), ReadBack::Unclear);
        let both = [seen, held];
        assert_eq!(judge(&both, &[("meta", "1"), ("route", "y")]), ReadBack::NotCommitted);
        assert_eq!(held_keys(&both), [b("meta")].into());
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
