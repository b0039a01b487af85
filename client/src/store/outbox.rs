//! Messages on their way up.
//!
//! The order of steps that makes a send safe at any death of the process: a message is stored before
//! anybody is told of it ([`enqueue`]); its counter is stored before it is sent ([`take`]), so that
//! the repeat after a restart is recognised as one; the answer is stored ([`answered`]) before
//! `settled` covers it, so that the server doesn't forget an answer that this device needs.

use rusqlite::{Connection, OptionalExtension, params};
use tern_protocol::{
    code::Code,
    frame::Envelope,
    id::{AccountId, ConversationId, DeviceId},
    uplink::Conflict,
};

use super::{Result, bits_id, conversations, id_bits, number, unsigned};

/// Names a message on this device. Grows in the order in which messages were stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LocalId(pub(crate) i64);

impl LocalId {
    /// The number, for logs and bindings.
    pub fn get(self) -> i64 {
        self.0
    }
}

/// State of a message's row.
pub(super) const RECEIVED: i64 = 0;
pub(super) const WAITING: i64 = 1;
pub(super) const ACCEPTED: i64 = 2;
pub(super) const FAILED: i64 = 3;

/// To whom a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// An account that is known.
    Account(AccountId, ConversationId),
    /// A name that has yet to be looked up.
    Name(String),
}

/// A message that is to be stored for sending.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) target: Target,
    pub(crate) message_id: u64,
    pub(crate) account: AccountId,
    pub(crate) device: DeviceId,
    pub(crate) time_ms: u64,
    pub(crate) envelope: Envelope,
}

/// Stores a message for sending.
pub(crate) fn enqueue(connection: &Connection, message: &Outgoing) -> Result<LocalId> {
    let (conversation, name) = match &message.target {
        Target::Account(peer, conversation) => {
            conversations::ensure(connection, *conversation, *peer)?;
            (Some(conversation.as_bytes()), None)
        }
        Target::Name(name) => (None, Some(name)),
    };
    connection
        .prepare_cached(
            "INSERT INTO message (conversation, to_name, message_id, account, device, time_ms,
                                  envelope, state)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            conversation,
            name,
            id_bits(message.message_id),
            id_bits(message.account.get()),
            id_bits(message.device.get()),
            number(message.time_ms),
            &message.envelope.0[..],
            WAITING,
        ])?;
    Ok(LocalId(connection.last_insert_rowid()))
}

/// Names to which messages wait that have yet to be looked up.
pub(crate) fn names_to_look_up(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT to_name FROM message WHERE state = 1 AND conversation IS NULL",
    )?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Gives the messages to a name their conversation.
pub(crate) fn name_found(
    connection: &Connection,
    name: &str,
    peer: AccountId,
    conversation: ConversationId,
) -> Result<()> {
    conversations::remember_account(connection, peer, name)?;
    conversations::ensure(connection, conversation, peer)?;
    connection
        .prepare_cached(
            "UPDATE message SET conversation = ?, to_name = NULL WHERE to_name = ? AND state = ?",
        )?
        .execute(params![conversation.as_bytes(), name, WAITING])?;
    Ok(())
}

/// Marks the messages to a name that nobody has as failed.
pub(crate) fn name_not_found(
    connection: &Connection,
    name: &str,
    code: Code,
) -> Result<Vec<LocalId>> {
    let mut statement = connection.prepare_cached(
        "UPDATE message SET state = ?, failure = ? WHERE to_name = ? AND state = ? RETURNING id",
    )?;
    let rows = statement
        .query_map(params![FAILED, code.value(), name, WAITING], |row| row.get(0).map(LocalId))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A message that has its counter and may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) local: LocalId,
    pub(crate) counter: u64,
    pub(crate) message_id: u64,
    pub(crate) envelope: Envelope,
}

/// What a conversation has to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The answers to all counters up to here are stored.
    pub(crate) settled: u64,
    /// In the order of their counters, without holes from `settled` + 1.
    pub(crate) messages: Vec<Numbered>,
}

/// The order in which messages go up, as the index has it.
const ORDER: &str = "ORDER BY COALESCE(counter, 9223372036854775807), id";

/// The first `limit` waiting messages behind the counter `behind`, after giving counters to those that
/// have none.
pub(crate) fn take(
    connection: &Connection,
    id: ConversationId,
    behind: u64,
    limit: usize,
) -> Result<Taken> {
    let mut next = next_counter(connection, id)?;
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, counter, message_id, envelope FROM message
         WHERE conversation = ? AND state = 1
           AND COALESCE(counter, 9223372036854775807) > ? {ORDER} LIMIT ?"
    ))?;
    let mut rows = statement.query(params![id.as_bytes(), number(behind), number(limit as u64)])?;
    let mut messages = Vec::new();
    let mut given = Vec::new();
    while let Some(row) = rows.next()? {
        let local = LocalId(row.get(0)?);
        let counter = match row.get::<_, Option<i64>>(1)? {
            Some(counter) => unsigned(counter),
            None => {
                given.push((local, next));
                next += 1;
                next - 1
            }
        };
        messages.push(Numbered {
            local,
            counter,
            message_id: bits_id(row.get(2)?),
            envelope: Envelope(row.get::<_, Vec<u8>>(3)?.into()),
        });
    }
    for (local, counter) in &given {
        set_counter(connection, *local, *counter)?;
    }
    if !given.is_empty() {
        set_next_counter(connection, id, next)?;
    }
    Ok(Taken { settled: settled(connection, id)?, messages })
}

