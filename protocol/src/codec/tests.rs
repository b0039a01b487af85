//! The edges of the codec, one by one. Arbitrary frames and arbitrary bytes are in `fuzzing`; other
//! layouts and hostile frames with their bytes are in `vectors/`.

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    code::Code,
    frame::*,
    fuzzing::{Source, frames},
    id::{AccountId, ConversationId, DeviceId},
    limits,
};

fn account(value: u64) -> AccountId {
    AccountId::new(value).unwrap()
}

fn device(value: u64) -> DeviceId {
    DeviceId::new(value).unwrap()
}

fn text(length: usize) -> String {
    "x".repeat(length)
}

fn secret(length: usize) -> Secret {
    Secret::new(vec![b'x'; length])
}

fn hello(credential: Credential) -> Hello {
    Hello { revision: 1, active: true, software: String::new(), extensions: Vec::new(), credential }
}

fn register(entitlement: Entitlement) -> Register {
    Register {
        name: "ann".into(),
        device_key: [1; 32],
        label: String::new(),
        signature: [2; 64],
        entitlement,
    }
}

fn registration(entitlement: Entitlement) -> Frame {
    Frame::Hello(hello(Credential::Register(register(entitlement))))
}

fn greeting() -> Greeting {
    Greeting {
        nonce: [3; 32],
        revision: 1,
        time_ms: 0,
        software: String::new(),
        extensions: Vec::new(),
        registration: Registration::Open,
    }
}

fn welcome() -> Welcome {
    Welcome {
        revision: 1,
        account: account(1),
        device: device(1),
        name: "ann".into(),
        epoch: 1,
        ticket: secret(1),
        ticket_for_ms: 1,
        time_ms: 1,
        mailbox: Mailbox::default(),
        limits: Limits::default(),
        extensions: Vec::new(),
    }
}

fn request(body: RequestBody) -> Frame {
    Frame::Request(Request { id: 1, body })
}

fn response(body: ResponseBody) -> Frame {
    Frame::Response(Response { id: 1, body })
}

/// The frame that `of` makes for a length is read back at `max` and refused beyond it.
fn edge(what: &str, max: usize, of: impl Fn(usize) -> Frame) {
    for length in [0, 1, max] {
        let frame = of(length);
        assert_eq!(decode(encode(&frame)), Ok(frame), "{what}: {length}");
    }
    let error = decode(encode(&of(max + 1))).unwrap_err();
    assert_eq!(error.code(), Code::MalformedFrame, "{what}: {}", max + 1);
}

#[test]
fn texts_are_bounded() {
    edge("software of a greeting", limits::LABEL_BYTES, |length| {
        Frame::Greeting(Greeting { software: text(length), ..greeting() })
    });
    edge("software of a hello", limits::LABEL_BYTES, |length| {
        Frame::Hello(Hello { software: text(length), ..hello(Credential::Ticket(secret(1))) })
    });
    edge("label of a registration", limits::LABEL_BYTES, |length| {
        Frame::Hello(hello(Credential::Register(Register {
            label: text(length),
            ..register(Entitlement::None)
        })))
    });
    edge("name in a welcome", limits::NAME_BYTES, |length| {
        Frame::Welcome(Welcome { name: text(length), ..welcome() })
    });
    edge("text of a rejection", limits::ERROR_TEXT_BYTES, |length| {
        Frame::Rejected(Rejected { code: Code::RateLimited, text: text(length), retry_after_ms: 1 })
    });
    let go_away = |target, because| {
        Frame::GoAway(GoAway {
            code: Code::GoingAway,
            within_ms: 1,
            target: text(target),
            text: text(because),
        })
    };
    edge("target of a go-away", limits::TARGET_BYTES, |length| go_away(length, 0));
    edge("text of a go-away", limits::ERROR_TEXT_BYTES, |length| go_away(0, length));
    edge("text of an error", limits::ERROR_TEXT_BYTES, |length| {
        response(ResponseBody::Error {
            code: Code::UnknownName,
            text: text(length),
            retry_after_ms: 0,
        })
    });
    let peer = |length| Account { account: account(1), name: text(length) };
    edge("name of an account", limits::NAME_BYTES, |length| {
        response(ResponseBody::Account(peer(length)))
    });
    edge("name in a downlink", limits::NAME_BYTES, |length| {
        Frame::OpenDownlink(OpenDownlink {
            conversation: ConversationId::new([4; 16]),
            start: 0,
            head: 0,
            peer: peer(length),
            revision: 0,
        })
    });
    edge("label of a device", limits::LABEL_BYTES, |length| {
        response(ResponseBody::Devices(vec![Device {
            device: device(1),
            label: text(length),
            created_ms: 1,
            last_seen_ms: 1,
            online: true,
        }]))
    });
}

