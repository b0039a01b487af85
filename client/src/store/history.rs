//! Reading messages back: for the screen, for the events, for the ticks.

use rusqlite::{Connection, OptionalExtension, Row, params};
use tern_protocol::{
    code::Code,
    frame::Envelope,
    id::{AccountId, ConversationId, DeviceId},
};

use super::{
    Result, bits_id,
    conversations::conversation_id,
    number,
    outbox::{FAILED, LocalId, WAITING},
    unsigned,
};

/// How far a message got. Ordered: a later tick includes the earlier ones, and failing ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tick {
    /// In the outbox, safe against a restart, not yet with the server.
    Waiting,
    /// Durable on the server.
    Sent,
    /// Stored by a device of the other account.
    Delivered,
    /// Read by the other user.
    Read,
    /// Refused, or deleted by the server before anybody fetched it.
    Failed,
}

/// A message in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its name on this device.
    pub local: LocalId,
    /// The conversation.
    pub conversation: ConversationId,
    /// Its place in the conversation; `None` while it waits or if it failed.
    pub seq: Option<u64>,
    /// The id that all devices know it by.
    pub message_id: u64,
    /// Who sent it.
    pub account: AccountId,
    /// The name of who sent it; empty if it isn't known.
    pub name: String,
    /// From which device.
    pub device: DeviceId,
    /// When the server accepted it, or, before that, when it was written; ms since the epoch.
    pub time_ms: u64,
    /// What it says, sealed.
    pub envelope: Envelope,
    /// How far it got, if this account sent it.
    pub tick: Tick,
    /// Why it failed, if the server refused it.
    pub failure: Option<Code>,
}

/// Columns of a message with what its tick needs: receipts of the other accounts.
const COLUMNS: &str = "m.id, m.conversation, m.seq, m.message_id, m.account, m.device, m.time_ms,
    m.envelope, m.state, m.failure, COALESCE(a.name, ''),
    COALESCE((SELECT MAX(delivered) FROM receipt r
              WHERE r.conversation = m.conversation AND r.account <> m.account), 0),
    COALESCE((SELECT MAX(read) FROM receipt r
              WHERE r.conversation = m.conversation AND r.account <> m.account), 0),
    EXISTS (SELECT 1 FROM expired e WHERE e.conversation = m.conversation
            AND e.account <> m.account AND m.seq BETWEEN e.first AND e.last)
    FROM message m LEFT JOIN account a ON a.account = m.account";

fn message(row: &Row<'_>) -> rusqlite::Result<Option<StoredMessage>> {
    let seq = row.get::<_, Option<i64>>(2)?.map(unsigned);
    let (delivered, read): (i64, i64) = (row.get(11)?, row.get(12)?);
    let tick = tick(row.get(8)?, seq, unsigned(delivered), unsigned(read), row.get(13)?);
    let ids = AccountId::new(bits_id(row.get(4)?)).zip(DeviceId::new(bits_id(row.get(5)?)));
    let Some((account, device)) = ids else {
        return Ok(None);
    };
    Ok(Some(StoredMessage {
        local: LocalId(row.get(0)?),
        conversation: conversation_id(row, 1)?,
        seq,
        message_id: bits_id(row.get(3)?),
        account,
        name: row.get(10)?,
        device,
        time_ms: unsigned(row.get(6)?),
        envelope: Envelope(row.get::<_, Vec<u8>>(7)?.into()),
        tick,
        failure: row.get::<_, Option<u16>>(9)?.map(Code::from),
    }))
}

fn tick(state: i64, seq: Option<u64>, delivered: u64, read: u64, expired: bool) -> Tick {
    match (state, seq) {
        (FAILED, _) => Tick::Failed,
        _ if expired => Tick::Failed,
        (WAITING, _) | (_, None) => Tick::Waiting,
        (_, Some(seq)) if seq <= read => Tick::Read,
        (_, Some(seq)) if seq <= delivered => Tick::Delivered,
        _ => Tick::Sent,
    }
}

/// The last `limit` messages of a conversation, oldest first; what waits or failed stands at the
/// place where it was written.
pub(crate) fn last(
    connection: &Connection,
    id: ConversationId,
    limit: usize,
) -> Result<Vec<StoredMessage>> {
    // Rows were stored in the order in which they were written or came, except that the history of
    // an account's other devices may come late: the sequence number decides where there is one.
    // The inner selections keep the cost to that of `limit` rows, however long the conversation is.
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} WHERE m.id IN (
            SELECT id FROM (SELECT id FROM message WHERE conversation = ?1 AND seq IS NOT NULL
                            ORDER BY seq DESC LIMIT ?2)
            UNION ALL
            SELECT id FROM (SELECT id FROM message WHERE conversation = ?1 AND seq IS NULL
                            ORDER BY id DESC LIMIT ?2))
         ORDER BY m.seq IS NULL AND m.state = 1 DESC,
                  COALESCE(m.seq, (SELECT b.seq FROM message b
                    WHERE b.conversation = m.conversation AND b.id < m.id AND b.seq IS NOT NULL
                    ORDER BY b.seq DESC LIMIT 1), 0) DESC,
                  m.id DESC LIMIT ?2"
    ))?;
    let rows = statement.query_map(params![id.as_bytes(), number(limit as u64)], message)?;
    let mut all: Vec<_> =
        rows.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?;
    all.reverse();
    Ok(all)
}

/// Messages that the application hasn't confirmed, behind `after` in the order of arrival.
pub(crate) fn unshown(
    connection: &Connection,
    after: LocalId,
    limit: usize,
) -> Result<Vec<StoredMessage>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} WHERE m.shown = 0 AND m.id > ? ORDER BY m.id LIMIT ?"
    ))?;
    let rows = statement.query_map(params![after.0, number(limit as u64)], message)?;
    Ok(rows.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?)
}

/// How far a message got, and why it failed if it was refused.
pub(crate) fn tick_of(
    connection: &Connection,
    local: LocalId,
) -> Result<Option<(Tick, Option<Code>)>> {
    let row = connection
        .prepare_cached(&format!("SELECT {COLUMNS} WHERE m.id = ?"))?
        .query_row([local.0], |row| {
            let seq = row.get::<_, Option<i64>>(2)?.map(unsigned);
            let (delivered, read): (i64, i64) = (row.get(11)?, row.get(12)?);
            let failure = row.get::<_, Option<u16>>(9)?.map(Code::from);
            Ok((tick(row.get(8)?, seq, unsigned(delivered), unsigned(read), row.get(13)?), failure))
        })
        .optional()?;
    Ok(row)
}

/// Messages that wait in the outbox, those without a conversation included.
pub(crate) fn waiting(connection: &Connection) -> Result<u64> {
    let count: i64 =
        connection
            .query_row("SELECT COUNT(*) FROM message WHERE state = 1", [], |row| row.get(0))?;
    Ok(unsigned(count))
}
