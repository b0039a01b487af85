//! The files in `vectors/`, which other implementations read as well: what they say holds for this
//! crate, and they are those that the code here writes (`vectors/regenerate` writes them anew).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod annotate;
mod example;
mod file;
mod frames;
mod layouts;
mod meaning;
mod raw;
mod refused;
mod rest;
mod tool;

use std::collections::BTreeSet;

use bytes::Bytes;
use ring::signature::Ed25519KeyPair;
use serde_json::Value;
use tern_protocol::{
    code::Code,
    codec::{self, DecodeError},
    frame::{Frame, Limits, Mailbox, Rejected, Secret, Welcome},
    framing::Deframer,
    grease,
    id::{AccountId, ConversationId, DeviceId, name_is_valid},
    session::{AfterRejection, Client, ClientInput},
    signature::{CertificateHash, register_message, sign_in_message, verify},
};

use meaning::{hex, unhex};

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_else(|| panic!("{field} of {of}"))
}

fn bytes(of: &Value, field: &str) -> Vec<u8> {
    unhex(text(of, field))
}

fn array<const N: usize>(of: &Value, field: &str) -> [u8; N] {
    bytes(of, field).try_into().expect("length")
}

fn number(of: &Value, field: &str) -> u64 {
    text(of, field).parse().expect("a decimal number")
}

fn list<'a>(of: &'a Value, field: &str) -> &'a [Value] {
    of[field].as_array().unwrap_or_else(|| panic!("{field} of {of}"))
}

/// Receives a stream: its frames, or why it is refused.
fn receive(stream: &[u8], limit_bytes: usize, ends: bool) -> Result<Vec<Frame>, DecodeError> {
    let mut deframer = Deframer::new(limit_bytes);
    deframer.push(stream);
    let mut frames = Vec::new();
    while let Some(frame) = deframer.next_frame()? {
        frames.push(codec::decode(frame)?);
    }
    if ends {
        deframer.finish()?;
    }
    Ok(frames)
}

#[test]
fn the_files_are_current() {
    for (name, content) in [
        ("frames.json", frames::file()),
        ("layouts.json", layouts::file()),
        ("refused.json", refused::file()),
        ("signatures.json", rest::signatures()),
        ("ids.json", rest::ids()),
        ("tickets.json", rest::tickets()),
        ("example.json", example::file()),
    ] {
        file::check(name, &file::pretty(&content));
    }
    file::check("example.md", &example::page());
}

#[test]
fn names_are_unique() {
    for name in ["frames.json", "layouts.json", "refused.json", "signatures.json"] {
        let file = file::read(name);
        let mut names: Vec<&str> =
            list(&file, "vectors").iter().map(|it| text(it, "name")).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{name}: {names:#?}");
    }
}

#[test]
fn frames_have_their_meaning_and_their_bytes() {
    let mut vectors = list(&file::read("frames.json"), "vectors").to_vec();
    vectors.extend(list(&file::read("example.json"), "vectors").to_vec());
    for vector in &vectors {
        let bytes = Bytes::from(bytes(vector, "bytes"));
        let name = vector["name"].as_str().unwrap_or("example");
        let frame = codec::decode(bytes.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(meaning::of(&frame), vector["meaning"], "{name}");
        assert_eq!(hex(&codec::encode(&frame)), hex(&bytes), "{name}");
    }
}

#[test]
fn every_kind_and_every_arm_has_a_vector() {
    let mut seen = BTreeSet::new();
    for vector in list(&file::read("frames.json"), "vectors") {
        paths("", &vector["meaning"], &mut seen);
    }
    let kinds = "extension greeting hello welcome rejected request response event goAway openUplink \
                 send readMark typing accepted refused marked openDownlink deliver skip receipt ack";
    let arms = [
        ("", kinds),
        ("greeting.registration=", "closed open invite token"),
        ("hello.", "ticket signIn register"),
        ("hello.register.", "none invite token link"),
        ("request.", "ping lookup account devices removeDevice createLink setActive watch unwatch"),
        ("response.", "error done account devices link presence"),
        ("response.presence.state=", "unknown offline online"),
        ("event.", "presence typing caughtUp devicesChanged"),
        ("skip.reason=", "own expired"),
    ];
    for (prefix, names) in arms {
        for name in names.split_whitespace() {
            assert!(seen.contains(&format!("{prefix}{name}")), "{prefix}{name}");
        }
    }
}

/// The fields that occur in a meaning, with their texts.
fn paths(prefix: &str, value: &Value, seen: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path =
                    if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                paths(&path, value, seen);
                seen.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| paths(prefix, item, seen)),
        Value::String(text) => {
            seen.insert(format!("{prefix}={text}"));
        }
        _ => {}
    }
}

#[test]
fn layouts_are_taken() {
    let file = file::read("layouts.json");
    for vector in list(&file, "vectors") {
        let name = text(vector, "name");
        let mut stream = bytes(vector, "bytes");
        let zeros = vector["zeros"].as_u64().unwrap() as usize;
        stream.resize(stream.len() + zeros, 0);
        let limit_bytes = vector["limitBytes"].as_u64().unwrap() as usize;
        let frames =
            receive(&stream, limit_bytes, true).unwrap_or_else(|error| panic!("{name}: {error}"));
        let [frame] = &frames[..] else { panic!("{name}: {} frames", frames.len()) };
        if !vector["meaning"].is_null() {
            assert_eq!(meaning::of(frame), vector["meaning"], "{name}");
        }
    }
}

