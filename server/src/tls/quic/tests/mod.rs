//! The server's TLS against rustls' client, quinn's client, and quinn's own TLS for servers.

mod attacks;
mod connections;
mod pair;
mod session;
mod updates;
mod watched;

use std::sync::Arc;

use quinn_proto::crypto::rustls::QuicClientConfig;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject},
};
use tempfile::TempDir;

use super::*;
use crate::{
    clock::Clock,
    config::Config,
    tls::{ALPN, Certificates, provider},
};

/// A server's certificate and who trusts it.
struct Fixture {
    dir: TempDir,
    certificates: Arc<Certificates>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.data.dir = dir.path().to_owned();
        let certificates = Certificates::open(&config, Clock::system()).unwrap();
        Self { dir, certificates }
    }

    /// TLS as the server has it, with room for so many sessions.
    fn server(&self, sessions: usize) -> Arc<QuicTls> {
        let tls = self.certificates.rustls_server_config(sessions).unwrap();
        Arc::new(QuicTls::new(tls).unwrap())
    }

    /// The same as quinn would have it.
    fn quinns_server(&self) -> Arc<QuicServerConfig> {
        let tls = self.certificates.rustls_server_config(16).unwrap();
        Arc::new(QuicServerConfig::try_from(tls).unwrap())
    }

    fn client(&self) -> ClientConfig {
        self.client_with(provider())
    }

    fn client_with(&self, provider: Arc<CryptoProvider>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.dir.path().join("ca.pem")).unwrap();
        roots.add(ca).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_early_data = true;
        config
    }

    fn quinns_client(&self) -> Arc<QuicClientConfig> {
        Arc::new(QuicClientConfig::try_from(self.client()).unwrap())
    }
}
