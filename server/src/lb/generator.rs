//! Where the connection ids of a server come from: [`Generator`].

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

use super::config::{EncodeError, LbConfig, NONCE_BYTES, ServerId, UNROUTABLE};
use crate::random::Random;

/// Bytes of a nonce that are counted; the others stay as they were drawn.
const COUNTED_BYTES: usize = 8;

/// Makes connection ids that say which server they belong to. A clone goes on with the same nonces, so one
/// generator serves all end points of a process.
///
/// Under a key, the nonce is a counter that begins at a random value, and no nonce comes twice while the
/// process lives. Another process with the same server id and key begins elsewhere; that the two meet is a
/// matter of luck that nonces of 8 bytes or more make certain enough, and 4 don't. When a counter of fewer than
/// 8 bytes has gone round, the ids that follow are ones by which nobody is found (the draft's way out), and a
/// load balancer goes by addresses.
///
/// Without a key, a counter would show which ids are of one server's connections, so nonces are random, and
/// repeat when chance has it. quinn never has two connections with one id; of what comes later, see the
/// module's documentation.
#[derive(Clone)]
pub struct Generator {
    config: LbConfig,
    server_id: ServerId,
    /// The first nonce.
    first: [u8; *NONCE_BYTES.end()],
    /// Ids made so far.
    made: Arc<AtomicU64>,
    random: Random,
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the nonces: whoever knows them has one thing less to guess.
        f.debug_struct("Generator")
            .field("config", &self.config)
            .field("server_id", &self.server_id)
            .field("made", &self.made())
            .finish_non_exhaustive()
    }
}

impl Generator {
    /// Makes ids of a server. Its id must have the length that the configuration says.
    pub fn new(config: LbConfig, server_id: ServerId, random: Random) -> Result<Self, EncodeError> {
        let bytes = server_id.as_bytes().len();
        if bytes != config.server_id_bytes() {
            return Err(EncodeError::ServerId(bytes));
        }
        let first = random.bytes();
        Ok(Self { config, server_id, first, made: Arc::default(), random })
    }

    /// How many ids were made. Those of [`Generator::most`] can be, before the configuration must be replaced.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// How many ids can be made under one key: 2^32 with nonces of 4 bytes, and more than anybody needs with 8.
    pub fn most(&self) -> u64 {
        match self.config.nonce_bytes() {
            bytes @ ..COUNTED_BYTES => 1 << (8 * bytes),
            _ => u64::MAX,
        }
    }

    /// The nonce after so many others.
    fn nonce(&self, number: u64) -> [u8; *NONCE_BYTES.end()] {
        let mut nonce = self.first;
        let mut counted = [0; COUNTED_BYTES];
        counted.copy_from_slice(&nonce[..COUNTED_BYTES]);
        // The first bytes count, the lowest first, so that a short nonce has those that change.
        let counted = u64::from_le_bytes(counted).wrapping_add(number);
        nonce[..COUNTED_BYTES].copy_from_slice(&counted.to_le_bytes());
        nonce
    }

    fn unroutable(&self) -> ConnectionId {
        let mut cid: [u8; 20] = self.random.bytes();
        cid[0] = self.config.first_octet(UNROUTABLE);
        ConnectionId::new(&cid[..self.config.cid_bytes()])
    }

    #[cfg(test)]
    pub(super) fn skip(&self, ids: u64) {
        self.made.fetch_add(ids, Ordering::Relaxed);
    }
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let nonce = match self.config.is_encrypted() {
            true if number >= self.most() => {
                if number == self.most() {
                    tracing::warn!(
                        "connection ids are used up: a load balancer can't read further ones"
                    );
                }
                return self.unroutable();
            }
            true => self.nonce(number),
            false => self.random.bytes(),
        };
        self.config.write(self.server_id.as_bytes(), &nonce[..self.config.nonce_bytes()])
    }

    /// Whether it is an id of this server. Most that aren't are known by their first byte; the others cost
    /// three blocks of AES.
    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        match self.config.decode(cid) {
            Some(server_id) if server_id == self.server_id => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        self.config.cid_bytes()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
