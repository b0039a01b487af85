//! The codes with which connections between nodes are closed, as `server/schema/peer.capnp` has them.

use std::fmt;

use quinn::VarInt;

/// Why a connection between nodes is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Code {
    NoError = 0,
    Malformed = 1,
    TooLarge = 2,
    Unexpected = 3,
    Version = 4,
    WrongNode = 5,
    UnknownNode = 6,
    WrongName = 7,
    Timeout = 8,
    Replaced = 9,
    Stopping = 10,
}

impl Code {
    /// As QUIC uses it.
    pub(super) fn var_int(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoError => "no error",
            Self::Malformed => "a batch that breaks the rules",
            Self::TooLarge => "a batch that is too large",
            Self::Unexpected => "a batch or a stream where it doesn't belong",
            Self::Version => "no version that both speak",
            Self::WrongNode => "a hello for another node",
            Self::UnknownNode => "a node that isn't in the store",
            Self::WrongName => "a certificate for another name",
            Self::Timeout => "nothing in time",
            Self::Replaced => "a newer connection of the same node",
            Self::Stopping => "this node stops",
        })
    }
}
