//! How far a run is, for another thread.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Shows how much virtual time has passed since the load of a run began.
#[derive(Debug, Default)]
pub struct Watch {
    passed_ms: AtomicU64,
}

impl Watch {
    /// The time since the begin of the load, to the millisecond; zero before it.
    pub fn passed(&self) -> Duration {
        Duration::from_millis(self.passed_ms.load(Relaxed))
    }

    pub(super) fn set(&self, passed: Duration) {
        self.passed_ms.store(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}
