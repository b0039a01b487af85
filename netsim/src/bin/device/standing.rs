//! How everything stands, said to whoever waits for all to settle.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use tern_client::{Client, StoreError};
use tern_netsim::standing::{Conversation, Standing};

/// Prints how everything stands, as one line.
pub(crate) async fn say(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
    let line = serde_json::to_string(&standing(client).await?)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

async fn standing(client: &Client) -> Result<Standing, StoreError> {
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
    Ok(Standing { outbox: status.outbox, is_settled, conversations })
}
