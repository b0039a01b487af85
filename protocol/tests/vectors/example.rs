//! `example.md` and `example.json`: ann sends "Hi" to bob, who reads it.

use bytes::Bytes;
use serde_json::{Value, json};
use tern_protocol::{
    codec,
    frame::*,
    signature::{CertificateHash, sign_in_message},
};

use crate::{
    annotate::Schema,
    frames::{ANN, ANNS_PHONE, BOB, BOBS_PHONE, NOW_MS, account, counting, device, direct},
    meaning,
    rest::{CERTIFICATE, key},
};

const INTRODUCTION: &str = "\
# ann sends \"Hi\" to bob

Every frame, in order, of a conversation's beginning. Both have registered before. ann's phone signs in with
the key, nonce and certificate of `signatures.json`; how bob's phone signed in is left out. Each line is one word
of eight bytes as it stands on the stream; the first is the framing, the others are the segment. An arrow is a
pointer, what it points at has a line of its own further down. `example.json` has the same bytes.

Another encoder may lay out the same frames differently. This page is written by `regenerate`.

";

/// Ids, as they are printed (SPEC.md 3.2).
fn legend() -> String {
    format!(
        "| who | id |\n| --- | --- |\n| account ann | `{ANN:016x}` |\n| ann's phone | `{ANNS_PHONE:016x}` |\n\
         | account bob | `{BOB:016x}` |\n| bob's phone | `{BOBS_PHONE:016x}` |\n\
         | their conversation | `{}` |\n\n",
        direct()
    )
}

struct Step {
    from: &'static str,
    to: &'static str,
    stream: &'static str,
    why: &'static str,
    frame: Frame,
}

