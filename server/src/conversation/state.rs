//! One conversation as pure state: commands go in, mutations and effects come out.
//!
//! No I/O and no clock: the shard loads a [`Conversation`] from the store, applies commands to it,
//! commits what [`Conversation::take_mutations`] gives, and only then lets the effects out. If the
//! commit fails the state is thrown away and loaded again, and the commands are applied anew; every
//! command is idempotent, so that is always right.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tern_protocol::{
    code::Code,
    frame::{Accepted, Ack, Receipt, Refused, Send, Span},
    id::{AccountId, ConversationId, DeviceId},
    receipts::MemberReceipt,
    uplink::{Answers, Verdict},
};

use crate::{
    directory::AccountInfo,
    keys::{self, ConversationKey},
    records::{CursorRecord, MemberRecord, MessageRecord, MetaRecord, Record, RecordError},
    store::{Condition, Mutation, Pair, Transaction},
};

/// What the conversations of a server have in common.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Longest envelope, in bytes.
    pub envelope_bytes: u32,
    /// Most entries that wait for some device; more sends are refused.
    pub undelivered: u64,
    /// When to try again after a refusal for a full mailbox, in milliseconds.
    pub full_retry_ms: u64,
    /// Width of a bucket of the expiry index, in milliseconds.
    pub bucket_ms: u64,
    /// Whether entries are deleted once every device has them, or kept for their time.
    pub delete_delivered: bool,
}

/// A message just appended, shared by all whom it goes to.
#[derive(Debug)]
pub struct Appended {
    /// Its sequence number.
    pub seq: u64,
    /// The message.
    pub message: MessageRecord,
}

/// News for one device, let out once it is durable.
#[derive(Debug, Clone)]
pub enum News {
    /// A message. Everything behind `foreign_head` and before it was sent by the device itself.
    Message {
        /// The last sequence number before it that the device is sent.
        foreign_head: u64,
        /// The message.
        appended: Arc<Appended>,
    },
    /// A receipt.
    Receipt(Arc<Receipt>),
    /// There may be something that nobody told: it is to be looked up.
    Unsure,
}

/// Entries that have been kept for their time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Age {
    /// The last of them.
    pub up_to: u64,
    /// Whether those that wait for somebody are deleted as well: they have expired.
    pub undelivered: bool,
    /// Their bucket of the expiry index.
    pub bucket: u64,
    /// Who sent which of them: an account has what it sent.
    pub sent: Vec<(AccountId, Span)>,
}

/// What a downlink starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The two accounts.
    pub members: [AccountId; 2],
    /// What the device has acknowledged.
    pub cursor: Ack,
    /// The conversation's last sequence number.
    pub head: u64,
    /// The last sequence number that the device is sent; everything behind is its own.
    pub foreign_head: u64,
    /// Missing entries up to here were deleted for their age; others are the device's own.
    pub expired_to: u64,
    /// The receipts that the device hasn't acknowledged, in order of revisions.
    pub receipts: Vec<Receipt>,
}

/// A conversation, loaded.
#[derive(Debug)]
pub struct Conversation {
    id: ConversationId,
    meta: MetaRecord,
    /// The stored meta record as of the last commit; `None` if the conversation isn't stored. The
    /// next commit is conditional on it: another owner's append makes ours fail.
    stored_meta: Option<Bytes>,
    members: [AccountId; 2],
    devices: BTreeMap<DeviceId, Device>,
    receipts: BTreeMap<AccountId, Member>,
    meta_dirty: bool,
    pending: Vec<Mutation>,
    /// Messages deleted since this was last asked.
    deleted: u64,
}

#[derive(Debug)]
struct Device {
    account: AccountId,
    cursor: Ack,
    marked: bool,
    expired_to: u64,
    answers: Answers,
    dirty: bool,
}

#[derive(Debug, Default)]
struct Member {
    receipt: MemberReceipt,
    revision: u64,
    own_revision: u64,
    dirty: bool,
}

