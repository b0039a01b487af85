//! Routes: on which node a device is connected.
//!
//! The store has one for each device ([`RouteRecord`]); this node remembers those that it has read. A remembered one may be
//! old: who is told to deliver to a device that it doesn't have says so, and then it is read again.
//!
//! | operation | cost |
//! | --- | --- |
//! | [`Routes::find`], remembered | a look into memory, else onto the disk; see [`cache`] |
//! | [`Routes::find`], not remembered | 1 read |
//! | [`Routes::next_epoch`] | 1 read |
//! | [`Routes::enter`], [`Routes::leave`] | 1 read, 1 transaction of one key |

pub mod cache;

use std::{fmt, sync::Arc};

use tern_protocol::id::DeviceId;

use self::cache::RouteCache;
use crate::{
    cluster::NodeId,
    keys,
    records::{Record, RecordError, RouteRecord},
    store::{CommitError, Condition, Mutation, ReadError, Store, Transaction},
};

/// How often a route is written anew when another connection of the device came between, or it isn't known whether
/// it was written.
const ATTEMPTS: u32 = 8;

/// Where a device's connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The node that holds the connection.
    pub node: NodeId,
    /// The connection's epoch: of two, the higher one is the newer.
    pub epoch: u64,
}

/// A route can't be read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum RouteError {
    /// The store can't be read.
    Read(ReadError),
    /// The store can't be written.
    Commit(CommitError),
    /// What is stored can't be read.
    Record(RecordError),
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "a route: {error}"),
            Self::Commit(error) => write!(f, "a route: {error}"),
            Self::Record(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RouteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Commit(error) => Some(error),
            Self::Record(error) => Some(error),
        }
    }
}

impl From<ReadError> for RouteError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<RecordError> for RouteError {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

/// What became of [`Routes::enter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The route leads to the connection now. Before, it led there, if anywhere.
    Newest(Option<Route>),
    /// The device has a newer connection already.
    Overtaken,
}

/// The routes, as one node uses them. Cheap to clone.
#[derive(Clone)]
pub struct Routes {
    me: NodeId,
    store: Arc<dyn Store>,
    cache: RouteCache,
}

impl Routes {
    /// Routes for the node `me`.
    pub fn new(me: NodeId, store: Arc<dyn Store>, cache: RouteCache) -> Self {
        Self { me, store, cache }
    }

    /// A number for a new connection of a device: greater than that of each before, and not less than the time.
    pub async fn next_epoch(&self, device: DeviceId, now_ms: u64) -> Result<u64, RouteError> {
        let last = self.record(device).await?.map_or(0, |(record, _)| record.epoch);
        Ok(now_ms.max(last + 1))
    }

    /// Makes the route lead to a connection here, unless there is a newer one.
    pub async fn enter(&self, device: DeviceId, epoch: u64) -> Result<Entry, RouteError> {
        let mut before = None;
        self.replace(device, RouteRecord { node: Some(self.me), epoch }, |last| {
            before = last.and_then(|last| Some(Route { node: last.node?, epoch: last.epoch }));
            last.is_none_or(|last| last.epoch < epoch)
        })
        .await
        .map(|is_newest| match is_newest {
            true => Entry::Newest(before),
            false => Entry::Overtaken,
        })
    }

    /// Makes the route lead nowhere, if it leads to this connection.
    pub async fn leave(&self, device: DeviceId, epoch: u64) -> Result<(), RouteError> {
        let mine = RouteRecord { node: Some(self.me), epoch };
        self.replace(device, RouteRecord { node: None, epoch }, |last| last == Some(&mine)).await?;
        Ok(())
    }

    /// Where a device is connected, by memory if it has something.
    pub async fn find(&self, device: DeviceId) -> Result<Option<Route>, RouteError> {
        match self.remembered(device).await {
            Some(route) => Ok(Some(route)),
            None => self.read(device).await,
        }
    }

    /// What is remembered of a device. Ready at once unless the disk must be read for it.
    pub async fn remembered(&self, device: DeviceId) -> Option<Route> {
        self.cache.get(device).await
    }

    /// Where a device is connected, by the store.
    pub async fn read(&self, device: DeviceId) -> Result<Option<Route>, RouteError> {
        let found = self.record(device).await?;
        let route =
            found.and_then(|(record, _)| Some(Route { node: record.node?, epoch: record.epoch }));
        match route {
            // Of the own ones the hub knows more.
            Some(route) if route.node != self.me => self.cache.put(device, route),
            _ => self.cache.remove(device),
        }
        Ok(route)
    }

    /// Forgets what is remembered of a device.
    pub fn forget(&self, device: DeviceId) {
        self.cache.remove(device);
    }

    /// Closes the memory: what it has on the disk is there when it is opened again.
    pub async fn close(&self) {
        self.cache.close().await;
    }

    async fn record(
        &self,
        device: DeviceId,
    ) -> Result<Option<(RouteRecord, bytes::Bytes)>, RouteError> {
        let value = self.store.get(keys::route(device)).await?;
        Ok(value
            .map(|value| Ok::<_, RecordError>((RouteRecord::from_bytes(&value)?, value)))
            .transpose()?)
    }

    /// Replaces the route if `may` says so of the present one; says whether it did.
    async fn replace(
        &self,
        device: DeviceId,
        record: RouteRecord,
        mut may: impl FnMut(Option<&RouteRecord>) -> bool,
    ) -> Result<bool, RouteError> {
        let key = keys::route(device);
        let mut last_error = None;
        for _ in 0..ATTEMPTS {
            let stored = self.record(device).await?;
            if last_error.is_some() && stored.as_ref().is_some_and(|(stored, _)| *stored == record)
            {
                // Its outcome was unknown; it is there.
                return Ok(true);
            }
            if !may(stored.as_ref().map(|(stored, _)| stored)) {
                return Ok(false);
            }
            let transaction = Transaction {
                conditions: vec![match stored {
                    Some((_, value)) => Condition::Equals(key.clone(), value),
                    None => Condition::Absent(key.clone()),
                }],
                mutations: vec![Mutation::Put(key.clone(), record.to_bytes())],
            };
            match self.store.commit(transaction).await {
                Ok(()) => {
                    self.cache.remove(device);
                    return Ok(true);
                }
                Err(error @ (CommitError::Conflict { .. } | CommitError::Unknown(_))) => {
                    last_error = Some(error);
                }
                Err(error) => return Err(RouteError::Commit(error)),
            }
        }
        let error = last_error.unwrap_or(CommitError::Unavailable("too much contention".into()));
        Err(RouteError::Commit(error))
    }
}

#[cfg(test)]
mod tests;
