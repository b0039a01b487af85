//! The tree on disk that checkpoints write to: a redb file.
//!
//! redb verifies its page checksums only when it repairs, so each value carries a checksum
//! of its own over key and value. redb also trusts its pages' structure and may panic on a
//! damaged one: such a panic is caught here and reported as damage.

use std::{
    fmt, fs, io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Instant,
};

use bytes::Bytes;
use redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageError,
    Table, TableDefinition,
};

use super::{OpenError, layer::Layer};
use crate::store::ReadError;

const DATA: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("data");
const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
const FORMAT_VERSION: u64 = 1;
const CHECKSUM_BYTES: usize = 4;
/// A tree is written anew when it opens if its file is larger than this and less than a third of it
/// is in use.
pub(super) const SPARE_BYTES: u64 = 64 << 20;

/// What the tree knows about the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    /// The last commit number that the tree holds completely.
    pub(super) applied: u64,
    /// The log file that holds the commit after it.
    pub(super) segment: u64,
    /// Mixed into the log's checksums.
    pub(super) salt: u64,
}

/// Why the tree couldn't be read or written.
#[derive(Debug)]
pub(super) enum BaseError {
    Io(String),
    Corrupt(String),
}

impl fmt::Display for BaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Io(why) | Self::Corrupt(why)) = self;
        f.write_str(why)
    }
}

impl From<BaseError> for ReadError {
    fn from(error: BaseError) -> Self {
        match error {
            BaseError::Io(why) => Self::Unavailable(why),
            BaseError::Corrupt(why) => Self::Corrupt(why),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for BaseError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Corrupted(why) => Self::Corrupt(format!("the tree: {why}")),
            other => Self::Io(format!("the tree: {other}")),
        }
    }
}

/// Runs a redb operation; a panic in it is damage.
fn guarded<T>(run: impl FnOnce() -> Result<T, BaseError>) -> Result<T, BaseError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let why = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Err(BaseError::Corrupt(format!("a page of the tree can't be understood: {why}")))
    })
}

/// The tree, open for writing by this process alone.
pub(super) struct Base {
    database: Database,
}

