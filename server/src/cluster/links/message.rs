//! What nodes say to each other.

use tern_protocol::{
    code::Code,
    frame::{Accepted, Ack, Event, Presence, Refused, Send},
    id::{AccountId, ConversationId, DeviceId},
};

use crate::conversation::{Age, News, Snapshot};

/// A command for the owner of a conversation. What each means is said at
/// [`Conversations`](crate::conversation::Conversations).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Appends a message. Answered by [`Response::Append`].
    Append {
        /// Where.
        conversation: ConversationId,
        /// The device that sends.
        device: DeviceId,
        /// Its account.
        account: AccountId,
        /// The other account of the conversation.
        peer: AccountId,
        /// The message.
        send: Send,
    },
    /// Moves a read mark. Answered by [`Response::Read`].
    Read {
        /// Where.
        conversation: ConversationId,
        /// Whose mark.
        account: AccountId,
        /// Everything up to here was read.
        up_to: u64,
    },
    /// Takes a device's ack, held to what it was sent. Answered by [`Response::Done`].
    Ack {
        /// Where.
        conversation: ConversationId,
        /// Whose.
        device: DeviceId,
        /// What it has.
        ack: Ack,
    },
    /// What a downlink starts from. Answered by [`Response::Snapshot`].
    Snapshot {
        /// Where.
        conversation: ConversationId,
        /// For which device.
        device: DeviceId,
    },
    /// The members. Answered by [`Response::Members`].
    Members {
        /// Of which conversation.
        conversation: ConversationId,
    },
    /// Deletes entries for their age. Answered by [`Response::Done`].
    Age {
        /// Where.
        conversation: ConversationId,
        /// Which.
        age: Age,
    },
}

impl Request {
    /// The conversation that it concerns.
    pub fn conversation(&self) -> ConversationId {
        match self {
            Self::Append { conversation, .. }
            | Self::Read { conversation, .. }
            | Self::Ack { conversation, .. }
            | Self::Snapshot { conversation, .. }
            | Self::Members { conversation }
            | Self::Age { conversation, .. } => *conversation,
        }
    }
}

/// What the owner answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Response {
    /// The message is durable, or refused with a code for the device.
    Append(Result<Accepted, Refused>),
    /// Where the mark is now, or why it isn't moved.
    Read(Result<u64, Code>),
    /// It has taken effect.
    Done,
    /// See [`Snapshot`]; `None` if the device has no part in the conversation.
    Snapshot(Option<Snapshot>),
    /// The two accounts; `None` if there is no such conversation.
    Members(Option<[AccountId; 2]>),
}

/// Why a node doesn't do what it is asked. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It doesn't own the conversation, as it sees the cluster.
    NotOwner,
    /// It may not serve at the moment.
    Suspended,
    /// It has too much to do.
    Overloaded,
    /// It is about to stop.
    Stopping,
    /// It doesn't know such a request, or refuses for a reason of a later version.
    Unsupported,
}

/// A request has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AskError {
    /// It never left: the node isn't there, can't be reached, or there was no room in time. It is safe to do it
    /// otherwise.
    NotSent,
    /// It may have been done: the link broke, or no answer came in time.
    Unknown,
    /// The other node says that it hasn't done it.
    Refused(Refusal),
    /// It is larger than a batch may be, and wasn't sent.
    TooLarge,
}

impl std::fmt::Display for AskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotSent => f.write_str("the request wasn't sent"),
            Self::Unknown => f.write_str("the request may have been carried out, or not"),
            Self::Refused(refusal) => write!(f, "the other node refused: {refusal:?}"),
            Self::TooLarge => f.write_str("the request is too large"),
        }
    }
}

impl std::error::Error for AskError {}

/// A hint for another node, one way.
///
/// A device's `epoch` is that of the connection that is meant ([`Welcome`](tern_protocol::frame::Welcome)): what is
/// for an older one is no longer wanted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Note {
    /// News of a conversation for a device that is connected there.
    News {
        /// The device.
        device: DeviceId,
        /// Its connection.
        epoch: u64,
        /// The conversation.
        conversation: ConversationId,
        /// The news.
        news: News,
    },
    /// A device isn't connected here, or no longer by this connection: the route is to be looked up anew.
    NotHere {
        /// The device.
        device: DeviceId,
        /// The connection that was meant.
        epoch: u64,
    },
    /// A device has a newer connection, so the older one is to be closed.
    Replaced {
        /// The device.
        device: DeviceId,
        /// The newer connection; those with a lower epoch are older.
        epoch: u64,
    },
    /// An event for a device that is connected there.
    Event {
        /// The device.
        device: DeviceId,
        /// Its connection.
        epoch: u64,
        /// The event.
        event: Event,
    },
    /// An account or its devices have changed: what is in memory of it is old.
    AccountChanged {
        /// The account.
        account: AccountId,
    },
    /// News of a device may have gone to where it isn't any more: its mailbox is to be looked into.
    Look {
        /// The device.
        device: DeviceId,
        /// Its connection.
        epoch: u64,
    },
    /// This node wants to know of the presence of an account of which the other one keeps account, or doesn't any more.
    Watch {
        /// The account.
        account: AccountId,
        /// Whether it does.
        is_on: bool,
    },
    /// The presence of an account, as far as the connections of this node show it, for the node that keeps account of
    /// it.
    Report(Presence),
    /// Watches and reports of this node begin anew.
    Reset,
    /// The presence of an account of which this node keeps account.
    State(Presence),
}
