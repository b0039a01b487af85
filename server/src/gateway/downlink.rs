//! One downlink: sends what waits for the device in one conversation, takes its acks.
//!
//! Two halves run side by side in one task: [`Downlink::pump`] writes, [`Downlink::take_acks`] reads. A
//! message that was appended a moment ago comes from memory; whatever isn't there comes from the
//! store, in chunks. Everything is dense: between two deliveries, what isn't delivered is skipped.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quinn::ConnectionError;
use tern_protocol::{
    code::Code,
    downlink,
    frame::{Account, Deliver, Envelope, Frame, OpenDownlink, Skip, SkipReason},
    id::ConversationId,
    limits,
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout},
};

use super::{
    session::Session,
    streams::{FrameWriter, Frames, RecvStream, SendStream, Stop},
    uplink::End,
};
use crate::{
    conversation::{Snapshot, Unavailable},
    hub::Slot,
    keys,
    records::MessageRecord,
};

/// Bytes that are collected before they are written.
const WRITE_BYTES: usize = 32 * 1024;
/// Messages read from the store at once: at first, and at most when they are small.
const CHUNK_MESSAGES: (usize, usize) = (16, 128);
/// Chunks whose messages take less than this are followed by larger ones.
const SMALL_CHUNK_BYTES: usize = 32 * 1024;

/// Keeps downlinks in the order in which they were asked for: the next one is opened when this one
/// is, or turned out to have nothing to say.
pub(super) struct Turn {
    /// Ends when it is this one's turn.
    before: Option<oneshot::Receiver<()>>,
    /// Dropped when it is the next one's.
    after: oneshot::Sender<()>,
}

impl Turn {
    /// The turn behind `last`, which becomes that behind this one.
    pub(super) fn behind(last: &mut Option<oneshot::Receiver<()>>) -> Self {
        let (after, next) = oneshot::channel();
        Self { before: last.replace(next), after }
    }

    /// Waits for the turn; it is over when the result is dropped.
    async fn come(self) -> oneshot::Sender<()> {
        if let Some(before) = self.before {
            // Nobody sends: the end of the sender is the signal.
            let _ = before.await;
        }
        self.after
    }
}

/// Opens a downlink for a conversation and serves it until there is nothing to do for a while. The
/// error closes the connection.
pub(super) async fn serve(
    session: Arc<Session>,
    conversation: ConversationId,
    wake: Arc<Notify>,
    turn: Turn,
) -> End {
    let end = open_and_serve(&session, conversation, &wake, turn).await;
    session.inbox.release(conversation);
    end
}

async fn open_and_serve(
    session: &Session,
    conversation: ConversationId,
    wake: &Notify,
    turn: Turn,
) -> End {
    // What the inbox has was durable before it got there, so the snapshot asked for now covers it.
    let first = session.inbox.take(conversation);
    let conversations = &session.shared.owners;
    let snapshot = match conversations.snapshot(conversation, session.device).await {
        Ok(Some(snapshot)) => snapshot,
        // A stale mark: the device has no part in it (any more).
        Ok(None) => {
            session.inbox.abandoned(conversation);
            return Ok(());
        }
        Err(Unavailable) => return Err(Code::Internal),
    };
    if snapshot.cursor.seq >= snapshot.foreign_head && snapshot.receipts.is_empty() {
        session.inbox.abandoned(conversation);
        return Ok(());
    }
    let Some(peer) = snapshot.members.iter().find(|&&member| member != session.account) else {
        return Err(Code::Internal);
    };
    let info = session.shared.directory.account(*peer).await;
    let info = info.map_err(|error| session.internal(&error))?;
    let name = info.map_or_else(String::new, |info| info.name.clone());
    let turn = turn.come().await;
    let Ok((send, receive)) = open_stream(session).await else { return Ok(()) };
    drop(turn);
    let mut writer = FrameWriter::new(send);
    writer.queue(&Frame::OpenDownlink(OpenDownlink {
        conversation,
        start: snapshot.cursor.seq,
        head: snapshot.head,
        peer: Account { account: *peer, name },
        revision: snapshot.cursor.revision,
    }));
    session.shared.metrics.downlinks.inc();
    let downlink = Downlink {
        session,
        conversation,
        wake,
        sender: Mutex::new(downlink::Sender::new(snapshot.cursor)),
        acked: Notify::new(),
        ack_done: Notify::new(),
        is_acked: AtomicBool::new(false),
        is_acking: AtomicBool::new(false),
    };
    let mut frames = Frames::new(receive);
    let end = tokio::select! {
        // In a fixed order, so that a simulated run can be repeated; acks first, since they are few and make room.
        biased;
        read = downlink.take_acks(&mut frames) => read,
        pumped = downlink.pump(snapshot, first, &mut writer) => match pumped {
            Ok(()) => {
                writer.finish();
                downlink.await_end(&mut frames).await
            }
            Err(end) => end,
        },
        () = downlink.is_left_behind() => {
            session.inbox.again(conversation);
            writer.reset(Code::NoError);
            frames.stop(Code::NoError);
            Ok(())
        }
    };
    session.shared.metrics.downlinks.dec();
    end
}

