//! In real time, through proxies.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tern_client::{Client, Events, HomeError, OpenError, Settings};
use tern_server::{
    clock::Clock,
    config::Config,
    random::Random,
    server::{Outside, Server},
};
use tokio::time::sleep;

use super::{ParityError, Times, job};
use crate::{
    figures::Case,
    path::PathSettings,
    proxy::{Proxy, ProxySettings},
    sim::{Credentials, Disk},
};

/// How often a home is tried that is still in use.
const TRIES: u32 = 1_000;

struct Real<'a> {
    homes: [PathBuf; 2],
    proxies: [Proxy; 2],
    credentials: &'a Credentials,
}

impl job::Stage for Real<'_> {
    async fn start(&mut self, phone: usize) -> Result<(Client, Events), ParityError> {
        // The last task of a client that was dropped ends a moment later.
        for _ in 0..TRIES {
            match Client::open(&self.homes[phone], Settings::default()).await {
                Err(OpenError::Home(HomeError::InUse(_))) => sleep(Duration::from_millis(1)).await,
                other => return Ok(other?),
            }
        }
        Ok(Client::open(&self.homes[phone], Settings::default()).await?)
    }

    fn server(&self, phone: usize) -> SocketAddr {
        self.proxies[phone].address()
    }

    fn credentials(&self) -> &Credentials {
        self.credentials
    }
}

/// The server's settings in both.
pub(super) fn config(credentials: &Credentials) -> Config {
    let mut config = Config::default();
    config.listen.address = SocketAddr::from(([127, 0, 0, 1], 0));
    config.data.dir = credentials.folder().to_owned();
    config.tls.cert_file = Some(credentials.cert_file());
    config.tls.key_file = Some(credentials.key_file());
    config.limits.messages_per_device_per_second = 1_000;
    config
}

pub(super) fn run(case: &Case, seed: u64) -> Result<Times, ParityError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let credentials = Credentials::new(seed)?;
        let outside = Outside {
            store: Arc::new(Disk::new(seed).open()),
            clock: Clock::system(),
            random: Random::system(),
            endpoint: None,
            cluster: None,
        };
        let server = Server::start(config(&credentials), outside)
            .await
            .map_err(|error| ParityError::Server(error.to_string()))?;
        // A proxy for each phone: one that starts anew comes from another port.
        let proxy = |seed| {
            let path = PathSettings {
                up: case.up.clone(),
                down: case.down.clone(),
                ..PathSettings::default()
            };
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            let to = server.address();
            Proxy::start(ProxySettings { listen, to, path, seed, max_flows: 8 })
        };
        let proxies = [proxy(seed << 1).await?, proxy((seed << 1) + 1).await?];
        let homes = ["asks", "answers"].map(|name| credentials.folder().join(name));
        let times = job::run(&mut Real { homes, proxies, credentials: &credentials }).await;
        server.stop().await;
        times
    })
}
