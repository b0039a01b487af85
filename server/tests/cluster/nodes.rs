//! Nodes in one process, on one store.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use rustls::{crypto::ring, pki_types::PrivateKeyDer, sign::CertifiedKey};
use tern_server::{
    across::Outside,
    clock::Clock,
    cluster::links::PeerTls,
    config::Config,
    store::{
        CommitError, Pair, ReadError, Scan, Store, StoreFuture, Transaction,
        embedded::{EmbeddedSettings, EmbeddedStore},
    },
};

use crate::common::{World, client::Client, until};

/// The lease of the nodes, in milliseconds: short, since some tests wait for its end.
pub(crate) const LEASE_MS: u32 = 1_000;

/// Some nodes, and what they have in common.
pub(crate) struct Cluster {
    _dir: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
    store: Arc<dyn Store>,
    pub(crate) nodes: Vec<World>,
    /// Each node's way to the store.
    pub(crate) gates: Vec<Arc<Gate>>,
}

impl Cluster {
    /// So many nodes that know each other.
    pub(crate) async fn of(nodes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = EmbeddedSettings::default();
        (settings.log_bytes, settings.layer_bytes, settings.cache_bytes) =
            (1 << 22, 1 << 21, 1 << 20);
        let store = Arc::new(EmbeddedStore::open(dir.path(), settings).unwrap());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let mut cluster =
            Self { _dir: dir, authority, store, nodes: Vec::new(), gates: Vec::new() };
        for _ in 0..nodes {
            cluster.add(|_| {}).await;
        }
        cluster.are_linked(nodes).await;
        cluster
    }

    /// Another node.
    pub(crate) async fn add(&mut self, change: impl FnOnce(&mut Config)) {
        let name = format!("node-{}", self.nodes.len() + 1);
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let outside = Outside { endpoint, tls: self.tls(&name) };
        let gate = Arc::new(Gate { store: self.store.clone(), is_shut: AtomicBool::new(false) });
        // Where it will listen for clients must be known before, so that it can be told to them.
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let node = World::node(gate.clone(), outside, |config| {
            config.listen.address.set_port(port);
            config.cluster.name = name;
            config.cluster.client_address = format!("127.0.0.1:{port}");
            config.cluster.lease_ms = LEASE_MS;
            config.cluster.route_cache_bytes = 0;
            change(config);
        });
        self.nodes.push(node.await);
        self.gates.push(gate);
    }

    /// Waits until each of so many nodes speaks with each other one.
    pub(crate) async fn are_linked(&self, nodes: usize) {
        let others = nodes as i64 - 1;
        until("the nodes to be linked", async || {
            self.nodes.iter().all(|node| {
                let metrics = node.metrics();
                metrics.peer_links.get() == others && metrics.peer_connections.get() == others
            })
        })
        .await;
    }

    /// Accounts in turn on the nodes; with as many as here, some conversation of two is owned by each node.
    pub(crate) async fn people(&self, count: usize) -> Vec<Client> {
        let mut people = Vec::new();
        for number in 0..count {
            let node = &self.nodes[number % self.nodes.len()];
            people.push(node.register(&format!("person{number}")).await);
        }
        people
    }

    fn tls(&self, name: &str) -> Arc<PeerTls> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.authority).unwrap();
        let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = CertifiedKey::from_der(vec![leaf.der().clone()], der, &ring::default_provider());
        let roots = [self.authority.der().clone()];
        Arc::new(PeerTls::new(&roots, key.unwrap(), name, Clock::system()).unwrap())
    }
}

/// A node's way to the store, which can be shut: then nothing comes of what it asks.
pub(crate) struct Gate {
    store: Arc<dyn Store>,
    is_shut: AtomicBool,
}

impl Gate {
    pub(crate) fn shut(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Ordering::SeqCst);
    }

    fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::SeqCst)
    }

    fn read(&self) -> Result<(), ReadError> {
        match self.is_shut() {
            true => Err(ReadError::Unavailable("the gate is shut".to_owned())),
            false => Ok(()),
        }
    }
}

impl Store for Gate {
    fn get(&self, key: Bytes) -> StoreFuture<'_, Result<Option<Bytes>, ReadError>> {
        Box::pin(async move {
            self.read()?;
            self.store.get(key).await
        })
    }

    fn scan(&self, scan: Scan) -> StoreFuture<'_, Result<Vec<Pair>, ReadError>> {
        Box::pin(async move {
            self.read()?;
            self.store.scan(scan).await
        })
    }

    fn commit(&self, transaction: Transaction) -> StoreFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            if self.is_shut() {
                return Err(CommitError::Unavailable("the gate is shut".to_owned()));
            }
            self.store.commit(transaction).await
        })
    }
}