impl Base {
    /// Creates the file under another name, so that a crash leaves a whole one or none.
    pub(super) fn create(path: &Path, cache_bytes: usize, salt: u64) -> Result<(), OpenError> {
        let failed = |doing: &'static str| {
            move |source| OpenError::Io { doing, path: path.to_path_buf(), source }
        };
        let unfinished = path.with_extension("tmp");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("creating")(error));
            }
            _ => drop(Self::open(&unfinished, cache_bytes, salt)?),
        }
        fs::rename(&unfinished, path).map_err(failed("creating"))
    }

    /// Opens or creates the file. `salt` is kept if the file is new.
    pub(super) fn open(
        path: &Path,
        cache_bytes: usize,
        salt: u64,
    ) -> Result<(Self, Meta), OpenError> {
        let damaged = |what: String| OpenError::Damaged { path: path.to_path_buf(), what };
        let opened = catch_unwind(|| Builder::new().set_cache_size(cache_bytes).create(path));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
                return Err(OpenError::InUse(path.to_path_buf()));
            }
            Ok(Err(DatabaseError::Storage(StorageError::Io(source)))) => {
                return Err(OpenError::Io { doing: "opening", path: path.to_path_buf(), source });
            }
            Ok(Err(other)) => return Err(damaged(other.to_string())),
            Err(_) => return Err(damaged("a page can't be understood".into())),
        };
        let mut base = Self { database };
        let meta = guarded(|| base.meta(salt)).map_err(|error| damaged(error.to_string()))?;
        base.give_back(path).map_err(|error| damaged(error.to_string()))?;
        Ok((base, meta))
    }

    /// Makes the file shorter if most of it is empty. While the store is open, pages of deleted messages
    /// are used again, and redb cuts off what is free at the end of the file alone.
    fn give_back(&mut self, path: &Path) -> Result<(), BaseError> {
        let before = fs::metadata(path).map_or(0, |file| file.len());
        let used = guarded(|| {
            let table = self.database.begin_read()?.open_table(META)?;
            Ok(table.get("used_bytes")?.map(|used| used.value()))
        })?;
        if before <= SPARE_BYTES || used.is_none_or(|used| used > before / 3) {
            return Ok(());
        }
        let began = Instant::now();
        guarded(|| Ok(self.database.compact()?))?;
        tracing::info!(
            before_bytes = before,
            after_bytes = fs::metadata(path).map_or(0, |file| file.len()),
            duration_ms = began.elapsed().as_millis(),
            "the tree gave disk space back"
        );
        Ok(())
    }

    fn meta(&self, salt: u64) -> Result<Meta, BaseError> {
        let transaction = self.write()?;
        let meta = {
            transaction.open_table(DATA)?;
            let mut table = transaction.open_table(META)?;
            let field = |table: &Table<'_, &'static str, u64>, name: &str| {
                let value = table.get(name)?.map(|value| value.value());
                value.ok_or_else(|| BaseError::Corrupt(format!("the field {name} is missing")))
            };
            let version = table.get("version")?.map(|version| version.value());
            match version {
                Some(FORMAT_VERSION) => {}
                Some(other) => {
                    return Err(BaseError::Corrupt(format!("format {other} is not known")));
                }
                None => {
                    table.insert("version", FORMAT_VERSION)?;
                    table.insert("applied", 0)?;
                    table.insert("segment", 1)?;
                    table.insert("salt", salt)?;
                    table.insert("used_bytes", 0)?;
                }
            }
            Meta {
                applied: field(&table, "applied")?,
                segment: field(&table, "segment")?,
                salt: field(&table, "salt")?,
            }
        };
        transaction.commit()?;
        Ok(meta)
    }

    fn write(&self) -> Result<redb::WriteTransaction, BaseError> {
        let mut transaction = self.database.begin_write()?;
        // Without this a large file takes many seconds to open after a crash.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// The tree as it is now.
    pub(super) fn snapshot(&self) -> Result<Snapshot, BaseError> {
        guarded(|| Ok(Snapshot { table: self.database.begin_read()?.open_table(DATA)? }))
    }

    /// Starts writing a layer, one step after the other.
    pub(super) fn merge<'a>(&'a self, layer: &'a Layer, step_keys: usize) -> Merge<'a> {
        Merge {
            base: self,
            step_keys,
            written: 0,
            cleared: Box::new(layer.cleared().map(|(from, to)| (from.clone(), to.clone()))),
            rest: None,
            entries: Box::new(layer.entries()),
        }
    }
}

/// A layer on its way into the tree.
///
/// A step may be repeated, and a reader may see some of them: both see the layer itself on
/// top, which says the same.
pub(super) struct Merge<'a> {
    base: &'a Base,
    step_keys: usize,
    /// Changes of the layer that are in the tree.
    written: usize,
    cleared: Box<dyn Iterator<Item = (Bytes, Bytes)> + 'a>,
    /// What the last step left of a long cleared range.
    rest: Option<(Bytes, Bytes)>,
    entries: Box<dyn Iterator<Item = (&'a Bytes, Option<&'a Bytes>)> + 'a>,
}

