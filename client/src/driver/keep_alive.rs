//! Signs of life for a server that is more impatient than QUIC knows.
//!
//! quinn sends a packet after so much silence as was settled before the handshake, when nobody had said
//! yet how much silence the server bears. Where that is too rarely, the link asks for a sign of life.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// However impatient a server is, no more packets than this: one that means it would be flooded by its
/// own clients.
const LEAST: Duration = Duration::from_millis(100);

/// When the link has to make a packet by itself.
pub(super) struct KeepAlive {
    ticks: Option<Interval>,
}

impl KeepAlive {
    /// For a server that takes a connection for dead after a silence of `idle_for_ms`, where QUIC
    /// sends something after `keep_alive`.
    pub(super) fn new(keep_alive: Option<Duration>, idle_for_ms: u32) -> Self {
        let ticks = every(keep_alive, idle_for_ms).map(|every| {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Self { ticks }
    }

    /// Waits until a packet is due. Nothing is lost if the future is dropped.
    pub(super) async fn due(&mut self) {
        match &mut self.ticks {
            Some(ticks) => drop(ticks.tick().await),
            None => std::future::pending().await,
        }
    }
}

/// How often the link must make a packet, if QUIC makes too few: at least one in half of the silence
/// that the server bears, [TERN-2.1-5]; a third leaves room for timers that are late.
fn every(keep_alive: Option<Duration>, idle_for_ms: u32) -> Option<Duration> {
    // Without, the application has chosen to let connections die.
    let keep_alive = keep_alive?;
    let idle_for = Duration::from_millis(u64::from(idle_for_ms));
    (keep_alive > idle_for / 2).then(|| (idle_for / 3).max(LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn a_packet_comes_in_half_of_the_silence_or_none_is_wanted() {
        let default = Settings::default().keep_alive;
        assert_eq!(default, Some(Duration::from_secs(10)));
        for idle_for_ms in [600, 5_000, 19_999, 20_000, 30_000, 600_000, u32::MAX] {
            let half = Duration::from_millis(u64::from(idle_for_ms)) / 2;
            for keep_alive in [default, Some(Duration::from_secs(60)), Some(Duration::ZERO)] {
                let sooner = every(keep_alive, idle_for_ms).into_iter().chain(keep_alive).min();
                assert!(sooner.unwrap() <= half, "{keep_alive:?} {idle_for_ms}");
            }
            assert_eq!(every(None, idle_for_ms), None);
        }
        // QUIC's own packets are cheaper, so they are enough where they are often enough.
        assert_eq!(every(default, tern_protocol::limits::IDLE_FOR_MS), None);
        assert_eq!(every(default, 0), Some(LEAST));
    }
}
