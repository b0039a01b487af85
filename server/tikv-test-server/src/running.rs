//! A server under way: its sockets, and a runtime that ends with it.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        mpsc::{self, Sender},
    },
    thread::JoinHandle,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{net::TcpListener, runtime, sync::oneshot};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::{
    Options, Tls,
    core::{Core, Restored},
    counters::Counters,
    faults::Faults,
    network::{Gate, listen},
    persist::{Entry, Log, LogError},
    proto::{pdpb::pd_server::PdServer, tikvpb::tikv_server::TikvServer},
    service::{Pd, Shared, Store},
};

/// What a request may be at most.
const MAX_MESSAGE: usize = 256 << 20;
/// How long a stop waits for the runtime's threads; they only ever run one command.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Why a server didn't start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// Its log can't be used.
    Log(LogError),
    /// It can't listen at an address.
    Listen(SocketAddr, io::Error),
    /// Its certificates can't be used.
    Tls(String),
    /// The number of stores isn't from 1 to 999, or isn't the folder's.
    Stores(u64),
    /// The system gave it no thread.
    Thread(io::Error),
    /// It runs already.
    Running,
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log(error) => write!(f, "the log can't be used: {error}"),
            Self::Listen(address, error) => write!(f, "can't listen at {address}: {error}"),
            Self::Tls(why) => write!(f, "the certificates can't be used: {why}"),
            Self::Stores(n) => {
                write!(f, "{n} stores: it must be 1 to 999, and in a folder always the same number")
            }
            Self::Thread(error) => write!(f, "no thread to be had: {error}"),
            Self::Running => write!(f, "it runs already"),
        }
    }
}

impl std::error::Error for StartError {}

/// Addresses, kept from others also while nobody listens at them.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// PD's first, then each store's.
    pub(crate) all: Vec<SocketAddr>,
    /// Bound and not listening: a port that is bound isn't given to anybody who asks for a free one.
    _kept: Vec<Socket>,
}

impl Addresses {
    fn bind(wanted: &[SocketAddr]) -> Result<Self, StartError> {
        let mut all = Vec::with_capacity(wanted.len());
        let mut kept = Vec::with_capacity(wanted.len());
        for address in wanted {
            let bound = || -> io::Result<(Socket, SocketAddr)> {
                let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.bind(&(*address).into())?;
                let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
                Ok((socket, local))
            };
            let (socket, local) = bound().map_err(|error| StartError::Listen(*address, error))?;
            all.push(local);
            kept.push(socket);
        }
        Ok(Self { all, _kept: kept })
    }
}

/// A server under way. Dropped, it stops as if it were killed.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts, at the addresses of before if there were any.
    pub(crate) fn start(
        options: &Options,
        faults: &Arc<Mutex<Faults>>,
        counters: &Arc<Counters>,
        addresses: &mut Option<Addresses>,
    ) -> Result<Self, StartError> {
        if !(1..1000).contains(&options.stores) {
            return Err(StartError::Stores(options.stores));
        }
        let (mut log, restored) = match &options.folder {
            Some(folder) => {
                let (log, restored) =
                    Log::open(folder, options.sync, options.stores).map_err(StartError::Log)?;
                (Some(log), restored)
            }
            None => (None, Restored::empty(options.stores)),
        };
        if restored.regions.stores() != options.stores {
            return Err(StartError::Stores(restored.regions.stores()));
        }
        let addresses = match addresses {
            Some(addresses) => addresses,
            None => addresses.insert(Addresses::bind(&wanted(options, &restored.ports))?),
        };
        let ports: Vec<_> = addresses.all.iter().map(SocketAddr::port).collect();
        if let Some(log) = &mut log
            && ports != restored.ports
        {
            log.append(&Entry::Ports(ports)).map_err(StartError::Log)?;
        }

        let gates: Vec<_> = addresses.all.iter().map(|_| Gate::new()).collect();
        let core = Core::new(restored, Arc::clone(&options.clock), log);
        let shared = Arc::new(Shared::new(core, Arc::clone(faults), Arc::clone(counters), gates));
        let (stop, stopped) = oneshot::channel();
        let (ready, readiness) = mpsc::channel();
        let serving = Serving {
            shared: Arc::clone(&shared),
            addresses: addresses.all.clone(),
            tls: options.tls.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("tikv-test-server".to_owned())
            .spawn(move || serving.run(&ready, stopped))
            .map_err(StartError::Thread)?;
        let running = Self { shared, stop: Some(stop), thread: Some(thread) };
        match readiness.recv() {
            Ok(Ok(())) => Ok(running),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::Thread(io::Error::other("the server's thread has ended"))),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed by then.
            let _ = thread.join();
        }
    }
}

