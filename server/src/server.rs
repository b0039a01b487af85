//! A running server: all parts put together.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use socket2::SockRef;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    across::{self, Abroad, Across, Owners, Post},
    clock::Clock,
    cluster::{
        Membership, MembershipSettings, Myself,
        links::{OutOfBounds, Peers},
        membership::JoinError,
    },
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
    route::{
        Routes,
        cache::{OpenCacheError, RouteCache},
    },
    store::Store,
    ticket::{RefreshError, Tickets},
    tls::{Certificates, TlsError},
};

/// Accounts kept in memory.
const CACHED_ACCOUNTS: usize = 100_000;
/// How long a conversation is idle before it is tidied up, in milliseconds.
const SETTLE_MS: u64 = 1_000;
/// How long a node's word about who is online counts after its end, in milliseconds: until its phones have found
/// another node.
const PRESENCE_AFTER_MS: u64 = 8_000;
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
    /// This node can't become one of a cluster.
    Join(JoinError),
    /// A setting of the links between nodes is out of its bounds.
    Links(OutOfBounds),
    /// The memory of routes can't be opened.
    Routes(OpenCacheError),
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
            Self::Join(error) => error.fmt(f),
            Self::Links(error) => write!(f, "the links between nodes: {error}"),
            Self::Routes(error) => write!(f, "the memory of routes: {error}"),
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
            Self::Join(error) => Some(error),
            Self::Links(error) => Some(error),
            Self::Routes(error) => Some(error),
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
    /// The way to the other nodes of a cluster; `None` for a node that is alone.
    pub cluster: Option<across::Outside>,
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
    cluster: Option<(Arc<Across>, across::Running)>,
}

/// What is needed of the cluster before the rest of the server is put together.
struct Joined {
    membership: Membership,
    peers: Peers,
    routes: Routes,
    abroad: Arc<Abroad>,
    outside: across::Outside,
}

