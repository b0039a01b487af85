//! Makers of tokens, one for each algorithm.

use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use serde_json::{Value, json};

use super::settings;
use crate::{config::JwtAlgorithm, policy::Policy};

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

const SECRET: &[u8] = b"a secret of thirty-two bytes or more";
/// Made for these tests and used nowhere else.
const RSA_PRIVATE: &[u8] = include_bytes!("keys/rsa.der");
pub(super) const RSA_PUBLIC: &str = include_str!("keys/rsa.pub.pem");

fn base64(bytes: &[u8], letters: &[u8; 64]) -> String {
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let group = chunk
                .iter()
                .chain([0, 0].iter())
                .take(3)
                .fold(0_u32, |n, &b| n << 8 | u32::from(b));
            (0..=chunk.len()).map(move |i| letters[(group >> (18 - 6 * i)) as usize & 63] as char)
        })
        .collect()
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    base64(bytes, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
}

fn pem(info: &[u8]) -> String {
    let mut text =
        base64(info, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

/// A maker of tokens, and its public key as a verifier is given it.
pub(super) struct Maker {
    pub(super) algorithm: JwtAlgorithm,
    sign: Sign,
    /// What stands in the key file.
    pub(super) key_file: Vec<u8>,
    pub(super) jwk: Value,
}

pub(super) fn makers() -> Vec<Maker> {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
    let ec = ec.unwrap();
    let ec_point = ec.public_key().as_ref().to_vec();
    let ed = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let ed_point = ed.public_key().as_ref().to_vec();
    let rsa = RsaKeyPair::from_der(RSA_PRIVATE).unwrap();
    let rsa_public: ring::rsa::PublicKeyComponents<Vec<u8>> = rsa.public().into();
    let p256_head = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\
        \xce\x3d\x03\x01\x07\x03\x42\x00";
    let ed_head = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    vec![
        Maker {
            algorithm: JwtAlgorithm::HS256,
            sign: Box::new(|message| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
                hmac::sign(&key, message).as_ref().to_vec()
            }),
            key_file: [SECRET, b"\n"].concat(),
            jwk: json!({"kty": "oct", "k": base64url(SECRET)}),
        },
        Maker {
            algorithm: JwtAlgorithm::RS256,
            sign: Box::new(move |message| {
                let mut signature = vec![0; rsa.public().modulus_len()];
                rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }),
            key_file: RSA_PUBLIC.into(),
            jwk: json!({
                "kty": "RSA", "n": base64url(&rsa_public.n), "e": base64url(&rsa_public.e),
            }),
        },
        Maker {
            algorithm: JwtAlgorithm::ES256,
            sign: Box::new(move |message| {
                ec.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
            }),
            key_file: pem(&[p256_head.as_slice(), &ec_point].concat()).into(),
            jwk: json!({
                "kty": "EC", "crv": "P-256",
                "x": base64url(&ec_point[1..33]), "y": base64url(&ec_point[33..]),
            }),
        },
        Maker {
            algorithm: JwtAlgorithm::EdDSA,
            sign: Box::new(move |message| ed.sign(message).as_ref().to_vec()),
            key_file: pem(&[ed_head.as_slice(), &ed_point].concat()).into(),
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(&ed_point)}),
        },
    ]
}

pub(super) fn maker(algorithm: JwtAlgorithm) -> Maker {
    let found = makers().into_iter().find(|maker| maker.algorithm == algorithm);
    found.unwrap()
}

impl Maker {
    pub(super) fn token_of(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let signature = base64url(&(self.sign)(message.as_bytes()));
        format!("{message}.{signature}")
    }

    pub(super) fn header(&self) -> String {
        json!({"alg": format!("{:?}", self.algorithm), "typ": "JWT"}).to_string()
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        self.token_of(&self.header(), &claims.to_string())
    }

    pub(super) fn policy(&self) -> Policy {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, &self.key_file).unwrap();
        Policy::open(&settings(&file, self.algorithm)).unwrap()
    }
}
