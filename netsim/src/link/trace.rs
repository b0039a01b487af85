//! Traces of real links in Mahimahi's format.
//!
//! Each line is one opportunity to deliver, as whole milliseconds since the start, in order; several lines may
//! name the same millisecond. An opportunity delivers [`OPPORTUNITY_BYTES`]: of one packet or of several that
//! were waiting, while a larger packet takes several opportunities. An opportunity that finds nobody waiting is
//! lost, and a packet that comes in its very millisecond is too late for it. At the end the trace begins anew:
//! its last line is the new start.
//!
//! Mahimahi counts 4 bytes of the TUN device for each packet, so that a full IP packet of 1,500 bytes takes
//! exactly one opportunity; so does a [`Link`](super::Link).

use std::{
    error::Error,
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// What one opportunity delivers, in bytes.
pub const OPPORTUNITY_BYTES: u64 = 1_504;
/// What each packet costs besides its own bytes.
pub(super) const PACKET_OVERHEAD_BYTES: u64 = 4;
/// What one opportunity delivers of IP packets, and what its rate is reckoned by.
const PAYLOAD_BYTES: u64 = OPPORTUNITY_BYTES - PACKET_OVERHEAD_BYTES;
/// The largest file in bytes: 64 MiB, ten times the largest that Mahimahi comes with.
pub const MAX_TRACE_BYTES: u64 = 64 << 20;
/// The most lines: 8 million are a hundred Mbit/s for a quarter of an hour, and 32 MiB of memory.
pub const MAX_TRACE_OPPORTUNITIES: usize = 8_000_000;
/// The longest trace in milliseconds: a day.
pub const MAX_TRACE_MS: u32 = 86_400_000;
const NS_PER_MS: u64 = 1_000_000;

/// When a link could deliver.
#[derive(Clone, PartialEq, Eq)]
pub struct Trace {
    /// In order, never empty, and the last isn't 0.
    opportunities_ms: Vec<u32>,
    length_ms: u32,
}

/// One opportunity of a trace that is repeated for ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    lap: u64,
    index: u64,
}

impl Trace {
    /// Reads the lines of a trace.
    ///
    /// # Errors
    ///
    /// [`TraceError`] with the number of the line that isn't one, or of the first one too many.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut opportunities_ms = Vec::new();
        let mut last_ms = 0;
        for (index, text) in text.lines().enumerate() {
            let line = index + 1;
            if index >= MAX_TRACE_OPPORTUNITIES {
                return Err(TraceError::TooManyLines);
            }
            let ms: u32 = text.trim_end().parse().map_err(|_| TraceError::NotANumber { line })?;
            if ms > MAX_TRACE_MS {
                return Err(TraceError::TooLate { line });
            }
            if ms < last_ms {
                return Err(TraceError::Backwards { line });
            }
            last_ms = ms;
            opportunities_ms.push(ms);
        }
        if last_ms == 0 {
            return Err(TraceError::NoLength);
        }
        Ok(Self { opportunities_ms, length_ms: last_ms })
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// As [`Trace::parse`], or that the file can't be read, is larger than [`MAX_TRACE_BYTES`], or isn't text.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let mut text = String::new();
        let read = fs::File::open(path)
            .and_then(|file| file.take(MAX_TRACE_BYTES + 1).read_to_string(&mut text))
            .map_err(|error| TraceError::Unreadable { path: path.to_owned(), error })?;
        if u64::try_from(read).unwrap_or(u64::MAX) > MAX_TRACE_BYTES {
            return Err(TraceError::TooLarge { path: path.to_owned() });
        }
        Self::parse(&text)
    }

    /// How many opportunities one lap has; at least 1.
    pub fn opportunities(&self) -> usize {
        self.opportunities_ms.len()
    }

    /// How long one lap is; at least a millisecond.
    pub fn length(&self) -> Duration {
        Duration::from_millis(self.length_ms.into())
    }

    /// The mean rate in Mbit/s of full IP packets (1,500 bytes an opportunity).
    pub fn mean_mbit_s(&self) -> f64 {
        mbit_s(self.opportunities_ms.len(), f64::from(self.length_ms))
    }

    /// The longest time between two opportunities, also across the end, where the trace begins anew.
    pub fn longest_gap(&self) -> Duration {
        let first_ms = self.opportunities_ms.first().copied().unwrap_or_default();
        let within = self.opportunities_ms.windows(2).map(|pair| pair[1] - pair[0]);
        Duration::from_millis(within.fold(first_ms, u32::max).into())
    }

    /// The rate in Mbit/s in each of `bins` equal parts of one lap.
    pub fn mbit_s_over_time(&self, bins: usize) -> Vec<f64> {
        let mut counts = vec![0_usize; bins];
        let length = u64::from(self.length_ms);
        for ms in &self.opportunities_ms {
            // The last opportunity is at the very end and belongs to the last part.
            let bin = u64::from(*ms) * bins as u64 / length;
            let bin = usize::try_from(bin).unwrap_or(bins).min(bins.saturating_sub(1));
            if let Some(count) = counts.get_mut(bin) {
                *count += 1;
            }
        }
        let bin_ms = f64::from(self.length_ms) / bins as f64;
        counts.into_iter().map(|count| mbit_s(count, bin_ms)).collect()
    }

    /// The first opportunity after a time, since the run's start.
    pub(super) fn after(&self, time_ns: u64) -> Cursor {
        let lap_ns = self.lap_ns();
        let (lap, within_ns) = (time_ns / lap_ns, time_ns % lap_ns);
        let passed =
            self.opportunities_ms.partition_point(|ms| u64::from(*ms) * NS_PER_MS <= within_ns);
        // Never past the last one, which is at the lap's end and so after any time within it.
        Cursor { lap, index: passed as u64 }
    }

    pub(super) fn skip(&self, cursor: Cursor, more: u64) -> Cursor {
        let len = self.opportunities_ms.len() as u64;
        let index = cursor.index.saturating_add(more);
        Cursor { lap: cursor.lap.saturating_add(index / len), index: index % len }
    }

    pub(super) fn time_ns(&self, cursor: Cursor) -> u64 {
        let index = usize::try_from(cursor.index).unwrap_or(usize::MAX);
        let ms = self.opportunities_ms.get(index).copied().unwrap_or(self.length_ms);
        cursor.lap.saturating_mul(self.lap_ns()).saturating_add(u64::from(ms) * NS_PER_MS)
    }

    fn lap_ns(&self) -> u64 {
        u64::from(self.length_ms) * NS_PER_MS
    }
}

