//! Streams in a stream, without I/O: bytes go in and come out, and who waits is woken.
//!
//! Streams take turns, a chunk each. A stream's reader grants its writer a window, and an end offers only
//! so many streams at a time, so nothing grows without a bound. What the other end sends is held to that.

mod chunk;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};

use self::{chunk::Chunk, stream::Stream};
pub use self::{
    chunk::{CHUNK_BYTES, HEAD_BYTES, Violation},
    stream::{SEND_BYTES, WINDOW_BYTES},
};

/// Streams that an end may have opened and the other not yet let go of: more than a device has
/// conversations that move at a time.
pub const MAX_STREAMS: usize = 256;

/// A stream's number: even ones are opened by the client, odd ones by the server.
pub type StreamId = u32;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// Why a stream can't be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The other end has reset or stopped the stream.
    Code(u16),
    /// This end has finished, reset or stopped it.
    Closed,
    /// The one stream below has ended.
    Ended,
}

/// One end of the streams in a stream.
#[derive(Debug)]
pub struct Mux {
    streams: BTreeMap<StreamId, Stream>,
    /// The next stream that is opened here.
    next_here: StreamId,
    /// The next one that the other end opens.
    next_there: StreamId,
    /// Opened here, and the other end hasn't let go of them.
    held_there: BTreeSet<StreamId>,
    /// Opened by the other end and not yet let go of: how many.
    held_here: usize,
    /// Opened by the other end and not yet accepted here.
    offered: VecDeque<StreamId>,
    /// Streams that have something to send, each once, in the order of their turns.
    turns: VecDeque<StreamId>,
    /// Streams let go of, and the other end is still to hear of it.
    gone: VecDeque<StreamId>,
    /// The beginning of a chunk.
    input: BytesMut,
    has_ended: bool,
    openers: Vec<Waker>,
    acceptor: Option<Waker>,
    output: Option<Waker>,
}

impl Mux {
    /// An end without streams.
    pub fn new(side: Side) -> Self {
        let (next_here, next_there) = match side {
            Side::Client => (0, 1),
            Side::Server => (1, 0),
        };
        Self {
            streams: BTreeMap::new(),
            next_here,
            next_there,
            held_there: BTreeSet::new(),
            held_here: 0,
            offered: VecDeque::new(),
            turns: VecDeque::new(),
            gone: VecDeque::new(),
            input: BytesMut::new(),
            has_ended: false,
            openers: Vec::new(),
            acceptor: None,
            output: None,
        }
    }

