//! Randomness that is passed in: the operating system's seed in production, a fixed one in tests and
//! simulations.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{RngCore, SeedableRng, rngs::StdRng};

/// A shared generator for cryptographic use (ChaCha12 seeded with 256 bits).
#[derive(Debug, Clone)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// Seeded by the operating system.
    pub fn system() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    /// Repeats itself for the same seed. For tests and simulations alone.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Fills a buffer.
    pub fn fill(&self, buffer: &mut [u8]) {
        // A panic elsewhere can't leave the generator in a bad state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(buffer);
    }

    /// So many random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number other than 0, for ids.
    pub fn id(&self) -> u64 {
        loop {
            let id = u64::from_le_bytes(self.bytes());
            if id != 0 {
                return id;
            }
        }
    }
}
