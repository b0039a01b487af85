//! What the whole record says about each message: who sent it, and which place it has.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use tern_protocol::id::{AccountId, ConversationId, DeviceId};

use super::{Entry, Event, History, Kind, Violation};

/// A send.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) device: DeviceId,
    pub(super) account: AccountId,
    pub(super) conversation: ConversationId,
    /// Its record.
    index: usize,
    /// The outbox has promised to keep it.
    is_enqueued: bool,
    has_failed: bool,
    /// The places that anybody has said it has. More than one is a fault.
    seqs: BTreeSet<u64>,
    message_ids: BTreeSet<u64>,
}

/// Messages and places.
#[derive(Debug, Default)]
pub(super) struct Truth<'a> {
    by_text: BTreeMap<&'a str, Submission>,
    /// The messages that anybody has said have a place. More than one is a fault.
    by_seq: BTreeMap<ConversationId, BTreeMap<u64, Vec<&'a str>>>,
}

impl<'a> Truth<'a> {
    /// Reads the whole record, and reports what it says about messages beyond any one device.
    pub(super) fn collect(history: &'a History, violations: &mut Vec<Violation>) -> Self {
        let mut truth = Self::default();
        for (index, record) in history.records.iter().enumerate() {
            let Some(&account) = history.devices.get(&record.device) else {
                violations.push(malformed(record.device, "isn't a device of the run".into()));
                continue;
            };
            match &record.event {
                Event::Submitted { conversation, text } => {
                    let submission = Submission {
                        device: record.device,
                        account,
                        conversation: *conversation,
                        index,
                        is_enqueued: false,
                        has_failed: false,
                        seqs: BTreeSet::new(),
                        message_ids: BTreeSet::new(),
                    };
                    match truth.by_text.entry(text) {
                        btree_map::Entry::Vacant(free) => drop(free.insert(submission)),
                        btree_map::Entry::Occupied(_) => violations.push(malformed(
                            record.device,
                            format!("sent {text:?}, which was sent before"),
                        )),
                    }
                }
                Event::Enqueued { text } => {
                    truth.note(record.device, text, |sent| sent.is_enqueued = true)
                }
                Event::Failed { text } => {
                    truth.note(record.device, text, |sent| sent.has_failed = true)
                }
                _ => {}
            }
        }
        for record in &history.records {
            match &record.event {
                Event::Accepted { conversation, seq, text } => {
                    truth.claim(*conversation, *seq, text, None);
                }
                Event::Given(entry) | Event::Stored(entry) => {
                    truth.claim(entry.conversation, entry.seq, &entry.text, Some(entry.message_id));
                }
                _ => {}
            }
        }
        truth.judge_places(violations);
        truth
    }

    fn note(&mut self, device: DeviceId, text: &str, note: impl FnOnce(&mut Submission)) {
        if let Some(sent) = self.by_text.get_mut(text)
            && sent.device == device
        {
            note(sent);
        }
    }

    /// Somebody says that a message has a place. What was never sent there has none.
    fn claim(
        &mut self,
        conversation: ConversationId,
        seq: u64,
        text: &'a str,
        message_id: Option<u64>,
    ) {
        if let Some(sent) = self.by_text.get_mut(text)
            && sent.conversation == conversation
        {
            sent.message_ids.extend(message_id);
            if sent.seqs.insert(seq) {
                self.by_seq.entry(conversation).or_default().entry(seq).or_default().push(text);
            }
        }
    }

    fn judge_places(&self, violations: &mut Vec<Violation>) {
        let mut shared = BTreeSet::new();
        for (&conversation, places) in &self.by_seq {
            for (&seq, texts) in places {
                if texts.len() > 1 {
                    shared.extend(texts.iter().copied());
                    violations.push(Violation {
                        kind: Kind::SharedSeq,
                        device: None,
                        conversation: Some(conversation),
                        seq: Some(seq),
                        what: format!("is the place of {texts:?}"),
                    });
                }
            }
        }
        for (text, sent) in &self.by_text {
            // Two places of which one belongs to another message are one fault, not two.
            if sent.seqs.len() > 1 && !shared.contains(text) {
                violations.push(Violation {
                    kind: Kind::Repeated,
                    device: None,
                    conversation: Some(sent.conversation),
                    seq: sent.seqs.last().copied(),
                    what: format!("{text:?} has the places {:?}", sent.seqs),
                });
            }
            if sent.message_ids.len() > 1 {
                violations.push(Violation {
                    kind: Kind::Unexpected,
                    device: None,
                    conversation: Some(sent.conversation),
                    seq: sent.seqs.first().copied(),
                    what: format!("{text:?} has the ids {:x?}", sent.message_ids),
                });
            }
        }
    }

    /// What is wrong with an entry that a device has, if something is.
    pub(super) fn object(&self, entry: &Entry, index: usize) -> Option<String> {
        let text = &entry.text;
        let Some(sent) = self.by_text.get(text.as_str()).filter(|sent| sent.index < index) else {
            return Some(format!("nobody had sent {text:?}"));
        };
        if sent.conversation != entry.conversation {
            Some(format!("{text:?} was sent in conversation {}", sent.conversation))
        } else if (sent.account, sent.device) != (entry.account, entry.device) {
            Some(format!(
                "{text:?} was sent by account {} device {}, not by {} {}",
                sent.account, sent.device, entry.account, entry.device
            ))
        } else if sent.has_failed {
            Some(format!("its sender was told that {text:?} had failed"))
        } else {
            None
        }
    }

    /// The messages that have a place in a conversation, by place. A message that is said to have several
    /// has its first; a place of several messages, and a message that failed, are reported otherwise and
    /// left out.
    pub(super) fn places(
        &self,
        conversation: ConversationId,
    ) -> impl Iterator<Item = (u64, &'a str, &Submission)> {
        self.by_seq.get(&conversation).into_iter().flatten().filter_map(|(&seq, texts)| {
            let [text] = texts[..] else { return None };
            let sent = self.by_text.get(text)?;
            (sent.seqs.first() == Some(&seq) && !sent.has_failed).then_some((seq, text, sent))
        })
    }

    /// The places of a conversation that nobody knows of, as spans.
    pub(super) fn holes(&self, conversation: ConversationId) -> Vec<(u64, u64)> {
        let mut next = 1;
        let mut holes = Vec::new();
        for &seq in self.by_seq.get(&conversation).into_iter().flat_map(BTreeMap::keys) {
            if seq > next {
                holes.push((next, seq - 1));
            }
            next = seq + 1;
        }
        holes
    }

    /// The last place of a conversation; 0 if it has none.
    pub(super) fn head(&self, conversation: ConversationId) -> u64 {
        let last = self.by_seq.get(&conversation).and_then(BTreeMap::last_key_value);
        last.map_or(0, |(&seq, _)| seq)
    }

    /// Messages that an outbox has promised to keep and that have neither a place nor a failure.
    pub(super) fn unheard(&self) -> impl Iterator<Item = (&'a str, &Submission)> {
        self.by_text
            .iter()
            .filter(|(_, sent)| sent.is_enqueued && !sent.has_failed && sent.seqs.is_empty())
            .map(|(&text, sent)| (text, sent))
    }

    /// Messages that have a place.
    pub(super) fn messages(&self) -> usize {
        self.by_text.values().filter(|sent| !sent.seqs.is_empty()).count()
    }
}

fn malformed(device: DeviceId, what: String) -> Violation {
    Violation { kind: Kind::Malformed, device: Some(device), conversation: None, seq: None, what }
}
