//! A running server: all parts put together.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use socket2::SockRef;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    clock::Clock,
    config::{Config, RetentionPolicy},
    conversation::{self, Audience, Conversations, Rules},
    directory::Directory,
    gateway::{self, Gateway, TransportError},
    hub::Hub,
    invites,
    metrics::Metrics,
    policy::{Policy, PolicyError},
    random::Random,
    retention::{self, Sweeper},
    store::Store,
    ticket::{RefreshError, Tickets},
    tls::{Certificates, TlsError},
};

/// Accounts kept in memory.
const CACHED_ACCOUNTS: usize = 100_000;
/// How long a conversation is idle before it is tidied up, in milliseconds.
const SETTLE_MS: u64 = 1_000;
/// How often old invites are deleted and the certificate's end is looked up.
const HOUSE_EVERY: Duration = Duration::from_secs(600);
/// When a send into a full mailbox may be tried again, in milliseconds.
const FULL_RETRY_MS: u64 = 60_000;
/// Packets that wait in the kernel while the server is at work. All clients share the one socket, and
/// what doesn't fit is lost: Linux's default of 208 KiB is full after some ninety handshakes that begin
/// at once, and a client that lost its first packets comes back after seconds.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// The server can't start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The certificate can't be made or loaded.
    Tls(TlsError),
    /// The QUIC settings can't be used.
    Transport(TransportError),
    /// The registration policy can't be set up.
    Policy(PolicyError),
    /// The ticket keys can't be loaded.
    Tickets(RefreshError),
    /// The address can't be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => write!(f, "the certificate: {error}"),
            Self::Transport(error) => write!(f, "the transport: {error}"),
            Self::Policy(error) => write!(f, "the registration policy: {error}"),
            Self::Tickets(error) => write!(f, "the ticket keys: {error}"),
            Self::Listen { address, source } => write!(f, "can't listen on {address}: {source}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tls(error) => Some(error),
            Self::Transport(error) => Some(error),
            Self::Policy(error) => Some(error),
            Self::Tickets(error) => Some(error),
            Self::Listen { source, .. } => Some(source),
        }
    }
}

/// What a server gets from outside.
pub struct Outside {
    /// Where everything durable is.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// The network: an end point that has no server configuration yet; `None` for a UDP socket on the
    /// configured address.
    pub endpoint: Option<Endpoint>,
}

