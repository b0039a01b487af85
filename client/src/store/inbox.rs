//! Messages and receipts on their way down.
//!
//! What arrived and the new position are stored in one step ([`store`]), and only then acknowledged: an
//! acknowledged entry is on the disk, and one that is on the disk is never taken a second time.

use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::{
    frame::{Deliver, OpenDownlink, Receipt},
    id::{AccountId, ConversationId},
};

use super::{Result, StoreError, bits_id, conversations, id_bits, number, outbox, unsigned};

/// Where a downlink stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Everything up to here is stored.
    pub(crate) position: u64,
    /// Receipts up to here are stored.
    pub(crate) revision: u64,
}

/// What a conversation's downlink goes on from; `None` if the store holds nothing of it yet.
pub(crate) fn cursor(connection: &Connection, id: ConversationId) -> Result<Option<Cursor>> {
    let row = connection
        .prepare_cached("SELECT position, revision FROM conversation WHERE id = ?")?
        .query_row([id.as_bytes()], |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, i64>(1)?))
        })
        .optional()?;
    Ok(row.and_then(|(position, revision)| {
        Some(Cursor { position: unsigned(position?), revision: unsigned(revision) })
    }))
}

/// Prepares the store for a downlink: the conversation, its other account, and, if nothing has come
/// before, the position from which this device takes part.
pub(crate) fn open(connection: &Connection, open: &OpenDownlink) -> Result<Cursor> {
    // Messages to the other account's name may be waiting for its id.
    outbox::name_found(connection, &open.peer.name, open.peer.account, open.conversation)?;
    connection
        .prepare_cached(
            "UPDATE conversation SET position = ?, revision = MAX(revision, ?)
             WHERE id = ? AND position IS NULL",
        )?
        .execute(params![
            number(open.start),
            number(open.revision),
            open.conversation.as_bytes()
        ])?;
    cursor(connection, open.conversation)?.ok_or(StoreError::UnknownConversation)
}

/// What came down a stream, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrival {
    Message(Deliver),
    /// Entries up to here don't come.
    Skipped(u64),
    Receipt(Receipt),
}

/// Stores what came together; the result is what may be acknowledged. Receipts that are known already are
/// left out of `news`: of two streams, the older one may be read later.
pub(crate) fn store(
    connection: &Connection,
    id: ConversationId,
    own: AccountId,
    arrivals: &[Arrival],
    news: &mut Vec<Receipt>,
) -> Result<Cursor> {
    let mut cursor = cursor(connection, id)?.ok_or(StoreError::UnknownConversation)?;
    for arrival in arrivals {
        match arrival {
            Arrival::Message(deliver) if deliver.seq <= cursor.position => {}
            Arrival::Message(deliver) => {
                if deliver.seq != cursor.position + 1 {
                    return Err(StoreError::Inconsistent("a delivery beyond the next position"));
                }
                insert(connection, id, deliver)?;
                cursor.position = deliver.seq;
            }
            Arrival::Skipped(up_to) => cursor.position = cursor.position.max(*up_to),
            Arrival::Receipt(receipt) if receipt.revision <= cursor.revision => {}
            Arrival::Receipt(receipt) => {
                store_receipt(connection, id, own, receipt)?;
                cursor.revision = receipt.revision;
                news.push(receipt.clone());
            }
        }
    }
    connection
        .prepare_cached("UPDATE conversation SET position = ?, revision = ? WHERE id = ?")?
        .execute(params![number(cursor.position), number(cursor.revision), id.as_bytes()])?;
    Ok(cursor)
}

fn insert(connection: &Connection, id: ConversationId, deliver: &Deliver) -> Result<()> {
    // The row can be there already only if this device sent the message and lost its memory of
    // receiving: then it is in the history and needn't be shown.
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO message (conversation, seq, message_id, account, device, time_ms,
                                  envelope, state, shown)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
        )?
        .execute(params![
            id.as_bytes(),
            number(deliver.seq),
            id_bits(deliver.message_id),
            id_bits(deliver.account.get()),
            id_bits(deliver.device.get()),
            number(deliver.time_ms),
            &deliver.envelope.0[..],
            outbox::RECEIVED,
        ])?;
    Ok(())
}

fn store_receipt(
    connection: &Connection,
    id: ConversationId,
    own: AccountId,
    receipt: &Receipt,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO receipt (conversation, account, delivered, read) VALUES (?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET delivered = MAX(delivered, excluded.delivered),
                                       read = MAX(read, excluded.read)",
        )?
        .execute(params![
            id.as_bytes(),
            id_bits(receipt.account.get()),
            number(receipt.delivered),
            number(receipt.read),
        ])?;
    for span in &receipt.expired {
        connection
            .prepare_cached(
                "INSERT INTO expired (conversation, account, first, last) VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET last = MAX(last, excluded.last)",
            )?
            .execute(params![
                id.as_bytes(),
                id_bits(receipt.account.get()),
                number(span.first),
                number(span.last),
            ])?;
    }
    if receipt.account == own {
        // Another device of the account has read further than this one.
        conversations::read_known(connection, id, receipt.read)?;
    }
    Ok(())
}

/// Marks messages as shown to the user: they aren't given to the application again.
pub(crate) fn shown(connection: &Connection, locals: &[outbox::LocalId]) -> Result<()> {
    let mut statement = connection.prepare_cached("UPDATE message SET shown = 1 WHERE id = ?")?;
    for local in locals {
        statement.execute([local.0])?;
    }
    Ok(())
}

/// What the account of a conversation's other side has.
pub(crate) fn receipts(
    connection: &Connection,
    id: ConversationId,
) -> Result<Vec<(AccountId, u64, u64)>> {
    let mut statement = connection
        .prepare_cached("SELECT account, delivered, read FROM receipt WHERE conversation = ?")?;
    let rows = statement
        .query_map([id.as_bytes()], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)))?;
    let mut all = Vec::new();
    for row in rows {
        let (account, delivered, read) = row?;
        if let Some(account) = AccountId::new(bits_id(account)) {
            all.push((account, unsigned(delivered), unsigned(read)));
        }
    }
    Ok(all)
}
