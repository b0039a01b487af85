//! The settings of the embedded store, their bounds and the reasons for the defaults.

use super::OpenError;

/// How the embedded store trades memory, disk and latency.
///
/// The defaults suit 5,000 appends a second on two cores; [`EmbeddedSettings::check`]
/// names the bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbeddedSettings {
    /// Transactions that may wait for the committer before `commit` makes its caller
    /// wait, 1 to 1,000,000. 4,096 is most of a second at the rate that the store is built
    /// for: more would only hide an overload.
    pub queue_transactions: usize,
    /// Transactions that share one disk sync at most, 1 to 100,000. 1,024 lets a burst
    /// catch up within a few syncs and keeps the pause that a batch causes for readers
    /// (they wait while it is applied in memory) around a millisecond.
    pub batch_transactions: usize,
    /// Bytes of mutations that share one sync at most, 4 KiB to 16 MiB. One larger
    /// transaction still goes, alone. 1 MiB takes a few milliseconds to write.
    pub batch_bytes: usize,
    /// Bytes of keys and values (and their bookkeeping) that gather in memory before they
    /// are written to the tree, 4 KiB to 4 GiB. Up to twice this is held while a
    /// checkpoint keeps its pace, four times before commits are made to wait for it.
    /// Messages that are acknowledged before the checkpoint never reach the tree, and
    /// messages of one conversation share its pages, so more memory means less writing;
    /// 64 MiB is 100,000 messages.
    pub layer_bytes: usize,
    /// Bytes of log after which a checkpoint starts even when memory is not full, 4 KiB to
    /// 16 GiB. It bounds the disk that the log takes (four times this at worst) and the time
    /// to open after a crash: 128 MiB is read back in less than a second.
    pub log_bytes: u64,
    /// Size of one log file, 4 KiB to 1 GiB. Files get their full size ahead of their
    /// use, so that a sync never waits for the file system to allocate; two stand ready.
    pub segment_bytes: u64,
    /// Bytes of tree pages cached in memory, 64 KiB or more. The kernel caches the rest.
    pub cache_bytes: usize,
    /// Keys that one step of a checkpoint changes in the tree, 1 to 1,000,000. Each step
    /// is synced on its own. Small steps keep the disk's queue short for the log's syncs,
    /// large ones write less in total.
    pub step_keys: usize,
    /// Reads that may run at the same time, 1 to 1,024. They may wait for the disk, so they
    /// run on the runtime's blocking threads and not on its own.
    pub read_threads: usize,
}

impl Default for EmbeddedSettings {
    fn default() -> Self {
        Self {
            queue_transactions: 4_096,
            batch_transactions: 1_024,
            batch_bytes: 1 << 20,
            layer_bytes: 64 << 20,
            log_bytes: 128 << 20,
            segment_bytes: 16 << 20,
            cache_bytes: 128 << 20,
            step_keys: 200,
            read_threads: 4,
        }
    }
}

impl EmbeddedSettings {
    /// Checks every field against its bounds.
    ///
    /// # Errors
    ///
    /// [`OpenError::Setting`] names the first field that is out of bounds.
    pub fn check(&self) -> Result<(), OpenError> {
        let as_u64 = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let bounds = [
            ("queue_transactions", as_u64(self.queue_transactions), 1, 1_000_000),
            ("batch_transactions", as_u64(self.batch_transactions), 1, 100_000),
            ("batch_bytes", as_u64(self.batch_bytes), 4 << 10, 16 << 20),
            ("layer_bytes", as_u64(self.layer_bytes), 4 << 10, 4 << 30),
            ("log_bytes", self.log_bytes, 4 << 10, 16 << 30),
            ("segment_bytes", self.segment_bytes, 4 << 10, 1 << 30),
            ("cache_bytes", as_u64(self.cache_bytes), 64 << 10, u64::MAX),
            ("step_keys", as_u64(self.step_keys), 1, 1_000_000),
            ("read_threads", as_u64(self.read_threads), 1, 1_024),
        ];
        for (name, value, least, most) in bounds {
            if value < least || value > most {
                return Err(OpenError::Setting { name, value, least, most });
            }
        }
        Ok(())
    }
}