    /// Opens a stream, as soon as there may be a further one; the other end hears of it with its first bytes.
    ///
    /// # Errors
    ///
    /// [`Stop::Ended`].
    pub fn poll_open(&mut self, cx: &Context<'_>) -> Poll<Result<StreamId, Stop>> {
        if self.has_ended {
            return Poll::Ready(Err(Stop::Ended));
        }
        if self.held_there.len() >= MAX_STREAMS {
            // A task may ask again and again.
            if !self.openers.iter().any(|waker| waker.will_wake(cx.waker())) {
                self.openers.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let id = self.next_here;
        self.next_here += 2;
        self.held_there.insert(id);
        self.streams.insert(id, Stream::new());
        Poll::Ready(Ok(id))
    }

    /// The next stream that the other end has opened. One task may wait at a time.
    ///
    /// # Errors
    ///
    /// [`Stop::Ended`].
    pub fn poll_accept(&mut self, cx: &Context<'_>) -> Poll<Result<StreamId, Stop>> {
        match self.offered.pop_front() {
            Some(id) => Poll::Ready(Ok(id)),
            None if self.has_ended => Poll::Ready(Err(Stop::Ended)),
            None => {
                self.acceptor = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Reads up to so many bytes; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// [`Stop`] says why nothing more comes.
    pub fn poll_read(
        &mut self,
        id: StreamId,
        most_bytes: usize,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Stop>> {
        let has_ended = self.has_ended;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(Stop::Closed));
        };
        let read = stream.poll_read(most_bytes, has_ended, cx);
        self.take_turn(id);
        read
    }

    /// Takes as many bytes as there is room for, and says how many.
    ///
    /// # Errors
    ///
    /// [`Stop`] says why nothing more goes.
    pub fn poll_write(
        &mut self,
        id: StreamId,
        bytes: &[u8],
        cx: &Context<'_>,
    ) -> Poll<Result<usize, Stop>> {
        if self.has_ended {
            return Poll::Ready(Err(Stop::Ended));
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(Stop::Closed));
        };
        let written = stream.poll_write(bytes, cx);
        self.take_turn(id);
        written
    }

    /// Waits until the other end wants no more of the stream, and says with which code.
    ///
    /// # Errors
    ///
    /// [`Stop::Ended`].
    pub fn poll_stopped(&mut self, id: StreamId, cx: &Context<'_>) -> Poll<Result<u16, Stop>> {
        match self.streams.get_mut(&id).and_then(|stream| stream.stopped(cx)) {
            Some(code) => Poll::Ready(Ok(code)),
            None if self.has_ended => Poll::Ready(Err(Stop::Ended)),
            None => Poll::Pending,
        }
    }

    /// Ends the stream behind what was written.
    pub fn finish(&mut self, id: StreamId) {
        self.with(id, Stream::finish);
    }

    /// Breaks the stream off.
    pub fn reset(&mut self, id: StreamId, code: u16) {
        self.with(id, |stream| stream.reset(code));
    }

    /// Asks the other end to send no more.
    pub fn stop(&mut self, id: StreamId, code: u16) {
        self.with(id, |stream| stream.stop(code));
    }

    /// The stream won't be written any more: it is finished unless it has ended otherwise.
    pub fn drop_writer(&mut self, id: StreamId) {
        self.with(id, Stream::drop_writer);
        self.let_go(id);
    }

    /// The stream won't be read any more: it is stopped unless it has ended.
    pub fn drop_reader(&mut self, id: StreamId) {
        self.with(id, Stream::drop_reader);
        self.let_go(id);
    }

    /// Takes what came over the one stream.
    ///
    /// # Errors
    ///
    /// A [`Violation`], after which the connection is to be ended.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.input.extend_from_slice(bytes);
        while let Some((id, chunk)) = Chunk::read(&mut self.input)? {
            if chunk == Chunk::Gone {
                if !self.held_there.remove(&id) {
                    return Err(Violation::State);
                }
                self.openers.drain(..).for_each(Waker::wake);
                continue;
            }
            self.offer_up_to(id)?;
            match self.streams.get_mut(&id) {
                Some(stream) => stream.receive(chunk)?,
                // The two may cross the end of the stream, which the reader and writer were told.
                None if matches!(chunk, Chunk::Stop(_) | Chunk::Credit(_)) => {}
                None => return Err(Violation::State),
            }
            self.take_turn(id);
            self.let_go(id);
        }
        Ok(())
    }

    /// Adds to `out` what is to be sent, at most about so many bytes; pending if there is nothing.
    ///
    /// # Errors
    ///
    /// [`Stop::Ended`].
    pub fn poll_output(
        &mut self,
        out: &mut BytesMut,
        most_bytes: usize,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Stop>> {
        if self.has_ended {
            return Poll::Ready(Err(Stop::Ended));
        }
        while out.len() < most_bytes {
            if let Some(id) = self.gone.pop_front() {
                Chunk::Gone.write(id, out);
                continue;
            }
            let Some(id) = self.turns.pop_front() else { break };
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.is_waiting = false;
                stream.write(id, out);
            }
            self.take_turn(id);
            self.let_go(id);
        }
        if out.is_empty() {
            self.output = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// The one stream below has ended: whoever waits hears of it.
    pub fn end(&mut self) {
        self.has_ended = true;
        self.openers.drain(..).for_each(Waker::wake);
        let waiting = self.streams.values_mut().flat_map(Stream::take_wakers);
        waiting.chain(self.acceptor.take()).chain(self.output.take()).for_each(Waker::wake);
    }

    /// Bytes held for reading and sending, over all streams.
    pub fn buffered_bytes(&self) -> usize {
        self.input.len() + self.streams.values().map(Stream::buffered_bytes).sum::<usize>()
    }

    /// The streams that both ends or one of them still use.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    fn with(&mut self, id: StreamId, act: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.get_mut(&id) {
            act(stream);
            self.take_turn(id);
        }
    }

    fn is_from_here(&self, id: StreamId) -> bool {
        id % 2 == self.next_here % 2
    }

    /// The first chunk of a stream of the other end opens it, and those below, which may have been
    /// overtaken.
    fn offer_up_to(&mut self, id: StreamId) -> Result<(), Violation> {
        if self.is_from_here(id) {
            return if id < self.next_here { Ok(()) } else { Err(Violation::State) };
        }
        while self.next_there <= id {
            if self.held_here >= MAX_STREAMS {
                return Err(Violation::Streams);
            }
            let next = self.next_there.checked_add(2).ok_or(Violation::Streams)?;
            self.streams.insert(self.next_there, Stream::new());
            self.offered.push_back(self.next_there);
            self.held_here += 1;
            self.next_there = next;
            self.acceptor.take().into_iter().for_each(Waker::wake);
        }
        Ok(())
    }

    /// Lines the stream up if it has something to send.
    fn take_turn(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.is_waiting
            && stream.has_output()
        {
            stream.is_waiting = true;
            self.turns.push_back(id);
            self.output.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Forgets the stream if nobody uses it any more.
    fn let_go(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.streams.remove(&id);
            if !self.is_from_here(id) {
                self.held_here -= 1;
                self.gone.push_back(id);
                self.output.take().into_iter().for_each(Waker::wake);
            }
        }
    }
}
