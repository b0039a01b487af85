//! Frames of every kind with arbitrary values, all of them possible.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::Source;
use crate::{
    code::Code,
    frame::*,
    id::{AccountId, ConversationId, DeviceId},
    limits,
};

/// How many kinds of frame there are.
pub const KINDS: usize = 21;

/// A frame of any kind.
pub fn any(from: &mut Source<'_>) -> Frame {
    let kind = from.below(KINDS);
    of_kind(kind, from)
}

/// A frame of the kind with this union tag.
///
/// # Panics
///
/// If there is no such kind.
pub fn of_kind(tag: usize, from: &mut Source<'_>) -> Frame {
    match tag {
        0 => Frame::Extension(Extension {
            id: from.u16().max(1),
            body: Bytes::from(from.bytes(300)),
        }),
        1 => Frame::Greeting(greeting(from)),
        2 => Frame::Hello(hello(from)),
        3 => Frame::Welcome(welcome(from)),
        4 => Frame::Rejected(Rejected {
            code: code(from),
            text: from.text(limits::ERROR_TEXT_BYTES),
            retry_after_ms: from.u64(),
        }),
        5 => Frame::Request(request(from)),
        6 => Frame::Response(response(from)),
        7 => Frame::Event(event(from)),
        8 => Frame::GoAway(GoAway {
            code: code(from),
            within_ms: from.u64(),
            target: from.text(limits::TARGET_BYTES),
            text: from.text(limits::ERROR_TEXT_BYTES),
        }),
        9 => Frame::OpenUplink(OpenUplink {
            conversation: conversation(from),
            peer: AccountId::new(from.u64()),
        }),
        10 => Frame::Send(Send {
            counter: from.u64(),
            message_id: from.u64(),
            settled: from.u64(),
            envelope: envelope(from),
        }),
        11 => Frame::ReadMark(ReadMark { up_to: from.u64() }),
        12 => Frame::Typing(Typing { active: from.bool() }),
        13 => {
            Frame::Accepted(Accepted { counter: from.u64(), seq: from.u64(), time_ms: from.u64() })
        }
        14 => Frame::Refused(Refused {
            counter: from.u64(),
            code: code(from),
            retry_after_ms: from.u64(),
            last: from.u64(),
        }),
        15 => Frame::Marked(Marked { up_to: from.u64() }),
        16 => {
            let (a, b) = (from.u64(), from.u64());
            Frame::OpenDownlink(OpenDownlink {
                conversation: conversation(from),
                start: a.min(b),
                head: a.max(b),
                peer: account(from),
                revision: from.u64(),
            })
        }
        17 => Frame::Deliver(Deliver {
            seq: from.u64(),
            account: account_id(from),
            device: device_id(from),
            message_id: from.u64(),
            time_ms: from.u64(),
            envelope: envelope(from),
        }),
        18 => Frame::Skip(Skip {
            up_to: from.u64(),
            reason: if from.bool() { SkipReason::Expired } else { SkipReason::Own },
        }),
        19 => Frame::Receipt(Receipt {
            revision: from.u64(),
            account: account_id(from),
            delivered: from.u64(),
            read: from.u64(),
            expired: spans(from),
        }),
        20 => Frame::Ack(Ack { seq: from.u64(), revision: from.u64() }),
        _ => panic!("there is no kind of frame with the tag {tag}"),
    }
}

/// An account id.
pub fn account_id(from: &mut Source<'_>) -> AccountId {
    AccountId::new(from.u64().max(1)).unwrap()
}

/// A device id.
pub fn device_id(from: &mut Source<'_>) -> DeviceId {
    DeviceId::new(from.u64().max(1)).unwrap()
}

/// A conversation's id.
pub fn conversation(from: &mut Source<'_>) -> ConversationId {
    ConversationId::new(from.array())
}

/// A code of the registry, or beyond it.
pub fn code(from: &mut Source<'_>) -> Code {
    let known = from.below(Code::ALL.len() + 1);
    match Code::ALL.get(known) {
        Some(&code) => code,
        None => Code::from(from.u16()),
    }
}

/// An envelope, which a server may allow or not.
pub fn envelope(from: &mut Source<'_>) -> Envelope {
    Envelope(Bytes::from(from.bytes(limits::ENVELOPE_BYTES)))
}

/// A greeting.
pub fn greeting(from: &mut Source<'_>) -> Greeting {
    Greeting {
        nonce: from.array(),
        revision: from.u16().max(1),
        time_ms: from.u64(),
        software: from.text(limits::LABEL_BYTES),
        extensions: extensions(from),
        registration: match from.below(4) {
            0 => Registration::Closed,
            1 => Registration::Open,
            2 => Registration::Invite,
            _ => Registration::Token,
        },
    }
}

