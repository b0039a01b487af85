use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use capnp::{
    NotInSchema,
    message::ReaderOptions,
    primitive_list, serialize,
    text::{self},
};

use crate::{
    code::Code,
    frame::*,
    id::{AccountId, ConversationId, DeviceId},
    limits, tern_capnp as wire,
};

/// Why bytes aren't a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes break the rules of chapter 3; the text says which.
    Malformed(&'static str),
    /// The frame is longer than the limit in force.
    TooLarge {
        /// What its framing says.
        frame_bytes: u64,
        /// What is allowed here.
        limit_bytes: usize,
    },
    /// The frame's kind isn't in this revision.
    UnknownFrame(u16),
}

impl DecodeError {
    /// The code with which the connection is closed.
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::MalformedFrame,
            Self::TooLarge { .. } => Code::FrameTooLarge,
            Self::UnknownFrame(_) => Code::UnknownFrame,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "malformed frame: {why}"),
            Self::TooLarge { frame_bytes, limit_bytes } => {
                write!(f, "a frame of {frame_bytes} bytes where {limit_bytes} are allowed")
            }
            Self::UnknownFrame(tag) => write!(f, "unknown kind of frame: {tag}"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<capnp::Error> for DecodeError {
    fn from(_: capnp::Error) -> Self {
        Self::Malformed("not a valid Cap'n Proto message")
    }
}

type Result<T> = std::result::Result<T, DecodeError>;

/// Decodes one whole frame, framing included, as cut out by a [`crate::framing::Deframer`].
///
/// The envelope of the result is a slice of `frame`, not a copy.
pub fn decode(frame: Bytes) -> Result<Frame> {
    let mut rest = &frame[..];
    let mut options = ReaderOptions::new();
    options
        .traversal_limit_in_words(Some(2 * (frame.len() / 8) + 64))
        .nesting_limit(limits::NESTING);
    let message = serialize::read_message_from_flat_slice_no_alloc(&mut rest, options)?;
    if !rest.is_empty() || frame.first_chunk() != Some(&[0; 4]) {
        return Err(DecodeError::Malformed("not one segment"));
    }
    let root = message.get_root::<wire::frame::Reader<'_>>()?;
    read(root, &frame)
}

fn read(from: wire::frame::Reader<'_>, whole: &Bytes) -> Result<Frame> {
    use wire::frame::Which;
    Ok(match from.which().map_err(|NotInSchema(tag)| DecodeError::UnknownFrame(tag))? {
        Which::Extension(from) => {
            let from = from?;
            if from.get_id() == 0 {
                return Err(DecodeError::Malformed("extension 0 is reserved"));
            }
            Frame::Extension(Extension {
                id: from.get_id(),
                body: whole.slice_ref(from.get_body()?),
            })
        }
        Which::Greeting(from) => Frame::Greeting(read_greeting(from?)?),
        Which::Hello(from) => Frame::Hello(read_hello(from?)?),
        Which::Welcome(from) => Frame::Welcome(read_welcome(from?)?),
        Which::Rejected(from) => {
            let from = from?;
            Frame::Rejected(Rejected {
                code: from.get_code().into(),
                text: text(from.get_text()?, limits::ERROR_TEXT_BYTES)?,
                retry_after_ms: from.get_retry_after_ms(),
            })
        }
        Which::Request(from) => Frame::Request(read_request(from?)?),
        Which::Response(from) => Frame::Response(read_response(from?)?),
        Which::Event(from) => Frame::Event(read_event(from?)?),
        Which::GoAway(from) => {
            let from = from?;
            Frame::GoAway(GoAway {
                code: from.get_code().into(),
                within_ms: from.get_within_ms(),
                target: text(from.get_target()?, limits::TARGET_BYTES)?,
                text: text(from.get_text()?, limits::ERROR_TEXT_BYTES)?,
            })
        }
        Which::OpenUplink(from) => {
            let from = from?;
            Frame::OpenUplink(OpenUplink {
                conversation: conversation(from.get_conversation()?)?,
                peer: AccountId::new(from.get_peer()),
            })
        }
        Which::Send(from) => {
            let from = from?;
            Frame::Send(Send {
                counter: from.get_counter(),
                message_id: from.get_message_id(),
                settled: from.get_settled(),
                envelope: Envelope(whole.slice_ref(from.get_envelope()?)),
            })
        }
        Which::ReadMark(from) => Frame::ReadMark(ReadMark { up_to: from?.get_up_to() }),
        Which::Typing(from) => Frame::Typing(Typing { active: from?.get_active() }),
        Which::Accepted(from) => {
            let from = from?;
            Frame::Accepted(Accepted {
                counter: from.get_counter(),
                seq: from.get_seq(),
                time_ms: from.get_time_ms(),
            })
        }
        Which::Refused(from) => {
            let from = from?;
            Frame::Refused(Refused {
                counter: from.get_counter(),
                code: from.get_code().into(),
                retry_after_ms: from.get_retry_after_ms(),
                last: from.get_last(),
            })
        }
        Which::Marked(from) => Frame::Marked(Marked { up_to: from?.get_up_to() }),
        Which::OpenDownlink(from) => {
            let from = from?;
            if from.get_head() < from.get_start() {
                return Err(DecodeError::Malformed("a downlink starts beyond its head"));
            }
            Frame::OpenDownlink(OpenDownlink {
                conversation: conversation(from.get_conversation()?)?,
                start: from.get_start(),
                head: from.get_head(),
                peer: read_account(from.get_peer()?)?,
                revision: from.get_revision(),
            })
        }
        Which::Deliver(from) => {
            let from = from?;
            Frame::Deliver(Deliver {
                seq: from.get_seq(),
                account: account(from.get_account())?,
                device: device(from.get_device())?,
                message_id: from.get_message_id(),
                time_ms: from.get_time_ms(),
                envelope: Envelope(whole.slice_ref(from.get_envelope()?)),
            })
        }
        Which::Skip(from) => {
            let from = from?;
            Frame::Skip(Skip {
                up_to: from.get_up_to(),
                reason: match known(from.get_reason())? {
                    wire::skip::Reason::Own => SkipReason::Own,
                    wire::skip::Reason::Expired => SkipReason::Expired,
                },
            })
        }
        Which::Receipt(from) => Frame::Receipt(read_receipt(from?)?),
        Which::Ack(from) => {
            let from = from?;
            Frame::Ack(Ack { seq: from.get_seq(), revision: from.get_revision() })
        }
    })
}

fn known<T>(enumerant: std::result::Result<T, NotInSchema>) -> Result<T> {
    enumerant.map_err(|_| DecodeError::Malformed("an enumerant that this revision doesn't have"))
}

fn account(id: u64) -> Result<AccountId> {
    AccountId::new(id).ok_or(DecodeError::Malformed("an account id of 0"))
}

fn device(id: u64) -> Result<DeviceId> {
    DeviceId::new(id).ok_or(DecodeError::Malformed("a device id of 0"))
}

fn conversation(bytes: &[u8]) -> Result<ConversationId> {
    Ok(ConversationId::new(fixed(bytes, "a conversation id isn't 16 bytes")?))
}

fn fixed<const N: usize>(bytes: &[u8], what: &'static str) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| DecodeError::Malformed(what))
}

fn bounded(bytes: &[u8], limit_bytes: usize) -> Result<&[u8]> {
    if bytes.len() > limit_bytes {
        return Err(DecodeError::Malformed("a field exceeds its limit"));
    }
    Ok(bytes)
}

fn text(from: text::Reader<'_>, limit_bytes: usize) -> Result<String> {
    bounded(from.as_bytes(), limit_bytes)?;
    from.to_str().map(str::to_owned).map_err(|_| DecodeError::Malformed("text that isn't UTF-8"))
}

fn secret_text(from: text::Reader<'_>, limit_bytes: usize) -> Result<Secret> {
    bounded(from.as_bytes(), limit_bytes)?;
    if from.to_str().is_err() {
        return Err(DecodeError::Malformed("text that isn't UTF-8"));
    }
    Ok(Secret::new(from.as_bytes()))
}

fn extensions(from: primitive_list::Reader<'_, u16>) -> Result<Vec<u16>> {
    if from.len() as usize > limits::EXTENSIONS {
        return Err(DecodeError::Malformed("too many extension ids"));
    }
    Ok(from.iter().collect())
}

fn accounts(from: primitive_list::Reader<'_, u64>) -> Result<Vec<AccountId>> {
    if from.len() as usize > limits::WATCH_LIST {
        return Err(DecodeError::Malformed("too many accounts in one request"));
    }
    from.iter().map(account).collect()
}

fn read_account(from: wire::account::Reader<'_>) -> Result<Account> {
    Ok(Account {
        account: account(from.get_account())?,
        name: text(from.get_name()?, limits::NAME_BYTES)?,
    })
}

fn read_greeting(from: wire::greeting::Reader<'_>) -> Result<Greeting> {
    use wire::greeting::Registration as Wire;
    if from.get_revision() == 0 {
        return Err(DecodeError::Malformed("revision 0"));
    }
    Ok(Greeting {
        nonce: fixed(from.get_nonce()?, "a nonce isn't 32 bytes")?,
        revision: from.get_revision(),
        time_ms: from.get_time_ms(),
        software: text(from.get_software()?, limits::LABEL_BYTES)?,
        extensions: extensions(from.get_extensions()?)?,
        registration: match known(from.get_registration())? {
            Wire::Closed => Registration::Closed,
            Wire::Open => Registration::Open,
            Wire::Invite => Registration::Invite,
            Wire::Token => Registration::Token,
        },
    })
}

fn read_hello(from: wire::hello::Reader<'_>) -> Result<Hello> {
    use wire::hello::Which;
    let which = from
        .which()
        .map_err(|_| DecodeError::Malformed("a credential that this revision doesn't have"))?;
    Ok(Hello {
        revision: from.get_revision(),
        active: from.get_active(),
        software: text(from.get_software()?, limits::LABEL_BYTES)?,
        extensions: extensions(from.get_extensions()?)?,
        credential: match which {
            Which::Ticket(from) => {
                Credential::Ticket(Secret::new(bounded(from?, limits::TICKET_BYTES)?))
            }
            Which::SignIn(from) => {
                let from = from?;
                Credential::SignIn(SignIn {
                    account: account(from.get_account())?,
                    device: device(from.get_device())?,
                    signature: fixed(from.get_signature()?, "a signature isn't 64 bytes")?,
                })
            }
            Which::Register(from) => Credential::Register(read_register(from?)?),
        },
    })
}

fn read_register(from: wire::register::Reader<'_>) -> Result<Register> {
    use wire::register::Which;
    let which = from
        .which()
        .map_err(|_| DecodeError::Malformed("an entitlement that this revision doesn't have"))?;
    Ok(Register {
        // The rule for names has an error code of its own; here only the frame's size bounds it.
        name: text(from.get_name()?, limits::FIRST_FRAME_BYTES)?,
        device_key: fixed(from.get_device_key()?, "a device key isn't 32 bytes")?,
        label: text(from.get_label()?, limits::LABEL_BYTES)?,
        signature: fixed(from.get_signature()?, "a signature isn't 64 bytes")?,
        entitlement: match which {
            Which::None(()) => Entitlement::None,
            Which::Invite(from) => Entitlement::Invite(secret_text(from?, limits::TOKEN_BYTES)?),
            Which::Token(from) => Entitlement::Token(secret_text(from?, limits::JWT_BYTES)?),
            Which::Link(from) => Entitlement::Link(secret_text(from?, limits::TOKEN_BYTES)?),
        },
    })
}

fn read_welcome(from: wire::welcome::Reader<'_>) -> Result<Welcome> {
    let mailbox = from.get_mailbox()?;
    let limit = from.get_limits()?;
    Ok(Welcome {
        revision: from.get_revision(),
        account: account(from.get_account())?,
        device: device(from.get_device())?,
        name: text(from.get_name()?, limits::NAME_BYTES)?,
        epoch: from.get_epoch(),
        ticket: Secret::new(bounded(from.get_ticket()?, limits::TICKET_BYTES)?),
        ticket_for_ms: from.get_ticket_for_ms(),
        time_ms: from.get_time_ms(),
        mailbox: Mailbox {
            conversations: mailbox.get_conversations(),
            positions: mailbox.get_positions(),
        },
        limits: Limits {
            envelope_bytes: limit.get_envelope_bytes(),
            unanswered_sends: limit.get_unanswered_sends(),
            requests: limit.get_requests(),
            watches: limit.get_watches(),
            idle_for_ms: limit.get_idle_for_ms(),
            inactive_idle_for_ms: limit.get_inactive_idle_for_ms(),
            stream_idle_for_ms: limit.get_stream_idle_for_ms(),
        },
        extensions: extensions(from.get_extensions()?)?,
    })
}

fn read_request(from: wire::request::Reader<'_>) -> Result<Request> {
    use wire::request::Which;
    let body = match from.which() {
        Err(NotInSchema(tag)) => RequestBody::Unknown(tag),
        Ok(Which::Ping(())) => RequestBody::Ping,
        Ok(Which::Lookup(name)) => RequestBody::Lookup(text(name?, limits::FIRST_FRAME_BYTES)?),
        Ok(Which::Account(id)) => RequestBody::Account(account(id)?),
        Ok(Which::Devices(())) => RequestBody::Devices,
        Ok(Which::RemoveDevice(id)) => RequestBody::RemoveDevice(device(id)?),
        Ok(Which::CreateLink(())) => RequestBody::CreateLink,
        Ok(Which::SetActive(active)) => RequestBody::SetActive(active),
        Ok(Which::Watch(list)) => RequestBody::Watch(accounts(list?)?),
        Ok(Which::Unwatch(list)) => RequestBody::Unwatch(accounts(list?)?),
        Ok(Which::Address(())) => RequestBody::Address,
    };
    Ok(Request { id: from.get_id(), body })
}

fn read_presence(from: wire::presence::Reader<'_>) -> Result<Presence> {
    use wire::presence::State as Wire;
    Ok(Presence {
        account: account(from.get_account())?,
        state: match known(from.get_state())? {
            Wire::Unknown => PresenceState::Unknown,
            Wire::Offline => PresenceState::Offline,
            Wire::Online => PresenceState::Online,
        },
        last_seen_ms: from.get_last_seen_ms(),
    })
}

fn read_response(from: wire::response::Reader<'_>) -> Result<Response> {
    use wire::response::Which;
    let which = from
        .which()
        .map_err(|_| DecodeError::Malformed("a response that this revision doesn't have"))?;
    let body = match which {
        Which::Error(from) => {
            let from = from?;
            ResponseBody::Error {
                code: from.get_code().into(),
                text: text(from.get_text()?, limits::ERROR_TEXT_BYTES)?,
                retry_after_ms: from.get_retry_after_ms(),
            }
        }
        Which::Done(()) => ResponseBody::Done,
        Which::Account(from) => ResponseBody::Account(read_account(from?)?),
        Which::Devices(list) => {
            let list = list?;
            if list.len() as usize > limits::DEVICES {
                return Err(DecodeError::Malformed("too many devices"));
            }
            let read = |from: wire::device::Reader<'_>| {
                Ok(Device {
                    device: device(from.get_device())?,
                    label: text(from.get_label()?, limits::LABEL_BYTES)?,
                    created_ms: from.get_created_ms(),
                    last_seen_ms: from.get_last_seen_ms(),
                    online: from.get_online(),
                })
            };
            ResponseBody::Devices(list.iter().map(read).collect::<Result<_>>()?)
        }
        Which::Link(from) => {
            let from = from?;
            ResponseBody::Link {
                token: secret_text(from.get_token()?, limits::TOKEN_BYTES)?,
                valid_for_ms: from.get_valid_for_ms(),
            }
        }
        Which::Presence(list) => {
            let list = list?;
            if list.len() as usize > limits::WATCH_LIST {
                return Err(DecodeError::Malformed("too many presences"));
            }
            ResponseBody::Presence(list.iter().map(read_presence).collect::<Result<_>>()?)
        }
        Which::Address(from) => {
            let from = from?;
            let bytes = from.get_ip()?;
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
            let ip = ip.map_err(|_| DecodeError::Malformed("an address of impossible length"))?;
            ResponseBody::Address(SocketAddr::new(ip, from.get_port()))
        }
    };
    Ok(Response { id: from.get_id(), body })
}