/// An answer to a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted {
        local: LocalId,
        seq: u64,
        time_ms: u64,
    },
    /// Refused for good: the message failed, and its counter goes to the next one.
    Failed {
        local: LocalId,
        code: Code,
    },
}

/// Stores answers; the result is what `settled` is then.
pub(crate) fn answered(
    connection: &Connection,
    id: ConversationId,
    answers: &[Answer],
) -> Result<u64> {
    for answer in answers {
        match *answer {
            Answer::Accepted { local, seq, time_ms } => {
                // Nothing happens on the repeat of an answer.
                connection
                    .prepare_cached(
                        "UPDATE message SET state = ?, seq = ?, time_ms = ?
                         WHERE id = ? AND state = ?",
                    )?
                    .execute(params![ACCEPTED, number(seq), number(time_ms), local.0, WAITING])?;
            }
            Answer::Failed { local, code } => fail(connection, id, local, code)?,
        }
    }
    settled(connection, id)
}

fn fail(connection: &Connection, id: ConversationId, local: LocalId, code: Code) -> Result<()> {
    let counter: Option<Option<i64>> = connection
        .prepare_cached("SELECT counter FROM message WHERE id = ? AND state = ?")?
        .query_row(params![local.0, WAITING], |row| row.get(0))
        .optional()?;
    let Some(counter) = counter else {
        return Ok(());
    };
    connection
        .prepare_cached("UPDATE message SET state = ?, failure = ?, counter = NULL WHERE id = ?")?
        .execute(params![FAILED, code.value(), local.0])?;
    let Some(counter) = counter else {
        return Ok(());
    };
    connection
        .prepare_cached(
            "UPDATE message SET counter = counter - 1
             WHERE conversation = ? AND state = 1 AND counter > ?",
        )?
        .execute(params![id.as_bytes(), counter])?;
    connection
        .prepare_cached("UPDATE conversation SET next_counter = next_counter - 1 WHERE id = ?")?
        .execute([id.as_bytes()])?;
    Ok(())
}

/// Numbers the waiting messages anew behind the last counter that the server accepted, if this device's memory is
/// older than the server's, [TERN-6.1-5]. It isn't if it knows more than the refused send said: then another uplink
/// has stored answers or moved counters since the send was made. Nothing changes then, and the result is `false`: the
/// uplink has to begin anew from what is stored.
pub(crate) fn renumber(
    connection: &Connection,
    id: ConversationId,
    local: LocalId,
    conflict: &Conflict,
) -> Result<bool> {
    let waits_as: Option<Option<i64>> = connection
        .prepare_cached("SELECT counter FROM message WHERE id = ? AND state = ?")?
        .query_row(params![local.0, WAITING], |row| row.get(0))
        .optional()?;
    let waits_as = waits_as.flatten().map(unsigned);
    let Conflict { refused, last } = conflict;
    if waits_as != Some(refused.counter) || settled(connection, id)? != refused.settled {
        return Ok(false);
    }
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id FROM message WHERE conversation = ? AND state = 1 AND counter IS NOT NULL {ORDER}"
    ))?;
    let locals = statement
        .query_map([id.as_bytes()], |row| row.get(0).map(LocalId))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut next = last + 1;
    for local in locals {
        set_counter(connection, local, next)?;
        next += 1;
    }
    set_next_counter(connection, id, next)?;
    Ok(true)
}

fn next_counter(connection: &Connection, id: ConversationId) -> Result<u64> {
    let next: Option<i64> = connection
        .prepare_cached("SELECT next_counter FROM conversation WHERE id = ?")?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()?;
    next.map(unsigned).ok_or(super::StoreError::UnknownConversation)
}

fn set_next_counter(connection: &Connection, id: ConversationId, next: u64) -> Result<()> {
    connection
        .prepare_cached("UPDATE conversation SET next_counter = ? WHERE id = ?")?
        .execute(params![number(next), id.as_bytes()])?;
    Ok(())
}

fn set_counter(connection: &Connection, local: LocalId, counter: u64) -> Result<()> {
    connection
        .prepare_cached("UPDATE message SET counter = ? WHERE id = ?")?
        .execute(params![number(counter), local.0])?;
    Ok(())
}

/// The answers to all counters up to here are stored: no waiting message has one of them.
fn settled(connection: &Connection, id: ConversationId) -> Result<u64> {
    let lowest: Option<i64> = connection
        .prepare_cached(&format!(
            "SELECT counter FROM message WHERE conversation = ? AND state = 1 {ORDER} LIMIT 1"
        ))?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()?
        .flatten();
    let lowest = match lowest {
        Some(lowest) => unsigned(lowest),
        None => next_counter(connection, id)?,
    };
    Ok(lowest.saturating_sub(1))
}

/// Marks every waiting message of a conversation as failed: the server has no such conversation.
pub(crate) fn fail_all(
    connection: &Connection,
    id: ConversationId,
    code: Code,
) -> Result<Vec<LocalId>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id FROM message WHERE conversation = ? AND state = 1 {ORDER}"
    ))?;
    let locals = statement
        .query_map([id.as_bytes()], |row| row.get(0).map(LocalId))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    // From the last to the first, so that no counter has to move.
    for &local in locals.iter().rev() {
        fail(connection, id, local, code)?;
    }
    Ok(locals)
}

/// Whether anything waits to go up in a conversation.
pub(crate) fn has_something_to_say(connection: &Connection, id: ConversationId) -> Result<bool> {
    Ok(connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM message WHERE conversation = ?1 AND state = 1)
                 OR EXISTS (SELECT 1 FROM conversation WHERE id = ?1 AND read_wanted > read_known)",
        )?
        .query_row([id.as_bytes()], |row| row.get(0))?)
}