/// Where to listen: as told, else as remembered, else anywhere.
fn wanted(options: &Options, remembered: &[u16]) -> Vec<SocketAddr> {
    let listen = options.listen;
    let count = 1 + options.stores as usize;
    let remembered = if remembered.len() == count && [0, remembered[0]].contains(&listen.port()) {
        remembered.to_vec()
    } else {
        let mut ports = vec![0; count];
        ports[0] = listen.port();
        ports
    };
    remembered.into_iter().map(|port| SocketAddr::new(listen.ip(), port)).collect()
}

/// What the server's thread does.
struct Serving {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    tls: Option<Tls>,
}

impl Serving {
    fn run(self, ready: &Sender<Result<(), StartError>>, stopped: oneshot::Receiver<()>) {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("tikv-test-server")
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(StartError::Thread(error)))),
        };
        runtime.block_on(async move {
            let begun = self.serve();
            let serves = begun.is_ok();
            drop(ready.send(begun));
            if serves {
                // Either is the end.
                let _ = stopped.await;
            }
        });
        // Calls under way, late ones and connections all end here, as in a process that is killed.
        runtime.shutdown_timeout(STOP_WITHIN);
    }

    fn serve(self) -> Result<(), StartError> {
        let listeners = self
            .addresses
            .iter()
            .map(|address| listen(*address).map_err(|error| StartError::Listen(*address, error)))
            .collect::<Result<Vec<_>, _>>()?;
        let stores: Arc<[SocketAddr]> = self.addresses[1..].into();
        for (index, (listener, address)) in
            listeners.into_iter().zip(self.addresses.clone()).enumerate()
        {
            let router = if index == 0 {
                let pd = Pd::new(Arc::clone(&self.shared), address, Arc::clone(&stores));
                let service = PdServer::new(pd).max_decoding_message_size(MAX_MESSAGE);
                self.builder()?.add_service(service)
            } else {
                let store = Store::new(Arc::clone(&self.shared), index as u64);
                let service = TikvServer::new(store)
                    .max_decoding_message_size(MAX_MESSAGE)
                    .max_encoding_message_size(MAX_MESSAGE);
                self.builder()?.add_service(service)
            };
            let connections = self.connections(index, listener, address);
            // It ends with the runtime.
            tokio::spawn(router.serve_with_incoming(connections));
        }
        Ok(())
    }

    fn connections(
        &self,
        index: usize,
        listener: TcpListener,
        address: SocketAddr,
    ) -> impl futures_util::Stream<Item = io::Result<crate::network::Connection>> + use<> {
        Arc::clone(&self.shared.gates[index]).connections(listener, address)
    }

    fn builder(&self) -> Result<Server, StartError> {
        let Some(tls) = &self.tls else { return Ok(Server::builder()) };
        let config = ServerTlsConfig::new()
            .identity(Identity::from_pem(&tls.certificate, &tls.key))
            .client_ca_root(Certificate::from_pem(&tls.ca));
        Server::builder().tls_config(config).map_err(|error| StartError::Tls(error.to_string()))
    }
}
