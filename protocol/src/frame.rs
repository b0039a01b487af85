//! The frames, as owned values. `schema/tern.capnp` says what each field means; the types here add
//! what a field must be, so that a decoded [`Frame`] has only possible values.

use std::{fmt, net::SocketAddr};

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::{
    code::Code,
    id::{AccountId, ConversationId, DeviceId},
};

/// What a user said, opaque to the server. Its `Debug` shows the length alone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Envelope(pub Bytes);

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({} bytes)", self.0.len())
    }
}

/// A ticket or token: wiped when dropped, never shown. Compare secrets with [`Secret::matches`].
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over a secret.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The secret itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The secret as text; `None` if it isn't UTF-8.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether two secrets are the same, in time that depends on their lengths alone.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.len() == other.len()
            && self.0.iter().zip(other).fold(0, |different, (a, b)| different | (a ^ b)) == 0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One frame of any stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "a variant is the struct that it holds")]
pub enum Frame {
    Extension(Extension),
    Greeting(Greeting),
    Hello(Hello),
    Welcome(Welcome),
    Rejected(Rejected),
    Request(Request),
    Response(Response),
    Event(Event),
    GoAway(GoAway),
    OpenUplink(OpenUplink),
    Send(Send),
    ReadMark(ReadMark),
    Typing(Typing),
    Accepted(Accepted),
    Refused(Refused),
    Marked(Marked),
    OpenDownlink(OpenDownlink),
    Deliver(Deliver),
    Skip(Skip),
    Receipt(Receipt),
    Ack(Ack),
}

/// A frame of an extension, or grease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Never 0.
    pub id: u16,
    /// What the extension says.
    pub body: Bytes,
}

/// What a new account needs on this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Nobody can register.
    Closed,
    /// Anybody can.
    Open,
    /// An invite token.
    Invite,
    /// A JSON Web Token of the operator's user database.
    Token,
}

/// The server's first words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Fresh and random for each connection.
    pub nonce: [u8; 32],
    /// The highest revision that the server speaks, at least 1.
    pub revision: u16,
    /// The server's clock, milliseconds since the epoch.
    pub time_ms: u64,
    /// Name and version of the server's software.
    pub software: String,
    /// Extensions offered.
    pub extensions: Vec<u16>,
    /// What a new account needs.
    pub registration: Registration,
}

/// Who the client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The revision that the client will speak.
    pub revision: u16,
    /// Whether a user is looking.
    pub active: bool,
    /// Name and version of the client's software.
    pub software: String,
    /// Extensions wanted.
    pub extensions: Vec<u16>,
    /// What proves it.
    pub credential: Credential,
}

/// What proves who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The ticket of an earlier welcome.
    Ticket(Secret),
    /// A signature by the device key.
    SignIn(SignIn),
    /// A new account or device.
    Register(Register),
}

/// A sign-in by signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// The account that the device says it belongs to.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// Ed25519 over [`crate::signature::sign_in_message`].
    pub signature: [u8; 64],
}

/// A new account with its first device, or a further device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// The account's name. The codec bounds its length; the server checks the rule.
    pub name: String,
    /// Ed25519 public key.
    pub device_key: [u8; 32],
    /// The device as its owner knows it.
    pub label: String,
    /// Ed25519 over [`crate::signature::register_message`].
    pub signature: [u8; 64],
    /// What entitles the client to register.
    pub entitlement: Entitlement,
}

/// What entitles a client to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entitlement {
    /// Nothing: for open registration.
    None,
    /// An invite token.
    Invite(Secret),
    /// A JSON Web Token.
    Token(Secret),
    /// A link token made by another device of the account.
    Link(Secret),
}

