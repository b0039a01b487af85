//! The embedded store: a group-commit log in front of a copy-on-write tree.
//!
//! ```text
//! commit -> queue -> committer: check conditions, one frame, one sync -> layer in memory
//!                                                                            |
//!                         tree (redb) <- small synced steps <- checkpoint <--+
//! ```
//!
//! A commit waits for one write and one `fdatasync` of a log file whose blocks are
//! allocated already, and for nothing else: not for the tree, whose pages are written later
//! by the checkpoint thread, in key order and in small steps. Readers see the layers in
//! memory over a snapshot of the tree, so neither waits for the other.
//!
//! What each operation costs:
//!
//! - `get`: a look into memory; if the key isn't there, one descent of the tree on a
//!   blocking thread (a few microseconds when cached, a disk read when not).
//! - `scan`: the same, plus about 0.2 µs a pair.
//! - `commit`: a share of one disk sync. Conditions on keys that are not in memory read the
//!   tree on the committer thread.
//! - `DeleteRange`: one entry in memory, whatever the number of keys on disk; keys in memory
//!   are freed at once, keys in the tree by the next checkpoint.
//!
//! After a failed sync nobody knows what the disk holds. The store then refuses reads and
//! commits until it is opened again, and [`EmbeddedStore::health`] says so: the server exits.

mod base;
mod checkpoint;
mod committer;
mod error;
mod frame;
mod layer;
mod log;
mod replay;
mod settings;
#[cfg(test)]
mod tests;
mod view;

use std::{
    collections::hash_map::RandomState,
    fmt, fs,
    hash::{BuildHasher, Hasher},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc as threads,
    },
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::{
    base::{Base, BaseError},
    checkpoint::Checkpointer,
    committer::{Committer, Request},
    log::Log,
    view::View,
};
pub use self::{error::OpenError, settings::EmbeddedSettings};
use super::{CommitError, Pair, ReadError, Scan, Store, StoreFuture, Transaction};

/// Bytes of mutations in one transaction at most. A larger one is refused.
pub const MAX_TRANSACTION_BYTES: usize = 64 << 20;

/// A [`Store`] in a directory of the local disk.
///
/// Reads must run inside a tokio runtime: those that may wait for the disk go to its
/// blocking threads. Dropping the store waits until the queued commits are durable.
///
/// ```no_run
/// # use tern_server::store::embedded::{EmbeddedSettings, EmbeddedStore};
/// let store = EmbeddedStore::open("data".as_ref(), EmbeddedSettings::default())?;
/// # Ok::<(), tern_server::store::embedded::OpenError>(())
/// ```
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    requests: Option<mpsc::Sender<Request>>,
    readers: Arc<Semaphore>,
    threads: Vec<JoinHandle<()>>,
    dir: PathBuf,
}

/// What the threads and the readers share.
struct Shared {
    view: RwLock<View>,
    poison: OnceLock<String>,
    /// How full the active layer or the log is, in thousandths of what starts a checkpoint;
    /// a running checkpoint takes its pace from it.
    fill_permille: AtomicUsize,
    /// The checkpoint should stop at its next step.
    closing: AtomicBool,
}

impl Shared {
    // A panic can't leave a view half-changed in a way that matters more than the panic:
    // the committer is gone then and nothing is committed any more.
    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn poison(&self, why: String) {
        tracing::error!(why, "the store stops: it must be opened again");
        // The first reason stays.
        let _ = self.poison.set(why);
    }

    fn poisoned(&self) -> Option<&String> {
        self.poison.get()
    }

