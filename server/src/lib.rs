//! The Tern server.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

pub mod admin;
pub mod clock;
pub mod config;
mod der;
mod files;
pub mod invites;
pub mod metrics;
pub mod policy;
pub mod random;
pub mod store;
#[cfg(test)]
mod test_store;
pub mod ticket;
pub mod tls;