impl Conversation {
    /// A direct conversation that isn't stored yet. It is stored with its first message.
    pub fn new(id: ConversationId, a: AccountId, b: AccountId) -> Self {
        let members = if a < b { [a, b] } else { [b, a] };
        Self {
            id,
            meta: MetaRecord {
                members: members.map(AccountId::get),
                head: 0,
                low: 0,
                last_ms: 0,
                last_device: 0,
                run_start: 1,
                revision: 0,
                bucket: 0,
                writes: 0,
            },
            stored_meta: None,
            members,
            devices: BTreeMap::new(),
            receipts: BTreeMap::new(),
            meta_dirty: false,
            pending: Vec::new(),
            deleted: 0,
        }
    }

    /// Loads a conversation from the pairs of [`keys::conversation`]; `None` if it isn't stored.
    pub fn load(id: ConversationId, pairs: &[Pair]) -> Result<Option<Self>, RecordError> {
        let mut loaded: Option<Self> = None;
        for (key, value) in pairs {
            match (keys::parse_conversation_key(key), &mut loaded) {
                (Some(ConversationKey::Meta), _) => {
                    let meta = MetaRecord::from_bytes(value)?;
                    let [Some(a), Some(b)] = meta.members.map(AccountId::new) else {
                        return Err(RecordError::of::<MetaRecord>());
                    };
                    let mut conversation = Self::new(id, a, b);
                    conversation.meta = meta;
                    conversation.stored_meta = Some(value.clone());
                    loaded = Some(conversation);
                }
                (Some(ConversationKey::Cursor(device)), Some(conversation)) => {
                    let record = CursorRecord::from_bytes(value)?;
                    let account = AccountId::new(record.account)
                        .ok_or_else(RecordError::of::<CursorRecord>)?;
                    let state = Device {
                        account,
                        cursor: Ack { seq: record.seq, revision: record.revision },
                        marked: record.marked,
                        expired_to: record.expired_to,
                        answers: record.answers(),
                        dirty: false,
                    };
                    conversation.devices.insert(device, state);
                }
                (Some(ConversationKey::Member(account)), Some(conversation)) => {
                    let record = MemberRecord::from_bytes(value)?;
                    let member = Member {
                        receipt: record.receipt(),
                        revision: record.revision,
                        own_revision: record.own_revision,
                        dirty: false,
                    };
                    conversation.receipts.insert(account, member);
                }
                _ => {}
            }
        }
        Ok(loaded)
    }

    /// Whether it is stored or about to be.
    pub fn exists(&self) -> bool {
        self.meta.head > 0
    }

    /// The devices that take part.
    pub fn devices(&self) -> impl Iterator<Item = DeviceId> {
        self.devices.keys().copied()
    }

    /// What each device has acked.
    pub fn acks(&self) -> impl Iterator<Item = (DeviceId, Ack)> {
        self.devices.iter().map(|(&device, state)| {
            (device, Ack { seq: state.cursor.seq, revision: state.cursor.revision })
        })
    }

    /// The two accounts.
    pub fn members(&self) -> [AccountId; 2] {
        self.members
    }

    /// The last sequence number that `device` is sent; everything behind is its own.
    fn foreign_head(&self, device: DeviceId) -> u64 {
        if self.meta.last_device == device.get() { self.meta.run_start - 1 } else { self.meta.head }
    }

