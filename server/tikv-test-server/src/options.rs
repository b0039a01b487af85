//! How a server is started.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use crate::clock::{Clock, SystemClock};

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where PD listens. Port 0: the port that the folder remembers, or any that is free. The stores listen at
    /// the same host.
    pub listen: SocketAddr,
    /// How many stores there are, from 1 to 999.
    pub stores: u64,
    /// Where the log is. None: in memory; a restart begins empty.
    pub folder: Option<PathBuf>,
    /// Every change is on the disk before it is answered, not only in the page cache.
    pub sync: bool,
    /// Where the oracle's time comes from.
    pub clock: Arc<dyn Clock>,
    /// Certificates. None: no TLS.
    pub tls: Option<Tls>,
}

impl Default for Options {
    /// Three stores at any free ports of 127.0.0.1, in memory, by the system's clock, without TLS.
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            stores: 3,
            folder: None,
            sync: false,
            clock: Arc::new(SystemClock),
            tls: None,
        }
    }
}

/// Certificates, each in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The authority that the clients' certificates are from; a client without one is refused.
    pub ca: Vec<u8>,
    /// The server's certificate, with its chain.
    pub certificate: Vec<u8>,
    /// The private key of the server's certificate.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key isn't for logs.
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
