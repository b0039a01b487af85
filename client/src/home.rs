//! The folder in which a device keeps what it knows: one database, open to its owner alone, and a
//! lock so that one process at a time acts as the device.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Why a home can't be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum HomeError {
    /// Another process acts as this device.
    InUse(PathBuf),
    /// The folder or a file in it can't be made or opened.
    Io(PathBuf, io::Error),
}

impl std::fmt::Display for HomeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "another process uses {}; stop it, or give this one a home of its own",
                path.display()
            ),
            Self::Io(path, error) => write!(f, "can't use {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for HomeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::InUse(_) => None,
            Self::Io(_, error) => Some(error),
        }
    }
}

/// A locked home. The lock ends with the process at the latest, however it dies.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Makes the folder if need be and locks it.
    pub(crate) fn lock(path: &Path) -> Result<Self, HomeError> {
        let failed = |at: &Path| {
            let at = at.to_owned();
            move |error| HomeError::Io(at, error)
        };
        make_private_folder(path).map_err(failed(path))?;
        let lock_path = path.join("lock");
        let lock = open_private(&lock_path).map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(HomeError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(&lock_path)(error)),
        }
        // SQLite gives its journal files the mode of the database, so making that first is enough.
        let database = path.join(DATABASE);
        open_private(&database).map_err(failed(&database))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where the database is.
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }
}

const DATABASE: &str = "tern.db";

#[cfg(unix)]
fn make_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn make_private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_and_nobody_else_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let home = Home::lock(&path).unwrap();
        assert!(matches!(Home::lock(&path), Err(HomeError::InUse(_))));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&path), 0o700);
            assert_eq!(mode(&home.database()), 0o600);
        }
        drop(home);
        Home::lock(&path).unwrap();
    }
}
