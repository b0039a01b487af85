//! A server's host: its process may be killed and started again; its disk stays.

use std::{fmt, io, sync::Arc};

use quinn::{Endpoint, TokioRuntime};
use tern_server::{
    clock::Clock,
    config::Config,
    gateway::{self, TransportError},
    random::Random,
    server::{Outside, Server, StartError},
};
use tokio::task::JoinHandle;

use super::{BEGINNING_MS, Credentials, Disk, HostId, Net, SimSocket, seed_bytes, seed_for};

/// The UDP port of simulated servers.
pub const SERVER_PORT: u16 = 7_777;

/// A simulated server doesn't start.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// Its socket or end point.
    Io(io::Error),
    /// Its end point's settings.
    Transport(TransportError),
    /// The server itself.
    Start(StartError),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the simulated server has no end point: {error}"),
            Self::Transport(error) => write!(f, "the simulated server's end point: {error}"),
            Self::Start(error) => write!(f, "the simulated server doesn't start: {error}"),
        }
    }
}

impl std::error::Error for ServerError {}

/// A host with a disk and, most of the time, a server.
pub struct ServerHost {
    net: Net,
    host: HostId,
    disk: Disk,
    config: Config,
    seed: u64,
    starts: u64,
    running: Option<(Server, Endpoint)>,
    /// The process that is draining.
    stopping: Option<JoinHandle<()>>,
}

impl ServerHost {
    /// A host without a server yet. `config` is used but for data, certificate and what would make runs
    /// differ from machine to machine.
    pub fn new(
        net: &Net,
        host: HostId,
        credentials: &Credentials,
        mut config: Config,
        seed: u64,
    ) -> Self {
        config.data.dir = credentials.folder().to_owned();
        config.tls.cert_file = Some(credentials.cert_file());
        config.tls.key_file = Some(credentials.key_file());
        // A look at files is work for another thread, and nothing changes them here.
        config.tls.check_every_ms = 86_400_000;
        // As many as there are cores, it would be otherwise.
        config.engine.shards = 2;
        let disk = Disk::new(seed_for(seed, "disk", u64::from(SERVER_PORT)));
        Self {
            net: net.clone(),
            host,
            disk,
            config,
            seed,
            starts: 0,
            running: None,
            stopping: None,
        }
    }

    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The host.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// The server, if it runs.
    pub fn server(&self) -> Option<&Server> {
        self.running.as_ref().map(|(server, _)| server)
    }

    /// Starts the process, when the one before has ended.
    ///
    /// # Errors
    ///
    /// [`ServerError`] says what failed.
    pub async fn start(&mut self) -> Result<(), ServerError> {
        self.await_end().await;
        self.starts += 1;
        let seed = seed_for(self.seed, "server", self.starts);
        let random = Random::seeded(seed);
        let store = Arc::new(self.disk.open());
        let mut settings = gateway::endpoint_config(&self.config, store.as_ref(), &random)
            .await
            .map_err(ServerError::Transport)?;
        settings.rng_seed(Some(seed_bytes(seed)));
        let socket =
            SimSocket::bind(&self.net, self.host, Some(SERVER_PORT)).map_err(ServerError::Io)?;
        let endpoint = Endpoint::new_with_abstract_socket(
            settings,
            None,
            Arc::new(socket),
            Arc::new(TokioRuntime),
        )
        .map_err(ServerError::Io)?;
        let now_ms = u64::try_from(self.net.now().as_millis()).unwrap_or(u64::MAX);
        let outside = Outside {
            store,
            clock: Clock::starting_at(BEGINNING_MS + now_ms),
            random,
            endpoint: Some(endpoint.clone()),
            cluster: None,
        };
        let server =
            Server::start(self.config.clone(), outside).await.map_err(ServerError::Start)?;
        self.running = Some((server, endpoint));
        Ok(())
    }

    /// Kills the process: nothing more leaves its host or reaches its disk, and nobody is told.
    ///
    /// What it still had to do goes on for nothing, cut off from everything, until it notices.
    pub fn kill(&mut self) {
        if let Some(stopping) = self.stopping.take() {
            stopping.abort();
        }
        self.net.kill_sockets(self.host);
        self.disk.kill();
        if let Some((_, endpoint)) = self.running.take() {
            endpoint.close(0_u32.into(), b"");
        }
    }

    /// Tells the process to stop in good order, which takes it a while.
    pub fn stop(&mut self) {
        if let Some((server, _)) = self.running.take() {
            let (net, host) = (self.net.clone(), self.host);
            self.stopping = Some(tokio::spawn(async move {
                server.stop().await;
                net.kill_sockets(host);
            }));
        }
    }

    /// Waits until a process that was told to stop has ended.
    pub async fn await_end(&mut self) {
        if let Some(stopping) = self.stopping.take() {
            // A panic in it was logged where it happened.
            let _ = stopping.await;
        }
    }
}
