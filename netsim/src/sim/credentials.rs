//! The certificate of simulated servers.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use tempfile::TempDir;

/// The name in the certificate.
pub(super) const NAME: &str = "tern";

/// A certificate in files, as an operator would give it to the server, and a folder for the run.
///
/// The key is Ed25519's: its signatures are all of one length, so that packets are as long in every run,
/// although the key itself is another one.
pub struct Credentials {
    dir: TempDir,
    ca_pem: String,
}

impl Credentials {
    /// Makes a key and a certificate.
    ///
    /// # Errors
    ///
    /// If the files can't be written.
    pub fn new() -> io::Result<Self> {
        let failed = |error: rcgen::Error| io::Error::other(error.to_string());
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(failed)?;
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

    pub(super) fn cert_file(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    pub(super) fn key_file(&self) -> PathBuf {
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