/// A server that accepts connections.
pub struct Server {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    certificates: Arc<Certificates>,
    policy: Arc<Policy>,
    stop: watch::Sender<bool>,
    gateway: JoinHandle<()>,
    background: Vec<JoinHandle<()>>,
    shards: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a server. It runs until [`Server::stop`].
    pub async fn start(config: Config, outside: Outside) -> Result<Self, StartError> {
        let Outside { store, clock, random, endpoint } = outside;
        let metrics = Arc::new(Metrics::new());
        let certificates = Certificates::open(&config, clock).map_err(StartError::Tls)?;
        let policy = Arc::new(Policy::open(&config.registration).map_err(StartError::Policy)?);
        let tickets = Tickets::open(&config.ticket, store.as_ref(), random.clone(), clock.now_ms());
        let tickets = Arc::new(tickets.await.map_err(StartError::Tickets)?);
        let devices = usize::from(config.limits.devices_per_account);
        let directory = Directory::new(store.clone(), random.clone(), CACHED_ACCOUNTS, devices);
        let hub = Hub::default();
        let audience: Arc<dyn Audience> = Arc::new(hub.clone());
        let unfetched_for_ms = config.retention.unfetched_for_ms;
        let delivered_for_ms = match config.retention.policy {
            // What is delivered is gone long before; the index is for what isn't.
            RetentionPolicy::Delivered => unfetched_for_ms,
            RetentionPolicy::Keep => config.retention.keep_for_ms,
        };
        let bucket_ms = retention::bucket_ms(delivered_for_ms);
        let settings = conversation::Settings {
            shards: config.shards(),
            queue_commands: config.limits.queued_commands_per_shard as usize,
            batch_commands: config.engine.batch_appends as usize,
            batch_bytes: config.engine.batch_bytes as usize,
            cached_conversations: config.engine.cached_conversations as usize,
            settle_ms: SETTLE_MS,
            rules: Rules {
                envelope_bytes: config.limits.envelope_bytes,
                undelivered: u64::from(config.limits.undelivered_per_conversation),
                full_retry_ms: FULL_RETRY_MS,
                bucket_ms,
                delete_delivered: config.retention.policy == RetentionPolicy::Delivered,
            },
        };
        let (conversations, shards) =
            Conversations::start(&store, &directory, &audience, &metrics, clock, &settings);
        let sweeper = Sweeper {
            store: store.clone(),
            conversations: conversations.clone(),
            metrics: metrics.clone(),
            clock,
            settings: retention::Settings {
                delivered_for_ms,
                unfetched_for_ms,
                bucket_ms,
                sweep_every_ms: config.retention.sweep_every_ms,
            },
        };
        let quic = gateway::server_config(&config, &certificates).map_err(StartError::Transport)?;
        let endpoint = match endpoint {
            Some(endpoint) => {
                endpoint.set_server_config(Some(quic));
                endpoint
            }
            None => {
                let settings = gateway::endpoint_config(store.as_ref(), &random).await;
                listen(config.listen.address, settings.map_err(StartError::Transport)?, quic)?
            }
        };
        let address = endpoint
            .local_addr()
            .map_err(|source| StartError::Listen { address: config.listen.address, source })?;
        let background = vec![
            tokio::spawn(sweeper.run()),
            tokio::spawn(keep_house(store.clone(), certificates.clone(), metrics.clone(), clock)),
            tokio::spawn(tickets.clone().keep_fresh(
                store.clone(),
                clock,
                metrics.ticket_keys.clone(),
            )),
            tokio::spawn(
                certificates.clone().watch(Duration::from_millis(config.tls.check_every_ms)),
            ),
        ];
        let gateway = Gateway::new(Arc::new(gateway::Shared {
            config,
            store,
            directory,
            conversations,
            hub,
            policy: policy.clone(),
            tickets,
            certificates: certificates.clone(),
            metrics: metrics.clone(),
            clock,
            random,
        }));
        let (stop, mut stopped) = watch::channel(false);
        let gateway = tokio::spawn(async move {
            // The sender lives as long as the server, and its end is a stop as well.
            let stopped = async { drop(stopped.wait_for(|&stop| stop).await) };
            gateway.run(&endpoint, stopped).await;
            endpoint.wait_idle().await;
        });
        Ok(Self { address, metrics, certificates, policy, stop, gateway, background, shards })
    }

    /// The address that clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Reads certificates and keys of tokens again; failures are logged, and the old ones stay.
    pub fn reload(&self) {
        match self.certificates.reload() {
            Ok(reloaded) => tracing::info!(?reloaded, "certificates"),
            Err(error) => tracing::error!(%error, "the certificate isn't reloaded"),
        }
        if let Err(error) = self.policy.reload() {
            tracing::error!(%error, "the registration policy isn't reloaded");
        }
    }

    /// Drains and stops: tells the devices to go away, closes their connections after
    /// `drain.within_ms` at the latest, and commits what is left.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        log_panic(self.gateway.await);
        for task in self.background {
            task.abort();
            // It was cancelled, which is no failure.
            let _ = task.await;
        }
        for shard in self.shards {
            log_panic(shard.await);
        }
    }
}

/// What is to be done now and then.
async fn keep_house(
    store: Arc<dyn Store>,
    certificates: Arc<Certificates>,
    metrics: Arc<Metrics>,
    clock: Clock,
) {
    loop {
        if let Some(not_after_ms) = certificates.not_after_ms() {
            metrics.certificate_not_after.set((not_after_ms / 1_000) as i64);
        }
        if let Err(error) = invites::sweep(store.as_ref(), clock.now_ms()).await {
            tracing::warn!(%error, "old invites weren't deleted");
        }
        tokio::time::sleep(HOUSE_EVERY).await;
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a part of the server has failed");
    }
}

fn listen(
    address: SocketAddr,
    settings: EndpointConfig,
    quic: quinn::ServerConfig,
) -> Result<Endpoint, StartError> {
    let error = |source| StartError::Listen { address, source };
    let socket = std::net::UdpSocket::bind(address).map_err(error)?;
    // Best effort: the system grants as much as it allows (Linux: net.core.rmem_max).
    let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    Endpoint::new(settings, Some(quic), socket, Arc::new(TokioRuntime)).map_err(error)
}
