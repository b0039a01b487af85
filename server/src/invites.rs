//! Invites: tokens with which one account can be made, once, for a time.
//!
//! The store holds their SHA-256 alone, so that reading it gives nobody an invite:
//! `invite/<hash>` → when it expires (8 bytes, little-endian). An invite is spent in the transaction
//! that makes the account: its condition is that the invite is still as it was read, so of two who
//! use it at once one gets the account.

use std::fmt;

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use tern_protocol::frame::Secret;

use crate::{
    random::Random,
    store::{CommitError, Condition, Mutation, ReadError, Scan, Store, Transaction, prefix_end},
};

const PREFIX: &[u8] = b"invite/";
const RANDOM_LEN: usize = 24;
/// Invites that one step of a sweep reads.
const SWEEP_STEP: usize = 1_000;

/// What a transaction needs to spend an invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spend {
    /// The invite is as it was.
    pub condition: Condition,
    /// It is gone.
    pub mutation: Mutation,
}

/// An invite can't be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum InviteError {
    /// The store doesn't take it.
    Commit(CommitError),
}

impl fmt::Display for InviteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(source) => write!(f, "the invite can't be stored: {source}"),
        }
    }
}

impl std::error::Error for InviteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Commit(source) => Some(source),
        }
    }
}

/// Makes an invite and stores it.
pub async fn make(
    store: &dyn Store,
    random: &Random,
    expires_ms: u64,
) -> Result<Secret, InviteError> {
    let token = Secret::new(text_of(&random.bytes()));
    let key = key_of(token.expose());
    let value = Bytes::copy_from_slice(&expires_ms.to_le_bytes());
    let transaction = Transaction {
        conditions: vec![Condition::Absent(key.clone())],
        mutations: vec![Mutation::Put(key, value)],
    };
    match store.commit(transaction).await {
        Ok(()) => Ok(token),
        Err(source) => Err(InviteError::Commit(source)),
    }
}

/// What spends this invite; `None` if there is none, or it is over.
pub async fn find(
    store: &dyn Store,
    token: &Secret,
    now_ms: u64,
) -> Result<Option<Spend>, ReadError> {
    let key = key_of(token.expose());
    let Some(value) = store.get(key.clone()).await? else {
        return Ok(None);
    };
    Ok(expires_ms(&value).filter(|expires_ms| now_ms < *expires_ms).map(|_| Spend {
        condition: Condition::Equals(key.clone(), value),
        mutation: Mutation::Delete(key),
    }))
}

/// Deletes the invites that are over. How many there were is returned.
///
/// An error of the store ends it; the rest is deleted another time.
pub async fn sweep(store: &dyn Store, now_ms: u64) -> Result<usize, ReadError> {
    let mut from = Bytes::from_static(PREFIX);
    let to = prefix_end(PREFIX).unwrap_or_default();
    let mut deleted = 0;
    loop {
        let pairs =
            store.scan(Scan { from, to: to.clone(), limit: SWEEP_STEP, reverse: false }).await?;
        let Some((last, _)) = pairs.last() else {
            return Ok(deleted);
        };
        from = [last.as_ref(), &[0]].concat().into();
        let over = pairs
            .iter()
            .filter(|(_, value)| expires_ms(value).is_none_or(|expires_ms| expires_ms <= now_ms));
        let mutations: Vec<Mutation> = over.map(|(key, _)| Mutation::Delete(key.clone())).collect();
        let count = mutations.len();
        let transaction = Transaction { conditions: Vec::new(), mutations };
        if count > 0 && store.commit(transaction).await.is_err() {
            return Ok(deleted);
        }
        deleted += count;
    }
}

fn key_of(token: &[u8]) -> Bytes {
    [PREFIX, digest(&SHA256, token).as_ref()].concat().into()
}

fn expires_ms(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_le_bytes)
}

/// Letters and digits that survive a mail, a chat and a URL; five bits each.
fn text_of(random: &[u8; RANDOM_LEN]) -> Vec<u8> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    random.iter().map(|byte| LETTERS[usize::from(byte & 31)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_store::MapStore;

    #[tokio::test]
    async fn an_invite_is_spent_once() {
        let store = MapStore::default();
        let token = make(&store, &Random::seeded(1), 100).await.unwrap();
        let spend = find(&store, &token, 0).await.unwrap().unwrap();
        let again = find(&store, &token, 0).await.unwrap().unwrap();
        let transaction = |spend: Spend| Transaction {
            conditions: vec![spend.condition],
            mutations: vec![spend.mutation],
        };
        store.commit(transaction(spend)).await.unwrap();
        let error = store.commit(transaction(again)).await.unwrap_err();
        assert!(matches!(error, CommitError::Conflict { index: 0 }), "{error}");
        assert_eq!(find(&store, &token, 0).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_invite_ends() {
        let store = MapStore::default();
        let token = make(&store, &Random::seeded(1), 100).await.unwrap();
        assert!(find(&store, &token, 99).await.unwrap().is_some());
        assert!(find(&store, &token, 100).await.unwrap().is_none());
        let never = Secret::new(b"never made".as_slice());
        assert!(find(&store, &never, 0).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn the_store_holds_no_invite_that_could_be_used() {
        let store = MapStore::default();
        let token = make(&store, &Random::seeded(1), 100).await.unwrap();
        assert_eq!(token.expose().len(), RANDOM_LEN);
        assert!(token.expose().iter().all(u8::is_ascii_alphanumeric));
        let found = store.scan(Scan {
            from: Bytes::new(),
            to: Bytes::from_static(b"\xff"),
            limit: 10,
            reverse: false,
        });
        let (key, value) = found.await.unwrap().remove(0);
        for stored in [key, value] {
            assert!(!stored.windows(RANDOM_LEN).any(|w| w == token.expose()));
        }
    }

    #[tokio::test]
    async fn a_sweep_deletes_what_is_over_and_nothing_else() {
        let store = MapStore::default();
        let random = Random::seeded(1);
        for n in 0..2 * SWEEP_STEP as u64 + 10 {
            make(&store, &random, n % 2 * 1_000 + 1).await.unwrap();
        }
        store.put(b"invitf", b"somebody else's");
        let count = SWEEP_STEP + 5;
        assert_eq!(sweep(&store, 500).await.unwrap(), count);
        assert_eq!(store.len(), count + 1);
        assert_eq!(sweep(&store, 500).await.unwrap(), 0);
    }
}
