//! The server under the real client.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod common;
mod transactions;
