//! A real server in this process and raw clients that speak to it over real QUIC on loopback: what
//! they send is up to the test, be it wrong.
#![allow(dead_code, reason = "not every test binary needs all of it")]

pub(crate) mod client;
pub(crate) mod raw;
pub(crate) mod relay;
pub(crate) mod store;
pub(crate) mod talk;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;
use tern_server::{
    across,
    clock::Clock,
    config::Config,
    metrics::Metrics,
    random::Random,
    server::{Outside, Server},
    store::{Store, embedded::EmbeddedStore, tikv::TikvStore},
};
use tern_tikv_test_server::{Counts, Options, TestServer};

use self::{client::Client, raw::Raw};

/// Longest wait for anything that must happen: generous, since it only ends tests that fail.
pub(crate) const WAIT: Duration = Duration::from_secs(30);

/// Waits for what must happen.
pub(crate) async fn wait<T>(what: &str, it: impl Future<Output = T>) -> T {
    match tokio::time::timeout(WAIT, it).await {
        Ok(it) => it,
        Err(_) => panic!("waited {WAIT:?} in vain for {what}"),
    }
}

/// Waits until a condition holds that nothing tells of.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    wait(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Whether something that must wait does: it is polled once.
pub(crate) async fn is_pending<T>(mut it: Pin<&mut impl Future<Output = T>>) -> bool {
    poll_fn(|context| Poll::Ready(it.as_mut().poll(context).is_pending())).await
}

/// A device's key.
pub(crate) struct Key(Ed25519KeyPair);

impl Key {
    pub(crate) fn new() -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&random::<32>()).unwrap())
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().unwrap()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).as_ref().try_into().unwrap()
    }
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).unwrap();
    bytes
}

/// A server with a data folder of its own, and an end point for its clients.
pub(crate) struct World {
    dir: TempDir,
    config: Config,
    server: Option<Server>,
    store: Option<Arc<dyn Store>>,
    kind: Kind,
    pub(crate) endpoint: quinn::Endpoint,
}

/// What holds a world's data.
enum Kind {
    Embedded,
    /// A TiKV cluster of its own; `TERN_TEST_STORE=tikv` asks for it.
    Tikv(TestServer),
    /// A store that others use as well, with the way to them.
    Shared(Arc<dyn Store>, Option<across::Outside>),
}

impl Kind {
    fn asked_for() -> Self {
        match std::env::var("TERN_TEST_STORE").as_deref() {
            Ok("tikv") => Self::Tikv(TestServer::start(Options::default()).unwrap()),
            Ok("embedded") | Err(_) => Self::Embedded,
            Ok(other) => panic!("TERN_TEST_STORE={other}: embedded or tikv"),
        }
    }

    async fn open(&self, config: &Config, dir: &std::path::Path) -> Arc<dyn Store> {
        match self {
            Self::Embedded => Arc::new(EmbeddedStore::open(dir, config.embedded_store()).unwrap()),
            Self::Tikv(cluster) => {
                let mut config = config.clone();
                config.store.pd = vec![cluster.pd_address().to_string()];
                let store = TikvStore::connect(config.tikv_store(), Random::system()).await;
                Arc::new(store.unwrap())
            }
            Self::Shared(store, _) => store.clone(),
        }
    }
}