/// The client is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The revision in use.
    pub revision: u16,
    /// The account.
    pub account: AccountId,
    /// This device.
    pub device: DeviceId,
    /// The account's name.
    pub name: String,
    /// Number of this connection among those of the device, growing.
    pub epoch: u64,
    /// For the next hello.
    pub ticket: Secret,
    /// How long the ticket lasts, in milliseconds.
    pub ticket_for_ms: u64,
    /// The server's clock, milliseconds since the epoch.
    pub time_ms: u64,
    /// What waits for this device.
    pub mailbox: Mailbox,
    /// What the server allows.
    pub limits: Limits,
    /// Extensions in use.
    pub extensions: Vec<u16>,
}

/// What waits for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mailbox {
    /// Conversations with something to deliver.
    pub conversations: u32,
    /// Sequence numbers to come in them.
    pub positions: u64,
}

/// What a server allows a device. [`Limits::default`] has the defaults of SPEC.md chapter 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest envelope, in bytes.
    pub envelope_bytes: u32,
    /// Sends without an answer, per uplink.
    pub unanswered_sends: u16,
    /// Requests without a response.
    pub requests: u16,
    /// Accounts watched at once.
    pub watches: u16,
    /// Silence after which an active client is held for gone, in milliseconds.
    pub idle_for_ms: u32,
    /// The same for an inactive client, in milliseconds; 0, from a server that doesn't know it: as for an
    /// active one.
    pub inactive_idle_for_ms: u32,
    /// Silence after which a stream may be ended, in milliseconds.
    pub stream_idle_for_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        use crate::limits;
        Self {
            envelope_bytes: limits::ENVELOPE_BYTES as u32,
            unanswered_sends: limits::UNANSWERED_SENDS,
            requests: limits::REQUESTS,
            watches: limits::WATCHES,
            idle_for_ms: limits::IDLE_FOR_MS,
            inactive_idle_for_ms: limits::INACTIVE_IDLE_FOR_MS,
            stream_idle_for_ms: limits::STREAM_IDLE_FOR_MS,
        }
    }
}

/// A hello was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub code: Code,
    /// For a log.
    pub text: String,
    /// When to try again, in milliseconds; 0: not unchanged.
    pub retry_after_ms: u64,
}

/// The server will close the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoAway {
    /// Why.
    pub code: Code,
    /// When, in milliseconds from now.
    pub within_ms: u64,
    /// Where to go, `HOST:PORT`; empty: the same address.
    pub target: String,
    /// For a log.
    pub text: String,
}

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the client.
    pub id: u32,
    /// What is asked.
    pub body: RequestBody,
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// Is anybody there?
    Ping,
    /// The account of this name.
    Lookup(String),
    /// The name of this account.
    Account(AccountId),
    /// The devices of the own account.
    Devices,
    /// Removes a device of the own account.
    RemoveDevice(DeviceId),
    /// Makes a token for a further device.
    CreateLink,
    /// Whether a user is looking.
    SetActive(bool),
    /// Wants the presence of these accounts.
    Watch(Vec<AccountId>),
    /// Wants it no more.
    Unwatch(Vec<AccountId>),
    /// Where does the server see this client?
    Address,
    /// A request of a later revision, with its union tag.
    Unknown(u16),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// That of the request.
    pub id: u32,
    /// The answer.
    pub body: ResponseBody,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseBody {
    /// It can't be done.
    Error {
        /// Why.
        code: Code,
        /// For a log.
        text: String,
        /// When to try again, in milliseconds; 0: not unchanged.
        retry_after_ms: u64,
    },
    /// Done.
    Done,
    /// An account.
    Account(Account),
    /// The devices of the account.
    Devices(Vec<Device>),
    /// A link token.
    Link {
        /// Works once.
        token: Secret,
        /// How long, in milliseconds.
        valid_for_ms: u64,
    },
    /// Presence of the accounts asked for.
    Presence(Vec<Presence>),
    /// Where the server sees the client: its own address, or that of the router before it.
    Address(SocketAddr),
}

/// An account and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
}

/// A device of the own account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The device.
    pub device: DeviceId,
    /// As its owner knows it.
    pub label: String,
    /// When it was registered, milliseconds since the epoch.
    pub created_ms: u64,
    /// When it was last connected, milliseconds since the epoch; 0: never or not known.
    pub last_seen_ms: u64,
    /// Whether it is connected.
    pub online: bool,
}

