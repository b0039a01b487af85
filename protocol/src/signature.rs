//! What a device signs to sign in or register, and the check of it.
//!
//! The signature binds the connection's nonce and the server's certificate, so that it is of no use
//! on another connection or to another server (SPEC.md 5.2).

use ring::{
    digest,
    signature::{ED25519, UnparsedPublicKey},
};

use crate::id::{AccountId, DeviceId};

/// SHA-256 of a server's leaf certificate in DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateHash(pub [u8; 32]);

impl CertificateHash {
    /// The hash of a certificate in DER.
    pub fn of(certificate_der: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, certificate_der).as_ref());
        Self(hash)
    }
}

/// The bytes under the signature of a sign-in, [TERN-5.2-3].
pub fn sign_in_message(
    nonce: &[u8; 32],
    certificate: &CertificateHash,
    account: AccountId,
    device: DeviceId,
) -> Vec<u8> {
    let mut message = b"tern/1 sign-in\0".to_vec();
    message.extend(nonce);
    message.extend(certificate.0);
    message.extend(account.get().to_le_bytes());
    message.extend(device.get().to_le_bytes());
    message
}

/// The bytes under the signature of a registration, [TERN-5.2-5].
pub fn register_message(
    nonce: &[u8; 32],
    certificate: &CertificateHash,
    device_key: &[u8; 32],
    name: &str,
) -> Vec<u8> {
    let mut message = b"tern/1 register\0".to_vec();
    message.extend(nonce);
    message.extend(certificate.0);
    message.extend(device_key);
    message.extend(name.as_bytes());
    message
}

/// Whether `signature` is that of `device_key` over `message` (Ed25519, RFC 8032).
pub fn verify(device_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, device_key).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    #[test]
    fn a_signature_is_bound_to_all_that_is_signed() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
        let key: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
        let (account, device) = (AccountId::new(1).unwrap(), DeviceId::new(2).unwrap());
        let (other_account, other_device) = (AccountId::new(3).unwrap(), DeviceId::new(4).unwrap());
        let (here, there) = (CertificateHash::of(b"here"), CertificateHash::of(b"there"));
        let message = sign_in_message(&[1; 32], &here, account, device);
        let signature: [u8; 64] = pair.sign(&message).as_ref().try_into().unwrap();
        assert!(verify(&key, &message, &signature));
        for other in [
            sign_in_message(&[2; 32], &here, account, device),
            sign_in_message(&[1; 32], &there, account, device),
            sign_in_message(&[1; 32], &here, other_account, device),
            sign_in_message(&[1; 32], &here, account, other_device),
            register_message(&[1; 32], &here, &key, "ann"),
        ] {
            assert!(!verify(&key, &other, &signature));
        }
    }
}