impl Server {
    /// Starts a server. It runs until [`Server::stop`].
    pub async fn start(config: Config, outside: Outside) -> Result<Self, StartError> {
        let Outside { store, clock, random, endpoint, cluster } = outside;
        let metrics = Arc::new(Metrics::new());
        let certificates = Certificates::open(&config, clock).map_err(StartError::Tls)?;
        let policy = Arc::new(Policy::open(&config.registration).map_err(StartError::Policy)?);
        let tickets = Tickets::open(&config.ticket, store.as_ref(), random.clone(), clock.now_ms());
        let tickets = Arc::new(tickets.await.map_err(StartError::Tickets)?);
        let devices = usize::from(config.limits.devices_per_account);
        let directory = Directory::new(store.clone(), random.clone(), CACHED_ACCOUNTS, devices);
        let joined = match cluster {
            Some(cluster) => Some(join(&config, cluster, &store, clock, &random, &metrics).await?),
            None => None,
        };
        let (hub, post) = match &joined {
            Some(joined) => {
                let hub = Hub::of_cluster();
                (hub.clone(), Post::of_many(hub, joined.abroad.clone()))
            }
            None => {
                let hub = Hub::default();
                (hub.clone(), Post::of_one(hub))
            }
        };
        let audience: Arc<dyn Audience> = Arc::new(post.clone());
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
            is_shared: joined.is_some(),
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
        let owners = match &joined {
            Some(joined) => {
                let (views, peers) = (joined.membership.views(), joined.peers.clone());
                Owners::of_many(conversations.clone(), views, peers)
            }
            None => Owners::of_one(conversations.clone()),
        };
        let cluster = joined.map(|joined| {
            let parts = across::Parts {
                store: store.clone(),
                directory: directory.clone(),
                conversations,
                hub: hub.clone(),
                metrics: metrics.clone(),
                routes: joined.routes,
                peers: joined.peers,
                abroad: joined.abroad,
                membership: joined.membership,
            };
            let settings = across::Settings {
                look_again_ms: config.store.give_up_after_ms + u64::from(config.cluster.lease_ms),
                presence_after_ms: PRESENCE_AFTER_MS,
            };
            Across::start(parts, joined.outside, random.clone(), settings)
        });
        let sweeper = Sweeper {
            store: store.clone(),
            owners: owners.clone(),
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
                let settings = gateway::endpoint_config(&config, store.as_ref(), &random).await;
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
            owners,
            post,
            across: cluster.as_ref().map(|(across, _)| across.clone()),
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
        Ok(Self {
            address,
            metrics,
            certificates,
            policy,
            stop,
            gateway,
            background,
            shards,
            cluster,
        })
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

    /// Asks, again and again, whether it is for this node to do what one node does for all. A node that is alone does
    /// everything.
    pub fn does_for_all(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let across = self.cluster.as_ref().map(|(across, _)| across.clone());
        move || across.as_ref().is_none_or(|across| across.does_for_all())
    }

    /// Asks, again and again, whether clients are served: not while a node of a cluster can't renew its record, since
    /// the others may soon hold it for dead.
    pub fn serves(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let across = self.cluster.as_ref().map(|(across, _)| across.clone());
        move || across.as_ref().is_none_or(|across| across.is_serving())
    }

    /// Ready when other nodes of the cluster hold this one for dead. It serves nobody any more, and is to be stopped
    /// and started anew. Never ready without a cluster.
    pub fn fenced(&self) -> impl Future<Output = ()> + Send + use<> {
        let fenced = self.cluster.as_ref().map(|(_, running)| running.fenced.clone());
        async move {
            if let Some(mut fenced) = fenced
                && fenced.wait_for(|&is_fenced| is_fenced).await.is_ok()
            {
                return;
            }
            std::future::pending().await
        }
    }

    /// Drains and stops: tells the devices to go away, closes their connections after
    /// `drain.within_ms` at the latest, and commits what is left. A node of a cluster gives what it owns to the others
    /// first, and leaves the cluster at the end.
    pub async fn stop(self) {
        if let Some((across, _)) = &self.cluster {
            across.drain().await;
        }
        self.stop.send_replace(true);
        log_panic(self.gateway.await);
        for task in self.background {
            task.abort();
            // It was cancelled, which is no failure.
            let _ = task.await;
        }
        let across = match self.cluster {
            Some((across, running)) => {
                across.hang_up(running).await;
                Some(across)
            }
            None => None,
        };
        for shard in self.shards {
            log_panic(shard.await);
        }
        if let Some(across) = across {
            across.leave_cluster().await;
        }
    }
}

/// Becomes a node of a cluster.
async fn join(
    config: &Config,
    outside: across::Outside,
    store: &Arc<dyn Store>,
    clock: Clock,
    random: &Random,
    metrics: &Arc<Metrics>,
) -> Result<Joined, StartError> {
    let cluster = &config.cluster;
    let listen = |source| StartError::Listen { address: cluster.listen, source };
    let cache = RouteCache::open(config.route_cache(), clock).await.map_err(StartError::Routes)?;
    let peers = Peers::new(config.links(), metrics.clone()).map_err(StartError::Links)?;
    let peer_address = match cluster.advertise {
        Some(address) => address,
        None => outside.endpoint.local_addr().map_err(listen)?,
    };
    let myself = Myself {
        name: cluster.name.clone(),
        peer_address,
        client_address: cluster.client_address.clone(),
    };
    let settings = MembershipSettings { lease_ms: cluster.lease_ms };
    let membership =
        Membership::join(myself, store.clone(), clock, random, metrics.clone(), settings);
    let membership = membership.await.map_err(StartError::Join)?;
    let views = membership.views();
    let routes = Routes::new(views.now().me(), store.clone(), cache);
    let abroad = Abroad::new(views, peers.clone(), routes.clone(), metrics.clone());
    Ok(Joined { membership, peers, routes, abroad, outside })
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
