//! A disk and some devices for a [`Conversation`] under test.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tern_protocol::{
    frame::{Accepted, Ack, Envelope, Refused, Send},
    id::{AccountId, ConversationId, DeviceId},
};

use crate::{
    conversation::state::{Conversation, News, Rules},
    directory::{AccountInfo, DeviceInfo},
    keys,
    records::MessageRecord,
    store::{Mutation, Transaction},
};

pub(super) const RULES: Rules = Rules {
    envelope_bytes: 100,
    undelivered: 1_000,
    full_retry_ms: 5,
    bucket_ms: 1_000,
    delete_delivered: true,
};

pub(super) fn account(id: u64) -> AccountId {
    AccountId::new(id).unwrap()
}

pub(super) fn device(id: u64) -> DeviceId {
    DeviceId::new(id).unwrap()
}

/// The account of a device: devices 10 to 19 are of account 1, and so on.
pub(super) fn owner(device: DeviceId) -> AccountId {
    account(device.get() / 10)
}

pub(super) fn conversation() -> ConversationId {
    ConversationId::direct(account(1), account(2)).unwrap()
}

pub(super) fn info(id: u64, devices: &[u64]) -> Arc<AccountInfo> {
    let devices = devices.iter().map(|&id| DeviceInfo {
        device: device(id),
        key: [0; 32],
        label: String::new(),
        created_ms: 0,
    });
    let name = format!("account{id}");
    Arc::new(AccountInfo { account: account(id), name, devices: devices.collect(), version: None })
}

pub(super) fn send(counter: u64, settled: u64) -> Send {
    let envelope = Envelope(Bytes::from(format!("message {counter}")));
    Send { counter, message_id: counter, settled, envelope }
}

/// A conversation with its disk. What isn't committed is lost by [`World::crash`].
pub(super) struct World {
    pub(super) disk: BTreeMap<Bytes, Bytes>,
    pub(super) state: Conversation,
    pub(super) accounts: [Arc<AccountInfo>; 2],
    pub(super) news: Vec<(DeviceId, News)>,
    pub(super) now_ms: u64,
    pub(super) rules: Rules,
}

impl World {
    /// Account 1 with devices 10 and 11, account 2 with device 20.
    pub(super) fn new() -> Self {
        Self {
            disk: BTreeMap::new(),
            state: Conversation::new(conversation(), account(1), account(2)),
            accounts: [info(1, &[10, 11]), info(2, &[20])],
            news: Vec::new(),
            now_ms: 10_000,
            rules: RULES,
        }
    }

    pub(super) fn append(&mut self, from: u64, send: &Send) -> Result<Accepted, Refused> {
        self.now_ms += 1;
        let accounts = self.accounts.clone();
        self.state.append(device(from), send, &accounts, self.now_ms, &self.rules, &mut self.news)
    }

    /// A message that must be accepted; answers its sequence number.
    pub(super) fn say(&mut self, from: u64, counter: u64) -> u64 {
        let seq = self.append(from, &send(counter, counter - 1)).unwrap().seq;
        self.commit();
        seq
    }

    pub(super) fn ack(&mut self, by: u64, seq: u64) {
        let revision = self.snapshot(by).receipts.last().map_or(0, |receipt| receipt.revision);
        self.state.ack(device(by), Ack { seq, revision }, &mut self.news);
    }

    pub(super) fn settle(&mut self) {
        let accounts = self.accounts.clone();
        self.state.follow(&accounts);
        self.state.settle(&self.rules);
        self.commit();
    }

    pub(super) fn snapshot(&self, of: u64) -> crate::conversation::Snapshot {
        self.state.snapshot(device(of)).unwrap()
    }

    pub(super) fn commit(&mut self) {
        let mut transaction = Transaction::default();
        self.state.take_mutations(&mut transaction);
        for condition in transaction.conditions {
            assert!(condition.holds(self.disk.get(condition.key())), "{condition:?}");
        }
        for mutation in transaction.mutations {
            match mutation {
                Mutation::Put(key, value) => drop(self.disk.insert(key, value)),
                Mutation::Delete(key) => drop(self.disk.remove(&key)),
                Mutation::DeleteRange(from, to) => {
                    self.disk.retain(|key, _| *key < from || *key >= to);
                }
            }
        }
    }

    /// Loads what is on the disk.
    pub(super) fn crash(&mut self) {
        let scan = keys::conversation(conversation(), 1_000);
        let pairs: Vec<_> = self
            .disk
            .range(scan.from..scan.to)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        self.state = Conversation::load(conversation(), &pairs)
            .unwrap()
            .unwrap_or_else(|| Conversation::new(conversation(), account(1), account(2)));
        self.news.clear();
    }

    /// The messages on the disk, by sequence number.
    pub(super) fn stored(&self) -> BTreeMap<u64, MessageRecord> {
        let scan = keys::messages(conversation(), 0, u64::MAX - 1, 1);
        self.disk
            .range(scan.from..scan.to)
            .map(|(key, value)| {
                (keys::parse_message_seq(key).unwrap(), MessageRecord::from_bytes(value).unwrap())
            })
            .collect()
    }

    pub(super) fn is_marked(&self, of: u64) -> bool {
        self.disk.contains_key(&keys::mark(device(of), conversation()))
    }
}
