//! QUIC settings of the server, and the reasons for them.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::{EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use tern_protocol::congestion::Chat;
use zeroize::Zeroizing;

use crate::{
    config::Config,
    lb::{self, OpenLbError},
    random::Random,
    store::{CommitError, Condition, Mutation, ReadError, Store, Transaction},
    tls::{Certificates, QuicTls, TlsError},
};

/// Where the end point's secret is stored.
const SECRET_KEY: &[u8] = b"sys/endpoint-secret";
/// Bytes of it: 64 for the reset key, 8 for the connection ids.
const SECRET_BYTES: usize = 72;

/// The transport can't be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransportError {
    /// TLS can't.
    Tls(TlsError),
    /// The end point's secret can't be read.
    Read(ReadError),
    /// It can't be stored.
    Commit(CommitError),
    /// There are no connection ids for the load balancer.
    LoadBalancer(OpenLbError),
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => error.fmt(f),
            Self::Read(error) => write!(f, "the end point's secret: {error}"),
            Self::Commit(error) => write!(f, "the end point's secret: {error}"),
            Self::LoadBalancer(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tls(error) => Some(error),
            Self::Read(error) => Some(error),
            Self::Commit(error) => Some(error),
            Self::LoadBalancer(error) => Some(error),
        }
    }
}

/// The configuration of the end point below its connections.
///
/// Its secret outlives the process: a server that was killed and started again answers packets of the
/// connections that died with a stateless reset (RFC 9000, 10.3) that the clients know to be
/// genuine, so they connect anew at once instead of waiting for their idle time-out.
///
/// Nodes that share a store share the secret. Behind a load balancer that goes by connection ids, each answers for its
/// own alone ([`lb`](crate::lb)); otherwise one node could be made to end the connections of another, by a copy of a
/// phone's packet that is sent to it (RFC 9000, 21.11).
///
/// # Errors
///
/// [`TransportError`] if the secret can't be had, or the settings of the load balancer are wrong.
pub async fn endpoint_config(
    config: &Config,
    store: &dyn Store,
    random: &Random,
) -> Result<EndpointConfig, TransportError> {
    let generator =
        lb::open(&config.load_balancer, random).map_err(TransportError::LoadBalancer)?;
    let secret = Zeroizing::new(secret(store, random).await?);
    let (reset_key, cid_key) = secret.split_at(SECRET_BYTES - 8);
    let mut end_point = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset_key)));
    match generator {
        Some(generator) => end_point.cid_generator(move || Box::new(generator.clone())),
        None => {
            let mut key = [0; 8];
            key.copy_from_slice(cid_key);
            let key = u64::from_le_bytes(key);
            end_point.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)))
        }
    };
    Ok(end_point)
}

async fn secret(store: &dyn Store, random: &Random) -> Result<[u8; SECRET_BYTES], TransportError> {
    let key = Bytes::from_static(SECRET_KEY);
    loop {
        let stored = store.get(key.clone()).await.map_err(TransportError::Read)?;
        if let Some(stored) = stored {
            return stored[..].try_into().map_err(|_| {
                TransportError::Read(ReadError::Corrupt("it has the wrong length".into()))
            });
        }
        let new = Bytes::copy_from_slice(&random.bytes::<SECRET_BYTES>());
        let transaction = Transaction {
            conditions: vec![Condition::Absent(key.clone())],
            mutations: vec![Mutation::Put(key.clone(), new)],
        };
        match store.commit(transaction).await {
            // Another node was faster: its secret is the one.
            Ok(()) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(TransportError::Commit(error)),
        }
    }
}

