//! Wall-clock time that follows tokio's clock, so that a test or a simulator that pauses the one
//! stops the other.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since the Unix epoch, advancing with tokio's clock. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_ms: u64,
}

impl Clock {
    /// A clock that shows the system's time now. Needs a tokio runtime.
    pub fn system() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(since_epoch.as_millis() as u64)
    }

    /// A clock that shows `now_ms` now. Needs a tokio runtime.
    pub fn starting_at(now_ms: u64) -> Self {
        Self { started: Instant::now(), started_ms: now_ms }
    }

    /// The time now, in milliseconds since the Unix epoch. It never goes back.
    pub fn now_ms(&self) -> u64 {
        self.started_ms + self.started.elapsed().as_millis() as u64
    }
}
