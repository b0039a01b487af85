//! Batches to bytes and back. What each means is said in `server/schema/peer.capnp`.

mod decode;
mod encode;

use std::fmt;

use tern_protocol::codec::DecodeError as FrameError;

pub(super) use self::{decode::decode, encode::encode_into};
use super::{Code, Note, Refusal, Request, Response};
use crate::{cluster::NodeId, peer_capnp as wire};

/// Longest batch, framing included, in bytes.
pub(super) const BATCH_BYTES: usize = 1_048_576;
/// Longest first batch of a control stream, in bytes.
pub(super) const HELLO_BYTES: usize = 4_096;
/// Items of a batch.
pub(super) const ITEMS: usize = 4_096;
/// Longest name of a node, in bytes.
const NAME_BYTES: usize = 253;
/// Spans in a request that deletes for age.
const SENT: usize = 16_384;
/// Receipts in a snapshot.
const RECEIPTS: usize = 256;
/// Levels of pointers inside a batch.
const NESTING: i32 = 8;

/// One message of a stream.
#[derive(Debug)]
pub(super) enum Batch {
    Hello(Hello),
    /// With the version of the connection.
    Welcome(u16),
    /// `None` stands for a request of a later version.
    Requests(Vec<(u64, Option<Request>)>),
    Answers(Vec<(u64, Reached)>),
    Notes(Vec<Heard>),
}

/// The first words of who opens a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) version: u16,
    pub(super) node: NodeId,
    pub(super) name: String,
    pub(super) to: NodeId,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reached {
    Response(Response),
    Refused(Refusal),
    Unknown,
}

/// An item of a batch of notes. Those of later versions aren't in it.
#[derive(Debug, Clone)]
pub(super) enum Heard {
    Resync,
    Note(Note),
}

/// Why bytes aren't a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DecodeError {
    /// They break a rule; the text says which.
    Malformed(&'static str),
    /// There are more of them than allowed.
    TooLarge,
}

impl DecodeError {
    /// The code with which the connection is closed.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::Malformed,
            Self::TooLarge => Code::TooLarge,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "malformed batch: {why}"),
            Self::TooLarge => f.write_str("a batch that is too large"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<capnp::Error> for DecodeError {
    fn from(_: capnp::Error) -> Self {
        Self::Malformed("not a valid Cap'n Proto message")
    }
}

impl From<FrameError> for DecodeError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLarge { .. } => Self::TooLarge,
            FrameError::Malformed(why) => Self::Malformed(why),
            _ => Self::Malformed("not one segment"),
        }
    }
}

/// About how many bytes a request takes in a batch, and never fewer by more than a constant; `None` if it can't be
/// sent.
pub(super) fn weight_of_request(request: &Request) -> Option<usize> {
    let (bytes, is_allowed) = match request {
        Request::Append { send, .. } => {
            let bytes = send.envelope.0.len();
            (bytes, bytes <= tern_protocol::limits::ENVELOPE_BYTES)
        }
        Request::Age { age, .. } => (age.sent.len() * 24, age.sent.len() <= SENT),
        _ => (0, true),
    };
    is_allowed.then_some(bytes + 128)
}

/// The same for an answer.
pub(super) fn weight_of_answer(answer: &Reached) -> usize {
    match answer {
        Reached::Response(Response::Snapshot(Some(snapshot))) => {
            192 + snapshot.receipts.iter().map(weight_of_receipt).sum::<usize>()
        }
        _ => 96,
    }
}

/// The same for a note.
pub(super) fn weight_of_note(note: &Note) -> usize {
    use crate::conversation::News;
    match note {
        Note::News { news: News::Message { appended, .. }, .. } => {
            160 + appended.message.envelope.len()
        }
        Note::News { news: News::Receipt(receipt), .. } => 96 + weight_of_receipt(receipt),
        _ => 96,
    }
}

fn weight_of_receipt(receipt: &tern_protocol::frame::Receipt) -> usize {
    64 + receipt.expired.len() * 16
}