#[test]
fn tickets_and_tokens_are_bounded() {
    edge("ticket of a hello", limits::TICKET_BYTES, |length| {
        Frame::Hello(hello(Credential::Ticket(secret(length))))
    });
    edge("ticket of a welcome", limits::TICKET_BYTES, |length| {
        Frame::Welcome(Welcome { ticket: secret(length), ..welcome() })
    });
    edge("invite", limits::TOKEN_BYTES, |length| registration(Entitlement::Invite(secret(length))));
    edge("JSON Web Token", limits::JWT_BYTES, |length| {
        registration(Entitlement::Token(secret(length)))
    });
    edge("link presented", limits::TOKEN_BYTES, |length| {
        registration(Entitlement::Link(secret(length)))
    });
    edge("link made", limits::TOKEN_BYTES, |length| {
        response(ResponseBody::Link { token: secret(length), valid_for_ms: 1 })
    });
}

#[test]
fn lists_are_bounded() {
    let ids = |length| vec![0x0a0a; length];
    edge("extensions of a greeting", limits::EXTENSIONS, |length| {
        Frame::Greeting(Greeting { extensions: ids(length), ..greeting() })
    });
    edge("extensions of a hello", limits::EXTENSIONS, |length| {
        Frame::Hello(Hello { extensions: ids(length), ..hello(Credential::Ticket(secret(1))) })
    });
    edge("extensions of a welcome", limits::EXTENSIONS, |length| {
        Frame::Welcome(Welcome { extensions: ids(length), ..welcome() })
    });
    let accounts = |length| vec![account(9); length];
    edge("watch", limits::WATCH_LIST, |length| request(RequestBody::Watch(accounts(length))));
    edge("unwatch", limits::WATCH_LIST, |length| request(RequestBody::Unwatch(accounts(length))));
    edge("presences", limits::WATCH_LIST, |length| {
        let presence =
            Presence { account: account(1), state: PresenceState::Online, last_seen_ms: 1 };
        response(ResponseBody::Presence(vec![presence; length]))
    });
    edge("devices", limits::DEVICES, |length| {
        let device = Device {
            device: device(1),
            label: text(limits::LABEL_BYTES),
            created_ms: 1,
            last_seen_ms: 0,
            online: false,
        };
        response(ResponseBody::Devices(vec![device; length]))
    });
    edge("spans", limits::SPANS, |length| {
        Frame::Receipt(Receipt {
            revision: 1,
            account: account(1),
            delivered: 1,
            read: 1,
            expired: (1..=length as u64).map(|n| Span { first: 2 * n, last: 2 * n }).collect(),
        })
    });
}

#[test]
fn what_has_an_error_code_of_its_own_is_left_to_it() {
    let frame = Frame::Hello(hello(Credential::Register(Register {
        name: text(limits::NAME_BYTES + 1),
        ..register(Entitlement::None)
    })));
    assert_eq!(decode(encode(&frame)), Ok(frame), "nameInvalid");
    let frame = request(RequestBody::Lookup(text(limits::NAME_BYTES + 1)));
    assert_eq!(decode(encode(&frame)), Ok(frame), "unknownName");
    for length in [0, limits::ENVELOPE_BYTES, limits::ENVELOPE_BYTES + 1] {
        let frame = Frame::Send(Send {
            counter: 1,
            message_id: 2,
            settled: 0,
            envelope: Envelope(vec![5; length].into()),
        });
        assert_eq!(decode(encode(&frame)), Ok(frame), "envelopeSize");
    }
}

