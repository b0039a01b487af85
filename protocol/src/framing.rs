//! Cutting a stream of bytes into frames.

use bytes::{Buf, Bytes, BytesMut};

use crate::{codec::DecodeError, limits::FRAMING_BYTES};

/// Collects the bytes of one direction of a stream and gives out whole frames.
///
/// It judges a frame by its first eight bytes, before it holds any more of it than the caller
/// pushed, so a hostile length costs nothing. It never holds more than one frame and one push.
#[derive(Debug)]
pub struct Deframer {
    buffer: BytesMut,
    limit_bytes: usize,
}

impl Deframer {
    /// A deframer that refuses frames longer than `limit_bytes`, framing included.
    pub fn new(limit_bytes: usize) -> Self {
        Self { buffer: BytesMut::new(), limit_bytes }
    }

    /// Sets the limit for the frames from here on.
    pub fn set_limit(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, framing included, or `None` if more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let Some(&[s0, s1, s2, s3, w0, w1, w2, w3]) = self.buffer.first_chunk() else {
            return Ok(None);
        };
        let words = u32::from_le_bytes([w0, w1, w2, w3]);
        if [s0, s1, s2, s3] != [0; 4] || words == 0 {
            return Err(DecodeError::Malformed("not one segment"));
        }
        let frame_bytes = FRAMING_BYTES as u64 + u64::from(words) * 8;
        if frame_bytes > self.limit_bytes as u64 {
            return Err(DecodeError::TooLarge { frame_bytes, limit_bytes: self.limit_bytes });
        }
        let frame_bytes = frame_bytes as usize;
        if self.buffer.remaining() < frame_bytes {
            return Ok(None);
        }
        let frame = if self.buffer.len() == frame_bytes {
            // The frame takes the memory with it: most streams are silent for long after a frame.
            std::mem::take(&mut self.buffer)
        } else {
            self.buffer.split_to(frame_bytes)
        };
        Ok(Some(frame.freeze()))
    }

    /// Says whether the stream may end here: an error if it does so within a frame.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed("the stream ends within a frame"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    fn framed(words: u32) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(words.to_le_bytes());
        bytes.extend(vec![7; words as usize * 8]);
        bytes
    }

    #[test]
    fn frames_come_out_whole_however_they_came_in() {
        let stream = [framed(1), framed(3), framed(2)].concat();
        for piece in 1..stream.len() {
            let mut deframer = Deframer::new(limits::FRAME_BYTES);
            let mut lengths = Vec::new();
            for chunk in stream.chunks(piece) {
                deframer.push(chunk);
                while let Some(frame) = deframer.next_frame().unwrap() {
                    lengths.push(frame.len());
                }
            }
            assert_eq!(lengths, [16, 32, 24]);
            assert_eq!(deframer.finish(), Ok(()));
        }
    }

    #[test]
    fn the_head_alone_condemns_a_frame() {
        for (head, too_large) in [
            ([1, 0, 0, 0, 1, 0, 0, 0], false),
            ([0, 0, 0, 1, 1, 0, 0, 0], false),
            ([0xff; 8], false),
            ([0, 0, 0, 0, 0, 0, 0, 0], false),
            ([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], true),
            ([0, 0, 0, 0, 0x00, 0x04, 0, 0], true),
        ] {
            let mut deframer = Deframer::new(limits::FIRST_FRAME_BYTES);
            deframer.push(&head);
            let error = deframer.next_frame().unwrap_err();
            assert_eq!(matches!(error, DecodeError::TooLarge { .. }), too_large, "{head:?}");
        }
    }

    #[test]
    fn the_limit_counts_the_framing() {
        let frame = framed(1023);
        assert_eq!(frame.len(), limits::FIRST_FRAME_BYTES);
        let mut deframer = Deframer::new(limits::FIRST_FRAME_BYTES);
        deframer.push(&frame);
        assert_eq!(deframer.next_frame().unwrap().unwrap().len(), limits::FIRST_FRAME_BYTES);
        deframer.push(&framed(1024));
        assert!(deframer.next_frame().is_err());
        deframer.set_limit(limits::FRAME_BYTES);
        assert!(deframer.next_frame().unwrap().is_some());
    }

    #[test]
    fn a_stream_must_not_end_within_a_frame() {
        let mut deframer = Deframer::new(limits::FRAME_BYTES);
        deframer.push(&framed(2)[..9]);
        assert_eq!(deframer.next_frame(), Ok(None));
        assert!(deframer.finish().is_err());
    }
}
