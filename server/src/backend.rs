//! Opens the configured store: the one place that names a backend.

use std::{fmt, fs, io, path::PathBuf, sync::Arc};

use crate::{
    config::{Config, StoreKind},
    store::{
        Store,
        embedded::{EmbeddedStore, OpenError},
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
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { folder, source } => {
                write!(f, "the folder {} can't be made: {source}", folder.display())
            }
            Self::Embedded(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BackendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Folder { source, .. } => Some(source),
            Self::Embedded(error) => Some(error),
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
}

/// Opens the configured store. Reads the disk, so not on an async thread.
pub fn open(config: &Config) -> Result<Backend, BackendError> {
    match config.store.kind {
        StoreKind::Embedded => {
            let folder = config.in_data_dir("store");
            fs::create_dir_all(&folder)
                .map_err(|source| BackendError::Folder { folder: folder.clone(), source })?;
            let store = EmbeddedStore::open(&folder, config.embedded_store())
                .map_err(BackendError::Embedded)?;
            let store = Arc::new(store);
            let probe = store.clone();
            Ok(Backend { store, health: Arc::new(move || probe.health()) })
        }
    }
}
