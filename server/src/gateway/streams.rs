//! Frames over QUIC streams.

use std::fmt;

use bytes::BytesMut;
#[cfg(not(feature = "single-stream"))]
pub(super) use quinn::{Connection, RecvStream, SendStream};
use quinn::{ReadError, VarInt, WriteError};
use tern_protocol::{
    code::Code,
    codec::{self, DecodeError},
    frame::Frame,
    framing::Deframer,
    limits,
};
#[cfg(feature = "single-stream")]
pub(super) use tern_single::{Connection, RecvStream, SendStream};

/// Most bytes taken from a stream at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// A buffer larger than this is given back after it was written.
const KEPT_BYTES: usize = 4 * 1024;

/// A code as it is used by QUIC.
pub(super) fn var_int(code: Code) -> VarInt {
    VarInt::from_u32(u32::from(code.value()))
}

/// The connection as its streams are opened and accepted: QUIC's own, unless the comparison was negotiated.
pub(super) fn with_streams(connection: quinn::Connection) -> Connection {
    #[cfg(feature = "single-stream")]
    return Connection::server(connection);
    #[cfg(not(feature = "single-stream"))]
    connection
}

/// Why nothing more can be read from a stream.
#[derive(Debug)]
pub(super) enum Stop {
    /// What came breaks the protocol: the connection is closed with the error's code.
    Decode(DecodeError),
    /// The other end has reset the stream.
    Reset,
    /// The connection is gone.
    Lost,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => error.fmt(f),
            Self::Reset => f.write_str("the stream was reset"),
            Self::Lost => f.write_str("the connection is gone"),
        }
    }
}

/// Reads frames. [`Frames::next`] may be dropped at any time without losing anything.
pub(super) struct Frames {
    stream: RecvStream,
    deframer: Deframer,
}

impl Frames {
    /// Frames of a stream whose first may be [`limits::FIRST_FRAME_BYTES`] long.
    pub(super) fn new(stream: impl Into<RecvStream>) -> Self {
        Self { stream: stream.into(), deframer: Deframer::new(limits::FIRST_FRAME_BYTES) }
    }

    /// Sets how long frames may be from here on.
    pub(super) fn set_limit(&mut self, limit_bytes: usize) {
        self.deframer.set_limit(limit_bytes);
    }

    /// Whether the stream was opened in 0-RTT data, which may be a replay.
    pub(super) fn is_early(&self) -> bool {
        self.stream.is_0rtt()
    }

    /// The next frame, or `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, Stop> {
        loop {
            if let Some(frame) = self.next_buffered()? {
                return Ok(Some(frame));
            }
            match self.stream.read_chunk(CHUNK_BYTES, true).await {
                Ok(Some(chunk)) => self.deframer.push(&chunk.bytes),
                Ok(None) => {
                    self.deframer.finish().map_err(Stop::Decode)?;
                    return Ok(None);
                }
                Err(ReadError::Reset(_)) => return Err(Stop::Reset),
                Err(_) => return Err(Stop::Lost),
            }
        }
    }

    /// The next frame if it has arrived already.
    pub(super) fn next_buffered(&mut self) -> Result<Option<Frame>, Stop> {
        let frame = self.deframer.next_frame().map_err(Stop::Decode)?;
        frame.map(codec::decode).transpose().map_err(Stop::Decode)
    }

    /// Tells the other end to send no more.
    pub(super) fn stop(&mut self, code: Code) {
        // An error means that the stream has ended already.
        let _ = self.stream.stop(var_int(code));
    }
}

/// Writes frames, several at a time.
pub(super) struct FrameWriter {
    stream: SendStream,
    buffer: BytesMut,
}

/// A stream can't be written any more: the other end stopped it or is gone.
#[derive(Debug)]
pub(super) struct Unwritable;

impl FrameWriter {
    pub(super) fn new(stream: impl Into<SendStream>) -> Self {
        Self { stream: stream.into(), buffer: BytesMut::new() }
    }

    /// Adds a frame to what the next [`FrameWriter::flush`] writes.
    pub(super) fn queue(&mut self, frame: &Frame) {
        codec::encode_into(frame, &mut self.buffer);
    }

    /// Bytes that wait for the next flush.
    pub(super) fn queued_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Writes what was queued. Waits while the other end doesn't read.
    pub(super) async fn flush(&mut self) -> Result<(), Unwritable> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.stream.write_all(&self.buffer).await;
        if self.buffer.capacity() > KEPT_BYTES {
            // An idle stream holds no memory.
            self.buffer = BytesMut::new();
        } else {
            self.buffer.clear();
        }
        written.map_err(|_: WriteError| Unwritable)
    }

    /// Gives back the memory in which nothing is queued.
    pub(super) fn give_back(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Ends the stream.
    pub(super) fn finish(&mut self) {
        // An error means that it has ended already.
        let _ = self.stream.finish();
    }

    /// Waits until all of an ended stream has arrived, or the other end wants no more of it.
    pub(super) async fn arrived(&mut self) {
        // An error means that the connection is gone.
        let _ = self.stream.stopped().await;
    }

    /// Ends the stream for a reason.
    pub(super) fn reset(&mut self, code: Code) {
        // An error means that it has ended already.
        let _ = self.stream.reset(var_int(code));
    }
}
