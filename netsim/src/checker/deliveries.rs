//! What each device was given, and what its store holds.

use std::collections::{BTreeMap, BTreeSet};

use tern_protocol::id::{ConversationId, DeviceId};

use super::{Entry, Event, History, Kind, Progress, Record, Violation, truth::Truth};

/// One device's view of one conversation.
#[derive(Debug, Default)]
struct View<'a> {
    /// Places whose message the application was given.
    given: BTreeSet<u64>,
    /// Places for which it was given something that it shouldn't have been: no loss as well.
    spoiled: BTreeSet<u64>,
    /// What it was given, by text.
    texts: BTreeMap<&'a str, u64>,
    /// Given and not confirmed.
    unconfirmed: BTreeSet<u64>,
    /// Of those, what was given before the last start and not since: these may come once more.
    may_repeat: BTreeSet<u64>,
    /// The last place given since the start.
    last: u64,
    /// The highest place that the store is known to hold.
    held: u64,
    /// What the device takes part in begins behind this place.
    behind: u64,
    stored: BTreeSet<u64>,
}

/// Judges deliveries.
#[derive(Debug)]
pub(super) struct Deliveries<'a> {
    history: &'a History,
    truth: &'a Truth<'a>,
    views: BTreeMap<(DeviceId, ConversationId), View<'a>>,
    removed: BTreeSet<DeviceId>,
    /// Devices whose store was recorded.
    dumped: BTreeSet<DeviceId>,
    given: usize,
    repeats: usize,
}

impl<'a> Deliveries<'a> {
    pub(super) fn new(history: &'a History, truth: &'a Truth<'a>) -> Self {
        let (views, removed, dumped) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { history, truth, views, removed, dumped, given: 0, repeats: 0 }
    }

    /// Messages that applications were given.
    pub(super) fn given(&self) -> usize {
        self.given
    }

    /// How many of them were given again after a kill.
    pub(super) fn repeats(&self) -> usize {
        self.repeats
    }

    pub(super) fn take(
        &mut self,
        index: usize,
        record: &'a Record,
        violations: &mut Vec<Violation>,
    ) {
        let device = record.device;
        match &record.event {
            Event::Started => {
                for (_, view) in self.views.range_mut(all_of(device)) {
                    view.last = 0;
                    view.may_repeat.clone_from(&view.unconfirmed);
                }
            }
            Event::Given(entry) => self.give(index, device, entry, violations),
            Event::Confirmed { conversation, seq } => {
                self.view(device, *conversation).unconfirmed.remove(seq);
            }
            Event::Held { conversation, up_to } => {
                let view = self.view(device, *conversation);
                if *up_to < view.held {
                    let held = view.held;
                    violations.push(Violation {
                        kind: Kind::Forgotten,
                        device: Some(device),
                        conversation: Some(*conversation),
                        seq: Some(*up_to),
                        what: format!("is how far the store holds all; it did up to {held} before"),
                    });
                }
                view.held = *up_to;
            }
            Event::Stored(entry) => {
                self.dumped.insert(device);
                self.store(index, device, entry, violations);
            }
            Event::Joined { conversation, behind } => {
                self.view(device, *conversation).behind = *behind;
            }
            Event::Gap { conversation } => violations.push(Violation {
                kind: Kind::Lost,
                device: Some(device),
                conversation: Some(*conversation),
                seq: None,
                what: "the server had deleted what the device hadn't fetched".into(),
            }),
            Event::Removed => drop(self.removed.insert(device)),
            _ => {}
        }
    }

