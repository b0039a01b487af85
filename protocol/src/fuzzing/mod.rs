//! Bodies of the fuzz targets, which the property tests run as well.
//!
//! Each takes arbitrary bytes, reads decisions out of them and panics when something that must hold
//! doesn't. `fuzz/` hands them what libFuzzer finds; the tests here hand them what proptest makes, so
//! that a stable toolchain exercises the same code. Built for tests and with the feature `fuzzing`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a finding is reported")]

pub mod frames;
mod machines;
mod source;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use machines::{downlink, receipts, session, uplink};
pub use source::Source;

use crate::{
    codec,
    frame::{Event, Frame, RequestBody},
    framing::Deframer,
    limits,
};

/// Decodes the bytes as one frame: either they are refused, or what comes out survives another
/// round and holds payloads that are slices of the input.
pub fn decode(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    match codec::decode(bytes.clone()) {
        Ok(frame) => {
            if let Some(payload) = payload(&frame) {
                assert!(is_within(payload, &bytes), "a payload was copied");
            }
            if has_a_form(&frame) {
                assert_eq!(codec::decode(codec::encode(&frame)), Ok(frame));
            }
        }
        Err(error) => {
            // Whoever closes the connection needs both.
            assert!(!error.to_string().is_empty());
            assert_ne!(error.code().value(), 0);
        }
    }
}

/// Makes a frame out of the bytes and expects it back from its encoding, which has to pass the
/// framing and to come out the same when it is repeated.
pub fn round_trip(bytes: &[u8]) {
    let frame = frames::any(&mut Source::new(bytes));
    let encoded = codec::encode(&frame);
    let mut deframer = Deframer::new(limits::FRAME_BYTES);
    deframer.push(&encoded);
    let cut = deframer.next_frame().unwrap().unwrap();
    assert_eq!(cut, encoded);
    assert_eq!(deframer.finish(), Ok(()));
    assert_eq!(codec::decode(cut), Ok(frame.clone()));
    assert_eq!(codec::encode(&frame), encoded);
}

/// Damages the encoding of a frame and decodes what is left, as [`decode`] does.
pub fn mutated(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let mut frame = codec::encode(&frames::any(&mut source)).to_vec();
    let words = frame.len() / 8;
    for _ in 0..=source.below(4) {
        // The pointers stand near the start, so the damage should mostly be there.
        let reach = if source.bool() { words.min(16) } else { words };
        let at = source.below(reach) * 8;
        match source.below(5) {
            0 => frame[at + source.below(8)] ^= 1 << source.below(8),
            1 => frame[at + source.below(8)] = source.u8(),
            2 => frame[at..at + 8].copy_from_slice(&source.u64().to_le_bytes()),
            3 => {
                let word: [u8; 8] = frame[at..at + 8].try_into().unwrap();
                let to = source.below(words) * 8;
                frame[to..to + 8].copy_from_slice(&word);
            }
            _ => {
                // Shorter by whole words, with the framing telling the truth about it.
                let kept = 1 + source.below(words);
                frame.truncate(kept.min(frame.len() / 8) * 8);
                let segment_words = (frame.len() / 8 - 1) as u32;
                frame[4..8].copy_from_slice(&segment_words.to_le_bytes());
                break;
            }
        }
    }
    decode(&frame);
}

/// Cuts a stream in pieces of arbitrary sizes and compares the frames that come out with those that
/// a look at the whole stream finds.
pub fn deframer(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let limit_bytes = if source.bool() { limits::FIRST_FRAME_BYTES } else { limits::FRAME_BYTES };
    let piece = 1 + source.below(300);
    let mut stream = Vec::new();
    for _ in 0..source.below(6) {
        stream.extend(codec::encode(&frames::any(&mut source)));
    }
    stream.extend_from_slice(source.rest());

    let mut expected = Vec::new();
    let mut left = &stream[..];
    let refused = loop {
        let Some((&head, _)) = left.split_first_chunk::<8>() else {
            break false;
        };
        let length = (head[4..].iter().rev()).fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        if head[..4] != [0; 4] || length == 0 || 8 + length * 8 > limit_bytes as u64 {
            break true;
        }
        let Some((frame, rest)) = left.split_at_checked(8 + length as usize * 8) else {
            break false;
        };
        expected.push(frame);
        left = rest;
    };

    let mut deframer = Deframer::new(limit_bytes);
    let mut found = Vec::new();
    let mut error = None;
    'stream: for chunk in stream.chunks(piece) {
        deframer.push(chunk);
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(why) => {
                    error = Some(why);
                    break 'stream;
                }
            }
        }
    }
    assert_eq!(found, expected);
    assert_eq!(error.is_some(), refused);
    if error.is_none() {
        assert_eq!(deframer.finish().is_ok(), left.is_empty());
    }
}

/// Whether a decoded frame can be encoded again: requests and events of later revisions can't.
fn has_a_form(frame: &Frame) -> bool {
    match frame {
        Frame::Request(request) => !matches!(request.body, RequestBody::Unknown(_)),
        Frame::Event(event) => !matches!(event, Event::Unknown(_)),
        _ => true,
    }
}

/// The opaque bytes in a frame, which the codec hands on without a copy.
fn payload(frame: &Frame) -> Option<&Bytes> {
    match frame {
        Frame::Send(send) => Some(&send.envelope.0),
        Frame::Deliver(deliver) => Some(&deliver.envelope.0),
        Frame::Extension(extension) => Some(&extension.body),
        _ => None,
    }
}

fn is_within(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    part.is_empty() || whole.start <= part.start && part.end <= whole.end
}
