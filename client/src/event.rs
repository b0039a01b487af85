//! What a client tells its application.

use tern_protocol::{
    code::Code,
    frame::{Mailbox, PresenceState},
    id::{AccountId, ConversationId},
};

use crate::{
    error::ConnectError,
    store::{history::StoredMessage, outbox::LocalId},
};

/// Something that happened.
///
/// Messages come until they are confirmed with [`Client::confirm`](crate::Client::confirm). All
/// other events are news about a state that can be read at any time; where an application doesn't keep up,
/// some are left out and [`ClientEvent::Lagged`] says so.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The connection came, went, or ended for good.
    Connection(ConnectionState),
    /// A message from somebody else, or from another device of this account.
    Message(Box<StoredMessage>),
    /// A message of this device is durable on the server: the sent tick.
    Sent {
        /// The message.
        local: LocalId,
        /// Where.
        conversation: ConversationId,
        /// Its place there.
        seq: u64,
        /// When, milliseconds since the epoch.
        time_ms: u64,
    },
    /// A message of this device was refused for good.
    Failed {
        /// The message.
        local: LocalId,
        /// Why.
        code: Code,
    },
    /// What a member of a conversation has: delivered and read ticks, failed spans.
    Receipt {
        /// Where.
        conversation: ConversationId,
        /// Whose.
        account: AccountId,
        /// Stored by a device of the account up to here.
        delivered: u64,
        /// Read by the user up to here.
        read: u64,
    },
    /// The presence of a watched account.
    Presence {
        /// Whose.
        account: AccountId,
        /// What it is now.
        state: PresenceState,
        /// When the account was last online, milliseconds since the epoch; 0: not known.
        last_seen_ms: u64,
    },
    /// Somebody is typing, or stopped. Holds for six seconds unless repeated.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        account: AccountId,
        /// Started, or stopped.
        active: bool,
    },
    /// How much waits at the server for this device: at each connection's start.
    MailboxProgress(Mailbox),
    /// Everything that waited at the connection's start has been stored.
    CaughtUp(Mailbox),
    /// A device of this account was added or removed.
    DevicesChanged,
    /// The server has deleted messages that this device never got: its history has a hole.
    Gap {
        /// Where.
        conversation: ConversationId,
    },
    /// Events other than messages were left out: read again what matters.
    Lagged,
}

/// The state of the connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectionState {
    /// An attempt has begun.
    Connecting,
    /// Signed in.
    Connected,
    /// Not connected; the next attempt is made in so many milliseconds.
    Waiting {
        /// When, from now.
        retry_in_ms: u64,
        /// What went wrong.
        error: ConnectError,
    },
    /// Not connected, and no further attempt is made: it would end the same.
    Stopped {
        /// What went wrong.
        error: ConnectError,
    },
}
