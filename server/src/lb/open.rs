//! From the operator's settings to the ids that a server makes.

use std::{fmt, fs, io, path::PathBuf};

use zeroize::Zeroizing;

use super::{
    config::{EncodeError, LbConfig, LbConfigError, ServerId, unhex},
    generator::Generator,
};
use crate::{config::LoadBalancer, random::Random};

/// The settings give no connection ids.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenLbError {
    /// The server id isn't written as it should be.
    ServerId(String),
    /// The key can't be read.
    KeyFile {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else than a key.
    Key(PathBuf),
    /// Numbers are out of their bounds.
    Config(LbConfigError),
    /// Lengths don't fit.
    Encode(EncodeError),
}

impl fmt::Display for OpenLbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerId(text) => {
                write!(f, "load_balancer.server_id: {text:?} isn't 1 to 15 bytes in hexadecimal")
            }
            Self::KeyFile { path, source } => {
                write!(f, "load_balancer.key_file: {} can't be read: {source}", path.display())
            }
            Self::Key(path) => write!(
                f,
                "load_balancer.key_file: {} doesn't hold 32 hexadecimal digits",
                path.display()
            ),
            Self::Config(error) => write!(f, "load_balancer: {error}"),
            Self::Encode(error) => write!(f, "load_balancer: {error}"),
        }
    }
}

impl std::error::Error for OpenLbError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::ServerId(_) | Self::Key(_) => None,
            Self::KeyFile { source, .. } => Some(source),
            Self::Config(error) => Some(error),
            Self::Encode(error) => Some(error),
        }
    }
}

/// The source of a server's connection ids; `None` if they are to say nothing.
///
/// # Errors
///
/// What the operator must put right.
pub fn open(settings: &LoadBalancer, random: &Random) -> Result<Option<Generator>, OpenLbError> {
    if settings.server_id.is_empty() {
        return Ok(None);
    }
    let server_id = ServerId::from_hex(&settings.server_id)
        .ok_or_else(|| OpenLbError::ServerId(settings.server_id.clone()))?;
    let config = LbConfig::new(
        u8::try_from(settings.config_id).unwrap_or(u8::MAX),
        server_id.as_bytes().len(),
        settings.nonce_bytes as usize,
        key(settings)?,
    );
    let config = config.map_err(OpenLbError::Config)?;
    Generator::new(config, server_id, random.clone()).map(Some).map_err(OpenLbError::Encode)
}

fn key(settings: &LoadBalancer) -> Result<Option<[u8; 16]>, OpenLbError> {
    let Some(path) = &settings.key_file else { return Ok(None) };
    let text = fs::read_to_string(path)
        .map_err(|source| OpenLbError::KeyFile { path: path.clone(), source })?;
    let text = Zeroizing::new(text);
    let key = unhex(text.trim()).map(Zeroizing::new);
    let key = key.and_then(|key| <[u8; 16]>::try_from(&key[..]).ok());
    key.map(Some).ok_or_else(|| OpenLbError::Key(path.clone()))
}

#[cfg(test)]
mod tests {
    use quinn_proto::ConnectionIdGenerator;

    use super::*;

    fn settings(server_id: &str, key_file: Option<PathBuf>) -> LoadBalancer {
        LoadBalancer { server_id: server_id.into(), key_file, ..LoadBalancer::default() }
    }

    #[test]
    fn a_load_balancer_with_the_same_key_reads_the_ids() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        fs::write(&file, "8f95f09245765f80256934e50c66207f\n").unwrap();
        let random = Random::seeded(1);
        assert!(open(&LoadBalancer::default(), &random).unwrap().is_none());
        let server_id = ServerId::new(&[0x31, 0x44, 0x1a]).unwrap();
        for key_file in [None, Some(file)] {
            let key = key_file
                .as_ref()
                .map(|_| unhex("8f95f09245765f80256934e50c66207f").unwrap().try_into().unwrap());
            let reader = LbConfig::new(0, 3, 8, key).unwrap();
            let mut generator = open(&settings("31441A", key_file), &random).unwrap().unwrap();
            for _ in 0..100 {
                assert_eq!(reader.decode(&generator.generate_cid()), Some(server_id));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let random = Random::seeded(1);
        let fails =
            |server_id, key_file| open(&settings(server_id, key_file), &random).unwrap_err();
        for wrong in ["0", "0g", "+1", "00000000000000000000000000000000"] {
            assert!(matches!(fails(wrong, None), OpenLbError::ServerId(text) if text == wrong));
        }
        assert!(matches!(fails("01", Some(file.clone())), OpenLbError::KeyFile { .. }));
        for wrong in ["", "8f95f09245765f80256934e50c6620", "8f95f09245765f80256934e50c66207g"] {
            fs::write(&file, wrong).unwrap();
            let error = fails("01", Some(file.clone()));
            assert!(matches!(&error, OpenLbError::Key(path) if *path == file));
            assert!(
                wrong.is_empty() || !error.to_string().contains(wrong),
                "a key is no text to show"
            );
        }
        let long = LoadBalancer { nonce_bytes: 18, ..settings("0102", None) };
        assert!(matches!(open(&long, &random), Err(OpenLbError::Config(_))));
    }
}
