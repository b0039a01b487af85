//! Tickets: an earlier sign-in, sealed by the server, that a device shows instead of a signature.
//!
//! A ticket is
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 8 | id of the key, little-endian |
//! | 12 | nonce, random |
//! | 32 | account, device, issued, expires (8 bytes each, little-endian), encrypted |
//! | 16 | tag |
//!
//! sealed with AES-256-GCM; version and key id are authenticated with it. Whether the device is still
//! there isn't for the ticket to say: whoever opens one looks.
//!
//! The keys lie in the store under `sys/ticket-key/` and a growing number, so that every node has the
//! same ones. Each is made under the condition that its number is free: of several nodes that want a
//! new one, one makes it and the others take it over. A key is sealed with only some time after it
//! was made, when every node has looked for new ones, and deleted when the last ticket under it has
//! expired.

mod keys;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use tern_protocol::{
    code::Code,
    frame::Secret,
    id::{AccountId, DeviceId},
};
use zeroize::Zeroizing;

use crate::{clock::Clock, config, metrics::Gauge, random::Random, store::Store};

use keys::Key;
pub use keys::RefreshError;

const VERSION: u8 = 1;
const HEAD_LEN: usize = 1 + 8;
const CLAIMS_LEN: usize = 32;
const TAG_LEN: usize = 16;
/// Length of a ticket, in bytes.
pub const TICKET_LEN: usize = HEAD_LEN + NONCE_LEN + CLAIMS_LEN + TAG_LEN;

/// What a ticket says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// Whose device.
    pub account: AccountId,
    /// The device that signed in.
    pub device: DeviceId,
    /// When the ticket was made, milliseconds since the epoch.
    pub issued_ms: u64,
    /// From when on it isn't valid, milliseconds since the epoch.
    pub expires_ms: u64,
}

/// Why a ticket isn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketError {
    /// It wasn't sealed with a key that is known here.
    Invalid,
    /// Its time is over.
    Expired,
}

impl TicketError {
    /// What the client is told.
    pub const fn code(self) -> Code {
        match self {
            Self::Invalid => Code::TicketInvalid,
            Self::Expired => Code::TicketExpired,
        }
    }
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code().meaning())
    }
}

impl std::error::Error for TicketError {}

/// Seals and opens tickets.
pub struct Tickets {
    settings: config::Ticket,
    random: Random,
    /// In the order of their ids; never empty. Replaced as a whole, so that it is locked only for
    /// the copy of a pointer.
    keys: RwLock<Arc<Vec<Arc<Key>>>>,
}

impl Tickets {
    /// Loads the keys from the store, or makes the first one.
    pub async fn open(
        settings: &config::Ticket,
        store: &dyn Store,
        random: Random,
        now_ms: u64,
    ) -> Result<Self, RefreshError> {
        let keys = keys::refresh(settings, store, &random, now_ms).await?;
        Ok(Self { settings: settings.clone(), random, keys: RwLock::new(Arc::new(keys)) })
    }

    /// Looks for keys of other nodes, makes a new one if it is time, deletes those that are done.
    pub async fn refresh(&self, store: &dyn Store, now_ms: u64) -> Result<(), RefreshError> {
        let keys = keys::refresh(&self.settings, store, &self.random, now_ms).await?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }

    /// Refreshes for ever, as often as the settings say. Failures are logged; tickets go on under
    /// the keys that are there.
    pub async fn keep_fresh(self: Arc<Self>, store: Arc<dyn Store>, clock: Clock, count: Gauge) {
        loop {
            count.set(self.keys().len() as i64);
            tokio::time::sleep(Duration::from_millis(self.settings.refresh_every_ms)).await;
            if let Err(error) = self.refresh(store.as_ref(), clock.now_ms()).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the ticket keys can't be refreshed"
                );
            }
        }
    }

    /// How long a new ticket is valid, in milliseconds.
    pub fn lifetime_ms(&self) -> u64 {
        self.settings.lifetime_ms
    }

    /// A ticket for a device that has signed in.
    pub fn seal(&self, account: AccountId, device: DeviceId, now_ms: u64) -> Secret {
        let keys = self.keys();
        let Some(key) = keys::to_seal_with(&keys, &self.settings, now_ms) else {
            // Never: there is always a key. No ticket is one that nobody can open.
            return Secret::new(Vec::new());
        };
        let claims = Claims {
            account,
            device,
            issued_ms: now_ms,
            expires_ms: now_ms.saturating_add(self.settings.lifetime_ms),
        };
        Secret::new(seal(key, &claims, self.random.bytes()))
    }

    /// What a ticket says, if it is one and still valid.
    pub fn open_ticket(&self, ticket: &[u8], now_ms: u64) -> Result<Claims, TicketError> {
        let (head, _) = ticket
            .split_first_chunk::<HEAD_LEN>()
            .filter(|_| ticket.len() == TICKET_LEN)
            .ok_or(TicketError::Invalid)?;
        let id = head[1..].try_into().map(u64::from_le_bytes).map_err(|_| TicketError::Invalid)?;
        let keys = self.keys();
        let key = keys
            .binary_search_by_key(&id, |key| key.id)
            .ok()
            .and_then(|at| keys.get(at))
            .filter(|_| head[0] == VERSION)
            .ok_or(TicketError::Invalid)?;
        let claims = open(key, ticket).ok_or(TicketError::Invalid)?;
        match now_ms < claims.expires_ms {
            true => Ok(claims),
            false => Err(TicketError::Expired),
        }
    }

    fn keys(&self) -> Arc<Vec<Arc<Key>>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("keys", &self.keys().len()).finish_non_exhaustive()
    }
}

fn cipher(secret: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, secret).ok().map(LessSafeKey::new)
}

fn seal(key: &Key, claims: &Claims, nonce: [u8; NONCE_LEN]) -> Vec<u8> {
    let mut ticket = Vec::with_capacity(TICKET_LEN);
    ticket.push(VERSION);
    ticket.extend(key.id.to_le_bytes());
    ticket.extend(nonce);
    let head: [u8; HEAD_LEN] = std::array::from_fn(|i| ticket[i]);
    let mut sealed = Zeroizing::new([0; CLAIMS_LEN]);
    for (field, value) in sealed.chunks_exact_mut(8).zip([
        claims.account.get(),
        claims.device.get(),
        claims.issued_ms,
        claims.expires_ms,
    ]) {
        field.copy_from_slice(&value.to_le_bytes());
    }
    let nonce = Nonce::assume_unique_for_key(nonce);
    match key.cipher.seal_in_place_separate_tag(nonce, Aad::from(head), sealed.as_mut()) {
        Ok(tag) => {
            ticket.extend_from_slice(sealed.as_ref());
            ticket.extend_from_slice(tag.as_ref());
            ticket
        }
        // Only what is far too long can't be sealed.
        Err(_) => Vec::new(),
    }
}

fn open(key: &Key, ticket: &[u8]) -> Option<Claims> {
    let (head, rest) = ticket.split_first_chunk::<HEAD_LEN>()?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let claims = key.cipher.open_in_place(nonce, Aad::from(*head), &mut sealed).ok()?;
    let mut fields =
        claims.chunks_exact(8).filter_map(|field| field.try_into().ok().map(u64::from_le_bytes));
    Some(Claims {
        account: AccountId::new(fields.next()?)?,
        device: DeviceId::new(fields.next()?)?,
        issued_ms: fields.next()?,
        expires_ms: fields.next()?,
    })
}
