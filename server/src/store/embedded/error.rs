//! Why an embedded store didn't open.

use std::{fmt, io, path::PathBuf};

/// Why [`EmbeddedStore::open`](super::EmbeddedStore::open) failed. Nothing was changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is out of its bounds.
    Setting {
        /// The field of [`EmbeddedSettings`](super::EmbeddedSettings).
        name: &'static str,
        /// What it was.
        value: u64,
        /// The least that is allowed.
        least: u64,
        /// The most that is allowed.
        most: u64,
    },
    /// Another process (or another store of this one) has the directory open.
    InUse(PathBuf),
    /// The file system refused.
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Acknowledged writes are damaged or missing: an operator must look, and restore a
    /// backup. The store doesn't open, because it would serve a past that never was.
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong, and where in the file.
        what: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { name, value, least, most } => {
                write!(f, "the setting {name} is {value}, it must be {least} to {most}")
            }
            Self::InUse(path) => {
                write!(f, "the store in {} is in use by another process", path.display())
            }
            Self::Io { doing, path, source } => {
                write!(f, "{doing} {} failed: {source}", path.display())
            }
            Self::Damaged { path, what } => {
                write!(f, "the store is damaged: {}: {what}", path.display())
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