fn read_event(from: wire::event::Reader<'_>) -> Result<Event> {
    use wire::event::Which;
    Ok(match from.which() {
        Err(NotInSchema(tag)) => Event::Unknown(tag),
        Ok(Which::Presence(from)) => Event::Presence(read_presence(from?)?),
        Ok(Which::Typing(from)) => {
            let from = from?;
            Event::Typing {
                conversation: conversation(from.get_conversation()?)?,
                account: account(from.get_account())?,
                active: from.get_active(),
            }
        }
        Ok(Which::CaughtUp(from)) => {
            let from = from?;
            Event::CaughtUp(Mailbox {
                conversations: from.get_conversations(),
                positions: from.get_positions(),
            })
        }
        Ok(Which::DevicesChanged(())) => Event::DevicesChanged,
    })
}

fn read_receipt(from: wire::receipt::Reader<'_>) -> Result<Receipt> {
    let list = from.get_expired()?;
    if list.len() as usize > limits::SPANS {
        return Err(DecodeError::Malformed("too many spans"));
    }
    let mut expired = Vec::with_capacity(list.len() as usize);
    let mut above = 0;
    for span in list.iter() {
        let span = Span { first: span.get_first(), last: span.get_last() };
        if span.first <= above || span.last < span.first {
            return Err(DecodeError::Malformed("spans out of order"));
        }
        above = span.last;
        expired.push(span);
    }
    Ok(Receipt {
        revision: from.get_revision(),
        account: account(from.get_account())?,
        delivered: from.get_delivered(),
        read: from.get_read(),
        expired,
    })
}
