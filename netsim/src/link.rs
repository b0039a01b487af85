//! One direction of a network path, without I/O.
//!
//! A [`Link`] is told when a packet enters and how large it is, and answers with what becomes of it: when it
//! comes out, once or twice, with a bit flipped, or that it never does. The caller keeps the packet until
//! then. So the same link serves virtual time (the simulator) and real time (the proxy, the emulator).
//!
//! A packet meets, in this order: the MTU; the queue, which sends at the link's rate or at a trace's
//! opportunities; loss, on the far side of the queue, so that a lost packet has cost its time; the delay with
//! its jitter; reordering; duplication; corruption.
//!
//! # The same seed gives the same fates
//!
//! Times are whole nanoseconds, chances are whole numbers of 2⁻⁵³, and the random values come from ChaCha8 with
//! the seed as its key, which is specified to the bit. Nothing depends on the machine, nor on the version of
//! a library. Each packet draws the same number of values whatever the settings, so that changing one
//! setting leaves alone what the others do.

mod chance;
mod counts;
mod loss;
mod queue;
mod settings;
#[cfg(test)]
mod tests;
mod trace;

use std::{sync::Arc, time::Duration};

use self::{
    chance::{Dice, Draws},
    loss::Losses,
    queue::Queue,
    settings::Plan,
};
pub use self::{
    counts::{Counts, Tally},
    loss::Loss,
    settings::{
        DEFAULT_QUEUE_PACKETS, LinkError, LinkSettings, MAX_DELAY_MS, MAX_QUEUE_PACKETS,
        MAX_RATE_KBIT_S, MIN_RATE_KBIT_S,
    },
    trace::{
        MAX_TRACE_BYTES, MAX_TRACE_MS, MAX_TRACE_OPPORTUNITIES, OPPORTUNITY_BYTES, Trace,
        TraceError, TraceFile,
    },
};

/// What becomes of a packet that entered a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It never comes out.
    Dropped(Drop),
    /// It comes out once.
    Passes(Passage),
    /// It comes out twice; the second isn't before the first unless reordering makes it so.
    Twice(Passage, Passage),
}

/// One coming out of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// When, since the run's start. Never before the packet entered.
    pub at: Duration,
    /// The bit to flip in it, below 8 × its bytes (those given to [`Link::send`]); bit 0 is the lowest of the
    /// first byte.
    pub flip_bit: Option<usize>,
}

impl Passage {
    /// Flips the bit that is to be flipped, if any.
    pub fn corrupt(&self, packet: &mut [u8]) {
        if let Some(bit) = self.flip_bit
            && let Some(byte) = packet.get_mut(bit / 8)
        {
            *byte ^= 1 << (bit % 8);
        }
    }
}

/// Why a packet never comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// Chance took it.
    Lost,
    /// It met a full queue.
    QueueFull,
    /// It is larger than the MTU.
    TooBig,
}

/// One direction of a path. See the [module](self).
///
/// Memory: at most 8 bytes for each packet that its queue may hold.
#[derive(Debug)]
pub struct Link {
    plan: Plan,
    dice: Dice,
    losses: Losses,
    queue: Queue,
    counts: Counts,
    header_bytes: usize,
    now_ns: u64,
    last_arrival_ns: u64,
}

impl Link {
    /// A link as `settings` say, whose chances come from `seed` alone. The two directions of a path want
    /// different seeds.
    ///
    /// # Errors
    ///
    /// [`LinkError`] names the field that is out of bounds, the two that exclude each other, or the trace that
    /// wasn't loaded ([`LinkSettings::load_trace`]).
    pub fn new(settings: LinkSettings, seed: u64) -> Result<Self, LinkError> {
        let plan = settings.plan()?;
        Ok(Self {
            dice: Dice::new(seed),
            losses: Losses::default(),
            queue: Queue::new(plan.pace.clone(), plan.queue_packets),
            counts: Counts::default(),
            header_bytes: 0,
            now_ns: 0,
            last_arrival_ns: 0,
            plan,
        })
    }