/// The configuration of the QUIC connections.
pub fn server_config(
    config: &Config,
    certificates: &Arc<Certificates>,
) -> Result<ServerConfig, TransportError> {
    let sessions = config.tls.resumption_sessions as usize;
    let tls = certificates.rustls_server_config(sessions).map_err(TransportError::Tls)?;
    #[cfg(feature = "single-stream")]
    let tls = {
        let mut tls = tls;
        if config.single_stream {
            tls.alpn_protocols.push(tern_single::ALPN.to_vec());
        }
        tls
    };
    let tls = QuicTls::new(tls).map_err(TransportError::Tls)?;
    let listen = &config.listen;
    let mut transport = TransportConfig::default();
    transport
        // For those who may be silent the longest; the session watches the others, see `silence.rs`.
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(listen.inactive_idle_for_ms))))
        .keep_alive_interval(
            (listen.keep_alive_ms > 0)
                .then(|| Duration::from_millis(u64::from(listen.keep_alive_ms))),
        )
        // Limits on streams cost memory on every connection, used or not.
        .max_concurrent_bidi_streams(VarInt::from_u32(listen.bidi_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .send_window(listen.send_window_bytes)
        .congestion_controller_factory(Arc::new(Chat::new(listen.initial_window_bytes)))
        .receive_window(VarInt::from_u32(listen.receive_window_bytes))
        .stream_receive_window(VarInt::from_u32(listen.stream_receive_window_bytes))
        .datagram_receive_buffer_size(None);
    if !listen.mtu_discovery {
        transport.mtu_discovery_config(None);
    }
    #[cfg(feature = "single-stream")]
    if config.single_stream {
        // One stream has the room of all.
        transport.stream_receive_window(VarInt::from_u32(listen.receive_window_bytes));
    }
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::new(transport));
    server
        .max_incoming(listen.handshakes as usize)
        // What arrives before a handshake is accepted is held at most so long as one hello.
        .incoming_buffer_size(64 * 1024)
        .incoming_buffer_size_total(16 * 1024 * 1024);
    Ok(server)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

    use quinn::{ClientConfig, ConnectionError, Endpoint, TokioRuntime};

    use super::*;
    use crate::{clock::Clock, test_store::MapStore};

    #[tokio::test]
    async fn the_secret_outlives_the_process_and_is_one_for_all_nodes() {
        let store = MapStore::default();
        let other = [7; SECRET_BYTES];
        store.before_next_commit(move |store| store.put(SECRET_KEY, &other));
        assert_eq!(secret(&store, &Random::seeded(1)).await.unwrap(), other);
        assert_eq!(secret(&store, &Random::seeded(2)).await.unwrap(), other);
        store.put(SECRET_KEY, b"short");
        assert!(secret(&store, &Random::seeded(3)).await.is_err());
    }

    async fn listen(config: &Config, store: &MapStore, port: u16) -> Endpoint {
        let certificates = Certificates::open(config, Clock::system()).unwrap();
        let quic = server_config(config, &certificates).unwrap();
        let endpoint = endpoint_config(config, store, &Random::system()).await.unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        Endpoint::new(endpoint, Some(quic), socket, Arc::new(TokioRuntime)).unwrap()
    }

    async fn connect(config: &Config, address: SocketAddr) -> quinn::Connection {
        offer(tern_protocol::ALPN, config, address).await.unwrap()
    }

    async fn offer(
        alpn: &[u8],
        config: &Config,
        address: SocketAddr,
    ) -> Result<quinn::Connection, ConnectionError> {
        let tls = crate::tls::tests::client(&config.data.dir, alpn);
        let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let mut client = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        client.set_default_client_config(ClientConfig::new(Arc::new(tls)));
        client.connect(address, "localhost").unwrap().await
    }

    #[cfg(feature = "single-stream")]
    #[tokio::test]
    async fn only_a_server_that_was_told_to_takes_all_streams_in_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.data.dir = dir.path().to_owned();
        for told in [false, true] {
            config.single_stream = told;
            let server = listen(&config, &MapStore::default(), 0).await;
            let address = server.local_addr().unwrap();
            tokio::spawn(async move {
                while let Some(incoming) = server.accept().await {
                    let _ = incoming.await;
                }
            });
            let single = offer(tern_single::ALPN, &config, address).await;
            assert_eq!(single.is_ok(), told);
            assert!(offer(tern_protocol::ALPN, &config, address).await.is_ok());
        }
    }

    /// What becomes of a connection when its server was killed and another one, with the second configuration, is at
    /// its address.
    fn after_a_kill(before: &Config, after: &Config) -> ConnectionError {
        let store = MapStore::default();
        let alive = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let dead = builder.worker_threads(1).enable_all().build().unwrap();
        let first = dead.block_on(listen(before, &store, 0));
        let address = first.local_addr().unwrap();
        let accepting = dead.spawn(async move {
            let accepted = first.accept().await.unwrap().await.unwrap();
            (first, accepted)
        });
        let connection = alive.block_on(connect(before, address));
        let held = alive.block_on(accepting).unwrap();
        // What runs the first server ends, and it has no time to say anything.
        drop(dead);
        drop(held);

        alive.block_on(async {
            let _second = listen(after, &store, address.port()).await;
            let mut stream = connection.open_uni().await.unwrap();
            stream.write_all(&[7; 1000]).await.unwrap();
            connection.closed().await
        })
    }

    #[test]
    fn a_server_that_was_killed_ends_the_connections_that_it_had_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.data.dir = dir.path().to_owned();
        // So that one which isn't ended dies of the silence soon.
        config.listen.inactive_idle_for_ms = 1_000;
        assert_eq!(after_a_kill(&config, &config), ConnectionError::Reset);
        let node = |server_id: &str| {
            let mut config = config.clone();
            config.load_balancer.server_id = server_id.into();
            config
        };
        assert_eq!(after_a_kill(&node("0102"), &node("0102")), ConnectionError::Reset);
        assert_eq!(after_a_kill(&node("0102"), &node("0103")), ConnectionError::TimedOut);
    }
}
