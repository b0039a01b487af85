//! Congestion control for chats: CUBIC that keeps room for the next message.
//!
//! CUBIC (RFC 9438) fits transfers that always have more to send. A chat sends a little now and then,
//! and suffers from two of its rules:
//!
//! - The window shrinks with each loss, but grows only while it is used (RFC 9002, 7.8), so after some random
//!   losses it is down at two packets for good, and messages queue behind acknowledgements. Here it isn't
//!   smaller than the [`FLOOR_BYTES`] with which a new connection may begin.
//! - In an outage what is under way fills the window, and until QUIC's probe time-out, which doubles each
//!   time, nothing more is sent: after an outage of 10 s the first message may wait for another 10 s. Here
//!   what has been under way without a sign of life for [`OUTAGE`] doesn't count, so there is always room
//!   for the messages that find out whether the network is back. That is at most [`FLOOR_BYTES`] for each
//!   second.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig},
};

/// The smallest window, in bytes: what RFC 6928 lets a new connection begin with, so that one that goes on
/// is no worse off than one that is closed and opened again.
pub const FLOOR_BYTES: u64 = 14_600;
/// What is under way for so long without anything being acknowledged is taken for lost.
pub const OUTAGE: Duration = Duration::from_secs(1);

/// Makes a controller for each path of a connection.
#[derive(Debug, Clone)]
pub struct Chat {
    cubic: Arc<CubicConfig>,
}

impl Chat {
    /// Controllers that begin with a window of so many bytes, at least [`FLOOR_BYTES`].
    pub fn new(initial_window_bytes: u64) -> Self {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(initial_window_bytes.max(FLOOR_BYTES));
        Self { cubic: Arc::new(cubic) }
    }
}

impl ControllerFactory for Chat {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = self.cubic.clone().build(now, current_mtu);
        Box::new(ChatController { cubic, room: Room::new(now) })
    }
}

struct ChatController {
    cubic: Box<dyn Controller>,
    room: Room,
}

/// How much of what is under way doesn't count.
#[derive(Debug, Clone)]
struct Room {
    in_flight_bytes: u64,
    heard: Instant,
    /// What was under way without a sign of life, and when that was looked at.
    stale_bytes: u64,
    looked: Instant,
}

impl Room {
    fn new(now: Instant) -> Self {
        Self { in_flight_bytes: 0, heard: now, stale_bytes: 0, looked: now }
    }

    fn sent(&mut self, now: Instant, bytes: u64) {
        if self.in_flight_bytes == 0 {
            // The silence before was of this end's making.
            self.heard = now;
        }
        let is_due = |since: Instant| now.saturating_duration_since(since) >= OUTAGE;
        if is_due(self.heard) && is_due(self.looked) {
            self.stale_bytes = self.in_flight_bytes;
            self.looked = now;
        }
        self.in_flight_bytes += bytes;
    }

    fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.looked = now;
        self.stale_bytes = 0;
    }
}

impl Controller for ChatController {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.room.sent(now, bytes);
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.room.heard(now);
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        // The exact number: packets without anything to acknowledge were counted as well.
        self.room.in_flight_bytes = in_flight;
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.room.in_flight_bytes = self.room.in_flight_bytes.saturating_sub(lost_bytes);
        self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().max(FLOOR_BYTES).saturating_add(self.room.stale_bytes)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), room: self.room.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller(initial_window_bytes: u64) -> (Box<dyn Controller>, Instant) {
        let now = Instant::now();
        (Arc::new(Chat::new(initial_window_bytes)).build(now, 1_200), now)
    }

    #[test]
    fn losses_leave_the_window_of_a_new_connection() {
        let (mut controller, now) = controller(60_000);
        assert_eq!(controller.window(), 60_000);
        for number in 1..20 {
            let now = now + number * Duration::from_secs(1);
            controller.on_sent(now, 1_200, u64::from(number));
            controller.on_congestion_event(now, now, number % 2 == 0, 1_200);
        }
        assert_eq!(controller.window(), FLOOR_BYTES);
    }

    #[test]
    fn in_an_outage_there_is_always_room_but_not_without_end() {
        let (mut controller, start) = controller(20_000);
        let (mut now, mut sent) = (start, 0_u64);
        // A chat that goes on writing, and a probe now and then.
        for _ in 0..60 {
            now += Duration::from_millis(500);
            let room = controller.window().saturating_sub(sent);
            let bytes = room.min(3_000);
            controller.on_sent(now, bytes, 1);
            sent += bytes;
        }
        controller.on_sent(now + OUTAGE, 100, 2);
        sent += 100;
        assert!(controller.window() >= sent - 100 + FLOOR_BYTES, "{}", controller.window());
        assert!(sent <= 20_000 + 30 * FLOOR_BYTES, "{sent}");
    }

    #[test]
    fn a_pause_of_ones_own_is_no_outage() {
        let (mut controller, now) = controller(20_000);
        controller.on_sent(now, 5_000, 1);
        controller.on_end_acks(now, 0, true, Some(1));
        let later = now + Duration::from_secs(60);
        controller.on_sent(later, 5_000, 2);
        controller.on_sent(later, 5_000, 3);
        assert_eq!(controller.window(), 20_000);
    }
}
