//! One conversation's uplink: sends, read marks and typing go up, answers come down.
//!
//! What to send, and what an answer means, is decided by `tern_protocol::uplink::Sender`; the order
//! of storing and sending is kept here.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::FutureExt;
use quinn::ConnectionError;
use tern_protocol::{
    code::Code,
    frame::{Frame, OpenUplink, ReadMark, Send, Typing},
    id::{AccountId, ConversationId},
    uplink::Sender,
};
use tokio::{
    sync::{Mutex, Semaphore, mpsc},
    time::{Instant, sleep_until},
};

use super::{
    io::{Connection, FrameReader, FrameWriter, IoError, RecvStream, SendStream},
    pulse::{Due, Unanswered},
};
use crate::{
    core::Core,
    error::ConnectError,
    event::ClientEvent,
    store::{
        StoreError, conversations,
        outbox::{self, Answer, Numbered},
    },
};

/// How long the server may take to end its direction of a stream that this end has ended.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of sends that are handed to QUIC at a time.
const WRITE_BYTES: usize = 64 * 1024;

/// What an uplink is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// There may be something new in the store.
    Look,
    /// The user is typing, or stopped.
    Typing(bool),
    /// The network changed: what is unanswered goes again, on a new stream.
    Again,
}

/// How an uplink ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Nothing more to say, or its place was wanted by another.
    Idle,
    /// The server or this end broke it off; open another if there is something to say.
    Reset(Code),
    /// The connection is of no more use.
    Broken(ConnectError),
}

impl From<IoError> for Ended {
    fn from(error: IoError) -> Self {
        match error {
            IoError::Reset(code) => Self::Reset(code),
            // Everything is sent again, by a new uplink.
            IoError::EarlyDataRejected => Self::Reset(Code::StreamIdle),
            other => Self::Broken(other.into()),
        }
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Broken(error.into())
    }
}

/// How long an uplink waits for a stream before it asks a further one to give up its own: servers may
/// allow new streams only when several have ended.
const STARVED_PATIENCE: Duration = Duration::from_millis(300);
/// Uplinks that are asked at a time: more than an eighth of the streams of a generous server, which is when
/// QUIC's implementations allow new ones.
const MOST_WANTED: usize = 16;

/// The uplinks that wait for a stream, and the idle ones that give theirs up.
pub(crate) struct Starved {
    /// Whose turn it is to get the next stream; fair, so that no newcomer takes a place that was made
    /// for another.
    turn: Mutex<()>,
    /// A permit for each place that is wanted.
    places: Semaphore,
}

impl Starved {
    pub(crate) fn new() -> Self {
        Self { turn: Mutex::new(()), places: Semaphore::new(0) }
    }

    /// Opens a stream. If all that the server allows are in use, the uplink that has been idle for
    /// longest gives its own up.
    async fn open(
        &self,
        connection: &Connection,
    ) -> Result<(SendStream, RecvStream), ConnectionError> {
        let _turn = self.turn.lock().await;
        if let Some(streams) = connection.open_bi().now_or_never() {
            return streams;
        }
        let mut open = std::pin::pin!(connection.open_bi());
        loop {
            if self.places.available_permits() < MOST_WANTED {
                self.places.add_permits(1);
            }
            if let Ok(streams) = tokio::time::timeout(STARVED_PATIENCE, &mut open).await {
                // Nobody needs to make place any more.
                self.places.forget_permits(self.places.available_permits());
                return streams;
            }
        }
    }

    /// Returns when the caller is to give its stream up. First come, first served, so it is the
    /// one that has been idle for longest.
    async fn wanted(&self) {
        match self.places.acquire().await {
            Ok(place) => place.forget(),
            Err(_) => std::future::pending().await,
        }
    }
}

/// Runs an uplink until it ends. `starved` is shared by the uplinks of a
/// connection.
pub(crate) async fn run(
    core: Arc<Core>,
    connection: Connection,
    conversation: ConversationId,
    window: u16,
    orders: mpsc::Receiver<Order>,
    starved: Arc<Starved>,
    unanswered: Unanswered,
) -> Ended {
    match Uplink::open(core, &connection, conversation, window, &starved).await {
        Ok(uplink) => uplink.run(orders, &starved, unanswered).await.unwrap_or_else(|ended| ended),
        Err(ended) => ended,
    }
}

struct Uplink {
    core: Arc<Core>,
    conversation: ConversationId,
    reader: FrameReader,
    writer: FrameWriter,
    sender: Sender,
    /// What the sender deals with, by message id.
    messages: HashMap<u64, Numbered>,
    /// The highest counter taken from the store.
    taken: u64,
    window: u16,
    /// The highest read mark sent on this stream, and whether its answer is due.
    mark: u64,
    mark_due: bool,
    started: Instant,
}

