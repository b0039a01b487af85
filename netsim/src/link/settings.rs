//! What a link is told to be, and the check of it.

use std::{error::Error, fmt, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    Pace, TraceError, TraceFile,
    chance::Share,
    loss::{Loss, LossPlan},
};

/// The longest delay, jitter or extra delay in milliseconds: an hour. The longest RTT measured on a mobile
/// link is about a minute.
pub const MAX_DELAY_MS: f64 = 3_600_000.0;
/// The lowest rate in kbit/s: one bit per second.
pub const MIN_RATE_KBIT_S: f64 = 0.001;
/// The highest rate in kbit/s: a terabit per second.
pub const MAX_RATE_KBIT_S: f64 = 1e9;
/// The queue when none is set: Linux's default for a network interface.
pub const DEFAULT_QUEUE_PACKETS: usize = 1_000;
/// The longest queue. A link's memory is 8 bytes per packet of it.
pub const MAX_QUEUE_PACKETS: usize = 100_000;

/// What one direction of a path is like. What isn't set is perfect: no delay, no limit, no loss.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkSettings {
    /// The delay of every packet in milliseconds, 0 to [`MAX_DELAY_MS`].
    pub delay_ms: f64,
    /// Up to so many milliseconds more, each packet by itself, evenly spread (so half of it on average); 0 to
    /// [`MAX_DELAY_MS`]. It doesn't reorder: a packet that a later one would overtake holds that one up. So when
    /// packets follow each other much faster than this, most have nearly all of it.
    pub jitter_ms: f64,
    /// The rate in kbit/s (1,000 bits), [`MIN_RATE_KBIT_S`] to [`MAX_RATE_KBIT_S`]. Unlimited when it isn't set.
    pub rate_kbit_s: Option<f64>,
    /// How many packets may wait, besides the one that is being sent, 0 to [`MAX_QUEUE_PACKETS`]; more are dropped
    /// as they come. [`DEFAULT_QUEUE_PACKETS`] when it isn't set. Only a link with a rate or a trace has a queue.
    pub queue_packets: Option<usize>,
    /// Which packets are lost.
    #[serde(skip_serializing_if = "Loss::is_none")]
    pub loss: Loss,
    /// The share of packets that are delayed by [`LinkSettings::reorder_by_ms`] more, so that later ones overtake
    /// them, 0 to 1.
    pub reorder: f64,
    /// How much more, in milliseconds, 0 to [`MAX_DELAY_MS`]; above 0 if anything is to be reordered.
    pub reorder_by_ms: f64,
    /// The share of packets that come out twice, 0 to 1. The copy costs nothing of the rate.
    pub duplicate: f64,
    /// The share of packets in which one random bit is flipped, 0 to 1.
    pub corrupt: f64,
    /// The largest packet in bytes, 1 or more; larger ones are dropped. Unlimited when it isn't set.
    pub mtu_bytes: Option<usize>,
    /// A file of packet-delivery opportunities instead of a rate. The settings name it;
    /// [`LinkSettings::load_trace`] reads it.
    pub trace: Option<TraceFile>,
}

impl LinkSettings {
    /// Whether packets may be lost by chance.
    pub fn can_lose(&self) -> bool {
        !matches!(self.loss, Loss::None | Loss::Independent { probability: 0.0 })
    }

    /// Reads the trace, if the settings name one that isn't loaded yet. A relative path counts from `folder`, the
    /// one that the settings came from.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, with its path.
    pub fn load_trace(&mut self, folder: &Path) -> Result<(), TraceError> {
        match &mut self.trace {
            Some(trace) => trace.load(folder),
            None => Ok(()),
        }
    }

    /// Whether [`Link::new`](super::Link::new) would take them.
    ///
    /// # Errors
    ///
    /// As [`Link::new`](super::Link::new).
    pub fn check(&self) -> Result<(), LinkError> {
        self.plan().map(drop)
    }

