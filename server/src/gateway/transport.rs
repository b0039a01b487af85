//! QUIC settings of the server, and the reasons for them.

use std::{fmt, sync::Arc, time::Duration};

use quinn::{
    IdleTimeout, ServerConfig, TransportConfig, VarInt, congestion::CubicConfig,
    crypto::rustls::QuicServerConfig,
};

use crate::{
    config::Config,
    tls::{Certificates, TlsError},
};

/// The transport can't be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransportError {
    /// TLS can't.
    Tls(TlsError),
    /// The cipher suites have none for QUIC's initial packets.
    NoInitialCipherSuite,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => error.fmt(f),
            Self::NoInitialCipherSuite => f.write_str("TLS has no cipher suite for QUIC"),
        }
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tls(error) => Some(error),
            Self::NoInitialCipherSuite => None,
        }
    }
}

/// The configuration of the QUIC end point.
pub fn server_config(
    config: &Config,
    certificates: &Arc<Certificates>,
) -> Result<ServerConfig, TransportError> {
    let sessions = config.tls.resumption_sessions as usize;
    let tls = certificates.rustls_server_config(sessions).map_err(TransportError::Tls)?;
    let tls = QuicServerConfig::try_from(tls).map_err(|_| TransportError::NoInitialCipherSuite)?;
    let listen = &config.listen;
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(listen.idle_for_ms))))
        .keep_alive_interval(
            (listen.keep_alive_ms > 0)
                .then(|| Duration::from_millis(u64::from(listen.keep_alive_ms))),
        )
        // Limits on streams cost memory on every connection, used or not.
        .max_concurrent_bidi_streams(VarInt::from_u32(listen.bidi_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        // After an outage, the probe that finds the new path is held up by congestion control while
        // more is in flight than the initial window; a smaller send window keeps its way free.
        .send_window(listen.send_window_bytes)
        .congestion_controller_factory(Arc::new({
            let mut cubic = CubicConfig::default();
            cubic.initial_window(listen.initial_window_bytes);
            cubic
        }))
        .receive_window(VarInt::from_u32(listen.receive_window_bytes))
        .stream_receive_window(VarInt::from_u32(listen.stream_receive_window_bytes))
        .datagram_receive_buffer_size(None);
    if !listen.mtu_discovery {
        transport.mtu_discovery_config(None);
    }
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::new(transport));
    server
        .max_incoming(listen.handshakes as usize)
        // What arrives before a handshake is accepted is held at most so long as one hello.
        .incoming_buffer_size(64 * 1024)
        .incoming_buffer_size_total(16 * 1024 * 1024);
    Ok(server)
}
