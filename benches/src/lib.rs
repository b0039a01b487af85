//! Load on a real Tern server, and what it makes of it.
//!
//! A run starts a `tern-server` process with a data folder of its own ([`server`]), connects many
//! devices to it from this one process ([`network`], [`device`], [`live`], [`uplink`]) and measures
//! ([`samples`], [`process`], [`outcome`]). The devices speak the protocol through `tern-protocol`'s
//! state machines and keep nothing on disk: the client library would have SQLite measured.
//!
//! - [`runs`]: what is measured.
//! - [`text`], [`html`]: the outcome for people. It serialises to JSON for programs.
//! - [`machine`]: on what it was measured.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

pub mod device;
pub mod error;
pub mod html;
mod io;
pub mod live;
pub mod machine;
pub mod network;
pub mod outcome;
pub mod process;
pub mod progress;
pub mod runs;
pub mod samples;
pub mod server;
pub mod text;
pub mod uplink;

use serde::Serialize;

use crate::{machine::Machine, outcome::Repeated};

/// Everything that was found, as it is written with `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// What makes the figures doubtful.
    pub warnings: Vec<String>,
    /// The runs.
    pub runs: Vec<Repeated>,
}
