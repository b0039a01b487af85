//! What the protocol's chapters 2 and 4 to 8 say of a server, of a real one over real QUIC.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

#[path = "../common/mod.rs"]
mod common;

mod account;
mod chat;
mod early;
mod leaving;
mod mailbox;
mod moving;
mod policy;
mod presence;
mod retention;
mod transport;
