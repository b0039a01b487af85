//! The local store: what a device must not forget, in SQLite.
//!
//! [`Store`] runs closures over the database one after another. Closures that wait together share one
//! transaction and therefore one fsync (group commit), each in a savepoint of its own, and a
//! caller gets its answer after the commit: what it was told is on the disk. The modules beside this
//! one hold the queries; each function there is one step that happens whole or not at all.

pub(crate) mod conversations;
pub(crate) mod history;
pub(crate) mod identity;
pub(crate) mod inbox;
pub(crate) mod outbox;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

/// Closures that wait for the database thread at most; further callers wait for room.
const QUEUE: usize = 256;

/// Why the local store failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite failed: a full disk, a damaged file, missing rights.
    Database(Arc<rusqlite::Error>),
    /// The file was written by a later version of this program.
    Newer {
        /// The file's schema version.
        found: i64,
        /// The highest that this program knows.
        known: i64,
    },
    /// The conversation isn't known here.
    UnknownConversation,
    /// The server's numbering and the store's don't fit together; the text says how.
    Inconsistent(&'static str),
    /// The store was closed, or its thread died.
    Closed,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => write!(f, "the local store failed: {error}"),
            Self::Newer { found, known } => write!(
                f,
                "the local store has version {found} and this program knows {known}: use a newer one"
            ),
            Self::UnknownConversation => f.write_str("no such conversation here"),
            Self::Inconsistent(how) => write!(f, "the local store doesn't fit the server's: {how}"),
            Self::Closed => f.write_str("the local store is closed"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database(error) => Some(error),
            _ => None,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

/// Result of a step over the store.
pub(crate) type Result<T> = std::result::Result<T, StoreError>;

/// What a step must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survive {
    /// Loss of power: the commit waits for the disk.
    PowerLoss,
    /// Death of the process: the commit is in the operating system's hands. Also for reading.
    ProcessDeath,
}

type Answer = Box<dyn FnOnce(Option<&StoreError>) + Send>;

struct Job {
    survive: Survive,
    run: Box<dyn FnOnce(&Connection) -> Answer + Send>,
}

/// A handle to the database; clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    executor: Executor,
}

#[derive(Clone)]
enum Executor {
    /// A thread of its own; its queue is bounded.
    Thread(mpsc::Sender<Job>),
    /// The caller's thread, for a simulator: nothing happens at a time that tokio's clock doesn't know.
    Inline(Arc<Mutex<Database>>),
}

impl Store {
    /// Opens or makes the database. `inline` runs every step on the caller's thread.
    pub(crate) fn open(path: &Path, inline: bool) -> Result<Self> {
        let database = Database::new(Connection::open(path)?)?;
        if inline {
            return Ok(Self { executor: Executor::Inline(Arc::new(Mutex::new(database))) });
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("tern-store".into())
            .spawn(move || serve(database, receiver))
            .map_err(|_| StoreError::Closed)?;
        Ok(Self { executor: Executor::Thread(sender) })
    }

    /// Runs a step that must survive a loss of power; returns when it does.
    pub(crate) async fn durably<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(Survive::PowerLoss, step).await
    }

    /// Runs a step that only reads, or need survive nothing worse than the death of the process.
    pub(crate) async fn quickly<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(Survive::ProcessDeath, step).await
    }

    async fn run<T: Send + 'static>(
        &self,
        survive: Survive,
        step: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            survive,
            run: Box::new(move |connection| {
                let result = in_savepoint(connection, step);
                Box::new(move |failed: Option<&StoreError>| {
                    let result = match failed {
                        Some(error) => Err(error.clone()),
                        None => result,
                    };
                    // A caller that has gone away needs no answer.
                    let _ = answer.send(result);
                })
            }),
        };
        match &self.executor {
            Executor::Thread(queue) => queue.send(job).await.map_err(|_| StoreError::Closed)?,
            Executor::Inline(database) => {
                database.lock().unwrap_or_else(PoisonError::into_inner).run(vec![job])
            }
        }
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

fn in_savepoint<T>(
    connection: &Connection,
    step: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    connection.execute_batch("SAVEPOINT step")?;
    match step(connection) {
        Ok(value) => {
            connection.execute_batch("RELEASE step")?;
            Ok(value)
        }
        Err(error) => {
            connection.execute_batch("ROLLBACK TO step; RELEASE step")?;
            Err(error)
        }
    }
}

fn serve(mut database: Database, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        let mut jobs = vec![job];
        while jobs.len() < QUEUE {
            match queue.try_recv() {
                Ok(job) => jobs.push(job),
                Err(_) => break,
            }
        }
        database.run(jobs);
    }
}

/// The connection to the database and the care that it takes of the disk at present.
struct Database {
    connection: Connection,
    surviving: Survive,
}

impl Database {
    fn new(connection: Connection) -> Result<Self> {
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", "on")?;
        connection.set_prepared_statement_cache_capacity(64);
        schema::migrate(&connection)?;
        Ok(Self { connection, surviving: Survive::PowerLoss })
    }

    /// Runs the jobs in one transaction and answers them when it is committed.
    fn run(&mut self, jobs: Vec<Job>) {
        let survive = if jobs.iter().any(|job| job.survive == Survive::PowerLoss) {
            Survive::PowerLoss
        } else {
            Survive::ProcessDeath
        };
        let mut answers = Vec::with_capacity(jobs.len());
        let result = self.transaction(survive, |connection| {
            answers.extend(jobs.into_iter().map(|job| (job.run)(connection)));
        });
        for answer in answers {
            answer(result.as_ref().err());
        }
    }

    fn transaction(&mut self, survive: Survive, body: impl FnOnce(&Connection)) -> Result<()> {
        if self.surviving != survive {
            let level = match survive {
                Survive::PowerLoss => "full",
                Survive::ProcessDeath => "normal",
            };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.surviving = survive;
        }
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        body(&self.connection);
        let result = self.connection.execute_batch("COMMIT");
        if result.is_err() && !self.connection.is_autocommit() {
            // What failed to commit must not leak into the next transaction.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        Ok(result?)
    }
}

/// A number of the protocol as SQLite keeps it: sequence numbers, counters and times keep their order.
/// No honest server comes near the end of the range.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The way back from [`number`].
fn unsigned(value: i64) -> u64 {
    value.max(0).unsigned_abs()
}

/// A random id as SQLite keeps it: bit by bit, without an order.
fn id_bits(value: u64) -> i64 {
    i64::from_ne_bytes(value.to_ne_bytes())
}

/// The way back from [`id_bits`].
fn bits_id(value: i64) -> u64 {
    u64::from_ne_bytes(value.to_ne_bytes())
}
