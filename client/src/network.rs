//! Sockets and TLS: how a QUIC end point is made and what it is told.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{ClientConfig, Endpoint, IdleTimeout, TransportConfig, VarInt};
use rustls::{
    RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use tern_protocol::congestion::Chat;

use crate::{identity::Server, sessions::Sessions, settings::Settings};

/// QUIC's idle time-out, in milliseconds: twice the longest silence that a server may allow.
const IDLE_TIMEOUT: VarInt = VarInt::from_u32(7_200_000);

/// Where sockets come from.
///
/// The client makes one end point and keeps it. A simulator returns one over its own
/// `quinn::AsyncUdpSocket` and `quinn::Runtime`
/// ([`Endpoint::new_with_abstract_socket`]).
pub trait Network: Send + Sync + 'static {
    /// An end point that can reach `remote`.
    fn endpoint(&self, remote: SocketAddr) -> io::Result<Endpoint>;

    /// Gives the end point a new socket after the network changed.
    fn rebind(&self, endpoint: &Endpoint) -> io::Result<()>;
}

/// UDP sockets of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct SystemNetwork;

impl Network for SystemNetwork {
    fn endpoint(&self, remote: SocketAddr) -> io::Result<Endpoint> {
        Endpoint::client(any_address(remote.is_ipv6()))
    }

    fn rebind(&self, endpoint: &Endpoint) -> io::Result<()> {
        let is_ipv6 = endpoint.local_addr()?.is_ipv6();
        endpoint.rebind(UdpSocket::bind(any_address(is_ipv6))?)
    }
}

fn any_address(is_ipv6: bool) -> SocketAddr {
    if is_ipv6 { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() }
}

/// Why a server can't even be tried.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// The address isn't `HOST:PORT`.
    Address(String),
    /// The name isn't one that a certificate can have.
    Name(String),
    /// The certificate authority's file has no certificate that can be used.
    Ca(String),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => {
                write!(f, "{address:?} isn't a server's address; write HOST:PORT or IP:PORT")
            }
            Self::Name(name) => write!(f, "{name:?} can't be the name in a certificate"),
            Self::Ca(why) => write!(
                f,
                "the file of the certificate authority can't be used: {why}; it is the server's ca.pem"
            ),
        }
    }
}

impl std::error::Error for ServerError {}

/// The first of a server's addresses.
fn first_of(address: &str) -> &str {
    address.split(',').next().unwrap_or(address).trim()
}

/// The host of an address.
fn host(address: &str) -> Result<&str, ServerError> {
    let wrong = || ServerError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    Ok(host)
}

/// The name that the server's certificate must have.
pub(crate) fn server_name(server: &Server) -> Result<String, ServerError> {
    let name = match &server.name {
        Some(name) => name.as_str(),
        // The nodes of a server share a name, or the first one's is good for all.
        None => host(first_of(&server.address))?,
    };
    ServerName::try_from(name).map_err(|_| ServerError::Name(name.to_owned()))?;
    Ok(name.to_owned())
}

/// The addresses of a server, in the order in which they are named. A name that can't be resolved is an error only if no
/// other can.
pub(crate) async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    let mut all = Vec::new();
    let mut failed = None;
    for address in address.split(',').map(str::trim) {
        // A literal address needs no resolver, whose threads a simulated clock doesn't know.
        if let Ok(address) = address.parse() {
            all.push(address);
            continue;
        }
        match tokio::net::lookup_host(address).await {
            Ok(found) => all.extend(found),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if all.is_empty() => Err(error),
        _ => Ok(all),
    }
}

/// What the client tells QUIC. It is made once, since it also keeps the TLS sessions with which
/// later connections send 0-RTT data.
pub(crate) fn client_config(
    server: &Server,
    settings: &Settings,
    sessions: &Arc<Sessions>,
) -> Result<ClientConfig, ServerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| ServerError::Ca(error.to_string()))?
        .with_root_certificates(trust_anchors(&server.ca_pem)?)
        .with_no_client_auth();
    tls.alpn_protocols = vec![tern_protocol::ALPN.to_vec()];
    #[cfg(feature = "single-stream")]
    if settings.single_stream {
        tls.alpn_protocols = vec![tern_single::ALPN.to_vec()];
    }
    tls.enable_early_data = true;
    tls.resumption = Resumption::store(sessions.clone());
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
        .map_err(|error| ServerError::Ca(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport(settings)));
    Ok(config)
}

fn trust_anchors(pem: &str) -> Result<RootCertStore, ServerError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| ServerError::Ca(error.to_string()))?;
        roots.add(certificate).map_err(|error| ServerError::Ca(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(ServerError::Ca("it holds no certificate in PEM".into()));
    }
    Ok(roots)
}

fn transport(settings: &Settings) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(Chat::new(settings.initial_window_bytes)))
        .send_window(settings.send_window_bytes)
        // The link keeps the connection alive, and notices when it is dead: QUIC asks nobody whether a
        // router has forgotten the client, and its idle time-out is one for all times. So the server's holds.
        .keep_alive_interval(None)
        .max_idle_timeout(Some(IdleTimeout::from(IDLE_TIMEOUT)))
        .max_concurrent_bidi_streams(VarInt::from_u32(u32::from(settings.downlinks.max(4))))
        // The greeting needs one; further ones are for extensions, which this client doesn't have.
        .max_concurrent_uni_streams(VarInt::from_u32(2))
        // Before the first sample; phones are rarely better, and a lower guess sends twice.
        .initial_rtt(Duration::from_millis(200))
        .datagram_receive_buffer_size(None);
    if !settings.mtu_discovery {
        transport.mtu_discovery_config(None);
    }
    transport
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(address: &str, name: Option<&str>) -> Server {
        Server { address: address.into(), name: name.map(Into::into), ca_pem: String::new() }
    }

    #[test]
    fn the_certificate_must_be_for_the_host_or_the_name_given() {
        for (address, name, expected) in [
            ("127.0.0.1:4433", None, "127.0.0.1"),
            ("[::1]:4433", None, "::1"),
            ("chat.example:4433", None, "chat.example"),
            ("10.0.0.1:4433", Some("tern"), "tern"),
            ("a.example:1, b.example:2", None, "a.example"),
        ] {
            assert_eq!(server_name(&server(address, name)).unwrap(), expected);
        }
        for bad in ["", "host", ":1", "host:port", "ho st:1", "[]:1"] {
            assert!(server_name(&server(bad, None)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused_with_advice() {
        let error =
            client_config(&server("a:1", None), &Settings::default(), &Arc::default()).unwrap_err();
        assert!(error.to_string().contains("ca.pem"));
    }
}
