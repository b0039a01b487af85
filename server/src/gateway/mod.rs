//! The gateway: QUIC connections of devices.
//!
//! ```text
//! Gateway::run ─ accepts connections, limits, Retry
//!   └ connection::serve ─ greeting, hello, welcome
//!       └ session::run ─ requests, events, goAway
//!           ├ uplink::serve    one per conversation in which the device speaks
//!           └ downlink::serve  one per conversation with something for the device
//! ```
//!
//! An idle connection costs one task, its session stream and an empty inbox.

mod connection;
mod downlink;
mod limits;
mod mailbox;
mod requests;
mod session;
mod silence;
mod streams;
mod transport;
mod uplink;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};

use crate::{
    across::{Across, Owners, Post},
    clock::Clock,
    config::Config,
    directory::Directory,
    hub::Hub,
    metrics::{Limited, Metrics},
    policy::Policy,
    random::Random,
    signal::Signal,
    store::Store,
    ticket::Tickets,
    tls::Certificates,
};
use limits::AddressLimit;
pub use transport::{TransportError, endpoint_config, server_config};

/// How often the limits of addresses are tidied up.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// What all connections of a node share.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// The store, for reading what waits.
    pub store: Arc<dyn Store>,
    /// Accounts and devices.
    pub directory: Directory,
    /// The append path.
    pub owners: Owners,
    /// The way to devices.
    pub post: Post,
    /// The other nodes, if this one isn't alone.
    pub across: Option<Arc<Across>>,
    /// Who is connected.
    pub hub: Hub,
    /// What a registration needs.
    pub policy: Arc<Policy>,
    /// Seals and opens tickets.
    pub tickets: Arc<Tickets>,
    /// The certificates served.
    pub certificates: Arc<Certificates>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// Nonces, grease.
    pub random: Random,
}

impl Shared {
    /// Whether this node may serve devices now.
    pub(crate) fn is_serving(&self) -> bool {
        self.across.as_ref().is_none_or(|across| across.is_serving())
    }
}

/// Accepts connections and serves them.
pub struct Gateway {
    shared: Arc<Shared>,
    gate: Arc<Gate>,
}

/// What is counted and limited across connections.
struct Gate {
    sign_ins: AddressLimit,
    registrations: AddressLimit,
    addresses: Mutex<BTreeMap<IpAddr, u32>>,
    last_epoch: AtomicU64,
    draining: Signal,
}

impl Gate {
    fn new(config: &Config) -> Self {
        let limits = &config.limits;
        Self {
            sign_ins: AddressLimit::per_second(
                limits.sign_ins_per_address_per_second,
                limits.sign_ins_per_address_burst,
            ),
            registrations: AddressLimit::per_hour(
                limits.registrations_per_address_per_hour,
                limits.registrations_per_address_burst,
            ),
            addresses: Mutex::default(),
            last_epoch: AtomicU64::new(0),
            draining: Signal::default(),
        }
    }

    /// A number for a new connection, greater than all before it: the time, unless that stands still.
    fn next_epoch(&self, now_ms: u64) -> u64 {
        let next = |last: u64| Some(now_ms.max(last + 1));
        let last = self.last_epoch.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        now_ms.max(last.unwrap_or_else(|last| last) + 1)
    }

    fn addresses(&self) -> std::sync::MutexGuard<'_, BTreeMap<IpAddr, u32>> {
        // Each entry stands alone.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place under the limit of its address, given back when dropped.
struct Place {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Place {
    fn take(gate: &Arc<Gate>, address: IpAddr, most: u32) -> Option<Self> {
        let address = limits::prefix(address);
        let mut addresses = gate.addresses();
        let count = addresses.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(addresses);
        Some(Self { gate: gate.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = self.gate.addresses();
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

impl Gateway {
    /// A gateway that isn't accepting yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        let gate = Arc::new(Gate::new(&shared.config));
        Self { shared, gate }
    }

    /// Accepts and serves connections until `stop`, then drains: every device is told to go away,
    /// what was accepted is answered, and after `drain.within_ms` the connections are closed.
    pub async fn run(&self, endpoint: &quinn::Endpoint, stop: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => self.admit(incoming, &mut connections),
                    None => break,
                },
                Some(_) = connections.join_next() => {}
                _ = tidy.tick() => {
                    self.gate.sign_ins.tidy();
                    self.gate.registrations.tidy();
                }
            }
        }
        self.shared.metrics.draining.set(1);
        self.gate.draining.raise();
        let within = Duration::from_millis(self.shared.config.drain.within_ms);
        // Sessions close themselves in time; the rest is for connections that never became one.
        let all_gone = async {
            loop {
                tokio::select! {
                    biased;
                    ended = connections.join_next() => if ended.is_none() { return },
                    // A newcomer that hears no for an answer needn't wait for one.
                    Some(incoming) = endpoint.accept() => incoming.refuse(),
                }
            }
        };
        if timeout(within + Duration::from_secs(1), all_gone).await.is_err() {
            let code = tern_protocol::code::Code::GoingAway;
            endpoint.close(streams::var_int(code), code.name().as_bytes());
            connections.shutdown().await;
        }
        endpoint.set_server_config(None);
    }

    fn admit(&self, incoming: quinn::Incoming, connections: &mut JoinSet<()>) {
        let metrics = &self.shared.metrics;
        if !self.shared.is_serving() {
            // Another node serves whoever comes.
            return incoming.refuse();
        }
        let listen = &self.shared.config.listen;
        let handshakes = metrics.handshakes_in_progress.get();
        if metrics.connections.get() >= i64::from(listen.connections) {
            metrics.count_limited(Limited::Connections);
            tracing::warn!(limit = listen.connections, "as many connections as allowed: refused");
            return incoming.refuse();
        }
        if handshakes >= i64::from(listen.handshakes) {
            metrics.count_limited(Limited::Handshakes);
            return incoming.refuse();
        }
        // Under load an address must prove that it is one before it costs anything.
        if handshakes >= i64::from(listen.handshakes_before_retry)
            && !incoming.remote_address_validated()
        {
            metrics.retries_demanded.inc();
            // An error means that it was validated already, which was just ruled out.
            let _ = incoming.retry();
            return;
        }
        let most = self.shared.config.limits.connections_per_address;
        let Some(place) = Place::take(&self.gate, incoming.remote_address().ip(), most) else {
            metrics.count_limited(Limited::AddressConnections);
            return incoming.refuse();
        };
        let visit = connection::Visit::admitted(metrics, place);
        let (shared, gate) = (self.shared.clone(), self.gate.clone());
        // Not within another future, which would have room for it twice: before it runs, and while.
        connections.spawn(connection::serve(incoming, visit, shared, gate));
    }
}
