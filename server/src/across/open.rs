//! What a node of a cluster needs from outside, by the configuration.

use std::{fmt, net::SocketAddr, sync::Arc};

use quinn::{EndpointConfig, TokioRuntime};

use crate::{
    clock::Clock,
    cluster::links::{PeerTls, PeerTlsError},
    config::Config,
};

/// The way to the other nodes can't be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// This node can't prove who it is, or judge who others are.
    Tls(PeerTlsError),
    /// The address for other nodes can't be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => error.fmt(f),
            Self::Listen { address, source } => {
                write!(f, "can't listen on {address} for other nodes: {source}")
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tls(error) => Some(error),
            Self::Listen { source, .. } => Some(source),
        }
    }
}

/// The network and the identity of a node among others.
pub struct Outside {
    /// An end point for other nodes alone, without a server configuration.
    pub endpoint: quinn::Endpoint,
    /// Who this node is, and whom it believes.
    pub tls: Arc<PeerTls>,
}

impl Outside {
    /// Opens what `[cluster]` names; `None` if this node is alone.
    pub fn open(config: &Config, clock: Clock) -> Result<Option<Self>, OpenError> {
        let cluster = &config.cluster;
        let files = (&cluster.ca_file, &cluster.cert_file, &cluster.key_file);
        // The check of the configuration has refused a part of them.
        let (true, (Some(ca), Some(cert), Some(key))) = (cluster.enabled, files) else {
            return Ok(None);
        };
        let tls = PeerTls::open(ca, cert, key, &cluster.name, clock).map_err(OpenError::Tls)?;
        let error = |source| OpenError::Listen { address: cluster.listen, source };
        let socket = std::net::UdpSocket::bind(cluster.listen).map_err(error)?;
        let settings = EndpointConfig::default();
        let endpoint = quinn::Endpoint::new(settings, None, socket, Arc::new(TokioRuntime));
        Ok(Some(Self { endpoint: endpoint.map_err(error)?, tls: Arc::new(tls) }))
    }
}
