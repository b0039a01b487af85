//! A QUIC connection, and the task that fills and empties its one stream.

use std::{
    fmt,
    future::poll_fn,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::BytesMut;
use quinn::{ConnectionError, ReadError, VarInt, WriteError, crypto::rustls::HandshakeData};
use tern_protocol::code::Code;
use tokio::task::AbortHandle;

use crate::{
    ALPN, RecvStream, SendStream,
    mux::{Mux, Side, StreamId},
};

/// Bytes handed to QUIC at a time: about three packets, so that a stream that has something new needn't wait
/// behind much of the others'.
const WRITE_BYTES: usize = 4 * 1024;
/// Bytes taken from QUIC at a time.
const READ_BYTES: usize = 64 * 1024;

/// A QUIC connection whose bidirectional streams are its own, or travel in its first one if `tern-single/1`
/// was negotiated. Everything else is that of the connection, which it dereferences to.
#[derive(Clone)]
pub struct Connection {
    quic: quinn::Connection,
    mode: Arc<OnceLock<Mode>>,
}

/// How a connection's streams travel.
enum Mode {
    Apart,
    Together(Arc<Shared>),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("quic", &self.quic).finish_non_exhaustive()
    }
}

impl Deref for Connection {
    type Target = quinn::Connection;

    fn deref(&self) -> &quinn::Connection {
        &self.quic
    }
}

impl Connection {
    /// A client's connection. What was offered is known to it before it is negotiated, so its first
    /// stream may ride in 0-RTT data.
    pub fn client(quic: quinn::Connection, is_single: bool) -> Self {
        let mode = OnceLock::new();
        if !is_single {
            // It was made a moment ago.
            let _ = mode.set(Mode::Apart);
        }
        Self { quic, mode: Arc::new(mode) }
    }

    /// A server's connection. Which protocol it is shows when the client has opened its first stream.
    pub fn server(quic: quinn::Connection) -> Self {
        Self { quic, mode: Arc::default() }
    }

    /// Opens a bidirectional stream. As with QUIC's own, nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`] if the connection is gone.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let shared = match self.mode.get() {
            Some(Mode::Together(shared)) => shared,
            Some(Mode::Apart) => return self.quic.open_bi().await.map(apart),
            // Only a client opens the first one.
            None => {
                let (send, recv) = self.quic.open_bi().await?;
                match self.begin(Side::Client, send, recv) {
                    Some(shared) => shared,
                    None => return self.quic.open_bi().await.map(apart),
                }
            }
        };
        let id = poll_fn(|cx| shared.mux().poll_open(cx)).await;
        id.map(|id| together(shared, id)).map_err(|_| shared.lost())
    }

    /// The next bidirectional stream that the other end opens. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`] if the connection is gone.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let shared = match self.mode.get() {
            Some(Mode::Together(shared)) => shared,
            Some(Mode::Apart) => return self.quic.accept_bi().await.map(apart),
            None => {
                let (send, recv) = self.quic.accept_bi().await?;
                // With the first stream there, the client's offer was read long ago.
                if !is_single(&self.quic) {
                    let _ = self.mode.set(Mode::Apart);
                    return Ok(apart((send, recv)));
                }
                match self.begin(Side::Server, send, recv) {
                    Some(shared) => shared,
                    None => return self.quic.accept_bi().await.map(apart),
                }
            }
        };
        let id = poll_fn(|cx| shared.mux().poll_accept(cx)).await;
        id.map(|id| together(shared, id)).map_err(|_| shared.lost())
    }

    fn begin(
        &self,
        side: Side,
        send: quinn::SendStream,
        recv: quinn::RecvStream,
    ) -> Option<&Arc<Shared>> {
        let begin = || Mode::Together(Shared::begin(side, self.quic.clone(), send, recv));
        match self.mode.get_or_init(begin) {
            Mode::Together(shared) => Some(shared),
            Mode::Apart => None,
        }
    }
}

fn is_single(quic: &quinn::Connection) -> bool {
    quic.handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .is_some_and(|data| data.protocol.as_deref() == Some(ALPN))
}

fn apart((send, recv): (quinn::SendStream, quinn::RecvStream)) -> (SendStream, RecvStream) {
    (send.into(), recv.into())
}

