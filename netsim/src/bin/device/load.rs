//! What the device does: it sends, takes what comes, marks as read, and records all of it.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
};

use rand::Rng;
use tern_client::{
    AccountId, Client, ClientEvent, ConversationId, DeviceId, LocalId, StoredMessage, content,
};
use tern_netsim::{
    checker::{Entry, Event, Record},
    journal::Writer,
};

/// Messages that may wait to be accepted before the device pauses. More would take long to settle.
const WAITING: usize = 30;

pub(crate) struct Load {
    client: Client,
    journal: Writer,
    device: DeviceId,
    run: u64,
    peers: Vec<(AccountId, ConversationId)>,
    sent: u64,
    /// Messages of this device that wait to be accepted, those of earlier runs included.
    waiting: HashMap<LocalId, (ConversationId, String)>,
    /// The last message given in each conversation.
    given: BTreeMap<ConversationId, u64>,
}

impl Load {
    /// Records what an earlier run has left behind. Nothing may arrive yet.
    pub(crate) async fn start(
        client: Client,
        journal: Writer,
        run: u64,
        peers: Vec<AccountId>,
    ) -> Result<Self, Box<dyn Error>> {
        let own = client.identity().await?.ok_or("the home has no account")?;
        let direct = |peer| ConversationId::direct(own.account, peer).map(|id| (peer, id));
        let peers = peers.into_iter().filter_map(direct).collect();
        let (waiting, given) = (HashMap::new(), BTreeMap::new());
        let mut load =
            Self { client, journal, device: own.device, run, peers, sent: 0, waiting, given };
        load.record(Event::Started)?;
        for conversation in load.client.status().await?.conversations {
            let id = conversation.id;
            load.record(Event::Held { conversation: id, up_to: conversation.position })?;
            for message in load.client.history(id, usize::MAX).await? {
                if message.seq.is_none() && message.device == load.device {
                    load.waiting.insert(message.local, (id, text(&message)));
                }
            }
        }
        Ok(load)
    }

    fn record(&mut self, event: Event) -> std::io::Result<()> {
        self.journal.append(&Record { device: self.device, event })
    }

    /// Sends a message to some peer, unless enough are waiting already.
    pub(crate) async fn send(&mut self, rng: &mut impl Rng) -> Result<(), Box<dyn Error>> {
        if self.waiting.len() >= WAITING || self.peers.is_empty() {
            return Ok(());
        }
        let (peer, conversation) = self.peers[rng.random_range(0..self.peers.len())];
        // Some messages are longer than a packet.
        let padding = if rng.random_bool(0.05) { rng.random_range(0..4_000) } else { 0 };
        let text = format!("{:x}-{} {:padding$}", self.run, self.sent, "");
        self.sent += 1;
        self.record(Event::Submitted { conversation, text: text.clone() })?;
        let local = self.client.send(peer, text.as_bytes()).await?;
        self.record(Event::Enqueued { text: text.clone() })?;
        self.waiting.insert(local, (conversation, text));
        Ok(())
    }

    /// Records an event; confirms a message, and marks it as read if the user `reads`.
    pub(crate) async fn take(
        &mut self,
        event: ClientEvent,
        reads: bool,
    ) -> Result<(), Box<dyn Error>> {
        match event {
            ClientEvent::Message(message) => {
                let Some(entry) = entry(&message) else {
                    return Err("a message came without a place".into());
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
                let mut waiting = HashMap::new();
                for (local, message) in std::mem::take(&mut self.waiting) {
                    if matches!(
                        self.client.tick(local).await?,
                        Some((tern_client::Tick::Waiting, _))
                    ) {
                        waiting.insert(local, message);
                    }
                }
                self.waiting = waiting;
            }
            _ => {}
        }
        Ok(())
    }

    async fn read(
        &mut self,
        conversation: ConversationId,
        up_to: u64,
    ) -> Result<(), Box<dyn Error>> {
        self.record(Event::Marked { conversation, up_to })?;
        Ok(self.client.mark_read(conversation, up_to).await?)
    }

    /// Marks all as read that was given.
    pub(crate) async fn read_all(&mut self) -> Result<(), Box<dyn Error>> {
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
    pub(crate) async fn record_store(&mut self) -> Result<(), Box<dyn Error>> {
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
