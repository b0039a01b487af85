//! The queue in front of a link, and when it lets packets go.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Pace,
    trace::{Cursor, OPPORTUNITY_BYTES, PACKET_OVERHEAD_BYTES, Trace},
};

const NS_PER_S: u128 = 1_000_000_000;

/// First in, first out; what finds it full is dropped.
///
/// When a packet leaves is known as it enters, so the queue holds departures instead of packets.
#[derive(Debug)]
pub(super) struct Queue {
    server: Server,
    queue_packets: usize,
    /// When each packet leaves that hasn't yet, the one that is being sent first.
    departures_ns: VecDeque<u64>,
    last_departure_ns: u64,
}

impl Queue {
    pub(super) fn new(pace: Pace, queue_packets: usize) -> Self {
        Self {
            server: Server::new(pace),
            queue_packets,
            departures_ns: VecDeque::new(),
            last_departure_ns: 0,
        }
    }

    pub(super) fn change(&mut self, pace: Pace, queue_packets: usize) {
        self.queue_packets = queue_packets;
        if !self.server.keeps(&pace) {
            self.server = Server::new(pace);
        }
    }

    /// When a packet that comes now leaves, or `None` when there is no room for it.
    pub(super) fn pass(&mut self, now_ns: u64, size_bytes: usize) -> Option<u64> {
        while self.departures_ns.front().is_some_and(|departure_ns| *departure_ns <= now_ns) {
            self.departures_ns.pop_front();
        }
        // One more than may wait: the one that is being sent.
        if self.departures_ns.len() > self.queue_packets {
            return None;
        }
        let size_bytes = u64::try_from(size_bytes).unwrap_or(u64::MAX);
        let departure_ns = self.server.serve(now_ns, self.last_departure_ns, size_bytes);
        self.last_departure_ns = departure_ns;
        if departure_ns > now_ns {
            self.departures_ns.push_back(departure_ns);
        }
        Some(departure_ns)
    }
}

/// What takes packets from the queue, one after the other.
#[derive(Debug)]
enum Server {
    AtOnce,
    Rate {
        bits_per_s: u64,
        /// What of a nanosecond the last packet needed beyond its departure, in 1 / `bits_per_s` of one, so
        /// that rounding doesn't add up.
        carry: u128,
    },
    Trace {
        trace: Arc<Trace>,
        /// The opportunity that was used last, and what is left of it.
        used: Option<(Cursor, u64)>,
    },
}

impl Server {
    fn new(pace: Pace) -> Self {
        match pace {
            Pace::Unlimited => Self::AtOnce,
            Pace::BitsPerSecond(bits_per_s) => Self::Rate { bits_per_s, carry: 0 },
            Pace::Trace(trace) => Self::Trace { trace, used: None },
        }
    }

    fn keeps(&self, pace: &Pace) -> bool {
        match (self, pace) {
            (Self::AtOnce, Pace::Unlimited) => true,
            (Self::Rate { bits_per_s, .. }, Pace::BitsPerSecond(other)) => bits_per_s == other,
            (Self::Trace { trace, .. }, Pace::Trace(other)) => trace == other,
            _ => false,
        }
    }

    /// When a packet leaves that comes now, behind one that leaves at `last_ns`.
    fn serve(&mut self, now_ns: u64, last_ns: u64, size_bytes: u64) -> u64 {
        let start_ns = now_ns.max(last_ns);
        match self {
            Self::AtOnce => start_ns,
            Self::Rate { bits_per_s, carry } => {
                if now_ns > last_ns {
                    *carry = 0;
                }
                let rate = u128::from(*bits_per_s);
                let work = u128::from(size_bytes) * 8 * NS_PER_S + *carry;
                *carry = work % rate;
                start_ns.saturating_add(u64::try_from(work / rate).unwrap_or(u64::MAX))
            }
            Self::Trace { trace, used } => {
                // An opportunity is shared by what was waiting for it; it is lost to what comes later.
                let waiting = used.filter(|(cursor, _)| trace.time_ns(*cursor) > now_ns);
                let (cursor, left_bytes) =
                    waiting.unwrap_or_else(|| (trace.after(start_ns), OPPORTUNITY_BYTES));
                let size_bytes = size_bytes.saturating_add(PACKET_OVERHEAD_BYTES);
                let lacking_bytes = size_bytes.saturating_sub(left_bytes);
                let more = lacking_bytes.div_ceil(OPPORTUNITY_BYTES);
                let left_bytes =
                    left_bytes.saturating_add(more.saturating_mul(OPPORTUNITY_BYTES)) - size_bytes;
                let cursor = trace.skip(cursor, more);
                *used = Some((cursor, left_bytes));
                trace.time_ns(cursor)
            }
        }
    }
}
