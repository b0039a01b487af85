//! The Tern chat protocol, revision 1: what both ends must agree on.
//!
//! `SPEC.md` beside this crate is the protocol; this is its Rust form, used by Tern's server and
//! client alike. It does no I/O: frames go in and come out as bytes, time and randomness are passed
//! in by the caller. That is what lets one implementation run over a real network, a simulated one
//! and in a phone's runtime.
//!
//! - [`frame`]: the frames as values; [`codec`]: their bytes; [`framing`]: cutting a stream into
//!   frames with the limits of [`limits`].
//! - [`id`], [`code`]: identifiers and the error registry.
//! - [`signature`]: what a device signs. [`grease`]: ids that mean nothing.
//! - [`session`], [`uplink`], [`downlink`], [`receipts`]: the state machines, each with the half of the client
//!   and the half of the server.
//! - `congestion`, with the feature `quinn`: congestion control for chats.
//!
//! ```
//! use tern_protocol::{codec, frame::{Ack, Frame}, framing::Deframer, limits};
//!
//! let bytes = codec::encode(&Frame::Ack(Ack { seq: 3, revision: 1 }));
//! let mut deframer = Deframer::new(limits::FIRST_FRAME_BYTES);
//! deframer.push(&bytes);
//! let frame = deframer.next_frame()?.map(codec::decode).transpose()?;
//! assert_eq!(frame, Some(Frame::Ack(Ack { seq: 3, revision: 1 })));
//! # Ok::<(), tern_protocol::codec::DecodeError>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

pub mod code;
pub mod codec;
#[cfg(feature = "quinn")]
pub mod congestion;
pub mod downlink;
pub mod frame;
pub mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod grease;
pub mod id;
pub mod limits;
pub mod receipts;
pub mod session;
pub mod signature;
pub mod uplink;

/// The ALPN protocol id.
pub const ALPN: &[u8] = b"tern/1";
/// The highest revision that this crate speaks.
pub const REVISION: u16 = 1;

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "generated from the schema"
)]
mod tern_capnp {
    include!(concat!(env!("OUT_DIR"), "/tern_capnp.rs"));
}