impl Uplink {
    async fn open(
        core: Arc<Core>,
        connection: &Connection,
        conversation: ConversationId,
        window: u16,
        starved: &Starved,
    ) -> Result<Self, Ended> {
        let opened = starved.open(connection).await;
        let (send, recv) = opened.map_err(|error| Ended::Broken(error.into()))?;
        let limit = usize::from(window);
        let stored = core
            .store
            .durably(move |db| {
                let peer: AccountId = conversations::peer(db, conversation)?;
                Ok((peer, outbox::take(db, conversation, 0, limit)?))
            })
            .await;
        let (peer, taken) = match stored {
            // Somebody is typing where nothing was said yet: the first message opens the stream.
            Err(StoreError::UnknownConversation) => return Err(Ended::Idle),
            stored => stored?,
        };
        let unanswered = taken.messages.iter().map(|m| (m.counter, m.message_id));
        let mut uplink = Self {
            sender: Sender::new(taken.settled, unanswered, window),
            taken: taken.messages.last().map_or(taken.settled, |last| last.counter),
            messages: taken.messages.into_iter().map(|m| (m.message_id, m)).collect(),
            reader: FrameReader::new(recv, core.signs.clone()),
            writer: FrameWriter::new(send, core.signs.clone()),
            core,
            conversation,
            window,
            mark: 0,
            mark_due: false,
            started: Instant::now(),
        };
        uplink.writer.push(&Frame::OpenUplink(OpenUplink { conversation, peer: Some(peer) }));
        Ok(uplink)
    }

