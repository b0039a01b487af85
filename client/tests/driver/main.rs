//! The driver against a server that misbehaves on demand, over real sockets on the loopback interface.
//!
//! Every test waits for conditions, never for times; a hung one is ended by the test runner.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic")]

mod backup;
mod chat;
mod delivery;
mod early;
mod fake;
mod leaving;
mod moving;
mod person;
mod relay;
mod session;
mod streams;
mod tickets;