impl World {
    /// A server with a configuration for tests.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(Kind::asked_for(), change).await
    }

    /// A server on a TiKV cluster of its own, whatever is asked for.
    pub(crate) async fn on_tikv() -> Self {
        let cluster = TestServer::start(Options::default()).unwrap();
        Self::on(Kind::Tikv(cluster), |_| {}).await
    }

    /// What was asked of the TiKV cluster so far.
    pub(crate) fn asked_of_tikv(&self) -> Counts {
        match &self.kind {
            Kind::Tikv(cluster) => cluster.counts(),
            _ => panic!("this world isn't on TiKV"),
        }
    }

    /// One node of a cluster, on the store that its nodes share.
    pub(crate) async fn node(
        store: Arc<dyn Store>,
        outside: across::Outside,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::on(Kind::Shared(store, Some(outside)), change).await
    }

    async fn on(kind: Kind, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.data.dir = dir.path().to_owned();
        config.listen.address = ([127, 0, 0, 1], 0).into();
        config.drain.within_ms = 200;
        config.presence.grace_ms = 0;
        // A test writes little, and the log's blocks are allocated beforehand.
        config.store.log_bytes = 1 << 22;
        config.store.layer_bytes = 1 << 21;
        config.store.cache_bytes = 1 << 20;
        change(&mut config);
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let mut world = Self { dir, config, server: None, store: None, kind, endpoint };
        world.launch().await;
        world
    }

    async fn launch(&mut self) {
        let store = self.kind.open(&self.config, self.dir.path()).await;
        let cluster = match &mut self.kind {
            Kind::Shared(_, outside) => outside.take(),
            _ => None,
        };
        let outside = Outside {
            store: store.clone(),
            clock: Clock::system(),
            random: Random::system(),
            endpoint: None,
            cluster,
        };
        self.store = Some(store);
        self.server = Some(Server::start(self.config.clone(), outside).await.unwrap());
    }

    /// Stops the server as SIGTERM does, and gives the store back.
    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            wait("the server's stop", server.stop()).await;
        }
        let store = self.store.take().unwrap();
        if matches!(self.kind, Kind::Shared(..)) {
            return;
        }
        // Tasks that end with the server may hold it for a moment longer.
        until("the store to be let go", async || Arc::strong_count(&store) == 1).await;
        tokio::task::spawn_blocking(move || drop(store)).await.unwrap();
    }

    /// The server stops and another starts with the same data, at another address.
    pub(crate) async fn restart(&mut self) {
        self.restart_with(|_| {}).await;
    }

    /// The same, with its configuration changed.
    pub(crate) async fn restart_with(&mut self, change: impl FnOnce(&mut Config)) {
        self.stop().await;
        change(&mut self.config);
        self.launch().await;
    }

    /// Begins to stop the server in a task of its own.
    pub(crate) fn begin_stop(&mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(self.server.take().unwrap().stop())
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        self.server().metrics().clone()
    }

    /// How often a limit was met, which the metrics only show as text.
    pub(crate) fn limited(&self, limit: &str) -> u64 {
        let text = self.server().metrics().render();
        let line = format!("tern_limited_total{{limit=\"{limit}\"}} ");
        text.lines().find_map(|it| it.strip_prefix(&line)).unwrap().parse().unwrap()
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_deref().unwrap()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// TLS settings of a client that trusts the server's own authority. A second connection with
    /// them resumes the first one's session.
    pub(crate) fn tls(&self) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        let pem = CertificateDer::pem_file_iter(self.path().join("ca.pem")).unwrap();
        pem.for_each(|certificate| roots.add(certificate.unwrap()).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![tern_protocol::ALPN.to_vec()];
        tls.enable_early_data = true;
        tls
    }

    /// QUIC settings of a client.
    pub(crate) fn quic(&self) -> quinn::ClientConfig {
        raw::client_config(self.tls())
    }

    /// Connects, without a word yet.
    pub(crate) async fn connect(&self) -> Raw {
        self.try_connect().await.unwrap()
    }

    /// The same, of a server that may refuse.
    pub(crate) async fn try_connect(&self) -> Result<Raw, quinn::ConnectionError> {
        Raw::connect(&self.endpoint, self.quic(), self.server().address()).await
    }

    /// Registers an account and its first device.
    pub(crate) async fn register(&self, name: &str) -> Client {
        Client::register(self.connect().await, name, Key::new()).await
    }

    /// Two accounts.
    pub(crate) async fn two(&self) -> [Client; 2] {
        [self.register("ann").await, self.register("bob").await]
    }

    /// Adds a device to a client's account.
    pub(crate) async fn link(&self, of: &mut Client) -> Client {
        let token = of.link().await;
        let name = of.welcome.name.clone();
        Client::register_with(
            self.connect().await,
            &name,
            Key::new(),
            tern_protocol::frame::Entitlement::Link(token),
        )
        .await
    }
}