    pub(super) fn plan(&self) -> Result<Plan, LinkError> {
        let queue_packets = self.queue_packets.unwrap_or(DEFAULT_QUEUE_PACKETS);
        if queue_packets > MAX_QUEUE_PACKETS {
            return Err(LinkError::OutOfRange {
                field: "queue_packets",
                value: queue_packets as f64,
                allowed: "0 to 100,000 packets",
            });
        }
        if self.mtu_bytes == Some(0) {
            return Err(LinkError::OutOfRange {
                field: "mtu_bytes",
                value: 0.0,
                allowed: "1 or more bytes",
            });
        }
        let reorder_by_ns = delay_ns("reorder_by_ms", self.reorder_by_ms)?;
        let reorder = share("reorder", self.reorder)?;
        if self.reorder > 0.0 && reorder_by_ns == 0 {
            return Err(LinkError::Missing { field: "reorder_by_ms", wanted_by: "reorder" });
        }
        Ok(Plan {
            delay_ns: delay_ns("delay_ms", self.delay_ms)?,
            jitter_ns: delay_ns("jitter_ms", self.jitter_ms)?,
            pace: self.pace()?,
            queue_packets,
            loss: self.loss.plan()?,
            reorder,
            reorder_by_ns,
            duplicate: share("duplicate", self.duplicate)?,
            corrupt: share("corrupt", self.corrupt)?,
            mtu_bytes: self.mtu_bytes,
        })
    }

    fn pace(&self) -> Result<Pace, LinkError> {
        match (self.rate_kbit_s, &self.trace) {
            (None, None) => Ok(Pace::Unlimited),
            (Some(_), Some(_)) => {
                Err(LinkError::Conflict { field: "rate_kbit_s", other_field: "trace" })
            }
            (Some(rate), None) => {
                let rate = in_range(rate, MIN_RATE_KBIT_S, MAX_RATE_KBIT_S).ok_or(
                    LinkError::OutOfRange {
                        field: "rate_kbit_s",
                        value: rate,
                        allowed: "0.001 to 1,000,000,000 kbit/s",
                    },
                )?;
                Ok(Pace::BitsPerSecond(whole(rate * 1e3).max(1)))
            }
            (None, Some(file)) => {
                let trace = file.trace().ok_or(LinkError::TraceNotLoaded)?;
                Ok(Pace::Trace(trace.clone()))
            }
        }
    }
}

/// Settings in whole numbers, all of them within bounds.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) delay_ns: u64,
    pub(super) jitter_ns: u64,
    pub(super) pace: Pace,
    pub(super) queue_packets: usize,
    pub(super) loss: LossPlan,
    pub(super) reorder: Share,
    pub(super) reorder_by_ns: u64,
    pub(super) duplicate: Share,
    pub(super) corrupt: Share,
    pub(super) mtu_bytes: Option<usize>,
}

/// Why settings make no link.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum LinkError {
    /// A field isn't a number within its bounds.
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it was.
        value: f64,
        /// What it may be.
        allowed: &'static str,
    },
    /// Of two fields only one may be set.
    Conflict {
        /// The one.
        field: &'static str,
        /// The other.
        other_field: &'static str,
    },
    /// A field must be set because another one is.
    Missing {
        /// The field that is missing.
        field: &'static str,
        /// The one that makes no sense without it.
        wanted_by: &'static str,
    },
    /// `trace` names a file that nobody has read.
    TraceNotLoaded,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { field, value, allowed } => {
                write!(f, "{field} is {value}, but may be {allowed}")
            }
            Self::Conflict { field, other_field } => {
                write!(f, "{field} and {other_field} exclude each other")
            }
            Self::Missing { field, wanted_by } => {
                write!(f, "{wanted_by} needs {field} to be above 0")
            }
            Self::TraceNotLoaded => f.write_str("the file that trace names wasn't loaded"),
        }
    }
}

impl Error for LinkError {}

/// The share that a field says.
pub(super) fn share(field: &'static str, value: f64) -> Result<Share, LinkError> {
    in_range(value, 0.0, 1.0).map(Share::new).ok_or(LinkError::OutOfRange {
        field,
        value,
        allowed: "a share from 0 to 1",
    })
}

fn delay_ns(field: &'static str, ms: f64) -> Result<u64, LinkError> {
    in_range(ms, 0.0, MAX_DELAY_MS).map(|ms| whole(ms * 1e6)).ok_or(LinkError::OutOfRange {
        field,
        value: ms,
        allowed: "0 to 3,600,000 ms",
    })
}

/// `None` for what isn't a number, too.
fn in_range(value: f64, least: f64, most: f64) -> Option<f64> {
    (value >= least && value <= most).then_some(value)
}

/// Rounded to the next whole number; one multiplication and one rounding are the same on every machine.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the bounds keep it between 0 and 4·10¹⁵; anything else saturates"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}
