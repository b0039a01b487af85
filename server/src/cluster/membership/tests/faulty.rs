//! One node's way to a store that others reach as well.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::sleep;

use crate::{
    signal::Signal,
    store::{CommitError, Pair, ReadError, Scan, Store, StoreFuture, Transaction},
    test_store::MapStore,
};

/// What becomes of what a node asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is done.
    Fine,
    /// It is refused.
    Away,
    /// It has no answer as long as this lasts; then it is refused.
    Silent,
    /// Commits are done, and the node isn't told.
    UnknownDone,
    /// Commits aren't done, and the node isn't told.
    UnknownNotDone,
    /// Commits are done after so long, also when the node has given them up.
    Late(Duration),
    /// Nothing gets through any more, for good.
    Cut,
}

pub(super) struct Faulty {
    map: Arc<MapStore>,
    mode: Mutex<Mode>,
    changed: Signal,
}

impl Faulty {
    pub(super) fn new(map: Arc<MapStore>) -> Self {
        Self { map, mode: Mutex::new(Mode::Fine), changed: Signal::default() }
    }

    pub(super) fn set(&self, mode: Mode) {
        let mut present = self.mode.lock().unwrap();
        if *present != Mode::Cut {
            *present = mode;
            self.changed.raise();
        }
    }

    pub(super) fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }

    async fn pass(&self) -> Result<(), String> {
        let count = self.changed.count();
        match self.mode() {
            Mode::Away => Err("away".to_owned()),
            Mode::Cut => std::future::pending().await,
            Mode::Silent => {
                self.changed.beyond(count).await;
                Err("it was silent".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Store for Faulty {
    fn get(&self, key: Bytes) -> StoreFuture<'_, Result<Option<Bytes>, ReadError>> {
        Box::pin(async move {
            self.pass().await.map_err(ReadError::Unavailable)?;
            self.map.get(key).await
        })
    }

    fn scan(&self, scan: Scan) -> StoreFuture<'_, Result<Vec<Pair>, ReadError>> {
        Box::pin(async move {
            self.pass().await.map_err(ReadError::Unavailable)?;
            self.map.scan(scan).await
        })
    }

    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            self.pass().await.map_err(CommitError::Unavailable)?;
            let unknown = || CommitError::Unknown("told to say so".to_owned());
            match self.mode() {
                Mode::UnknownDone => {
                    // Whatever became of it.
                    let _ = self.map.commit(transaction).await;
                    Err(unknown())
                }
                Mode::UnknownNotDone => Err(unknown()),
                Mode::Late(after) => {
                    let map = self.map.clone();
                    let late = tokio::spawn(async move {
                        sleep(after).await;
                        map.commit(transaction).await
                    });
                    late.await.unwrap()
                }
                _ => self.map.commit(transaction).await,
            }
        })
    }
}
