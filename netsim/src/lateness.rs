//! How late things happen that have a time: how good an emulation in real time was.

use std::time::Duration;

use serde::Serialize;

/// What is later than this counts as this late: 20 ms, far beyond what an idle machine does.
const MOST_US: usize = 20_000;

/// Asks that the calling thread's waits end as exactly as the system can: Linux lets every wait last up to
/// 50 µs longer by default, to save wake-ups. Elsewhere it does nothing.
pub fn wake_precisely() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::set_current_timer_slack(Some(std::num::NonZeroU64::MIN)) {
        tracing::debug!(%error, "waits stay inexact");
    }
}

/// Counts by microsecond. Takes 160 kB whatever is recorded.
#[derive(Debug, Clone)]
pub struct Lateness {
    counts: Box<[u64]>,
    total: u64,
    most: Duration,
}

/// How late things were, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LatenessSummary {
    /// Half were no later.
    pub p50_us: u64,
    /// 99% were no later; 20,000 stands for that and more.
    pub p99_us: u64,
    /// The latest.
    pub most_us: u64,
}

impl Default for Lateness {
    fn default() -> Self {
        Self { counts: vec![0; MOST_US + 1].into(), total: 0, most: Duration::ZERO }
    }
}

impl Lateness {
    /// Records that something was so late.
    pub fn record(&mut self, late: Duration) {
        let us = usize::try_from(late.as_micros()).unwrap_or(MOST_US).min(MOST_US);
        self.counts[us] += 1;
        self.total += 1;
        self.most = self.most.max(late);
    }

    /// What was recorded, summed up.
    pub fn summary(&self) -> LatenessSummary {
        LatenessSummary {
            p50_us: self.percentile(50),
            p99_us: self.percentile(99),
            most_us: u64::try_from(self.most.as_micros()).unwrap_or(u64::MAX),
        }
    }

    fn percentile(&self, percent: u64) -> u64 {
        let wanted = (self.total * percent).div_ceil(100);
        let mut seen = 0;
        let us = self.counts.iter().zip(0..).find(|(count, _)| {
            seen += **count;
            seen >= wanted
        });
        us.map_or(0, |(_, us)| us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_that_of_what_was_recorded() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.summary(), LatenessSummary::default());
        for us in 1..=100 {
            lateness.record(Duration::from_micros(us));
        }
        let summary = lateness.summary();
        assert_eq!((summary.p50_us, summary.p99_us, summary.most_us), (50, 99, 100));
        lateness.record(Duration::from_secs(1));
        assert_eq!(lateness.summary().most_us, 1_000_000);
    }
}
