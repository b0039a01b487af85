//! What the applications of a run record, with the time.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{app::Recorder, checker::Record, sim::Net};

/// Records of all applications in one order; clones share them. A process that dies leaves its records.
#[derive(Clone)]
pub(super) struct Tape {
    net: Net,
    records: Arc<Mutex<Vec<(Duration, Record)>>>,
}

impl Tape {
    pub(super) fn new(net: &Net) -> Self {
        Self { net: net.clone(), records: Arc::default() }
    }

    pub(super) fn records(&self) -> MutexGuard<'_, Vec<(Duration, Record)>> {
        // A push leaves nothing half done.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder for Tape {
    fn record(&mut self, record: Record) -> io::Result<()> {
        let now = self.net.now();
        self.records().push((now, record));
        Ok(())
    }
}
