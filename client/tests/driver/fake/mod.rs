//! A server for tests of the driver: it keeps everything in memory, does what SPEC.md says where a test
//! needs it, and misbehaves on demand. The real server is another crate.

mod frames;
mod session;
mod streams;
mod world;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use quinn::{Connection, Endpoint};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tern_protocol::{
    code::Code,
    frame::Frame,
    id::{AccountId, ConversationId, DeviceId},
    signature::CertificateHash,
};
use tokio::sync::watch;

pub use self::{
    frames::{End, from_var_int, var_int},
    world::{Entry, Visit, World},
};
use self::{session::Handler, world::Signed};

/// The streams that a client may have open at a time: so few that several conversations have to take
/// turns.
pub const CLIENT_STREAMS: u32 = 4;

/// The running server.
pub struct Fake {
    pub address: SocketAddr,
    pub ca_pem: String,
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
    endpoint: Endpoint,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Fake {
    /// Starts a server that knows nobody.
    pub fn start() -> Self {
        let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let (certificate, private) = (key.cert.der().clone(), key.signing_key.serialize_der());
        let world = (Arc::default(), watch::channel(0).0);
        Self::serve(0, world, key.cert.pem(), certificate, private)
    }

    /// Starts a further node of the same server: it has another address and knows the same.
    pub fn node(&self, number: usize) -> Self {
        let world = (self.world.clone(), self.changed.clone());
        let (certificate, key) = (self.certificate.clone(), self.key.clone());
        Self::serve(number, world, self.ca_pem.clone(), certificate, key)
    }

    fn serve(
        node: usize,
        (world, changed): (Arc<Mutex<World>>, watch::Sender<u64>),
        ca_pem: String,
        certificate: CertificateDer<'static>,
        key: Vec<u8>,
    ) -> Self {
        let config = server_config(&certificate, &key);
        let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let handler = Handler {
            node,
            world: world.clone(),
            changed: changed.clone(),
            hash: CertificateHash::of(&certificate),
            visit: 0,
        };
        let address = endpoint.local_addr().unwrap();
        let accepting = endpoint.clone();
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                tokio::spawn(handler.clone().connection(incoming));
            }
        });
        Self { address, ca_pem, world, changed, endpoint, certificate, key }
    }

    /// Forgets all TLS sessions, as a restart does: 0-RTT data is rejected from now on.
    pub fn forget_tls_sessions(&self) {
        self.endpoint.set_server_config(Some(server_config(&self.certificate, &self.key)));
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Changes the world, and lets everybody notice.
    pub fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.world());
        self.changed.send_modify(|version| *version += 1);
        result
    }

    /// Waits until the world looks as it should.
    pub async fn until(&self, what: impl Fn(&World) -> bool) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if what(&self.world()) {
                return;
            }
            changed.changed().await.unwrap();
        }
    }

    /// Closes every connection.
    pub fn drop_connections(&self, code: Code) {
        for signed in self.world().connections.drain(..) {
            signed.connection.close(var_int(code), b"");
        }
    }

    /// Sends a frame on every session stream; whatever is sent there afterwards comes behind it.
    pub async fn tell_all(&self, frame: &Frame) {
        for signed in &mut self.world().connections {
            signed.is_told = false;
            signed.tell.send_replace(Some(frame.clone()));
        }
        let is_done = |it: &Signed| it.is_told || it.connection.close_reason().is_some();
        self.until(|world| world.connections.iter().all(is_done)).await;
    }

    /// The device's connection.
    pub fn connection(&self, device: DeviceId) -> Connection {
        let world = self.world();
        let signed = world.connections.iter().find(|signed| signed.device == device);
        signed.unwrap().connection.clone()
    }

    /// The device that registered so many others later than the first.
    pub fn device(&self, index: usize) -> DeviceId {
        self.world().devices[index].device
    }

    /// The account of that device.
    pub fn account(&self, index: usize) -> AccountId {
        self.world().devices[index].account
    }

    /// The conversation of two of them.
    pub fn conversation(&self, a: usize, b: usize) -> ConversationId {
        ConversationId::direct(self.account(a), self.account(b)).unwrap()
    }

    /// The texts of a conversation in order.
    pub fn texts(&self, conversation: ConversationId) -> Vec<String> {
        let world = self.world();
        world.logs.get(&conversation).into_iter().flatten().map(|e| e.text.clone()).collect()
    }
}

fn server_config(certificate: &CertificateDer<'static>, key: &[u8]) -> quinn::ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], PrivateKeyDer::Pkcs8(key.to_vec().into()))
        .unwrap();
    tls.alpn_protocols = vec![tern_protocol::ALPN.to_vec()];
    tls.max_early_data_size = u32::MAX;
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_bidi_streams(CLIENT_STREAMS.into());
    config.transport_config(Arc::new(transport));
    config
}