#[test]
fn refused_streams_are_refused_with_their_code() {
    let file = file::read("refused.json");
    for vector in list(&file, "vectors") {
        let name = text(vector, "name");
        let limit_bytes = vector["limitBytes"].as_u64().unwrap() as usize;
        let ends = vector["ends"].as_bool().unwrap();
        match receive(&bytes(vector, "bytes"), limit_bytes, ends) {
            Err(error) => assert_eq!(error.code().name(), text(vector, "code"), "{name}: {error}"),
            Ok(frames) => assert_eq!(
                (vector["mayAccept"].as_bool(), frames.len()),
                (Some(true), 1),
                "{name} was taken as {frames:?}"
            ),
        }
    }
}

#[test]
fn signatures_are_made_and_judged_as_the_files_say() {
    for vector in list(&file::read("signatures.json"), "vectors") {
        let name = text(vector, "name");
        let pair = Ed25519KeyPair::from_seed_unchecked(&bytes(vector, "seed")).unwrap();
        let key = array(vector, "deviceKey");
        let certificate = CertificateHash::of(&bytes(vector, "certificate"));
        assert_eq!(certificate.0, array(vector, "certificateHash"), "{name}");
        let nonce = array(vector, "nonce");
        let message = match vector["accountName"].as_str() {
            Some(account_name) => register_message(&nonce, &certificate, &key, account_name),
            None => sign_in_message(
                &nonce,
                &certificate,
                AccountId::new(number(vector, "account")).unwrap(),
                DeviceId::new(number(vector, "device")).unwrap(),
            ),
        };
        assert_eq!(hex(&message), text(vector, "message"), "{name}");
        let signature = array(vector, "signature");
        let valid = vector["valid"].as_bool().unwrap();
        assert_eq!(verify(&key, &message, &signature), valid, "{name}");
        assert_eq!(pair.sign(&message).as_ref() == signature, valid, "{name}");
    }
}

#[test]
fn ids_names_and_grease_are_as_the_files_say() {
    let file = file::read("ids.json");
    for vector in list(&file, "direct") {
        let id = |field| AccountId::new(number(vector, field)).unwrap();
        let conversation = ConversationId::direct(id("a"), id("b")).unwrap();
        assert_eq!(conversation.to_string(), text(vector, "conversation"));
    }
    for vector in list(&file, "names") {
        let name = text(vector, "name");
        assert_eq!(Some(name_is_valid(name)), vector["valid"].as_bool(), "{name:?}");
    }
    for vector in list(&file, "printed") {
        let id = AccountId::new(number(vector, "id")).unwrap();
        assert_eq!(id.to_string(), text(vector, "printed"));
        assert_eq!(text(vector, "printed").parse(), Ok(id));
    }
    let ids = |field| list(&file, field).iter().map(|id| id.as_u64().unwrap() as u16);
    assert_eq!(ids("grease").len(), 16);
    assert!(ids("grease").all(grease::is_grease));
    assert!(!ids("notGrease").any(grease::is_grease));
}

/// Plays the scenarios to the client's half of the session. What a client does about a connection
/// that ends isn't the session's to say, so there only the ticket is looked at.
#[test]
fn a_client_treats_its_ticket_as_the_scenarios_say() {
    for scenario in list(&file::read("tickets.json"), "scenarios") {
        let name = text(scenario, "name");
        let mut holds = scenario["holds"].as_str().map(|ticket| Secret::new(unhex(ticket)));
        // The client while its session stream goes on.
        let mut session: Option<Client> = None;
        for step in list(scenario, "steps") {
            let mut client = session.take().unwrap_or_else(|| Client::new(holds.clone()));
            let presented = client.begin_hello().map(|ticket| hex(ticket.expose()));
            assert_eq!(presented.as_deref(), step["presents"]["ticket"].as_str(), "{name}: {step}");
            let (next, ends) = answer(&mut client, &step["answer"], name);
            if let Some(next) = next {
                assert_eq!(next, text(step, "next"), "{name}: {step}");
            }
            holds = client.ticket().cloned();
            if step["answer"]["close"] == "deviceRemoved" {
                holds = None;
            }
            let kept = holds.as_ref().map(|ticket| hex(ticket.expose()));
            assert_eq!(kept.as_deref(), step["keeps"].as_str(), "{name}: {step}");
            session = (!ends).then_some(client);
        }
    }
}

/// Gives an answer to the client: what it does next, and whether the connection is over with it.
fn answer(client: &mut Client, answer: &Value, name: &str) -> (Option<&'static str>, bool) {
    let frame = if let Some(welcome) = answer.get("welcome") {
        Frame::Welcome(Welcome {
            revision: 1,
            account: AccountId::new(1).unwrap(),
            device: DeviceId::new(1).unwrap(),
            name: "ann".into(),
            epoch: 1,
            ticket: Secret::new(bytes(welcome, "ticket")),
            ticket_for_ms: 1,
            time_ms: 1,
            mailbox: Mailbox::default(),
            limits: Limits::default(),
            extensions: Vec::new(),
        })
    } else if let Some(rejected) = answer.get("rejected") {
        let code = text(rejected, "code");
        Frame::Rejected(Rejected {
            code: *Code::ALL.iter().find(|it| it.name() == code).unwrap(),
            text: String::new(),
            retry_after_ms: number(rejected, "retryAfterMs"),
        })
    } else {
        return (None, true);
    };
    match client.receive(frame) {
        Ok(ClientInput::Welcome(_)) => (Some("signedIn"), true),
        Ok(ClientInput::Rejected(_, AfterRejection::SignIn)) => (Some("signIn"), false),
        Ok(ClientInput::Rejected(_, AfterRejection::Later(_))) => (Some("later"), true),
        Ok(ClientInput::Rejected(_, AfterRejection::GiveUp)) => (Some("giveUp"), true),
        other => panic!("{name}: {other:?}"),
    }
}
