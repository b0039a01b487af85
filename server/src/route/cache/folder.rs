//! The folder of the disk cache: who uses it, and whether what lies in it may be believed.
//!
//! ```text
//! lock       held by the process that uses the folder
//! ledger     there only while the cache is closed, and only if it was closed well
//! entries/   foyer's files
//! ```
//!
//! Nothing else in the folder is ever touched.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::{OpenCacheError, ledger::Ledger};
use crate::files::{self, Mode};

/// A folder that this process has for itself, until this is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if it isn't there, and takes it.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenCacheError> {
        fs::create_dir_all(dir).map_err(failed("creating", dir))?;
        let path = dir.join("lock");
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(failed("opening", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenCacheError::InUse(dir.to_path_buf())),
            Err(TryLockError::Error(source)) => {
                Err(OpenCacheError::Io { doing: "locking", path, source })
            }
        }
    }

    /// Where foyer keeps its files.
    pub(super) fn entries(&self) -> PathBuf {
        self.dir.join("entries")
    }

    /// Takes the ledger of a cache that was closed well; else throws the routes away and gives an empty one.
    ///
    /// The ledger's file is gone for good before this returns: routes will change from now on, so it must
    /// never be found beside them again, not even after a power loss.
    pub(super) fn take_ledger(
        &self,
        disk_bytes: u64,
        generation: usize,
    ) -> Result<Ledger, OpenCacheError> {
        let path = self.ledger();
        let ledger = match fs::read(&path) {
            Ok(file) => Ledger::decode(&file, disk_bytes, generation),
            Err(error) if error.kind() == ErrorKind::NotFound => Err("it wasn't closed"),
            // Also something that isn't a file.
            Err(_) => Err("its ledger can't be read"),
        };
        remove(&path).map_err(failed("removing", &path))?;
        sync(&self.dir).map_err(failed("syncing", &self.dir))?;
        match ledger {
            Ok(ledger) => Ok(ledger),
            Err(why) => {
                self.throw_away(why)?;
                Ok(Ledger::new(generation))
            }
        }
    }

    /// Removes all routes, and says why if there are any.
    pub(super) fn throw_away(&self, why: &str) -> Result<(), OpenCacheError> {
        let path = self.entries();
        if fs::symlink_metadata(&path).is_ok() {
            tracing::warn!(dir = %self.dir.display(), why, "the route cache on the disk is thrown away");
        }
        remove(&path).map_err(failed("removing", &path))
    }

    /// Writes the ledger of a cache that is closed, so that the next start believes the routes.
    pub(super) fn keep_ledger(&self, ledger: &Ledger, disk_bytes: u64) -> io::Result<()> {
        files::replace(&self.ledger(), &ledger.encode(disk_bytes), Mode::Private)
    }

    fn ledger(&self) -> PathBuf {
        self.dir.join("ledger")
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenCacheError {
    let path = path.to_path_buf();
    move |source| OpenCacheError::Io { doing, path, source }
}

/// Removes whatever has this name, if anything has.
fn remove(path: &Path) -> io::Result<()> {
    // A link is removed and not followed.
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Makes names that were added or removed durable.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
