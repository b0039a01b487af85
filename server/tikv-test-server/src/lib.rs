//! A PD and a TiKV for tests.
//!
//! The real `tikv-client` talks to it over gRPC on loopback. It keeps transactions as TiKV does ([`mvcc`]), in one
//! process that plays several stores ([`regions`]), and goes wrong when it is told to ([`TestServer::fault`],
//! [`TestServer::chaos`]). With a folder it loses nothing that it answered, however it is killed.
//! It is support for tests: nothing of a product links it.
//!
//! ```no_run
//! use tern_tikv_test_server::{Effect, Loss, Method, Options, Rule, TestServer};
//!
//! let server = TestServer::start(Options::default())?;
//! let endpoints = vec![server.pd_address().to_string()];
//! // … TransactionClient::new(endpoints) …
//! server.split(b"m")?;
//! server.fault(Rule::on(Method::KvPrewrite, Effect::LoseReply(Loss::Unavailable)).next(1));
//! println!("{} prewrites", server.counts().calls(Method::KvPrewrite));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may panic"))]

pub mod clock;
mod codec;
mod core;
pub mod counters;
pub mod faults;
mod method;
pub mod mvcc;
mod network;
mod options;
mod oracle;
mod persist;
mod planted;
mod proto;
pub mod regions;
mod running;
mod server;
#[expect(clippy::result_large_err, reason = "tonic's traits want its status as it is")]
mod service;

pub use counters::{Count, Counts};
pub use faults::{Effect, Loss, Rule, RuleId};
pub use method::Method;
pub use options::{Options, Tls};
pub use persist::LogError;
pub use planted::{Fate, Planted};
pub use running::StartError;
pub use server::{Endpoint, FaultError, TestServer};
