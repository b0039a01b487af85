//! What a link has done.

use std::ops::AddAssign;

use serde::Serialize;

/// Packets and their bytes, as the caller gave them: without [header bytes](super::Link::with_header_bytes).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tally {
    /// How many packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What has become of a link's packets. `entered` + `duplicated` = `delivered` + `lost` + `queue_full` +
/// `too_big`, in packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// All that entered.
    pub entered: Tally,
    /// All that comes out, copies too.
    pub delivered: Tally,
    /// Lost by chance.
    pub lost: Tally,
    /// Dropped at a full queue.
    pub queue_full: Tally,
    /// Larger than the MTU.
    pub too_big: Tally,
    /// Packets that come out twice.
    pub duplicated: u64,
    /// Deliveries with a flipped bit.
    pub corrupted: u64,
    /// Deliveries with the extra delay that lets later ones overtake.
    pub reordered: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.entered += other.entered;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.queue_full += other.queue_full;
        self.too_big += other.too_big;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
        self.reordered += other.reordered;
    }
}
