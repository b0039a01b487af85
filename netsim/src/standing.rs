//! How far a device is, as it says to whoever waits for a run to settle.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tern_client::{Client, StoreError};

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

impl Standing {
    /// How far a client is.
    ///
    /// # Errors
    ///
    /// If its store fails.
    pub async fn of(client: &Client) -> Result<Self, StoreError> {
        let status = client.status().await?;
        let own = status.identity.map(|own| (own.account, own.device));
        let mut conversations = BTreeMap::new();
        for conversation in status.conversations {
            let history = client.history(conversation.id, usize::MAX).await?;
            let mut standing = Conversation::default();
            for message in &history {
                let Some(seq) = message.seq else { continue };
                standing.head = seq;
                if seq == standing.held + 1 {
                    standing.held = seq;
                }
                if Some(message.account) == own.map(|(account, _)| account) {
                    standing.own = seq;
                }
                if Some(message.device) != own.map(|(_, device)| device) {
                    standing.foreign = seq;
                }
            }
            for (account, delivered, read) in client.receipts(conversation.id).await? {
                if account == conversation.peer {
                    (standing.delivered, standing.read) = (delivered, read);
                }
            }
            conversations.insert(conversation.id.to_string(), standing);
        }
        let is_settled = status.outbox == 0 && client.is_settled().await?;
        Ok(Self { outbox: status.outbox, is_settled, conversations })
    }
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