/// Opens a stream. If the client allows no further one, other downlinks make room.
async fn open_stream(session: &Session) -> Result<(SendStream, RecvStream), ConnectionError> {
    let mut opening = std::pin::pin!(session.connection.open_bi());
    tokio::select! {
        biased;
        opened = &mut opening => return opened,
        () = std::future::ready(()) => {}
    }
    let _kept_out = session.inbox.keep_out();
    opening.await
}

struct Downlink<'a> {
    session: &'a Session,
    conversation: ConversationId,
    /// Told when the inbox has something for this conversation.
    wake: &'a Notify,
    sender: Mutex<downlink::Sender>,
    /// Told when an ack came.
    acked: Notify,
    /// Told when an ack has taken effect.
    ack_done: Notify,
    /// Whether any ever did.
    is_acked: AtomicBool,
    /// Whether one is being carried out, which the end of the stream must not cut off.
    is_acking: AtomicBool,
}

impl Downlink<'_> {
    /// Writes until nothing has happened for a while and all is acknowledged. The error is the end
    /// of the stream, and of the connection if it has a code.
    async fn pump(
        &self,
        snapshot: Snapshot,
        first: Slot,
        writer: &mut FrameWriter,
    ) -> Result<(), End> {
        let idle = Duration::from_millis(u64::from(self.session.limits.stream_idle_for_ms));
        let mut target = snapshot.foreign_head;
        let mut expired_to = snapshot.expired_to;
        for receipt in &snapshot.receipts {
            self.queue_receipt(receipt, writer);
        }
        let mut slot = first;
        let mut last_active = Instant::now();
        loop {
            if slot.behind {
                // Something didn't fit into memory: ask how far the conversation has come.
                let owners = &self.session.shared.owners;
                match owners.snapshot(self.conversation, self.session.device).await {
                    Ok(Some(now)) => {
                        (target, expired_to) = (now.foreign_head, now.expired_to);
                        for receipt in &now.receipts {
                            self.queue_receipt(receipt, writer);
                        }
                    }
                    Ok(None) => return Err(Ok(())),
                    Err(Unavailable) => return Err(Err(Code::Internal)),
                }
            }
            for (foreign_head, appended) in &slot.live {
                let sent = self.sender().sent_seq();
                if appended.seq > sent {
                    self.send_stored(*foreign_head, expired_to, writer).await?;
                    self.queue_message(appended.seq, &appended.message, writer).await?;
                }
            }
            self.send_stored(target, expired_to, writer).await?;
            let mut receipts: Vec<_> = slot.receipts.values().collect();
            receipts.sort_by_key(|receipt| receipt.revision);
            for receipt in receipts {
                self.queue_receipt(receipt, writer);
            }
            self.flush(writer).await?;
            loop {
                slot = self.session.inbox.take(self.conversation);
                if !slot.is_empty() {
                    last_active = Instant::now();
                    break;
                }
                if self.is_settled() && self.session.inbox.should_give_way() {
                    return Ok(());
                }
                tokio::select! {
                    biased;
                    () = self.wake.notified() => {}
                    () = self.acked.notified() => last_active = Instant::now(),
                    () = tokio::time::sleep_until(last_active + idle) => {
                        if self.is_settled() {
                            return Ok(());
                        }
                        last_active = Instant::now();
                    }
                }
            }
        }
    }

    /// Sends what the store has, up to and including `target`.
    async fn send_stored(
        &self,
        target: u64,
        expired_to: u64,
        writer: &mut FrameWriter,
    ) -> Result<(), End> {
        let mut chunk = CHUNK_MESSAGES.0;
        // What was looked at, which is more than what was sent where the device's own messages are.
        let mut seen = self.sender().sent_seq();
        loop {
            if self.sender().sent_seq() >= target {
                return Ok(());
            }
            let scan = keys::messages(self.conversation, seen + 1, target, chunk);
            self.session.shared.metrics.store_scans.inc();
            let pairs = match self.session.shared.store.scan(scan).await {
                Ok(pairs) => pairs,
                Err(error) => return Err(Err(self.session.internal(&error))),
            };
            let bytes: usize = pairs.iter().map(|(_, value)| value.len()).sum();
            let complete = pairs.len() < chunk;
            for (key, value) in &pairs {
                let message = MessageRecord::from_bytes(value)
                    .map_err(|error| Err(self.session.internal(&error)))?;
                let Some(seq) = keys::parse_message_seq(key) else {
                    return Err(Err(Code::Internal));
                };
                seen = seq;
                if message.device != self.session.device {
                    self.skip_gap(seq - 1, expired_to, writer);
                    self.queue_message(seq, &message, writer).await?;
                }
            }
            if complete {
                // What is left was deleted, or is the device's own.
                self.skip_gap(target, expired_to, writer);
                return Ok(());
            }
            if bytes < SMALL_CHUNK_BYTES {
                chunk = (chunk * 2).min(CHUNK_MESSAGES.1);
            }
        }
    }

    async fn queue_message(
        &self,
        seq: u64,
        message: &MessageRecord,
        writer: &mut FrameWriter,
    ) -> Result<(), End> {
        self.skip_gap(seq - 1, 0, writer);
        if writer.queued_bytes() + message.envelope.len() > WRITE_BYTES {
            self.flush(writer).await?;
        }
        while self.sender().room() == 0 {
            self.flush(writer).await?;
            self.acked.notified().await;
        }
        writer.queue(&Frame::Deliver(Deliver {
            seq,
            account: message.account,
            device: message.device,
            message_id: message.message_id,
            time_ms: message.time_ms,
            envelope: Envelope(message.envelope.clone()),
        }));
        self.sender().sent_up_to(seq);
        self.session.shared.metrics.deliveries.inc();
        Ok(())
    }

    /// Skips what hasn't been sent up to and including `up_to`.
    fn skip_gap(&self, up_to: u64, expired_to: u64, writer: &mut FrameWriter) {
        let mut sender = self.sender();
        let expired = expired_to.min(up_to);
        if sender.sent_seq() < expired {
            let skip = Skip { up_to: expired, reason: SkipReason::Expired };
            writer.queue(&Frame::Skip(skip));
            sender.sent_up_to(expired);
        }
        if sender.sent_seq() < up_to {
            writer.queue(&Frame::Skip(Skip { up_to, reason: SkipReason::Own }));
            sender.sent_up_to(up_to);
        }
    }

    fn queue_receipt(&self, receipt: &tern_protocol::frame::Receipt, writer: &mut FrameWriter) {
        let mut sender = self.sender();
        if receipt.revision > sender.sent_revision() {
            writer.queue(&Frame::Receipt(receipt.clone()));
            sender.sent_receipts_up_to(receipt.revision);
            self.session.shared.metrics.receipts.inc();
        }
    }

    async fn flush(&self, writer: &mut FrameWriter) -> Result<(), End> {
        // The device stopped the stream; it gets another with the next news.
        writer.flush().await.map_err(|_| Ok(()))
    }

    /// Takes acks until the stream ends, which is for the server to do, so it is an end of all.
    async fn take_acks(&self, frames: &mut Frames) -> End {
        loop {
            let mut last = match frames.next().await {
                Ok(Some(frame)) => frame,
                Ok(None) | Err(Stop::Reset | Stop::Lost) => return Ok(()),
                Err(Stop::Decode(error)) => return Err(self.session.refused_frame(&error)),
            };
            // Each ack is held to what was sent; only the last of those that came together counts.
            let mut news = false;
            loop {
                match last {
                    Frame::Ack(ack) => {
                        news |= self.sender().ack(&ack)?;
                        self.is_acked.store(true, Ordering::Relaxed);
                        frames.set_limit(limits::FRAME_BYTES);
                    }
                    // The first frame of this direction is an ack.
                    Frame::Extension(_) if self.is_acked.load(Ordering::Relaxed) => {}
                    _ => return Err(Code::UnexpectedFrame),
                }
                match frames.next_buffered() {
                    Ok(Some(frame)) => last = frame,
                    Ok(None) => break,
                    Err(Stop::Decode(error)) => return Err(self.session.refused_frame(&error)),
                    Err(_) => return Ok(()),
                }
            }
            if news {
                self.is_acking.store(true, Ordering::Relaxed);
                let acked = self.sender().acked();
                let (conversation, device) = (self.conversation, self.session.device);
                let owners = &self.session.shared.owners;
                if owners.ack(conversation, device, acked).await.is_err() {
                    return Err(Code::Internal);
                }
                self.session.shared.metrics.acks.inc();
                self.session.inbox.acknowledged(self.conversation, acked.seq);
                self.is_acking.store(false, Ordering::Relaxed);
                self.acked.notify_one();
                self.ack_done.notify_one();
            }
        }
    }

    /// Returns when the client has moved to another path while something was under way on the old one.
    /// What is sent anew on a new stream is there a round trip before QUIC knows that the old packets
    /// are lost; what did arrive, the client knows by its number.
    async fn is_left_behind(&self) {
        let moves = self.session.moves();
        let mut seen = moves.count();
        loop {
            seen = moves.beyond(seen).await;
            while self.is_acking.load(Ordering::Relaxed) {
                self.ack_done.notified().await;
            }
            if !self.sender().is_settled() {
                return;
            }
        }
    }

    /// The server has ended its direction: waits for the device to end the other.
    async fn await_end(&self, frames: &mut Frames) -> End {
        let wait = Duration::from_millis(limits::OPEN_TIMEOUT_MS);
        match timeout(wait, self.take_acks(frames)).await {
            Ok(end) => end,
            Err(_) => {
                frames.stop(Code::StreamIdle);
                Ok(())
            }
        }
    }

    /// Whether everything that was sent is acknowledged, and the acks have taken effect.
    fn is_settled(&self) -> bool {
        !self.is_acking.load(Ordering::Relaxed) && self.sender().is_settled()
    }

    fn sender(&self) -> MutexGuard<'_, downlink::Sender> {
        // It holds four numbers, each changed in one step.
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
