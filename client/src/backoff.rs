//! When to try again after a connection was lost, [TERN-5.5-3].

use std::time::Duration;

use rand::Rng;

/// The longest wait that the protocol's rule gives, in milliseconds.
const MAX_MS: u64 = 30_000;
/// The base of the rule, in milliseconds.
const BASE_MS: u64 = 500;

/// Counts failures and draws waiting times: none at first, then "full jitter", a random time out of
/// 0 to min(30 s, 0.5 s · 2^n), so that the clients of a server that died don't come back together.
#[derive(Debug, Default, Clone)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// No failure so far.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Tells that an attempt failed or a connection was lost; answers how long to wait.
    /// `retry_after_ms` is what the server asked for, 0 if nothing.
    pub(crate) fn wait(&mut self, retry_after_ms: u64, rng: &mut impl Rng) -> Duration {
        let failure = self.failures;
        self.failures = self.failures.saturating_add(1);
        if retry_after_ms > 0 {
            // The server's word is a lower bound; the jitter on top keeps clients apart that were
            // told the same.
            return Duration::from_millis(
                retry_after_ms.saturating_add(rng.random_range(0..BASE_MS)),
            );
        }
        match failure {
            0 => Duration::ZERO,
            n => {
                let bound_ms = BASE_MS.saturating_mul(1 << n.min(16)).min(MAX_MS);
                Duration::from_millis(rng.random_range(0..=bound_ms))
            }
        }
    }

    /// Tells that a connection works: the next loss is answered at once.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn the_first_try_is_at_once_and_the_others_are_spread_up_to_the_bound() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut longest = [Duration::ZERO; 10];
        for _ in 0..2_000 {
            let mut backoff = Backoff::new();
            for longest in &mut longest {
                *longest = backoff.wait(0, &mut rng).max(*longest);
            }
        }
        assert_eq!(longest[0], Duration::ZERO);
        for (n, longest) in longest.iter().enumerate().skip(1) {
            let bound_ms = (500 << n).min(30_000);
            assert!(longest.as_millis() <= bound_ms, "{n}");
            assert!(longest.as_millis() > bound_ms * 9 / 10, "{n}");
        }
    }

    #[test]
    fn the_servers_word_is_a_lower_bound_and_success_starts_anew() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut backoff = Backoff::new();
        assert!(backoff.wait(7_000, &mut rng).as_millis() >= 7_000);
        backoff.reset();
        assert_eq!(backoff.wait(0, &mut rng), Duration::ZERO);
        // No number of failures overflows.
        backoff.failures = u32::MAX;
        assert!(backoff.wait(0, &mut rng).as_millis() <= 30_000);
        assert!(backoff.wait(u64::MAX, &mut rng) > Duration::ZERO);
    }
}
