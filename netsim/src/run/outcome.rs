//! What came of a run.

use std::collections::BTreeMap;

use serde::Serialize;

use super::memory::Peak;
use crate::{
    checker::{Event, Kind, Record},
    sim::Traffic,
};

/// What came of a run. Times are milliseconds from the begin of the load; what happened before is negative.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// The scenario's text about itself.
    pub about: String,
    /// The seed.
    pub seed: u64,
    /// A hash over every packet of the run; the same seed gives the same on any machine.
    pub trace_hash: String,
    /// Broken promises; empty if all is well.
    pub violations: Vec<String>,
    /// Of which kinds they are, each once.
    pub kinds: Vec<Kind>,
    /// Why not everything arrived in the time that it had, if so.
    pub unsettled: Option<String>,
    /// When everything had arrived, in milliseconds.
    pub settled_ms: f64,
    /// Messages that have a place in a conversation.
    pub messages: usize,
    /// Messages given to applications.
    pub deliveries: usize,
    /// Receipts told to applications.
    pub receipts: usize,
    /// The delay of each message, in the order of their sending.
    pub delays: Vec<Delay>,
    /// What happened.
    pub events: Vec<Happened>,
    /// When the connection of each phone came and went.
    pub connections: Vec<ConnectionChange>,
    /// What phones were told of each other's presence.
    pub presence: Vec<Seen>,
    /// What each phone sent and received, and its radio.
    pub phones: Vec<PhoneTraffic>,
    /// The greatest sizes of what must be bounded.
    pub memory: Vec<Peak>,
    /// Packets that reached nobody.
    pub strayed_packets: u64,
    /// Commits and syncs of the server's disk.
    pub commits: u64,
    /// Disk syncs.
    pub syncs: u64,
}

/// How long a message took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Delay {
    /// When the application sent it.
    pub sent_ms: f64,
    /// Its conversation, by number.
    pub conversation: usize,
    /// The phone that sent it.
    pub from: usize,
    /// Until the server had promised to keep it; `None`: the sender never heard of it.
    pub accepted_after_ms: Option<f64>,
    /// Until the first other device's application was given it; `None`: never.
    pub arrived_after_ms: Option<f64>,
}

/// Something that happened to the world.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Happened {
    /// When.
    pub at_ms: f64,
    /// To which phone, if to one.
    pub phone: Option<usize>,
    /// What.
    pub what: String,
}

/// A phone's connection came or went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConnectionChange {
    /// When.
    pub at_ms: f64,
    /// Whose.
    pub phone: usize,
    /// What it is now: `connecting`, `connected`, `waiting` or `stopped`.
    pub state: &'static str,
}

/// A phone was told of another's presence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    /// When.
    pub at_ms: f64,
    /// Who was told.
    pub watcher: usize,
    /// Of whom.
    pub watched: usize,
    /// What.
    pub online: bool,
}

/// What a phone sent and received.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhoneTraffic {
    /// Its number.
    pub phone: usize,
    /// Packets sent.
    pub packets_up: u64,
    /// Bytes sent, headers of IP and UDP included.
    pub bytes_up: u64,
    /// Packets received.
    pub packets_down: u64,
    /// Bytes received.
    pub bytes_down: u64,
    /// Seconds for which an LTE radio would have been awake.
    pub radio_on_s: f64,
    /// How often it would have woken.
    pub wake_ups: u64,
    /// How often a router had forgotten the phone when it sent something.
    pub forgotten: u64,
}

impl PhoneTraffic {
    pub(super) fn of(phone: usize, traffic: Traffic) -> Self {
        Self {
            phone,
            packets_up: traffic.packets_up,
            bytes_up: traffic.bytes_up,
            packets_down: traffic.packets_down,
            bytes_down: traffic.bytes_down,
            radio_on_s: traffic.radio_on.as_secs_f64(),
            wake_ups: traffic.wake_ups,
            forgotten: traffic.forgotten,
        }
    }
}

impl Outcome {
    /// Whether every promise was kept and everything arrived.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.unsettled.is_none()
    }

    /// The delays of the messages that arrived, sorted.
    pub fn arrivals_ms(&self) -> Vec<f64> {
        let mut all: Vec<f64> = self.delays.iter().filter_map(|d| d.arrived_after_ms).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    /// The share of messages that arrived later than the median and so many milliseconds.
    pub fn late(&self, after_median_ms: f64) -> f64 {
        let all = self.arrivals_ms();
        let bound = percentile(&all, 0.5) + after_median_ms;
        let late = all.iter().filter(|ms| **ms > bound).count();
        late as f64 / all.len().max(1) as f64
    }
}

/// The value below which `part` of the sorted values are (nearest rank); 0 if there are none.
pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
}

/// Texts of messages by when they were sent, accepted and given.
pub(super) fn delays(
    records: &[(std::time::Duration, Record)],
    ms: impl Fn(std::time::Duration) -> f64,
    phone_of: impl Fn(&Record) -> Option<usize>,
    conversation_of: impl Fn(&tern_client::ConversationId) -> Option<usize>,
) -> Vec<Delay> {
    let mut delays: Vec<Delay> = Vec::new();
    let mut by_text: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, record) in records {
        match &record.event {
            Event::Submitted { conversation, text } => {
                if let (Some(from), Some(conversation)) =
                    (phone_of(record), conversation_of(conversation))
                {
                    by_text.insert(text, delays.len());
                    delays.push(Delay {
                        sent_ms: ms(*at),
                        conversation,
                        from,
                        accepted_after_ms: None,
                        arrived_after_ms: None,
                    });
                }
            }
            Event::Accepted { text, .. } => {
                if let Some(delay) = by_text.get(text.as_str()).and_then(|i| delays.get_mut(*i)) {
                    delay.accepted_after_ms.get_or_insert(ms(*at) - delay.sent_ms);
                }
            }
            Event::Given(entry) => {
                if let Some(delay) =
                    by_text.get(entry.text.as_str()).and_then(|i| delays.get_mut(*i))
                {
                    delay.arrived_after_ms.get_or_insert(ms(*at) - delay.sent_ms);
                }
            }
            _ => {}
        }
    }
    delays
}
