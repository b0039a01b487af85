//! Packet keys of later key phases, made when a packet needs them.
//!
//! A key phase (RFC 9001, 6) is long: quinn begins a second one early, to see that the peer can, and the next
//! after millions of packets. But it wants the keys of the next one at hand all the time: two AEAD keys with
//! their tables, more than a kilobyte. Here it gets keys that know where the secrets are and derive
//! themselves when they are used for the first time.
//!
//! The price: the first packet that bears the other key phase takes some microseconds longer, also one that
//! somebody forged. RFC 9001 (6.3) allows that and says what it shows: that a packet bore the other
//! phase, once for each phase.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::BytesMut;
use quinn_proto::crypto::{CryptoError, KeyPair, PacketKey};
use rustls::quic::{self, PacketKeySet, Secrets};

/// The key phases of a connection after the first.
pub(super) struct Updates {
    chain: Arc<Chain>,
    /// The one that was handed out last.
    last: Option<Arc<Phase>>,
}

/// What the keys of each next phase come from.
///
/// Each derivation replaces the secrets by those of the phase after. They stay in this one place, so that none
/// are left behind: rustls wipes what it replaces or drops.
struct Chain {
    secrets: Mutex<Secrets>,
    limits: Limits,
}

/// What all phases have in common, as they have the cipher suite.
#[derive(Clone, Copy)]
struct Limits {
    tag_len: usize,
    confidentiality: u64,
    integrity: u64,
}

/// One key phase.
struct Phase {
    chain: Arc<Chain>,
    keys: OnceLock<PacketKeySet>,
}

impl Updates {
    /// The phases that follow the one of a current key, beginning with these secrets.
    pub(super) fn new(next: Secrets, current: &dyn quic::PacketKey) -> Self {
        let limits = Limits {
            tag_len: current.tag_len(),
            confidentiality: current.confidentiality_limit(),
            integrity: current.integrity_limit(),
        };
        Self { chain: Arc::new(Chain { secrets: Mutex::new(next), limits }), last: None }
    }

    /// The keys of the next phase.
    pub(super) fn next(&mut self) -> KeyPair<Box<dyn PacketKey>> {
        if let Some(last) = &self.last {
            // The secrets must have moved on before another phase takes its keys from them. This one
            // begins now, so its keys are needed anyway.
            last.keys();
        }
        let phase = Arc::new(Phase { chain: self.chain.clone(), keys: OnceLock::new() });
        self.last = Some(phase.clone());
        KeyPair {
            local: Box::new(PhaseKey { phase: phase.clone(), direction: Direction::Local }),
            remote: Box::new(PhaseKey { phase, direction: Direction::Remote }),
        }
    }

    /// Whether the phase that was handed out last has its keys.
    #[cfg(test)]
    pub(super) fn last_is_derived(&self) -> bool {
        self.last.as_ref().is_some_and(|phase| phase.keys.get().is_some())
    }
}

impl Phase {
    fn keys(&self) -> &PacketKeySet {
        self.keys.get_or_init(|| {
            let mut secrets = self.chain.secrets.lock().unwrap_or_else(PoisonError::into_inner);
            secrets.next_packet_keys()
        })
    }
}

/// The key of a phase for packets in one direction.
struct PhaseKey {
    phase: Arc<Phase>,
    direction: Direction,
}

enum Direction {
    Local,
    Remote,
}

impl PhaseKey {
    /// The key itself, with what quinn can do with a key of rustls.
    fn key(&self) -> &impl PacketKey {
        let keys = self.phase.keys();
        match self.direction {
            Direction::Local => &keys.local,
            Direction::Remote => &keys.remote,
        }
    }
}

impl PacketKey for PhaseKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.key().encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.key().decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.phase.chain.limits.tag_len
    }

    fn confidentiality_limit(&self) -> u64 {
        self.phase.chain.limits.confidentiality
    }

    fn integrity_limit(&self) -> u64 {
        self.phase.chain.limits.integrity
    }
}
