//! What is on its way between the devices, and the threads that carry it.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{MAX_IN_FLIGHT_BYTES, Report, Side, device::Device};
use crate::{
    lateness::{Lateness, wake_precisely},
    link::{Fate, Link, Passage},
    path::BlackHole,
    schedule::Schedule,
};

/// How often a receiving thread looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a TUN device may hand over at once, in bytes.
const MAX_PACKET_BYTES: usize = 65_535;

/// What the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    core: Mutex<Core>,
    /// Tells the sender that something comes sooner than it thinks, or that it is over.
    sooner: Condvar,
    client: Arc<Device>,
    server: Arc<Device>,
    start: Instant,
}

/// All that changes.
#[derive(Debug)]
pub(super) struct Core {
    stopped: bool,
    down: Link,
    up: Link,
    black_hole: Option<BlackHole>,
    /// Packets, and the side at which they arrive.
    schedule: Schedule<(Side, Vec<u8>)>,
    lateness: Lateness,
    /// Without the links' counts.
    report: Report,
}

impl Shared {
    pub(super) fn new(core: Core, client: Arc<Device>, server: Arc<Device>) -> Self {
        let start = Instant::now();
        Self { core: Mutex::new(core), sooner: Condvar::new(), client, server, start }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        // After a panic elsewhere the counts are still worth reading.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.sooner.notify_all();
    }

    fn device(&self, side: Side) -> &Device {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }
}

/// Takes what one side sends, until it is over.
pub(super) fn receive(shared: &Shared, side: Side) {
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    while !shared.lock().stopped {
        match shared.device(side).receive(&mut buffer, LOOK_EVERY) {
            Ok(None) => {}
            Ok(Some(len)) => {
                let sooner = shared.lock().enter(shared.start.elapsed(), side, &buffer[..len]);
                if sooner {
                    shared.sooner.notify_one();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "nothing more comes from a TUN device");
                return;
            }
        }
    }
}

/// Hands packets on when their time has come, until it is over.
pub(super) fn send(shared: &Shared) {
    wake_precisely();
    let mut core = shared.lock();
    while !core.stopped {
        let now = shared.start.elapsed();
        if let Some((at, (side, packet))) = core.schedule.pop(now) {
            core.lateness.record(now.saturating_sub(at));
            // Without the lock, so that receiving goes on.
            drop(core);
            let sent = shared.device(side).send(&packet);
            core = shared.lock();
            if sent.is_err() {
                core.report.unsent.add(packet.len());
            }
        } else if let Some(at) = core.schedule.next_at() {
            let waited = shared.sooner.wait_timeout(core, at.saturating_sub(now));
            core = waited.unwrap_or_else(PoisonError::into_inner).0;
        } else {
            core = shared.sooner.wait(core).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Core {
    pub(super) fn new(down: Link, up: Link, black_hole: Option<BlackHole>) -> Self {
        Self {
            stopped: false,
            down,
            up,
            black_hole,
            schedule: Schedule::new(MAX_IN_FLIGHT_BYTES),
            lateness: Lateness::default(),
            report: Report::default(),
        }
    }

    /// A packet enters from one side; whether there is now something sooner to wait for.
    fn enter(&mut self, now: Duration, from: Side, packet: &[u8]) -> bool {
        if self.black_hole.is_some_and(|hole| hole.swallows(now.as_secs_f64() * 1e3)) {
            self.report.black_hole.add(packet.len());
            return false;
        }
        let before = self.schedule.next_at();
        let (link, to) = match from {
            Side::Client => (&mut self.up, Side::Server),
            Side::Server => (&mut self.down, Side::Client),
        };
        let mut deliver = |passage: Passage| {
            let mut packet = packet.to_vec();
            passage.corrupt(&mut packet);
            let len = packet.len();
            if self.schedule.push(passage.at, len, (to, packet)).is_err() {
                self.report.overload.add(len);
            }
        };
        match link.send(now, packet.len()) {
            Fate::Dropped(_) => {}
            Fate::Passes(passage) => deliver(passage),
            Fate::Twice(first, second) => {
                deliver(first);
                deliver(second);
            }
        }
        match (before, self.schedule.next_at()) {
            (Some(before), Some(after)) => after < before,
            (before, after) => before.is_none() && after.is_some(),
        }
    }

    pub(super) fn report(&self) -> Report {
        let (down, up) = (self.down.counts(), self.up.counts());
        Report { down, up, lateness: self.lateness.summary(), ..self.report }
    }
}
