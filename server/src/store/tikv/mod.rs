//! The store in a TiKV cluster.
//!
//! Each [`Transaction`] of the trait is one optimistic transaction of TiKV: Percolator's (Peng and Dabek, OSDI
//! 2010), committed in one phase where all keys lie in one region and take less than 16 KiB, and else in two.
//!
//! | operation | time-stamps | other calls |
//! | --- | --- | --- |
//! | `get`, `scan` | 1 | 1 per region |
//! | `commit` in one phase | 1 | 1 prewrite |
//! | `commit` in two phases | 2 | 1 prewrite per region and 16 KiB, 1 commit; commits of the other keys that nobody waits for |
//! | its conditions | – | 1 batched get per region |
//! | its [`Mutation::DeleteRange`](super::Mutation::DeleteRange) | – | 1 scan of keys per 1,024 keys |
//!
//! *Not asynchronous commit*, which would save the second time-stamp: with version 0.4.0 of the client, readers never
//! resolve the locks of an asynchronous commit whose client died, and its garbage collection may roll back one
//! that was acknowledged.
//!
//! **Serialisability.** Keys that conditions speak of are read in the transaction's snapshot. They are either changed
//! by it or locked with it, so a transaction that changes one in between makes the commit fail; those that need only have
//! been [`Seen`](super::Condition::Seen) aren't. A range
//! is deleted as it was in the snapshot; what others put into it meanwhile comes behind.
//!
//! **Unknown outcomes.** The client never repeats a request of a commit; so what the cluster refuses was refused for good. Any
//! other error leaves open what became of it, and a request may even be carried out later. Then a second transaction
//! locks one of the first one's keys (`settle.rs`). Once that is committed, the first is or never will be: a
//! prewrite that comes later finds a newer record and fails. What is stored is then read back and compared. Only when that
//! tells nothing, or the cluster is away for longer than `give_up_after_ms`, is [`CommitError::Unknown`] returned.

mod cluster;
mod commit;
mod effects;
mod error;
mod settle;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, ops::Range, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use self::cluster::{CallError, Cluster};
use super::{CommitError, Pair, ReadError, Scan, Store, StoreFuture, Transaction};
use crate::random::Random;

/// How long a lock is in the way before it is taken for that of a process that died: as long as the client has its locks
/// live. What is alive and takes longer is refused, and tried again.
const LOCKED_FOR: Duration = Duration::from_secs(3);
/// The shortest pause before something is tried again; doubled with each try.
const FIRST_PAUSE_MS: u64 = 5;
/// The longest.
const LONGEST_PAUSE_MS: u64 = 500;

/// Where the cluster is, and how long it is waited for.
#[derive(Debug, Clone)]
pub struct TikvSettings {
    /// Addresses of the placement drivers, `HOST:PORT`.
    pub pd: Vec<String>,
    /// What every key begins with, so that deployments can share a cluster.
    pub key_prefix: Bytes,
    /// TLS towards the cluster.
    pub tls: Option<TikvTls>,
    /// How long one request may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long an operation is tried before its caller is told that the store is away, in milliseconds.
    pub give_up_after_ms: u64,
}

/// PEM files for mutual TLS with the cluster.
#[derive(Debug, Clone)]
pub struct TikvTls {
    /// The authority of the cluster's certificates.
    pub ca_file: PathBuf,
    /// The certificate shown to the cluster.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// The cluster can't be reached.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectError {
    /// The placement drivers asked.
    pub pd: Vec<String>,
    /// Why.
    pub reason: String,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no TiKV cluster answers at {}: {}", self.pd.join(", "), self.reason)
    }
}

impl std::error::Error for ConnectError {}

/// A store in a TiKV cluster. Cheap to clone.
#[derive(Clone)]
pub struct TikvStore {
    cluster: Arc<Cluster>,
    random: Random,
}

impl TikvStore {
    /// Connects to a cluster and reads once, so that a wrong address is noticed at once.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when nothing answers within `give_up_after_ms`.
    pub async fn connect(settings: TikvSettings, random: Random) -> Result<Self, ConnectError> {
        let pd = settings.pd.clone();
        let store = Self { cluster: Cluster::new(settings), random };
        match store.get(Bytes::from_static(b"v")).await {
            Ok(_) => Ok(store),
            Err(error) => Err(ConnectError { pd, reason: error.to_string() }),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.cluster.settings().give_up_after_ms)
    }

    /// A key as the cluster has it.
    fn stored_key(&self, key: &[u8]) -> Vec<u8> {
        [&self.cluster.settings().key_prefix[..], key].concat()
    }

    /// The range of one key.
    fn stored_range(&self, key: &[u8]) -> Range<Vec<u8>> {
        let key = self.stored_key(key);
        let behind = [&key[..], &[0]].concat();
        key..behind
    }

