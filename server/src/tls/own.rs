//! The authority and the certificate that the server makes for itself.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{TlsError, load, provider};
use crate::files::{self, Mode};

const DAY_MS: u64 = 86_400_000;
/// How long the authority lasts. A client is given it once.
const AUTHORITY_MS: u64 = 3_650 * DAY_MS;
/// How long a certificate lasts: what browsers and phones accept at most.
const LEAF_MS: u64 = 397 * DAY_MS;
/// How long before its end a certificate is renewed.
const RENEW_MS: u64 = 30 * DAY_MS;
/// Clocks of clients may be late.
const BACKDATED_MS: u64 = DAY_MS;

/// The names that are always in the certificate.
const NAMES: [&str; 4] = ["localhost", "tern", "127.0.0.1", "::1"];

/// The files of the own authority and certificate, and the names that the certificate must hold.
#[derive(Debug)]
pub(super) struct Own {
    dir: PathBuf,
    names: Vec<ServerName<'static>>,
}

impl Own {
    pub(super) fn new(dir: &Path, names: &[String]) -> Result<Self, TlsError> {
        let mut all = BTreeSet::from(NAMES.map(str::to_owned));
        all.extend(machine_name());
        let mut parsed: Vec<ServerName<'static>> =
            all.iter().filter_map(|name| server_name(name)).collect();
        for name in names {
            let name = server_name(name).ok_or_else(|| TlsError::Name(name.clone()))?;
            if !parsed.contains(&name) {
                parsed.push(name);
            }
        }
        Ok(Self { dir: dir.to_owned(), names: parsed })
    }

    pub(super) fn cert_file(&self) -> PathBuf {
        self.dir.join("cert.pem")
    }

    pub(super) fn key_file(&self) -> PathBuf {
        self.dir.join("key.pem")
    }

    fn authority_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    fn authority_key_file(&self) -> PathBuf {
        self.dir.join("ca-key.pem")
    }

    /// Makes what is missing, unusable or near its end.
    pub(super) fn ensure(&self, now_ms: u64) -> Result<(), TlsError> {
        if self.leaf_is_good(now_ms) {
            return Ok(());
        }
        make_folder(&self.dir)?;
        let key = self.authority_key(now_ms)?;
        self.make_leaf(&key, now_ms)
    }

    /// Whether certificate and key belong together, and a client that trusts the authority accepts
    /// them for every name, also when it is time to renew.
    fn leaf_is_good(&self, now_ms: u64) -> bool {
        let Ok(leaf) = load(self.cert_file(), self.key_file()) else {
            return false;
        };
        let Some(verifier) = self.verifier() else {
            return false;
        };
        let Ok(certificate) = leaf.end_entity_cert() else {
            return false;
        };
        let at = |ms| UnixTime::since_unix_epoch(Duration::from_millis(ms));
        let accepted = |name: &ServerName<'_>, ms| {
            verifier.verify_server_cert(certificate, &[], name, &[], at(ms)).is_ok()
        };
        self.names.iter().all(|name| accepted(name, now_ms) && accepted(name, now_ms + RENEW_MS))
    }

    fn verifier(&self) -> Option<Arc<WebPkiServerVerifier>> {
        let authority = CertificateDer::from_pem_file(self.authority_file()).ok()?;
        let mut roots = RootCertStore::empty();
        roots.add(authority).ok()?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()
    }

    /// The authority's key; with a new authority where there is none.
    fn authority_key(&self, now_ms: u64) -> Result<KeyPair, TlsError> {
        let file = self.authority_key_file();
        let there = match fs::read_to_string(&file) {
            Ok(pem) => Some(Zeroizing::new(pem)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(TlsError::File { file, source }),
        };
        let has_certificate = self.authority_file().exists();
        let key = match there {
            Some(pem) => KeyPair::from_pem(&pem)
                .map_err(|error| TlsError::Pem { file, reason: error.to_string() })?,
            // A new authority in its place would lock out the clients that trust this one.
            None if has_certificate => return Err(TlsError::AuthorityKeyMissing(file)),
            None => {
                let key = new_key()?;
                // The key goes first: without a certificate it is used for one at the next start.
                let pem = Zeroizing::new(key.serialize_pem());
                write(&file, pem.as_bytes(), Mode::Private)?;
                key
            }
        };
        if !has_certificate {
            let certificate =
                authority_params(now_ms)?.self_signed(&key).map_err(TlsError::Making)?;
            let pem = certificate.pem();
            write(&self.authority_file(), pem.as_bytes(), Mode::Public)?;
        }
        Ok(key)
    }

    fn make_leaf(&self, authority_key: &KeyPair, now_ms: u64) -> Result<(), TlsError> {
        let names: Vec<String> = self.names.iter().map(|n| n.to_str().into_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(TlsError::Making)?;
        params.distinguished_name = named("Tern server");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) = validity(now_ms, LEAF_MS)?;
        let key = new_key()?;
        let authority = authority_params(now_ms)?;
        let issuer = Issuer::from_params(&authority, authority_key);
        let certificate = params.signed_by(&key, &issuer).map_err(TlsError::Making)?;
        let pem = Zeroizing::new(key.serialize_pem());
        write(&self.key_file(), pem.as_bytes(), Mode::Private)?;
        // A crash between the two leaves a pair that doesn't fit, which the next start replaces.
        write(&self.cert_file(), certificate.pem().as_bytes(), Mode::Public)
    }
}

fn new_key() -> Result<KeyPair, TlsError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(TlsError::Making)
}

/// The authority's certificate but for its key. Name and identifiers never change: certificates
/// are issued with these and checked against the file.
fn authority_params(now_ms: u64) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Tern authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(now_ms, AUTHORITY_MS)?;
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn validity(now_ms: u64, for_ms: u64) -> Result<(OffsetDateTime, OffsetDateTime), TlsError> {
    let at = |ms: u64| {
        OffsetDateTime::from_unix_timestamp((ms / 1000) as i64)
            .map_err(|_| TlsError::Making(rcgen::Error::Time))
    };
    let from_ms = now_ms.saturating_sub(BACKDATED_MS);
    Ok((at(from_ms)?, at(from_ms.saturating_add(for_ms))?))
}

fn server_name(name: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).ok()
}

/// The machine's own name, where it is cheap to learn.
fn machine_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn make_folder(dir: &Path) -> Result<(), TlsError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        // Messages and keys lie there. Clients get `ca.pem` from the operator.
        builder.mode(0o700);
    }
    builder.create(dir).map_err(|source| TlsError::File { file: dir.to_owned(), source })
}

fn write(file: &Path, content: &[u8], mode: Mode) -> Result<(), TlsError> {
    files::replace(file, content, mode)
        .map_err(|source| TlsError::File { file: file.to_owned(), source })
}
