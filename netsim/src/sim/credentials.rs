//! The certificate of simulated servers.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tern_client::{Entitlement, Registration};

use super::{seed_bytes, seed_for};

/// The name in the certificate.
const NAME: &str = "tern";

/// What comes before the 32 secret bytes of an Ed25519 key in PKCS #8 (RFC 8410, section 7).
const PKCS8_ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A certificate in files, as an operator would give it to the server, and a folder for the run.
///
/// Both follow from the seed of the run: a certificate whose serial number, a hash of the key, begins with
/// a zero byte is a byte shorter than others, and so would packets be. The key is Ed25519's, since its
/// signatures don't depend on chance and are all of one length.
pub struct Credentials {
    dir: TempDir,
    ca_pem: String,
}

impl Credentials {
    /// Makes a key and a certificate, the same ones for the same seed.
    ///
    /// # Errors
    ///
    /// If the files can't be written.
    pub fn new(seed: u64) -> io::Result<Self> {
        let failed = |error: rcgen::Error| io::Error::other(error.to_string());
        let secret = seed_bytes(seed_for(seed, "certificate", 0));
        let key = KeyPair::try_from([&PKCS8_ED25519[..], &secret].concat()).map_err(failed)?;
        let params = CertificateParams::new(vec![NAME.to_owned()]).map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let dir = folder()?;
        let credentials = Self { ca_pem: certificate.pem(), dir };
        fs::write(credentials.cert_file(), &credentials.ca_pem)?;
        fs::write(credentials.key_file(), key.serialize_pem())?;
        Ok(credentials)
    }

    /// What clients trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The folder of the run; it goes with this value.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// What a new account's client needs to know.
    pub(crate) fn registration(&self, server: SocketAddr, name: &str) -> Registration {
        Registration {
            server: tern_client::Server {
                address: server.to_string(),
                name: Some(NAME.to_owned()),
                ca_pem: self.ca_pem.clone(),
            },
            name: name.to_owned(),
            label: "simulated".to_owned(),
            entitlement: Entitlement::None,
        }
    }

    pub(crate) fn cert_file(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }
}

/// In memory where the system has such a folder: the clients' databases sync often.
fn folder() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("tern-netsim-");
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(dir) = builder.tempdir_in(memory)
    {
        return Ok(dir);
    }
    builder.tempdir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_certificate() {
        let [one, again, other] = [7, 7, 8].map(|seed| Credentials::new(seed).unwrap());
        assert_eq!(one.ca_pem(), again.ca_pem());
        assert_ne!(one.ca_pem(), other.ca_pem());
    }
}
