//! The form of the ids: [`LbConfig`], [`ServerId`].

use std::{fmt, ops::RangeInclusive};

use quinn_proto::ConnectionId;

use super::cipher::Cipher;

/// Numbers that a configuration may have. The last of the three bits' values, 7, says that an id isn't to be
/// read.
pub const CONFIG_IDS: RangeInclusive<u8> = 0..=6;
/// Bytes that a server id may have.
pub const SERVER_ID_BYTES: RangeInclusive<usize> = 1..=15;
/// Bytes that a nonce may have.
pub const NONCE_BYTES: RangeInclusive<usize> = 4..=18;
/// Bytes of server id and nonce together, at most: an id of QUIC version 1 has 20, and the first is taken.
pub const BLOCK_BYTES: usize = 19;

/// The number of no configuration: by an id with it, nobody is found.
pub(super) const UNROUTABLE: u8 = 7;

/// Which server a connection id belongs to: a number of 1 to 15 bytes that the operator gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    /// Zero from `length` on, so that equal ids are equal here.
    bytes: [u8; *SERVER_ID_BYTES.end()],
    length: u8,
}

impl ServerId {
    /// The server id of these bytes; `None` if there are none, or more than 15.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if !SERVER_ID_BYTES.contains(&bytes.len()) {
            return None;
        }
        let mut id = Self { bytes: [0; *SERVER_ID_BYTES.end()], length: bytes.len() as u8 };
        id.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(id)
    }

    /// The server id that the operator wrote: two hexadecimal digits for each byte.
    ///
    /// ```
    /// use tern_server::lb::ServerId;
    ///
    /// assert_eq!(ServerId::from_hex("0c1F"), ServerId::new(&[0x0c, 0x1f]));
    /// assert_eq!(ServerId::from_hex("0c1"), None);
    /// ```
    pub fn from_hex(text: &str) -> Option<Self> {
        Self::new(&unhex(text)?)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Bytes written as two hexadecimal digits each.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|&[high, low]| Some((digit(high)? * 16 + digit(low)?) as u8));
    bytes.collect::<Option<_>>().filter(|_| rest.is_empty())
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerId({self})")
    }
}

/// A configuration isn't one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LbConfigError {
    /// Its number isn't in [`CONFIG_IDS`].
    ConfigId(u8),
    /// The length of server ids isn't in [`SERVER_ID_BYTES`].
    ServerIdBytes(usize),
    /// The length of nonces isn't in [`NONCE_BYTES`].
    NonceBytes(usize),
    /// Both together are longer than [`BLOCK_BYTES`].
    BlockBytes(usize),
}

impl fmt::Display for LbConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigId(id) => {
                write!(f, "the configuration's number is {id}, and 0 to 6 are allowed")
            }
            Self::ServerIdBytes(bytes) => {
                write!(f, "server ids have {bytes} bytes, and 1 to 15 are allowed")
            }
            Self::NonceBytes(bytes) => {
                write!(f, "nonces have {bytes} bytes, and 4 to 18 are allowed")
            }
            Self::BlockBytes(bytes) => {
                write!(f, "server id and nonce have {bytes} bytes together, and 19 are allowed")
            }
        }
    }
}

impl std::error::Error for LbConfigError {}

/// A server id or a nonce hasn't the length that the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The server id has so many bytes.
    ServerId(usize),
    /// The nonce has so many bytes.
    Nonce(usize),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerId(bytes) => {
                write!(f, "a server id of {bytes} bytes isn't one of this configuration")
            }
            Self::Nonce(bytes) => {
                write!(f, "a nonce of {bytes} bytes isn't one of this configuration")
            }
        }
    }
}

impl std::error::Error for EncodeError {}

/// How ids are made and read. Servers and load balancer have the same.
#[derive(Debug, Clone)]
pub struct LbConfig {
    config_id: u8,
    server_id_bytes: usize,
    nonce_bytes: usize,
    cipher: Option<Cipher>,
}

