//! An application under load: it sends, takes what comes, marks as read, and records all of it for the
//! checker. The same in a process of its own and in the simulator.

use std::{collections::BTreeMap, fmt, io};

use rand::Rng;
use tern_client::{
    AccountId, Client, ClientEvent, ConversationId, DeviceId, LocalId, SendError, StoreError,
    StoredMessage, Tick, content,
};

use crate::checker::{Entry, Event, Record};

/// Messages that may wait to be accepted before the device pauses. More would take long to settle.
const WAITING: usize = 30;

/// What keeps the records of a run.
pub trait Recorder {
    /// Keeps a record. When this returns, it outlives the application.
    ///
    /// # Errors
    ///
    /// If it can't be kept; the run then proves nothing.
    fn record(&mut self, record: Record) -> io::Result<()>;
}

/// The application can't go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum AppError {
    /// The client's store failed.
    Store(StoreError),
    /// The client took a message of which it should take any.
    Send(SendError),
    /// A record can't be kept.
    Record(io::Error),
    /// The client breaks its contract.
    Contract(&'static str),
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Send(error) => write!(f, "a message isn't taken: {error}"),
            Self::Record(error) => write!(f, "a record can't be kept: {error}"),
            Self::Contract(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for AppError {}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<SendError> for AppError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<io::Error> for AppError {
    fn from(error: io::Error) -> Self {
        Self::Record(error)
    }
}

/// An application on a device.
pub struct App<R> {
    client: Client,
    recorder: R,
    device: DeviceId,
    run: u64,
    peers: Vec<(AccountId, ConversationId)>,
    sent: u64,
    /// Messages of this device that wait to be accepted, those of earlier runs included.
    waiting: BTreeMap<LocalId, (ConversationId, String)>,
    /// The last message given in each conversation.
    given: BTreeMap<ConversationId, u64>,
}

impl<R: Recorder> App<R> {
    /// Records what an earlier run has left behind. Nothing may arrive yet, so the client isn't
    /// connected. `run` is a number that no other start of any application has: it makes texts unique.
    ///
    /// # Errors
    ///
    /// [`AppError`]; so for all of the methods.
    pub async fn start(
        client: Client,
        recorder: R,
        run: u64,
        peers: Vec<AccountId>,
    ) -> Result<Self, AppError> {
        let own = client.identity().await?;
        let own = own.ok_or(AppError::Contract("the home has no account"))?;
        let direct = |peer| ConversationId::direct(own.account, peer).map(|id| (peer, id));
        let peers = peers.into_iter().filter_map(direct).collect();
        let (waiting, given) = (BTreeMap::new(), BTreeMap::new());
        let mut app =
            Self { client, recorder, device: own.device, run, peers, sent: 0, waiting, given };
        app.record(Event::Started)?;
        for conversation in app.client.status().await?.conversations {
            let id = conversation.id;
            app.record(Event::Held { conversation: id, up_to: conversation.position })?;
            for message in app.client.history(id, usize::MAX).await? {
                if message.seq.is_none() && message.device == app.device {
                    app.waiting.insert(message.local, (id, text(&message)));
                }
            }
        }
        Ok(app)
    }

    fn record(&mut self, event: Event) -> std::io::Result<()> {
        self.recorder.record(Record { device: self.device, event })
    }

    /// Sends a message to some peer, unless enough are waiting already.
    pub async fn send(&mut self, rng: &mut impl Rng) -> Result<(), AppError> {
        if self.waiting.len() >= WAITING || self.peers.is_empty() {
            return Ok(());
        }
        let peer = rng.random_range(0..self.peers.len());
        // Some messages are longer than a packet.
        let bytes = if rng.random_bool(0.05) { rng.random_range(0..4_000) } else { 0 };
        self.send_to(peer, bytes).await
    }

    /// Sends a message of about so many bytes to the peer with this number.
    pub async fn send_to(&mut self, peer: usize, bytes: usize) -> Result<(), AppError> {
        let Some(&(peer, conversation)) = self.peers.get(peer) else { return Ok(()) };
        let mut text = format!("{:x}-{} ", self.run, self.sent);
        text.extend(std::iter::repeat_n('.', bytes.saturating_sub(text.len())));
        self.sent += 1;
        self.record(Event::Submitted { conversation, text: text.clone() })?;
        let local = self.client.send(peer, text.as_bytes()).await?;
        self.record(Event::Enqueued { text: text.clone() })?;
        self.waiting.insert(local, (conversation, text));
        Ok(())
    }

    /// Records an event; confirms a message, and marks it as read if the user `reads`.
    pub async fn take(&mut self, event: ClientEvent, reads: bool) -> Result<(), AppError> {
        match event {
            ClientEvent::Message(message) => {
                let Some(entry) = entry(&message) else {
                    return Err(AppError::Contract("a message came without a place"));
                };
                let (conversation, seq) = (entry.conversation, entry.seq);
                self.record(Event::Given(entry))?;
                self.client.confirm([message.local]).await?;
                self.record(Event::Confirmed { conversation, seq })?;
                self.given.insert(conversation, seq);
                if reads {
                    self.read(conversation, seq).await?;
                }
            }
            ClientEvent::Sent { local, seq, .. } => {
                if let Some((conversation, text)) = self.waiting.remove(&local) {
                    self.record(Event::Accepted { conversation, seq, text })?;
                }
            }
            ClientEvent::Failed { local, .. } => {
                if let Some((_, text)) = self.waiting.remove(&local) {
                    self.record(Event::Failed { text })?;
                }
            }
            ClientEvent::Receipt { conversation, account, delivered, read } => {
                self.record(Event::Receipt { conversation, account, delivered, read })?;
            }
            ClientEvent::Gap { conversation } => self.record(Event::Gap { conversation })?,
            // What the news said that were left out can be read from the store.
            ClientEvent::Lagged => {
                let mut waiting = BTreeMap::new();
                for (local, message) in std::mem::take(&mut self.waiting) {
                    if matches!(self.client.tick(local).await?, Some((Tick::Waiting, _))) {
                        waiting.insert(local, message);
                    }
                }
                self.waiting = waiting;
            }
            _ => {}
        }
        Ok(())
    }

    async fn read(&mut self, conversation: ConversationId, up_to: u64) -> Result<(), AppError> {
        self.record(Event::Marked { conversation, up_to })?;
        Ok(self.client.mark_read(conversation, up_to).await?)
    }

    /// Marks all as read that was given.
    pub async fn read_all(&mut self) -> Result<(), AppError> {
        for (conversation, up_to) in self.given.clone() {
            self.read(conversation, up_to).await?;
        }
        // What earlier runs were given and didn't mark is in the store.
        for conversation in self.client.status().await?.conversations {
            let history = self.client.history(conversation.id, usize::MAX).await?;
            let foreign = history.iter().filter(|message| message.device != self.device);
            if let Some(up_to) = foreign.filter_map(|message| message.seq).max() {
                self.read(conversation.id, up_to).await?;
            }
        }
        Ok(())
    }

    /// Records what the store has at the end. Nothing may arrive any more.
    pub async fn record_store(&mut self) -> Result<(), AppError> {
        for conversation in self.client.status().await?.conversations {
            let id = conversation.id;
            self.record(Event::Held { conversation: id, up_to: conversation.position })?;
            for message in self.client.history(id, usize::MAX).await? {
                if let Some(entry) = entry(&message) {
                    self.record(Event::Stored(entry))?;
                }
            }
        }
        Ok(())
    }
}

fn text(message: &StoredMessage) -> String {
    content::text(&content::open(&message.envelope))
}

fn entry(message: &StoredMessage) -> Option<Entry> {
    Some(Entry {
        conversation: message.conversation,
        seq: message.seq?,
        account: message.account,
        device: message.device,
        message_id: message.message_id,
        text: text(message),
    })
}
