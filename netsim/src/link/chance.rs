//! Random values, and chances that are the same on every machine.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A share of packets, as a whole number of 2⁻⁵³.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share(u64);

impl Share {
    /// `share` must be in 0..=1. Scaling by a power of two is exact, so the result doesn't depend on the machine.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 2⁵³ by the caller's check; anything else saturates"
    )]
    pub(super) fn new(share: f64) -> Self {
        const WHOLE: f64 = (1u64 << 53) as f64;
        Self((share * WHOLE) as u64)
    }

    /// Whether a draw falls into the share.
    pub(super) fn hit(self, draw: Draw) -> bool {
        draw.0 >> 11 < self.0
    }
}

/// One random value, evenly spread over all of 64 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw(u64);

impl Draw {
    /// As a number below `bound`; 0 when that is 0. The bias is below `bound` / 2⁶⁴.
    pub(super) fn below(self, bound: u64) -> u64 {
        let scaled = (u128::from(self.0) * u128::from(bound)) >> 64;
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }

    /// As an index into something of `len`.
    pub(super) fn index(self, len: usize) -> usize {
        let below = self.below(u64::try_from(len).unwrap_or(u64::MAX));
        usize::try_from(below).unwrap_or(usize::MAX)
    }
}

/// All that chance may have to say about one packet.
#[derive(Debug)]
pub(super) struct Draws {
    /// Whether the link turns from good to bad or back.
    pub(super) turn: Draw,
    pub(super) loss: Draw,
    pub(super) jitter: Draw,
    pub(super) reorder: Draw,
    pub(super) duplicate: Draw,
    pub(super) corrupt: Draw,
    pub(super) bit: Draw,
    pub(super) copy_reorder: Draw,
    pub(super) copy_corrupt: Draw,
    pub(super) copy_bit: Draw,
}

/// The source of all draws of one link.
#[derive(Debug)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        // The seed is the key itself: how `seed_from_u64` stretches one is for its library to change.
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    pub(super) fn roll(&mut self) -> Draws {
        let mut draw = || Draw(self.0.next_u64());
        Draws {
            turn: draw(),
            loss: draw(),
            jitter: draw(),
            reorder: draw(),
            duplicate: draw(),
            corrupt: draw(),
            bit: draw(),
            copy_reorder: draw(),
            copy_corrupt: draw(),
            copy_bit: draw(),
        }
    }
}
