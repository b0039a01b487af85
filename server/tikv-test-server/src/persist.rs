//! The log: what was answered is in it.
//!
//! A file of frames: length, checksum of the payload, checksum of both, payload. A command's changes are one
//! frame, written before the command is answered, so a killed process has lost nothing of it: the page cache is
//! the kernel's. A process killed while it wrote leaves a frame cut short at the end, which was never answered
//! and is cut off. Anything else that doesn't check is damage, and isn't passed over.
//!
//! At start the log is written anew from what it says, so it holds each version once.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{core::Restored, mvcc::Change, regions::Regions};

const LOG: &str = "log";
const NEW_LOG: &str = "log.new";
const LOCK: &str = "lock";
/// Length, checksum of the payload, checksum of these eight bytes; each of four bytes, little-endian.
const HEADER: usize = 12;
/// Changes of one frame when the log is written anew.
const CHANGES_PER_FRAME: usize = 1_000;

/// What one frame says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// What a command changed.
    Changes(Vec<Change>),
    /// The regions from now on.
    Regions(Regions),
    /// No timestamp was given out at or above so many milliseconds.
    OracleBound(u64),
    /// The safe point of garbage collection.
    SafePoint(u64),
    /// The ports of PD and of the stores, so that a restart has the same.
    Ports(Vec<u16>),
}

/// Why the log can't be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogError {
    /// The file system refused.
    Io(PathBuf, io::Error),
    /// A frame that is there as a whole doesn't check.
    Damaged(PathBuf, usize),
    /// Another server has the folder.
    InUse(PathBuf),
}

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Damaged(path, at) => write!(f, "{} is damaged at byte {at}", path.display()),
            Self::InUse(path) => write!(f, "another server has {}", path.display()),
        }
    }
}

impl std::error::Error for LogError {}

/// An open log, at whose end frames are appended.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    path: PathBuf,
    sync: bool,
    /// Held as long as the log is open.
    _lock: File,
}

impl Log {
    /// Opens the log of a folder, which is made if it isn't there, and says what it says. With `sync` every
    /// frame is on the disk before its command is answered.
    pub(crate) fn open(
        folder: &Path,
        sync: bool,
        stores: u64,
    ) -> Result<(Self, Restored), LogError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| LogError::Io(path, error)
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let lock_path = folder.join(LOCK);
        let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LogError::InUse(folder.to_owned()),
            TryLockError::Error(error) => LogError::Io(lock_path.clone(), error),
        })?;

        let path = folder.join(LOG);
        let mut restored = Restored::empty(stores);
        match std::fs::read(&path) {
            Ok(bytes) => replay(&bytes, &path, &mut restored)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(LogError::Io(path, error)),
        }

        let new_path = folder.join(NEW_LOG);
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(&new_path)
            .map_err(failed(&new_path))?;
        let mut log = Self { file, path: new_path, sync: false, _lock: lock };
        for entry in entries(&restored) {
            log.append(&entry)?;
        }
        // The new one takes the old one's place when it is complete, and not before.
        log.file.sync_all().map_err(failed(&log.path))?;
        std::fs::rename(&log.path, &path).map_err(failed(&path))?;
        log.path = path;
        log.sync = sync;
        Ok((log, restored))
    }

    /// Appends a frame.
    pub(crate) fn append(&mut self, entry: &Entry) -> Result<(), LogError> {
        let failed = |error| LogError::Io(self.path.clone(), error);
        let payload = postcard::to_stdvec(entry)
            .map_err(|error| failed(io::Error::other(error.to_string())))?;
        // One call, so that a frame is cut short only if the process is killed within it.
        self.file.write_all(&frame(&payload)).map_err(failed)?;
        if self.sync { self.file.sync_data().map_err(failed) } else { Ok(()) }
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend((payload.len() as u32).to_le_bytes());
    frame.extend(crc32fast::hash(payload).to_le_bytes());
    let header = crc32fast::hash(&frame);
    frame.extend(header.to_le_bytes());
    frame.extend(payload);
    frame
}

