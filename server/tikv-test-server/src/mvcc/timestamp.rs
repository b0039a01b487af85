//! Timestamps of the oracle.

use serde::{Deserialize, Serialize};

/// A timestamp of PD's oracle: milliseconds since 1970 in the upper 46 bits, a counter in the lower 18.
///
/// It is a transaction's name (its start) and its place in the order (its commit).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Width of the counter.
    pub const LOGICAL_BITS: u32 = 18;
    /// No timestamp: the field isn't set.
    pub const ZERO: Self = Self(0);
    /// As a reader's timestamp: the newest version; as the current time: every lock has expired.
    pub const MAX: Self = Self(u64::MAX);

    /// Of milliseconds and counter. What doesn't fit into their bits is cut off.
    pub const fn new(physical_ms: u64, logical: u64) -> Self {
        Self((physical_ms << Self::LOGICAL_BITS) | (logical & ((1 << Self::LOGICAL_BITS) - 1)))
    }

    /// Milliseconds since 1970.
    pub const fn physical_ms(self) -> u64 {
        self.0 >> Self::LOGICAL_BITS
    }

    /// The counter within the millisecond.
    pub const fn logical(self) -> u64 {
        self.0 & ((1 << Self::LOGICAL_BITS) - 1)
    }

    /// Whether the field is unset.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The one after; the greatest stays.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before; zero stays.
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}
