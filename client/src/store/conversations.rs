//! Conversations, and the accounts in them.

use rusqlite::{Connection, OptionalExtension, Row, params};
use tern_protocol::id::{AccountId, ConversationId};

use super::{Result, StoreError, bits_id, id_bits, number, unsigned};

/// A conversation as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// The other account.
    pub peer: AccountId,
    /// The other account's name.
    pub peer_name: String,
    /// The highest sequence number that is known here, received or sent.
    pub last_seq: u64,
    /// Everything up to here was received and stored.
    pub position: u64,
    /// The user has read everything up to here.
    pub read: u64,
    /// Messages of others that the user hasn't read.
    pub unread: u64,
    /// Messages that wait to be accepted.
    pub waiting: u64,
}

/// Remembers an account's name.
pub(crate) fn remember_account(
    connection: &Connection,
    account: AccountId,
    name: &str,
) -> Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO account (account, name) VALUES (?, ?)")?
        .execute(params![id_bits(account.get()), name])?;
    Ok(())
}

/// The account of a name, if this device has met it.
pub(crate) fn account_of(connection: &Connection, name: &str) -> Result<Option<AccountId>> {
    let account: Option<i64> = connection
        .prepare_cached("SELECT account FROM account WHERE name = ?")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(account.and_then(|account| AccountId::new(bits_id(account))))
}

/// The name of an account, if this device has met it.
pub(crate) fn name_of(connection: &Connection, account: AccountId) -> Result<Option<String>> {
    Ok(connection
        .prepare_cached("SELECT name FROM account WHERE account = ?")?
        .query_row([id_bits(account.get())], |row| row.get(0))
        .optional()?)
}

/// Makes a conversation known, if it isn't.
pub(crate) fn ensure(connection: &Connection, id: ConversationId, peer: AccountId) -> Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO conversation (id, peer) VALUES (?, ?)")?
        .execute(params![id.as_bytes(), id_bits(peer.get())])?;
    Ok(())
}

/// The other account of a conversation.
pub(crate) fn peer(connection: &Connection, id: ConversationId) -> Result<AccountId> {
    let peer: Option<i64> = connection
        .prepare_cached("SELECT peer FROM conversation WHERE id = ?")?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()?;
    peer.and_then(|peer| AccountId::new(bits_id(peer))).ok_or(StoreError::UnknownConversation)
}

/// Every conversation, the one with the newest message first.
pub(crate) fn list(connection: &Connection) -> Result<Vec<Conversation>> {
    let mut statement = connection.prepare_cached(
        "SELECT c.id, c.peer, COALESCE(a.name, ''),
                COALESCE((SELECT MAX(seq) FROM message m WHERE m.conversation = c.id
                          AND seq IS NOT NULL), 0) AS last_seq,
                COALESCE(c.position, 0),
                MAX(c.read_wanted, c.read_known),
                (SELECT COUNT(*) FROM message m WHERE m.conversation = c.id AND m.state = 0
                   AND m.account = c.peer AND m.seq > MAX(c.read_wanted, c.read_known)),
                (SELECT COUNT(*) FROM message m WHERE m.conversation = c.id AND m.state = 1)
         FROM conversation c LEFT JOIN account a ON a.account = c.peer
         ORDER BY (SELECT m.id FROM message m WHERE m.conversation = c.id AND m.seq IS NOT NULL
                   ORDER BY m.seq DESC LIMIT 1) DESC",
    )?;
    let rows = statement.query_map([], |row| {
        Ok((conversation_id(row, 0)?, row.get::<_, i64>(1)?, row.get(2)?, numbers(row)?))
    })?;
    let mut all = Vec::new();
    for row in rows {
        let (id, peer, peer_name, [last_seq, position, read, unread, waiting]) = row?;
        if let Some(peer) = AccountId::new(bits_id(peer)) {
            let last_seq = last_seq.max(position);
            all.push(Conversation {
                id,
                peer,
                peer_name,
                last_seq,
                position,
                read,
                unread,
                waiting,
            });
        }
    }
    Ok(all)
}

fn numbers(row: &Row<'_>) -> rusqlite::Result<[u64; 5]> {
    let mut numbers = [0; 5];
    for (index, number) in (3..).zip(&mut numbers) {
        *number = unsigned(row.get(index)?);
    }
    Ok(numbers)
}

/// A conversation id in a row.
pub(super) fn conversation_id(row: &Row<'_>, index: usize) -> rusqlite::Result<ConversationId> {
    Ok(ConversationId::new(row.get(index)?))
}

/// Notes that the user has read everything up to `up_to`, no further than the store knows the
/// conversation to reach. Answers whether the server has to be told.
pub(crate) fn want_read(connection: &Connection, id: ConversationId, up_to: u64) -> Result<bool> {
    connection
        .prepare_cached(
            "UPDATE conversation SET read_wanted = MAX(read_wanted, MIN(?2, MAX(
                COALESCE(position, 0),
                COALESCE((SELECT MAX(seq) FROM message WHERE conversation = ?1
                          AND seq IS NOT NULL), 0))))
             WHERE id = ?1",
        )?
        .execute(params![id.as_bytes(), number(up_to)])?;
    Ok(read_to_tell(connection, id)?.is_some())
}

/// The read mark that the server has to be told.
pub(crate) fn read_to_tell(connection: &Connection, id: ConversationId) -> Result<Option<u64>> {
    let wanted: Option<i64> = connection
        .prepare_cached(
            "SELECT read_wanted FROM conversation WHERE id = ? AND read_wanted > read_known",
        )?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(wanted.map(unsigned))
}

/// Notes the read mark that the server has.
pub(crate) fn read_known(connection: &Connection, id: ConversationId, up_to: u64) -> Result<()> {
    connection
        .prepare_cached("UPDATE conversation SET read_known = MAX(read_known, ?) WHERE id = ?")?
        .execute(params![number(up_to), id.as_bytes()])?;
    Ok(())
}

/// The conversations in which something waits to go up: messages or a read mark.
pub(crate) fn with_something_to_say(connection: &Connection) -> Result<Vec<ConversationId>> {
    let mut statement = connection.prepare_cached(
        "SELECT conversation FROM message WHERE state = 1 AND conversation IS NOT NULL
         UNION SELECT id FROM conversation WHERE read_wanted > read_known",
    )?;
    let rows = statement.query_map([], |row| conversation_id(row, 0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