/// Whether an account is online.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceState {
    /// Not known, or not for this client to know.
    Unknown,
    /// No device is connected and active.
    Offline,
    /// At least one device is.
    Online,
}

/// The presence of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// The account.
    pub account: AccountId,
    /// Whether it is online.
    pub state: PresenceState,
    /// When it last was, milliseconds since the epoch; 0: not known.
    pub last_seen_ms: u64,
}

/// Something that happened, told to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A watched account's presence changed.
    Presence(Presence),
    /// Somebody is typing.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        account: AccountId,
        /// Started, or stopped.
        active: bool,
    },
    /// What the welcome's mailbox counted is acknowledged.
    CaughtUp(Mailbox),
    /// A device of the account was added or removed.
    DevicesChanged,
    /// An event of a later revision, with its union tag; to be ignored.
    Unknown(u16),
}

/// First frame of an uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUplink {
    /// The conversation.
    pub conversation: ConversationId,
    /// The other account of a direct conversation that may not exist yet.
    pub peer: Option<AccountId>,
}

/// A message on its way up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// Counts the device's accepted sends in the conversation, from 1.
    pub counter: u64,
    /// Random, the same in every repeat.
    pub message_id: u64,
    /// The answers to all counters up to here are stored.
    pub settled: u64,
    /// What is said. Its length is for the uplink to judge.
    pub envelope: Envelope,
}

/// The user has read everything up to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMark {
    /// Sequence number.
    pub up_to: u64,
}

/// The user is typing, or stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typing {
    /// Started, or stopped.
    pub active: bool,
}

/// A message is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Whose answer this is.
    pub counter: u64,
    /// Its place in the conversation.
    pub seq: u64,
    /// When, milliseconds since the epoch.
    pub time_ms: u64,
}

/// A message was refused; its counter isn't used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Whose answer this is.
    pub counter: u64,
    /// Why.
    pub code: Code,
    /// When to try again, in milliseconds; 0: not unchanged.
    pub retry_after_ms: u64,
    /// The device's last accepted counter in the conversation.
    pub last: u64,
}

/// A read mark is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marked {
    /// The account's mark now.
    pub up_to: u64,
}

/// First frame of a downlink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDownlink {
    /// The conversation.
    pub conversation: ConversationId,
    /// The stream goes on behind this sequence number.
    pub start: u64,
    /// The conversation's last sequence number now; at least `start`.
    pub head: u64,
    /// The other account of a direct conversation.
    pub peer: Account,
    /// Receipts on this stream have greater revisions.
    pub revision: u64,
}

/// A message on its way down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deliver {
    /// Its place in the conversation.
    pub seq: u64,
    /// Who sent it.
    pub account: AccountId,
    /// From which device.
    pub device: DeviceId,
    /// As in [`Send`].
    pub message_id: u64,
    /// As in [`Accepted`].
    pub time_ms: u64,
    /// What is said.
    pub envelope: Envelope,
}

/// Why sequence numbers are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// This device sent them itself.
    Own,
    /// Deleted after the time for which the server keeps messages.
    Expired,
}

/// Sequence numbers that aren't sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skip {
    /// The last of them.
    pub up_to: u64,
    /// Why.
    pub reason: SkipReason,
}

/// What one member has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Grows with every change of a receipt in the conversation.
    pub revision: u64,
    /// Whose.
    pub account: AccountId,
    /// A device of the account stores everything up to here.
    pub delivered: u64,
    /// The user has read everything up to here.
    pub read: u64,
    /// Deleted before any device of the account had them; ascending, disjoint.
    pub expired: Vec<Span>,
}

/// A range of sequence numbers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: u64,
    /// The last; at least `first`.
    pub last: u64,
}

/// What a device has stored of a downlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ack {
    /// Entries up to here.
    pub seq: u64,
    /// Receipts up to here.
    pub revision: u64,
}
