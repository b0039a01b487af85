//! One group commit as bytes in the log.
//!
//! ```text
//! magic u32 | payload length u32 | commit number u64 | checksum u32 | payload
//! ```
//!
//! Integers are little-endian. The payload is a list of mutations: a tag byte, then each
//! field as a length (u32) and its bytes. The checksum (CRC-32) covers the store's salt, the
//! file's number, the length, the commit number and the payload. The salt is random and stays on the
//! server, so that a client can't hide something in a message that passes for a frame.

use bytes::Bytes;

use crate::store::Mutation;

const MAGIC: [u8; 4] = *b"TLF1";
/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 20;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_RANGE: u8 = 3;

/// What a log file's checksums are mixed with: random for the store, and another for each
/// file, because a file is used again without being cleared and what it held before must not
/// be taken for its new content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seal {
    pub(super) salt: u64,
    pub(super) segment: u64,
}

/// A frame being built: the header is filled in by [`Builder::finish`].
pub(super) struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; HEADER_BYTES] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_BYTES
    }

    /// Bytes of the whole frame.
    pub(super) fn length(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn clear(&mut self) {
        self.bytes.truncate(HEADER_BYTES);
        // One huge transaction shouldn't hold its memory for ever.
        self.bytes.shrink_to(4 << 20);
    }

    pub(super) fn push(&mut self, mutation: &Mutation) {
        match mutation {
            Mutation::Put(key, value) => {
                self.bytes.push(PUT);
                self.field(key);
                self.field(value);
            }
            Mutation::Delete(key) => {
                self.bytes.push(DELETE);
                self.field(key);
            }
            Mutation::DeleteRange(from, to) => {
                self.bytes.push(DELETE_RANGE);
                self.field(from);
                self.field(to);
            }
        }
    }

    fn field(&mut self, field: &[u8]) {
        self.bytes.extend_from_slice(&length(field).to_le_bytes());
        self.bytes.extend_from_slice(field);
    }

    /// The whole frame, for one write.
    pub(super) fn finish(&mut self, seal: Seal, number: u64) -> &[u8] {
        let payload = length(&self.bytes[HEADER_BYTES..]);
        self.bytes[..4].copy_from_slice(&MAGIC);
        self.bytes[4..8].copy_from_slice(&payload.to_le_bytes());
        self.bytes[8..16].copy_from_slice(&number.to_le_bytes());
        let sum = checksum(seal, &self.bytes[4..16], &self.bytes[HEADER_BYTES..]);
        self.bytes[16..20].copy_from_slice(&sum.to_le_bytes());
        &self.bytes
    }
}

/// The store refuses transactions long before they reach this bound.
fn length(field: &[u8]) -> u32 {
    u32::try_from(field.len()).unwrap_or(u32::MAX)
}

fn checksum(seal: Seal, header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seal.salt.to_le_bytes());
    hasher.update(&seal.segment.to_le_bytes());
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

/// A frame that was read back and whose checksum holds.
pub(super) struct Frame<'a> {
    pub(super) number: u64,
    pub(super) payload: &'a [u8],
}

/// The frame at the start of `bytes`, or `None` if there is no whole one.
pub(super) fn parse(seal: Seal, bytes: &[u8]) -> Option<Frame<'_>> {
    let header = bytes.get(..HEADER_BYTES)?;
    if header[..4] != MAGIC {
        return None;
    }
    let length = u32::from_le_bytes(header[4..8].try_into().ok()?);
    let number = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let sum = u32::from_le_bytes(header[16..20].try_into().ok()?);
    let payload = bytes[HEADER_BYTES..].get(..usize::try_from(length).ok()?)?;
    (checksum(seal, &header[4..16], payload) == sum).then_some(Frame { number, payload })
}

/// Whether a frame with at least this commit number was begun at the start of `bytes`: what
/// a file held in an earlier life has lower numbers.
pub(super) fn begun(bytes: &[u8], number: u64) -> bool {
    bytes.get(..HEADER_BYTES).is_some_and(|header| {
        let found = header[8..16].try_into().map_or(0, u64::from_le_bytes);
        header[..4] == MAGIC && found >= number
    })
}

/// The offset of the first whole frame anywhere in `bytes`, with its commit number.
pub(super) fn find(seal: Seal, bytes: &[u8]) -> Option<(usize, u64)> {
    let mut start = 0;
    while let Some(at) = bytes[start..].iter().position(|&b| b == MAGIC[0]) {
        let at = start + at;
        if let Some(frame) = parse(seal, &bytes[at..]) {
            return Some((at, frame.number));
        }
        start = at + 1;
    }
    None
}

/// The mutations of a payload; `None` if it isn't a list of mutations.
pub(super) fn mutations(mut payload: &[u8]) -> Option<Vec<Mutation>> {
    let mut list = Vec::new();
    while let Some((&tag, rest)) = payload.split_first() {
        let (first, rest) = take_field(rest)?;
        payload = rest;
        list.push(match tag {
            PUT => {
                let (value, rest) = take_field(payload)?;
                payload = rest;
                Mutation::Put(first, value)
            }
            DELETE => Mutation::Delete(first),
            DELETE_RANGE => {
                let (to, rest) = take_field(payload)?;
                payload = rest;
                Mutation::DeleteRange(first, to)
            }
            _ => return None,
        });
    }
    Some(list)
}

fn take_field(bytes: &[u8]) -> Option<(Bytes, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (field, rest) = rest.split_at_checked(length)?;
    Some((Bytes::copy_from_slice(field), rest))
}
