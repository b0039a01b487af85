//! A disk and the store on it: what a process wrote is safe once it is synced, and not before.
//!
//! [`Disk`] outlives the server's process; [`Disk::open`] gives the process its store and takes it from
//! the one before. Commits that come together share a sync, as in the product's own store. A kill in
//! the middle of a sync leaves some of what was being synced, the oldest first.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tern_server::store::{
    CommitError, Mutation, Pair, ReadError, Scan, Store, StoreFuture, Transaction,
};
use tokio::sync::{Notify, oneshot};

use super::lies::Lie;
use crate::fault::Fault;

/// Commits that wait for the disk at most; further callers wait.
const QUEUE: usize = 4_096;

/// How the disk behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskSettings {
    /// How long a sync takes. 2 ms is what the product's store needs on an ordinary disk with
    /// everything that it has to do.
    pub sync: Duration,
    /// The share of commits that answer that their outcome is unknown, 0 to 1; half of those have
    /// happened.
    pub unknown: f64,
}

impl Default for DiskSettings {
    fn default() -> Self {
        Self { sync: Duration::from_millis(2), unknown: 0.0 }
    }
}

/// A disk; clones are the same one.
#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
    work: Arc<Notify>,
}

struct State {
    settings: DiskSettings,
    lie: Option<Lie>,
    random: StdRng,
    /// The process whose store works.
    generation: u64,
    /// What a kill can't take.
    safe: BTreeMap<Bytes, Bytes>,
    /// With a lie: what is lost with the process. Else the same as `safe`.
    unsafe_tail: Vec<Transaction>,
    seen: BTreeMap<Bytes, Bytes>,
    waiting: VecDeque<(Transaction, oneshot::Sender<Result<(), CommitError>>)>,
    /// Transactions that are being synced.
    syncing: Vec<Transaction>,
    commits: u64,
    syncs: u64,
}

impl Disk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let state = State {
            settings: DiskSettings::default(),
            lie: None,
            random: StdRng::seed_from_u64(seed),
            generation: 0,
            safe: BTreeMap::new(),
            unsafe_tail: Vec::new(),
            seen: BTreeMap::new(),
            waiting: VecDeque::new(),
            syncing: Vec::new(),
            commits: 0,
            syncs: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), work: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how the disk behaves from now on.
    pub fn set(&self, settings: DiskSettings) {
        self.lock().settings = settings;
    }

    /// How the disk behaves.
    pub fn settings(&self) -> DiskSettings {
        self.lock().settings
    }

    /// Plants a fault; one of the phones has no effect here.
    pub fn plant(&self, fault: Fault) {
        self.lock().lie = Some(Lie::of(fault));
    }

    /// How many keys that begin like this are stored.
    pub fn count(&self, prefix: &[u8]) -> usize {
        let state = self.lock();
        let from = Bytes::copy_from_slice(prefix);
        state.safe.range(from..).take_while(|(key, _)| key.starts_with(prefix)).count()
    }

    /// Commits and syncs so far.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.commits, state.syncs)
    }

    /// Keys that are stored, and the bytes of keys and values.
    pub fn size(&self) -> (usize, usize) {
        let state = self.lock();
        let bytes = state.safe.iter().map(|(key, value)| key.len() + value.len()).sum();
        (state.safe.len(), bytes)
    }

    /// Bytes of the longest value whose key begins like this; 0 if there is none.
    pub fn longest(&self, prefix: &[u8]) -> usize {
        let state = self.lock();
        let from = Bytes::copy_from_slice(prefix);
        let range = state.safe.range(from..).take_while(|(key, _)| key.starts_with(prefix));
        range.map(|(_, value)| value.len()).max().unwrap_or(0)
    }

    /// The process dies: what wasn't synced is lost, but for a part of what was being synced.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.generation += 1;
        let syncing = std::mem::take(&mut state.syncing);
        let survive = state.random.random_range(0..=syncing.len());
        let state = &mut *state;
        for transaction in &syncing[..survive] {
            if holds(&state.safe, transaction).is_ok() {
                apply(&mut state.safe, transaction);
            }
        }
        state.waiting.clear();
        state.unsafe_tail.clear();
        state.seen = state.safe.clone();
        self.work.notify_one();
    }

    /// The store of a new process; that of the one before stops to work. Needs a tokio runtime.
    pub fn open(&self) -> SimStore {
        self.kill();
        let generation = self.lock().generation;
        tokio::spawn(sync(self.clone(), generation));
        SimStore { disk: self.clone(), generation }
    }
}