pub(crate) fn page() -> String {
    let schema = Schema::load();
    let mut page = INTRODUCTION.to_owned() + &legend();
    for (index, step) in steps().into_iter().enumerate() {
        let meaning = meaning::of(&step.frame);
        let kind = meaning.as_object().unwrap().keys().next().unwrap();
        page.push_str(&format!(
            "## {}. {} → {}, {}: `{kind}`\n\n{}\n\n```text\n{}```\n\n",
            index + 1,
            step.from,
            step.to,
            step.stream,
            step.why,
            schema.annotate(&codec::encode(&step.frame)),
        ));
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

pub(crate) fn file() -> Value {
    let steps = steps().into_iter().map(|step| {
        json!({
            "from": step.from,
            "to": step.to,
            "stream": step.stream,
            "bytes": meaning::hex(&codec::encode(&step.frame)),
            "meaning": meaning::of(&step.frame),
        })
    });
    json!({
        "about": "The frames of example.md in their order.",
        "vectors": steps.collect::<Vec<_>>(),
    })
}

const PHONE: &str = "ann's phone";
const SERVER: &str = "server";
const OTHER: &str = "bob's phone";

fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut step = |from, to, stream, frame, why| {
        steps.push(Step { from, to, stream, why, frame });
    };
    sign_in(&mut step);
    send(&mut step);
    receive(&mut step);
    read(&mut step);
    steps
}

fn sign_in(step: &mut impl FnMut(&'static str, &'static str, &'static str, Frame, &'static str)) {
    let nonce = counting(0x20);
    let certificate = CertificateHash::of(CERTIFICATE);
    let message = sign_in_message(&nonce, &certificate, account(ANN), device(ANNS_PHONE));
    let signature = key().0.sign(&message).as_ref().try_into().expect("64 bytes");
    step(
        SERVER,
        PHONE,
        "greeting stream",
        Frame::Greeting(Greeting {
            nonce,
            revision: 1,
            time_ms: NOW_MS,
            software: "tern-server 0.1.0".into(),
            extensions: vec![0x5a5a],
            registration: Registration::Open,
        }),
        "In the server's first flight, before the handshake is complete. Then the stream ends.",
    );
    step(
        PHONE,
        SERVER,
        "session stream",
        Frame::Hello(Hello {
            revision: 1,
            active: true,
            software: "tern 0.1.0".into(),
            extensions: vec![0xfafa],
            credential: Credential::SignIn(SignIn {
                account: account(ANN),
                device: device(ANNS_PHONE),
                signature,
            }),
        }),
        "The phone opens its first stream. It has no ticket, so it signs.",
    );
    step(
        PHONE,
        SERVER,
        "session stream",
        Frame::Extension(Extension { id: 0x3a3a, body: Bytes::from_static(b"grease") }),
        "Grease, which the server ignores.",
    );
    step(
        SERVER,
        PHONE,
        "session stream",
        Frame::Welcome(Welcome {
            revision: 1,
            account: account(ANN),
            device: device(ANNS_PHONE),
            name: "ann".into(),
            epoch: 17,
            ticket: Secret::new(counting::<48>(0xc0)),
            ticket_for_ms: 1_209_600_000,
            time_ms: NOW_MS + 40,
            mailbox: Mailbox::default(),
            limits: Limits::default(),
            extensions: Vec::new(),
        }),
        "Signed in. The ticket is for the next connection.",
    );
    step(
        SERVER,
        PHONE,
        "session stream",
        Frame::Event(Event::CaughtUp(Mailbox::default())),
        "Nothing had waited, so the mailbox is empty at once.",
    );
}

fn send(step: &mut impl FnMut(&'static str, &'static str, &'static str, Frame, &'static str)) {
    step(
        PHONE,
        SERVER,
        "session stream",
        Frame::Request(Request { id: 1, body: RequestBody::Lookup("bob".into()) }),
        "Who is bob?",
    );
    step(
        SERVER,
        PHONE,
        "session stream",
        Frame::Response(Response {
            id: 1,
            body: ResponseBody::Account(Account { account: account(BOB), name: "bob".into() }),
        }),
        "From both account ids follows the id of the conversation.",
    );
    step(
        PHONE,
        SERVER,
        "uplink",
        Frame::OpenUplink(OpenUplink { conversation: direct(), peer: Some(account(BOB)) }),
        "A new bidirectional stream. The conversation may not exist yet, so it names bob.",
    );
    step(
        PHONE,
        SERVER,
        "uplink",
        Frame::Send(Send {
            counter: 1,
            message_id: 0x77e1_02d9_c4b5_a683,
            settled: 0,
            envelope: Envelope(Bytes::from_static(b"Hi")),
        }),
        "Sent right behind it. What is in an envelope is for the two clients to agree on; here it is plain text.",
    );
    step(
        SERVER,
        PHONE,
        "uplink",
        Frame::Accepted(Accepted { counter: 1, seq: 1, time_ms: NOW_MS + 90 }),
        "The message is on disk: the sent tick.",
    );
}

fn receive(step: &mut impl FnMut(&'static str, &'static str, &'static str, Frame, &'static str)) {
    step(
        SERVER,
        OTHER,
        "downlink",
        Frame::OpenDownlink(OpenDownlink {
            conversation: direct(),
            start: 0,
            head: 1,
            peer: Account { account: account(ANN), name: "ann".into() },
            revision: 0,
        }),
        "The server opens a stream to bob's phone, which has nothing of this conversation.",
    );
    step(
        SERVER,
        OTHER,
        "downlink",
        Frame::Deliver(Deliver {
            seq: 1,
            account: account(ANN),
            device: device(ANNS_PHONE),
            message_id: 0x77e1_02d9_c4b5_a683,
            time_ms: NOW_MS + 90,
            envelope: Envelope(Bytes::from_static(b"Hi")),
        }),
        "The message.",
    );
    step(
        OTHER,
        SERVER,
        "downlink",
        Frame::Ack(Ack { seq: 1, revision: 0 }),
        "Only now, when bob's phone has stored it.",
    );
    step(
        SERVER,
        PHONE,
        "downlink",
        Frame::OpenDownlink(OpenDownlink {
            conversation: direct(),
            start: 0,
            head: 1,
            peer: Account { account: account(BOB), name: "bob".into() },
            revision: 0,
        }),
        "There is something to say to ann's phone.",
    );
    let receipt = |revision, read| {
        Frame::Receipt(Receipt {
            revision,
            account: account(BOB),
            delivered: 1,
            read,
            expired: Vec::new(),
        })
    };
    step(SERVER, PHONE, "downlink", receipt(1, 0), "The delivered tick.");
    step(
        PHONE,
        SERVER,
        "downlink",
        Frame::Ack(Ack { seq: 0, revision: 1 }),
        "The receipt is stored. Entry 1 is ann's own; it will be skipped when something follows it.",
    );
}

fn read(step: &mut impl FnMut(&'static str, &'static str, &'static str, Frame, &'static str)) {
    step(
        OTHER,
        SERVER,
        "uplink",
        Frame::OpenUplink(OpenUplink { conversation: direct(), peer: None }),
        "bob opens the conversation on his screen. It exists, so it needs no peer.",
    );
    step(
        OTHER,
        SERVER,
        "uplink",
        Frame::ReadMark(ReadMark { up_to: 1 }),
        "He has seen everything up to 1.",
    );
    step(SERVER, OTHER, "uplink", Frame::Marked(Marked { up_to: 1 }), "The read mark is on disk.");
    step(
        SERVER,
        PHONE,
        "downlink",
        Frame::Receipt(Receipt {
            revision: 2,
            account: account(BOB),
            delivered: 1,
            read: 1,
            expired: Vec::new(),
        }),
        "The read tick, on the downlink that is still open.",
    );
    step(PHONE, SERVER, "downlink", Frame::Ack(Ack { seq: 0, revision: 2 }), "Stored.");
}
