//! `frames.json`: every kind of frame, with the least and with full values.

use serde_json::{Value, json};
use tern_protocol::{
    code::Code,
    codec,
    frame::*,
    id::{AccountId, ConversationId, DeviceId},
};

use crate::meaning;

pub(crate) const ANN: u64 = 0x5f1d_0c3a_9b77_e201;
pub(crate) const ANNS_PHONE: u64 = 0x2c84_11aa_03fe_9d65;
pub(crate) const BOB: u64 = 0x09ab_44d1_7e30_8c5f;
pub(crate) const BOBS_PHONE: u64 = 0xd3c0_ffee_5a12_7b08;
/// 2026-01-02 03:04:05.678 UTC.
pub(crate) const NOW_MS: u64 = 1_767_323_045_678;

pub(crate) fn account(value: u64) -> AccountId {
    AccountId::new(value).expect("not 0")
}

pub(crate) fn device(value: u64) -> DeviceId {
    DeviceId::new(value).expect("not 0")
}

pub(crate) fn direct() -> ConversationId {
    ConversationId::direct(account(ANN), account(BOB)).expect("two accounts")
}

/// Bytes that count up from `first`.
pub(crate) fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|index| first.wrapping_add(index as u8))
}

pub(crate) fn file() -> Value {
    let vectors = all().into_iter().map(|(name, frame)| {
        json!({
            "name": name,
            "bytes": meaning::hex(&codec::encode(&frame)),
            "meaning": meaning::of(&frame),
        })
    });
    json!({
        "about": "Every kind of frame, with the least and with full values.",
        "vectors": vectors.collect::<Vec<_>>(),
    })
}

fn all() -> Vec<(&'static str, Frame)> {
    let mut all = vec![
        (
            "extension: grease without a body",
            Frame::Extension(Extension { id: 0x0a0a, body: Vec::new().into() }),
        ),
        (
            "extension: an experiment with a body",
            Frame::Extension(Extension { id: 0x8001, body: counting::<11>(1).to_vec().into() }),
        ),
        (
            "greeting: least",
            Frame::Greeting(Greeting {
                nonce: [0; 32],
                revision: 1,
                time_ms: 0,
                software: String::new(),
                extensions: Vec::new(),
                registration: Registration::Closed,
            }),
        ),
    ];
    let greeting = Greeting {
        nonce: counting(0x20),
        revision: 1,
        time_ms: NOW_MS,
        software: "tern-server 0.1.0".into(),
        extensions: vec![0x0001, 0x8001, 0x5a5a],
        registration: Registration::Open,
    };
    for (name, registration) in [
        ("greeting: full, registration open", Registration::Open),
        ("greeting: registration by invite", Registration::Invite),
        ("greeting: registration by token", Registration::Token),
    ] {
        all.push((name, Frame::Greeting(Greeting { registration, ..greeting.clone() })));
    }
    hellos(&mut all);
    welcomes(&mut all);
    requests(&mut all);
    responses(&mut all);
    events(&mut all);
    uplink(&mut all);
    downlink(&mut all);
    all
}