    async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        starved: &Starved,
        unanswered: Unanswered,
    ) -> Result<Ended, Ended> {
        let mut due = Due::new(unanswered);
        let idle_for = self.core.settings.uplink_idle;
        self.push_mark().await?;
        loop {
            self.push_sends().await?;
            self.writer.flush().await?;
            let is_idle = self.sender.is_idle() && !self.mark_due;
            due.set(!is_idle);
            let resume_at = self.sender.resume_at_ms(self.now_ms());
            let timer = match resume_at {
                Some(at_ms) => self.started + Duration::from_millis(at_ms),
                None => Instant::now() + idle_for,
            };
            tokio::select! {
                biased;
                filled = self.reader.fill() => {
                    if !filled? {
                        return Ok(Ended::Reset(Code::StreamIdle));
                    }
                    self.take_answers().await?;
                }
                order = orders.recv() => match order {
                    Some(first) => self.obey(first, &mut orders).await?,
                    None => return Ok(self.finish().await),
                },
                () = sleep_until(timer), if is_idle || resume_at.is_some() => {
                    if is_idle {
                        return Ok(self.finish().await);
                    }
                }
                () = starved.wanted(), if is_idle => {
                    return Ok(self.finish().await);
                }
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn obey(
        &mut self,
        first: Order,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<(), Ended> {
        let mut typing = None;
        let mut order = Some(first);
        while let Some(now) = order {
            match now {
                Order::Typing(active) => typing = Some(active),
                // Sent anew it is there a round trip before QUIC knows that the old packets are lost.
                Order::Again if !self.sender.is_idle() || self.mark_due => {
                    return Err(self.restart());
                }
                Order::Again | Order::Look => {}
            }
            order = orders.try_recv().ok();
        }
        if let Some(active) = typing {
            self.writer.push(&Frame::Typing(Typing { active }));
        }
        self.push_mark().await?;
        self.take_more().await
    }

    /// Takes further messages from the store, as far as the window has room.
    async fn take_more(&mut self) -> Result<(), Ended> {
        let room = usize::from(self.window).saturating_sub(self.messages.len());
        if room == 0 {
            return Ok(());
        }
        let (conversation, behind) = (self.conversation, self.taken);
        let taken =
            self.core.store.durably(move |db| outbox::take(db, conversation, behind, room)).await?;
        for message in taken.messages {
            let assigned = self.sender.assign(message.message_id);
            if assigned != Some(message.counter) {
                // Two uplinks of this conversation have worked on the store at the same time, while
                // one connection took the place of another. The store is right: begin anew from it.
                return Err(self.restart());
            }
            self.taken = message.counter;
            self.messages.insert(message.message_id, message);
        }
        Ok(())
    }

    fn restart(&mut self) -> Ended {
        self.writer.reset(Code::NoError);
        self.reader.stop(Code::NoError);
        Ended::Reset(Code::StreamIdle)
    }

    async fn push_sends(&mut self) -> Result<(), Ended> {
        while let Some(head) = self.sender.next_send(self.now_ms()) {
            let Some(message) = self.messages.get(&head.message_id) else {
                return Err(self.restart());
            };
            self.writer.push(&Frame::Send(Send {
                counter: head.counter,
                message_id: head.message_id,
                settled: head.settled,
                envelope: message.envelope.clone(),
            }));
            if self.writer.len() >= WRITE_BYTES {
                self.writer.flush().await?;
            }
        }
        Ok(())
    }

    async fn push_mark(&mut self) -> Result<(), Ended> {
        let conversation = self.conversation;
        let wanted = self
            .core
            .store
            .quickly(move |db| conversations::read_to_tell(db, conversation))
            .await?;
        if let Some(up_to) = wanted.filter(|&up_to| up_to > self.mark) {
            self.mark = up_to;
            self.mark_due = true;
            self.writer.push(&Frame::ReadMark(ReadMark { up_to }));
        }
        Ok(())
    }

    async fn take_answers(&mut self) -> Result<(), Ended> {
        while self.take_some().await? {}
        self.take_more().await
    }

    /// Deals with the answers that came together in one step of the store, but for those behind a conflict: only the
    /// store says whether they are still of use. The result is whether there may be such.
    async fn take_some(&mut self) -> Result<bool, Ended> {
        let mut answers = Vec::new();
        let mut events = Vec::new();
        let mut conflict = None;
        let mut marked = None;
        while let Some(frame) = self.reader.ready() {
            match frame {
                Frame::Accepted(accepted) => {
                    let message_id = self.sender.accepted(&accepted).map_err(protocol)?;
                    if let Some(message) = message_id.and_then(|id| self.messages.remove(&id)) {
                        let (seq, time_ms) = (accepted.seq, accepted.time_ms);
                        answers.push(Answer::Accepted { local: message.local, seq, time_ms });
                        events.push(ClientEvent::Sent {
                            local: message.local,
                            conversation: self.conversation,
                            seq,
                            time_ms,
                        });
                    }
                }
                Frame::Refused(refused) => {
                    let now_ms = self.now_ms();
                    let outcome = self.sender.refused(&refused, now_ms).map_err(protocol)?;
                    if let Some((message_id, code)) = outcome.failed
                        && let Some(message) = self.messages.remove(&message_id)
                    {
                        let local = message.local;
                        answers.push(Answer::Failed { local, code });
                        events.push(ClientEvent::Failed { local, code });
                    }
                    if let Some(now) = outcome.conflict {
                        let Some(message) = self.messages.get(&now.refused.message_id) else {
                            return Err(self.restart());
                        };
                        conflict = Some((message.local, now));
                    }
                    for (message_id, counter) in outcome.renumbered {
                        if let Some(message) = self.messages.get_mut(&message_id) {
                            message.counter = counter;
                        }
                    }
                    self.taken = self.highest_counter(refused.last);
                    if conflict.is_some() {
                        break;
                    }
                }
                Frame::Marked(now) => marked = marked.max(Some(now.up_to)),
                Frame::Extension(_) => {}
                _ => return Err(protocol(Code::UnexpectedFrame)),
            }
        }
        if let Some(up_to) = marked {
            self.mark_due = up_to < self.mark;
        }
        let conversation = self.conversation;
        let settled = self
            .core
            .store
            .durably(move |db| {
                if let Some(up_to) = marked {
                    conversations::read_known(db, conversation, up_to)?;
                }
                let settled = outbox::answered(db, conversation, &answers)?;
                Ok(match conflict {
                    Some((local, conflict)) => {
                        let is_old = outbox::renumber(db, conversation, local, &conflict)?;
                        is_old.then_some(conflict.last)
                    }
                    None => Some(settled),
                })
            })
            .await?;
        if !events.is_empty() {
            self.core.ticks_moved();
        }
        for event in events {
            self.core.notify(event);
        }
        // Another uplink of this conversation has gone on while this one was out of date.
        let Some(settled) = settled else { return Err(self.restart()) };
        // Only now that the answers are stored may the server be told to forget them.
        self.sender.settle(settled);
        Ok(conflict.is_some())
    }

    fn highest_counter(&self, otherwise: u64) -> u64 {
        self.messages.values().map(|message| message.counter).max().unwrap_or(otherwise)
    }

    /// Ends the stream and waits for the server to end it as well, so that a next one for this
    /// conversation isn't a second one.
    async fn finish(mut self) -> Ended {
        self.writer.finish();
        let ended = async {
            while self.reader.next().await?.is_some() {}
            Ok::<_, IoError>(())
        };
        match tokio::time::timeout(FINISH_TIMEOUT, ended).await {
            Ok(Err(IoError::Lost(error))) => Ended::Broken(error.into()),
            _ => Ended::Idle,
        }
    }
}

fn protocol(code: Code) -> Ended {
    Ended::Broken(ConnectError::Protocol(code, "an answer that fits no send".into()))
}
