//! Frames as JSON, by the rules of `vectors/README.md`: those of `capnp convert binary:json`, with
//! `Data` in hex and every field present.

use std::net::IpAddr;

use serde_json::{Value, json};
use tern_protocol::frame::*;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd number of hex digits");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect()
}

/// A `UInt64`, which JSON numbers can't hold in every language.
fn long(value: u64) -> String {
    value.to_string()
}

fn secret_text(secret: &Secret) -> &str {
    secret.expose_text().expect("text")
}

pub(crate) fn of(frame: &Frame) -> Value {
    match frame {
        Frame::Extension(it) => json!({"extension": {"id": it.id, "body": hex(&it.body)}}),
        Frame::Greeting(it) => json!({"greeting": {
            "nonce": hex(&it.nonce),
            "revision": it.revision,
            "timeMs": long(it.time_ms),
            "software": it.software,
            "extensions": it.extensions,
            "registration": match it.registration {
                Registration::Closed => "closed",
                Registration::Open => "open",
                Registration::Invite => "invite",
                Registration::Token => "token",
            },
        }}),
        Frame::Hello(it) => json!({"hello": hello(it)}),
        Frame::Welcome(it) => json!({"welcome": {
            "revision": it.revision,
            "account": long(it.account.get()),
            "device": long(it.device.get()),
            "name": it.name,
            "epoch": long(it.epoch),
            "ticket": hex(it.ticket.expose()),
            "ticketForMs": long(it.ticket_for_ms),
            "timeMs": long(it.time_ms),
            "mailbox": mailbox(&it.mailbox),
            "limits": {
                "envelopeBytes": it.limits.envelope_bytes,
                "unansweredSends": it.limits.unanswered_sends,
                "requests": it.limits.requests,
                "watches": it.limits.watches,
                "idleForMs": it.limits.idle_for_ms,
                "streamIdleForMs": it.limits.stream_idle_for_ms,
                "inactiveIdleForMs": it.limits.inactive_idle_for_ms,
            },
            "extensions": it.extensions,
        }}),
        Frame::Rejected(it) => json!({"rejected": {
            "code": it.code.value(),
            "text": it.text,
            "retryAfterMs": long(it.retry_after_ms),
        }}),
        Frame::Request(it) => json!({"request": request(it)}),
        Frame::Response(it) => json!({"response": response(it)}),
        Frame::Event(it) => json!({"event": event(it)}),
        Frame::GoAway(it) => json!({"goAway": {
            "code": it.code.value(),
            "withinMs": long(it.within_ms),
            "target": it.target,
            "text": it.text,
        }}),
        Frame::OpenUplink(it) => json!({"openUplink": {
            "conversation": hex(it.conversation.as_bytes()),
            "peer": long(it.peer.map_or(0, |peer| peer.get())),
        }}),
        Frame::Send(it) => json!({"send": {
            "counter": long(it.counter),
            "messageId": long(it.message_id),
            "settled": long(it.settled),
            "envelope": hex(&it.envelope.0),
        }}),
        Frame::ReadMark(it) => json!({"readMark": {"upTo": long(it.up_to)}}),
        Frame::Typing(it) => json!({"typing": {"active": it.active}}),
        Frame::Accepted(it) => json!({"accepted": {
            "counter": long(it.counter),
            "seq": long(it.seq),
            "timeMs": long(it.time_ms),
        }}),
        Frame::Refused(it) => json!({"refused": {
            "counter": long(it.counter),
            "code": it.code.value(),
            "retryAfterMs": long(it.retry_after_ms),
            "last": long(it.last),
        }}),
        Frame::Marked(it) => json!({"marked": {"upTo": long(it.up_to)}}),
        Frame::OpenDownlink(it) => json!({"openDownlink": {
            "conversation": hex(it.conversation.as_bytes()),
            "start": long(it.start),
            "head": long(it.head),
            "peer": account(&it.peer),
            "revision": long(it.revision),
        }}),
        Frame::Deliver(it) => json!({"deliver": {
            "seq": long(it.seq),
            "account": long(it.account.get()),
            "device": long(it.device.get()),
            "messageId": long(it.message_id),
            "timeMs": long(it.time_ms),
            "envelope": hex(&it.envelope.0),
        }}),
        Frame::Skip(it) => json!({"skip": {
            "upTo": long(it.up_to),
            "reason": match it.reason {
                SkipReason::Own => "own",
                SkipReason::Expired => "expired",
            },
        }}),
        Frame::Receipt(it) => {
            let spans = it.expired.iter();
            let spans = spans.map(|it| json!({"first": long(it.first), "last": long(it.last)}));
            json!({"receipt": {
                "revision": long(it.revision),
                "account": long(it.account.get()),
                "delivered": long(it.delivered),
                "read": long(it.read),
                "expired": spans.collect::<Vec<_>>(),
            }})
        }
        Frame::Ack(it) => json!({"ack": {
            "seq": long(it.seq),
            "revision": long(it.revision),
        }}),
    }
}