/// A hello.
pub fn hello(from: &mut Source<'_>) -> Hello {
    Hello {
        revision: from.u16(),
        active: from.bool(),
        software: from.text(limits::LABEL_BYTES),
        extensions: extensions(from),
        credential: match from.below(3) {
            0 => Credential::Ticket(Secret::new(from.bytes(limits::TICKET_BYTES))),
            1 => Credential::SignIn(SignIn {
                account: account_id(from),
                device: device_id(from),
                signature: from.array(),
            }),
            _ => Credential::Register(Register {
                name: from.text(2 * limits::NAME_BYTES),
                device_key: from.array(),
                label: from.text(limits::LABEL_BYTES),
                signature: from.array(),
                entitlement: match from.below(4) {
                    0 => Entitlement::None,
                    1 => Entitlement::Invite(secret_text(from, limits::TOKEN_BYTES)),
                    2 => Entitlement::Token(secret_text(from, limits::JWT_BYTES)),
                    _ => Entitlement::Link(secret_text(from, limits::TOKEN_BYTES)),
                },
            }),
        },
    }
}

/// A welcome.
pub fn welcome(from: &mut Source<'_>) -> Welcome {
    Welcome {
        revision: from.u16(),
        account: account_id(from),
        device: device_id(from),
        name: from.text(limits::NAME_BYTES),
        epoch: from.u64(),
        ticket: Secret::new(from.bytes(limits::TICKET_BYTES)),
        ticket_for_ms: from.u64(),
        time_ms: from.u64(),
        mailbox: mailbox(from),
        limits: Limits {
            envelope_bytes: from.u32(),
            unanswered_sends: from.u16(),
            requests: from.u16(),
            watches: from.u16(),
            idle_for_ms: from.u32(),
            inactive_idle_for_ms: from.u32(),
            stream_idle_for_ms: from.u32(),
        },
        extensions: extensions(from),
    }
}

/// A request of this revision.
pub fn request(from: &mut Source<'_>) -> Request {
    Request {
        id: from.u32(),
        body: match from.below(10) {
            0 => RequestBody::Ping,
            1 => RequestBody::Lookup(from.text(2 * limits::NAME_BYTES)),
            2 => RequestBody::Account(account_id(from)),
            3 => RequestBody::Devices,
            4 => RequestBody::RemoveDevice(device_id(from)),
            5 => RequestBody::CreateLink,
            6 => RequestBody::SetActive(from.bool()),
            7 => RequestBody::Watch(list(from, limits::WATCH_LIST, account_id)),
            8 => RequestBody::Unwatch(list(from, limits::WATCH_LIST, account_id)),
            _ => RequestBody::Address,
        },
    }
}

/// A response.
pub fn response(from: &mut Source<'_>) -> Response {
    Response {
        id: from.u32(),
        body: match from.below(7) {
            0 => ResponseBody::Error {
                code: code(from),
                text: from.text(limits::ERROR_TEXT_BYTES),
                retry_after_ms: from.u64(),
            },
            1 => ResponseBody::Done,
            2 => ResponseBody::Account(account(from)),
            3 => ResponseBody::Devices(list(from, limits::DEVICES, |from| Device {
                device: device_id(from),
                label: from.text(limits::LABEL_BYTES),
                created_ms: from.u64(),
                last_seen_ms: from.u64(),
                online: from.bool(),
            })),
            4 => ResponseBody::Link {
                token: secret_text(from, limits::TOKEN_BYTES),
                valid_for_ms: from.u64(),
            },
            5 => ResponseBody::Presence(list(from, limits::WATCH_LIST, presence)),
            _ => {
                let ip = match from.bool() {
                    true => IpAddr::from(from.array::<4>()),
                    false => IpAddr::from(from.array::<16>()),
                };
                ResponseBody::Address(SocketAddr::new(ip, from.u16()))
            }
        },
    }
}

/// An event of this revision.
pub fn event(from: &mut Source<'_>) -> Event {
    match from.below(4) {
        0 => Event::Presence(presence(from)),
        1 => Event::Typing {
            conversation: conversation(from),
            account: account_id(from),
            active: from.bool(),
        },
        2 => Event::CaughtUp(mailbox(from)),
        _ => Event::DevicesChanged,
    }
}

fn account(from: &mut Source<'_>) -> Account {
    Account { account: account_id(from), name: from.text(limits::NAME_BYTES) }
}

fn presence(from: &mut Source<'_>) -> Presence {
    Presence {
        account: account_id(from),
        state: match from.below(3) {
            0 => PresenceState::Unknown,
            1 => PresenceState::Offline,
            _ => PresenceState::Online,
        },
        last_seen_ms: from.u64(),
    }
}

fn mailbox(from: &mut Source<'_>) -> Mailbox {
    Mailbox { conversations: from.u32(), positions: from.u64() }
}

fn extensions(from: &mut Source<'_>) -> Vec<u16> {
    list(from, limits::EXTENSIONS, |from| from.u16())
}

fn secret_text(from: &mut Source<'_>, max: usize) -> Secret {
    Secret::new(from.text(max))
}

fn spans(from: &mut Source<'_>) -> Vec<Span> {
    let mut above = 0_u64;
    let mut spans = Vec::new();
    for _ in 0..from.length(limits::SPANS) {
        let Some(first) = above.checked_add(1 + u64::from(from.u8())) else {
            break;
        };
        let last = first.saturating_add(from.u64());
        spans.push(Span { first, last });
        above = last;
    }
    spans
}

fn list<T>(
    from: &mut Source<'_>,
    max: usize,
    mut item: impl FnMut(&mut Source<'_>) -> T,
) -> Vec<T> {
    (0..from.length(max)).map(|_| item(from)).collect()
}
