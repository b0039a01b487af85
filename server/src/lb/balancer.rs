//! What a load balancer does with a datagram: [`Balancer`].

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::config::{LbConfig, ServerId};
use crate::cluster::ring::mix;

/// Keeps the scores apart from other uses of the same mixer: "tern/1 b" in ASCII, little-endian.
const SEED: u64 = u64::from_le_bytes(*b"tern/1 b");

/// The first bit of a datagram: its header is a long one, which says how long ids are.
const LONG: u8 = 0x80;

/// The addresses of a datagram from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// Where it comes from.
    pub client: SocketAddr,
    /// Where the client sent it to.
    pub service: SocketAddr,
}

/// A server behind a load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// Where it takes datagrams.
    pub address: SocketAddr,
    /// Whether it takes new clients. One that drains doesn't, and goes on to get what is for its ids.
    pub takes_new: bool,
}

/// Where a datagram goes, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To the server that its connection id belongs to.
    ById(SocketAddr),
    /// To the server that its addresses lead to.
    ByAddresses(SocketAddr),
}

impl Route {
    /// Where it goes.
    pub fn address(self) -> SocketAddr {
        match self {
            Self::ById(address) | Self::ByAddresses(address) => address,
        }
    }
}

/// A load balancer without state: where a datagram goes depends on it and on the servers, and on nothing that
/// was before.
///
/// An id of a server leads there, whatever address it comes from. Any other id (a client makes up that of its
/// first packets) leads where the addresses do: to the server with the highest random weight (Thaler and
/// Ravishankar, 1998), so that when a server comes or goes only clients change servers that must. That is the
/// draft's baseline fallback algorithm, for short headers as well. Of a header only what RFC 8999 says of all
/// versions of QUIC is read.
#[derive(Debug, Clone, Default)]
pub struct Balancer {
    /// By number.
    configs: [Option<LbConfig>; 7],
    servers: BTreeMap<ServerId, Server>,
}

impl Balancer {
    /// A load balancer for these servers. Of two configurations with one number, the latter counts.
    pub fn new(
        configs: impl IntoIterator<Item = LbConfig>,
        servers: impl IntoIterator<Item = (ServerId, Server)>,
    ) -> Self {
        let mut balancer = Self { servers: servers.into_iter().collect(), ..Self::default() };
        for config in configs {
            let number = usize::from(config.config_id());
            balancer.configs[number] = Some(config);
        }
        balancer
    }

    /// Where a datagram goes; `None` if no server takes new clients and it belongs to none.
    pub fn route(&self, addresses: &Addresses, datagram: &[u8]) -> Option<Route> {
        match self.server_of(datagram) {
            Some(server) => Some(Route::ById(server.address)),
            None => self.route_by_addresses(addresses),
        }
    }

    /// Where a load balancer sends a datagram that knows nothing of connection ids: the one to be compared
    /// with.
    pub fn route_by_addresses(&self, addresses: &Addresses) -> Option<Route> {
        let key = key(addresses);
        let open = self.servers.iter().filter(|(_, server)| server.takes_new);
        let highest = open.max_by_key(|(id, _)| mix(key ^ hash(id.as_bytes())));
        highest.map(|(_, server)| Route::ByAddresses(server.address))
    }

    /// The server that a datagram's connection id belongs to.
    fn server_of(&self, datagram: &[u8]) -> Option<&Server> {
        let (&first, rest) = datagram.split_first()?;
        let cid = match first & LONG {
            // A short header doesn't say how long the id is; the configuration does.
            0 => rest.get(..self.config_of(rest)?.cid_bytes())?,
            // Four bytes of version, one of length, the id.
            _ => {
                let (&length, rest) = rest.get(4..)?.split_first()?;
                rest.get(..usize::from(length))?
            }
        };
        self.servers.get(&self.config_of(cid)?.decode(cid)?)
    }

    /// The configuration that an id is under.
    fn config_of(&self, cid: &[u8]) -> Option<&LbConfig> {
        self.configs.get(usize::from(cid.first()? >> 5))?.as_ref()
    }
}

fn key(addresses: &Addresses) -> u64 {
    let mut key = [0; 36];
    for (address, key) in [addresses.client, addresses.service].iter().zip(key.chunks_mut(18)) {
        let ip = match address.ip() {
            // So that a client is the same, however the socket writes its address.
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        key[..16].copy_from_slice(&ip.octets());
        key[16..].copy_from_slice(&address.port().to_le_bytes());
    }
    hash(&key)
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(SEED ^ bytes.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash ^ u64::from_le_bytes(word))
    })
}
