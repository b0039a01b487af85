//! The sending side of a conversation, without an outbox on disk.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use quinn::Connection;
use tern_protocol::{
    frame::{Envelope, Frame, OpenUplink, Send},
    id::{AccountId, ConversationId},
    uplink::Sender,
};
use tokio::time::{Instant, sleep};

use crate::{
    error::{BenchError, Context, Result},
    io::{FrameReader, FrameWriter},
};

/// An uplink: messages are queued, pushed as far as the window allows, and answered in order.
pub struct Uplink {
    writer: FrameWriter,
    reader: FrameReader,
    sender: Sender,
    started: Instant,
    waiting: VecDeque<(u64, Bytes)>,
    on_the_way: BTreeMap<u64, Bytes>,
    refusals: u64,
    frames: Vec<Frame>,
}

impl Uplink {
    pub(crate) async fn open(
        connection: &Connection,
        own: AccountId,
        peer: AccountId,
        window: u16,
    ) -> Result<Self> {
        let conversation = ConversationId::direct(own, peer)
            .ok_or_else(|| BenchError::new("a device can't write to itself"))?;
        let (send, recv) = connection.open_bi().await.context("no stream for an uplink")?;
        let mut writer = FrameWriter::new(send);
        writer.push(&Frame::OpenUplink(OpenUplink { conversation, peer: Some(peer) }));
        Ok(Self {
            writer,
            reader: FrameReader::new(recv),
            sender: Sender::new(0, [], window),
            started: Instant::now(),
            waiting: VecDeque::new(),
            on_the_way: BTreeMap::new(),
            refusals: 0,
            frames: Vec::new(),
        })
    }

    /// Adds a message to what is sent. Its id must be new.
    pub fn queue(&mut self, message_id: u64, envelope: Bytes) {
        self.waiting.push_back((message_id, envelope));
    }

    /// Sends what the window allows.
    pub async fn push(&mut self) -> Result<()> {
        while let Some((message_id, _)) = self.waiting.front() {
            if self.sender.assign(*message_id).is_none() {
                break;
            }
            if let Some((message_id, envelope)) = self.waiting.pop_front() {
                self.on_the_way.insert(message_id, envelope);
            }
        }
        while let Some(head) = self.sender.next_send(self.now_ms()) {
            let envelope = self.on_the_way.get(&head.message_id).cloned().unwrap_or_default();
            self.writer.push(&Frame::Send(Send {
                counter: head.counter,
                message_id: head.message_id,
                settled: head.settled,
                envelope: Envelope(envelope),
            }));
        }
        self.writer.flush().await
    }

    /// Waits for answers and appends the ids of accepted messages. Nothing is lost if the future is
    /// dropped.
    pub async fn answers(&mut self, accepted: &mut Vec<u64>) -> Result<()> {
        let resume_in = self
            .sender
            .resume_at_ms(self.now_ms())
            .map(|at_ms| Duration::from_millis(at_ms.saturating_sub(self.now_ms())));
        tokio::select! {
            more = self.reader.fill(&mut self.frames) => {
                if !more? {
                    return Err(BenchError::new("the server ended an uplink"));
                }
            }
            () = sleep(resume_in.unwrap_or_default()), if resume_in.is_some() => {}
        }
        let now_ms = self.now_ms();
        for frame in self.frames.drain(..) {
            match frame {
                Frame::Accepted(answer) => {
                    let id = self.sender.accepted(&answer).map_err(|code| {
                        BenchError::new(format!("an answer to nothing: {}", code.name()))
                    })?;
                    self.sender.settle(answer.counter);
                    if let Some(id) = id {
                        self.on_the_way.remove(&id);
                        accepted.push(id);
                    }
                }
                Frame::Refused(refused) => {
                    self.refusals += 1;
                    let outcome = self.sender.refused(&refused, now_ms).map_err(|code| {
                        BenchError::new(format!("a refusal of nothing: {}", code.name()))
                    })?;
                    if let Some((_, code)) = outcome.failed {
                        let name = code.name();
                        return Err(BenchError::new(format!("a send was refused: {name}")));
                    }
                }
                Frame::Extension(_) => {}
                frame => {
                    return Err(BenchError::new(format!("not an answer: {frame:?}")));
                }
            }
        }
        Ok(())
    }

    /// Whether everything that was queued is accepted.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.sender.is_idle()
    }

    /// Refusals for now, after which messages were sent again.
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Ends the stream.
    pub fn finish(&mut self) {
        self.writer.finish();
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
