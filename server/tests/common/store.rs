//! What the store holds.

use bytes::Bytes;
use tern_protocol::id::ConversationId;
use tern_server::keys;

use super::{World, until};

/// The sequence numbers of a conversation's stored messages.
pub(crate) async fn messages(world: &World, conversation: ConversationId) -> Vec<u64> {
    let scan = keys::messages(conversation, 1, u64::MAX - 1, 100_000);
    let pairs: Vec<(Bytes, Bytes)> = world.store().scan(scan).await.unwrap();
    pairs.iter().map(|(key, _)| keys::parse_message_seq(key).unwrap()).collect()
}

/// Waits until exactly these messages of a conversation are stored.
pub(crate) async fn until_stored(world: &World, conversation: ConversationId, seqs: &[u64]) {
    until(&format!("exactly the messages {seqs:?} to be stored"), async || {
        messages(world, conversation).await == seqs
    })
    .await;
}
