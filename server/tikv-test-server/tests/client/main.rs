//! The server under the real client.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod bank;
mod common;
mod dead_clients;
mod faults;
mod killed;
mod network;
mod restart;
mod tls;
mod transactions;
