//! Chunks: what the one stream is made of.
//!
//! A chunk is a head of [`HEAD_BYTES`] bytes (kind, stream, value; little endian) and, if it is data, as
//! many bytes as the value says.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of a chunk's head, about what QUIC needs for a stream's frame.
pub const HEAD_BYTES: usize = 7;
/// Data in a chunk at most, in bytes: less than a packet, so that streams take turns packet by packet.
pub const CHUNK_BYTES: usize = 1_000;

/// What the other end sent isn't what this one would: the connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A kind of chunk that doesn't exist.
    Kind(u8),
    /// Data longer than [`CHUNK_BYTES`], or empty without being the end.
    Length,
    /// More streams than [`MAX_STREAMS`](super::MAX_STREAMS) at a time.
    Streams,
    /// More bytes than the stream's window has room for.
    Window,
    /// About a stream that doesn't exist, or of which that was final.
    State,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "there is no chunk of the kind {kind}"),
            Self::Length => f.write_str("a chunk is empty or too long"),
            Self::Streams => f.write_str("too many streams are open"),
            Self::Window => f.write_str("a stream's window is overrun"),
            Self::State => f.write_str("a chunk for a stream that can't have it"),
        }
    }
}

impl std::error::Error for Violation {}

/// One chunk's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Bytes of the stream, and whether they are its last.
    Data(Bytes, bool),
    /// The sender has broken the stream off.
    Reset(u16),
    /// The reader wants no more of it.
    Stop(u16),
    /// The reader has taken so many more bytes.
    Credit(u16),
    /// Who was offered the stream has let go of it, so another may be opened.
    Gone,
}

const DATA: u8 = 0;
const LAST: u8 = 1;
const RESET: u8 = 2;
const STOP: u8 = 3;
const CREDIT: u8 = 4;
const GONE: u8 = 5;

impl Chunk {
    pub(super) fn write(&self, stream: u32, out: &mut BytesMut) {
        let (kind, value, data) = match self {
            // The writer never makes a chunk longer than the limit, which a u16 has room for.
            Self::Data(data, last) => {
                (if *last { LAST } else { DATA }, data.len() as u16, data.as_ref())
            }
            Self::Reset(code) => (RESET, *code, &[][..]),
            Self::Stop(code) => (STOP, *code, &[][..]),
            Self::Credit(bytes) => (CREDIT, *bytes, &[][..]),
            Self::Gone => (GONE, 0, &[][..]),
        };
        out.put_u8(kind);
        out.put_u32_le(stream);
        out.put_u16_le(value);
        out.put_slice(data);
    }

    /// Cuts the next chunk off, if it is there as a whole. A head is judged before the rest is waited for.
    pub(super) fn read(input: &mut BytesMut) -> Result<Option<(u32, Self)>, Violation> {
        let Some(mut head) = input.get(..HEAD_BYTES) else { return Ok(None) };
        let (kind, stream, value) = (head.get_u8(), head.get_u32_le(), head.get_u16_le());
        let length = usize::from(value);
        let is_data = matches!(kind, DATA | LAST);
        if is_data && (length > CHUNK_BYTES || (length == 0 && kind == DATA)) {
            return Err(Violation::Length);
        }
        if is_data && input.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        input.advance(HEAD_BYTES);
        let chunk = match kind {
            DATA | LAST => Self::Data(input.split_to(length).freeze(), kind == LAST),
            RESET => Self::Reset(value),
            STOP => Self::Stop(value),
            CREDIT => Self::Credit(value),
            GONE => Self::Gone,
            kind => return Err(Violation::Kind(kind)),
        };
        Ok(Some((stream, chunk)))
    }
}
