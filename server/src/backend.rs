//! Opens the configured store: the one place that names a backend.

use std::{fmt, fs, io, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    config::{Config, StoreKind},
    random::Random,
    store::{
        ReadError, Store,
        embedded::{EmbeddedStore, OpenError},
        tikv::{ConnectError, TikvStore},
    },
};

/// The store can't be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackendError {
    /// Its folder can't be made.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The embedded store can't be opened.
    Embedded(OpenError),
    /// The cluster can't be reached.
    Tikv(ConnectError),
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { folder, source } => {
                write!(f, "the folder {} can't be made: {source}", folder.display())
            }
            Self::Embedded(error) => error.fmt(f),
            Self::Tikv(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BackendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Folder { source, .. } => Some(source),
            Self::Embedded(error) => Some(error),
            Self::Tikv(error) => Some(error),
        }
    }
}

/// A store and a look at its health.
pub struct Backend {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Whether it works; the error says why not. A store that doesn't never will again: the process
    /// must end and open it anew.
    pub health: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// What one of the nodes that share the store does now and then; `None` for a store that does so itself.
    pub upkeep: Option<Upkeep>,
}

/// Work that a shared store needs.
#[derive(Clone)]
pub struct Upkeep {
    store: TikvStore,
    keep: Duration,
    every: Duration,
}

impl Upkeep {
    /// How often it is to be done.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// Does it.
    ///
    /// # Errors
    ///
    /// Why it isn't done; the next time makes up for it.
    pub async fn run(&self) -> Result<(), ReadError> {
        self.store.collect_garbage(self.keep).await
    }
}

/// Opens the configured store. `random` spreads repeated calls to a cluster.
pub async fn open(config: &Config, random: &Random) -> Result<Backend, BackendError> {
    match config.store.kind {
        StoreKind::Embedded => {
            let config = config.clone();
            // It reads the disk, and nothing else runs yet that would have to wait.
            tokio::task::block_in_place(move || open_embedded(&config))
        }
        StoreKind::Tikv => {
            let store = TikvStore::connect(config.tikv_store(), random.clone()).await;
            let store = store.map_err(BackendError::Tikv)?;
            // A cluster that is away comes back, and whoever needs it meanwhile is told.
            let upkeep = (config.store.collect_every_ms > 0).then(|| Upkeep {
                store: store.clone(),
                keep: Duration::from_millis(config.store.keep_versions_for_ms),
                every: Duration::from_millis(config.store.collect_every_ms),
            });
            Ok(Backend { store: Arc::new(store), health: Arc::new(|| Ok(())), upkeep })
        }
    }
}

fn open_embedded(config: &Config) -> Result<Backend, BackendError> {
    let folder = config.in_data_dir("store");
    fs::create_dir_all(&folder)
        .map_err(|source| BackendError::Folder { folder: folder.clone(), source })?;
    let store =
        EmbeddedStore::open(&folder, config.embedded_store()).map_err(BackendError::Embedded)?;
    let store = Arc::new(store);
    let probe = store.clone();
    Ok(Backend { store, health: Arc::new(move || probe.health()), upkeep: None })
}
