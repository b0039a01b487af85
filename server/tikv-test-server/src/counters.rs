//! What the client's calls cost: how many, and how large.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::method::Method;

/// What one method has cost. Sizes are those of the protobuf messages, without gRPC's and HTTP's frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests that came; of [`Method::Tso`], messages on its stream.
    pub calls: u64,
    /// Bytes of the requests.
    pub request_bytes: u64,
    /// Bytes of the replies that were sent. A reply that a fault lost doesn't count.
    pub response_bytes: u64,
}

/// What all methods have cost, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    counts: [Count; Method::ALL.len()],
    timestamps: u64,
}

impl Counts {
    /// Of one method.
    pub fn of(&self, method: Method) -> Count {
        self.counts[method.index()]
    }

    /// Calls of one method.
    pub fn calls(&self, method: Method) -> u64 {
        self.of(method).calls
    }

    /// Those that were called, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Method, Count)> {
        Method::ALL
            .into_iter()
            .map(|method| (method, self.of(method)))
            .filter(|(_, count)| count.calls > 0)
    }

    /// Calls of stores' methods, all together.
    pub fn store_calls(&self) -> u64 {
        self.iter().filter(|(method, _)| method.is_store()).map(|(_, count)| count.calls).sum()
    }

    /// Timestamps that were given out. One call of [`Method::Tso`] can ask for several, when transactions begin
    /// at once.
    pub fn timestamps(&self) -> u64 {
        self.timestamps
    }

    /// What has come since `earlier`.
    ///
    /// A reset in between leaves nothing sensible to say; what would be negative is 0.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            counts: array::from_fn(|index| {
                let (now, then) = (self.counts[index], earlier.counts[index]);
                Count {
                    calls: now.calls.saturating_sub(then.calls),
                    request_bytes: now.request_bytes.saturating_sub(then.request_bytes),
                    response_bytes: now.response_bytes.saturating_sub(then.response_bytes),
                }
            }),
            timestamps: self.timestamps.saturating_sub(earlier.timestamps),
        }
    }
}

/// Counts as calls come.
#[derive(Debug)]
pub(crate) struct Counters {
    calls: [AtomicU64; Method::ALL.len()],
    request_bytes: [AtomicU64; Method::ALL.len()],
    response_bytes: [AtomicU64; Method::ALL.len()],
    timestamps: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        let zeros = || array::from_fn(|_| AtomicU64::new(0));
        Self {
            calls: zeros(),
            request_bytes: zeros(),
            response_bytes: zeros(),
            timestamps: AtomicU64::new(0),
        }
    }
}

impl Counters {
    pub(crate) fn request(&self, method: Method, bytes: usize) {
        self.calls[method.index()].fetch_add(1, Ordering::Relaxed);
        self.request_bytes[method.index()].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn response(&self, method: Method, bytes: usize) {
        self.response_bytes[method.index()].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn timestamps(&self, count: u64) {
        self.timestamps.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Counts {
        let load = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Counts {
            counts: array::from_fn(|index| Count {
                calls: load(&self.calls[index]),
                request_bytes: load(&self.request_bytes[index]),
                response_bytes: load(&self.response_bytes[index]),
            }),
            timestamps: load(&self.timestamps),
        }
    }

    pub(crate) fn reset(&self) {
        for of in [&self.calls, &self.request_bytes, &self.response_bytes] {
            for counter in of {
                counter.store(0, Ordering::Relaxed);
            }
        }
        self.timestamps.store(0, Ordering::Relaxed);
    }
}
