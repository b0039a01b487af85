//! The records of the other nodes, and who of them is dead. No I/O, no clock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    cluster::{Node, NodeId},
    keys,
    records::{NodeRecord, Record},
    store::{Condition, Mutation, Pair, Transaction},
};

/// What one node sees of the others.
#[derive(Debug)]
pub(super) struct Observer {
    me: NodeId,
    lease: Duration,
    others: BTreeMap<NodeId, Seen>,
    /// When it last both renewed its own record and read the others'.
    last_round: Instant,
}

#[derive(Debug)]
struct Seen {
    bytes: Bytes,
    /// `None` for a record that can't be read, as a later version's. It is left alone.
    node: Option<Arc<Node>>,
    /// Since when the record hasn't changed, in a time in which it could have.
    since: Instant,
    /// When to try next to declare it dead, after a failure.
    not_before: Instant,
}

impl Observer {
    pub(super) fn new(me: NodeId, lease: Duration, now: Instant) -> Self {
        Self { me, lease, others: BTreeMap::new(), last_round: now }
    }

    /// Takes the records as they are now. This node must have renewed its own just before.
    pub(super) fn observe(&mut self, pairs: &[Pair], now: Instant) {
        // A store that is away for longer, so that this node couldn't renew, may be away for all: they get a whole
        // lease from here. When it was shorter, the others had time to renew after it.
        let was_interrupted = self.is_interrupted(now);
        self.last_round = now;
        let mut others = BTreeMap::new();
        for (key, bytes) in pairs {
            let Some(id) = keys::parse_node(key).filter(|&id| id != self.me) else { continue };
            let seen = match self.others.remove(&id) {
                Some(mut seen) if seen.bytes == *bytes => {
                    if was_interrupted {
                        seen.since = now;
                    }
                    seen
                }
                _ => Seen {
                    bytes: bytes.clone(),
                    node: read(id, bytes),
                    since: now,
                    not_before: now,
                },
            };
            others.insert(id, seen);
        }
        self.others = others;
    }

    /// The nodes that are to be declared dead: what deletes their records.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(NodeId, Transaction)> {
        if self.is_interrupted(now) {
            return Vec::new();
        }
        let is_due = |seen: &Seen| seen.due(self.lease).is_some_and(|due| due <= now);
        let overdue = self.others.iter().filter(|(_, seen)| is_due(seen));
        let delete = |id, seen: &Seen| Transaction {
            conditions: vec![Condition::Equals(keys::node(id), seen.bytes.clone())],
            mutations: vec![Mutation::Delete(keys::node(id))],
        };
        overdue.map(|(&id, seen)| (id, delete(id, seen))).collect()
    }

    /// When the next node is to be declared dead if its record doesn't change until then.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.others.values().filter_map(|seen| seen.due(self.lease)).min()
    }

    /// A record was deleted: the node is dead.
    pub(super) fn declared_dead(&mut self, node: NodeId) {
        self.others.remove(&node);
    }

    /// A record wasn't deleted, or it isn't known whether it was: the next look at all records will tell.
    pub(super) fn not_declared(&mut self, node: NodeId, next: Instant) {
        if let Some(seen) = self.others.get_mut(&node) {
            seen.not_before = next;
        }
    }

    /// The other nodes whose records can be read.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeId, Arc<Node>)> {
        self.others.iter().filter_map(|(&id, seen)| Some((id, seen.node.clone()?)))
    }

    fn is_interrupted(&self, now: Instant) -> bool {
        now - self.last_round > self.lease / 2
    }
}

impl Seen {
    fn due(&self, lease: Duration) -> Option<Instant> {
        self.node.as_ref().map(|_| (self.since + lease).max(self.not_before))
    }
}

fn read(id: NodeId, bytes: &[u8]) -> Option<Arc<Node>> {
    match NodeRecord::from_bytes(bytes) {
        Ok(record) => Some(Arc::new(node(&record))),
        Err(error) => {
            tracing::warn!(%id, %error, "a node is left alone");
            None
        }
    }
}

/// A node as its record describes it.
pub(super) fn node(record: &NodeRecord) -> Node {
    Node {
        name: record.name.as_str().into(),
        peer_address: record.peer_address,
        client_address: record.client_address.as_str().into(),
        started_ms: record.started_ms,
        draining: record.draining,
        software: record.software.as_str().into(),
        peer_version: record.peer_version,
    }
}