fn hello(it: &Hello) -> Value {
    let (arm, credential) = match &it.credential {
        Credential::Ticket(ticket) => ("ticket", json!(hex(ticket.expose()))),
        Credential::SignIn(it) => (
            "signIn",
            json!({
                "account": long(it.account.get()),
                "device": long(it.device.get()),
                "signature": hex(&it.signature),
            }),
        ),
        Credential::Register(it) => {
            let (arm, entitlement) = match &it.entitlement {
                Entitlement::None => ("none", Value::Null),
                Entitlement::Invite(secret) => ("invite", json!(secret_text(secret))),
                Entitlement::Token(secret) => ("token", json!(secret_text(secret))),
                Entitlement::Link(secret) => ("link", json!(secret_text(secret))),
            };
            let register = json!({
                "name": it.name,
                "deviceKey": hex(&it.device_key),
                "label": it.label,
                "signature": hex(&it.signature),
                arm: entitlement,
            });
            ("register", register)
        }
    };
    json!({
        "revision": it.revision,
        "active": it.active,
        "software": it.software,
        "extensions": it.extensions,
        arm: credential,
    })
}

fn mailbox(it: &Mailbox) -> Value {
    json!({"conversations": it.conversations, "positions": long(it.positions)})
}

fn account(it: &Account) -> Value {
    json!({"account": long(it.account.get()), "name": it.name})
}

fn presence(it: &Presence) -> Value {
    json!({
        "account": long(it.account.get()),
        "state": match it.state {
            PresenceState::Unknown => "unknown",
            PresenceState::Offline => "offline",
            PresenceState::Online => "online",
        },
        "lastSeenMs": long(it.last_seen_ms),
    })
}

fn request(it: &Request) -> Value {
    let ids = |accounts: &[tern_protocol::id::AccountId]| {
        json!(accounts.iter().map(|it| long(it.get())).collect::<Vec<_>>())
    };
    let (arm, body) = match &it.body {
        RequestBody::Ping => ("ping", Value::Null),
        RequestBody::Lookup(name) => ("lookup", json!(name)),
        RequestBody::Account(account) => ("account", json!(long(account.get()))),
        RequestBody::Devices => ("devices", Value::Null),
        RequestBody::RemoveDevice(device) => ("removeDevice", json!(long(device.get()))),
        RequestBody::CreateLink => ("createLink", Value::Null),
        RequestBody::SetActive(active) => ("setActive", json!(active)),
        RequestBody::Watch(accounts) => ("watch", ids(accounts)),
        RequestBody::Unwatch(accounts) => ("unwatch", ids(accounts)),
        RequestBody::Address => ("address", Value::Null),
        RequestBody::Unknown(tag) => ("unknown", json!(tag)),
    };
    json!({"id": it.id, arm: body})
}

fn response(it: &Response) -> Value {
    let (arm, body) = match &it.body {
        ResponseBody::Error { code, text, retry_after_ms } => (
            "error",
            json!({
                "code": code.value(),
                "text": text,
                "retryAfterMs": long(*retry_after_ms),
            }),
        ),
        ResponseBody::Done => ("done", Value::Null),
        ResponseBody::Account(it) => ("account", account(it)),
        ResponseBody::Devices(devices) => {
            let devices = devices.iter().map(|it| {
                json!({
                    "device": long(it.device.get()),
                    "label": it.label,
                    "createdMs": long(it.created_ms),
                    "lastSeenMs": long(it.last_seen_ms),
                    "online": it.online,
                })
            });
            ("devices", devices.collect())
        }
        ResponseBody::Link { token, valid_for_ms } => {
            ("link", json!({"token": secret_text(token), "validForMs": long(*valid_for_ms)}))
        }
        ResponseBody::Presence(all) => ("presence", all.iter().map(presence).collect()),
        ResponseBody::Address(it) => {
            let ip = match it.ip() {
                IpAddr::V4(ip) => hex(&ip.octets()),
                IpAddr::V6(ip) => hex(&ip.octets()),
            };
            ("address", json!({"ip": ip, "port": it.port()}))
        }
    };
    json!({"id": it.id, arm: body})
}

fn event(it: &Event) -> Value {
    match it {
        Event::Presence(it) => json!({"presence": presence(it)}),
        Event::Typing { conversation, account, active } => json!({"typing": {
            "conversation": hex(conversation.as_bytes()),
            "account": long(account.get()),
            "active": active,
        }}),
        Event::CaughtUp(it) => json!({"caughtUp": mailbox(it)}),
        Event::DevicesChanged => json!({"devicesChanged": null}),
        Event::Unknown(tag) => json!({"unknown": tag}),
    }
}
