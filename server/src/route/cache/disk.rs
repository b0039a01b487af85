//! foyer, set up for routes and kept at arm's length.
//!
//! What version 0.22.6 does, and what is done about it here:
//!
//! - By default it writes a route when memory evicts it, so the disk keeps what is overwritten in memory alone. Here
//!   a route is written when it is put.
//! - By default it keeps no record of removals, so a restart undoes them. Here it keeps one.
//! - By default it takes back first those parts of the disk of which most is out of date, and so revives what they
//!   had overwritten in older parts. Here the oldest part goes first.
//! - Its own `get` puts into memory what it has read, also over what was put or removed meanwhile. Here the disk is
//!   read alone, and the caller decides.
//! - A close may hang. Here it has a time.
//! - It may panic on files that it can't make sense of. Here a panic is an error.
//!
//! What is left is what the ledger is for. Writes are dropped when many come at once, and the old copy stays. The record of removals
//! begins at its first page again after each start, wherever it had ended, and so overwrites removals that are
//! still needed. Its copies in memory of what is still to be written outlive a removal.

use std::{
    fmt::Display,
    future::Future,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use foyer::{
    BlockEngineConfig, DeviceBuilder, FifoPicker, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, Load, PsyncIoEngineConfig, RecoverMode, S3FifoConfig,
};
use futures_util::FutureExt;

use super::{
    DiskSettings, OpenCacheError,
    folder::Folder,
    ledger::Ledger,
    shared::{Memory, locks},
    stored::Stored,
};

/// What an entry takes on the disk.
const ENTRY_BYTES: u64 = 4_096;
/// The cache is reclaimed in so many parts, the oldest first.
const BLOCKS: u64 = 64;
/// What is written at once, at most: 512 routes. There are two such buffers.
const BUFFER_BYTES: usize = 2 << 20;
/// What may wait to be written, at 32 bytes a route; more isn't written. That is what comes in some seconds of a rush.
const QUEUE_BYTES: usize = 32 * 32_768;
/// A route that isn't read by then is a miss: the store would have answered long ago. Tests don't depend on how busy
/// the machine is.
const READ_WITHIN: Duration = Duration::from_millis(if cfg!(test) { 60_000 } else { 500 });

/// Memory and disk, and the folder while it is open.
pub(super) struct Disk {
    hybrid: HybridCache<u64, Stored>,
    folder: Mutex<Option<Folder>>,
    bytes: u64,
}

impl Disk {
    /// Opens the folder, and gives the ledger of what in it may be believed.
    pub(super) async fn open(
        settings: &DiskSettings,
        memory_routes: usize,
    ) -> Result<(Self, Ledger), OpenCacheError> {
        let bytes = settings.bytes;
        let on_disk = usize::try_from(bytes / ENTRY_BYTES).unwrap_or(usize::MAX);
        let dir = settings.dir.clone();
        let (folder, mut ledger) = blocking(&settings.dir, move || {
            let folder = Folder::open(&dir)?;
            let ledger = folder.take_ledger(bytes, on_disk)?;
            Ok((folder, ledger))
        })
        .await?;
        let start = || in_task(build(folder.entries(), bytes, memory_routes));
        let hybrid = match start().await {
            Ok(hybrid) => hybrid,
            Err(why) => {
                folder.throw_away(&why)?;
                ledger = Ledger::new(on_disk);
                let path = settings.dir.clone();
                start().await.map_err(|why| OpenCacheError::Disk { path, why })?
            }
        };
        Ok((Self { hybrid, folder: Mutex::new(Some(folder)), bytes }, ledger))
    }

    pub(super) fn memory(&self) -> &Memory {
        self.hybrid.memory()
    }

    /// What the disk has, or is about to have. It may be out of date.
    pub(super) async fn get(&self, device: u64) -> Result<Option<Stored>, String> {
        let disk = self.hybrid.storage().clone();
        let read = async move {
            Ok(match disk.load(&device).await? {
                Load::Entry { value, .. } => Some(value),
                Load::Piece { piece, .. } => Some(*piece.value()),
                Load::Throttled | Load::Miss => None,
            })
        };
        // Not in a task, which would double the time: whoever reads may go away, the buffer is the reading thread's.
        let read = AssertUnwindSafe(read).catch_unwind().map(|done| match done {
            Ok(done) => done.map_err(|error: foyer::Error| error.to_string()),
            Err(_) => Err("it panicked".to_owned()),
        });
        within(READ_WITHIN, "reading", read).await
    }

    /// Into memory at once, on the disk later if there is room in the queue.
    pub(super) fn put(&self, device: u64, stored: Stored) {
        drop(self.hybrid.insert(device, stored));
    }

    /// From the disk, later.
    pub(super) fn remove(&self, device: u64) {
        self.hybrid.storage().delete(&device);
    }

    /// Frees memory and disk.
    pub(super) async fn clear(&self, time: Duration) -> Result<(), String> {
        let hybrid = self.hybrid.clone();
        within(time, "clearing", in_task(async move { hybrid.clear().await })).await
    }

    /// Writes all that waits, then the ledger, and gives the folder back. Does nothing the second time.
    pub(super) async fn close(&self, ledger: Ledger, time: Duration) -> Result<(), String> {
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(folder) = folder else { return Ok(()) };
        let (hybrid, bytes) = (self.hybrid.clone(), self.bytes);
        // If the time is over the task goes on, and with it the lock on the folder: foyer may still write.
        let close = async move {
            hybrid.close().await.map_err(|error| error.to_string())?;
            let keep = move || folder.keep_ledger(&ledger, bytes);
            let kept = tokio::task::spawn_blocking(keep).await;
            kept.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        };
        within(time, "closing", in_task::<_, String>(close)).await
    }
}

async fn build(
    dir: PathBuf,
    bytes: u64,
    memory_routes: usize,
) -> Result<HybridCache<u64, Stored>, String> {
    let said = |error: foyer::Error| error.to_string();
    let capacity = usize::try_from(bytes).map_err(|error| error.to_string())?;
    let device = FsDeviceBuilder::new(dir).with_capacity(capacity).build().map_err(said)?;
    let block = usize::try_from(bytes / BLOCKS).unwrap_or(usize::MAX).min(16 << 20);
    let engine = BlockEngineConfig::new(device)
        .with_block_size(block)
        .with_buffer_pool_size(BUFFER_BYTES)
        .with_submit_queue_size_threshold(QUEUE_BYTES)
        .with_eviction_pickers(vec![Box::<FifoPicker>::default()])
        .with_tombstone_log(true);
    HybridCacheBuilder::new()
        .with_name("routes")
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        // It is on the disk already.
        .with_flush_on_close(false)
        .memory(memory_routes)
        .with_shards(locks(memory_routes))
        .with_eviction_config(S3FifoConfig::default())
        .storage()
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(engine)
        .with_recover_mode(RecoverMode::Quiet)
        .build()
        .await
        .map_err(said)
}

/// Runs something in a task of its own, which goes on when the caller doesn't; a panic in it is an error.
async fn in_task<T, E>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, String>
where
    T: Send + 'static,
    E: Display + Send + 'static,
{
    match tokio::spawn(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

async fn within<T>(
    time: Duration,
    doing: &str,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    match tokio::time::timeout(time, work).await {
        Ok(done) => done.map_err(|why| format!("{doing} failed: {why}")),
        Err(_) => Err(format!("{doing} took longer than {} ms", time.as_millis())),
    }
}

/// Runs file system calls where they may block.
async fn blocking<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce() -> Result<T, OpenCacheError> + Send + 'static,
) -> Result<T, OpenCacheError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(OpenCacheError::Disk { path: dir.into(), why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_close_that_hangs_is_given_up() {
        let hangs = std::future::pending::<Result<(), String>>();
        let given_up = within(Duration::from_secs(5), "closing", hangs).await;
        assert_eq!(given_up.unwrap_err(), "closing took longer than 5000 ms");
    }

    #[tokio::test]
    async fn a_panic_in_foyer_is_an_error() {
        let panics = async { if true { panic!("as foyer may") } else { Ok::<(), String>(()) } };
        assert!(in_task(panics).await.unwrap_err().contains("panic"));
    }
}
