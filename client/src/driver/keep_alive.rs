//! When a client that has nothing to say must say something, decided without I/O.
//!
//! Routers between a phone and its server forget who it is when it has sent nothing for a while: some after
//! 30 s, many after some minutes. Then what the server sends is lost until the phone speaks again, so it must
//! speak before that; and no more often than that, since each packet keeps its radio awake for some ten
//! seconds. Nobody says how long a router remembers, so it is found out: [`Learner`] tries ever longer
//! silences, and after each asks the server from which address it sees the client. If that is another
//! one than before, the router had forgotten. [`Line`] measures how long a connection has been silent.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::settings::KeepAlive;

/// However impatient a server is, no more packets than this: one that means it would be flooded by its
/// own clients.
const FLOOR: Duration = Duration::from_millis(100);
/// How long acknowledgements and repeats may follow what was sent or read last.
const SETTLE: Duration = Duration::from_secs(1);
/// How long after a router has forgotten a silence as long is tried again; twice as long each further time
/// that it proves too long, up to [`LAST_RETRY`]. Perhaps it was a restart of the router.
const FIRST_RETRY: Duration = Duration::from_secs(15 * 60);
/// At that pace, less than a hundredth of the time is spent where the server can't reach the client.
const LAST_RETRY: Duration = Duration::from_secs(4 * 3_600);

/// The moment in which something was last sent or came, noted by whoever reads or writes a stream.
#[derive(Debug)]
pub(crate) struct Signs {
    begun: Instant,
    last_ms: AtomicU64,
}

impl Signs {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    /// Something was sent, or came and so is acknowledged.
    pub(crate) fn note(&self) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

/// How much silence a server bears of a client as it is now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    /// Whether a user looks.
    pub(super) active: bool,
    /// The server's limit on silence.
    pub(super) idle_for: Duration,
}

/// What is known of the routers between the client and its server.
#[derive(Debug)]
pub(crate) struct Learner {
    settings: Option<KeepAlive>,
    /// The longest silence that did no harm.
    harmless: Option<Duration>,
    /// A silence after which a router had forgotten the client.
    forgot: Option<Forgot>,
    /// Where the server last saw the client, as far as it says so.
    address: Option<SocketAddr>,
    /// Whether to ask soon, so that there is something to compare with.
    asks_soon: bool,
    /// The silence before the question that isn't answered.
    asked_after: Option<Duration>,
    /// The network, by number: answers to what was asked in another say nothing.
    network: u64,
}

#[derive(Debug, Clone, Copy)]
struct Forgot {
    after: Duration,
    pause: Duration,
    retry_at: Instant,
}

/// What an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    network: u64,
}

impl Learner {
    pub(crate) fn new(settings: Option<KeepAlive>) -> Self {
        Self {
            settings,
            harmless: None,
            forgot: None,
            address: None,
            asks_soon: true,
            asked_after: None,
            network: 0,
        }
    }

    /// The network is another one, of which nothing is known.
    pub(crate) fn network_changed(&mut self) {
        let network = self.network + 1;
        *self = Self { network, ..Self::new(self.settings) };
    }

    /// There is a new connection. Perhaps because the routers had forgotten the old one: asked soon, what was
    /// asked there in vain is answered here.
    pub(super) fn connected(&mut self) {
        self.asks_soon = true;
    }

    /// After how long a silence the client must ask; `None`: never.
    pub(super) fn every(&self, now: Instant, mode: Mode) -> Option<Duration> {
        let settings = self.settings?;
        let most = if mode.active { settings.active_most } else { settings.inactive_most };
        let wanted = self.wanted(now, &settings).min(most).max(settings.least);
        // The server bears as much, [TERN-2.1-5] allows half of it, and timers and packets may be late.
        Some(wanted.min(mode.idle_for * 2 / 5).max(FLOOR))
    }

    fn wanted(&self, now: Instant, settings: &KeepAlive) -> Duration {
        if self.asks_soon {
            return settings.least;
        }
        let Some(harmless) = self.harmless else {
            return self.forgot.map_or(settings.inactive_first, |forgot| forgot.after * 2 / 3);
        };
        let longer = (harmless * 3 / 2).max(settings.inactive_first);
        match self.forgot {
            Some(forgot) if now >= forgot.retry_at => forgot.after + SETTLE,
            Some(forgot) if longer >= forgot.after => harmless,
            _ => longer,
        }
    }

    /// The client asks, after having sent nothing for so long.
    pub(super) fn asks(&mut self, silence: Duration) -> Question {
        self.asked_after = self.asked_after.max(Some(silence));
        Question { network: self.network }
    }

    /// The server has answered; with an address, if it knows the question.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        question: Question,
        address: Option<SocketAddr>,
    ) {
        if question.network != self.network {
            return;
        }
        self.asks_soon = false;
        let silence = self.asked_after.take();
        let before = std::mem::replace(&mut self.address, address);
        let (Some(silence), Some(before), Some(address)) = (silence, before, address) else {
            return;
        };
        if before == address {
            self.did_no_harm(silence);
        } else if self.settings.is_some_and(|settings| silence + SETTLE >= settings.least) {
            // A new address after a shorter silence has another reason than the silence.
            self.forgot(now, silence);
        }
    }

    fn did_no_harm(&mut self, silence: Duration) {
        self.harmless = self.harmless.max(Some(silence));
        self.forgot = self.forgot.filter(|forgot| forgot.after > silence);
    }

    fn forgot(&mut self, now: Instant, silence: Duration) {
        // What seemed to be harmless isn't any more.
        self.harmless = self.harmless.filter(|harmless| *harmless < silence);
        let pause = match self.forgot {
            Some(forgot) if now >= forgot.retry_at => (forgot.pause * 2).min(LAST_RETRY),
            Some(forgot) => forgot.pause,
            None => FIRST_RETRY,
        };
        let after = self.forgot.map_or(silence, |forgot| forgot.after.min(silence));
        self.forgot = Some(Forgot { after, pause, retry_at: now + pause });
        tracing::debug!(?silence, "a router had forgotten this client");
    }
}

/// The silence of one connection.
#[derive(Debug)]
pub(super) struct Line {
    /// Packets sent, and when it was first seen that they are so many.
    sent: u64,
    since: Instant,
    looked: Instant,
}

impl Line {
    pub(super) fn new(now: Instant, sent: u64) -> Self {
        Self { sent, since: now, looked: now }
    }

    /// When to look again, if the last sign was at `last` and a packet is due after `every`.
    pub(super) fn next_look(&self, last: Instant, every: Duration) -> Instant {
        let settled = last + SETTLE.min(every);
        if self.looked < settled { settled } else { last + every }
    }

    /// Looks: if a packet is due, after how long a silence. The connection has sent so many packets; a
    /// silence counts from when they were as many, so it may have been longer, and never shorter.
    pub(super) fn look(
        &mut self,
        now: Instant,
        last: Instant,
        every: Duration,
        sent: u64,
    ) -> Option<Duration> {
        self.looked = now;
        if std::mem::replace(&mut self.sent, sent) != sent {
            self.since = now;
        }
        (now >= last + every).then(|| now.saturating_duration_since(self.since))
    }
}

#[cfg(test)]
mod tests;
