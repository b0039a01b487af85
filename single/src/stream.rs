//! Streams that are QUIC's own or travel in the one stream, with quinn's methods and errors.

use std::{fmt, future::poll_fn, sync::Arc};

use bytes::Bytes;
use quinn::{Chunk, ClosedStream, ReadError, StoppedError, VarInt, WriteError};

use crate::{
    connection::{Reason, Shared},
    mux::{Stop, StreamId},
};

/// The direction away from this end. Dropped, it is finished.
pub struct SendStream(Sending);

enum Sending {
    Apart(quinn::SendStream),
    Together(Writer),
}

struct Writer {
    shared: Arc<Shared>,
    id: StreamId,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.mux().drop_writer(self.id);
    }
}

/// The direction to this end. Dropped, it is stopped.
pub struct RecvStream(Receiving);

enum Receiving {
    Apart(quinn::RecvStream),
    Together(Reader),
}

struct Reader {
    shared: Arc<Shared>,
    id: StreamId,
    offset: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.mux().drop_reader(self.id);
    }
}

impl From<quinn::SendStream> for SendStream {
    fn from(stream: quinn::SendStream) -> Self {
        Self(Sending::Apart(stream))
    }
}

impl From<quinn::RecvStream> for RecvStream {
    fn from(stream: quinn::RecvStream) -> Self {
        Self(Receiving::Apart(stream))
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").finish_non_exhaustive()
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").finish_non_exhaustive()
    }
}

impl SendStream {
    pub(crate) fn together(shared: Arc<Shared>, id: StreamId) -> Self {
        Self(Sending::Together(Writer { shared, id }))
    }

    /// Writes all of it. If the future is dropped, a part may have been written.
    ///
    /// # Errors
    ///
    /// [`WriteError`] as of a stream of QUIC.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        match &mut self.0 {
            Sending::Apart(stream) => stream.write_all(bytes).await,
            Sending::Together(stream) => stream.write_all(bytes).await,
        }
    }

    /// Writes all of it. If the future is dropped, a part may have been written.
    ///
    /// # Errors
    ///
    /// [`WriteError`] as of a stream of QUIC.
    pub async fn write_chunk(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        match &mut self.0 {
            Sending::Apart(stream) => stream.write_chunk(bytes).await,
            Sending::Together(stream) => stream.write_all(&bytes).await,
        }
    }

    /// Ends the stream behind what was written.
    ///
    /// # Errors
    ///
    /// QUIC's own says if it has ended already; one in the one stream needn't be told.
    pub fn finish(&mut self) -> Result<(), ClosedStream> {
        match &mut self.0 {
            Sending::Apart(stream) => stream.finish(),
            Sending::Together(Writer { shared, id }) => {
                shared.mux().finish(*id);
                Ok(())
            }
        }
    }

    /// Breaks the stream off.
    ///
    /// # Errors
    ///
    /// As those of [`SendStream::finish`].
    pub fn reset(&mut self, code: VarInt) -> Result<(), ClosedStream> {
        match &mut self.0 {
            Sending::Apart(stream) => stream.reset(code),
            Sending::Together(Writer { shared, id }) => {
                shared.mux().reset(*id, short(code));
                Ok(())
            }
        }
    }

    /// Waits until the other end wants no more. QUIC's own also ends when everything has arrived,
    /// which isn't seen in the one stream: have a time-out.
    ///
    /// # Errors
    ///
    /// [`StoppedError`] if the connection is gone.
    pub async fn stopped(&mut self) -> Result<Option<VarInt>, StoppedError> {
        let Writer { shared, id } = match &mut self.0 {
            Sending::Apart(stream) => return stream.stopped().await,
            Sending::Together(stream) => stream,
        };
        match poll_fn(|cx| shared.mux().poll_stopped(*id, cx)).await {
            Ok(code) => Ok(Some(VarInt::from_u32(u32::from(code)))),
            Err(_) => Err(match shared.reason() {
                Reason::Lost(error) => StoppedError::ConnectionLost(error),
                Reason::EarlyDataRejected => StoppedError::ZeroRttRejected,
            }),
        }
    }
}

impl Writer {
    async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.shared.mux().poll_write(self.id, bytes, cx)).await;
            let written = written.map_err(|stop| match stop {
                Stop::Code(code) => WriteError::Stopped(VarInt::from_u32(u32::from(code))),
                Stop::Closed => WriteError::ClosedStream,
                Stop::Ended => match self.shared.reason() {
                    Reason::Lost(error) => WriteError::ConnectionLost(error),
                    Reason::EarlyDataRejected => WriteError::ZeroRttRejected,
                },
            })?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

impl RecvStream {
    pub(crate) fn together(shared: Arc<Shared>, id: StreamId) -> Self {
        Self(Receiving::Together(Reader { shared, id, offset: 0 }))
    }

    /// The next bytes, at most so many; `None` at the end. Nothing is lost if the future is dropped. What
    /// travels in the one stream is in order whether that is asked for or not.
    ///
    /// # Errors
    ///
    /// [`ReadError`] as of a stream of QUIC.
    pub async fn read_chunk(
        &mut self,
        most_bytes: usize,
        is_ordered: bool,
    ) -> Result<Option<Chunk>, ReadError> {
        let stream = match &mut self.0 {
            Receiving::Apart(stream) => return stream.read_chunk(most_bytes, is_ordered).await,
            Receiving::Together(stream) => stream,
        };
        let Reader { shared, id, offset } = stream;
        match poll_fn(|cx| shared.mux().poll_read(*id, most_bytes, cx)).await {
            Ok(Some(bytes)) => {
                let chunk = Chunk { offset: *offset, bytes };
                *offset += chunk.bytes.len() as u64;
                Ok(Some(chunk))
            }
            Ok(None) => Ok(None),
            Err(Stop::Code(code)) => Err(ReadError::Reset(VarInt::from_u32(u32::from(code)))),
            Err(Stop::Closed) => Err(ReadError::ClosedStream),
            Err(Stop::Ended) => Err(match shared.reason() {
                Reason::Lost(error) => ReadError::ConnectionLost(error),
                Reason::EarlyDataRejected => ReadError::ZeroRttRejected,
            }),
        }
    }

    /// Asks the other end to send no more.
    ///
    /// # Errors
    ///
    /// As those of [`SendStream::finish`].
    pub fn stop(&mut self, code: VarInt) -> Result<(), ClosedStream> {
        match &mut self.0 {
            Receiving::Apart(stream) => stream.stop(code),
            Receiving::Together(Reader { shared, id, .. }) => {
                shared.mux().stop(*id, short(code));
                Ok(())
            }
        }
    }

    /// Whether it was opened in 0-RTT data, or the one stream was.
    pub fn is_0rtt(&self) -> bool {
        match &self.0 {
            Receiving::Apart(stream) => stream.is_0rtt(),
            Receiving::Together(stream) => stream.shared.is_early,
        }
    }
}

/// The registry's codes have sixteen bits.
fn short(code: VarInt) -> u16 {
    u16::try_from(code.into_inner()).unwrap_or(u16::MAX)
}
