//! What an application may choose. The defaults are those of a phone.

use std::{fmt, sync::Arc, time::Duration};

use crate::network::{Network, SystemNetwork};

/// Settings of a client; every field has a default, so set the ones that matter:
///
/// ```
/// use std::time::Duration;
/// let settings = tern_client::Settings {
///     active: false,
///     keep_alive: Some(tern_client::KeepAlive {
///         inactive_most: Duration::from_secs(120),
///         ..Default::default()
///     }),
///     ..Default::default()
/// };
/// ```
pub struct Settings {
    /// Where sockets come from. A simulator gives its own.
    pub network: Arc<dyn Network>,
    /// Seeds the generator of all randomness: keys, message ids, jitter, grease. `None`: from the
    /// operating system. Only a simulator sets it, since who knows the seed knows the key.
    pub seed: Option<[u8; 32]>,
    /// The time of day in milliseconds since the epoch, for the time of messages that no server has
    /// accepted yet. (Everything that waits uses tokio's clock.)
    pub time_of_day_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Whether a user is looking. An inactive client gets no presence and no typing, and its receipts in
    /// batches, so that the radio sleeps.
    pub active: bool,
    /// After how much silence a packet is sent; `None`: the connection may die in silence, and what the
    /// server has for the client waits for its next connection.
    pub keep_alive: Option<KeepAlive>,
    /// A connection on which an answer is due and nothing comes for so long is dead, and the client says that it
    /// has none. (Others are tried after 3 s already.)
    pub idle_timeout: Duration,
    /// How long one attempt to connect and sign in may take.
    pub connect_timeout: Duration,
    /// Bytes that may be on their way up without an acknowledgement. It bounds the rate of uploads: at 100 ms of
    /// round trip to 20 Mbit/s.
    pub send_window_bytes: u64,
    /// The congestion window at the start of a connection, in bytes: no more than slow networks can queue
    /// for a second or two.
    pub initial_window_bytes: u64,
    /// Whether to look for a larger packet size than 1,200 bytes. It costs probes and a little memory
    /// and pays for large transfers alone.
    pub mtu_discovery: bool,
    /// Downlinks that the server may have open at a time.
    pub downlinks: u16,
    /// An uplink without anything to say is closed after so long.
    pub uplink_idle: Duration,
    /// Whether the store runs on the caller's thread instead of its own. For simulators: then nothing
    /// happens outside tokio's clock.
    pub inline_store: bool,
    /// Whether all streams travel in one, to compare; the server must have been told as well.
    #[cfg(feature = "single-stream")]
    pub single_stream: bool,
    /// Name and version of the application, at most 64 bytes, for the server's operator.
    pub software: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            network: Arc::new(SystemNetwork),
            seed: None,
            time_of_day_ms: Arc::new(time_of_day_ms),
            active: true,
            keep_alive: Some(KeepAlive::default()),
            idle_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            send_window_bytes: 262_144,
            initial_window_bytes: 32_768,
            mtu_discovery: false,
            downlinks: 32,
            uplink_idle: Duration::from_secs(15),
            inline_store: false,
            #[cfg(feature = "single-stream")]
            single_stream: false,
            software: concat!("tern-client ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// How long a client may be silent before it says something only to be remembered: by the server, which takes a
/// silent client for gone, and by the routers in between, which forget where it is.
///
/// Within these bounds the client finds out by itself how long the routers remember. What the server says that
/// it bears goes before all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// No shorter silence, whatever routers seem to forget or a server says of them. 5 s by default: no
    /// router in use is known to forget sooner, and a server that lies costs no more than 720 packets an hour.
    pub least: Duration,
    /// The longest silence while a user looks. 15 s by default, and 12 s with a server that holds a silent
    /// client for gone after 30 s: the radio is awake anyway, and the others see soon who is gone.
    pub active_most: Duration,
    /// The first silence that is tried while nobody looks, on a network of which nothing is known. 25 s by
    /// default: the routers that are known to be impatient forget after 30 s.
    pub inactive_first: Duration,
    /// The longest silence while nobody looks. 4 min by default: what is longer saves little, as the radio
    /// is awake for a twentieth of the time then, and routers should remember for 5 min (RFC 4787, REQ-5).
    pub inactive_most: Duration,
}

impl KeepAlive {
    /// A packet after so much silence, on every network and whether a user looks or not.
    pub fn fixed(every: Duration) -> Self {
        Self { least: every, active_most: every, inactive_first: every, inactive_most: every }
    }
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            least: Duration::from_secs(5),
            active_most: Duration::from_secs(15),
            inactive_first: Duration::from_secs(25),
            inactive_most: Duration::from_secs(240),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("active", &self.active)
            .field("keep_alive", &self.keep_alive)
            .field("software", &self.software)
            .finish_non_exhaustive()
    }
}

fn time_of_day_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
