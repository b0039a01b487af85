//! Whether a connection still lives while answers are due.
//!
//! QUIC itself takes long to give a silent connection up, and repeats packets ever more rarely
//! meanwhile. A chat can't wait for that, so when something is due and no packet comes for
//! [`SILENCE`], the driver tries another connection beside this one. When none comes for
//! [`Settings::idle_timeout`](crate::Settings::idle_timeout), this one is given up.

use std::time::Duration;

use quinn::Connection;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

/// A connection is silent when nothing has come for so long though something is due. A few round trips
/// on the worst networks that people still use.
const SILENCE: Duration = Duration::from_secs(3);
/// How often a silent connection is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Counts what is due; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Unanswered(watch::Sender<usize>);

impl Unanswered {
    pub(super) fn inc(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    pub(super) fn dec(&self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// One thing that may be due; not any more when it is dropped.
#[derive(Debug)]
pub(super) struct Due {
    unanswered: Unanswered,
    is_due: bool,
}

impl Due {
    pub(super) fn new(unanswered: Unanswered) -> Self {
        Self { unanswered, is_due: false }
    }

    pub(super) fn set(&mut self, due: bool) {
        match (self.is_due, due) {
            (false, true) => self.unanswered.inc(),
            (true, false) => self.unanswered.dec(),
            _ => {}
        }
        self.is_due = due;
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Watches a connection.
#[derive(Debug)]
pub(super) struct Pulse {
    pub(super) unanswered: Unanswered,
    /// Packets that had come when it was looked at last, and since when it is so.
    seen: Option<(u64, Instant)>,
    /// Since when it is silent, once it has been so for long enough.
    silent_since: Option<Instant>,
    dead_after: Duration,
}

/// What was noticed of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// It has fallen silent.
    Silent,
    /// After that: it isn't any more.
    Alive,
    /// It has been silent for too long.
    Dead,
}

impl Pulse {
    /// For a connection that is dead after so much silence.
    pub(super) fn new(dead_after: Duration) -> Self {
        let unanswered = Unanswered(watch::channel(0).0);
        Self { unanswered, seen: None, silent_since: None, dead_after }
    }

    /// Returns when the connection falls silent, when it isn't any more after that, and when it is dead.
    pub(super) async fn beat(&mut self, connection: &Connection) -> Beat {
        let mut unanswered = self.unanswered.0.subscribe();
        loop {
            if let Some(since) = self.silent_since {
                sleep(LOOK_EVERY).await;
                if self.has_news(connection) {
                    self.silent_since = None;
                    return Beat::Alive;
                }
                if since.elapsed() >= self.dead_after {
                    return Beat::Dead;
                }
                continue;
            }
            if *unanswered.borrow_and_update() == 0 {
                self.seen = None;
                if unanswered.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
            let (_, since) = *self.seen.get_or_insert((packets(connection), Instant::now()));
            tokio::select! {
                biased;
                changed = unanswered.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = sleep_until(since + SILENCE) => {
                    if !self.has_news(connection) {
                        self.silent_since = Some(since);
                        return Beat::Silent;
                    }
                }
            }
        }
    }

    fn has_news(&mut self, connection: &Connection) -> bool {
        let now = packets(connection);
        let before = self.seen.replace((now, Instant::now())).map(|(packets, _)| packets);
        before.is_some_and(|before| before != now)
    }
}

fn packets(connection: &Connection) -> u64 {
    connection.stats().udp_rx.datagrams
}
