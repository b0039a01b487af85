//! The TLS sessions with which later connections send early data.
//!
//! Each is used once (RFC 8446, C.4: an observer could link connections that share one), so attempts that
//! go nowhere use them up. While the phone has no network the attempts of the reconnecting driver would
//! use up all of them, and the one that succeeds would take a round trip more. So the last one is
//! kept for an attempt that has reason to hope.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};

/// Sessions kept; a server gives two with each connection.
const SESSIONS: usize = 4;

/// Sessions, and whether the last one may be used.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<State>);

#[derive(Default)]
struct State {
    sessions: VecDeque<(ServerName<'static>, Tls13ClientSessionValue)>,
    /// The key exchange that the server liked last.
    group: Option<NamedGroup>,
    hopeful: bool,
}

impl Sessions {
    /// Says whether the next attempts have reason to hope, as after the system told of a network.
    pub(crate) fn hope(&self, hopeful: bool) {
        self.state().hopeful = hopeful;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here is left half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // They are secrets.
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.state().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.state().group
    }

    // QUIC has TLS 1.3 alone.
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'_>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, session: Tls13ClientSessionValue) {
        let mut state = self.state();
        if state.sessions.len() >= SESSIONS {
            state.sessions.pop_front();
        }
        state.sessions.push_back((name, session));
    }

    fn take_tls13_ticket(&self, name: &ServerName<'_>) -> Option<Tls13ClientSessionValue> {
        let mut state = self.state();
        if state.sessions.len() < 2 && !state.hopeful {
            return None;
        }
        let newest = state.sessions.iter().rposition(|(of, _)| of == name)?;
        state.sessions.remove(newest).map(|(_, session)| session)
    }
}
