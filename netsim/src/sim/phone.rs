//! A phone's host: its process may be killed and started again; its folder stays.

use std::{
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use tern_client::{Client, Events, Network, OpenError, RegisterError, Settings};

use super::{BEGINNING_MS, Credentials, HostId, Net, SimSocket, seed_bytes, seed_for};

/// How often the folder of a process that was killed is tried; its last task ends at once.
const TRIES: u32 = 100;

/// A simulated phone's process doesn't start.
#[derive(Debug)]
#[non_exhaustive]
pub enum PhoneError {
    /// The folder can't be opened.
    Open(OpenError),
    /// It can't be registered.
    Register(RegisterError),
}

impl fmt::Display for PhoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => write!(f, "a simulated phone doesn't start: {error}"),
            Self::Register(error) => write!(f, "a simulated phone can't register: {error}"),
        }
    }
}

impl std::error::Error for PhoneError {}

/// A host with a folder and, most of the time, a client.
pub struct Phone {
    net: Net,
    host: HostId,
    home: PathBuf,
    seed: u64,
    starts: u64,
    settings: Arc<dyn Fn() -> Settings + Send + Sync>,
}

impl Phone {
    /// A phone with an empty folder. `settings` are used but for network, time, seed and store.
    pub fn new(
        net: &Net,
        host: HostId,
        credentials: &Credentials,
        name: &str,
        seed: u64,
        settings: Arc<dyn Fn() -> Settings + Send + Sync>,
    ) -> Self {
        let home = credentials.folder().join(name);
        let seed = seed_for(seed, name, 0);
        Self { net: net.clone(), host, home, seed, starts: 0, settings }
    }

    /// The host.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Starts the process. It doesn't connect yet.
    ///
    /// # Errors
    ///
    /// [`PhoneError::Open`] if the folder can't be used, as when the process before still runs.
    pub async fn start(&mut self) -> Result<(Client, Events), PhoneError> {
        self.starts += 1;
        let mut tries = 0;
        loop {
            let seed = seed_for(self.seed, "client", self.starts);
            let net = self.net.clone();
            let mut settings = (self.settings)();
            settings.network = Arc::new(PhoneNetwork {
                net: net.clone(),
                host: self.host,
                seed,
                endpoints: AtomicU64::new(0),
            });
            settings.seed = Some(seed_bytes(seed));
            settings.time_of_day_ms = Arc::new(move || {
                BEGINNING_MS + u64::try_from(net.now().as_millis()).unwrap_or(u64::MAX)
            });
            settings.inline_store = true;
            match Client::open(&self.home, settings).await {
                Err(OpenError::Home(tern_client::HomeError::InUse(_))) if tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                other => return other.map_err(PhoneError::Open),
            }
        }
    }

    /// Makes the phone a device of a new account.
    ///
    /// # Errors
    ///
    /// [`PhoneError::Register`] says why it wasn't possible.
    pub async fn register(
        &self,
        client: &Client,
        name: &str,
        server: SocketAddr,
        credentials: &Credentials,
    ) -> Result<tern_client::Identity, PhoneError> {
        let registration = credentials.registration(server, name);
        client.register(registration).await.map_err(PhoneError::Register)
    }

    /// Kills the process: `client` is all that holds it. Nothing more leaves the phone, and nobody is told.
    pub fn kill(&self, client: Client) {
        self.net.kill_sockets(self.host);
        drop(client);
    }
}

/// The sockets of a phone's process.
struct PhoneNetwork {
    net: Net,
    host: HostId,
    seed: u64,
    endpoints: AtomicU64,
}

impl Network for PhoneNetwork {
    fn endpoint(&self, _remote: SocketAddr) -> io::Result<Endpoint> {
        let number = self.endpoints.fetch_add(1, Ordering::Relaxed);
        let seed = seed_for(self.seed, "endpoint", number);
        // Never sent by a client that accepts no connections; fixed so that nothing is random.
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &seed_bytes(seed));
        let mut config = EndpointConfig::new(Arc::new(key));
        config.rng_seed(Some(seed_bytes(seed)));
        let socket = SimSocket::bind(&self.net, self.host, None)?;
        Endpoint::new_with_abstract_socket(config, None, Arc::new(socket), Arc::new(TokioRuntime))
    }

    fn rebind(&self, endpoint: &Endpoint) -> io::Result<()> {
        let socket = SimSocket::bind(&self.net, self.host, None)?;
        endpoint.rebind_abstract(Arc::new(socket))
    }
}
