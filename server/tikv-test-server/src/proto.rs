//! Messages and server stubs of kvproto, as far as the client uses them.
//!
//! Generated from the `.proto` files that tikv-client ships, by the crate in `regenerate/`, which says how and
//! what it leaves out. tikv-client keeps its own types private.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::unwrap_used,
    reason = "generated; the messages are described in the .proto files"
)]

#[rustfmt::skip]
pub mod errorpb;
#[rustfmt::skip]
pub mod kvrpcpb;
#[rustfmt::skip]
pub mod metapb;
#[rustfmt::skip]
pub mod pdpb;
#[rustfmt::skip]
pub mod tikvpb;
