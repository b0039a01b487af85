//! Tern's streams over one QUIC stream, for comparison only.
//!
//! Tern gives every conversation streams of its own, so that a lost packet holds up nobody but those whose
//! bytes were in it. What that gains has to be measured, so this crate takes it away: session, uplinks
//! and downlinks travel in small chunks over a single bidirectional stream, in which one lost packet
//! holds up everything behind it, as in a TCP connection. All else stays as it is, down to packets and
//! congestion control.
//!
//! No product has it: client and server depend on it behind their feature `single-stream`, which the
//! simulator switches on, and even then it is used only if both are told to. It isn't a part of the
//! protocol and may change at any time.
//!
//! - [`mux`]: the streams in the stream, without I/O.
//! - [`Connection`], [`SendStream`], [`RecvStream`]: what client and server use in the place of quinn's types of
//!   the same names.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod connection;
pub mod mux;
mod stream;

pub use connection::Connection;
pub use stream::{RecvStream, SendStream};

/// The ALPN protocol id: what is negotiated in the place of `tern/1`.
pub const ALPN: &[u8] = b"tern-single/1";
