//! Tern under bad conditions.
//!
//! - [`checker`]: was every message delivered once, in order, to everybody, and did no receipt lie?
//!   Pure data in, a verdict out.
//! - [`sim`]: the real server and the real client on a simulated network in virtual time.
//! - [`scenario`]: what happens in such a world, as a file; [`run`]: a run of one; [`series`]: many at once.
//! - [`parity`]: the same job in virtual and in real time.
//! - [`fault`]: faults that are planted into runs, to see that the judgement finds them.
//! - [`fuzz`]: runs of random scenarios. [`figures`]: what Tern is held to, measured.
//! - [`app`]: the application that is put under load.
//! - [`journal`]: how processes that may be killed at any moment record together what happened, for the
//!   checker.
//! - [`link`]: one direction of a network path, without I/O: rate, delay, loss and the rest.
//! - [`path`]: both directions of a path, with outages and new addresses; [`profile`]: paths with names.
//! - [`proxy`]: such a path in real time, for any client and server of QUIC.
//! - `emulate` (on Linux): the same for any program, TCP too, between two network namespaces.
//! - [`report`]: what runs have found, for people: text, plots, pages.
//! - [`schedule`]: what is on its way; [`lateness`]: how late it was handed on.
//! - [`standing`]: how far a device is.
//!
//! The crash test (`tests/crash.rs`) kills a real server and real clients with SIGKILL under load and then
//! asks the checker; the program `tern-netsim-device` is one of its clients.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

pub mod app;
pub mod checker;
#[cfg(target_os = "linux")]
pub mod emulate;
pub mod fault;
pub mod figures;
pub mod fuzz;
pub mod journal;
pub mod lateness;
pub mod link;
pub mod parity;
pub mod path;
pub mod profile;
pub mod proxy;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod series;
pub mod sim;
pub mod standing;
