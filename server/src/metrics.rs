//! What is counted and measured, for Prometheus.
//!
//! [`Metrics`] is made once and shared. Every handle is resolved when it is made (or, for labels that
//! may never occur, the first time), so that counting is an atomic addition: no lock, no allocation.
//! Histograms take a short lock; they are for what happens once a batch, not once a message.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicI64, AtomicU64},
    },
};

use prometheus_client::{
    encoding::text,
    metrics::{
        family::Family,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use tern_protocol::code::Code;

/// A number that only grows.
pub type Counter = prometheus_client::metrics::counter::Counter<u64, AtomicU64>;
/// A number that goes up and down.
pub type Gauge = prometheus_client::metrics::gauge::Gauge<i64, AtomicI64>;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Label = [(&'static str, &'static str); 1];

/// A counter for each code of the protocol's registry. A code that never occurred isn't shown.
pub struct ByCode {
    family: Family<Label, Counter>,
    /// One slot for each code and a last one for codes that aren't in the registry.
    resolved: Vec<OnceLock<Counter>>,
}

impl ByCode {
    fn new() -> Self {
        let slots = Code::ALL.len() + 1;
        Self { family: Family::default(), resolved: (0..slots).map(|_| OnceLock::new()).collect() }
    }

    /// Counts one.
    pub fn count(&self, code: Code) {
        self.of(code).inc();
    }

    /// How many there were.
    pub fn get(&self, code: Code) -> u64 {
        self.of(code).get()
    }

    fn of(&self, code: Code) -> &Counter {
        // The registry is in the order of its numbers.
        let slot = Code::ALL
            .binary_search_by_key(&code.value(), |known| known.value())
            .unwrap_or(Code::ALL.len());
        let name = match slot == Code::ALL.len() {
            true => "unknown",
            false => code.name(),
        };
        self.resolved[slot].get_or_init(|| self.family.get_or_create_owned(&[("code", name)]))
    }
}

impl fmt::Debug for ByCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByCode(..)")
    }
}

/// A limit of the configuration that somebody ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limited {
    /// Messages of a device in a second.
    Messages,
    /// Sign-ins from an address in a second.
    SignIns,
    /// Registrations from an address in an hour.
    Registrations,
    /// Connections from an address.
    AddressConnections,
    /// Connections in total.
    Connections,
    /// Handshakes in progress.
    Handshakes,
    /// Requests without a response.
    Requests,
}

impl Limited {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Messages, "messages"),
        (Self::SignIns, "signIns"),
        (Self::Registrations, "registrations"),
        (Self::AddressConnections, "addressConnections"),
        (Self::Connections, "connections"),
        (Self::Handshakes, "handshakes"),
        (Self::Requests, "requests"),
    ];
}