/// Applies the frames of a log, as far as it was written.
fn replay(bytes: &[u8], path: &Path, restored: &mut Restored) -> Result<(), LogError> {
    let number = |at: usize| -> u32 {
        bytes[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
    };
    let mut at = 0;
    while bytes.len() - at >= HEADER {
        if crc32fast::hash(&bytes[at..at + 8]) != number(at + 8) {
            return Err(LogError::Damaged(path.to_owned(), at));
        }
        let end = at + HEADER + number(at) as usize;
        let Some(payload) = bytes.get(at + HEADER..end) else { break };
        if crc32fast::hash(payload) != number(at + 4) {
            return Err(LogError::Damaged(path.to_owned(), at));
        }
        let entry =
            postcard::from_bytes(payload).map_err(|_| LogError::Damaged(path.to_owned(), at))?;
        restored.apply(entry);
        at = end;
    }
    Ok(())
}

/// The entries that say the same as all before.
fn entries(restored: &Restored) -> impl Iterator<Item = Entry> {
    let head = [
        Entry::Regions(restored.regions.clone()),
        Entry::OracleBound(restored.oracle_bound_ms),
        Entry::SafePoint(restored.safe_point),
        Entry::Ports(restored.ports.clone()),
    ];
    let changes: Vec<_> = restored.columns.as_changes().collect();
    let chunks: Vec<_> =
        changes.chunks(CHANGES_PER_FRAME).map(|chunk| Entry::Changes(chunk.to_vec())).collect();
    head.into_iter().chain(chunks)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mvcc::{Timestamp, Write, WriteKind};

    fn change(n: u64) -> Entry {
        let key = Bytes::from(format!("key {n}"));
        Entry::Changes(vec![
            Change::PutValue(key.clone(), Timestamp(n), Bytes::from("value")),
            Change::PutWrite(key, Timestamp(n + 1), Write::new(WriteKind::Put, Timestamp(n))),
        ])
    }

    fn reopened(folder: &Path) -> Result<Restored, LogError> {
        Log::open(folder, false, 3).map(|(_, restored)| restored)
    }

    #[test]
    fn says_what_was_appended_however_often_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = Restored::empty(3);
        let (mut log, _) = Log::open(folder.path(), true, 3).unwrap();
        for entry in (0..2_500).map(change).chain([Entry::OracleBound(7), Entry::Ports(vec![1, 2])])
        {
            log.append(&entry).unwrap();
            expected.apply(entry);
        }
        drop(log);
        for _ in 0..2 {
            let restored = reopened(folder.path()).unwrap();
            assert_eq!(restored.columns, expected.columns);
            assert_eq!(restored.oracle_bound_ms, 7);
            assert_eq!(restored.ports, [1, 2]);
        }
    }

    #[test]
    fn a_log_cut_short_anywhere_says_what_was_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path(), false, 3).unwrap();
        let path = folder.path().join(LOG);
        let before = std::fs::metadata(&path).unwrap().len();
        log.append(&change(1)).unwrap();
        let whole = std::fs::metadata(&path).unwrap().len();
        log.append(&change(2)).unwrap();
        drop(log);
        let bytes = std::fs::read(&path).unwrap();
        for cut in before as usize..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let restored = reopened(folder.path()).unwrap();
            let keys = restored.columns.written_in(b"", b"").count();
            let expected = if cut == bytes.len() { 2 } else { usize::from(cut as u64 >= whole) };
            assert_eq!(keys, expected, "cut at {cut}");
        }
    }

    #[test]
    fn damage_in_the_middle_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path(), false, 3).unwrap();
        let path = folder.path().join(LOG);
        let before = std::fs::metadata(&path).unwrap().len() as usize;
        log.append(&change(1)).unwrap();
        log.append(&change(2)).unwrap();
        drop(log);
        let bytes = std::fs::read(&path).unwrap();
        for at in before..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            assert!(matches!(reopened(folder.path()), Err(LogError::Damaged(..))), "byte {at}");
        }
    }

    #[test]
    fn a_folder_is_one_servers() {
        let folder = tempfile::tempdir().unwrap();
        let _open = Log::open(folder.path(), false, 3).unwrap();
        assert!(matches!(reopened(folder.path()), Err(LogError::InUse(_))));
    }
}
