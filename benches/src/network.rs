//! The client's side of QUIC: sockets and settings, as a phone would have them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt,
    congestion::CubicConfig, crypto::rustls::QuicClientConfig,
};
use rustls::{
    RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, pem::PemObject},
};
use socket2::SockRef;

use crate::error::{Context, Result};

/// How often a silent connection says that it is alive. The server takes it for dead after three
/// times as long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Silence after which a device gives its connection up: longer than any stall that a busy machine
/// makes, since a device that gives up makes the run fail.
const IDLE_MS: u32 = 120_000;
/// Downlinks that the server may open to one device.
const DOWNLINKS: u32 = 32;
/// TLS sessions that a device keeps.
const SESSIONS: usize = 8;

/// Bytes that wait in the kernel for each socket.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Whether connections resume TLS sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Each handshake is a full one.
    Never,
    /// A session of an earlier connection makes the handshake shorter; one round trip.
    Session,
    /// The hello travels with the first packet.
    EarlyData,
}

/// Sockets of the load generator. Connections share them: QUIC needs no socket for each.
pub struct Network {
    endpoints: Vec<Endpoint>,
    server: SocketAddr,
    server_name: String,
    roots: Arc<RootCertStore>,
    transport: Arc<TransportConfig>,
    full: ClientConfig,
}

impl Network {
    /// Opens `sockets` sockets from which to reach the server.
    pub fn new(server: SocketAddr, ca_pem: &str, sockets: usize) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            let certificate = certificate.context("the server's ca.pem can't be read")?;
            roots.add(certificate).context("the server's ca.pem can't be used")?;
        }
        let (roots, transport) = (Arc::new(roots), Arc::new(transport()));
        let endpoints = (0..sockets.max(1))
            .map(|_| endpoint())
            .collect::<io::Result<_>>()
            .context("can't open a socket")?;
        let full = config(&roots, &transport, Resume::Never)?;
        let server_name = server.ip().to_string();
        Ok(Self { endpoints, server, server_name, roots, transport, full })
    }

    /// Settings of one device. With [`Resume::Session`] and [`Resume::EarlyData`] they hold its TLS
    /// sessions, so each device needs its own.
    pub fn config(&self, resume: Resume) -> Result<ClientConfig> {
        match resume {
            Resume::Never => Ok(self.full.clone()),
            resume => config(&self.roots, &self.transport, resume),
        }
    }

    /// Starts a connection of the device with this number.
    pub(crate) fn connect(&self, number: usize, config: ClientConfig) -> Result<quinn::Connecting> {
        let endpoint = &self.endpoints[number % self.endpoints.len()];
        endpoint.connect_with(config, self.server, &self.server_name).context("can't connect")
    }

    /// Waits until all connections are gone on this side.
    pub async fn wait_idle(&self) {
        for endpoint in &self.endpoints {
            endpoint.wait_idle().await;
        }
    }
}

/// A socket for many devices: what comes for them all must fit, or it is lost.
fn endpoint() -> io::Result<Endpoint> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Best effort: the system grants as much as it allows.
    let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
}

fn config(
    roots: &Arc<RootCertStore>,
    transport: &Arc<TransportConfig>,
    resume: Resume,
) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("TLS can't be set up")?
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    tls.alpn_protocols = vec![tern_protocol::ALPN.to_vec()];
    tls.enable_early_data = resume == Resume::EarlyData;
    tls.resumption = match resume {
        Resume::Never => Resumption::disabled(),
        _ => Resumption::in_memory_sessions(SESSIONS),
    };
    let tls = QuicClientConfig::try_from(tls).context("TLS can't be set up for QUIC")?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(transport.clone());
    Ok(config)
}

/// As the client library sets it, except for the time after which a device gives up, and for the keep-alive: here QUIC
/// sends it at a fixed pace.
fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut congestion = CubicConfig::default();
    congestion.initial_window(65_536);
    transport
        .congestion_controller_factory(Arc::new(congestion))
        .send_window(40_000)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .max_concurrent_bidi_streams(VarInt::from_u32(DOWNLINKS))
        .max_concurrent_uni_streams(VarInt::from_u32(2))
        .initial_rtt(Duration::from_millis(200))
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(None);
    transport
}
