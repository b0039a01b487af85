//! The values of the store: `postcard` behind a version byte, so that a later server can tell an old
//! record from a new one.

use std::{collections::VecDeque, fmt, net::SocketAddr};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tern_protocol::{
    frame::{Accepted, Span},
    id::{AccountId, DeviceId},
    receipts::MemberReceipt,
    uplink::{Answer, Answers},
};

use crate::cluster::NodeId;

/// The version that this server writes.
const VERSION: u8 = 1;

/// A stored value can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    what: &'static str,
}

impl RecordError {
    /// A record of this kind has impossible values.
    pub fn of<R: Record>() -> Self {
        Self { what: R::WHAT }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a stored {} can't be read: damaged, or written by a newer server", self.what)
    }
}

impl std::error::Error for RecordError {}

/// A value of the store.
pub trait Record: Serialize + DeserializeOwned {
    /// What it is, for errors.
    const WHAT: &'static str;

    /// Its bytes.
    fn to_bytes(&self) -> Bytes {
        // Serialising plain data into a vector has no way to fail; an empty value would be refused
        // by `from_bytes`, not misread.
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default().into()
    }

    /// Reads it.
    fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let error = RecordError { what: Self::WHAT };
        match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| error),
            _ => Err(error),
        }
    }
}

macro_rules! record {
    ($name:ident, $what:literal) => {
        impl Record for $name {
            const WHAT: &'static str = $what;
        }
    };
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_ms: u64,
}
record!(AccountRecord, "account");

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Whose it is.
    pub account: u64,
    /// Its Ed25519 public key.
    pub key: [u8; 32],
    /// As its owner knows it.
    pub label: String,
    /// When it was registered.
    pub created_ms: u64,
}
record!(DeviceRecord, "device");

/// A link token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// The account that a device may join with it.
    pub account: u64,
    /// Until when.
    pub expires_ms: u64,
}
record!(LinkRecord, "link");

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRecord {
    /// The two accounts, the smaller id first.
    pub members: [u64; 2],
    /// The last sequence number.
    pub head: u64,
    /// Everything up to here is deleted.
    pub low: u64,
    /// When the last entry was accepted.
    pub last_ms: u64,
    /// The device that sent the last entry, and without a break everything from `run_start` on.
    pub last_device: u64,
    /// See `last_device`.
    pub run_start: u64,
    /// The last receipt revision.
    pub revision: u64,
    /// The last bucket of the expiry index in which the conversation is entered.
    pub bucket: u64,
    /// How often anything of the conversation was written. It makes each writing visible to whoever wrote before.
    pub writes: u64,
}
record!(MetaRecord, "conversation");

/// What a device has of a conversation, and what it has sent there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorRecord {
    /// Whose device it is.
    pub account: u64,
    /// Entries acknowledged up to here.
    pub seq: u64,
    /// Receipts acknowledged up to here.
    pub revision: u64,
    /// Whether its mailbox has a mark for the conversation.
    pub marked: bool,
    /// Entries up to here were deleted for their age while the device hadn't acknowledged them.
    pub expired_to: u64,
    /// The last accepted counter.
    pub counter: u64,
    /// The highest `settled` that the device has said.
    pub settled: u64,
    /// Answers that it may ask for again: counter, message id, seq, time.
    pub answers: Vec<(u64, u64, u64, u64)>,
}
record!(CursorRecord, "cursor");

impl CursorRecord {
    /// The memory of answers in it.
    pub fn answers(&self) -> Answers {
        let answer = |&(counter, message_id, seq, time_ms): &(u64, u64, u64, u64)| Answer {
            message_id,
            accepted: Accepted { counter, seq, time_ms },
        };
        Answers::restore(self.counter, self.settled, self.answers.iter().map(answer))
    }

    /// Stores a memory of answers in it.
    pub fn set_answers(&mut self, answers: &Answers) {
        self.counter = answers.last();
        self.settled = answers.settled();
        self.answers = answers
            .kept()
            .map(|a| (a.accepted.counter, a.message_id, a.accepted.seq, a.accepted.time_ms))
            .collect();
    }
}

