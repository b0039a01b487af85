//! The keys of tokens: a public key in PEM, a secret, or a JSON Web Key Set.
//!
//! Each key has one algorithm, by its kind and the configuration, and is never used with another.

use std::path::Path;

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use zeroize::Zeroizing;

use super::PolicyError;
use crate::{
    config::{JwtAlgorithm, Registration},
    der,
};

/// Shortest secret, in bytes: as long as the hash.
const SECRET_LEN: usize = 32;
/// Shortest modulus of an RSA key, in bytes.
const MODULUS_LEN: usize = 256;
/// Keys of a set that are used.
const MOST_KEYS: usize = 64;

/// AlgorithmIdentifiers of public keys, without their outer SEQUENCE.
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
const P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

/// A key and the one algorithm that it is for.
pub(super) struct VerifyingKey {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyingKey({:?}, {:?})", self.id, self.algorithm)
    }
}

/// The keys of the configuration; at least one.
pub(super) fn load(settings: &Registration) -> Result<Vec<VerifyingKey>, PolicyError> {
    let allowed = &settings.jwt_algorithms;
    let (file, keys) = match (&settings.jwt_key_file, &settings.jwt_jwks_file) {
        (Some(file), _) => (file, single(&read_file(file)?, allowed)),
        (None, Some(file)) => (file, set(&read_file(file)?, allowed)),
        (None, None) => return Err(PolicyError::NoKey),
    };
    keys.map_err(|reason| PolicyError::Key { file: file.clone(), reason })
}

fn read_file(file: &Path) -> Result<Zeroizing<Vec<u8>>, PolicyError> {
    match std::fs::read(file) {
        Ok(content) => Ok(Zeroizing::new(content)),
        Err(source) => Err(PolicyError::File { file: file.to_owned(), source }),
    }
}

/// A file with one key, of the one algorithm that is allowed.
fn single(content: &[u8], allowed: &[JwtAlgorithm]) -> Result<Vec<VerifyingKey>, String> {
    let [algorithm] = allowed else {
        return Err("a single key needs exactly one algorithm".to_owned());
    };
    let key = match algorithm {
        JwtAlgorithm::HS256 => DecodingKey::from_secret(secret(content)?),
        _ => public_key(content, *algorithm)?,
    };
    Ok(vec![VerifyingKey { id: None, algorithm: library(*algorithm), key }])
}

fn secret(content: &[u8]) -> Result<&[u8], String> {
    // Editors and `echo` end a file with a newline.
    let secret = content.strip_suffix(b"\n").unwrap_or(content);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if secret.starts_with(b"-----BEGIN") {
        // A public key as a secret is how algorithms get confused.
        return Err("HS256 needs a secret, and this is a key in PEM".to_owned());
    }
    match secret.len() >= SECRET_LEN {
        true => Ok(secret),
        false => Err(format!("the secret must have at least {SECRET_LEN} bytes")),
    }
}

fn public_key(content: &[u8], algorithm: JwtAlgorithm) -> Result<DecodingKey, String> {
    let info = SubjectPublicKeyInfoDer::from_pem_slice(content)
        .map_err(|_| "a public key in PEM is needed (BEGIN PUBLIC KEY)".to_owned())?;
    let (found, key) = der::public_key(&info).ok_or("the public key is damaged")?;
    match algorithm {
        JwtAlgorithm::RS256 if found == RSA && key.len() > MODULUS_LEN => {
            Ok(DecodingKey::from_rsa_der(key))
        }
        JwtAlgorithm::ES256 if found == P256 && key.len() == 65 => {
            Ok(DecodingKey::from_ec_der(key))
        }
        JwtAlgorithm::EdDSA if found == ED25519 && key.len() == 32 => {
            Ok(DecodingKey::from_ed_der(key))
        }
        _ => Err(format!(
            "the public key isn't one for {algorithm:?} (RS256: RSA of at least 2048 bits, ES256: \
             P-256, EdDSA: Ed25519)"
        )),
    }
}

/// The keys of a set that are for checking signatures with an algorithm that is allowed.
fn set(content: &[u8], allowed: &[JwtAlgorithm]) -> Result<Vec<VerifyingKey>, String> {
    let set: JwkSet = serde_json::from_slice(content)
        .map_err(|error| format!("a JSON Web Key Set is needed: {error}"))?;
    let keys: Vec<VerifyingKey> =
        set.keys.iter().filter_map(|jwk| of_set(jwk, allowed)).take(MOST_KEYS).collect();
    match keys.is_empty() {
        true => Err(format!("there is no key in it for any of {allowed:?}")),
        false => Ok(keys),
    }
}

fn of_set(jwk: &Jwk, allowed: &[JwtAlgorithm]) -> Option<VerifyingKey> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => JwtAlgorithm::RS256,
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            JwtAlgorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            JwtAlgorithm::EdDSA
        }
        AlgorithmParameters::OctetKey(_) => JwtAlgorithm::HS256,
        _ => return None,
    };
    let common = &jwk.common;
    let for_signatures =
        common.public_key_use.as_ref().is_none_or(|for_what| *for_what == PublicKeyUse::Signature);
    let for_checking = common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let for_this = common.key_algorithm.is_none_or(|named| named == library(algorithm).into());
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let good = allowed.contains(&algorithm)
        && for_signatures
        && for_checking
        && for_this
        && is_long_enough(&key, algorithm);
    good.then(|| VerifyingKey { id: common.key_id.clone(), algorithm: library(algorithm), key })
}

fn is_long_enough(key: &DecodingKey, algorithm: JwtAlgorithm) -> bool {
    use jsonwebtoken::DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
    match (algorithm, key.kind()) {
        (JwtAlgorithm::HS256, SecretOrDer(secret)) => secret.len() >= SECRET_LEN,
        (JwtAlgorithm::RS256, RsaModulusExponent { n, .. }) => n.len() >= MODULUS_LEN,
        (JwtAlgorithm::ES256, SecretOrDer(point)) => point.len() == 65,
        (JwtAlgorithm::EdDSA, SecretOrDer(point)) => point.len() == 32,
        _ => false,
    }
}

fn library(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::HS256 => Algorithm::HS256,
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}
