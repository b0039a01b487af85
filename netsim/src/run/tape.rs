//! What the applications of a run record, with the time.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    app::Recorder,
    checker::{Event, Record},
    sim::Net,
};

/// Records of all applications in one order; clones share them. A process that dies leaves its records.
#[derive(Clone)]
pub(super) struct Tape {
    net: Net,
    records: Arc<Mutex<Vec<(Duration, Record)>>>,
    /// Texts that were sent and haven't been given to anybody yet.
    waiting: Arc<Mutex<BTreeSet<String>>>,
}

impl Tape {
    pub(super) fn new(net: &Net) -> Self {
        Self { net: net.clone(), records: Arc::default(), waiting: Arc::default() }
    }

    pub(super) fn records(&self) -> MutexGuard<'_, Vec<(Duration, Record)>> {
        // A push leaves nothing half done.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages were sent and haven't been given to anybody yet.
    pub(super) fn waiting(&self) -> usize {
        self.texts().len()
    }

    fn texts(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A set is whole between two calls.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder for Tape {
    fn record(&mut self, record: Record) -> io::Result<()> {
        let now = self.net.now();
        match &record.event {
            Event::Submitted { text, .. } => drop(self.texts().insert(text.clone())),
            Event::Given(entry) => drop(self.texts().remove(&entry.text)),
            _ => {}
        }
        self.records().push((now, record));
        Ok(())
    }
}
