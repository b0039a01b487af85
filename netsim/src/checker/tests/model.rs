//! Good histories, out of a model of a server and its devices that does all right.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tern_protocol::id::{AccountId, ConversationId, DeviceId};

use super::{Entry, Event, History, Record};

/// Accounts and how many devices each has.
const ACCOUNTS: [u64; 3] = [2, 1, 2];

#[derive(Debug, Default)]
struct Local {
    /// Sent and not yet accepted.
    outbox: Vec<(ConversationId, String)>,
    /// Accepted, and the sender hasn't learnt it.
    unheard: Vec<(ConversationId, u64, String)>,
    position: BTreeMap<ConversationId, u64>,
    /// In the order in which they were given.
    unconfirmed: Vec<Entry>,
}

pub(super) struct Model {
    rng: StdRng,
    history: History,
    devices: BTreeMap<DeviceId, Local>,
    server: BTreeMap<ConversationId, Vec<Entry>>,
    marked: BTreeMap<(AccountId, ConversationId), u64>,
    sent: u64,
}

impl Model {
    pub(super) fn new(rng: StdRng) -> Self {
        let mut history = History::default();
        let mut devices = BTreeMap::new();
        let accounts = || (1_u64..).map_while(AccountId::new).take(ACCOUNTS.len());
        for (account, count) in accounts().zip(ACCOUNTS) {
            for number in 0..count {
                let device = DeviceId::new(account.get() * 16 + number).unwrap();
                history.devices.insert(device, account);
                devices.insert(device, Local::default());
            }
            for peer in accounts().filter(|&peer| peer < account) {
                let conversation = ConversationId::direct(account, peer).unwrap();
                history.conversations.insert(conversation, BTreeSet::from([account, peer]));
            }
        }
        let (server, marked) = (BTreeMap::new(), BTreeMap::new());
        Self { rng, history, devices, server, marked, sent: 0 }
    }

    fn record(&mut self, device: DeviceId, event: Event) {
        self.history.records.push(Record { device, event });
    }

    fn local(&mut self, device: DeviceId) -> &mut Local {
        self.devices.entry(device).or_default()
    }

    fn any_place(&mut self) -> (DeviceId, ConversationId) {
        let all: Vec<_> = self.places().collect();
        *all.choose(&mut self.rng).unwrap()
    }

    /// Every device with each of its conversations.
    fn places(&self) -> impl Iterator<Item = (DeviceId, ConversationId)> {
        self.history.devices.iter().flat_map(|(&device, account)| {
            let members = self.history.conversations.iter();
            let own = members.filter(move |(_, members)| members.contains(account));
            own.map(move |(&conversation, _)| (device, conversation))
        })
    }

    /// Something happens.
    pub(super) fn step(&mut self) {
        let (device, conversation) = self.any_place();
        match self.rng.random_range(0..20) {
            0..4 => self.send(device, conversation),
            4..8 => self.accept(device),
            8..14 => self.deliver(device, conversation),
            14..16 => self.mark(device, conversation),
            16..19 => self.tell_receipts(device, conversation),
            _ => self.restart(device),
        }
    }

    fn send(&mut self, device: DeviceId, conversation: ConversationId) {
        self.sent += 1;
        let text = format!("message {}", self.sent);
        self.record(device, Event::Submitted { conversation, text: text.clone() });
        if self.rng.random_bool(0.1) {
            // Killed before the outbox had it, or before it was known that it had.
            if self.rng.random() {
                self.local(device).outbox.push((conversation, text));
            }
            self.restart(device);
            return;
        }
        self.record(device, Event::Enqueued { text: text.clone() });
        if self.rng.random_bool(0.05) {
            self.record(device, Event::Failed { text });
            return;
        }
        self.local(device).outbox.push((conversation, text));
    }

    fn accept(&mut self, device: DeviceId) {
        if self.local(device).outbox.is_empty() {
            return;
        }
        let (conversation, text) = self.local(device).outbox.remove(0);
        let account = self.history.devices[&device];
        let message_id = self.rng.random();
        let entries = self.server.entry(conversation).or_default();
        let seq = entries.len() as u64 + 1;
        let text_ = text.clone();
        entries.push(Entry { conversation, seq, account, device, message_id, text: text_ });
        if self.rng.random_bool(0.1) {
            self.local(device).unheard.push((conversation, seq, text));
        } else {
            self.record(device, Event::Accepted { conversation, seq, text });
        }
    }