    /// Appends a message of `device`, an account's member device.
    ///
    /// `accounts` are the members as the directory has them now: their devices are those that the
    /// message is for. Answers what the device is told; `news` gets what others are.
    pub fn append(
        &mut self,
        device: DeviceId,
        send: &Send,
        accounts: &[Arc<AccountInfo>; 2],
        now_ms: u64,
        rules: &Rules,
        news: &mut Vec<(DeviceId, News)>,
    ) -> Result<Accepted, Refused> {
        self.follow(accounts);
        let head = self.meta.head;
        let refuse = |last, code, retry_after_ms| {
            Err(Refused { counter: send.counter, code, retry_after_ms, last })
        };
        let Some(sender) = self.devices.get(&device) else {
            return refuse(0, Code::UnknownDevice, 0);
        };
        let account = sender.account;
        match sender.answers.judge(send, rules.envelope_bytes) {
            Verdict::Repeat(accepted) => return Ok(accepted),
            Verdict::Refuse(code) => return refuse(sender.answers.last(), code, 0),
            Verdict::Append => {}
        }
        let last = sender.answers.last();
        if accounts.iter().any(|member| member.devices.is_empty()) {
            return refuse(last, Code::PeerGone, 0);
        }
        if head - self.delivered_to_all() >= rules.undelivered {
            return refuse(last, Code::MailboxFull, rules.full_retry_ms);
        }

        let seq = head + 1;
        let time_ms = now_ms.max(self.meta.last_ms);
        let message = MessageRecord {
            account,
            device,
            message_id: send.message_id,
            time_ms,
            envelope: send.envelope.0.clone(),
        };
        self.pending.push(Mutation::Put(keys::message(self.id, seq), message.to_bytes()));
        let appended = Arc::new(Appended { seq, message });
        for (&other, state) in &mut self.devices {
            if other == device {
                continue;
            }
            if !state.marked {
                state.marked = true;
                state.dirty = true;
                self.pending.push(Mutation::Put(keys::mark(other, self.id), Bytes::new()));
            }
            let foreign_head =
                if self.meta.last_device == other.get() { self.meta.run_start - 1 } else { head };
            news.push((other, News::Message { foreign_head, appended: appended.clone() }));
        }
        if self.meta.last_device != device.get() {
            self.meta.last_device = device.get();
            self.meta.run_start = seq;
        }
        self.meta.head = seq;
        self.meta.last_ms = time_ms;
        let bucket = time_ms / rules.bucket_ms;
        if self.meta.bucket != bucket {
            self.meta.bucket = bucket;
            self.pending.push(Mutation::Put(keys::expiry(bucket, self.id), Bytes::new()));
        }
        self.meta_dirty = true;
        match self.devices.get_mut(&device) {
            Some(sender) => {
                sender.dirty = true;
                Ok(sender.answers.record(send, seq, time_ms))
            }
            None => refuse(last, Code::Internal, 0),
        }
    }

    /// Makes the devices those that the directory names. A new one takes part from here on.
    pub fn follow(&mut self, accounts: &[Arc<AccountInfo>; 2]) {
        let is_known = |device: &DeviceId| {
            accounts.iter().any(|account| account.devices.iter().any(|d| d.device == *device))
        };
        let gone: Vec<DeviceId> =
            self.devices.keys().filter(|&device| !is_known(device)).copied().collect();
        for device in gone {
            self.devices.remove(&device);
            self.pending.push(Mutation::Delete(keys::cursor(self.id, device)));
            self.pending.push(Mutation::Delete(keys::mark(device, self.id)));
        }
        for account in accounts {
            for device in account.devices.iter() {
                self.devices.entry(device.device).or_insert_with(|| Device {
                    account: account.account,
                    cursor: Ack { seq: self.meta.head, revision: self.meta.revision },
                    marked: false,
                    expired_to: 0,
                    answers: Answers::default(),
                    dirty: true,
                });
            }
        }
    }

    /// Takes an ack of `device`, already held to what it was sent.
    pub fn ack(&mut self, device: DeviceId, ack: Ack, news: &mut Vec<(DeviceId, News)>) {
        let head = self.meta.head;
        let Some(state) = self.devices.get_mut(&device) else { return };
        state.cursor.revision = state.cursor.revision.max(ack.revision.min(self.meta.revision));
        state.dirty = true;
        let seq = ack.seq.min(head);
        if seq <= state.cursor.seq {
            return;
        }
        state.cursor.seq = seq;
        let account = state.account;
        // It may cover entries that were skipped as expired; those have failed by their span,
        // whatever is delivered behind them.
        let member = self.receipts.entry(account).or_default();
        if member.receipt.raise_delivered(seq) {
            self.receipt_changed(account, false, news);
        }
    }

    /// Moves the read mark of `account`. Answers the mark as it is then.
    pub fn read(
        &mut self,
        account: AccountId,
        up_to: u64,
        news: &mut Vec<(DeviceId, News)>,
    ) -> Result<u64, Code> {
        if up_to > self.meta.head {
            return Err(Code::MarkBeyondHead);
        }
        let member = self.receipts.entry(account).or_default();
        if member.receipt.raise_read(up_to) {
            self.receipt_changed(account, true, news);
        }
        Ok(self.receipts.get(&account).map_or(0, |member| member.receipt.read()))
    }