    /// Has the cluster forget old versions, and the locks of processes that died, all but those of the last
    /// `keep`. It concerns the whole cluster, also what isn't Tern's. One node of a deployment is to do it now and then.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when it couldn't be done; nothing is lost by that.
    pub async fn collect_garbage(&self, keep: Duration) -> Result<(), ReadError> {
        let error = |error: CallError| ReadError::Unavailable(error.to_string());
        let until = self.cluster.stamp_before(keep).await.map_err(error)?;
        self.cluster.collect(until).await.map_err(error)
    }

    /// Takes away the locks in a range that have been there for longer than they live. Readers do that themselves,
    /// unless they find nothing by which to judge a lock: its transaction's first key was never locked, since its
    /// process died in between.
    async fn clear_way(&self, range: Range<Vec<u8>>, deadline: Instant) {
        let clear = async {
            let until = self.cluster.stamp_before(LOCKED_FOR).await?;
            self.cluster.clean(range, &until, deadline).await
        };
        match clear.await {
            Ok(()) => tracing::debug!("locks that were in the way are taken away"),
            Err(error) => tracing::debug!(%error, "what is in the way stays for now"),
        }
    }

    /// A key of the cluster as the caller knows it.
    fn own_key(&self, stored: impl Into<Vec<u8>>) -> Bytes {
        let prefix = self.cluster.settings().key_prefix.len();
        let mut key = Bytes::from(stored.into());
        // The scans and gets ask for keys with the prefix alone.
        key.split_off(prefix.min(key.len()))
    }

    /// Waits before try `attempt`, counted from 1; false when that would be too late.
    async fn pause(&self, attempt: u32, deadline: Instant) -> bool {
        let longest = FIRST_PAUSE_MS.saturating_mul(1 << attempt.min(16)).min(LONGEST_PAUSE_MS);
        // At least half of it, so that those who failed together come back apart.
        let jitter = self.random.id() % (longest / 2 + 1);
        let pause = Duration::from_millis(longest - jitter);
        if Instant::now() + pause >= deadline {
            return false;
        }
        sleep(pause).await;
        true
    }

    async fn try_get(&self, key: &Bytes, deadline: Instant) -> Result<Option<Bytes>, CallError> {
        let mut snapshot = self.cluster.snapshot().await?;
        let got = self.cluster.call("a get", snapshot.get(self.stored_key(key)), deadline);
        Ok(got.await?.map(Bytes::from))
    }

    async fn try_scan(&self, scan: &Scan, deadline: Instant) -> Result<Vec<Pair>, CallError> {
        let mut snapshot = self.cluster.snapshot().await?;
        let range = self.stored_key(&scan.from)..self.stored_key(&scan.to);
        let limit = u32::try_from(scan.limit).unwrap_or(u32::MAX);
        let own = |pair: tikv_client::KvPair| (self.own_key(pair.0), Bytes::from(pair.1));
        if scan.reverse {
            let pairs = snapshot.scan_reverse(range, limit);
            Ok(self.cluster.call("a scan", pairs, deadline).await?.map(own).collect())
        } else {
            let pairs = snapshot.scan(range, limit);
            Ok(self.cluster.call("a scan", pairs, deadline).await?.map(own).collect())
        }
    }

    async fn read<T, F>(
        &self,
        range: Range<Vec<u8>>,
        mut read: impl FnMut(Instant) -> F,
    ) -> Result<T, ReadError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let deadline = self.deadline();
        let mut clear_at = Instant::now() + LOCKED_FOR;
        for attempt in 1.. {
            if Instant::now() >= clear_at {
                clear_at += LOCKED_FOR;
                self.clear_way(range.clone(), deadline).await;
            }
            match read(deadline).await {
                Ok(result) => return Ok(result),
                Err(error) => {
                    tracing::debug!(%error, attempt, "a read is tried again");
                    if !self.pause(attempt, deadline).await {
                        return Err(ReadError::Unavailable(error.to_string()));
                    }
                }
            }
        }
        unreachable!("the tries have no end but those above")
    }
}

impl Store for TikvStore {
    fn get(&self, key: Bytes) -> StoreFuture<'_, Result<Option<Bytes>, ReadError>> {
        Box::pin(async move {
            let range = self.stored_range(&key);
            self.read(range, |deadline| self.try_get(&key, deadline)).await
        })
    }

    fn scan(&self, scan: Scan) -> StoreFuture<'_, Result<Vec<Pair>, ReadError>> {
        Box::pin(async move {
            if scan.from >= scan.to {
                return Ok(Vec::new());
            }
            let range = self.stored_key(&scan.from)..self.stored_key(&scan.to);
            self.read(range, |deadline| self.try_scan(&scan, deadline)).await
        })
    }

    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<(), CommitError>> {
        Box::pin(self.commit_within(transaction, self.deadline()))
    }
}

/// What is stored of some keys.
type Stored = BTreeMap<Bytes, Bytes>;