fn hellos(all: &mut Vec<(&'static str, Frame)>) {
    let least = |credential| Hello {
        revision: 1,
        active: false,
        software: String::new(),
        extensions: Vec::new(),
        credential,
    };
    let full = |credential| Hello {
        revision: 1,
        active: true,
        software: "tern 0.1.0 (Linux)".into(),
        extensions: vec![0x8001, 0xfafa],
        credential,
    };
    let register = |label: &str, entitlement| {
        Credential::Register(Register {
            name: "ann".into(),
            device_key: counting(0x40),
            label: label.into(),
            signature: counting(0x60),
            entitlement,
        })
    };
    let sign_in = Credential::SignIn(SignIn {
        account: account(ANN),
        device: device(ANNS_PHONE),
        signature: counting(0x80),
    });
    let token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl";
    for (name, hello) in [
        ("hello: ticket, least", least(Credential::Ticket(Secret::new(*b"\0")))),
        ("hello: ticket, full", full(Credential::Ticket(Secret::new(counting::<96>(0xc0))))),
        (
            "hello: ticket of the greatest length",
            full(Credential::Ticket(Secret::new([0xee; 512]))),
        ),
        ("hello: signIn, least", least(sign_in.clone())),
        ("hello: signIn, full", full(sign_in)),
        ("hello: register, least", least(register("", Entitlement::None))),
        ("hello: register, none", full(register("Ann's phone", Entitlement::None))),
        (
            "hello: register, invite",
            full(register("Ann's phone", Entitlement::Invite(Secret::new(*b"spring-2026-7Q4K")))),
        ),
        (
            "hello: register, token",
            full(register("Anns Händi ☎", Entitlement::Token(Secret::new(token.as_bytes())))),
        ),
        (
            "hello: register, link",
            full(register("Ann's desktop", Entitlement::Link(Secret::new(*b"8b1f-27c0-link")))),
        ),
    ] {
        all.push((name, Frame::Hello(hello)));
    }
}

fn welcomes(all: &mut Vec<(&'static str, Frame)>) {
    all.extend([
        (
            "welcome: least",
            Frame::Welcome(Welcome {
                revision: 1,
                account: account(1),
                device: device(1),
                name: "a".into(),
                epoch: 0,
                ticket: Secret::new(Vec::new()),
                ticket_for_ms: 0,
                time_ms: 0,
                mailbox: Mailbox::default(),
                limits: Limits {
                    envelope_bytes: 0,
                    unanswered_sends: 0,
                    requests: 0,
                    watches: 0,
                    idle_for_ms: 0,
                    inactive_idle_for_ms: 0,
                    stream_idle_for_ms: 0,
                },
                extensions: Vec::new(),
            }),
        ),
        (
            "welcome: full",
            Frame::Welcome(Welcome {
                revision: 1,
                account: account(ANN),
                device: device(ANNS_PHONE),
                name: "ann".into(),
                epoch: 17,
                ticket: Secret::new(counting::<96>(0xc0)),
                ticket_for_ms: 1_209_600_000,
                time_ms: NOW_MS,
                mailbox: Mailbox { conversations: 3, positions: 141 },
                limits: Limits::default(),
                extensions: vec![0x8001],
            }),
        ),
        (
            "rejected: least",
            Frame::Rejected(Rejected {
                code: Code::Internal,
                text: String::new(),
                retry_after_ms: 0,
            }),
        ),
        (
            "rejected: ticketExpired",
            Frame::Rejected(Rejected {
                code: Code::TicketExpired,
                text: "the ticket is too old, sign in".into(),
                retry_after_ms: 0,
            }),
        ),
        (
            "rejected: rateLimited",
            Frame::Rejected(Rejected {
                code: Code::RateLimited,
                text: "too often".into(),
                retry_after_ms: 30_000,
            }),
        ),
        (
            "goAway: least",
            Frame::GoAway(GoAway {
                code: Code::GoingAway,
                within_ms: 0,
                target: String::new(),
                text: String::new(),
            }),
        ),
        (
            "goAway: full",
            Frame::GoAway(GoAway {
                code: Code::GoingAway,
                within_ms: 10_000,
                target: "chat-2.example.org:4433".into(),
                text: "upgrade".into(),
            }),
        ),
    ]);
}

fn requests(all: &mut Vec<(&'static str, Frame)>) {
    for (name, id, body) in [
        ("request: ping", 0, RequestBody::Ping),
        ("request: lookup", 1, RequestBody::Lookup("bob".into())),
        ("request: account", 2, RequestBody::Account(account(BOB))),
        ("request: devices", 3, RequestBody::Devices),
        ("request: removeDevice", 4, RequestBody::RemoveDevice(device(ANNS_PHONE))),
        ("request: createLink", 5, RequestBody::CreateLink),
        ("request: setActive, true", 6, RequestBody::SetActive(true)),
        ("request: setActive, false", 7, RequestBody::SetActive(false)),
        ("request: watch nobody", 8, RequestBody::Watch(Vec::new())),
        ("request: watch", 9, RequestBody::Watch(vec![account(BOB), account(u64::MAX)])),
        ("request: unwatch", u32::MAX, RequestBody::Unwatch(vec![account(BOB)])),
        ("request: address", 10, RequestBody::Address),
    ] {
        all.push((name, Frame::Request(Request { id, body })));
    }
}

fn responses(all: &mut Vec<(&'static str, Frame)>) {
    let phone = Device {
        device: device(ANNS_PHONE),
        label: "Ann's phone".into(),
        created_ms: NOW_MS - 86_400_000,
        last_seen_ms: NOW_MS,
        online: true,
    };
    let desktop = Device {
        device: device(7),
        label: String::new(),
        created_ms: NOW_MS,
        last_seen_ms: 0,
        online: false,
    };
    let presence =
        |who, state, last_seen_ms| Presence { account: account(who), state, last_seen_ms };
    for (name, id, body) in [
        (
            "response: error, least",
            0,
            ResponseBody::Error { code: Code::NoError, text: String::new(), retry_after_ms: 0 },
        ),
        (
            "response: error",
            1,
            ResponseBody::Error {
                code: Code::UnknownName,
                text: "no such account".into(),
                retry_after_ms: 0,
            },
        ),
        ("response: done", 2, ResponseBody::Done),
        (
            "response: account",
            3,
            ResponseBody::Account(Account { account: account(BOB), name: "bob".into() }),
        ),
        ("response: no devices", 4, ResponseBody::Devices(Vec::new())),
        ("response: devices", 5, ResponseBody::Devices(vec![phone, desktop])),
        (
            "response: link",
            6,
            ResponseBody::Link { token: Secret::new(*b"8b1f-27c0-link"), valid_for_ms: 600_000 },
        ),
        ("response: no presence", 7, ResponseBody::Presence(Vec::new())),
        (
            "response: presence",
            u32::MAX,
            ResponseBody::Presence(vec![
                presence(BOB, PresenceState::Online, NOW_MS),
                presence(2, PresenceState::Offline, NOW_MS - 5_000),
                presence(u64::MAX, PresenceState::Unknown, 0),
            ]),
        ),
        ("response: address, IPv4", 8, ResponseBody::Address(([203, 0, 113, 77], 40_001).into())),
        (
            "response: address, IPv6",
            9,
            ResponseBody::Address(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x4d], 65_535).into()),
        ),
    ] {
        all.push((name, Frame::Response(Response { id, body })));
    }
}

fn events(all: &mut Vec<(&'static str, Frame)>) {
    for (name, event) in [
        (
            "event: presence",
            Event::Presence(Presence {
                account: account(BOB),
                state: PresenceState::Offline,
                last_seen_ms: NOW_MS,
            }),
        ),
        (
            "event: typing",
            Event::Typing { conversation: direct(), account: account(BOB), active: true },
        ),
        ("event: caughtUp, nothing had waited", Event::CaughtUp(Mailbox::default())),
        ("event: caughtUp", Event::CaughtUp(Mailbox { conversations: 3, positions: 141 })),
        ("event: devicesChanged", Event::DevicesChanged),
    ] {
        all.push((name, Frame::Event(event)));
    }
}

fn uplink(all: &mut Vec<(&'static str, Frame)>) {
    all.extend([
        (
            "openUplink: the conversation exists",
            Frame::OpenUplink(OpenUplink { conversation: direct(), peer: None }),
        ),
        (
            "openUplink: with peer",
            Frame::OpenUplink(OpenUplink { conversation: direct(), peer: Some(account(BOB)) }),
        ),
        (
            "send: least, its envelope refused by envelopeSize",
            Frame::Send(Send {
                counter: 1,
                message_id: 0,
                settled: 0,
                envelope: Envelope::default(),
            }),
        ),
        (
            "send: Hi",
            Frame::Send(Send {
                counter: 1,
                message_id: 0x77e1_02d9_c4b5_a683,
                settled: 0,
                envelope: Envelope(b"Hi".to_vec().into()),
            }),
        ),
        (
            "send: greatest numbers, 100 bytes",
            Frame::Send(Send {
                counter: u64::MAX,
                message_id: u64::MAX,
                settled: u64::MAX - 128,
                envelope: Envelope(counting::<100>(0).to_vec().into()),
            }),
        ),
        ("readMark: least", Frame::ReadMark(ReadMark { up_to: 0 })),
        ("readMark", Frame::ReadMark(ReadMark { up_to: 3 })),
        ("typing: stopped", Frame::Typing(Typing { active: false })),
        ("typing", Frame::Typing(Typing { active: true })),
        ("accepted", Frame::Accepted(Accepted { counter: 1, seq: 1, time_ms: NOW_MS })),
        (
            "refused: for good",
            Frame::Refused(Refused {
                counter: 2,
                code: Code::EnvelopeSize,
                retry_after_ms: 0,
                last: 1,
            }),
        ),
        (
            "refused: for now",
            Frame::Refused(Refused {
                counter: 2,
                code: Code::MailboxFull,
                retry_after_ms: 60_000,
                last: 1,
            }),
        ),
        ("marked: least", Frame::Marked(Marked { up_to: 0 })),
        ("marked", Frame::Marked(Marked { up_to: 3 })),
    ]);
}

fn downlink(all: &mut Vec<(&'static str, Frame)>) {
    let peer = Account { account: account(ANN), name: "ann".into() };
    let receipt = |revision, delivered, read, expired| {
        Frame::Receipt(Receipt { revision, account: account(BOB), delivered, read, expired })
    };
    all.extend([
        (
            "openDownlink: nothing yet",
            Frame::OpenDownlink(OpenDownlink {
                conversation: ConversationId::new([0; 16]),
                start: 0,
                head: 0,
                peer: Account { account: account(1), name: String::new() },
                revision: 0,
            }),
        ),
        (
            "openDownlink",
            Frame::OpenDownlink(OpenDownlink {
                conversation: direct(),
                start: 11,
                head: 14,
                peer,
                revision: 8,
            }),
        ),
        (
            "deliver",
            Frame::Deliver(Deliver {
                seq: 12,
                account: account(ANN),
                device: device(ANNS_PHONE),
                message_id: 0x77e1_02d9_c4b5_a683,
                time_ms: NOW_MS,
                envelope: Envelope(b"Hi".to_vec().into()),
            }),
        ),
        ("skip: own", Frame::Skip(Skip { up_to: 13, reason: SkipReason::Own })),
        ("skip: expired", Frame::Skip(Skip { up_to: u64::MAX, reason: SkipReason::Expired })),
        ("receipt: least", receipt(0, 0, 0, Vec::new())),
        ("receipt: delivered and read", receipt(9, 14, 12, Vec::new())),
        (
            "receipt: with expired spans",
            receipt(
                10,
                u64::MAX,
                12,
                vec![
                    Span { first: 1, last: 1 },
                    Span { first: 2, last: 5 },
                    Span { first: 9, last: u64::MAX },
                ],
            ),
        ),
        ("ack: least", Frame::Ack(Ack { seq: 0, revision: 0 })),
        ("ack", Frame::Ack(Ack { seq: 14, revision: 10 })),
    ]);
}
