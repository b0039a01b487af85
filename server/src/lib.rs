//! The Tern server: accounts, conversations and presence behind a QUIC end point.
//!
//! A [`server::Server`] is put together from a [`config::Config`] and an [`server::Outside`]: store, clock,
//! randomness and network are given to it, so that a simulator can run it unchanged.
//!
//! - [`gateway`]: connections, sign-in, streams.
//! - [`conversation`]: the append path, acks, receipts; pure state in
//!   [`conversation::state`], its single writer in [`conversation::shard`].
//! - [`directory`], [`policy`], [`invites`]: who may register and sign in. [`hub`]: who is connected.
//! - [`cluster`]: several nodes on one store: who they are, who owns what, how they talk. [`across`]: what
//!   that means for devices and conversations; [`route`]: where a device is connected.
//! - [`lb`]: connection ids by which a load balancer finds the node of a connection.
//! - [`store`]: the one trait through which everything durable goes; [`keys`] and [`records`]: the
//!   layout.
//! - [`retention`]: what is deleted for its age. [`admin`], [`metrics`]: for the operator.
//!
//! ```no_run
//! use std::sync::Arc;
//! use tern_server::{
//!     clock::Clock, config::Config, random::Random, server::{Outside, Server},
//!     store::embedded::{EmbeddedSettings, EmbeddedStore},
//! };
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let store = EmbeddedStore::open("data".as_ref(), EmbeddedSettings::default())?;
//! let outside = Outside {
//!     store: Arc::new(store),
//!     clock: Clock::system(),
//!     random: Random::system(),
//!     endpoint: None,
//!     cluster: None,
//! };
//! let server = Server::start(Config::default(), outside).await?;
//! println!("listening on {}", server.address());
//! server.stop().await;
//! # Ok(())
//! # }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

pub mod across;
pub mod admin;
pub mod backend;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod conversation;
mod der;
pub mod directory;
mod files;
pub mod gateway;
pub mod hub;
pub mod invites;
pub mod keys;
pub mod lb;
pub mod metrics;
pub mod policy;
pub mod random;
pub mod records;
pub mod retention;
pub mod route;
pub mod server;
mod signal;
pub mod store;
#[cfg(test)]
mod test_store;
pub mod ticket;
pub mod tls;

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    dead_code,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "generated from the schema"
)]
mod peer_capnp {
    include!(concat!(env!("OUT_DIR"), "/peer_capnp.rs"));
}
