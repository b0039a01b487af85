//! Attempts that were given up and may still come to life at the server.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::attempts::AT_ONCE;

/// How long an attempt that was given up may come to life at the server: the time that it has for a hello,
/// and as long again for packets under way.
const LATE: Duration = Duration::from_secs(20);
/// Attempts that are remembered; in [`LATE`] hardly more are begun.
const MOST: usize = 32;

/// The server may still read an attempt that was given up, take it for the newest, and let it replace the connection
/// that came after it. So being replaced is no reason to stop as often as there are such attempts, [TERN-2.3-4].
#[derive(Debug)]
pub(super) struct GivenUp(VecDeque<Instant>);

impl GivenUp {
    /// Those that a process before this one may have left when it was killed.
    pub(super) fn by_predecessor(now: Instant) -> Self {
        Self(VecDeque::from([now; AT_ONCE]))
    }

    /// So many more are given up.
    pub(super) fn add(&mut self, attempts: usize, now: Instant) {
        self.0.extend(std::iter::repeat_n(now, attempts.min(MOST)));
        self.0.drain(..self.0.len().saturating_sub(MOST));
    }

    /// Whether one of them may be what has replaced a connection now. That one is known of then.
    pub(super) fn explain(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < LATE);
        self.0.pop_front().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_explains_one_replacement_while_it_may_be_under_way() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut given_up = GivenUp::by_predecessor(start);
        for _ in 0..AT_ONCE {
            assert!(given_up.explain(at(1)));
        }
        assert!(!given_up.explain(at(1)), "somebody else is the device");
        given_up.add(2, at(2));
        given_up.add(1, at(15));
        assert!(given_up.explain(at(21)));
        // The other one of the two is too old to be under way.
        assert!(given_up.explain(at(22)));
        assert!(!given_up.explain(at(22)));
        given_up.add(usize::MAX, at(30));
        assert_eq!((0..100).filter(|_| given_up.explain(at(30))).count(), MOST);
    }
}