#[test]
fn the_longest_envelope_fits_a_frame_both_ways() {
    let envelope = Envelope(vec![5; limits::ENVELOPE_BYTES].into());
    for frame in [
        Frame::Send(Send { counter: 1, message_id: 2, settled: 0, envelope: envelope.clone() }),
        Frame::Deliver(Deliver {
            seq: 1,
            account: account(1),
            device: device(1),
            message_id: 2,
            time_ms: 3,
            envelope,
        }),
    ] {
        assert!(encode(&frame).len() <= limits::FRAME_BYTES);
    }
}

#[test]
fn the_longest_first_frames_fit_their_limit() {
    let longest = Frame::Hello(Hello {
        software: text(limits::LABEL_BYTES),
        extensions: vec![0x0a0a; limits::EXTENSIONS],
        ..hello(Credential::Register(Register {
            name: text(limits::NAME_BYTES),
            label: text(limits::LABEL_BYTES),
            ..register(Entitlement::Token(secret(limits::JWT_BYTES)))
        }))
    });
    assert!(encode(&longest).len() <= limits::FIRST_FRAME_BYTES);
    let longest = Frame::Welcome(Welcome {
        name: text(limits::NAME_BYTES),
        ticket: secret(limits::TICKET_BYTES),
        extensions: vec![0x0a0a; limits::EXTENSIONS],
        ..welcome()
    });
    assert!(encode(&longest).len() <= limits::FIRST_FRAME_BYTES);
}

#[test]
fn an_envelope_is_a_slice_of_the_frame() {
    let frame = encode(&Frame::Deliver(Deliver {
        seq: 1,
        account: account(1),
        device: device(1),
        message_id: 2,
        time_ms: 3,
        envelope: Envelope(vec![5; 1000].into()),
    }));
    let Ok(Frame::Deliver(deliver)) = decode(frame.clone()) else {
        panic!("it isn't read back");
    };
    assert!(frame.as_ptr_range().contains(&deliver.envelope.0.as_ptr_range().start));
    // Still there when the frame itself is gone.
    drop(frame);
    assert_eq!(deliver.envelope.0, Bytes::from(vec![5; 1000]));
}

#[test]
fn several_frames_go_into_one_buffer() {
    let frames = [Frame::Typing(Typing { active: true }), Frame::ReadMark(ReadMark { up_to: 7 })];
    let mut buffer = BytesMut::new();
    for frame in &frames {
        encode_into(frame, &mut buffer);
    }
    let apart: Vec<u8> = frames.iter().flat_map(encode).collect();
    assert_eq!(buffer, apart);
}

#[test]
fn a_frame_must_be_given_whole_and_alone() {
    let frame = encode(&Frame::Ack(Ack { seq: 1, revision: 1 }));
    for end in 0..frame.len() {
        assert!(decode(frame.slice(..end)).is_err(), "{end} bytes");
    }
    assert!(decode([&frame[..], &[0; 8]].concat().into()).is_err());
}

#[test]
fn a_frame_is_read_wherever_it_lies() {
    let frame = encode(&Frame::Accepted(Accepted { counter: 1, seq: 2, time_ms: 3 }));
    for shift in 0..8 {
        let moved = [&[0; 8][..shift], &frame].concat();
        assert_eq!(decode(Bytes::from(moved).slice(shift..)), decode(frame.clone()));
    }
}

#[test]
fn secrets_and_envelopes_are_not_shown() {
    let shown = format!(
        "{:?} {:?} {:?}",
        registration(Entitlement::Token(Secret::new(*b"tell-nobody"))),
        welcome(),
        Envelope(Bytes::from_static(b"tell-nobody")),
    );
    assert!(!shown.contains("tell-nobody"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 64,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_kind_of_frame_is_read_back(bytes in vec(any::<u8>(), 0..400)) {
        for tag in 0..frames::KINDS {
            let frame = frames::of_kind(tag, &mut Source::new(&bytes));
            let encoded = encode(&frame);
            prop_assert_eq!(usize::from(encoded[16]), tag);
            prop_assert_eq!(decode(encoded), Ok(frame));
        }
    }
}