    /// Deletes entries for their age, and their entry of the expiry index once all are gone.
    pub fn age(&mut self, age: &Age, news: &mut Vec<(DeviceId, News)>) {
        let up_to = age.up_to.min(self.meta.head);
        if age.undelivered {
            self.expire(up_to, &age.sent, news);
        }
        self.delete_up_to(up_to.min(self.delivered_to_all()));
        if self.meta.low >= up_to {
            self.pending.push(Mutation::Delete(keys::expiry(age.bucket, self.id)));
        }
    }

    /// Gives up the entries up to `up_to` that somebody hasn't fetched.
    fn expire(&mut self, up_to: u64, sent: &[(AccountId, Span)], news: &mut Vec<(DeviceId, News)>) {
        if up_to <= self.meta.low {
            return;
        }
        for device in self.devices.values_mut() {
            if device.cursor.seq < up_to && device.expired_to < up_to {
                device.expired_to = up_to;
                device.dirty = true;
            }
        }
        for account in self.members {
            let member = self.receipts.entry(account).or_default();
            let first_missed = member.receipt.delivered().max(self.meta.low) + 1;
            let mut changed = false;
            for (_, span) in sent.iter().filter(|(sender, _)| *sender != account) {
                let (first, last) = (span.first.max(first_missed), span.last.min(up_to));
                changed |= first <= last && member.receipt.expire(Span { first, last });
            }
            if changed {
                self.receipt_changed(account, false, news);
            }
        }
        self.delete_up_to(up_to);
    }

    /// Tidies up when nothing has happened for a while: deletes what every device has and takes
    /// marks back from mailboxes in which nothing waits.
    pub fn settle(&mut self, rules: &Rules) {
        if rules.delete_delivered {
            self.delete_up_to(self.delivered_to_all());
        }
        let idle: Vec<DeviceId> = self
            .devices
            .iter()
            .filter(|&(&device, state)| state.marked && !self.waits_for(device, state))
            .map(|(&device, _)| device)
            .collect();
        for device in idle {
            if let Some(state) = self.devices.get_mut(&device) {
                state.marked = false;
                state.dirty = true;
                self.pending.push(Mutation::Delete(keys::mark(device, self.id)));
            }
        }
    }

    /// Entries that could be deleted at once, so that a busy conversation doesn't wait to be idle.
    pub fn deletable(&self, rules: &Rules) -> u64 {
        if rules.delete_delivered {
            self.delivered_to_all().saturating_sub(self.meta.low)
        } else {
            0
        }
    }

    /// How many messages were deleted since this was last asked.
    pub fn take_deleted(&mut self) -> u64 {
        std::mem::take(&mut self.deleted)
    }

    /// What a downlink of `device` starts from; `None` if the device has no part here.
    pub fn snapshot(&self, device: DeviceId) -> Option<Snapshot> {
        let state = self.devices.get(&device)?;
        let mut receipts: Vec<Receipt> = self
            .receipts
            .iter()
            .map(|(&account, member)| {
                (account, member, member.revision_for(state.account == account))
            })
            .filter(|&(_, _, revision)| revision > state.cursor.revision)
            .map(|(account, member, revision)| member.to_receipt(account, revision))
            .collect();
        receipts.sort_by_key(|receipt| receipt.revision);
        Some(Snapshot {
            members: self.members,
            cursor: state.cursor,
            head: self.meta.head,
            foreign_head: self.foreign_head(device),
            expired_to: state.expired_to,
            receipts,
        })
    }

    /// The conversation's record as it was stored or loaded last; `None` if it isn't stored. As long as the store has the
    /// same, nobody else has written anything of the conversation.
    pub fn stored_meta(&self) -> Option<&Bytes> {
        self.stored_meta.as_ref()
    }

    /// What `device` has acknowledged would be beyond the last entry: somebody else must have appended.
    pub fn is_behind(&self, ack: Ack) -> bool {
        ack.seq > self.meta.head || ack.revision > self.meta.revision
    }

