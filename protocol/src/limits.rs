//! The limits of SPEC.md chapter 10: hard ones that every implementation enforces, and the defaults
//! of those that a server announces in its welcome.

/// Longest frame, framing included, in bytes.
pub const FRAME_BYTES: usize = 131_072;
/// Longest frame before the welcome, and longest first frame of a stream, in bytes.
pub const FIRST_FRAME_BYTES: usize = 8_192;
/// Bytes of framing before a segment: segment count and length.
pub const FRAMING_BYTES: usize = 8;
/// Levels of pointers inside one frame.
pub const NESTING: i32 = 8;
/// Longest envelope that any server may allow, in bytes.
pub const ENVELOPE_BYTES: usize = 65_536;
/// Longest account name, in bytes (which are characters).
pub const NAME_BYTES: usize = 32;
/// Longest device label and software name, in bytes.
pub const LABEL_BYTES: usize = 64;
/// Longest explanation in an error, in bytes.
pub const ERROR_TEXT_BYTES: usize = 256;
/// Longest ticket, in bytes.
pub const TICKET_BYTES: usize = 512;
/// Longest invite or link token, in bytes.
pub const TOKEN_BYTES: usize = 128;
/// Longest JSON Web Token, in bytes.
pub const JWT_BYTES: usize = 4_096;
/// Longest network address in a go-away, in bytes.
pub const TARGET_BYTES: usize = 256;
/// Extension ids in one list.
pub const EXTENSIONS: usize = 32;
/// Hellos that a client may send on one connection.
pub const HELLOS: u8 = 3;
/// Time from the handshake's start to an acceptable hello, in milliseconds.
pub const HELLO_TIMEOUT_MS: u64 = 10_000;
/// Time in which the first frame of a stream must arrive, in milliseconds.
pub const OPEN_TIMEOUT_MS: u64 = 10_000;
/// How far a counter may be ahead of `settled`.
pub const SETTLED_WINDOW: u64 = 128;
/// Deliveries on a downlink beyond the last ack.
pub const DELIVERY_WINDOW: u64 = 256;
/// Spans in a receipt.
pub const SPANS: usize = 64;
/// Accounts in one `watch` or `unwatch`.
pub const WATCH_LIST: usize = 256;
/// Devices of an account.
pub const DEVICES: usize = 16;
/// How long `typing` holds unless it is repeated, in milliseconds.
pub const TYPING_MS: u64 = 6_000;
/// How long receipts may be held back for an inactive client, in milliseconds.
pub const INACTIVE_RECEIPTS_MS: u64 = 60_000;
/// Longest body of an extension frame of grease, in bytes.
pub const GREASE_BYTES: usize = 64;

/// Default of `Limits.unansweredSends`.
pub const UNANSWERED_SENDS: u16 = 64;
/// Default of `Limits.requests`.
pub const REQUESTS: u16 = 16;
/// Default of `Limits.watches`.
pub const WATCHES: u16 = 256;
/// Default of `Limits.idleForMs`.
pub const IDLE_FOR_MS: u32 = 30_000;
/// Default of `Limits.inactiveIdleForMs`.
pub const INACTIVE_IDLE_FOR_MS: u32 = 600_000;
/// Default of `Limits.streamIdleForMs`.
pub const STREAM_IDLE_FOR_MS: u32 = 30_000;