    fn view(&mut self, device: DeviceId, conversation: ConversationId) -> &mut View<'a> {
        self.views.entry((device, conversation)).or_default()
    }

    fn is_member(&self, device: DeviceId, conversation: ConversationId) -> bool {
        let members = self.history.conversations.get(&conversation);
        let account = self.history.devices.get(&device);
        members.zip(account).is_some_and(|(members, account)| members.contains(account))
    }

    fn give(
        &mut self,
        index: usize,
        device: DeviceId,
        entry: &'a Entry,
        violations: &mut Vec<Violation>,
    ) {
        self.given += 1;
        let objection = self.truth.object(entry, index).or_else(|| {
            if !self.is_member(device, entry.conversation) {
                Some(format!("{:?} isn't for this device", entry.text))
            } else if entry.device == device {
                Some(format!("{:?} is the device's own", entry.text))
            } else {
                None
            }
        });
        let view = self.views.entry((device, entry.conversation)).or_default();
        let fault = |kind, what| violation(kind, device, entry, what);
        if let Some(what) = objection {
            view.spoiled.insert(entry.seq);
            violations.push(fault(Kind::Unexpected, what));
            return;
        }
        let before = match view.texts.get(entry.text.as_str()) {
            // What stood there before was something else, and may have been given out of turn.
            None if view.spoiled.contains(&entry.seq) => view.last,
            None => view.given.last().copied().unwrap_or(0),
            Some(_) if view.may_repeat.remove(&entry.seq) => {
                self.repeats += 1;
                view.last
            }
            Some(&seq) => {
                // That it has two places is reported already.
                if seq == entry.seq {
                    let what = format!("{:?} was given again", entry.text);
                    violations.push(fault(Kind::Repeated, what));
                }
                return;
            }
        };
        view.texts.insert(&entry.text, entry.seq);
        view.given.insert(entry.seq);
        view.unconfirmed.insert(entry.seq);
        view.held = view.held.max(entry.seq);
        if entry.seq < before {
            violations.push(fault(
                Kind::Reordered,
                format!("{:?} was given after what has the place {before}", entry.text),
            ));
        } else {
            view.last = entry.seq;
        }
    }

    fn store(
        &mut self,
        index: usize,
        device: DeviceId,
        entry: &'a Entry,
        violations: &mut Vec<Violation>,
    ) {
        let is_member = self.is_member(device, entry.conversation);
        let objection = self
            .truth
            .object(entry, index)
            .or_else(|| (!is_member).then(|| format!("{:?} isn't for this device", entry.text)));
        let view = self.view(device, entry.conversation);
        if let Some(what) = objection {
            violations.push(violation(Kind::Unexpected, device, entry, what + " (in the store)"));
        }
        if !view.stored.insert(entry.seq) {
            let what = format!("{:?} is in the store twice", entry.text);
            violations.push(violation(Kind::Repeated, device, entry, what));
        }
    }

    /// Looks for what isn't there, after the last record.
    pub(super) fn finish(&mut self, progress: Progress, violations: &mut Vec<Violation>) {
        for (&device, account) in &self.history.devices {
            for (&conversation, members) in &self.history.conversations {
                if members.contains(account) && !self.removed.contains(&device) {
                    self.look_for_losses(device, conversation, progress, violations);
                }
            }
        }
        if progress == Progress::Settled {
            self.look_for_holes(violations);
            violations.extend(self.truth.unheard().map(|(text, sent)| Violation {
                kind: Kind::Lost,
                device: Some(sent.device),
                conversation: Some(sent.conversation),
                seq: None,
                what: format!("the outbox had promised to keep {text:?}"),
            }));
        }
    }

    fn look_for_losses(
        &self,
        device: DeviceId,
        conversation: ConversationId,
        progress: Progress,
        violations: &mut Vec<Violation>,
    ) {
        let nothing = View::default();
        let view = self.views.get(&(device, conversation)).unwrap_or(&nothing);
        let is_dumped = progress == Progress::Settled && self.dumped.contains(&device);
        // What comes later must not overtake what isn't there.
        let due = match progress {
            Progress::Settled => u64::MAX,
            Progress::Running => view.given.last().copied().unwrap_or(0),
        };
        for (seq, text, sent) in self.truth.places(conversation) {
            if seq <= view.behind || seq > due {
                continue;
            }
            let what = if sent.device != device
                && !view.given.contains(&seq)
                && !view.spoiled.contains(&seq)
            {
                format!("{text:?} was never given to the application")
            } else if is_dumped && !view.stored.contains(&seq) {
                format!("{text:?} isn't in the store")
            } else {
                continue;
            };
            violations.push(Violation {
                kind: Kind::Lost,
                device: Some(device),
                conversation: Some(conversation),
                seq: Some(seq),
                what,
            });
        }
    }

    /// Places are dense: one that nobody knows of belongs to a message that nobody got.
    fn look_for_holes(&self, violations: &mut Vec<Violation>) {
        for &conversation in self.history.conversations.keys() {
            for (first, last) in self.truth.holes(conversation) {
                violations.push(Violation {
                    kind: Kind::Lost,
                    device: None,
                    conversation: Some(conversation),
                    seq: Some(first),
                    what: format!("nobody has anything in the places {first} to {last}"),
                });
            }
        }
    }
}

fn violation(kind: Kind, device: DeviceId, entry: &Entry, what: String) -> Violation {
    let (conversation, seq) = (Some(entry.conversation), Some(entry.seq));
    Violation { kind, device: Some(device), conversation, seq, what }
}

/// The keys of a device.
fn all_of(device: DeviceId) -> std::ops::RangeInclusive<(DeviceId, ConversationId)> {
    (device, ConversationId::new([0; 16]))..=(device, ConversationId::new([0xff; 16]))
}
