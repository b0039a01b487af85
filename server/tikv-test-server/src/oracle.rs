//! The timestamp oracle.

use std::time::Duration;

use crate::mvcc::Timestamp;

/// How far ahead of the timestamps given out the durable bound lies, in milliseconds.
///
/// After a restart timestamps begin above the bound, so it is only written now and then.
const AHEAD_MS: u64 = 3_000;

/// Gives out timestamps, each above all before it.
#[derive(Debug, Clone)]
pub(crate) struct Oracle {
    last: Timestamp,
    /// Physical milliseconds below which timestamps may be given out; durable.
    bound_ms: u64,
    /// How far the oracle's clock has been set ahead of the real one.
    ahead: Duration,
}

impl Oracle {
    /// An oracle whose timestamps are above `bound_ms`, which is the last that was made durable; 0: never.
    pub(crate) fn new(bound_ms: u64) -> Self {
        Self { last: Timestamp::new(bound_ms, 0), bound_ms, ahead: Duration::ZERO }
    }

    /// The highest timestamp given out.
    pub(crate) fn last(&self) -> Timestamp {
        self.last
    }

    /// Sets the oracle's clock ahead: locks expire sooner.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.ahead += by;
    }

    /// Takes `count` timestamps, at least one, at most 2^18, when the clock says `now_ms`. They are the returned one and those right
    /// below it. The second value is a bound that must be durable before they are given out.
    pub(crate) fn take(&mut self, now_ms: u64, count: u32) -> (Timestamp, Option<u64>) {
        let now_ms =
            now_ms.saturating_add(u64::try_from(self.ahead.as_millis()).unwrap_or(u64::MAX));
        let count = u64::from(count.max(1));
        // A clock that went back doesn't take the oracle with it.
        let physical = now_ms.max(self.last.physical_ms());
        let first = if physical > self.last.physical_ms() { 0 } else { self.last.logical() + 1 };
        // A millisecond's counter that is used up goes over to the next, as a whole: the client counts down within
        // one.
        let end = first + count - 1;
        self.last = if end < 1 << Timestamp::LOGICAL_BITS {
            Timestamp::new(physical, end)
        } else {
            Timestamp::new(physical + 1, count - 1)
        };
        let bound =
            (self.last.physical_ms() >= self.bound_ms).then(|| self.last.physical_ms() + AHEAD_MS);
        if let Some(bound_ms) = bound {
            self.bound_ms = bound_ms;
        }
        (self.last, bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_above_all_before_whatever_the_clock_does() {
        let mut oracle = Oracle::new(0);
        let mut last = Timestamp::ZERO;
        for now in [5, 5, 7, 3, 0, 9] {
            let (ts, _) = oracle.take(now, 3);
            assert!(ts.0 - 2 > last.0, "{ts:?} after {last:?}");
            assert_eq!(Timestamp(ts.0 - 2).physical_ms(), ts.physical_ms());
            last = ts;
        }
        assert_eq!(last.physical_ms(), 9);
    }

    #[test]
    fn goes_over_to_the_next_millisecond_when_one_is_used_up() {
        let mut oracle = Oracle::new(0);
        oracle.take(1, 1 << 18);
        let (ts, _) = oracle.take(1, 64);
        assert_eq!((ts.physical_ms(), ts.logical()), (2, 63));
    }

    #[test]
    fn stays_below_its_bound_and_begins_above_it() {
        let mut oracle = Oracle::new(0);
        let (_, bound) = oracle.take(1_000, 1);
        let bound = bound.unwrap();
        assert_eq!(oracle.take(bound - 1, 1).1, None);
        assert!(oracle.take(bound, 1).1.is_some());
        let mut later = Oracle::new(bound);
        assert!(later.take(1_000, 1).0 > Timestamp::new(bound - 1, u64::MAX));
    }

    #[test]
    fn goes_ahead_when_told() {
        let mut oracle = Oracle::new(0);
        oracle.advance(Duration::from_secs(20));
        assert_eq!(oracle.take(1_000, 1).0.physical_ms(), 21_000);
    }
}
