//! Whether anything still comes from a client.
//!
//! QUIC's own idle time-out can't say: it begins anew with the first packet that is *sent* after one was received
//! (RFC 9000, 10.1), and it can't change when a client puts its application into the background. So the
//! packets that were received are counted here.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::session::Session;

/// A connection is looked at so many times in the silence that it may have. It is held for dead after
/// so many looks, less one, without news: what came, came before the first of them.
const LOOKS: u32 = 5;

/// How long a connection has received nothing.
#[derive(Debug)]
pub(super) struct Silence {
    /// Packets received, when they were counted last.
    received: u64,
    /// When it was noticed that they are so many.
    since: Instant,
    looked: Instant,
}

impl Silence {
    pub(super) fn new(now: Instant, received: u64) -> Self {
        Self { received, since: now, looked: now }
    }

    /// When to look again.
    fn next_look(&self, limit: Duration) -> Instant {
        self.looked + limit / LOOKS
    }

    /// Whether nothing was received for too long: for at most `limit`, and at least four fifths of it.
    fn is_too_long(&mut self, now: Instant, received: u64, limit: Duration) -> bool {
        self.looked = now;
        if std::mem::replace(&mut self.received, received) != received {
            self.since = now;
        }
        now.saturating_duration_since(self.since) >= limit - limit / LOOKS
    }
}

/// Returns when the client has been silent for longer than it may. Nothing is lost if the future is dropped.
///
/// While the session is `provisional` that is the shorter time for everybody: a first flight that is replayed has
/// nobody behind it.
pub(super) async fn too_long(session: &Session, silence: &mut Silence, provisional: bool) {
    let limits = &session.limits;
    let limit = || {
        Duration::from_millis(u64::from(match provisional || session.inbox.is_active() {
            true => limits.idle_for_ms,
            false => limits.inactive_idle_for_ms,
        }))
    };
    loop {
        sleep_until(silence.next_look(limit())).await;
        let received = session.connection.stats().udp_rx.datagrams;
        if silence.is_too_long(Instant::now(), received, limit()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// How long after its last packet a client is held for gone that sends one at each of these times.
    fn gone_after(packets_s: &[f64]) -> Duration {
        let begin = Instant::now();
        let mut silence = Silence::new(begin, 7);
        loop {
            let now = silence.next_look(LIMIT);
            let passed = now - begin;
            let came = packets_s.iter().filter(|at| Duration::from_secs_f64(**at) <= passed);
            if silence.is_too_long(now, 7 + came.count() as u64, LIMIT) {
                let last = packets_s.last().copied().unwrap_or_default();
                return passed - Duration::from_secs_f64(last);
            }
        }
    }

    #[test]
    fn silence_is_too_long_after_the_limit_and_hardly_sooner() {
        for tenths in 0..100 {
            let last = f64::from(tenths) / 10.0;
            let after = gone_after(&[last / 2.0, last]);
            assert!(after <= LIMIT && after >= LIMIT * 4 / 5, "{last} {after:?}");
        }
        // As long as something comes in time, it isn't.
        let often: Vec<f64> = (0..100).map(|n| f64::from(n) * 15.0).collect();
        assert!(gone_after(&often) <= LIMIT);
    }

    #[test]
    fn a_limit_that_becomes_shorter_counts_at_the_next_look() {
        let begin = Instant::now();
        let mut silence = Silence::new(begin, 1);
        assert_eq!(silence.next_look(LIMIT * 20), begin + 4 * LIMIT);
        assert_eq!(silence.next_look(LIMIT), begin + LIMIT / 5);
        assert!(!silence.is_too_long(begin + LIMIT, 1, LIMIT * 20));
        assert!(silence.is_too_long(begin + LIMIT, 1, LIMIT));
    }
}