/// Syncs what waits, all of it at once, until another process takes the disk.
async fn sync(disk: Disk, generation: u64) {
    loop {
        let (answers, batch, time) = {
            let mut state = disk.lock();
            if state.generation != generation {
                // Those who wait for the dead one have died with it, or wait for the next.
                disk.work.notify_one();
                return;
            }
            let (batch, answers): (Vec<_>, Vec<_>) = state.waiting.drain(..).unzip();
            state.syncing.clone_from(&batch);
            (answers, batch, state.settings.sync)
        };
        if batch.is_empty() {
            disk.work.notified().await;
            continue;
        }
        tokio::time::sleep(time).await;
        let mut state = disk.lock();
        if state.generation == generation {
            state.finish(batch, answers);
        }
    }
}

impl State {
    fn finish(
        &mut self,
        batch: Vec<Transaction>,
        answers: Vec<oneshot::Sender<Result<(), CommitError>>>,
    ) {
        self.syncs += 1;
        self.syncing.clear();
        for (transaction, answer) in batch.into_iter().zip(answers) {
            self.commits += 1;
            let mut is_unknown = self.random.random_bool(self.settings.unknown);
            let happens = !is_unknown || self.random.random_bool(0.5);
            let transaction = match &mut self.lie {
                Some(lie) => {
                    let distorted = lie.distort(transaction);
                    is_unknown |= distorted.is_unknown;
                    distorted.transaction
                }
                None => transaction,
            };
            let mut result = holds(&self.seen, &transaction);
            if result.is_ok() && happens {
                apply(&mut self.seen, &transaction);
                match &mut self.lie {
                    Some(Lie { fault: Fault::DiskSyncsNothing, .. }) => {
                        self.unsafe_tail.push(transaction);
                        // The operating system writes back what is old enough by itself.
                        if self.unsafe_tail.len() > 64 {
                            apply(&mut self.safe, &self.unsafe_tail.remove(0));
                        }
                    }
                    Some(lie) => {
                        apply(&mut self.safe, &transaction);
                        lie.spoil(&transaction, [&mut self.safe, &mut self.seen]);
                    }
                    None => apply(&mut self.safe, &transaction),
                }
            }
            if is_unknown {
                result = Err(CommitError::Unknown("the disk's answer was lost".into()));
            }
            // Who has gone away needs no answer.
            let _ = answer.send(result);
        }
    }
}

fn holds(map: &BTreeMap<Bytes, Bytes>, transaction: &Transaction) -> Result<(), CommitError> {
    for (index, condition) in transaction.conditions.iter().enumerate() {
        if !condition.holds(map.get(condition.key())) {
            return Err(CommitError::Conflict { index });
        }
    }
    Ok(())
}

fn apply(map: &mut BTreeMap<Bytes, Bytes>, transaction: &Transaction) {
    for mutation in &transaction.mutations {
        match mutation {
            Mutation::Put(key, value) => {
                map.insert(key.clone(), value.clone());
            }
            Mutation::Delete(key) => {
                map.remove(key);
            }
            Mutation::DeleteRange(from, to) => {
                if from < to {
                    let gone: Vec<_> =
                        map.range(from.clone()..to.clone()).map(|(key, _)| key.clone()).collect();
                    for key in gone {
                        map.remove(&key);
                    }
                }
            }
        }
    }
}

/// The store of one process on a [`Disk`]. When the process is dead, calls never return.
pub struct SimStore {
    disk: Disk,
    generation: u64,
}