    fn deliver(&mut self, device: DeviceId, conversation: ConversationId) {
        let position = self.local(device).position.get(&conversation).copied().unwrap_or(0);
        let entries = self.server.get(&conversation).map_or(&[][..], Vec::as_slice);
        let mut behind = entries.iter().filter(|entry| entry.seq > position);
        let Some(entry) = behind.clone().find(|entry| entry.device != device).cloned() else {
            // What is its own is skipped.
            let end = behind.next_back().map_or(position, |entry| entry.seq);
            self.local(device).position.insert(conversation, end);
            return;
        };
        self.local(device).position.insert(conversation, entry.seq);
        self.record(device, Event::Given(entry.clone()));
        self.local(device).unconfirmed.push(entry);
        if self.rng.random_bool(0.8) {
            self.confirm(device);
        }
    }

    fn confirm(&mut self, device: DeviceId) {
        for Entry { conversation, seq, .. } in std::mem::take(&mut self.local(device).unconfirmed) {
            self.record(device, Event::Confirmed { conversation, seq });
        }
    }

    fn mark(&mut self, device: DeviceId, conversation: ConversationId) {
        let up_to = self.local(device).position.get(&conversation).copied().unwrap_or(0);
        self.record(device, Event::Marked { conversation, up_to });
        let account = self.history.devices[&device];
        let marked = self.marked.entry((account, conversation)).or_default();
        *marked = up_to.max(*marked);
    }

    fn tell_receipts(&mut self, device: DeviceId, conversation: ConversationId) {
        for account in self.history.conversations[&conversation].clone() {
            let of_account = self.history.devices.iter().filter(|&(_, &of)| of == account);
            let positions = of_account.filter_map(|(device, _)| {
                self.devices[device].position.get(&conversation).copied()
            });
            let delivered = positions.max().unwrap_or(0);
            let read = self.marked.get(&(account, conversation)).copied().unwrap_or(0);
            self.record(device, Event::Receipt { conversation, account, delivered, read });
        }
    }

    fn restart(&mut self, device: DeviceId) {
        self.record(device, Event::Started);
        self.record_held(device);
        let again = self.local(device).unconfirmed.clone();
        // Killed again, maybe, before all of it was given again.
        if self.rng.random_bool(0.2) {
            let some = self.rng.random_range(0..=again.len());
            for entry in &again[..some] {
                self.record(device, Event::Given(entry.clone()));
            }
            self.record(device, Event::Started);
            self.record_held(device);
        }
        for entry in again {
            self.record(device, Event::Given(entry));
        }
        if self.rng.random() {
            self.confirm(device);
        }
        for (conversation, seq, text) in std::mem::take(&mut self.local(device).unheard) {
            self.record(device, Event::Accepted { conversation, seq, text });
        }
    }

    fn record_held(&mut self, device: DeviceId) {
        for (conversation, up_to) in self.local(device).position.clone() {
            self.record(device, Event::Held { conversation, up_to });
        }
    }

    /// Everything gets where it should be.
    pub(super) fn settle(mut self) -> History {
        let devices: Vec<_> = self.history.devices.keys().copied().collect();
        for &device in &devices {
            while !self.local(device).outbox.is_empty() {
                self.accept(device);
            }
        }
        let places: Vec<_> = self.places().collect();
        for &(device, conversation) in &places {
            let head = self.server.get(&conversation).map_or(0, |entries| entries.len() as u64);
            while self.local(device).position.get(&conversation).copied().unwrap_or(0) < head {
                self.deliver(device, conversation);
            }
            self.confirm(device);
            self.mark(device, conversation);
        }
        for &(device, conversation) in &places {
            self.tell_receipts(device, conversation);
        }
        for &device in &devices {
            self.record_held(device);
        }
        for &(device, conversation) in &places {
            for entry in self.server.get(&conversation).cloned().unwrap_or_default() {
                self.record(device, Event::Stored(entry));
            }
        }
        self.history
    }
}