    fn readable(&self) -> Result<(), ReadError> {
        match self.poisoned() {
            Some(why) => Err(ReadError::Unavailable(why.clone())),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens the store in a directory, which is created if it isn't there.
    ///
    /// Reads back the log of the last run: a fraction of a second for the default
    /// [`EmbeddedSettings::log_bytes`].
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. [`OpenError::Damaged`] means that acknowledged writes are lost or
    /// unreadable.
    pub fn open(dir: &Path, settings: EmbeddedSettings) -> Result<Self, OpenError> {
        settings.check()?;
        let failed = |doing: &'static str| {
            move |source| OpenError::Io { doing, path: dir.to_path_buf(), source }
        };
        fs::create_dir_all(dir).map_err(failed("creating"))?;
        let tree = dir.join("tree.redb");
        let salt = RandomState::new().build_hasher().finish();
        if !tree.exists() {
            if !log::list(dir).map_err(failed("listing"))?.is_empty() {
                let what = "this file is missing, but there is a log".into();
                return Err(OpenError::Damaged { path: tree, what });
            }
            Base::create(&tree, settings.cache_bytes, salt)?;
        }
        let (base, meta) = Base::open(&tree, settings.cache_bytes, salt)?;
        let replayed = replay::replay(dir, meta, settings.segment_bytes)?;
        log::sync_dir(dir).map_err(failed("syncing"))?;

        let corrupt =
            |error: BaseError| OpenError::Damaged { path: tree.clone(), what: error.to_string() };
        let snapshot = Arc::new(base.snapshot().map_err(corrupt)?);
        let shared = Arc::new(Shared {
            view: RwLock::new(View { active: replayed.layer, frozen: None, base: snapshot }),
            poison: OnceLock::new(),
            fill_permille: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        });
        let retired = Arc::new(log::Retired::new(settings.segment_bytes, settings.log_bytes));
        let log = Log::start(
            dir,
            settings.segment_bytes,
            meta.salt,
            replayed.number,
            replayed.next,
            replayed.ready,
            Arc::clone(&retired),
        )
        .map_err(failed("starting a thread for"))?;

        let (job_sender, jobs) = threads::channel();
        let (done_sender, done) = threads::channel();
        let (requests, receiver) = mpsc::channel(settings.queue_transactions);
        let readers = Arc::new(Semaphore::new(settings.read_threads));
        let checkpointer = Checkpointer {
            shared: Arc::clone(&shared),
            base,
            dir: dir.to_path_buf(),
            step_keys: settings.step_keys,
            retired,
            jobs,
            done: done_sender,
        };
        let committer = Committer::new(
            Arc::clone(&shared),
            settings,
            log,
            replayed.bytes,
            receiver,
            (job_sender, done),
        );
        let mut store = Self {
            shared,
            requests: Some(requests),
            readers,
            threads: Vec::new(),
            dir: dir.to_path_buf(),
        };
        // If the second thread doesn't start, the drop of `store` ends the first.
        store.spawn("tern-store-tree", || checkpointer.run()).map_err(failed("serving"))?;
        store.spawn("tern-store-log", || committer.run()).map_err(failed("serving"))?;
        Ok(store)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.into()).spawn(run)?);
        Ok(())
    }

    /// Whether the store can still commit.
    ///
    /// # Errors
    ///
    /// The reason why it can't, for the operator. It doesn't heal: the process must exit and
    /// open the store again, and finds then whether the last commits are there.
    pub fn health(&self) -> Result<(), String> {
        if let Some(why) = self.shared.poisoned() {
            return Err(why.clone());
        }
        if self.threads.iter().any(JoinHandle::is_finished) {
            return Err("a thread of the store has ended".into());
        }
        Ok(())
    }

    /// Runs a read that may wait for the disk on a blocking thread.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, BaseError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let closed = |_| ReadError::Unavailable("the store is closed".into());
        let permit = Arc::clone(&self.readers).acquire_owned().await.map_err(closed)?;
        let task = tokio::task::spawn_blocking(move || {
            // The thread keeps the permit even if the reader goes away.
            let _permit = permit;
            read()
        });
        match task.await {
            Ok(result) => Ok(result?),
            Err(error) => Err(ReadError::Unavailable(format!("the read was given up: {error}"))),
        }
    }

    async fn send(&self, transaction: Transaction) -> Result<(), CommitError> {
        if committer::size(&transaction) > MAX_TRANSACTION_BYTES {
            return Err(CommitError::Unavailable(format!(
                "a transaction may have {MAX_TRANSACTION_BYTES} bytes at most"
            )));
        }
        let gone = || CommitError::Unavailable("the committer has ended".into());
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(Request { transaction, answer }).await.map_err(|_| gone())?;
        // The committer answers whatever it takes, unless it panics.
        let lost = |_| CommitError::Unknown("the committer ended without an answer".into());
        answered.await.map_err(lost)?
    }
}

impl Store for EmbeddedStore {
    fn get(&self, key: Bytes) -> StoreFuture<'_, Result<Option<Bytes>, ReadError>> {
        Box::pin(async move {
            let in_memory = self.shared.view().get(&key);
            self.shared.readable()?;
            match in_memory {
                Ok(found) => Ok(found),
                Err(base) => self.blocking(move || base.get(&key)).await,
            }
        })
    }

    fn scan(&self, scan: Scan) -> StoreFuture<'_, Result<Vec<Pair>, ReadError>> {
        Box::pin(async move {
            let merged = self.shared.view().begin_scan(scan);
            self.shared.readable()?;
            self.blocking(move || merged.run()).await
        })
    }

    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<(), CommitError>> {
        Box::pin(self.send(transaction))
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        // The committer ends when its queue is closed and empty, and the checkpoint ends
        // when the committer has gone.
        self.requests = None;
        while let Some(thread) = self.threads.pop() {
            if thread.join().is_err() {
                tracing::error!("a thread of the store has panicked");
            }
        }
    }
}
