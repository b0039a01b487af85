//! Frames over QUIC streams, as the load generator needs them: what arrives together is taken
//! together, what is written together leaves together.

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream};
use tern_protocol::{codec, frame::Frame, framing::Deframer, limits};

use crate::error::{Context, Result};

/// Chunks of a stream that are taken at once.
const CHUNKS: usize = 32;

/// Reads frames.
pub(crate) struct FrameReader {
    stream: RecvStream,
    deframer: Deframer,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, deframer: Deframer::new(limits::FRAME_BYTES) }
    }

    /// Waits for bytes and adds the frames that they complete. False at the stream's end. Nothing is
    /// lost if the future is dropped.
    pub(crate) async fn fill(&mut self, frames: &mut Vec<Frame>) -> Result<bool> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let read = self.stream.read_chunks(&mut chunks).await.context("a stream broke")?;
        let Some(count) = read else {
            self.deframer.finish().context("a stream ended too early")?;
            return Ok(false);
        };
        for chunk in &chunks[..count] {
            self.deframer.push(chunk);
        }
        while let Some(bytes) = self.deframer.next_frame().context("the server sent no frame")? {
            frames.push(codec::decode(bytes).context("the server sent a bad frame")?);
        }
        Ok(true)
    }
}

/// Writes frames.
pub(crate) struct FrameWriter {
    stream: SendStream,
    out: BytesMut,
}

impl FrameWriter {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, out: BytesMut::new() }
    }

    /// Adds a frame to what the next flush sends.
    pub(crate) fn push(&mut self, frame: &Frame) {
        codec::encode_into(frame, &mut self.out);
    }

    /// Hands everything to QUIC. Not to be dropped halfway: a part of a frame may have left.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        if !self.out.is_empty() {
            let bytes = self.out.split().freeze();
            self.stream.write_chunk(bytes).await.context("a stream can't be written")?;
        }
        Ok(())
    }

    /// Ends the stream.
    pub(crate) fn finish(&mut self) {
        // It fails if the stream has ended, which is just as well.
        let _ = self.stream.finish();
    }
}
