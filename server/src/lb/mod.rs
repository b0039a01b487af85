//! Connection ids that say which node they belong to, so that a load balancer keeps a phone on its node when
//! its address changes.
//!
//! A load balancer that goes by addresses sends a phone that comes from another network, or through a router
//! that forgot it, to another node, which knows nothing of the connection. The phone then has to connect anew.
//! With these ids it stays.
//!
//! # The format
//!
//! That of QUIC-LB, draft-ietf-quic-load-balancers-21:
//!
//! ```text
//! first octet   3 bits: number of the configuration; 5 bits: bytes that follow
//! server id     1 to 15 bytes
//! nonce         4 to 18 bytes; with the server id at most 19
//! ```
//!
//! With a key, server id and nonce are encrypted together: by one block of AES-128 if they have 16 bytes, else
//! by a Feistel network of four rounds over AES-128. Nothing is authenticated: an id that somebody made up is
//! read as some server's. That leads a packet to a server that drops it.
//!
//! - [`LbConfig`] makes and reads ids. [`Generator`] gives a server its ids.
//! - [`Balancer`] is what a load balancer does with a datagram, without any input or output: for the simulator,
//!   and for whoever writes one.
//!
//! # What a load balancer in front of Tern must be configured with
//!
//! - For each configuration: its number, the lengths of server id and nonce, the key. 16 bytes together are the
//!   cheapest to read, one block of AES instead of three; 8 and 8 is a good choice, and an id has 17 bytes
//!   then. *Each new connection uses up to eight nonces and each Retry packet one*, so nonces of 4 bytes don't
//!   last under an attack.
//! - The table: server id → address. A server keeps its id when it is started anew, and no two have the same,
//!   not even for the moment in which one replaces the other. Ids drawn at random from many are better than 1,
//!   2, 3: fewer of the ids that clients make up are then taken for a server's.
//! - That every id says its length. Tern's do, always; this helps to tell a client's own ids from a server's.
//! - Where packets with other ids go: by both addresses and ports, to a server that answers `/readyz` with 200.
//!   A server that drains (503) gets no new clients, but stays in the table until it has ended.
//! - That client addresses are left as they are, with answers going straight to the client or back through it.
//!   Limits count by client address, and a phone asks for its own to learn how long routers remember it.
//! - *A new key, or other lengths*: a configuration with another number, first at the load balancer beside the
//!   old one, then at one server after the other as it is started anew. The old one goes when the last server
//!   has the new one. A number may be used again when no connection from its earlier use is left.
//!
//! # Together with the end point's secret
//!
//! A server makes ids by a key that lies in the store, so that one which was killed and started again knows its ids
//! and answers packets of the dead connections with stateless resets. With the settings of `[load_balancer]`
//! ([`open()`]), a [`Generator`] takes the place of that key and not of the reset key; see
//! [`gateway::endpoint_config`](crate::gateway::endpoint_config).
//!
//! That is enough: quinn makes the token of a reset from the id and the reset key alone (`ResetToken::new` in
//! quinn-proto 0.11), finds the id of a short header by its length, which is the same for all, and sends a
//! reset for an id that it has no connection for if [`validate`](quinn_proto::ConnectionIdGenerator::validate)
//! lets it pass. So the reset key must outlive the process, as it does now; and the server id and the
//! configuration must be those that the process before had. Under another configuration, the clients of the
//! process before get no reset and find out by themselves.
//!
//! Ids of other servers don't pass, although all nodes have one reset key and could reset each other's
//! connections. It is on purpose: who sees a phone's packet and sends a copy of it to another node would be
//! given a reset that ends the phone's connection (RFC 9000, 21.11). So clients of a node that is gone for good
//! get no reset from the others either.
//!
//! An id that comes twice, since nonces were random or a process began near where one before it did, has the
//! reset token that its first connection was given. That connection's client could end the other one, if it
//! knew of it.

mod balancer;
mod cipher;
mod config;
mod generator;
mod open;
#[cfg(test)]
mod tests;

pub use self::{
    balancer::{Addresses, Balancer, Route, Server},
    config::{
        BLOCK_BYTES, CONFIG_IDS, EncodeError, LbConfig, LbConfigError, NONCE_BYTES,
        SERVER_ID_BYTES, ServerId,
    },
    generator::Generator,
    open::{OpenLbError, open},
};
