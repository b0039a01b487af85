//! A UDP proxy that is a bad network, in real time: for any client and server of QUIC.
//!
//! Each address that sends to the proxy is a client with a path of its own: two [`Link`](crate::link::Link)s
//! and an upstream socket, whose address is what the server sees. A change of that address is what a server
//! sees when a NAT has forgotten a flow; what still comes to the old one is lost, silently.
//!
//! Packets are handed on by a thread of their own, which waits for the next one's time with the precision of
//! the operating system, because tokio rounds times up to whole milliseconds. How late they left is part of the
//! [`Report`]; on an idle Linux machine it was 0.06 ms for half of them and 0.12 ms for 99%.

mod core;
mod report;
mod sender;
mod shared;

use std::{
    error::Error,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

pub use self::report::Report;
use self::{
    core::{Core, Direction},
    shared::Shared,
};
use crate::path::{PathError, PathSettings, Rebind};

/// How many clients a proxy serves unless it is told otherwise.
pub const DEFAULT_MAX_FLOWS: usize = 256;
/// How much may be on its way, in bytes, over all clients: 64 MiB.
pub const MAX_IN_FLIGHT_BYTES: usize = 64 << 20;
/// What the largest UDP datagram takes.
const MAX_DATAGRAM_BYTES: usize = 65_535;
/// The receive buffer that is asked of the system, in bytes, so that a burst isn't lost before the links see it.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// What a proxy is to be.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Where clients send to.
    pub listen: SocketAddr,
    /// The server.
    pub to: SocketAddr,
    /// What each client's path is like.
    pub path: PathSettings,
    /// What chance is decided by, together with the order in which clients come.
    pub seed: u64,
    /// How many clients are served, 1 or more. For one more, the one that has been quiet for longest is
    /// forgotten.
    pub max_flows: usize,
}

/// A running proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
    sender: Option<thread::JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy, within a tokio runtime with I/O and time.
    ///
    /// # Errors
    ///
    /// [`ProxyError`] if the settings are out of bounds or the address can't be listened on.
    pub async fn start(settings: ProxySettings) -> Result<Self, ProxyError> {
        settings.path.check().map_err(ProxyError::Path)?;
        if settings.max_flows == 0 {
            return Err(ProxyError::NoFlows);
        }
        let rebind = settings.path.rebind;
        if rebind.is_some_and(|rebind| rebind.address) && !can_change_address(settings.to.ip()) {
            return Err(ProxyError::OneAddress);
        }
        let socket = UdpSocket::bind(settings.listen).await.map_err(ProxyError::Listen)?;
        let address = socket.local_addr().map_err(ProxyError::Listen)?;
        widen(&socket);
        let socket = Arc::new(socket);
        let shared = Arc::new(Shared::new(Core::new(settings, Arc::clone(&socket))));
        let sender = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("netsim-sender".to_owned())
                .spawn(move || sender::run(&shared))
                .map_err(ProxyError::Thread)?
        };
        let mut tasks = vec![tokio::spawn(listen(Arc::clone(&shared), socket))];
        if let Some(rebind) = rebind {
            tasks.push(tokio::spawn(rebind_when_due(Arc::clone(&shared), rebind)));
        }
        Ok(Self { shared, address, tasks, sender: Some(sender) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives each client a new address that the server sees: another port, and with `address` also another of
    /// 127.0.0.1 to 127.0.0.254.
    ///
    /// # Errors
    ///
    /// The system's, if there is no new socket; the clients that already have one keep it.
    pub fn rebind(&self, address: bool) -> io::Result<()> {
        Shared::rebind(&self.shared, address)
    }

    /// What has happened so far.
    pub fn report(&self) -> Report {
        self.shared.lock().report()
    }

    /// Ends the proxy and says what has happened. What is on its way is lost.
    pub fn stop(self) -> Report {
        self.report()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.shared.stop();
        if let Some(sender) = self.sender.take() {
            // It has nothing to say, and a panic in it was already printed.
            let _ = sender.join();
        }
    }
}

/// Takes what clients send.
async fn listen(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, client)) => {
                if let Err(error) = Shared::client_sent(&shared, client, &buffer[..len]) {
                    tracing::warn!(%client, %error, "no socket for a new client");
                }
            }
            // An ICMP message about a packet that was sent; UDP loses it, and so does the proxy.
            Err(error) => tracing::debug!(%error, "receiving from clients"),
        }
    }
}

/// Takes what the server sends to one upstream socket, until the flow is forgotten or bound anew.
async fn listen_upstream(
    shared: Arc<Shared>,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    flow: u64,
) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(len) => shared.enter(Direction::Down, client, flow, &buffer[..len]),
            Err(error) => tracing::debug!(%client, %error, "receiving from the server"),
        }
    }
}

async fn rebind_when_due(shared: Arc<Shared>, rebind: Rebind) {
    let mut at = Instant::now() + duration(rebind.first_ms);
    loop {
        sleep_until(at).await;
        if let Err(error) = Shared::rebind(&shared, rebind.address) {
            tracing::warn!(%error, "no new address");
        }
        let Some(every_ms) = rebind.every_ms else { return };
        at += duration(every_ms);
    }
}

fn duration(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1e3)
}

/// Only loopback has addresses to spare.
fn can_change_address(server: IpAddr) -> bool {
    server.is_ipv4() && server.is_loopback()
}

/// Asks for a larger receive buffer; the system's bound may be lower, and then it stays at that.
fn widen(socket: &UdpSocket) {
    if let Err(error) = socket2::SockRef::from(socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES) {
        tracing::debug!(%error, "the receive buffer stays as it is");
    }
}

/// Why a proxy didn't start.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// The path can't be like that.
    Path(PathError),
    /// `max_flows` is 0.
    NoFlows,
    /// The address is to change, but the server isn't on 127.0.0.0/8, where there are others.
    OneAddress,
    /// The address can't be listened on.
    Listen(io::Error),
    /// There is no thread.
    Thread(io::Error),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(error) => error.fmt(f),
            Self::NoFlows => f.write_str("max_flows is 0, so that no client could be served"),
            Self::OneAddress => {
                f.write_str("the address can only change towards a server on 127.0.0.0/8")
            }
            Self::Listen(error) => write!(f, "can't listen: {error}"),
            Self::Thread(error) => write!(f, "can't start a thread: {error}"),
        }
    }
}

impl Error for ProxyError {}
