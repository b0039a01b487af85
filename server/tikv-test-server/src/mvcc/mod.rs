//! Transactions as TiKV makes them: Percolator over three columns, with async commit and one-phase commit.
//!
//! Pure: no clock, no network, no disk. Timestamps come in with the commands; what a command changes goes out as
//! a list of [`Change`]s, which the caller makes durable and then applies ([`Engine::apply`]).
//! One command runs at a time, so what TiKV needs latches and locks in memory for can't happen here.
//!
//! A key has at most one [`Lock`] (a transaction under way), and any number of [`Write`] records, one per commit
//! timestamp, newest first. A `Put` record leads to a value under the transaction's start timestamp.
//!
//! Files: `columns` holds the data; `read`, `prewrite`, `pessimistic`, `commit`, `status`, `resolve` and `collect` are
//! the commands.
//!
//! Sources: Peng and Dabek, "Large-scale Incremental Processing Using Distributed Transactions and
//! Notifications" (Percolator, OSDI 2010); "Deep Dive TiKV", chapter on distributed transactions
//! (<https://tikv.org/deep-dive/distributed-transaction/>); the design of async commit and of one-phase commit in
//! TiKV's SIG transaction (<https://github.com/tikv/sig-transaction/tree/master/design/async-commit>).
//!
//! Where it differs from TiKV, always to the strict side: every rollback record is kept, also when a newer one
//! makes it unnecessary, and also when a commit falls on the same timestamp ([`Write::rolled_back_too`]); one
//! `max_ts` counts for all stores, where TiKV has one per store and synchronises it when a leader moves;
//! pessimistic locks aren't waited for in the server, and deadlocks end by the waiting client's patience.

mod collect;
mod columns;
mod commit;
mod key_error;
mod pessimistic;
mod prewrite;
mod read;
mod resolve;
mod status;
#[cfg(test)]
mod tests;
mod timestamp;
mod types;

pub use columns::{Change, Columns};
pub use key_error::{ConflictReason, KeyError};
pub use pessimistic::{LockKeys, LockedValue};
pub use prewrite::{Mutation, MutationKind, PessimisticCheck, Prewrite, Prewritten};
pub use read::{ReadOptions, ReadResult, ScanOptions};
pub use status::{CheckStatus, Secondaries, TransactionStatus};
pub use timestamp::Timestamp;
pub use types::{Key, Lock, LockKind, LockedKey, Value, Write, WriteKind};

/// The columns, and the highest timestamp of any read.
///
/// Every command that changes something returns its changes with its answer and leaves the columns as they are;
/// [`Engine::apply`] makes the changes. A command that fails changes nothing.
#[derive(Debug, Default, Clone)]
pub struct Engine {
    columns: Columns,
    /// No transaction may yet commit at or below it by async commit or in one phase: somebody has read there.
    max_ts: Timestamp,
}

impl Engine {
    /// An engine over columns read from a log.
    ///
    /// `max_ts` must be above every timestamp that a read before the restart can have had; the oracle's newest
    /// is.
    pub fn new(columns: Columns, max_ts: Timestamp) -> Self {
        Self { columns, max_ts }
    }

    /// Makes changes that a command returned, in their order.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.columns.apply(change);
        }
    }

    /// The data.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The highest timestamp that somebody has read at.
    pub fn max_ts(&self) -> Timestamp {
        self.max_ts
    }

    /// Notes a read at `ts`. The greatest timestamp means "the newest" and is nobody's time: it isn't noted.
    pub fn raise_max_ts(&mut self, ts: Timestamp) {
        if ts != Timestamp::MAX {
            self.max_ts = self.max_ts.max(ts);
        }
    }
}
