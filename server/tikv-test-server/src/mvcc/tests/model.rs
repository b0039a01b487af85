//! Random transactions against a model of snapshot isolation.
//!
//! The model knows what was committed when, and nothing of locks. Transactions of all kinds are begun, prewritten,
//! committed, rolled back, resolved by others, and repeated, in any order and also late. What must hold: a read
//! that is answered sees exactly what the model has at its timestamp, now and whenever it is repeated; no two
//! transactions that overlap commit to one key; a transaction is committed at all its keys or at none.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    TwoPhase,
    OnePhase,
    Async,
}

#[derive(Debug, Clone)]
enum Step {
    /// Begins a transaction that writes keys of a set.
    Begin(Kind, u8),
    /// Prewrites some keys of the n-th transaction, also again, also late.
    Prewrite(usize, u8),
    /// Commits the n-th, if all of it is prewritten.
    Commit(usize),
    /// Rolls the n-th back.
    Rollback(usize),
    /// Does with the n-th what a client does that meets its lock and finds it expired.
    Resolve(usize),
    /// Reads everything, now or at an earlier timestamp.
    Read(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![Just(Kind::TwoPhase), Just(Kind::OnePhase), Just(Kind::Async)];
    let step = prop_oneof![
        3 => (kind, 1..16u8).prop_map(|(kind, keys)| Step::Begin(kind, keys)),
        6 => (0..64usize, 1..16u8).prop_map(|(n, keys)| Step::Prewrite(n, keys)),
        4 => (0..64usize).prop_map(Step::Commit),
        1 => (0..64usize).prop_map(Step::Rollback),
        1 => (0..64usize).prop_map(Step::Resolve),
        4 => (0..40u64).prop_map(Step::Read),
    ];
    proptest::collection::vec(step, 1..120)
}

#[derive(Debug)]
struct Transaction {
    kind: Kind,
    start: u64,
    keys: Vec<&'static str>,
    /// Keys whose prewrite was answered, and the highest least commit among the answers.
    prewritten: Vec<&'static str>,
    min_commit: u64,
}

#[derive(Default)]
struct World {
    sut: Sut,
    now: u64,
    transactions: Vec<Transaction>,
    /// By key and commit: who. What the model has committed.
    committed: BTreeMap<(&'static str, u64), u64>,
    /// By start: when, or 0 for rolled back. Once decided it stays.
    decided: BTreeMap<u64, u64>,
    /// What was read before, at its timestamp.
    reads: Vec<(u64, &'static str, Option<String>)>,
}

impl World {
    /// A new timestamp, above every one that was given out. Several lie between, for the engine's own.
    fn tick(&mut self) -> u64 {
        self.now += 3;
        self.now
    }

    fn decide(&mut self, n: usize, commit: u64) {
        let (start, keys) = (self.transactions[n].start, self.transactions[n].keys.clone());
        if let Some(before) = self.decided.insert(start, commit) {
            assert_eq!(before, commit, "transaction {start} was decided twice, differently");
            return;
        }
        // An engine's own timestamp isn't above what will be given out next, or clients would miss it.
        assert!(commit <= self.now + 3, "{commit} is in the future of {}", self.now);
        if commit > 0 {
            for key in keys {
                let overlap = self.committed.iter().find(|((of, at), other)| {
                    *of == key && **other != start && *at > start && **other < commit
                });
                assert_eq!(overlap, None, "{start} to {commit} overlaps at {key}");
                self.committed.insert((key, commit), start);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let count = self.transactions.len();
        match *step {
            Step::Begin(kind, keys) => {
                let start = self.tick();
                let keys = chosen(&KEYS, keys);
                self.transactions.push(Transaction {
                    kind,
                    start,
                    keys,
                    prewritten: Vec::new(),
                    min_commit: 0,
                });
            }
            Step::Read(back) => self.read(back),
            _ if count == 0 => {}
            Step::Prewrite(n, keys) => self.prewrite(n % count, keys),
            Step::Commit(n) => self.commit(n % count),
            Step::Rollback(n) => self.rollback(n % count),
            Step::Resolve(n) => self.resolve(n % count),
        }
    }

    fn prewrite(&mut self, n: usize, mask: u8) {
        let Transaction { kind, start, ref keys, .. } = self.transactions[n];
        // In one phase all keys go at once.
        let part = if kind == Kind::OnePhase { keys.clone() } else { chosen(keys, mask) };
        if part.is_empty() {
            return;
        }
        let (value, primary) = (start.to_string(), keys[0]);
        let pairs: Vec<_> = part.iter().map(|key| (*key, value.as_str())).collect();
        let mut prewrite = Prewrite { primary: key(primary), ..puts(start, &pairs) };
        prewrite.one_phase = kind == Kind::OnePhase;
        prewrite.use_async_commit = kind == Kind::Async;
        if kind == Kind::Async && part.contains(&primary) {
            prewrite.secondaries = keys[1..].iter().map(|at| key(at)).collect();
        }
        let Ok(done) = self.sut.prewrite(&prewrite) else { return };
        if kind == Kind::OnePhase {
            return self.decide(n, done.one_phase_commit_ts.0);
        }
        let transaction = &mut self.transactions[n];
        transaction.min_commit = transaction.min_commit.max(done.min_commit_ts.0);
        transaction.prewritten.extend(part);
        if kind == Kind::Async && transaction.is_prewritten() {
            // It is committed from here on, whoever says so first.
            let commit = transaction.min_commit;
            self.decide(n, commit);
        }
    }

    fn commit(&mut self, n: usize) {
        let transaction = &self.transactions[n];
        if transaction.kind == Kind::OnePhase || !transaction.is_prewritten() {
            return;
        }
        let (start, keys) = (transaction.start, transaction.keys.clone());
        let commit = match self.decided.get(&start) {
            Some(0) | None => self.tick(),
            Some(commit) => *commit,
        };
        match self.sut.commit(&keys[..1], start, commit) {
            Ok(()) => {
                self.decide(n, commit);
                self.sut.commit(&keys, start, commit).unwrap();
            }
            Err(error) => {
                assert!(matches!(error, KeyError::LockNotFound { .. }), "{error:?}");
                assert_eq!(self.decided.get(&start), Some(&0));
            }
        }
    }

    fn rollback(&mut self, n: usize) {
        let (start, keys) = (self.transactions[n].start, self.transactions[n].keys.clone());
        // Who has been told that it is committed doesn't; who tries nevertheless is refused.
        match self.decided.get(&start) {
            Some(commit) if *commit > 0 => {
                if self.transactions[n].kind == Kind::OnePhase {
                    assert_eq!(
                        self.sut.rollback(&keys, start),
                        Err(KeyError::Committed(ts(*commit)))
                    );
                }
            }
            _ => {
                self.sut.rollback(&keys, start).unwrap();
                self.decide(n, 0);
            }
        }
    }

    fn resolve(&mut self, n: usize) {
        let (start, keys) = (self.transactions[n].start, self.transactions[n].keys.clone());
        let ask = CheckStatus {
            primary: key(keys[0]),
            lock_ts: ts(start),
            current_ts: Timestamp::MAX,
            rollback_if_missing: true,
            verify_is_primary: true,
            ..CheckStatus::default()
        };
        let commit = match self.sut.status(&ask).unwrap() {
            TransactionStatus::Committed(commit) => commit.0,
            TransactionStatus::Locked { lock, .. } => match self.sut.secondaries(&keys[1..], start)
            {
                Secondaries::Locked(locks) => locks
                    .iter()
                    .fold(lock.min_commit_ts.0, |at, locked| at.max(locked.lock.min_commit_ts.0)),
                Secondaries::Committed(commit) => commit.0,
                Secondaries::RolledBack => 0,
            },
            _ => 0,
        };
        self.decide(n, commit);
        self.sut.resolve(start, commit).unwrap();
    }

    fn read(&mut self, back: u64) {
        let at = if back == 0 { self.tick() } else { self.now.saturating_sub(back).max(1) };
        for key in KEYS {
            // Who meets a lock isn't answered, and isn't promised anything.
            if let Ok(value) = self.sut.get(key, at) {
                assert_eq!(value, self.expected(key, at), "{key} at {at}");
                self.reads.push((at, key, value));
            }
        }
    }

    fn expected(&self, key: &'static str, at: u64) -> Option<String> {
        self.committed.range((key, 0)..=(key, at)).next_back().map(|(_, start)| start.to_string())
    }

    /// Everything is decided and resolved: nothing is locked, and all reads are as they were.
    fn end(&mut self) {
        for n in 0..self.transactions.len() {
            self.resolve(n);
        }
        assert_eq!(self.sut.0.columns().lock_count(), 0);
        for (at, key, value) in self.reads.clone() {
            assert_eq!(self.expected(key, at), value, "{key} at {at} isn't what it was");
        }
        for at in 1..=self.now + 3 {
            for key in KEYS {
                assert_eq!(self.sut.value(key, at), self.expected(key, at), "{key} at {at}");
            }
        }
    }
}

impl Transaction {
    fn is_prewritten(&self) -> bool {
        self.keys.iter().all(|key| self.prewritten.contains(key))
    }
}

/// The keys whose bits are set.
fn chosen(keys: &[&'static str], mask: u8) -> Vec<&'static str> {
    keys.iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1).map(|(_, key)| *key).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reads_see_what_was_committed_and_go_on_seeing_it(steps in steps()) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
        }
        world.end();
    }
}
