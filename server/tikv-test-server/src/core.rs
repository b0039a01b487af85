//! Everything the server knows, and what a command does with it. No network, no time of its own.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Clock,
    mvcc::{Change, Columns, Engine, Timestamp},
    oracle::Oracle,
    persist::{Entry, Log, LogError},
    proto::errorpb,
    regions::{RegionChangeError, Regions},
    service::command::Command,
};

/// The state: data, regions, oracle. Behind one mutex, so that one command runs at a time.
#[derive(Debug)]
pub(crate) struct Core {
    engine: Engine,
    regions: Regions,
    oracle: Oracle,
    clock: Arc<dyn Clock>,
    safe_point: u64,
    /// A prewrite above this is refused as too large for a raft entry.
    raft_entry_limit: Option<usize>,
    /// None: in memory only.
    log: Option<Log>,
}

/// What a log says, replayed.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) columns: Columns,
    pub(crate) regions: Regions,
    pub(crate) oracle_bound_ms: u64,
    pub(crate) safe_point: u64,
    pub(crate) ports: Vec<u16>,
}

impl Restored {
    pub(crate) fn empty(stores: u64) -> Self {
        Self {
            columns: Columns::default(),
            regions: Regions::new(stores),
            oracle_bound_ms: 0,
            safe_point: 0,
            ports: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Changes(changes) => changes.iter().for_each(|change| self.columns.apply(change)),
            Entry::Regions(regions) => self.regions = regions,
            Entry::OracleBound(bound_ms) => self.oracle_bound_ms = bound_ms,
            Entry::SafePoint(safe_point) => self.safe_point = safe_point,
            Entry::Ports(ports) => self.ports = ports,
        }
    }
}

impl Core {
    pub(crate) fn new(restored: Restored, clock: Arc<dyn Clock>, log: Option<Log>) -> Self {
        let oracle = Oracle::new(restored.oracle_bound_ms);
        Self {
            // No read before the restart had a timestamp above the oracle's.
            engine: Engine::new(restored.columns, oracle.last()),
            regions: restored.regions,
            oracle,
            clock,
            safe_point: restored.safe_point,
            raft_entry_limit: None,
            log,
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    pub(crate) fn regions(&self) -> &Regions {
        &self.regions
    }

    pub(crate) fn safe_point(&self) -> u64 {
        self.safe_point
    }

    pub(crate) fn set_raft_entry_limit(&mut self, limit: Option<usize>) {
        self.raft_entry_limit = limit;
    }

    pub(crate) fn advance_clock(&mut self, by: Duration) {
        self.oracle.advance(by);
    }

    /// Runs a command that a client sent to a store. What it changes is in the log before it is applied, and
    /// applied before it is answered.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log can't be written; nothing is changed then.
    pub(crate) fn execute<C: Command>(
        &mut self,
        store_id: u64,
        command: &C,
    ) -> Result<C::Reply, LogError> {
        let region = match command.asked() {
            None => None,
            Some(asked) => match self.regions.admit(&asked, store_id) {
                Ok(region) => Some(region.clone()),
                Err(error) => return Ok(C::refused(*error)),
            },
        };
        if let Some(region) = &region {
            if let Some(key) = command.keys().into_iter().find(|key| !region.contains(key)) {
                return Ok(C::refused(Regions::key_not_in_region(region, key)));
            }
            if let (Some(limit), Some(size)) = (self.raft_entry_limit, command.entry_size())
                && size > limit
            {
                return Ok(C::refused(raft_entry_too_large(region.id, size)));
            }
        }
        let (reply, changes) = command.run(&mut self.engine, region.as_ref());
        self.change(changes)?;
        Ok(reply)
    }

    /// Makes changes durable, and applies them.
    pub(crate) fn change(&mut self, changes: Vec<Change>) -> Result<(), LogError> {
        if changes.is_empty() {
            return Ok(());
        }
        let entry = Entry::Changes(changes);
        self.log(&entry)?;
        if let Entry::Changes(changes) = entry {
            self.engine.apply(&changes);
        }
        Ok(())
    }

    /// Takes timestamps: the returned one and the `count - 1` below it.
    pub(crate) fn timestamps(&mut self, count: u32) -> Result<Timestamp, LogError> {
        let (ts, bound) = self.oracle.take(self.clock.now_ms(), count);
        if let Some(bound_ms) = bound {
            self.log(&Entry::OracleBound(bound_ms))?;
        }
        Ok(ts)
    }

    /// Changes the regions.
    pub(crate) fn change_regions<T>(
        &mut self,
        change: impl FnOnce(&mut Regions) -> Result<T, RegionChangeError>,
    ) -> Result<Result<T, RegionChangeError>, LogError> {
        let mut regions = self.regions.clone();
        let changed = change(&mut regions);
        if changed.is_ok() {
            self.log(&Entry::Regions(regions.clone()))?;
            self.regions = regions;
        }
        Ok(changed)
    }

    /// Raises the safe point of garbage collection, which never goes back, and returns it.
    pub(crate) fn raise_safe_point(&mut self, to: u64) -> Result<u64, LogError> {
        if to > self.safe_point {
            self.log(&Entry::SafePoint(to))?;
            self.safe_point = to;
        }
        Ok(self.safe_point)
    }

    fn log(&mut self, entry: &Entry) -> Result<(), LogError> {
        match &mut self.log {
            Some(log) => log.append(entry),
            None => Ok(()),
        }
    }
}

fn raft_entry_too_large(region_id: u64, size: usize) -> errorpb::Error {
    errorpb::Error {
        message: format!("raft entry is too large, region {region_id}, entry size {size}"),
        raft_entry_too_large: Some(errorpb::RaftEntryTooLarge {
            region_id,
            entry_size: size as u64,
        }),
        ..Default::default()
    }
}