macro_rules! metrics {
    ($(
        $kind:ident $name:ident $(in $unit:ident)? $(= $make:expr)? , $help:literal;
    )*) => {
        /// All that is counted and measured. Each field's documentation is its help text.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            limited: Vec<Counter>,
            shard_queues: Family<[(&'static str, u32); 1], Gauge>,
            $(#[doc = $help] pub $name: $kind,)*
        }

        impl Metrics {
            /// Everything at zero.
            pub fn new() -> Self {
                let mut registry = Registry::with_prefix("tern");
                $(
                    let $name = metrics!(@make $kind $($make)?);
                    metrics!(@register registry $kind $name $help $($unit)?);
                )*
                let limited = Family::<Label, Counter>::default();
                registry.register("limited", "Times that a limit was met, by limit", limited.clone());
                let shard_queues = Family::default();
                registry.register(
                    "shard_queue_commands",
                    "Commands that wait for a shard of the engine",
                    shard_queues.clone(),
                );
                let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
                registry.register("build", "The software", build);
                Self {
                    registry,
                    limited: Limited::ALL
                        .iter()
                        .map(|(_, name)| limited.get_or_create_owned(&[("limit", *name)]))
                        .collect(),
                    shard_queues,
                    $($name,)*
                }
            }
        }
    };
    (@make Histogram $make:expr) => { Histogram::new($make) };
    (@make ByCode) => { ByCode::new() };
    (@make $kind:ident) => { $kind::default() };
    (@register $registry:ident ByCode $name:ident $help:literal) => {
        $registry.register(stringify!($name), $help, $name.family.clone())
    };
    (@register $registry:ident $kind:ident $name:ident $help:literal $unit:ident) => {
        $registry.register_with_unit(stringify!($name), $help, Unit::$unit, $name.clone())
    };
    (@register $registry:ident $kind:ident $name:ident $help:literal) => {
        $registry.register(stringify!($name), $help, $name.clone())
    };
}

metrics! {
    // Connections
    Gauge connections, "Connections now";
    Gauge sessions, "Devices signed in now";
    Gauge handshakes_in_progress, "Handshakes now";
    Gauge uplinks, "Uplinks open now";
    Gauge downlinks, "Downlinks open now";
    Counter handshakes, "Handshakes begun";
    Counter handshakes_failed, "Handshakes that came to nothing";
    Counter retries_demanded, "Handshakes answered with a Retry packet";
    Counter early_data, "Connections that were resumed with 0-RTT data";
    ByCode closed, "Connections closed by the server, by code";
    ByCode closed_by_clients, "Connections closed by clients, by code";
    ByCode streams_reset, "Streams reset or stopped by the server, by code";
    ByCode frames_refused, "Frames that closed a connection, by code";

    // Sign-in
    Counter sign_ins_by_signature, "Hellos welcomed for a signature";
    Counter sign_ins_by_ticket, "Hellos welcomed for a ticket";
    Counter registrations, "Hellos welcomed that registered a device";
    ByCode hellos_rejected, "Hellos rejected, by code";
    ByCode requests_refused, "Requests answered with an error, by code";
    Counter requests, "Requests answered, errors included";
    Gauge ticket_keys, "Keys that tickets can be sealed under";

    // Messages
    Counter sends_accepted, "Messages answered as accepted, repeats included";
    ByCode sends_refused, "Messages refused, by code";
    Counter envelope in Bytes, "Bytes of the envelopes received";
    Counter deliveries, "Messages sent to devices";
    Counter acks, "Acks of devices";
    Counter receipts, "Receipts sent to devices";
    Counter read_marks, "Read marks made durable";
    Counter typing, "Typing notices passed on";
    Counter presence_events, "Presence changes told";
    Counter messages_deleted, "Messages deleted because every device has them";
    Counter messages_expired, "Messages deleted because nobody fetched them";

    // Store and caches
    Histogram commit in Seconds = exponential_buckets(0.000_25, 2.0, 14),
        "Time from a commit's start until it is durable";
    Histogram mailbox_positions = exponential_buckets(1.0, 4.0, 10),
        "Messages that wait for a device when it signs in";
    Histogram commit_appends = exponential_buckets(1.0, 2.0, 12),
        "Messages in one commit";
    Counter commits_conflicting, "Commits whose conditions did not hold";
    Counter commits_failed, "Commits that failed or whose outcome was not known";
    Counter store_scans, "Ranges read from the store";
    Counter conversation_hits, "Conversations found in memory";
    Counter conversation_misses, "Conversations that had to be read";

    // The cluster
    Gauge cluster_nodes, "Nodes of the cluster, as this one sees it";
    Gauge cluster_serving, "1 while this node may serve as a member of its cluster";
    Counter cluster_suspensions, "Times that this node stopped serving since it couldn't renew its record";
    Counter cluster_nodes_declared_dead, "Nodes that this one declared dead";
    Gauge peer_links, "Links to other nodes that work now";
    Gauge peer_connections, "Connections of other nodes now";
    Counter peer_connects_failed, "Attempts to connect to another node that came to nothing";
    Counter peer_connections_refused, "Connections of others that were refused, or closed for what they said";
    Counter peer_requests_answered, "Requests to other nodes that were answered";
    Counter peer_requests_refused, "Requests to other nodes that these refused";
    Counter peer_requests_not_sent, "Requests to other nodes that never left";
    Counter peer_requests_unknown, "Requests to other nodes whose outcome isn't known";
    Counter peer_requests_served, "Requests of other nodes";
    Counter peer_notes_sent, "Notes handed to links to other nodes";
    Counter peer_notes_dropped, "Notes to other nodes that were lost for want of room or of a link";
    Counter peer_notes_received, "Notes of other nodes";
    Counter peer_resyncs_sent, "Times that another node was told to look itself";
    Counter peer_resyncs_received, "Times that another node told this one to look itself";

    Counter routes_remembered, "Devices on other nodes whose route was in memory";
    Counter routes_read, "Devices whose route was read from the store";
    Counter letters_dropped, "News for other nodes that were dropped while routes were read";
    Counter mailbox_looks, "Mailboxes looked into for what nobody may have told";

    // The process
    Gauge draining, "1 while the server is stopping";
    Gauge certificate_not_after in Seconds, "When the certificate ends, seconds since the epoch";
    Gauge resident_memory in Bytes, "Memory of the process, where the system tells";
}

impl Metrics {
    /// Counts that a limit was met.
    pub fn count_limited(&self, limited: Limited) {
        let slot = Limited::ALL.iter().position(|(known, _)| *known == limited);
        if let Some(counter) = slot.and_then(|slot| self.limited.get(slot)) {
            counter.inc();
        }
    }

    /// The queue length of a shard, to be asked for once and kept.
    pub fn shard_queue(&self, shard: u32) -> Gauge {
        self.shard_queues.get_or_create_owned(&[("shard", shard)])
    }

    /// Everything in the text format of OpenMetrics.
    pub fn render(&self) -> String {
        if let Some(bytes) = resident_bytes() {
            self.resident_memory.set(bytes);
        }
        let mut text = String::with_capacity(16 << 10);
        // Writing to a string can't fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Resident memory of this process; Linux says it in pages of (nearly always) 4 KiB, and in kB.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.connections.set(3);
        metrics.sends_accepted.inc_by(5);
        metrics.sends_refused.count(Code::MailboxFull);
        metrics.closed.count(Code::Unknown(0x7777));
        metrics.count_limited(Limited::SignIns);
        metrics.shard_queue(1).set(9);
        metrics.commit.observe(0.003);
        let text = metrics.render();
        for line in [
            "tern_connections 3",
            "tern_sends_accepted_total 5",
            "tern_sends_refused_total{code=\"mailboxFull\"} 1",
            "tern_closed_total{code=\"unknown\"} 1",
            "tern_limited_total{limit=\"signIns\"} 1",
            "tern_shard_queue_commands{shard=\"1\"} 9",
            "tern_commit_seconds_count 1",
            "tern_commit_seconds_bucket{le=\"0.004\"} 1",
            concat!("tern_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} isn't in\n{text}");
        }
        assert!(!text.contains("counterGap"), "a code that never occurred");
    }

    #[test]
    fn every_code_has_its_own_count() {
        let metrics = Metrics::new();
        for (n, &code) in Code::ALL.iter().enumerate() {
            for _ in 0..=n {
                metrics.closed.count(code);
            }
        }
        metrics.closed.count(Code::Unknown(0xfff));
        for (n, &code) in Code::ALL.iter().enumerate() {
            assert_eq!(metrics.closed.get(code), n as u64 + 1, "{}", code.name());
        }
        assert_eq!(metrics.closed.get(Code::Unknown(0x7777)), 1);
    }

    #[test]
    fn counts_of_many_threads_add_up() {
        let metrics = Metrics::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..1000).for_each(|_| metrics.sends_refused.count(Code::CounterGap))
                });
            }
        });
        assert_eq!(metrics.sends_refused.get(Code::CounterGap), 4000);
    }
}