fn mbit_s(opportunities: usize, ms: f64) -> f64 {
    (opportunities as u64 * PAYLOAD_BYTES * 8) as f64 / ms / 1e3
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A hundred thousand numbers would bury the rest of what is printed.
        f.debug_struct("Trace")
            .field("opportunities", &self.opportunities())
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}

/// The file of a trace, by its path, and the trace once it was read. In TOML: the path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "PathBuf", into = "PathBuf")]
pub struct TraceFile {
    path: PathBuf,
    trace: Option<Arc<Trace>>,
}

impl TraceFile {
    /// Its path, as the settings have it; empty for a trace that was made in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The trace, if it was read.
    pub fn trace(&self) -> Option<&Arc<Trace>> {
        self.trace.as_ref()
    }

    /// Reads the file unless that was done. A relative path counts from `folder`.
    ///
    /// # Errors
    ///
    /// As [`Trace::read`].
    pub fn load(&mut self, folder: &Path) -> Result<(), TraceError> {
        if self.trace.is_none() {
            self.trace = Some(Arc::new(Trace::read(&folder.join(&self.path))?));
        }
        Ok(())
    }
}

impl From<PathBuf> for TraceFile {
    fn from(path: PathBuf) -> Self {
        Self { path, trace: None }
    }
}

impl From<TraceFile> for PathBuf {
    fn from(file: TraceFile) -> Self {
        file.path
    }
}

impl From<Trace> for TraceFile {
    fn from(trace: Trace) -> Self {
        Self { path: PathBuf::new(), trace: Some(Arc::new(trace)) }
    }
}

/// Why a file is no trace. Lines count from 1.
#[derive(Debug)]
#[non_exhaustive]
pub enum TraceError {
    /// The file can't be read, or isn't text.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is larger than [`MAX_TRACE_BYTES`].
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// There are more lines than [`MAX_TRACE_OPPORTUNITIES`].
    TooManyLines,
    /// A line isn't a whole number of milliseconds.
    NotANumber {
        /// Which.
        line: usize,
    },
    /// A line is later than [`MAX_TRACE_MS`].
    TooLate {
        /// Which.
        line: usize,
    },
    /// A line is earlier than the one before it.
    Backwards {
        /// Which.
        line: usize,
    },
    /// There is no line, or all say 0, so that nothing could be repeated.
    NoLength,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "can't read {}: {error}", path.display()),
            Self::TooLarge { path } => {
                write!(f, "{} is larger than {MAX_TRACE_BYTES} bytes", path.display())
            }
            Self::TooManyLines => write!(f, "more than {MAX_TRACE_OPPORTUNITIES} lines"),
            Self::NotANumber { line } => {
                write!(f, "line {line} isn't a whole number of milliseconds")
            }
            Self::TooLate { line } => write!(f, "line {line} is later than {MAX_TRACE_MS} ms"),
            Self::Backwards { line } => write!(f, "line {line} is earlier than the line before it"),
            Self::NoLength => f.write_str("no line says more than 0 ms"),
        }
    }
}

impl Error for TraceError {}
