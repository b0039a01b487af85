//! Locks and write records.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A key as the client knows it. Region borders towards PD are encoded, keys in commands aren't.
pub type Key = Bytes;

/// A value; may be empty.
pub type Value = Bytes;

/// What a lock will become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockKind {
    /// A new value, which lies under the start timestamp already.
    Put,
    /// The end of the value.
    Delete,
    /// Nothing: the transaction depends on the key and doesn't change it.
    Lock,
    /// Not prewritten yet: a pessimistic transaction holds the key.
    Pessimistic,
}

/// A transaction under way at a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// What it will become.
    pub kind: LockKind,
    /// The key at which the transaction's fate is decided.
    pub primary: Key,
    /// The transaction's start, its name.
    pub start_ts: Timestamp,
    /// How long after the physical time of `start_ts` others must leave it alone, in milliseconds.
    pub ttl_ms: u64,
    /// Of a pessimistic transaction: until when it has seen others' commits; zero otherwise.
    pub for_update_ts: Timestamp,
    /// It won't commit below this, so who reads below needn't wait. Zero: not known.
    pub min_commit_ts: Timestamp,
    /// How many keys the transaction has in this region, as the client says.
    pub txn_size: u64,
    /// Whether the transaction counts as committed once all its locks are there.
    pub use_async_commit: bool,
    /// At the primary of an async commit: all other keys of the transaction.
    pub secondaries: Vec<Key>,
}

impl Lock {
    /// Whether others may end its transaction at `now`. Read by the clock's milliseconds alone.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.start_ts.physical_ms().saturating_add(self.ttl_ms) < now.physical_ms()
    }
}

/// A lock and where it is: what who meets it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedKey {
    /// Where it is.
    pub key: Key,
    /// The lock.
    pub lock: Lock,
}

/// What a write record says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteKind {
    /// A value, to be found under the start timestamp.
    Put,
    /// No value from here on.
    Delete,
    /// As before; the transaction only had the key locked.
    Lock,
    /// The transaction with this start timestamp was rolled back. The record lies at its start timestamp.
    Rollback,
}

/// What happened to a key at a commit timestamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// What happened.
    pub kind: WriteKind,
    /// The transaction's start.
    pub start_ts: Timestamp,
    /// Another transaction, whose start timestamp is this record's commit timestamp, was rolled back at this
    /// key. TiKV calls it an overlapped rollback: both records would have the same place.
    pub rolled_back_too: bool,
}

impl Write {
    /// A record of a commit.
    pub fn new(kind: WriteKind, start_ts: Timestamp) -> Self {
        Self { kind, start_ts, rolled_back_too: false }
    }
}
