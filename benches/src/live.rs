//! A device that is connected: takes what the server sends, acknowledges it, notes what went wrong.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quinn::{Connection, RecvStream, SendStream, VarInt};
use tern_protocol::{
    downlink::{Delivery, Receiver},
    frame::{Deliver, Event, Frame, Mailbox, Welcome},
    id::{AccountId, ConversationId},
    session::ClientInput,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::{
    device::SignedIn,
    error::{BenchError, Context, Result},
    io::{FrameReader, FrameWriter},
    uplink::Uplink,
};

/// What is done with each message that a device gets for the first time.
pub type OnDelivery = Arc<dyn Fn(&Deliver) + Send + Sync>;

/// A connected device. Its connection ends when it is dropped.
pub struct Live {
    connection: Connection,
    welcome: Box<Welcome>,
    caught_up: watch::Receiver<Option<(Mailbox, Instant)>>,
    failure: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Live {
    /// Serves the connection of a device that is signed in.
    pub fn start(signed_in: SignedIn, on_delivery: OnDelivery) -> Self {
        let connection = signed_in.connection.clone();
        let welcome = signed_in.welcome.clone();
        let (tell_caught_up, caught_up) = watch::channel(None);
        let (tell_failure, failure) = watch::channel(None);
        let task = tokio::spawn(async move {
            let served = Served { on_delivery, tell_caught_up, held: Arc::default() };
            if let Err(error) = served.run(signed_in).await {
                tell_failure.send_replace(Some(error.to_string()));
            }
        });
        Self { connection, welcome, caught_up, failure, task }
    }

    /// The account.
    pub fn account(&self) -> AccountId {
        self.welcome.account
    }

    /// The server's welcome.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Opens an uplink to another account, with at most `window` sends unanswered.
    pub async fn uplink(&self, peer: AccountId, window: u16) -> Result<Uplink> {
        let window = window.min(self.welcome.limits.unanswered_sends);
        Uplink::open(&self.connection, self.account(), peer, window).await
    }

    /// Waits for the event caughtUp. Returns what it counted and when it came.
    pub async fn caught_up(&mut self) -> Result<(Mailbox, Instant)> {
        let failure = self.failure.clone();
        let seen = self.caught_up.wait_for(Option::is_some).await.map(|seen| *seen);
        seen.ok().flatten().ok_or_else(|| {
            let why = failure.borrow().clone().unwrap_or_else(|| "the connection ended".into());
            BenchError::new(format!("a device never caught up: {why}"))
        })
    }

    /// An error if anything went wrong on this connection up to now.
    pub fn check(&self) -> Result<()> {
        if let Some(why) = &*self.failure.borrow() {
            return Err(BenchError::new(format!("a connection failed: {why}")));
        }
        if let Some(reason) = self.connection.close_reason() {
            return Err(BenchError::new(format!("a connection is gone: {reason}")));
        }
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(0), b"");
        self.task.abort();
    }
}

/// How far a device has come in each conversation: what a store would hold.
type Held = Arc<Mutex<BTreeMap<ConversationId, u64>>>;

struct Served {
    on_delivery: OnDelivery,
    tell_caught_up: watch::Sender<Option<(Mailbox, Instant)>>,
    held: Held,
}

impl Served {
    async fn run(&self, signed_in: SignedIn) -> Result<()> {
        let SignedIn { connection, mut machine, writer, mut reader, mut frames, .. } = signed_in;
        // The session stream must stay open as long as the connection.
        let _open = writer;
        let mut downlinks = JoinSet::new();
        loop {
            for frame in frames.drain(..) {
                let input = machine.receive(frame).map_err(|code| {
                    BenchError::new(format!("the server broke the protocol: {code:?}"))
                })?;
                match input {
                    ClientInput::Event(Event::CaughtUp(mailbox)) => {
                        self.tell_caught_up.send_replace(Some((mailbox, Instant::now())));
                    }
                    ClientInput::GoAway(_) => {
                        return Err(BenchError::new("the server wants to go away"));
                    }
                    _ => {}
                }
            }
            tokio::select! {
                more = reader.fill(&mut frames) => {
                    if !more? {
                        return Err(BenchError::new("the server ended the session stream"));
                    }
                }
                accepted = connection.accept_bi() => {
                    let (send, recv) = accepted.context("the connection ended")?;
                    let (on_delivery, held) = (self.on_delivery.clone(), self.held.clone());
                    downlinks.spawn(downlink(send, recv, on_delivery, held));
                }
                Some(ended) = downlinks.join_next() => ended.context("a task failed")??,
            }
        }
    }
}

/// Takes one downlink to its end and acknowledges everything at once.
async fn downlink(
    send: SendStream,
    recv: RecvStream,
    on_delivery: OnDelivery,
    held: Held,
) -> Result<()> {
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(recv));
    let mut frames = Vec::new();
    let mut open: Option<(ConversationId, Receiver)> = None;
    while reader.fill(&mut frames).await? {
        for frame in frames.drain(..) {
            let judged = match (&mut open, frame) {
                (None, Frame::OpenDownlink(opened)) => {
                    let known = lock(&held).get(&opened.conversation).copied();
                    Receiver::open(&opened, known)
                        .map(|receiver| open = Some((opened.conversation, receiver)))
                }
                (Some((_, receiver)), Frame::Deliver(deliver)) => {
                    receiver.deliver(&deliver).map(|delivery| {
                        if delivery == Delivery::New {
                            on_delivery(&deliver);
                        }
                    })
                }
                (Some((_, receiver)), Frame::Skip(skip)) => receiver.skip(&skip),
                (Some((_, receiver)), Frame::Receipt(receipt)) => receiver.receipt(&receipt),
                (Some(_), Frame::Extension(_)) => Ok(()),
                (_, frame) => {
                    return Err(BenchError::new(format!("a frame out of place: {frame:?}")));
                }
            };
            judged.map_err(|code| {
                BenchError::new(format!("a downlink isn't as it must be: {}", code.name()))
            })?;
        }
        if let Some((conversation, receiver)) = &mut open {
            receiver.stored(receiver.seen());
            if let Some(ack) = receiver.take_ack() {
                lock(&held).insert(*conversation, ack.seq);
                writer.push(&Frame::Ack(ack));
                writer.flush().await?;
            }
        }
    }
    writer.finish();
    Ok(())
}

fn lock(held: &Held) -> MutexGuard<'_, BTreeMap<ConversationId, u64>> {
    // A map is whole between two calls.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
