//! The server's certificate, its own or the operator's, changed without a restart; and TLS under
//! QUIC (`quic`).
//!
//! With nothing configured, the server makes an authority of its own in the data folder (`ca.pem`,
//! `ca-key.pem`) and a certificate under it (`cert.pem`, `key.pem`), for ECDSA P-256, and renews it
//! in time; clients trust `ca.pem`. With `tls.cert_file` and `tls.key_file` it shows the
//! operator's. Either is looked at again now and then: what is new and good is shown from the next
//! handshake on; what is bad is reported, and the one before stays.

mod error;
mod own;
mod quic;
mod sessions;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use tern_protocol::signature::CertificateHash;
use zeroize::Zeroizing;

pub use error::TlsError;

pub(crate) use self::quic::QuicTls;
use self::sessions::Sessions;
use crate::{clock::Clock, config::Config, der};

/// The ALPN protocol id.
pub const ALPN: &[u8] = b"tern/1";

/// Certificates remembered for sign-ins that began under an earlier one. They change a few times a
/// year; a signature is tried with each, so there must not be many.
const REMEMBERED: usize = 4;

/// The certificate that is shown now, and those that were.
#[derive(Debug)]
pub struct Certificates {
    origin: Origin,
    clock: Clock,
    shown: RwLock<Shown>,
}

#[derive(Debug)]
enum Origin {
    Own(own::Own),
    Operator { cert_file: PathBuf, key_file: PathBuf },
}

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    /// The certificate shown now is the last one. Never empty, at most [`REMEMBERED`].
    hashes: VecDeque<CertificateHash>,
    not_after_ms: Option<u64>,
}

/// What a look at the files found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The certificate that is shown already.
    Unchanged,
    /// Another one, shown from now on.
    Changed,
}

impl Certificates {
    /// Loads the configured certificate, or makes the server's own in the data folder.
    pub fn open(config: &Config, clock: Clock) -> Result<Arc<Self>, TlsError> {
        let origin = match (&config.tls.cert_file, &config.tls.key_file) {
            (Some(cert_file), Some(key_file)) => {
                Origin::Operator { cert_file: cert_file.clone(), key_file: key_file.clone() }
            }
            _ => Origin::Own(own::Own::new(&config.data.dir, &config.tls.names)?),
        };
        let key = origin.load(clock.now_ms())?;
        let leaf = leaf(&key)?;
        let shown = Shown {
            hashes: VecDeque::from([CertificateHash::of(leaf)]),
            not_after_ms: der::not_after_ms(leaf),
            key: Arc::new(key),
        };
        Ok(Arc::new(Self { origin, clock, shown: RwLock::new(shown) }))
    }

    /// Looks at the files again (and renews the own certificate if it is near its end). After an
    /// error the certificate before is still shown.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let key = self.origin.load(self.clock.now_ms())?;
        let leaf = leaf(&key)?;
        let hash = CertificateHash::of(leaf);
        let not_after_ms = der::not_after_ms(leaf);
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        if shown.key.cert == key.cert {
            return Ok(Reloaded::Unchanged);
        }
        shown.hashes.retain(|remembered| *remembered != hash);
        shown.hashes.push_back(hash);
        if shown.hashes.len() > REMEMBERED {
            shown.hashes.pop_front();
        }
        shown.key = Arc::new(key);
        shown.not_after_ms = not_after_ms;
        Ok(Reloaded::Changed)
    }

    /// Looks at the files every so often, for ever, and logs what changed or is wrong.
    pub async fn watch(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let certificates = self.clone();
            // Reading files and making keys would hold up a runtime thread.
            match tokio::task::spawn_blocking(move || certificates.reload()).await {
                Ok(Ok(Reloaded::Unchanged)) => {}
                Ok(Ok(Reloaded::Changed)) => tracing::info!("showing a new certificate"),
                Ok(Err(error)) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the new certificate can't be used; the one before is still shown"
                ),
                Err(_) => return,
            }
        }
    }

    /// Whether a certificate with this hash is shown or was shown since the start, as a sign-in's
    /// signature needs it.
    pub fn serves_or_has_served(&self, hash: &CertificateHash) -> bool {
        self.shown().hashes.contains(hash)
    }

    /// The hashes of the certificates that are shown or were, the newest first. A signature names
    /// none of them, so it is tried with each.
    pub fn hashes(&self) -> Vec<CertificateHash> {
        self.shown().hashes.iter().rev().copied().collect()
    }

    /// The hash of the certificate that is shown now.
    pub fn current_hash(&self) -> CertificateHash {
        let shown = self.shown();
        // There is always one; the zero hash is nobody's.
        shown.hashes.back().copied().unwrap_or(CertificateHash([0; 32]))
    }

    /// When the certificate that is shown now ends, in milliseconds since the epoch.
    pub fn not_after_ms(&self) -> Option<u64> {
        self.shown().not_after_ms
    }

    /// TLS for the QUIC end point: TLS 1.3 alone, `tern/1` alone, 0-RTT with at most so many
    /// sessions kept in memory, or none with 0.
    pub fn rustls_server_config(
        self: &Arc<Self>,
        resumption_sessions: usize,
    ) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Rustls)?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        if resumption_sessions == 0 {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            // Sessions are kept on the server and used once, so that 0-RTT data can't be replayed
            // here; rustls never offers 0-RTT with tickets that hold the session themselves.
            config.session_storage = Arc::new(Sessions::new(resumption_sessions));
            config.max_early_data_size = u32::MAX;
        }
        Ok(config)
    }

    fn shown(&self) -> std::sync::RwLockReadGuard<'_, Shown> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown().key.clone())
    }
}

impl Origin {
    fn load(&self, now_ms: u64) -> Result<CertifiedKey, TlsError> {
        match self {
            Self::Own(own) => {
                own.ensure(now_ms)?;
                load(own.cert_file(), own.key_file())
            }
            Self::Operator { cert_file, key_file } => load(cert_file.clone(), key_file.clone()),
        }
    }
}

/// A certificate with its chain, and the key that fits it.
pub(crate) fn load(cert_file: PathBuf, key_file: PathBuf) -> Result<CertifiedKey, TlsError> {
    let pem = read(&cert_file)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Pem { file: cert_file.clone(), reason: error.to_string() })?;
    if chain.is_empty() {
        return Err(TlsError::Pem {
            file: cert_file,
            reason: "there is no certificate in it".to_owned(),
        });
    }
    let pem = read(&key_file)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| TlsError::Pem { file: key_file.clone(), reason: error.to_string() })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|source| TlsError::Mismatch {
        cert_file,
        key_file,
        source,
    })
}

fn read(file: &std::path::Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    match std::fs::read(file) {
        Ok(content) => Ok(Zeroizing::new(content)),
        Err(source) => Err(TlsError::File { file: file.to_owned(), source }),
    }
}

fn leaf(key: &CertifiedKey) -> Result<&CertificateDer<'_>, TlsError> {
    key.end_entity_cert().map_err(TlsError::Rustls)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
