//! Why a certificate can't be shown.

use std::{error::Error, fmt, io, path::PathBuf};

/// A certificate can't be loaded or made.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read or written.
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file isn't what it should be.
    Pem {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key don't belong together, or are of a kind that can't be used.
    Mismatch {
        /// The certificate.
        cert_file: PathBuf,
        /// The key.
        key_file: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// A configured name is neither a host name nor an IP address.
    Name(String),
    /// A new certificate is needed and the authority's key isn't there.
    AuthorityKeyMissing(PathBuf),
    /// A certificate can't be made.
    Making(rcgen::Error),
    /// The cipher suites have none for QUIC's initial packets.
    NoInitialCipherSuite,
    /// The TLS library refused.
    Rustls(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, source } => write!(f, "{}: {source}", file.display()),
            Self::Pem { file, reason } => write!(f, "{}: {reason}", file.display()),
            Self::Mismatch { cert_file, key_file, source } => write!(
                f,
                "the certificate {} can't be used with the key {}: {source}",
                cert_file.display(),
                key_file.display()
            ),
            Self::Name(name) => {
                write!(f, "tls.names: {name:?} is neither a host name nor an IP address")
            }
            Self::AuthorityKeyMissing(file) => write!(
                f,
                "a new certificate is due and the authority's key {} isn't there; remove ca.pem \
                 beside it to make a new authority (clients must then be given the new ca.pem)",
                file.display()
            ),
            Self::Making(source) => write!(f, "no certificate can be made: {source}"),
            Self::NoInitialCipherSuite => f.write_str("TLS has no cipher suite for QUIC"),
            Self::Rustls(source) => write!(f, "TLS can't be set up: {source}"),
        }
    }
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Mismatch { source, .. } | Self::Rustls(source) => Some(source),
            Self::Making(source) => Some(source),
            _ => None,
        }
    }
}
