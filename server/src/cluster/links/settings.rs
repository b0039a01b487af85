//! The settings of links.

use std::time::Duration;

/// How nodes talk. Every node should have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkSettings {
    /// The lease of the membership, in milliseconds: a link is given up after half of it without a sign of
    /// life. 400 to 60,000.
    pub lease_ms: u32,
    /// Requests to one node without an answer; more wait. Also what a node has in work for another at once. 1 to
    /// 65,536.
    pub requests: u32,
    /// How long a request may take from being begun to its answer, in milliseconds. 10 to 600,000.
    pub request_timeout_ms: u32,
    /// Bytes of notes that wait for one node. 65,536 to 1 GiB.
    pub note_bytes: u32,
    /// Notes that wait for one node. 1 to 1,000,000.
    pub notes: u32,
    /// Bytes after which a batch is full. It may be longer by one item. 1,024 to 262,144.
    pub batch_bytes: u32,
    /// The longest pause between two attempts to connect, in milliseconds; the first is a sixteenth of it or
    /// less. 16 to 60,000.
    pub retry_most_ms: u32,
    /// How long a connection may take until it is agreed who speaks, in milliseconds. 100 to 60,000.
    pub hello_timeout_ms: u32,
    /// Connections of other nodes that aren't agreed yet, at once; more are refused. 1 to 10,000.
    pub handshakes: u32,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            lease_ms: 2_000,
            requests: 1_024,
            request_timeout_ms: 5_000,
            note_bytes: 4 * 1024 * 1024,
            notes: 16_384,
            batch_bytes: 65_536,
            retry_most_ms: 1_000,
            hello_timeout_ms: 5_000,
            handshakes: 64,
        }
    }
}

/// A setting of a cluster is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfBounds {
    /// Its name.
    pub setting: &'static str,
    /// Its value.
    pub value: u64,
    /// The lowest and the highest allowed.
    pub bounds: (u64, u64),
}

impl std::fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { setting, value, bounds: (low, high) } = self;
        write!(f, "{setting} is {value}, and {low} to {high} are allowed")
    }
}

impl std::error::Error for OutOfBounds {}

impl LinkSettings {
    /// Whether each setting is within its bounds; the first that isn't otherwise.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        for (setting, value, bounds) in [
            ("lease_ms", self.lease_ms, (400_u64, 60_000)),
            ("requests", self.requests, (1, 65_536)),
            ("request_timeout_ms", self.request_timeout_ms, (10, 600_000)),
            ("note_bytes", self.note_bytes, (65_536, 1 << 30)),
            ("notes", self.notes, (1, 1_000_000)),
            ("batch_bytes", self.batch_bytes, (1_024, 262_144)),
            ("retry_most_ms", self.retry_most_ms, (16, 60_000)),
            ("hello_timeout_ms", self.hello_timeout_ms, (100, 60_000)),
            ("handshakes", self.handshakes, (1, 10_000)),
        ] {
            let value = u64::from(value);
            if !(bounds.0..=bounds.1).contains(&value) {
                return Err(OutOfBounds { setting, value, bounds });
            }
        }
        Ok(())
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.lease_ms / 2))
    }

    pub(super) fn keep_alive(&self) -> Duration {
        Duration::from_millis(u64::from(self.lease_ms / 8))
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.request_timeout_ms))
    }

    pub(super) fn hello_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.hello_timeout_ms))
    }
}