/// The receipts of an account in a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Delivered up to here.
    pub delivered: u64,
    /// Read up to here.
    pub read: u64,
    /// Deleted undelivered.
    pub expired: VecDeque<(u64, u64)>,
    /// The revision of the last change.
    pub revision: u64,
    /// The revision of the last change that the account's own devices are told.
    pub own_revision: u64,
}
record!(MemberRecord, "receipt");

impl MemberRecord {
    /// The receipts in it.
    pub fn receipt(&self) -> MemberReceipt {
        let spans = self.expired.iter().map(|&(first, last)| Span { first, last }).collect();
        MemberReceipt::restore(self.delivered, self.read, spans)
    }
}

/// Where a device is connected, or was last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRecord {
    /// The node; `None` since the connection has ended.
    pub node: Option<NodeId>,
    /// The connection's epoch. It never goes back, so the record outlives the connection.
    pub epoch: u64,
}
record!(RouteRecord, "route");

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name, which its certificate holds.
    pub name: String,
    /// Where other nodes reach it.
    pub peer_address: SocketAddr,
    /// Where clients reach it, `HOST:PORT`; empty: not said.
    pub client_address: String,
    /// When it started, by its own clock.
    pub started_ms: u64,
    /// Grows each time that the record is written. Nobody compares clocks: a record that doesn't change is
    /// that of a node that is gone.
    pub beat: u64,
    /// Whether it is about to stop.
    pub draining: bool,
    /// The version of its software.
    pub software: String,
    /// The highest version of the protocol between nodes that it speaks.
    pub peer_version: u16,
}
record!(NodeRecord, "node");

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRecord {
    /// Who sent it.
    pub account: AccountId,
    /// From which device.
    pub device: DeviceId,
    /// The sender's id for it.
    pub message_id: u64,
    /// When it was accepted.
    pub time_ms: u64,
    /// What was said.
    pub envelope: Bytes,
}

/// Bytes of a message record before the envelope.
const MESSAGE_HEAD: usize = 33;

impl MessageRecord {
    /// Its bytes: version, four numbers of eight bytes, the envelope. By hand, so that reading it
    /// doesn't copy the envelope.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(MESSAGE_HEAD + self.envelope.len());
        bytes.push(VERSION);
        for number in [self.account.get(), self.device.get(), self.message_id, self.time_ms] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.envelope);
        bytes.into()
    }

    /// Reads it; the envelope is a slice of `bytes`.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, RecordError> {
        const ERROR: RecordError = RecordError { what: "message" };
        if bytes.first() != Some(&VERSION) || bytes.len() < MESSAGE_HEAD {
            return Err(ERROR);
        }
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(number)
        };
        Ok(Self {
            account: AccountId::new(number(1)).ok_or(ERROR)?,
            device: DeviceId::new(number(9)).ok_or(ERROR)?,
            message_id: number(17),
            time_ms: number(25),
            envelope: bytes.slice(MESSAGE_HEAD..),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back_and_damage_is_an_error() {
        let record = MetaRecord {
            members: [1, u64::MAX],
            head: 300,
            low: 2,
            last_ms: 3,
            last_device: 4,
            run_start: 5,
            revision: 6,
            bucket: 7,
            writes: 8,
        };
        let bytes = record.to_bytes();
        assert_eq!(MetaRecord::from_bytes(&bytes), Ok(record));
        assert!(MetaRecord::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(MetaRecord::from_bytes(&[]).is_err());
        assert!(MetaRecord::from_bytes(&[9, 0, 0]).is_err());
    }

    #[test]
    fn a_message_is_read_without_a_copy() {
        let message = MessageRecord {
            account: AccountId::new(1).unwrap(),
            device: DeviceId::new(2).unwrap(),
            message_id: 3,
            time_ms: 4,
            envelope: Bytes::from_static(b"Hi"),
        };
        let bytes = message.to_bytes();
        let read = MessageRecord::from_bytes(&bytes).unwrap();
        assert_eq!(read, message);
        assert_eq!(read.envelope.as_ptr(), bytes[33..].as_ptr());
        assert!(MessageRecord::from_bytes(&bytes.slice(..32)).is_err());
    }
}