impl SimStore {
    /// Puts a commit into the queue; `None` if the process is dead.
    fn queue(
        &self,
        transaction: Transaction,
    ) -> Result<Option<oneshot::Receiver<Result<(), CommitError>>>, CommitError> {
        let mut state = self.disk.lock();
        if state.generation != self.generation {
            return Ok(None);
        }
        if state.waiting.len() >= QUEUE {
            return Err(CommitError::Unavailable("the disk's queue is full".into()));
        }
        let (answer, answered) = oneshot::channel();
        state.waiting.push_back((transaction, answer));
        Ok(Some(answered))
    }

    /// Runs a read, or never returns if the process is dead.
    async fn read<T>(&self, read: impl FnOnce(&BTreeMap<Bytes, Bytes>) -> T) -> T {
        let result = {
            let state = self.disk.lock();
            (state.generation == self.generation).then(|| read(&state.seen))
        };
        match result {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }
}

impl Store for SimStore {
    fn get(&self, key: Bytes) -> StoreFuture<'_, Result<Option<Bytes>, ReadError>> {
        Box::pin(async move { Ok(self.read(|map| map.get(&key).cloned()).await) })
    }

    fn scan(&self, scan: Scan) -> StoreFuture<'_, Result<Vec<Pair>, ReadError>> {
        Box::pin(async move {
            if scan.from >= scan.to {
                return Ok(Vec::new());
            }
            let pairs = self.read(|map| {
                let range = map.range(scan.from..scan.to);
                let pairs = range.map(|(key, value)| (key.clone(), value.clone()));
                match scan.reverse {
                    true => pairs.rev().take(scan.limit).collect(),
                    false => pairs.take(scan.limit).collect(),
                }
            });
            Ok(pairs.await)
        })
    }

    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            let answered = match self.queue(transaction)? {
                Some(answered) => answered,
                None => return std::future::pending().await,
            };
            self.disk.work.notify_one();
            match answered.await {
                Ok(result) => result,
                Err(_) => std::future::pending().await,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tern_server::store::suite::{self, Backend, Effort};

    use super::*;

    struct OnDisk;

    impl Backend for OnDisk {
        type Store = SimStore;

        async fn fresh(&self) -> SimStore {
            let disk = Disk::new(1);
            disk.set(DiskSettings { sync: Duration::ZERO, ..DiskSettings::default() });
            disk.open()
        }

        async fn reopen(&self, store: SimStore) -> SimStore {
            store.disk.open()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keeps_the_contract_of_a_store() {
        suite::run_all(&OnDisk, Effort::default()).await;
    }

    fn put(key: u32) -> Transaction {
        let key = Bytes::copy_from_slice(&key.to_be_bytes());
        Transaction { conditions: vec![], mutations: vec![Mutation::Put(key.clone(), key)] }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kill_takes_what_was_not_synced_and_nothing_else() {
        for seed in 0..50 {
            let disk = Disk::new(seed);
            let store = Arc::new(disk.open());
            store.commit(put(0)).await.unwrap();
            for key in 1..=5 {
                let store = store.clone();
                tokio::spawn(async move { store.commit(put(key)).await });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            disk.kill();
            let survivors = disk.lock().safe.len();
            assert!((1..=6).contains(&survivors), "seed {seed}: {survivors}");
            // The oldest come first, and the dead process's store does nothing more.
            let safe = disk.lock().safe.clone();
            for key in 0..survivors {
                assert!(safe.contains_key(&(key as u32).to_be_bytes()[..]), "seed {seed}");
            }
            let dead = tokio::time::timeout(Duration::from_secs(9), store.commit(put(9))).await;
            assert!(dead.is_err(), "seed {seed}");
            assert_eq!(disk.lock().safe, safe, "seed {seed}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_outcome_is_either() {
        let disk = Disk::new(7);
        let store = disk.open();
        disk.set(DiskSettings { unknown: 1.0, ..disk.settings() });
        for key in 0..40 {
            let outcome = store.commit(put(key)).await;
            assert!(matches!(outcome, Err(CommitError::Unknown(_))), "{outcome:?}");
        }
        assert!((5..35).contains(&disk.lock().safe.len()));
    }
}