    /// Moves what must be stored into a transaction. Says whether there was anything.
    pub fn take_mutations(&mut self, transaction: &mut Transaction) -> bool {
        let before = transaction.mutations.len();
        if self.exists() {
            for (&device, state) in self.devices.iter_mut().filter(|(_, state)| state.dirty) {
                state.dirty = false;
                let key = keys::cursor(self.id, device);
                transaction.mutations.push(Mutation::Put(key, state.to_record().to_bytes()));
            }
            for (&account, member) in self.receipts.iter_mut().filter(|(_, member)| member.dirty) {
                member.dirty = false;
                let key = keys::member(self.id, account);
                transaction.mutations.push(Mutation::Put(key, member.to_record().to_bytes()));
            }
        }
        transaction.mutations.append(&mut self.pending);
        let changed = self.meta_dirty || transaction.mutations.len() > before;
        if changed {
            let key = keys::meta(self.id);
            transaction.conditions.push(match &self.stored_meta {
                Some(stored) => Condition::Equals(key.clone(), stored.clone()),
                None => Condition::Absent(key.clone()),
            });
            // Also when nothing else of it has changed: somebody who believes to be the owner may know a cursor
            // or a mark as it was before.
            self.meta_dirty = false;
            if self.exists() {
                self.meta.writes += 1;
                let value = self.meta.to_bytes();
                self.stored_meta = Some(value.clone());
                transaction.mutations.push(Mutation::Put(key, value));
            }
        }
        changed
    }

    fn receipt_changed(
        &mut self,
        account: AccountId,
        for_own: bool,
        news: &mut Vec<(DeviceId, News)>,
    ) {
        self.meta.revision += 1;
        self.meta_dirty = true;
        let revision = self.meta.revision;
        let Some(member) = self.receipts.get_mut(&account) else { return };
        member.revision = revision;
        if for_own {
            member.own_revision = revision;
        }
        member.dirty = true;
        let receipt = Arc::new(member.to_receipt(account, revision));
        for (&device, state) in &mut self.devices {
            if state.account == account && !for_own {
                continue;
            }
            if !state.marked {
                state.marked = true;
                state.dirty = true;
                self.pending.push(Mutation::Put(keys::mark(device, self.id), Bytes::new()));
            }
            news.push((device, News::Receipt(receipt.clone())));
        }
    }

    fn delete_up_to(&mut self, up_to: u64) {
        if up_to > self.meta.low {
            let from = keys::message(self.id, self.meta.low + 1);
            let to = keys::message(self.id, up_to + 1);
            self.pending.push(Mutation::DeleteRange(from, to));
            self.deleted += up_to - self.meta.low;
            self.meta.low = up_to;
            self.meta_dirty = true;
        }
    }

    /// Everything up to here is had by every device that it is for.
    fn delivered_to_all(&self) -> u64 {
        self.devices
            .iter()
            .map(|(&device, state)| {
                // Behind what others sent, there is only what the device sent itself.
                if state.cursor.seq >= self.foreign_head(device) {
                    self.meta.head
                } else {
                    state.cursor.seq.max(state.expired_to)
                }
            })
            .min()
            .unwrap_or(self.meta.head)
            .max(self.meta.low)
    }

    fn waits_for(&self, device: DeviceId, state: &Device) -> bool {
        let receipts = self.receipts.iter().any(|(&account, member)| {
            member.revision_for(state.account == account) > state.cursor.revision
        });
        receipts || state.cursor.seq < self.foreign_head(device)
    }
}

impl Device {
    fn to_record(&self) -> CursorRecord {
        let mut record = CursorRecord {
            account: self.account.get(),
            seq: self.cursor.seq,
            revision: self.cursor.revision,
            marked: self.marked,
            expired_to: self.expired_to,
            ..CursorRecord::default()
        };
        record.set_answers(&self.answers);
        record
    }
}

impl Member {
    /// The revision that counts for a device of the account itself, or of another.
    fn revision_for(&self, own: bool) -> u64 {
        if own { self.own_revision } else { self.revision }
    }

    fn to_receipt(&self, account: AccountId, revision: u64) -> Receipt {
        Receipt {
            revision,
            account,
            delivered: self.receipt.delivered(),
            read: self.receipt.read(),
            expired: self.receipt.expired().to_vec(),
        }
    }

    fn to_record(&self) -> MemberRecord {
        MemberRecord {
            delivered: self.receipt.delivered(),
            read: self.receipt.read(),
            expired: self.receipt.expired().iter().map(|span| (span.first, span.last)).collect(),
            revision: self.revision,
            own_revision: self.own_revision,
        }
    }
}
