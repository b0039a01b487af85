//! Why the cache of routes didn't open.

use std::{fmt, io, path::PathBuf};

/// Why [`RouteCache::open`](super::RouteCache::open) failed.
///
/// All of it is for the operator to put right: what lies in the folder is never a reason, since a damaged cache is
/// thrown away. A caller that would rather run cold than not at all can open again without a disk.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenCacheError {
    /// A setting is out of its bounds.
    Setting {
        /// The field of [`RouteCacheSettings`](super::RouteCacheSettings).
        name: &'static str,
        /// What it was.
        value: u64,
        /// The least that is allowed.
        least: u64,
        /// The most that is allowed.
        most: u64,
    },
    /// Another process (or another cache of this one) has the folder open.
    InUse(PathBuf),
    /// The file system refused.
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The disk cache didn't start, not even in an empty folder.
    Disk {
        /// The folder.
        path: PathBuf,
        /// The reason.
        why: String,
    },
}

impl fmt::Display for OpenCacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { name, value, least, most } => {
                write!(f, "the setting {name} is {value}, it must be {least} to {most}")
            }
            Self::InUse(path) => write!(
                f,
                "the route cache in {} is in use by another process: give each node a folder of its own",
                path.display()
            ),
            Self::Io { doing, path, source } => write!(
                f,
                "{doing} {} failed: {source}: the server must be able to write there; without a folder, \
                 routes are cached in memory alone",
                path.display()
            ),
            Self::Disk { path, why } => write!(
                f,
                "the route cache in {} didn't start: {why}: see whether the disk is full; without a folder, \
                 routes are cached in memory alone",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenCacheError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
