//! How long a phone's radio is awake: what packets cost the battery.

use std::time::Duration;

/// The radio of a phone as Huang et al. measured it for LTE ("A Close Examination of Performance and
/// Power Characteristics of 4G LTE Networks", MobiSys 2012): a packet wakes it, which takes 260 ms, and it
/// stays awake for 11.6 s after the last packet. Awake it draws about 1.1 W, so a lone packet costs
/// some 12 J.
///
/// It only counts; packets aren't delayed by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Radio {
    promotion: Duration,
    tail: Duration,
    /// Awake in finished stretches.
    on: Duration,
    wake_ups: u64,
    /// When the present stretch began, and its last packet.
    awake: Option<(Duration, Duration)>,
}

impl Radio {
    /// LTE's figures.
    pub fn lte() -> Self {
        Self {
            promotion: Duration::from_millis(260),
            tail: Duration::from_millis(11_600),
            on: Duration::ZERO,
            wake_ups: 0,
            awake: None,
        }
    }

    /// A packet passes at `now`, in either direction.
    pub fn packet(&mut self, now: Duration) {
        match &mut self.awake {
            Some((_, last)) if now <= *last + self.tail => *last = now.max(*last),
            awake => {
                if let Some((since, last)) = awake.take() {
                    self.on += last - since + self.tail;
                }
                self.on += self.promotion;
                self.wake_ups += 1;
                *awake = Some((now, now));
            }
        }
    }

    /// How long the radio was awake up to `now`.
    pub fn on_until(&self, now: Duration) -> Duration {
        match self.awake {
            Some((since, last)) => self.on + (last + self.tail).min(now.max(since)) - since,
            None => self.on,
        }
    }

    /// How often it woke.
    pub fn wake_ups(&self) -> u64 {
        self.wake_ups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn packets_in_the_tail_cost_little_and_lone_ones_a_tail_each() {
        let mut radio = Radio::lte();
        radio.packet(seconds(1.0));
        radio.packet(seconds(2.0));
        radio.packet(seconds(3.0));
        assert_eq!(radio.wake_ups(), 1);
        assert_eq!(radio.on_until(seconds(5.0)), seconds(0.26 + 4.0));
        assert_eq!(radio.on_until(seconds(60.0)), seconds(0.26 + 2.0 + 11.6));
        radio.packet(seconds(60.0));
        radio.packet(seconds(120.0));
        assert_eq!(radio.wake_ups(), 3);
        assert_eq!(radio.on_until(seconds(200.0)), seconds(3.0 * (0.26 + 11.6) + 2.0));
    }
}
