//! A store in memory for the tests of what stands on one.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use crate::store::{CommitError, Mutation, Pair, ReadError, Scan, Store, StoreFuture, Transaction};

type Hook = Box<dyn FnOnce(&MapStore) + Send>;

/// A store that forgets everything, fails when told, and lets a test act between a read and a commit.
#[derive(Default)]
pub(crate) struct MapStore {
    map: Mutex<BTreeMap<Bytes, Bytes>>,
    hook: Mutex<Option<Hook>>,
    failing: AtomicBool,
    forgetful: AtomicBool,
}

impl MapStore {
    pub(crate) fn put(&self, key: &[u8], value: &[u8]) {
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        self.map.lock().unwrap().insert(key, value);
    }

    pub(crate) fn len(&self) -> usize {
        self.map.lock().unwrap().len()
    }

    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// The next commit happens, and its outcome is said to be unknown.
    pub(crate) fn lose_next_outcome(&self) {
        self.forgetful.store(true, Ordering::SeqCst);
    }

    pub(crate) fn before_next_commit(&self, hook: impl FnOnce(&Self) + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    fn is_readable(&self) -> Result<(), ReadError> {
        match self.failing.load(Ordering::SeqCst) {
            true => Err(ReadError::Unavailable("told to fail".to_owned())),
            false => Ok(()),
        }
    }
}

impl Store for MapStore {
    fn get(&self, key: Bytes) -> StoreFuture<'_, Result<Option<Bytes>, ReadError>> {
        Box::pin(async move {
            self.is_readable()?;
            Ok(self.map.lock().unwrap().get(&key).cloned())
        })
    }

    fn scan(&self, scan: Scan) -> StoreFuture<'_, Result<Vec<Pair>, ReadError>> {
        Box::pin(async move {
            self.is_readable()?;
            let map = self.map.lock().unwrap();
            let range = map.range(scan.from..scan.to);
            let pairs = range.map(|(key, value)| (key.clone(), value.clone()));
            Ok(match scan.reverse {
                true => pairs.rev().take(scan.limit).collect(),
                false => pairs.take(scan.limit).collect(),
            })
        })
    }

    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            let hook = self.hook.lock().unwrap().take();
            if let Some(hook) = hook {
                hook(self);
            }
            self.is_readable().map_err(|error| CommitError::Unavailable(error.to_string()))?;
            let mut map = self.map.lock().unwrap();
            for (index, condition) in transaction.conditions.iter().enumerate() {
                if !condition.holds(map.get(condition.key())) {
                    return Err(CommitError::Conflict { index });
                }
            }
            for mutation in transaction.mutations {
                match mutation {
                    Mutation::Put(key, value) => {
                        map.insert(key, value);
                    }
                    Mutation::Delete(key) => {
                        map.remove(&key);
                    }
                    Mutation::DeleteRange(from, to) => map.retain(|k, _| *k < from || *k >= to),
                }
            }
            match self.forgetful.swap(false, Ordering::SeqCst) {
                true => Err(CommitError::Unknown("told to forget".to_owned())),
                false => Ok(()),
            }
        })
    }
}
