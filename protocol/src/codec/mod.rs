//! Frames to bytes and back.
//!
//! Encoding costs two small allocations (the message's segment and, in [`encode`], the result);
//! [`encode_into`] appends to a buffer, so that several frames leave in one write. Decoding copies
//! only short texts; envelopes are slices of the received frame.

mod decode;
mod encode;

pub use decode::{DecodeError, decode};
pub use encode::{encode, encode_into};

#[cfg(test)]
mod tests;
