//! What applications were told of each other's receipts.

use std::collections::BTreeMap;

use tern_protocol::id::{AccountId, ConversationId, DeviceId};

use super::{Event, History, Kind, Progress, Record, Violation, truth::Truth};

/// Judges receipts.
#[derive(Debug)]
pub(super) struct Receipts<'a> {
    history: &'a History,
    truth: &'a Truth<'a>,
    progress: Progress,
    /// For each device and conversation, at which records it is known how far its store holds all; each
    /// with the least that is said from there on, for what isn't held later was never held before.
    held: BTreeMap<(DeviceId, ConversationId), Vec<(usize, u64)>>,
    /// How far each account's users have read, as far as their applications have said.
    marked: BTreeMap<(AccountId, ConversationId), u64>,
    /// The highest that each device was told and that can be true: delivered and read.
    told: BTreeMap<(DeviceId, ConversationId, AccountId), (u64, u64)>,
    count: usize,
}

impl<'a> Receipts<'a> {
    pub(super) fn new(history: &'a History, truth: &'a Truth<'a>, progress: Progress) -> Self {
        let mut held: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (index, record) in history.records.iter().enumerate() {
            if let Event::Held { conversation, up_to } = record.event {
                held.entry((record.device, conversation)).or_default().push((index, up_to));
            }
        }
        for known in held.values_mut() {
            let mut least = u64::MAX;
            for (_, up_to) in known.iter_mut().rev() {
                least = least.min(*up_to);
                *up_to = least;
            }
        }
        let (marked, told) = (BTreeMap::new(), BTreeMap::new());
        Self { history, truth, progress, held, marked, told, count: 0 }
    }

    /// Receipts that applications were told.
    pub(super) fn told(&self) -> usize {
        self.count
    }

    pub(super) fn take(&mut self, index: usize, record: &Record, violations: &mut Vec<Violation>) {
        match record.event {
            Event::Marked { conversation, up_to } => {
                if let Some(&account) = self.history.devices.get(&record.device) {
                    let marked = self.marked.entry((account, conversation)).or_default();
                    *marked = up_to.max(*marked);
                }
            }
            Event::Receipt { conversation, account, delivered, read } => {
                self.count += 1;
                let receipt = (conversation, account, delivered, read);
                if let Some((kind, seq, what)) = self.judge(index, record.device, receipt) {
                    violations.push(Violation {
                        kind,
                        device: Some(record.device),
                        conversation: Some(conversation),
                        seq: Some(seq),
                        what,
                    });
                }
            }
            _ => {}
        }
    }

    fn judge(
        &mut self,
        index: usize,
        device: DeviceId,
        (conversation, account, delivered, read): (ConversationId, AccountId, u64, u64),
    ) -> Option<(Kind, u64, String)> {
        let members = self.history.conversations.get(&conversation);
        if !members.is_some_and(|members| members.contains(&account)) {
            let what = format!("a receipt of account {account}, which isn't a member");
            return Some((Kind::FalseReceipt, delivered, what));
        }
        let possible = self.most_held(index, account, conversation);
        if delivered > possible {
            let what = format!(
                "account {account} was said to have all up to {delivered}, and no device of it had \
                 more than {possible}"
            );
            return Some((Kind::FalseReceipt, delivered, what));
        }
        let marked = self.marked.get(&(account, conversation)).copied().unwrap_or(0);
        if read > marked {
            let what = format!(
                "account {account} was said to have read up to {read}, and had marked {marked}"
            );
            return Some((Kind::FalseReceipt, read, what));
        }
        let told = self.told.entry((device, conversation, account)).or_default();
        let (before_delivered, before_read) = *told;
        *told = (delivered.max(before_delivered), read.max(before_read));
        if delivered < before_delivered || read < before_read {
            let what = format!(
                "account {account} was said to have {delivered} and read {read}, after \
                 {before_delivered} and {before_read}"
            );
            return Some((Kind::BackwardReceipt, delivered, what));
        }
        None
    }

    /// The most that any device of an account can have held at a record: what it held later, or, if that
    /// isn't known, the whole conversation, whose end isn't known before the run's.
    fn most_held(&self, index: usize, account: AccountId, conversation: ConversationId) -> u64 {
        let devices = self.history.devices.iter().filter(|&(_, &of)| of == account);
        let most = devices.map(|(&device, _)| {
            let known = self.held.get(&(device, conversation)).map_or(&[][..], Vec::as_slice);
            let later = known.get(known.partition_point(|&(at, _)| at < index));
            match (later, self.progress) {
                (Some(&(_, up_to)), _) => up_to,
                (None, Progress::Settled) => self.truth.head(conversation),
                (None, Progress::Running) => u64::MAX,
            }
        });
        most.max().unwrap_or(0)
    }
}
