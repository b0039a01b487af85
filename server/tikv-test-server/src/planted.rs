//! Transactions of clients that died in the middle.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    core::Core,
    mvcc::{KeyError, Mutation, MutationKind, PessimisticCheck, Prewrite, Timestamp},
    persist::LogError,
};

/// How far the client had come when it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fate {
    /// All keys are prewritten, none is committed.
    #[default]
    Prewritten,
    /// All keys but the first, the primary, are prewritten: the transaction can't be committed, and nothing is known
    /// of it where it would be decided.
    PrimaryMissing,
    /// The first key, the primary, is committed, and the transaction thereby; the others still have locks.
    PrimaryCommitted,
    /// All keys are prewritten for async commit: the transaction is committed, and no record says so.
    AsyncCommitted,
    /// Of an async commit all keys but the last are prewritten: it can't be committed.
    AsyncIncomplete,
}

/// A dead client's transaction.
#[derive(Debug, Clone)]
pub struct Planted {
    /// What it wanted to write; without a value, to delete. The first is the primary.
    pub writes: Vec<(Bytes, Option<Bytes>)>,
    /// For how long others must leave its locks alone, by the oracle's time, which
    /// [`TestServer::advance_clock`](crate::TestServer::advance_clock) sets ahead.
    pub ttl: Duration,
    /// How far it had come.
    pub fate: Fate,
}

/// Why no transaction was planted.
#[derive(Debug)]
pub(crate) enum PlantError {
    Log(LogError),
    Refused(Vec<KeyError>),
}

impl From<LogError> for PlantError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// Does what the client did before it died. Returns the transaction's start.
pub(crate) fn plant(core: &mut Core, planted: &Planted) -> Result<Timestamp, PlantError> {
    let start_ts = core.timestamps(1)?;
    let keys: Vec<_> = planted.writes.iter().map(|(key, _)| key.clone()).collect();
    let Some(primary) = keys.first().cloned() else { return Ok(start_ts) };
    let mut mutations: Vec<_> = planted
        .writes
        .iter()
        .map(|(key, value)| Mutation {
            kind: if value.is_some() { MutationKind::Put } else { MutationKind::Delete },
            key: key.clone(),
            value: value.clone().unwrap_or_default(),
            check: PessimisticCheck::Skip,
        })
        .collect();
    let is_async = matches!(planted.fate, Fate::AsyncCommitted | Fate::AsyncIncomplete);
    if planted.fate == Fate::AsyncIncomplete {
        mutations.pop();
    }
    if planted.fate == Fate::PrimaryMissing {
        mutations.remove(0);
    }
    let prewrite = Prewrite {
        mutations,
        primary: primary.clone(),
        start_ts,
        ttl_ms: u64::try_from(planted.ttl.as_millis()).unwrap_or(u64::MAX),
        use_async_commit: is_async,
        secondaries: if is_async { keys[1..].to_vec() } else { Vec::new() },
        ..Prewrite::default()
    };
    let (_, changes) = core.engine_mut().prewrite(&prewrite).map_err(PlantError::Refused)?;
    core.change(changes)?;
    if planted.fate == Fate::PrimaryCommitted {
        let commit_ts = core.timestamps(1)?;
        let changes = core
            .engine()
            .commit(&[primary], start_ts, commit_ts)
            .map_err(|error| PlantError::Refused(vec![error]))?;
        core.change(changes)?;
    }
    Ok(start_ts)
}
