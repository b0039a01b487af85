//! What bad input gets: its numbered error, a count in the metrics, bounded memory, and no notice by
//! anybody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

#[path = "../common/mod.rs"]
mod common;

mod downlink;
mod frames;
mod hello;
mod limits;
mod silence;
mod slow;
mod streams;
mod uplink;
