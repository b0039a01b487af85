//! The cluster: who the nodes are, which of them owns a conversation, how they talk.
//!
//! ```text
//! membership ── a record in the store, renewed; who doesn't renew is declared dead
//!   └ view ──── the nodes as this one sees them, and whether this one may serve
//!       ├ ring ── the owner of a conversation
//!       └ links ─ requests with answers and notes, node to node, over QUIC
//! ```
//!
//! - There is no coordinator but the store. A node is what has a record there; see [`membership`] for
//!   when it is alive, and why a node that is held for dead knows it.
//! - Two nodes may disagree for a while about who owns a conversation. That costs time, never a message:
//!   each commit is conditional on the conversation being as its writer knows it.
//! - What nodes tell each other is a hint. What must not be lost is in the store, and a node
//!   that may have missed a hint is told so ([`links::Handler::resync`]) and looks there.

pub mod links;
pub mod membership;
pub mod ring;
pub mod view;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::{
    membership::{Membership, MembershipSettings, Myself},
    ring::Ring,
    view::{Change, Node, Standing, View, Views},
};

/// Most nodes of a cluster. More don't join.
pub const NODES: usize = 256;

/// A node: one process, from its start to its end.
///
/// Random and new for each start, so that a node that was started anew is never taken for the one that
/// it was. The name, which its certificate holds, is what remains.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(std::num::NonZeroU64);

impl NodeId {
    /// The node with this number; `None` for 0, which is no node.
    pub const fn new(value: u64) -> Option<Self> {
        match std::num::NonZeroU64::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.get())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}
