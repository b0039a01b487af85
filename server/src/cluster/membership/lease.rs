//! A node's own record: what it writes next, and until when what it wrote is good. No I/O, no clock.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    cluster::Standing,
    records::{NodeRecord, Record},
    store::{Condition, Mutation, Transaction},
};

/// Attempts whose outcome isn't known that are remembered. Each takes a good part of a lease, so a node that has
/// more of them was declared dead long ago.
const ATTEMPTS: usize = 8;

/// The own record and what is known of it.
#[derive(Debug)]
pub(super) struct Lease {
    key: Bytes,
    lease: Duration,
    /// The record as it was last tried to be written.
    record: NodeRecord,
    /// What is in the store as far as is known; `None` before the first success.
    stored: Option<Bytes>,
    /// Whether that says that the node is about to stop.
    drains: bool,
    /// Renewals that may have been stored, or may yet be: a commit that was given up goes on in the store.
    attempts: Vec<Attempt>,
    /// A lease after the start of the last renewal that succeeded. An observer that sees the renewal sees it after
    /// its start, so it won't declare this node dead before.
    good_until: Instant,
    ended: Option<Standing>,
}

#[derive(Debug)]
struct Attempt {
    bytes: Bytes,
    draining: bool,
    started: Instant,
}

impl Lease {
    /// A record that isn't stored yet. The first renewal stores it.
    pub(super) fn new(key: Bytes, record: NodeRecord, lease: Duration, now: Instant) -> Self {
        Self {
            key,
            lease,
            record,
            stored: None,
            drains: false,
            attempts: Vec::new(),
            good_until: now,
            ended: None,
        }
    }

    /// The record as it was last tried to be written.
    pub(super) fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// The key of the record.
    pub(super) fn key(&self) -> &Bytes {
        &self.key
    }

    /// Until when the last renewal lasts.
    pub(super) fn good_until(&self) -> Instant {
        self.good_until
    }

    /// Whether the record is in the store, as far as is known.
    pub(super) fn is_stored(&self) -> bool {
        self.stored.is_some()
    }

    /// Whether the stored record says that the node is about to stop.
    pub(super) fn drains(&self) -> bool {
        self.drains
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        match self.ended {
            Some(ended) => ended,
            None if now < self.good_until => Standing::Serving,
            None => Standing::Suspended,
        }
    }

    /// From the next renewal on, the record says that the node is about to stop.
    pub(super) fn drain(&mut self) {
        self.record.draining = true;
    }

    /// Begins a renewal: what is to be committed. One of [`Lease::renewed`], [`Lease::refused`] and
    /// [`Lease::found`] must follow.
    pub(super) fn renew(&mut self, now: Instant) -> Transaction {
        self.record.beat += 1;
        let bytes = self.record.to_bytes();
        if self.attempts.len() == ATTEMPTS {
            self.attempts.remove(0);
        }
        let draining = self.record.draining;
        self.attempts.push(Attempt { bytes: bytes.clone(), draining, started: now });
        let condition = match &self.stored {
            Some(stored) => Condition::Equals(self.key.clone(), stored.clone()),
            None => Condition::Absent(self.key.clone()),
        };
        Transaction {
            conditions: vec![condition],
            mutations: vec![Mutation::Put(self.key.clone(), bytes)],
        }
    }

    /// The renewal was committed.
    pub(super) fn renewed(&mut self) {
        if let Some(attempt) = self.attempts.pop() {
            self.keep(attempt);
        }
    }

    /// The renewal wasn't committed, for sure.
    pub(super) fn refused(&mut self) {
        self.attempts.pop();
    }

    /// The record was read back, since a renewal's outcome isn't known or it met another record than expected.
    pub(super) fn found(&mut self, bytes: Option<&Bytes>) {
        let Some(bytes) = bytes else {
            // Before the first success nobody could have deleted it: then it was never stored.
            if self.stored.is_some() {
                self.ended = Some(Standing::Fenced);
            }
            return;
        };
        if self.stored.as_ref() == Some(bytes) {
            // Nothing has happened yet; what was tried may still arrive.
            return;
        }
        match self.attempts.iter().position(|attempt| attempt.bytes == *bytes) {
            Some(index) => {
                let attempt = self.attempts.swap_remove(index);
                self.keep(attempt);
            }
            None => self.ended = Some(Standing::Fenced),
        }
    }

    /// What deletes the record, when the node leaves.
    pub(super) fn leave(&self) -> Transaction {
        let stored = self.stored.iter().cloned();
        Transaction {
            conditions: stored.map(|bytes| Condition::Equals(self.key.clone(), bytes)).collect(),
            mutations: vec![Mutation::Delete(self.key.clone())],
        }
    }

    /// The node serves no more, and leaves.
    pub(super) fn left(&mut self) {
        self.ended = Some(Standing::Left);
    }

    fn keep(&mut self, attempt: Attempt) {
        self.good_until = self.good_until.max(attempt.started + self.lease);
        self.stored = Some(attempt.bytes);
        self.drains = attempt.draining;
        // The others were conditional on an older record: they can't arrive any more.
        self.attempts.clear();
    }
}
