//! A phone's host: its process may be killed and started again; its folder stays.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
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
    /// Its folder can't be set back, as was planted.
    SetBack(io::Error),
}

impl fmt::Display for PhoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => write!(f, "a simulated phone doesn't start: {error}"),
            Self::SetBack(error) => write!(f, "a simulated phone can't be set back: {error}"),
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
    /// How often it was started since it is to be set back; `None`: it isn't.
    set_back: Option<u64>,
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
        Self { net: net.clone(), host, home, seed, starts: 0, settings, set_back: None }
    }

    /// The host.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Plants a fault: from the third start from now on, the folder is that of the second.
    pub fn set_back(&mut self) {
        self.set_back = Some(0);
    }

    /// Starts the process. It doesn't connect yet.
    ///
    /// # Errors
    ///
    /// [`PhoneError::Open`] if the folder can't be used, as when the process before still runs.
    pub async fn start(&mut self) -> Result<(Client, Events), PhoneError> {
        self.starts += 1;
        if let Some(starts) = &mut self.set_back {
            *starts += 1;
            let old = self.home.with_extension("old");
            match starts {
                1 => {}
                2 => copy(&self.home, &old).map_err(PhoneError::SetBack)?,
                _ => copy(&old, &self.home).map_err(PhoneError::SetBack)?,
            }
        }
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

/// Makes a folder the same as another; neither has folders in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    // What the dead process still has open goes on without a name.
    match fs::remove_dir_all(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
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
