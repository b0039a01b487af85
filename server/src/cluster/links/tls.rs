//! Mutual TLS between nodes: certificates on both ends, under an authority of the operator's.

use std::{
    fmt,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption, verify_server_name},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::{
        ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
        WebPkiClientVerifier,
    },
    sign::CertifiedKey,
    time_provider::TimeProvider,
};

use super::{ALPN, settings::LinkSettings};
use crate::{
    clock::Clock,
    tls::{self, TlsError},
};

/// A node can't prove who it is, or judge who others are.
#[derive(Debug)]
#[non_exhaustive]
pub enum PeerTlsError {
    /// There is no certificate of an authority, or one that can't be used.
    Authority(String),
    /// The certificate or its key can't be loaded.
    Certificate(TlsError),
    /// The certificate isn't good for the node's name.
    Name(String),
    /// The TLS library refuses.
    Setup(String),
}

impl fmt::Display for PeerTlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(why) => write!(f, "the authority of the cluster: {why}"),
            Self::Certificate(error) => write!(f, "the node's certificate: {error}"),
            Self::Name(name) => {
                write!(f, "the node's certificate isn't good for its name {name:?}")
            }
            Self::Setup(why) => write!(f, "TLS between nodes can't be set up: {why}"),
        }
    }
}

impl std::error::Error for PeerTlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Certificate(error) => Some(error),
            Self::Authority(_) | Self::Name(_) | Self::Setup(_) => None,
        }
    }
}

/// Who this node is to the others, and whom it believes.
pub struct PeerTls {
    name: String,
    shown: Arc<Shown>,
    client: Arc<QuicClientConfig>,
    server: Arc<QuicServerConfig>,
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The certificate shown, at both ends of connections.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl PeerTls {
    /// From PEM files: the authority's certificate or several, this node's certificate with its chain, and its key.
    pub fn open(
        authority_file: &Path,
        cert_file: &Path,
        key_file: &Path,
        name: &str,
        clock: Clock,
    ) -> Result<Self, PeerTlsError> {
        let bad = |error: &dyn fmt::Display| {
            PeerTlsError::Authority(format!("{}: {error}", authority_file.display()))
        };
        let authorities = CertificateDer::pem_file_iter(authority_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| bad(&error))?;
        let key = tls::load(cert_file.to_owned(), key_file.to_owned())
            .map_err(PeerTlsError::Certificate)?;
        Self::new(&authorities, key, name, clock)
    }

    /// From the certificates of the authorities and this node's own. `name` is what this node calls itself in the
    /// cluster, and must be a DNS name of the certificate, which must be good for clients and servers.
    pub fn new(
        authorities: &[CertificateDer<'_>],
        key: CertifiedKey,
        name: &str,
        clock: Clock,
    ) -> Result<Self, PeerTlsError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            let added = roots.add(authority.clone().into_owned());
            added.map_err(|error| PeerTlsError::Authority(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(PeerTlsError::Authority("there is no certificate".to_owned()));
        }
        let is_good = key.cert.first().is_some_and(|leaf| is_good_for(leaf, name));
        if !is_good {
            return Err(PeerTlsError::Name(name.to_owned()));
        }
        let setup = |error: &dyn fmt::Display| PeerTlsError::Setup(error.to_string());
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let time: Arc<dyn TimeProvider> = Arc::new(Time(clock));
        let versions = &[&rustls::version::TLS13];
        let shown = Arc::new(Shown(RwLock::new(Arc::new(key))));
        let roots = Arc::new(roots);

        let mut client = ClientConfig::builder_with_details(provider.clone(), time.clone())
            .with_protocol_versions(versions)
            .map_err(|error| setup(&error))?
            .with_root_certificates(roots.clone())
            .with_client_cert_resolver(shown.clone());
        client.alpn_protocols = vec![ALPN.to_vec()];
        // Links are made rarely, and a session would be one more thing to lose.
        client.resumption = Resumption::disabled();
        let client = QuicClientConfig::try_from(client).map_err(|error| setup(&error))?;

        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| PeerTlsError::Authority(error.to_string()))?;
        let mut server = ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(versions)
            .map_err(|error| setup(&error))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(shown.clone());
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let server = QuicServerConfig::try_from(server).map_err(|error| setup(&error))?;
        let name = name.to_owned();
        Ok(Self { name, shown, client: Arc::new(client), server: Arc::new(server) })
    }

    /// Shows another certificate from the next connection on, when the one before is near its end.
    pub fn replace(&self, key: CertifiedKey) -> Result<(), PeerTlsError> {
        if !key.cert.first().is_some_and(|leaf| is_good_for(leaf, &self.name)) {
            return Err(PeerTlsError::Name(self.name.clone()));
        }
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        Ok(())
    }

    /// This node's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn client_config(&self, settings: &LinkSettings) -> quinn::ClientConfig {
        let mut config = quinn::ClientConfig::new(self.client.clone());
        config.transport_config(Arc::new(transport(settings)));
        config
    }

    pub(super) fn server_config(&self, settings: &LinkSettings) -> quinn::ServerConfig {
        let mut config = quinn::ServerConfig::with_crypto(self.server.clone());
        config.transport_config(Arc::new(transport(settings)));
        // A node has one address.
        config.migration(false);
        config.max_incoming(settings.handshakes as usize);
        config
    }
}

/// Whether the end of a connection has shown a certificate that is good for a name. That it is under the authority was
/// seen to in the handshake.
pub(super) fn has_name(connection: &quinn::Connection, name: &str) -> bool {
    let shown = connection.peer_identity();
    let shown = shown.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    shown.is_some_and(|chain| chain.first().is_some_and(|leaf| is_good_for(leaf, name)))
}

fn is_good_for(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(parsed), Ok(name)) =
        (ParsedCertificate::try_from(certificate), ServerName::try_from(name))
    else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

fn transport(settings: &LinkSettings) -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    let idle = quinn::VarInt::from_u32(settings.lease_ms / 2);
    transport
        .max_idle_timeout(Some(quinn::IdleTimeout::from(idle)))
        .keep_alive_interval(Some(settings.keep_alive()))
        .max_concurrent_bidi_streams(1_u32.into())
        .max_concurrent_uni_streams(1_u32.into())
        .datagram_receive_buffer_size(None)
        // A batch and a little, on each stream and in each direction.
        .stream_receive_window(1_500_000_u32.into())
        .receive_window(3_000_000_u32.into())
        .send_window(3_000_000)
        .initial_rtt(Duration::from_millis(20));
    transport
}

/// The time of certificates: that of the server, which a simulator decides.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.now_ms())))
    }
}

impl Shown {
    fn key(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