    /// The same link for a caller that holds packets without their headers: each counts `bytes` more for the
    /// rate and the MTU. 28 for UDP payloads over IPv4, 48 over IPv6; bits are flipped in the payload only.
    #[must_use]
    pub fn with_header_bytes(mut self, bytes: usize) -> Self {
        self.header_bytes = bytes;
        self
    }

    /// A packet of `bytes` enters at `now`, the time since the run's start; what becomes of it. A `now` before
    /// the last one counts as the last one.
    pub fn send(&mut self, now: Duration, bytes: usize) -> Fate {
        self.now_ns = self.now_ns.max(nanoseconds(now));
        let draws = self.dice.roll();
        self.counts.entered.add(bytes);
        let size_bytes = bytes.saturating_add(self.header_bytes);
        if self.plan.mtu_bytes.is_some_and(|mtu_bytes| size_bytes > mtu_bytes) {
            self.counts.too_big.add(bytes);
            return Fate::Dropped(Drop::TooBig);
        }
        let Some(departure_ns) = self.queue.pass(self.now_ns, size_bytes) else {
            self.counts.queue_full.add(bytes);
            return Fate::Dropped(Drop::QueueFull);
        };
        if self.losses.takes(&self.plan.loss, draws.turn, draws.loss) {
            self.counts.lost.add(bytes);
            return Fate::Dropped(Drop::Lost);
        }
        self.deliver(departure_ns, bytes, &draws)
    }

    fn deliver(&mut self, departure_ns: u64, bytes: usize, draws: &Draws) -> Fate {
        let delay_ns =
            self.plan.delay_ns + draws.jitter.below(self.plan.jitter_ns.saturating_add(1));
        // Jitter alone holds up what comes behind instead of being overtaken, as a radio link does that
        // delivers in order.
        let at_ns = departure_ns.saturating_add(delay_ns).max(self.last_arrival_ns);
        self.last_arrival_ns = at_ns;
        let mut passage = |reorder: chance::Draw, corrupt: chance::Draw, bit: chance::Draw| {
            self.counts.delivered.add(bytes);
            let late = self.plan.reorder.hit(reorder);
            self.counts.reordered += u64::from(late);
            let flip_bit = (bytes > 0 && self.plan.corrupt.hit(corrupt))
                .then(|| bit.index(bytes.saturating_mul(8)));
            self.counts.corrupted += u64::from(flip_bit.is_some());
            let extra_ns = if late { self.plan.reorder_by_ns } else { 0 };
            Passage { at: Duration::from_nanos(at_ns.saturating_add(extra_ns)), flip_bit }
        };
        let first = passage(draws.reorder, draws.corrupt, draws.bit);
        if self.plan.duplicate.hit(draws.duplicate) {
            let second = passage(draws.copy_reorder, draws.copy_corrupt, draws.copy_bit);
            self.counts.duplicated += 1;
            return Fate::Twice(first, second);
        }
        Fate::Passes(first)
    }

    /// Changes the settings in mid-run. What is queued keeps its departure, and what comes after stays behind
    /// it; counts go on. A smaller queue drops nothing that it already holds.
    ///
    /// # Errors
    ///
    /// As [`Link::new`]; the link then stays as it was.
    pub fn change(&mut self, settings: LinkSettings) -> Result<(), LinkError> {
        let plan = settings.plan()?;
        self.queue.change(plan.pace.clone(), plan.queue_packets);
        self.plan = plan;
        Ok(())
    }

    /// What has become of the packets so far. A packet counts as delivered when its fate is told, which is
    /// before it comes out.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// Saturates after 584 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How the queue is served.
#[derive(Debug, Clone, PartialEq)]
enum Pace {
    /// At once.
    Unlimited,
    /// So many bits a second, at least 1.
    BitsPerSecond(u64),
    /// At the opportunities of a trace.
    Trace(Arc<Trace>),
}
