//! Several nodes on one store: devices talk across them, come and go between them, and nodes end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

#[path = "../common/mod.rs"]
mod common;

mod accounts;
mod moving;
mod nodes;
mod presence;
mod standing;
mod talking;
