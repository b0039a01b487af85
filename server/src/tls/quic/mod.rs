//! TLS for QUIC connections that are silent for most of their lives.
//!
//! What quinn brings along keeps rustls' connection for as long as its own, and makes the packet keys
//! of the next key phase ahead. A phone in a pocket needs neither, and the server holds thousands of
//! those. So here rustls' connection goes when the handshake is over ([`session`]), and keys of a later phase
//! are made when a packet needs them ([`updates`]). All else is as in quinn, over rustls' public
//! interface for QUIC.

mod session;
#[cfg(test)]
mod tests;
mod updates;

use std::sync::Arc;

use quinn_proto::{
    ConnectionId, Side,
    crypto::{self, KeyPair, UnsupportedVersion, rustls::QuicServerConfig},
    transport_parameters::TransportParameters,
};
use rustls::{
    CipherSuite, ServerConfig,
    quic::{self, ServerConnection, Suite, Version},
};

use self::session::Session;
use super::TlsError;

/// TLS as a server's QUIC end point needs it.
pub(crate) struct QuicTls {
    rustls: Arc<ServerConfig>,
    /// Protects the packets that come before any key is agreed on.
    initial: Suite,
    /// For what has nothing to do with a connection's memory.
    quinn: QuicServerConfig,
}

impl QuicTls {
    /// TLS with this configuration, which must have TLS 1.3. Clients have no certificates.
    pub(crate) fn new(rustls: ServerConfig) -> Result<Self, TlsError> {
        let rustls = Arc::new(rustls);
        let initial = rustls
            .crypto_provider()
            .cipher_suites
            .iter()
            .filter(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256)
            .find_map(|suite| suite.tls13()?.quic_suite())
            .ok_or(TlsError::NoInitialCipherSuite)?;
        let quinn = QuicServerConfig::try_from(rustls.clone())
            .map_err(|_| TlsError::NoInitialCipherSuite)?;
        // What rustls wouldn't take, it refuses here and not when a client comes.
        ServerConnection::new(rustls.clone(), Version::V1, Vec::new()).map_err(TlsError::Rustls)?;
        Ok(Self { rustls, initial, quinn })
    }

    fn session(self: Arc<Self>, version: u32, parameters: &TransportParameters) -> Session {
        // A version that isn't known was refused by `initial_keys`.
        let version = self::version(version).unwrap_or_default();
        let mut encoded = Vec::new();
        parameters.write(&mut encoded);
        let connection = ServerConnection::new(self.rustls.clone(), version, encoded);
        Session::new(self, version, connection)
    }

    fn initial_keys(&self, version: Version, id: &ConnectionId, side: Side) -> crypto::Keys {
        let side = match side {
            Side::Client => rustls::Side::Client,
            Side::Server => rustls::Side::Server,
        };
        both(self.initial.keys(id, side, version))
    }
}

impl crypto::ServerConfig for QuicTls {
    fn initial_keys(
        &self,
        version: u32,
        id: &ConnectionId,
    ) -> Result<crypto::Keys, UnsupportedVersion> {
        let version = self::version(version).ok_or(UnsupportedVersion)?;
        Ok(self.initial_keys(version, id, Side::Server))
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.quinn.retry_tag(version, id, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        parameters: &TransportParameters,
    ) -> Box<dyn crypto::Session> {
        Box::new(self.session(version, parameters))
    }
}

/// The versions of QUIC whose keys rustls can derive and quinn speaks: 1, and the drafts from 29 on,
/// of which the last two have the keys of version 1.
fn version(number: u32) -> Option<Version> {
    match number {
        0xff00_001d..=0xff00_0020 => Some(Version::V1Draft),
        1 | 0xff00_0021 | 0xff00_0022 => Some(Version::V1),
        _ => None,
    }
}

/// The same keys as quinn wants them.
fn both(keys: quic::Keys) -> crypto::Keys {
    crypto::Keys {
        header: KeyPair {
            local: Box::new(keys.local.header),
            remote: Box::new(keys.remote.header),
        },
        packet: KeyPair {
            local: Box::new(keys.local.packet),
            remote: Box::new(keys.remote.packet),
        },
    }
}
