//! Who a device is: its key, its ids, and the server that it belongs to.

use std::{fmt, sync::Arc};

use rand::RngCore;
use ring::signature::{Ed25519KeyPair, KeyPair};
use tern_protocol::{
    frame::Secret,
    id::{AccountId, DeviceId},
};
use zeroize::Zeroizing;

/// The device's Ed25519 key. It never leaves the device; in memory it is wiped when dropped.
pub(crate) struct DeviceKey {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

impl DeviceKey {
    /// A new key.
    pub(crate) fn generate(rng: &mut impl RngCore) -> Option<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut seed[..]);
        Self::from_seed(seed)
    }

    /// The key of a seed; `None` can't happen with the 32 bytes that it has.
    pub(crate) fn from_seed(seed: Zeroizing<[u8; 32]>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed[..]).ok()?;
        Some(Self { seed, pair })
    }

    /// The seed, for the store.
    pub(crate) fn seed(&self) -> &Zeroizing<[u8; 32]> {
        &self.seed
    }

    /// The public key.
    pub(crate) fn public(&self) -> [u8; 32] {
        let mut public = [0; 32];
        public.copy_from_slice(self.pair.public_key().as_ref());
        public
    }

    /// A signature over a message.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(..)")
    }
}

/// Where a server is and how it proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `HOST:PORT` or `IP:PORT`; several, separated by commas, for the nodes of a cluster. One of them is stayed with until it
    /// fails.
    pub address: String,
    /// The name that the certificate must have; by default the host of the address.
    pub name: Option<String>,
    /// The only trust anchors: certificates in PEM.
    pub ca_pem: String,
}

/// Who this device is on its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The server.
    pub server: Server,
    /// The account's name.
    pub name: String,
    /// The device, as its owner knows it.
    pub label: String,
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
}

/// All that the store knows of the device, secrets included.
#[derive(Debug, Clone)]
pub(crate) struct StoredIdentity {
    pub(crate) server: Server,
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) key: Arc<DeviceKey>,
    /// Missing until the server's answer to the registration was stored.
    pub(crate) ids: Option<(AccountId, DeviceId)>,
    pub(crate) ticket: Option<Secret>,
    pub(crate) ticket_until_ms: u64,
    pub(crate) last_connected_ms: u64,
}

impl StoredIdentity {
    /// The public part, once registered.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let (account, device) = self.ids?;
        Some(Identity {
            server: self.server.clone(),
            name: self.name.clone(),
            label: self.label.clone(),
            account,
            device,
        })
    }
}
