//! What a message says, as bytes of an envelope and back.
//!
//! This is the one place where the content of messages is turned into envelopes. Today an envelope is the
//! content itself, in UTF-8 where it is text; end-to-end encryption goes between the two functions
//! here and their callers, who store sealed envelopes on the way out and opened content on the way in.

use bytes::Bytes;
use tern_protocol::frame::Envelope;

/// Content that has no form as an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentError {
    /// There is nothing to say.
    Empty,
    /// It is longer than any server takes.
    TooLong {
        /// How long it is, in bytes.
        bytes: usize,
        /// How long it may be, in bytes.
        limit_bytes: usize,
    },
}

impl std::fmt::Display for ContentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty message can't be sent"),
            Self::TooLong { bytes, limit_bytes } => write!(
                f,
                "the message is {bytes} bytes long and may be {limit_bytes}; send it in parts"
            ),
        }
    }
}

impl std::error::Error for ContentError {}

/// Makes the envelope of a message.
pub fn seal(content: &[u8]) -> Result<Envelope, ContentError> {
    let limit_bytes = tern_protocol::limits::ENVELOPE_BYTES;
    match content.len() {
        0 => Err(ContentError::Empty),
        bytes if bytes > limit_bytes => Err(ContentError::TooLong { bytes, limit_bytes }),
        _ => Ok(Envelope(Bytes::copy_from_slice(content))),
    }
}

/// The content of an envelope.
pub fn open(envelope: &Envelope) -> Bytes {
    envelope.0.clone()
}

/// Content as text for people. Bytes that aren't UTF-8 are replaced, so that nothing is hidden.
pub fn text(content: &[u8]) -> String {
    String::from_utf8_lossy(content).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_back_and_impossible_content_is_refused() {
        assert_eq!(&open(&seal("Grüße".as_bytes()).unwrap())[..], "Grüße".as_bytes());
        assert_eq!(seal(b""), Err(ContentError::Empty));
        let too_long = vec![1; tern_protocol::limits::ENVELOPE_BYTES + 1];
        assert!(matches!(seal(&too_long), Err(ContentError::TooLong { .. })));
    }
}
