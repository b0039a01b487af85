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

    /// Forgets all, as those of another configuration of TLS, which can't use them.
    pub(crate) fn clear(&self) {
        self.state().sessions.clear();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
        client::Resumption, pki_types::PrivateKeyDer,
    };

    use super::*;

    /// Sessions after one handshake with a server that gives two: rustls lets nobody else make any.
    fn two_sessions() -> Arc<Sessions> {
        let key = rcgen::generate_simple_self_signed(vec!["tern".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let private = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(key.cert.der().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let sessions = Arc::new(Sessions::default());
        client.resumption = Resumption::store(sessions.clone());
        let mut client = ClientConnection::new(Arc::new(client), name()).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
        sessions
    }

    fn name() -> ServerName<'static> {
        ServerName::try_from("tern").unwrap()
    }

    #[test]
    fn the_last_one_is_kept_for_an_attempt_that_has_reason_to_hope() {
        let sessions = two_sessions();
        assert_eq!(sessions.state().sessions.len(), 2);
        let other = ServerName::try_from("other").unwrap();
        assert!(sessions.take_tls13_ticket(&other).is_none());
        assert!(sessions.take_tls13_ticket(&name()).is_some());
        assert!(sessions.take_tls13_ticket(&name()).is_none());
        sessions.hope(true);
        assert!(sessions.take_tls13_ticket(&name()).is_some());
        assert!(sessions.take_tls13_ticket(&name()).is_none(), "each is used once");
    }

    #[test]
    fn the_newest_few_are_kept() {
        let sessions = two_sessions();
        let session = |sessions: &Sessions| sessions.take_tls13_ticket(&name()).unwrap();
        sessions.hope(true);
        for _ in 0..2 * SESSIONS {
            let session = session(&two_sessions());
            sessions.insert_tls13_ticket(name(), session);
        }
        assert_eq!(sessions.state().sessions.len(), SESSIONS);
    }
}