impl LbConfig {
    /// A configuration.
    ///
    /// - `config_id`: its number, in [`CONFIG_IDS`]. While it is replaced by another, both are in use, and the
    ///   number in an id says which one it is under.
    /// - `server_id_bytes`: in [`SERVER_ID_BYTES`].
    /// - `nonce_bytes`: in [`NONCE_BYTES`], and at most [`BLOCK_BYTES`] together with the server id.
    /// - `key`: hides server id and nonce. Without one, whoever sees packets sees which server they are for,
    ///   and that two ids with one server id may be one phone on two networks.
    pub fn new(
        config_id: u8,
        server_id_bytes: usize,
        nonce_bytes: usize,
        key: Option<[u8; 16]>,
    ) -> Result<Self, LbConfigError> {
        if !CONFIG_IDS.contains(&config_id) {
            return Err(LbConfigError::ConfigId(config_id));
        }
        if !SERVER_ID_BYTES.contains(&server_id_bytes) {
            return Err(LbConfigError::ServerIdBytes(server_id_bytes));
        }
        if !NONCE_BYTES.contains(&nonce_bytes) {
            return Err(LbConfigError::NonceBytes(nonce_bytes));
        }
        let block_bytes = server_id_bytes + nonce_bytes;
        if block_bytes > BLOCK_BYTES {
            return Err(LbConfigError::BlockBytes(block_bytes));
        }
        Ok(Self { config_id, server_id_bytes, nonce_bytes, cipher: key.map(Cipher::new) })
    }

    /// The configuration's number.
    pub fn config_id(&self) -> u8 {
        self.config_id
    }

    /// Bytes of a server id.
    pub fn server_id_bytes(&self) -> usize {
        self.server_id_bytes
    }

    /// Bytes of a nonce.
    pub fn nonce_bytes(&self) -> usize {
        self.nonce_bytes
    }

    /// Bytes of a connection id, 6 to 20.
    pub fn cid_bytes(&self) -> usize {
        1 + self.server_id_bytes + self.nonce_bytes
    }

    /// Whether there is a key.
    pub fn is_encrypted(&self) -> bool {
        self.cipher.is_some()
    }

    /// The connection id of a server for a nonce. The same two give the same id, so under a key no nonce may be
    /// used twice by a server.
    pub fn encode(&self, server_id: &[u8], nonce: &[u8]) -> Result<ConnectionId, EncodeError> {
        if server_id.len() != self.server_id_bytes {
            return Err(EncodeError::ServerId(server_id.len()));
        }
        if nonce.len() != self.nonce_bytes {
            return Err(EncodeError::Nonce(nonce.len()));
        }
        Ok(self.write(server_id, nonce))
    }

    /// The server that a connection id belongs to, unless it isn't one of this configuration. An id that
    /// somebody made up, or that is under another key, may be read as that of any server.
    pub fn decode(&self, cid: &[u8]) -> Option<ServerId> {
        if cid.len() != self.cid_bytes() || cid[0] != self.first_octet(self.config_id) {
            return None;
        }
        let mut block = [0; BLOCK_BYTES];
        let block = &mut block[..cid.len() - 1];
        block.copy_from_slice(&cid[1..]);
        if let Some(cipher) = &self.cipher {
            cipher.open(block, self.server_id_bytes);
        }
        ServerId::new(&block[..self.server_id_bytes])
    }

    /// [`LbConfig::encode`] for lengths that are right.
    pub(super) fn write(&self, server_id: &[u8], nonce: &[u8]) -> ConnectionId {
        let mut cid = [0; 1 + BLOCK_BYTES];
        let cid = &mut cid[..self.cid_bytes()];
        cid[0] = self.first_octet(self.config_id);
        let (first, second) = cid[1..].split_at_mut(self.server_id_bytes);
        first.copy_from_slice(server_id);
        second.copy_from_slice(nonce);
        if let Some(cipher) = &self.cipher {
            cipher.seal(&mut cid[1..]);
        }
        ConnectionId::new(cid)
    }

    /// Three bits that say under which configuration the id is, and five for the number of bytes that follow.
    pub(super) fn first_octet(&self, config_id: u8) -> u8 {
        // At most 19, so five bits.
        config_id << 5 | (self.cid_bytes() - 1) as u8
    }
}