fn together(shared: &Arc<Shared>, id: StreamId) -> (SendStream, RecvStream) {
    (SendStream::together(shared.clone(), id), RecvStream::together(shared.clone(), id))
}

/// The streams in the one stream. When the last of them and the connection are dropped, the task
/// ends that holds the one stream, and with it QUIC's connection, which closes.
pub(crate) struct Shared {
    core: Arc<Core>,
    /// Whether the one stream was opened in 0-RTT data.
    pub(crate) is_early: bool,
    pump: AbortHandle,
}

struct Core {
    mux: Mutex<Mux>,
    reason: OnceLock<Reason>,
}

/// Why the one stream has ended.
#[derive(Debug, Clone)]
pub(crate) enum Reason {
    Lost(ConnectionError),
    EarlyDataRejected,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Shared {
    fn begin(
        side: Side,
        quic: quinn::Connection,
        send: quinn::SendStream,
        recv: quinn::RecvStream,
    ) -> Arc<Self> {
        let core = Arc::new(Core { mux: Mutex::new(Mux::new(side)), reason: OnceLock::new() });
        let is_early = recv.is_0rtt();
        let pump = tokio::spawn(pump(core.clone(), quic, send, recv)).abort_handle();
        Arc::new(Self { core, is_early, pump })
    }

    pub(crate) fn mux(&self) -> MutexGuard<'_, Mux> {
        self.core.mux()
    }

    /// Why it has ended. Only to be asked when it has.
    pub(crate) fn reason(&self) -> Reason {
        let reason = self.core.reason.get().cloned();
        reason.unwrap_or(Reason::Lost(ConnectionError::LocallyClosed))
    }

    fn lost(&self) -> ConnectionError {
        match self.reason() {
            Reason::Lost(error) => error,
            Reason::EarlyDataRejected => ConnectionError::LocallyClosed,
        }
    }
}

impl Core {
    fn mux(&self) -> MutexGuard<'_, Mux> {
        // What panics while it holds the lock ends the run that compares.
        self.mux.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills and empties the one stream until it ends, which is a matter of the connection.
async fn pump(
    core: Arc<Core>,
    quic: quinn::Connection,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
) {
    let reason = tokio::select! {
        // Always in the same order, so that a simulation can be repeated.
        biased;
        reason = fill(&core, send) => reason,
        reason = empty(&core, recv) => reason,
    };
    let reason = reason.unwrap_or_else(|code| {
        let code = VarInt::from_u32(u32::from(code.value()));
        quic.close(code, b"the one stream");
        Reason::Lost(ConnectionError::LocallyClosed)
    });
    let _ = core.reason.set(reason);
    core.mux().end();
}

/// Writes what the streams have to say, in turns.
async fn fill(core: &Core, mut send: quinn::SendStream) -> Result<Reason, Code> {
    let mut out = BytesMut::new();
    loop {
        let output = poll_fn(|cx| core.mux().poll_output(&mut out, WRITE_BYTES, cx)).await;
        if output.is_err() {
            return Err(Code::NoError);
        }
        match send.write_chunk(out.split().freeze()).await {
            Ok(()) => {}
            Err(WriteError::ConnectionLost(error)) => return Ok(Reason::Lost(error)),
            Err(WriteError::ZeroRttRejected) => return Ok(Reason::EarlyDataRejected),
            Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                return Err(Code::UnexpectedFrame);
            }
        }
    }
}

/// Reads what the other end's streams say.
async fn empty(core: &Core, mut recv: quinn::RecvStream) -> Result<Reason, Code> {
    loop {
        match recv.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => {
                let received = core.mux().receive(&chunk.bytes);
                received.map_err(|violation| {
                    tracing::warn!(%violation, "the one stream is broken");
                    Code::MalformedFrame
                })?;
            }
            Err(ReadError::ConnectionLost(error)) => return Ok(Reason::Lost(error)),
            Err(ReadError::ZeroRttRejected) => return Ok(Reason::EarlyDataRejected),
            // It lives as long as the connection.
            Ok(None)
            | Err(ReadError::Reset(_) | ReadError::ClosedStream | ReadError::IllegalOrderedRead) => {
                return Err(Code::UnexpectedFrame);
            }
        }
    }
}
