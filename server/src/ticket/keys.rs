//! The keys of tickets, in the store.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use ring::aead::LessSafeKey;
use zeroize::Zeroizing;

use super::cipher;
use crate::{
    config,
    random::Random,
    store::{CommitError, Condition, Mutation, ReadError, Scan, Store, Transaction, prefix_end},
};

/// Where the keys lie; the id follows, big-endian, so that they are in the order of their making.
const PREFIX: &[u8] = b"sys/ticket-key/";
/// More keys than the configuration's bounds allow to be alive (a hundred and a few) aren't read.
const MOST: usize = 256;
/// How often a lost race is run again. Each loss means that another node made a key.
const TRIES: usize = 8;

/// A key that tickets are sealed with.
pub(super) struct Key {
    pub(super) id: u64,
    created_ms: u64,
    pub(super) cipher: LessSafeKey,
}

/// The keys can't be read or made.
#[derive(Debug)]
#[non_exhaustive]
pub enum RefreshError {
    /// The store can't be read.
    Read(ReadError),
    /// The store doesn't take the new key.
    Commit(CommitError),
    /// A key in the store isn't one.
    Damaged {
        /// The id of the key.
        id: u64,
    },
    /// Other nodes were faster every time.
    Contended,
}

impl fmt::Display for RefreshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(source) => write!(f, "the ticket keys can't be read: {source}"),
            Self::Commit(source) => write!(f, "no ticket key can be made: {source}"),
            Self::Damaged { id } => write!(f, "ticket key {id} in the store is damaged"),
            Self::Contended => f.write_str("other nodes keep making ticket keys"),
        }
    }
}

impl std::error::Error for RefreshError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(source) => Some(source),
            Self::Commit(source) => Some(source),
            _ => None,
        }
    }
}

/// The keys as they should be now: with a new one if it is time, without those that are done. Never
/// empty, in the order of their ids.
pub(super) async fn refresh(
    settings: &config::Ticket,
    store: &dyn Store,
    random: &Random,
    now_ms: u64,
) -> Result<Vec<Arc<Key>>, RefreshError> {
    for _ in 0..TRIES {
        let keys = read(store).await?;
        let due =
            keys.last().is_none_or(|newest| newest.created_ms + settings.rotate_every_ms <= now_ms);
        if !due {
            return retire(keys, settings, store, now_ms).await;
        }
        let id = keys.last().map_or(1, |newest| newest.id + 1);
        match make(store, id, random, now_ms).await {
            // After an unknown outcome, reading again shows whether the key is there.
            Ok(()) | Err(CommitError::Conflict { .. } | CommitError::Unknown(_)) => {}
            Err(error) => return Err(RefreshError::Commit(error)),
        }
    }
    Err(RefreshError::Contended)
}

/// The newest key that every node knows by now; while there is none, the oldest, which most know.
pub(super) fn to_seal_with<'a>(
    keys: &'a [Arc<Key>],
    settings: &config::Ticket,
    now_ms: u64,
) -> Option<&'a Key> {
    let known = |key: &&Arc<Key>| key.created_ms + known_after_ms(settings) <= now_ms;
    let key = keys.iter().rev().find(known).or(keys.first())?;
    Some(key)
}

/// How long after its making a key is known to every node.
fn known_after_ms(settings: &config::Ticket) -> u64 {
    2 * settings.refresh_every_ms
}

/// Deletes the keys under which no valid ticket can be.
async fn retire(
    keys: Vec<Arc<Key>>,
    settings: &config::Ticket,
    store: &dyn Store,
    now_ms: u64,
) -> Result<Vec<Arc<Key>>, RefreshError> {
    // Tickets are sealed with a key until its successor is known, and some refreshes longer on a
    // node that couldn't read the store.
    let slack_ms = known_after_ms(settings) + 10 * settings.refresh_every_ms;
    let is_done =
        |successor: &Key| successor.created_ms + slack_ms + settings.lifetime_ms <= now_ms;
    let done = keys.windows(2).take_while(|pair| is_done(&pair[1])).count();
    if done > 0 {
        let mutations = keys[..done].iter().map(|key| Mutation::Delete(key_of(key.id)));
        let transaction = Transaction { conditions: Vec::new(), mutations: mutations.collect() };
        // What isn't deleted now is deleted another time.
        if let Err(error) = store.commit(transaction).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "old ticket keys can't be deleted now"
            );
        }
    }
    Ok(keys[done..].to_vec())
}

async fn read(store: &dyn Store) -> Result<Vec<Arc<Key>>, RefreshError> {
    let scan = Scan {
        from: Bytes::from_static(PREFIX),
        to: prefix_end(PREFIX).unwrap_or_default(),
        limit: MOST,
        // The newest are needed when there are more.
        reverse: true,
    };
    let mut keys = store
        .scan(scan)
        .await
        .map_err(RefreshError::Read)?
        .iter()
        .map(|(key, value)| parse(key, value).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    keys.reverse();
    Ok(keys)
}

async fn make(store: &dyn Store, id: u64, random: &Random, now_ms: u64) -> Result<(), CommitError> {
    let secret = Zeroizing::new(random.bytes::<32>());
    let mut value = Vec::with_capacity(40);
    value.extend(now_ms.to_le_bytes());
    value.extend_from_slice(secret.as_ref());
    let transaction = Transaction {
        conditions: vec![Condition::Absent(key_of(id))],
        mutations: vec![Mutation::Put(key_of(id), value.into())],
    };
    store.commit(transaction).await
}

fn key_of(id: u64) -> Bytes {
    [PREFIX, &id.to_be_bytes()].concat().into()
}

fn parse(key: &[u8], value: &[u8]) -> Result<Key, RefreshError> {
    let id = key
        .strip_prefix(PREFIX)
        .and_then(|id| id.try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or(RefreshError::Damaged { id: 0 })?;
    let parsed = value.split_first_chunk::<8>().and_then(|(created, secret)| {
        let secret = Zeroizing::new(<[u8; 32]>::try_from(secret).ok()?);
        Some(Key { id, created_ms: u64::from_le_bytes(*created), cipher: cipher(&secret)? })
    });
    parsed.ok_or(RefreshError::Damaged { id })
}