impl Merge<'_> {
    /// Writes and syncs the next step; the last one, which says so with `true`, also
    /// records `applied` and `segment`.
    pub(super) fn step(&mut self, applied: u64, segment: u64) -> Result<bool, BaseError> {
        guarded(|| {
            let transaction = self.base.write()?;
            let mut changed = 0;
            let (mut added, mut removed) = (0, 0);
            {
                let mut table = transaction.open_table(DATA)?;
                while changed < self.step_keys {
                    let next = self.rest.take().or_else(|| self.cleared.next());
                    let Some((from, to)) = next else { break };
                    self.written += 1;
                    let (keys, bytes) = self.delete_some(&mut table, from, to, changed)?;
                    changed += keys;
                    removed += bytes;
                }
                let mut value_bytes = Vec::new();
                while changed < self.step_keys {
                    let Some((key, value)) = self.entries.next() else {
                        break;
                    };
                    self.written += 1;
                    if let Some(value) = value {
                        value_bytes.clear();
                        value_bytes.extend_from_slice(value);
                        value_bytes.extend_from_slice(&checksum(key, value).to_le_bytes());
                        added += pair_bytes(key, &value_bytes);
                        let old = table.insert(key.as_ref(), value_bytes.as_slice())?;
                        removed += old.map_or(0, |old| pair_bytes(key, old.value()));
                    } else {
                        let old = table.remove(key.as_ref())?;
                        removed += old.map_or(0, |old| pair_bytes(key, old.value()));
                    }
                    changed += 1;
                }
            }
            let done = changed < self.step_keys;
            let mut table = transaction.open_table(META)?;
            let used = table.get("used_bytes")?.map(|used| used.value());
            if let Some(used) = used {
                table.insert("used_bytes", (used + added).saturating_sub(removed))?;
            }
            if done {
                table.insert("applied", applied)?;
                table.insert("segment", segment)?;
            }
            drop(table);
            transaction.commit()?;
            Ok(done)
        })
    }

    /// How many changes of the layer the steps have written.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Deletes keys of a range until the step is full; returns how many, at least 1, so
    /// that looking at many empty ranges fills a step too, and the bytes that they took.
    fn delete_some(
        &mut self,
        table: &mut Table<'_, &'static [u8], &'static [u8]>,
        from: Bytes,
        to: Bytes,
        changed: usize,
    ) -> Result<(usize, u64), BaseError> {
        let (mut count, mut bytes) = (0, 0);
        let mut stop = None;
        for item in table.range::<&[u8]>(from.as_ref()..to.as_ref())? {
            let (key, value) = item?;
            if changed + count >= self.step_keys {
                stop = Some(Bytes::copy_from_slice(key.value()));
                break;
            }
            count += 1;
            bytes += pair_bytes(key.value(), value.value());
        }
        let end = stop.as_ref().unwrap_or(&to);
        if count > 0 {
            table.retain_in::<&[u8], _>(from.as_ref()..end.as_ref(), |_, _| false)?;
        }
        self.rest = stop.map(|stop| (stop, to));
        Ok((count.max(1), bytes))
    }
}

fn pair_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

/// One state of the tree; later checkpoints don't change it.
pub(super) struct Snapshot {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl Snapshot {
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BaseError> {
        guarded(|| match self.table.get(key)? {
            Some(guard) => Ok(Some(verified(key, guard.value())?)),
            None => Ok(None),
        })
    }

    /// Calls `each` with the pairs of `[from, to)` in order until it returns `false`.
    /// Returns `false` if it did.
    pub(super) fn walk(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        mut each: impl FnMut(&[u8], Bytes) -> bool,
    ) -> Result<bool, BaseError> {
        if from >= to {
            return Ok(true);
        }
        guarded(|| {
            let bounds = (Bound::Included(from), Bound::Excluded(to));
            let mut range = self.table.range::<&[u8]>(bounds)?;
            while let Some(item) = if reverse { range.next_back() } else { range.next() } {
                let (key, value) = item?;
                if !each(key.value(), verified(key.value(), value.value())?) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&u64::try_from(key.len()).unwrap_or(u64::MAX).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

fn verified(key: &[u8], stored: &[u8]) -> Result<Bytes, BaseError> {
    let split = stored.len().checked_sub(CHECKSUM_BYTES);
    if let Some((value, sum)) = split.and_then(|at| stored.split_at_checked(at))
        && sum == checksum(key, value).to_le_bytes()
    {
        return Ok(Bytes::copy_from_slice(value));
    }
    Err(BaseError::Corrupt("a value in the tree doesn't match its checksum".into()))
}
