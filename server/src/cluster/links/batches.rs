//! Batches over QUIC streams.

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream};
use tern_protocol::framing::Deframer;

use super::{
    Code,
    codec::{self, BATCH_BYTES, Batch, DecodeError, HELLO_BYTES},
};

/// Most bytes taken from a stream at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// A buffer larger than this is given back after it was written.
const KEPT_BYTES: usize = 64 * 1024;

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// What came breaks the protocol.
    Decode(DecodeError),
    /// For another reason of this end.
    Close(Code),
    /// The other end has closed it, or can't be reached.
    Lost,
}

impl Stop {
    /// The code with which this end closes it.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Decode(error) => error.code(),
            Self::Close(code) => *code,
            Self::Lost => Code::NoError,
        }
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Decode(error) => error.fmt(f),
            Self::Close(code) => code.fmt(f),
            Self::Lost => f.write_str("the connection is gone"),
        }
    }
}

/// Reads batches. [`BatchReader::next`] may be dropped at any time without losing anything.
pub(super) struct BatchReader {
    stream: RecvStream,
    deframer: Deframer,
}

impl BatchReader {
    /// Batches of a stream of notes.
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, deframer: Deframer::new(BATCH_BYTES) }
    }

    /// Batches of a control stream, whose first must be short.
    pub(super) fn of_control(stream: RecvStream) -> Self {
        Self { stream, deframer: Deframer::new(HELLO_BYTES) }
    }

    /// The first batch of a control stream has been read.
    pub(super) fn allow_whole_batches(&mut self) {
        self.deframer.set_limit(BATCH_BYTES);
    }

    /// The next batch. That a stream ends is as if the connection did: the streams last as long.
    pub(super) async fn next(&mut self) -> Result<Batch, Stop> {
        loop {
            let whole: Option<Bytes> =
                self.deframer.next_frame().map_err(|error| Stop::Decode(error.into()))?;
            if let Some(whole) = whole {
                return codec::decode(&whole).map_err(Stop::Decode);
            }
            match self.stream.read_chunk(CHUNK_BYTES, true).await {
                Ok(Some(chunk)) => self.deframer.push(&chunk.bytes),
                Ok(None) | Err(_) => return Err(Stop::Lost),
            }
        }
    }
}

/// Writes batches.
pub(super) struct BatchWriter {
    stream: SendStream,
    buffer: BytesMut,
}

impl BatchWriter {
    pub(super) fn new(stream: SendStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Writes a batch of about so many bytes. Waits while the other end doesn't read.
    pub(super) async fn write(&mut self, batch: &Batch, weight: usize) -> Result<(), Stop> {
        codec::encode_into(batch, weight, &mut self.buffer);
        let written = self.stream.write_all(&self.buffer).await;
        if self.buffer.capacity() > KEPT_BYTES {
            // An idle stream holds no memory.
            self.buffer = BytesMut::new();
        } else {
            self.buffer.clear();
        }
        written.map_err(|_| Stop::Lost)
    }
}
