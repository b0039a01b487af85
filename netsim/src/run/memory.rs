//! Is what must be bounded bounded? Sizes are sampled each virtual second, and looked at once more when nothing
//! is left to do.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use tern_protocol::limits;
use tern_server::{config::Config, metrics::Metrics};

use crate::{
    checker::{Kind, Violation, presence::GONE_WITHIN},
    sim::Disk,
};

/// A client tries a connection beside a silent one so often.
const RACED_EVERY: Duration = Duration::from_secs(3);
/// Bytes that the longest record of a conversation may have: that of a device remembers 128 answers that aren't
/// settled, of at most 40 bytes each; that of an account 64 spans, of at most 20.
const RECORD_BYTES: u64 = 8_192;
/// Keys of the whole server: those of tickets, of which at most 256 are kept, and of its end point.
const SERVER_KEYS: u64 = 257;
/// Keys for each device: its account, the account's name, the device, its place among the account's, its
/// public key, and when it was last seen.
const DEVICE_KEYS: u64 = 6;
/// Records of a conversation: itself, and one for each of two devices and two accounts.
const CONVERSATION_KEYS: u64 = 5;
/// Messages that may be deleted together, and so may wait for it.
const DELETED_TOGETHER: u64 = 64;

/// The greatest size of something that has a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Peak {
    /// What.
    pub what: &'static str,
    /// The greatest that was seen.
    pub most: u64,
    /// The most that may be.
    pub bound: u64,
}

/// How many there are of what takes room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crowd {
    pub(super) devices: u64,
    pub(super) conversations: u64,
    /// Messages that were sent and haven't been given to anybody yet.
    pub(super) waiting: u64,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Meter {
    peaks: BTreeMap<&'static str, Peak>,
    /// What should have been gone at the end, and how many there were.
    left: Vec<(&'static str, u64, u64)>,
}

impl Meter {
    fn note(&mut self, what: &'static str, size: u64, bound: u64) {
        let peak = self.peaks.entry(what).or_insert(Peak { what, most: 0, bound });
        peak.most = peak.most.max(size);
    }

    /// Looks at a server.
    pub(super) fn sample_server(&mut self, metrics: &Metrics, config: &Config, crowd: Crowd) {
        let Crowd { devices, conversations, .. } = crowd;
        let limits = &config.limits;
        // A connection of which nobody hears any more is gone after this time, and no more were tried in it.
        let attempts = 1 + GONE_WITHIN.as_secs().div_ceil(RACED_EVERY.as_secs());
        let connections = devices * attempts;
        self.note("connections of the server", size(metrics.connections.get()), connections);
        self.note(
            "handshakes of the server",
            size(metrics.handshakes_in_progress.get()),
            connections,
        );
        // One that is being replaced, and the one that replaces it.
        self.note("devices signed in", size(metrics.sessions.get()), 2 * devices);
        // Each member may have one on each connection.
        let uplinks = 2 * conversations * attempts;
        self.note("uplinks of the server", size(metrics.uplinks.get()), uplinks);
        let downlinks = 2 * devices * u64::from(limits.downlinks_per_session);
        self.note("downlinks of the server", size(metrics.downlinks.get()), downlinks);
        for shard in 0..config.shards() {
            let queue = size(metrics.shard_queue(shard as u32).get());
            let bound = u64::from(limits.queued_commands_per_shard);
            self.note("commands that wait for a shard", queue, bound);
        }
    }

    /// Looks at a server's store.
    pub(super) fn sample_disk(&mut self, disk: &Disk, config: &Config, crowd: Crowd) {
        let Crowd { devices, conversations, waiting } = crowd;
        // Beside what somebody waits for, which has no bound but the configuration's, there is what is given and of
        // which the server doesn't know it yet, and what is deleted a little later.
        let messages = disk.count(b"m/") as u64;
        let beyond = conversations * (2 * limits::DELIVERY_WINDOW + DELETED_TOGETHER);
        self.note(
            "messages stored that nobody waits for",
            messages.saturating_sub(waiting),
            beyond,
        );
        let undelivered = u64::from(config.limits.undelivered_per_conversation);
        self.note("messages stored", messages, conversations * (undelivered + DELETED_TOGETHER));
        let marks = disk.count(b"b/") as u64;
        self.note("mailbox marks stored", marks, 2 * conversations);
        let records = disk.count(b"c/") as u64;
        self.note("conversation records stored", records, CONVERSATION_KEYS * conversations);
        self.note("bytes of a conversation record", disk.longest(b"c/") as u64, RECORD_BYTES);
        let index = disk.count(b"x/") as u64;
        // A run is shorter than two buckets of the index.
        self.note("expiry index stored", index, 2 * conversations);
        let (keys, _) = disk.size();
        let others = (keys as u64).saturating_sub(messages + marks + records + index);
        self.note("other keys stored", others, DEVICE_KEYS * devices + SERVER_KEYS);
    }

    /// Notes how many there are of something when there should be just so many.
    pub(super) fn at_rest(&mut self, what: &'static str, left: u64, due: u64) {
        if left != due {
            self.left.push((what, left, due));
        }
    }

    /// What was more than it may be.
    pub(super) fn violations(&self) -> impl Iterator<Item = Violation> {
        let over =
            self.peaks.values().filter(|peak| peak.most > peak.bound).map(|peak| {
                format!("{}: {}, and {} is the bound", peak.what, peak.most, peak.bound)
            });
        let left = self.left.iter().map(|(what, left, due)| {
            format!("{what}: {left} at the end, when everything had arrived; {due} should be")
        });
        let whats: Vec<String> = over.chain(left).collect();
        whats.into_iter().map(|what| Violation {
            kind: Kind::Unbounded,
            device: None,
            conversation: None,
            seq: None,
            what,
        })
    }

    /// The greatest sizes.
    pub(super) fn peaks(&self) -> Vec<Peak> {
        self.peaks.values().copied().collect()
    }
}

/// A gauge's value; none is ever below zero for longer than a moment.
pub(super) fn size(gauge: i64) -> u64 {
    u64::try_from(gauge).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(meter: &Meter) -> Vec<String> {
        meter.violations().map(|violation| violation.to_string()).collect()
    }

    #[test]
    fn what_stays_within_its_bounds_and_is_gone_at_the_end_is_good() {
        let mut meter = Meter::default();
        for size in [0, 5, 3] {
            meter.note("things", size, 5);
        }
        meter.at_rest("things", 0, 0);
        assert_eq!(told(&meter), Vec::<String>::new());
        assert_eq!(meter.peaks(), [Peak { what: "things", most: 5, bound: 5 }]);
    }

    #[test]
    fn what_is_beyond_its_bound_once_or_left_at_the_end_is_told() {
        let mut meter = Meter::default();
        for size in [0, 6, 3] {
            meter.note("things", size, 5);
        }
        meter.at_rest("other things", 2, 0);
        assert_eq!(
            told(&meter),
            [
                "unbounded memory: things: 6, and 5 is the bound",
                "unbounded memory: other things: 2 at the end, when everything had arrived; 0 should be",
            ]
        );
    }
}
