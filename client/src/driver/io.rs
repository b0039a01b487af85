//! Frames over QUIC streams.

use std::{collections::VecDeque, sync::Arc};

use bytes::BytesMut;
use futures_util::FutureExt;
#[cfg(not(feature = "single-stream"))]
pub(crate) use quinn::{Connection, RecvStream, SendStream};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};
use tern_protocol::{
    code::Code,
    codec::{self, DecodeError},
    frame::Frame,
    framing::Deframer,
    limits,
};
#[cfg(feature = "single-stream")]
pub(crate) use tern_single::{Connection, RecvStream, SendStream};

use super::keep_alive::Signs;
use crate::{
    error::{ConnectError, stream_code},
    settings::Settings,
};

/// The connection as its streams are opened and accepted: QUIC's own, unless the comparison was asked for.
pub(crate) fn with_streams(connection: quinn::Connection, settings: &Settings) -> Connection {
    #[cfg(feature = "single-stream")]
    return Connection::client(connection, settings.single_stream);
    #[cfg(not(feature = "single-stream"))]
    {
        let _ = settings;
        connection
    }
}

/// Bytes that are taken from a stream before what they hold is dealt with: what arrived together shares
/// one step of the store and one ack.
const BATCH_BYTES: usize = 256 * 1024;

/// Why a stream ended before its time.
#[derive(Debug)]
pub(crate) enum IoError {
    /// The other end reset or stopped it.
    Reset(Code),
    /// The connection is gone.
    Lost(ConnectionError),
    /// The server didn't take the 0-RTT data.
    EarlyDataRejected,
    /// What came aren't frames.
    Decode(DecodeError),
}

impl From<ReadError> for IoError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(stream_code(code)),
            ReadError::ConnectionLost(error) => Self::Lost(error),
            ReadError::ZeroRttRejected => Self::EarlyDataRejected,
            ReadError::ClosedStream | ReadError::IllegalOrderedRead => Self::Reset(Code::NoError),
        }
    }
}

impl From<WriteError> for IoError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Reset(stream_code(code)),
            WriteError::ConnectionLost(error) => Self::Lost(error),
            WriteError::ZeroRttRejected => Self::EarlyDataRejected,
            WriteError::ClosedStream => Self::Reset(Code::NoError),
        }
    }
}

impl From<ConnectionError> for IoError {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(error)
    }
}

impl From<DecodeError> for IoError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<IoError> for ConnectError {
    fn from(error: IoError) -> Self {
        match error {
            IoError::Reset(code) => Self::Closed(code),
            IoError::Lost(error) => error.into(),
            IoError::EarlyDataRejected => Self::Closed(Code::NoError),
            IoError::Decode(error) => Self::Protocol(error.code(), error.to_string()),
        }
    }
}

/// Reads frames.
pub(crate) struct FrameReader {
    stream: RecvStream,
    deframer: Deframer,
    ready: VecDeque<Frame>,
    is_first: bool,
    signs: Arc<Signs>,
}

impl FrameReader {
    /// A reader whose first frame is held to the limit for first frames.
    pub(crate) fn new(stream: impl Into<RecvStream>, signs: Arc<Signs>) -> Self {
        Self {
            signs,
            stream: stream.into(),
            deframer: Deframer::new(limits::FIRST_FRAME_BYTES),
            ready: VecDeque::new(),
            is_first: true,
        }
    }

    /// Keeps the short limit for further frames: on the session stream before the welcome.
    pub(crate) fn hold_limit(&mut self) {
        self.is_first = false;
    }

    /// Allows frames of full length.
    pub(crate) fn lift_limit(&mut self) {
        self.deframer.set_limit(limits::FRAME_BYTES);
    }

    /// The next frame; `None` at the stream's end. Nothing is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, IoError> {
        loop {
            if let Some(frame) = self.cut()? {
                return Ok(Some(frame));
            }
            if !self.read().await? {
                self.deframer.finish()?;
                return Ok(None);
            }
        }
    }

    /// Waits for a frame and takes in all that came with it, within bounds; get them with
    /// [`FrameReader::ready`]. False at the stream's end. Nothing is lost if the future is dropped.
    pub(crate) async fn fill(&mut self) -> Result<bool, IoError> {
        if self.ready.is_empty() {
            match self.next().await? {
                Some(frame) => self.ready.push_back(frame),
                None => return Ok(false),
            }
        }
        let mut taken_bytes = 0;
        loop {
            while let Some(frame) = self.cut()? {
                self.ready.push_back(frame);
            }
            if taken_bytes >= BATCH_BYTES {
                return Ok(true);
            }
            match self.stream.read_chunk(BATCH_BYTES, true).now_or_never() {
                Some(Ok(Some(chunk))) => {
                    self.signs.note();
                    taken_bytes += chunk.bytes.len();
                    self.deframer.push(&chunk.bytes);
                }
                // An end or error comes again at the next call, once these frames are dealt with.
                _ => return Ok(true),
            }
        }
    }

    /// A frame that was taken in by [`FrameReader::fill`].
    pub(crate) fn ready(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    /// Tells the other end that nothing more is wanted.
    pub(crate) fn stop(&mut self, code: Code) {
        // It fails if the stream has ended, which is just as well.
        let _ = self.stream.stop(VarInt::from_u32(u32::from(code.value())));
    }

    fn cut(&mut self) -> Result<Option<Frame>, IoError> {
        let Some(bytes) = self.deframer.next_frame()? else {
            return Ok(None);
        };
        if std::mem::take(&mut self.is_first) {
            self.lift_limit();
        }
        Ok(Some(codec::decode(bytes)?))
    }

    async fn read(&mut self) -> Result<bool, IoError> {
        let read = self.stream.read_chunk(BATCH_BYTES, true).await?;
        self.signs.note();
        match read {
            Some(chunk) => {
                self.deframer.push(&chunk.bytes);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// Writes frames; those that are written together leave together.
pub(crate) struct FrameWriter {
    stream: SendStream,
    out: BytesMut,
    signs: Arc<Signs>,
}

impl FrameWriter {
    pub(crate) fn new(stream: SendStream, signs: Arc<Signs>) -> Self {
        Self { stream, out: BytesMut::new(), signs }
    }

    /// Adds a frame to what the next flush sends.
    pub(crate) fn push(&mut self, frame: &Frame) {
        codec::encode_into(frame, &mut self.out);
    }

    /// Bytes that wait for the next flush.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Hands everything to QUIC. Not to be dropped halfway: a part of a frame may have left.
    pub(crate) async fn flush(&mut self) -> Result<(), IoError> {
        if !self.out.is_empty() {
            self.stream.write_chunk(self.out.split().freeze()).await?;
            self.signs.note();
        }
        Ok(())
    }

    /// Ends the stream.
    pub(crate) fn finish(&mut self) {
        // It fails if the stream has ended, which is just as well.
        let _ = self.stream.finish();
        self.signs.note();
    }

    /// Breaks the stream off.
    pub(crate) fn reset(&mut self, code: Code) {
        let _ = self.stream.reset(VarInt::from_u32(u32::from(code.value())));
        self.signs.note();
    }
}
