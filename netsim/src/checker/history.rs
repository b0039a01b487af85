//! What is recorded of a run: who takes part, and what happened, in one order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tern_protocol::id::{AccountId, ConversationId, DeviceId};

/// A run as the checker sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Every device and its account.
    pub devices: BTreeMap<DeviceId, AccountId>,
    /// Every conversation and its members.
    pub conversations: BTreeMap<ConversationId, BTreeSet<AccountId>>,
    /// What happened. If one event can have caused another, it stands before it.
    pub records: Vec<Record>,
}

/// Something that happened at a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where.
    #[serde(with = "as_text")]
    pub device: DeviceId,
    /// What.
    pub event: Event,
}

/// What can happen. A message is known by its text, which whoever writes the load makes unique in the
/// whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The application has started, or started again after it ended or was killed.
    Started,
    /// The application is about to send a message: from here on it may arrive.
    Submitted {
        /// Where.
        #[serde(with = "as_text")]
        conversation: ConversationId,
        /// The message.
        text: String,
    },
    /// The client has promised that the message survives: it must arrive in the end.
    Enqueued {
        /// The message.
        text: String,
    },
    /// The sender was told that its message is durable on the server.
    Accepted {
        /// Where.
        #[serde(with = "as_text")]
        conversation: ConversationId,
        /// Its place there.
        seq: u64,
        /// The message.
        text: String,
    },
    /// The sender was told that its message will never arrive.
    Failed {
        /// The message.
        text: String,
    },
    /// The application was given a message.
    Given(Entry),
    /// The application has confirmed what it was given: it must not be given it again.
    Confirmed {
        /// Where.
        #[serde(with = "as_text")]
        conversation: ConversationId,
        /// Its place there.
        seq: u64,
    },
    /// The application is about to say that its user has read everything up to here.
    Marked {
        /// Where.
        #[serde(with = "as_text")]
        conversation: ConversationId,
        /// Up to where.
        up_to: u64,
    },
    /// The application was told what an account has.
    Receipt {
        /// Where.
        #[serde(with = "as_text")]
        conversation: ConversationId,
        /// Whose.
        #[serde(with = "as_text")]
        account: AccountId,
        /// Stored by a device of the account up to here.
        delivered: u64,
        /// Read by the user up to here.
        read: u64,
    },
    /// The device's store holds, or was told to skip, everything up to here and nothing behind it.
    /// Recorded while nothing can arrive, as after a start and before the connection.
    Held {
        /// Where.
        #[serde(with = "as_text")]
        conversation: ConversationId,
        /// Up to where.
        up_to: u64,
    },
    /// A message with a place in the device's store at the end of the run; if there is one, all are
    /// recorded, those that the device sent included.
    Stored(Entry),
    /// The client said that the server had deleted messages before the device fetched them.
    Gap {
        /// Where.
        #[serde(with = "as_text")]
        conversation: ConversationId,
    },
    /// The device takes part in a conversation from behind this place on. Without it: from its beginning.
    Joined {
        /// Where.
        #[serde(with = "as_text")]
        conversation: ConversationId,
        /// The last place that is not for the device.
        behind: u64,
    },
    /// The device was removed from its account: nothing is owed to it any more.
    Removed,
}

/// A message as a device has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where.
    #[serde(with = "as_text")]
    pub conversation: ConversationId,
    /// Its place there.
    pub seq: u64,
    /// The account that is said to have sent it.
    #[serde(with = "as_text")]
    pub account: AccountId,
    /// The device that is said to have sent it.
    #[serde(with = "as_text")]
    pub device: DeviceId,
    /// The id that all devices know it by.
    pub message_id: u64,
    /// What it says.
    pub text: String,
}

/// Identifiers as texts.
mod as_text {
    use super::{Deserialize, Deserializer, Display, FromStr, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
