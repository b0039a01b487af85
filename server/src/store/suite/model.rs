//! Random operations on a store and on a map, which must agree.
//!
//! It doesn't use a property-testing library: the suite is part of the library, for backends
//! in other crates, and the seed and the step say all that is needed to repeat a failure.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    mem,
    ops::Bound,
    pin::Pin,
    task::Poll,
};

use bytes::Bytes;

use super::{Backend, Effort, b};
use crate::store::{CommitError, Condition, Mutation, Pair, Scan, Store, Transaction};

/// SplitMix64: the suite needs the same sequence for a seed on every machine, for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Few and short keys, so that operations meet.
    fn key(&mut self) -> Bytes {
        let length = 1 + self.below(3);
        (0..length).map(|_| b"ab\0\xff"[usize::try_from(self.below(4)).unwrap_or(0)]).collect()
    }

    fn value(&mut self) -> Bytes {
        let length = usize::try_from(self.below(60)).unwrap_or(0);
        vec![u8::try_from(self.below(3)).unwrap_or(0); length].into()
    }
}

type Model = BTreeMap<Bytes, Bytes>;

fn random_transaction(random: &mut Random, model: &Model) -> Transaction {
    let mut transaction = Transaction::default();
    for _ in 0..random.below(3) {
        let key = random.key();
        transaction.conditions.push(match (random.below(5), model.get(&key)) {
            // Mostly true, so that most transactions commit.
            (4, found) => {
                let found = found.cloned();
                Condition::Seen(key, found)
            }
            (0, _) => Condition::Absent(key),
            (1, _) | (_, None) if model.contains_key(&key) => {
                let value = random.value();
                Condition::Equals(key, value)
            }
            (_, Some(value)) => Condition::Equals(key, value.clone()),
            (_, None) => Condition::Absent(key),
        });
    }
    for _ in 0..random.below(5) {
        transaction.mutations.push(match random.below(8) {
            0 => Mutation::DeleteRange(random.key(), random.key()),
            1 | 2 => Mutation::Delete(random.key()),
            _ => Mutation::Put(random.key(), random.value()),
        });
    }
    transaction
}

fn apply(model: &mut Model, transaction: &Transaction) -> Result<(), usize> {
    for (index, condition) in transaction.conditions.iter().enumerate() {
        if !condition.holds(model.get(condition.key())) {
            return Err(index);
        }
    }
    for mutation in &transaction.mutations {
        match mutation {
            Mutation::Put(key, value) => {
                model.insert(key.clone(), value.clone());
            }
            Mutation::Delete(key) => {
                model.remove(key);
            }
            Mutation::DeleteRange(from, to) => {
                model.retain(|key, _| key < from || key >= to);
            }
        }
    }
    Ok(())
}

fn model_scan(model: &Model, scan: &Scan) -> Vec<Pair> {
    if scan.from >= scan.to {
        return Vec::new();
    }
    let bounds = (Bound::Included(&scan.from), Bound::Excluded(&scan.to));
    let range = model.range::<Bytes, _>(bounds).map(|(key, value)| (key.clone(), value.clone()));
    if scan.reverse {
        range.rev().take(scan.limit).collect()
    } else {
        range.take(scan.limit).collect()
    }
}

pub(super) async fn random_sequences_match_a_model<B: Backend>(backend: &B, effort: Effort) {
    for seed in effort.seed..effort.seed + effort.sequences {
        random_sequence(backend, seed, effort.operations).await;
    }
}

async fn random_sequence<B: Backend>(backend: &B, seed: u64, operations: u64) {
    let mut random = Random(seed);
    let mut model = Model::new();
    let mut store = backend.fresh().await;
    for step in 0..operations {
        let place = format!("seed {seed}, step {step}");
        match random.below(20) {
            0 => store = backend.reopen(store).await,
            1..=4 => {
                let key = random.key();
                let found = store.get(key.clone()).await.expect("a read");
                assert_eq!(found.as_ref(), model.get(&key), "{place}: get {key:?}");
            }
            5..=9 => {
                let scan = Scan {
                    from: random.key(),
                    to: random.key(),
                    limit: usize::try_from(1 + random.below(12)).unwrap_or(1),
                    reverse: random.below(2) == 0,
                };
                let found = store.scan(scan.clone()).await.expect("a scan");
                assert_eq!(found, model_scan(&model, &scan), "{place}: {scan:?}");
            }
            // A group that is sent at once, in order: one batch, mostly.
            10..=12 => {
                let mut group = Vec::new();
                let mut expected = Vec::new();
                let most = if backend.keeps_order() { 6 } else { 1 };
                for _ in 0..1 + random.below(most) {
                    let next = random_transaction(&mut random, &model);
                    expected.push(apply(&mut model, &next));
                    group.push(next);
                }
                let sent = group.iter().cloned().map(|next| store.commit(next));
                let outcomes = futures_in_order(sent.collect()).await;
                for (number, (outcome, expected)) in outcomes.into_iter().zip(expected).enumerate()
                {
                    compare(outcome, expected, &format!("{place}.{number}"), &group[number]);
                }
            }
            _ => {
                let next = random_transaction(&mut random, &model);
                let expected = apply(&mut model, &next);
                compare(store.commit(next.clone()).await, expected, &place, &next);
            }
        }
    }
    let store = backend.reopen(store).await;
    let all = Scan { from: Bytes::new(), to: b([0xff; 9]), limit: 10_000, reverse: false };
    let found = store.scan(all.clone()).await.expect("a scan");
    assert_eq!(found, model_scan(&model, &all), "seed {seed}, at the end");
}

fn compare(
    outcome: Result<(), CommitError>,
    expected: Result<(), usize>,
    place: &str,
    transaction: &Transaction,
) {
    let found = match outcome {
        Ok(()) => Ok(()),
        Err(CommitError::Conflict { index }) => Err(index),
        Err(other) => panic!("{place}: {other}"),
    };
    assert_eq!(found, expected, "{place}: {transaction:?}");
}

/// Polls futures together, always in the order of the list, and returns their results in it:
/// a store that takes transactions when they are first polled takes them in this order.
async fn futures_in_order<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(move |context| {
        let mut pending = false;
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none() {
                match Pin::new(future).poll(context) {
                    Poll::Ready(value) => *result = Some(value),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            return Poll::Pending;
        }
        Poll::Ready(mem::take(&mut results).into_iter().flatten().collect())
    })
    .await
}
