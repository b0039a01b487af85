//! What applications are told of connections and presence, with the time.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tern_client::{AccountId, ConnectionState, PresenceState};

use crate::sim::Net;

/// News of all phones in one order; clones share them.
#[derive(Clone)]
pub(super) struct News {
    net: Net,
    all: Arc<Mutex<All>>,
}

/// The news so far.
#[derive(Default)]
pub(super) struct All {
    /// When, whose, what it is now.
    pub(super) connections: Vec<(Duration, usize, &'static str)>,
    /// When, who was told, of whom, what.
    pub(super) presence: Vec<(Duration, usize, AccountId, PresenceState)>,
}

impl News {
    pub(super) fn new(net: &Net) -> Self {
        Self { net: net.clone(), all: Arc::default() }
    }

    pub(super) fn all(&self) -> MutexGuard<'_, All> {
        // A push leaves nothing half done.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn connection(&self, phone: usize, state: &ConnectionState) {
        let state = match state {
            ConnectionState::Connecting => "connecting",
            ConnectionState::Connected => "connected",
            ConnectionState::Waiting { .. } => "waiting",
            ConnectionState::Stopped { .. } => "stopped",
            _ => "other",
        };
        tracing::debug!(at = ?self.net.now(), phone, state, "connection");
        let now = self.net.now();
        self.all().connections.push((now, phone, state));
    }

    pub(super) fn presence(&self, phone: usize, account: AccountId, state: PresenceState) {
        let now = self.net.now();
        tracing::debug!(at = ?now, phone, %account, ?state, "presence");
        self.all().presence.push((now, phone, account, state));
    }

    /// Whether a phone is connected, by what its application was told last.
    pub(super) fn is_connected(&self, phone: usize) -> bool {
        let all = self.all();
        let last = all.connections.iter().rfind(|(_, of, _)| *of == phone);
        last.is_some_and(|(.., state)| *state == "connected")
    }

    /// How many phones have been connected at some time.
    pub(super) fn ever_connected(&self) -> usize {
        let all = self.all();
        let mut phones: Vec<_> = all
            .connections
            .iter()
            .filter(|(.., s)| *s == "connected")
            .map(|(_, p, _)| *p)
            .collect();
        phones.sort_unstable();
        phones.dedup();
        phones.len()
    }
}
