//! How far a device is, as it says to whoever waits for a run to settle.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A device's own view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Messages that wait to be accepted.
    pub outbox: u64,
    /// Neither a message nor a read mark waits to go up.
    pub is_settled: bool,
    /// Each conversation, by its id.
    pub conversations: BTreeMap<String, Conversation>,
}

/// A device's view of a conversation, in sequence numbers; 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The last message that is in the store.
    pub head: u64,
    /// All up to here are in the store, received or sent.
    pub held: u64,
    /// The last that the own account has sent.
    pub own: u64,
    /// The last that another device has sent.
    pub foreign: u64,
    /// The other account has all up to here.
    pub delivered: u64,
    /// The other account has read all up to here.
    pub read: u64,
}
