//! The store: ordered keys and atomic mini-transactions, behind one trait.
//!
//! Domain code speaks to [`Store`] and never names a backend. Keys are byte
//! strings ordered bytewise; values are opaque. A [`Transaction`] is a list of
//! conditions and a list of mutations: either every condition holds and every
//! mutation becomes durable together, or nothing happens.
//!
//! What any backend must keep (the suite in `suite.rs` checks it):
//!
//! 1. `commit` returns `Ok` only when the mutations survive power loss.
//! 2. Transactions are atomic and serialisable: a reader sees all of one or none,
//!    and a condition sees every transaction that was ordered before its own,
//!    also one of the same group commit.
//! 3. After `Ok`, every later read sees the mutations.
//! 4. After [`CommitError::Unknown`], the mutations are in the store as a whole or
//!    not at all, and later reads agree on which.

pub mod embedded;
#[cfg(any(test, feature = "test-support"))]
#[expect(clippy::expect_used, reason = "a suite fails by panicking")]
pub mod suite;
pub mod tikv;

use std::{fmt, future::Future, pin::Pin};

use bytes::Bytes;

/// A boxed future, so that a [`Store`] can be held as a trait object.
///
/// One allocation for a whole group of appends costs nothing that matters.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One condition of a [`Transaction`], checked when it commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The key has no value: the slot is free.
    Absent(Bytes),
    /// The key has exactly this value.
    Equals(Bytes, Bytes),
    /// A read of the key, made after the call, found this value, or none. By the time of the commit it may be another.
    ///
    /// For what must not be older than the call, and may change right behind it. In a cluster it costs no lock, so any
    /// number of commits may rest on one key at a time.
    Seen(Bytes, Option<Bytes>),
}

impl Condition {
    /// The key that it speaks of.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Absent(key) | Self::Equals(key, _) | Self::Seen(key, _) => key,
        }
    }

    /// Whether it holds if this is what the key has.
    pub fn holds(&self, found: Option<&Bytes>) -> bool {
        match self {
            Self::Absent(_) => found.is_none(),
            Self::Equals(_, value) => found == Some(value),
            Self::Seen(_, value) => found == value.as_ref(),
        }
    }
}

/// One change of a [`Transaction`]. Changes apply in the order of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// Sets a key to a value.
    Put(Bytes, Bytes),
    /// Removes a key; no error if it has no value.
    Delete(Bytes),
    /// Removes every key in `[from, to)`; an empty or inverted range does nothing.
    DeleteRange(Bytes, Bytes),
}

/// Conditions and mutations that commit together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All of these must hold, or nothing is changed.
    pub conditions: Vec<Condition>,
    /// Applied in order when all conditions hold.
    pub mutations: Vec<Mutation>,
}

/// A bounded, ordered read of `[from, to)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// First key of the range, inclusive.
    pub from: Bytes,
    /// End of the range, exclusive.
    pub to: Bytes,
    /// At most this many pairs are returned; at least 1.
    pub limit: usize,
    /// Highest keys first when set.
    pub reverse: bool,
}

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// Why a read failed. Nothing was changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The backend can't answer now; a later try may succeed.
    Unavailable(String),
    /// The backend found its data damaged: an operator must look.
    Corrupt(String),
}

/// Why a commit didn't return `Ok`.
#[derive(Debug)]
#[non_exhaustive]
pub enum CommitError {
    /// A condition didn't hold. Nothing was changed.
    Conflict {
        /// Index into [`Transaction::conditions`] of the first that failed.
        index: usize,
    },
    /// The backend refused before it tried. Nothing was changed.
    Unavailable(String),
    /// It isn't known whether the transaction committed: read back.
    Unknown(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "the store can't be read now: {why}"),
            Self::Corrupt(why) => write!(f, "the store is damaged: {why}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { index } => write!(f, "condition {index} did not hold"),
            Self::Unavailable(why) => write!(f, "the store refused the commit: {why}"),
            Self::Unknown(why) => write!(f, "the commit's outcome is unknown: {why}"),
        }
    }
}

impl std::error::Error for CommitError {}

/// An ordered key-value store with atomic, durable mini-transactions.
pub trait Store: Send + Sync + 'static {
    /// The value of `key`, or `None`.
    fn get(&self, key: Bytes) -> StoreFuture<'_, Result<Option<Bytes>, ReadError>>;

    /// The pairs of a range, in order, at most `scan.limit` of them.
    ///
    /// The result is one consistent snapshot.
    fn scan(&self, scan: Scan) -> StoreFuture<'_, Result<Vec<Pair>, ReadError>>;

    /// Commits a transaction; `Ok` means durable.
    ///
    /// Concurrent commits share one disk sync where the backend can.
    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<(), CommitError>>;
}

/// The smallest key that is greater than every key with this prefix.
///
/// `None` when there is no such key (the prefix is empty or all `0xff`).
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}
