//! The log: where a group commit becomes durable.
//!
//! The log is a row of numbered files. Each has its full size before its first use, so that
//! an append overwrites blocks that the file system has allocated already and the sync is one
//! write to the disk. A file that the tree has made superfluous gets a new number and is used
//! again: removing it would make the disk discard its blocks, which holds up syncs. Commit numbers are dense over all files, so a lost or damaged frame
//! shows as a gap.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::frame::{Builder, Seal};

/// How much is zeroed between two syncs: small, so that the log's own syncs, which queue
/// behind it at the disk, wait a few milliseconds at most.
const FILL_BYTES: usize = 512 << 10;
/// The rest between two fills.
const FILL_PAUSE: Duration = Duration::from_millis(5);

/// A file of full size that holds no commit under its number, and that number.
pub(super) type Spare = (u64, File);

/// The end of the log, where frames are appended.
pub(super) struct Log {
    /// `None` only while the log is dropped.
    spares: Option<Receiver<io::Result<Spare>>>,
    filler: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    current: Option<Spare>,
    /// The file that is next in use, when `current` is none.
    next: u64,
    offset: u64,
    segment_bytes: u64,
    salt: u64,
    /// The last commit number.
    number: u64,
}

impl Log {
    /// A log whose last commit was `number` and whose next file is `next`; `ready` are
    /// the unused files from there on.
    pub(super) fn start(
        dir: &Path,
        segment_bytes: u64,
        salt: u64,
        number: u64,
        next: u64,
        ready: Vec<Spare>,
        retired: Arc<Retired>,
    ) -> io::Result<Self> {
        let (sender, spares) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let filler = Filler {
            dir: dir.to_path_buf(),
            segment_bytes,
            retired,
            spares: sender,
            stop: Arc::clone(&stop),
        };
        let filler = thread::Builder::new()
            .name("tern-store-fill".into())
            .spawn(move || filler.run(next, ready))?;
        Ok(Self {
            spares: Some(spares),
            filler: Some(filler),
            stop,
            current: None,
            next,
            offset: 0,
            segment_bytes,
            salt,
            number,
        })
    }

    /// The last commit number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Writes a frame and syncs it. Returns the bytes written.
    ///
    /// After an error it isn't known whether the frame will be found when the log is read,
    /// so nothing may be appended behind it.
    pub(super) fn append(&mut self, frame: &mut Builder) -> io::Result<u64> {
        let length = frame.length();
        if self.current.is_some() && self.offset + length > self.segment_bytes {
            self.rotate();
        }
        if self.current.is_none() {
            let spare = self.spares.as_ref().and_then(|spares| spares.recv().ok());
            let gone = || io::Error::other("the thread that prepares log files is gone");
            let (segment, mut file) = spare.ok_or_else(gone)??;
            file.seek(SeekFrom::Start(0))?;
            self.next = segment + 1;
            self.offset = 0;
            self.current = Some((segment, file));
        }
        let Some((segment, file)) = &mut self.current else {
            return Err(io::Error::other("no log file is open"));
        };
        let seal = Seal { salt: self.salt, segment: *segment };
        file.write_all(frame.finish(seal, self.number + 1))?;
        file.sync_data()?;
        self.offset += length;
        self.number += 1;
        Ok(length)
    }

    /// Makes the next frame the first of a new file; returns that file's number.
    pub(super) fn rotate(&mut self) -> u64 {
        self.current = None;
        self.next
    }
}

/// The name of a log file.
pub(super) fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:020}.log"))
}

/// The log files of a directory and their numbers, ascending.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in dir.read_dir()? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".log"))
            .and_then(|number| number.parse().ok());
        segments.extend(number.map(|number| (number, path)));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Syncs a directory, so that created files survive power loss.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

impl Drop for Log {
    fn drop(&mut self) {
        // The directory must be quiet before another store opens it.
        self.stop.store(true, Ordering::Relaxed);
        self.spares = None;
        if let Some(filler) = self.filler.take()
            && filler.join().is_err()
        {
            tracing::error!("the thread that prepares log files has panicked");
        }
    }
}

/// Files whose commits are in the tree, waiting to be used again.
pub(super) struct Retired {
    files: Mutex<Vec<PathBuf>>,
    segment_bytes: u64,
    /// More are removed: they come from a burst.
    most: usize,
}

impl Retired {
    pub(super) fn new(segment_bytes: u64, log_bytes: u64) -> Self {
        let most = usize::try_from(log_bytes / segment_bytes).unwrap_or(usize::MAX);
        Self { files: Mutex::default(), segment_bytes, most: most.saturating_add(2) }
    }

    fn files(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a retired file a new name, if there is one.
    fn reuse(&self, path: &Path) -> io::Result<bool> {
        let mut files = self.files();
        match files.pop() {
            Some(old) => fs::rename(old, path).map(|()| true),
            None => Ok(false),
        }
    }

    /// Keeps a file for its next use or removes it.
    pub(super) fn put(&self, path: &Path) -> io::Result<()> {
        // The lock is held over the file operations, because the file may be in the middle
        // of being renamed.
        let mut files = self.files();
        let known = |file: &PathBuf| file == path;
        if files.iter().any(known) || !path.exists() {
            return Ok(());
        }
        if files.len() < self.most && path.metadata()?.len() == self.segment_bytes {
            files.push(path.to_path_buf());
            return Ok(());
        }
        fs::remove_file(path)
    }
}

/// Keeps two files ready until the log is dropped.
struct Filler {
    dir: PathBuf,
    segment_bytes: u64,
    retired: Arc<Retired>,
    spares: SyncSender<io::Result<Spare>>,
    stop: Arc<AtomicBool>,
}

impl Filler {
    fn run(self, mut next: u64, ready: Vec<Spare>) {
        for spare in ready {
            next = spare.0 + 1;
            if self.spares.send(Ok(spare)).is_err() {
                return;
            }
        }
        loop {
            match self.next(next) {
                Ok(Some(file)) => {
                    if self.spares.send(Ok((next, file))).is_err() {
                        return;
                    }
                    next += 1;
                }
                Ok(None) => return,
                Err(error) => {
                    // The committer reports it when it needs the file.
                    let _ = self.spares.send(Err(error));
                    return;
                }
            }
        }
    }

    /// Makes a file; `None` if the log was dropped meanwhile.
    fn next(&self, segment: u64) -> io::Result<Option<File>> {
        let path = segment_path(&self.dir, segment);
        if self.retired.reuse(&path)? {
            sync_dir(&self.dir)?;
            return Ok(Some(OpenOptions::new().read(true).write(true).open(path)?));
        }
        self.fill(segment)
    }

    fn fill(&self, segment: u64) -> io::Result<Option<File>> {
        // It gets its name when it is full, so that a named file is always whole.
        let unfinished = self.dir.join("next.tmp");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&unfinished)?;
        let zeros = vec![0; FILL_BYTES];
        let mut left = self.segment_bytes;
        while left > 0 {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(FILL_BYTES);
            file.write_all(&zeros[..step])?;
            file.sync_data()?;
            left -= step as u64;
            if left > 0 {
                thread::sleep(FILL_PAUSE);
            }
        }
        fs::rename(&unfinished, segment_path(&self.dir, segment))?;
        sync_dir(&self.dir)?;
        Ok(Some(file))
    }
}
