//! One stream in the stream.

use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::{
    Stop,
    chunk::{CHUNK_BYTES, Chunk, Violation},
};

/// Bytes of a stream that wait to be sent at most; more hold its writer up.
pub const SEND_BYTES: usize = 16 * 1024;
/// Bytes that a stream's writer may be ahead of its reader. It leaves room for a round trip's bytes beside
/// those that were read and aren't yet granted anew, so that it never slows anybody down.
pub const WINDOW_BYTES: usize = 96 * 1024;
/// So much is granted anew at a time; it fits a chunk's value.
const GRANT_BYTES: usize = WINDOW_BYTES / 2;

/// One direction's end, seen from its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    /// Ends behind what waits.
    Finishing,
    /// To be broken off.
    Resetting(u16),
    /// The other end knows of the end.
    Done,
}

/// The same, seen from its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Open,
    Finished,
    Reset(u16),
}

#[derive(Debug)]
pub(super) struct Stream {
    /// Whether it stands in the line of those who have something to send.
    pub(super) is_waiting: bool,
    sending: Sending,
    out: BytesMut,
    /// Bytes that the other end has room for.
    credit: usize,
    /// The other end wants no more.
    stopped: Option<u16>,
    has_writer: bool,
    writer: Option<Waker>,
    receiving: Receiving,
    input: BytesMut,
    /// Bytes that the other end may still send.
    window: usize,
    /// Bytes read and not yet granted anew.
    owed: usize,
    /// What comes isn't wanted any more.
    is_stopped: bool,
    stop_due: Option<u16>,
    has_reader: bool,
    reader: Option<Waker>,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            is_waiting: false,
            sending: Sending::Open,
            out: BytesMut::new(),
            credit: WINDOW_BYTES,
            stopped: None,
            has_writer: true,
            writer: None,
            receiving: Receiving::Open,
            input: BytesMut::new(),
            window: WINDOW_BYTES,
            owed: 0,
            is_stopped: false,
            stop_due: None,
            has_reader: true,
            reader: None,
        }
    }

    pub(super) fn poll_read(
        &mut self,
        most_bytes: usize,
        has_ended: bool,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Stop>> {
        if self.is_stopped {
            return Poll::Ready(Err(Stop::Closed));
        }
        if !self.input.is_empty() {
            let bytes = self.input.split_to(most_bytes.min(self.input.len())).freeze();
            self.owed += bytes.len();
            return Poll::Ready(Ok(Some(bytes)));
        }
        match self.receiving {
            Receiving::Finished => Poll::Ready(Ok(None)),
            Receiving::Reset(code) => Poll::Ready(Err(Stop::Code(code))),
            Receiving::Open if has_ended => Poll::Ready(Err(Stop::Ended)),
            Receiving::Open => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn poll_write(
        &mut self,
        bytes: &[u8],
        cx: &Context<'_>,
    ) -> Poll<Result<usize, Stop>> {
        if let Some(code) = self.stopped {
            return Poll::Ready(Err(Stop::Code(code)));
        }
        if self.sending != Sending::Open {
            return Poll::Ready(Err(Stop::Closed));
        }
        let room = SEND_BYTES - self.out.len();
        if room == 0 {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = bytes.len().min(room);
        self.out.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    pub(super) fn stopped(&mut self, cx: &Context<'_>) -> Option<u16> {
        if self.stopped.is_none() {
            self.writer = Some(cx.waker().clone());
        }
        self.stopped
    }

    pub(super) fn finish(&mut self) {
        if self.sending == Sending::Open {
            self.sending = Sending::Finishing;
        }
    }

    pub(super) fn reset(&mut self, code: u16) {
        if matches!(self.sending, Sending::Open | Sending::Finishing) {
            self.sending = Sending::Resetting(code);
            self.out = BytesMut::new();
        }
    }

    pub(super) fn stop(&mut self, code: u16) {
        if self.is_stopped {
            return;
        }
        self.is_stopped = true;
        self.input = BytesMut::new();
        if self.receiving == Receiving::Open {
            self.stop_due = Some(code);
        }
    }

    pub(super) fn drop_writer(&mut self) {
        self.finish();
        self.has_writer = false;
        self.writer = None;
    }

    pub(super) fn drop_reader(&mut self) {
        self.stop(0);
        self.has_reader = false;
        self.reader = None;
    }

    pub(super) fn receive(&mut self, chunk: Chunk) -> Result<(), Violation> {
        match chunk {
            Chunk::Data(..) | Chunk::Reset(_) if self.receiving != Receiving::Open => {
                return Err(Violation::State);
            }
            Chunk::Data(bytes, is_last) => {
                self.window = self.window.checked_sub(bytes.len()).ok_or(Violation::Window)?;
                if !self.is_stopped {
                    self.input.extend_from_slice(&bytes);
                }
                if is_last {
                    self.receiving = Receiving::Finished;
                }
                self.reader.take().into_iter().for_each(Waker::wake);
            }
            Chunk::Reset(code) => {
                self.receiving = Receiving::Reset(code);
                self.input = BytesMut::new();
                self.reader.take().into_iter().for_each(Waker::wake);
            }
            Chunk::Stop(code) => {
                if self.sending != Sending::Done && self.stopped.is_none() {
                    self.stopped = Some(code);
                    self.reset(code);
                    self.writer.take().into_iter().for_each(Waker::wake);
                }
            }
            // More than everything was never granted.
            Chunk::Credit(bytes) => {
                self.credit += usize::from(bytes);
                if self.credit > WINDOW_BYTES {
                    return Err(Violation::Window);
                }
            }
            Chunk::Gone => {}
        }
        if self.receiving != Receiving::Open {
            self.stop_due = None;
        }
        Ok(())
    }

    pub(super) fn has_output(&self) -> bool {
        let sends = match self.sending {
            Sending::Open => !self.out.is_empty() && self.credit > 0,
            Sending::Finishing => self.out.is_empty() || self.credit > 0,
            Sending::Resetting(_) => true,
            Sending::Done => false,
        };
        sends || self.stop_due.is_some() || self.grant().is_some()
    }

    /// Bytes to be granted anew.
    fn grant(&self) -> Option<u16> {
        let wants = self.receiving == Receiving::Open && !self.is_stopped;
        let due = self.owed.min(usize::from(u16::MAX));
        (wants && due >= GRANT_BYTES).then(|| u16::try_from(due).unwrap_or(u16::MAX))
    }

    /// Writes what is due: a chunk of data, and what is to be said beside it.
    pub(super) fn write(&mut self, id: u32, out: &mut BytesMut) {
        if let Some(code) = self.stop_due.take() {
            Chunk::Stop(code).write(id, out);
        }
        if let Some(bytes) = self.grant() {
            self.owed -= usize::from(bytes);
            self.window += usize::from(bytes);
            Chunk::Credit(bytes).write(id, out);
        }
        match self.sending {
            Sending::Open | Sending::Finishing => {
                let length = self.out.len().min(CHUNK_BYTES).min(self.credit);
                let is_last = self.sending == Sending::Finishing && length == self.out.len();
                if length > 0 || is_last {
                    self.credit -= length;
                    Chunk::Data(self.out.split_to(length).freeze(), is_last).write(id, out);
                    self.writer.take().into_iter().for_each(Waker::wake);
                }
                if is_last {
                    self.sending = Sending::Done;
                }
            }
            Sending::Resetting(code) => {
                Chunk::Reset(code).write(id, out);
                self.sending = Sending::Done;
            }
            Sending::Done => {}
        }
        if self.out.is_empty() {
            // An idle stream holds no memory.
            self.out = BytesMut::new();
        }
    }

    /// Whether both directions have ended and nobody holds the stream.
    pub(super) fn is_over(&self) -> bool {
        self.sending == Sending::Done
            && self.receiving != Receiving::Open
            && !self.has_reader
            && !self.has_writer
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.out.len() + self.input.len()
    }

    pub(super) fn take_wakers(&mut self) -> impl Iterator<Item = Waker> + use<> {
        self.reader.take().into_iter().chain(self.writer.take())
    }
}
