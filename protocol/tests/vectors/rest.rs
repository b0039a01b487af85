//! `signatures.json`, `ids.json` and `tickets.json`.

use ring::{
    digest,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use tern_protocol::{
    grease,
    id::{ConversationId, name_is_valid},
    signature::{CertificateHash, register_message, sign_in_message},
};

use crate::{
    frames::{ANN, ANNS_PHONE, BOB, account, counting, device},
    meaning::hex,
};

/// The device key of ann's phone.
pub(crate) fn key() -> (Ed25519KeyPair, [u8; 32]) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&counting::<32>(0x10)).expect("a seed");
    let public = pair.public_key().as_ref().try_into().expect("32 bytes");
    (pair, public)
}

/// What stands for the server's certificate: any bytes do, since only their hash is signed.
pub(crate) const CERTIFICATE: &[u8] = b"the server's leaf certificate, DER";

pub(crate) fn signatures() -> Value {
    let (pair, public) = key();
    let certificate = CertificateHash::of(CERTIFICATE);
    let nonce = counting(0x20);
    let sign_in = sign_in_message(&nonce, &certificate, account(ANN), device(ANNS_PHONE));
    let register = register_message(&nonce, &certificate, &public, "ann");
    let common = |what: &str, message: &[u8]| {
        json!({
            "name": what,
            "seed": hex(&counting::<32>(0x10)),
            "deviceKey": hex(&public),
            "nonce": hex(&nonce),
            "certificate": hex(CERTIFICATE),
            "certificateHash": hex(digest::digest(&digest::SHA256, CERTIFICATE).as_ref()),
            "message": hex(message),
            "signature": hex(pair.sign(message).as_ref()),
            "valid": true,
        })
    };
    let mut by_sign_in = common("sign-in", &sign_in);
    by_sign_in["account"] = json!(ANN.to_string());
    by_sign_in["device"] = json!(ANNS_PHONE.to_string());
    let mut by_register = common("register", &register);
    by_register["accountName"] = json!("ann");

    // The signature stays, and what the server checks it against changes.
    let mut vectors = vec![by_sign_in.clone(), by_register.clone()];
    let mut refuse = |of: &Value, name: &str, field: &str, value: Value, message: Vec<u8>| {
        let mut other = of.clone();
        other["name"] = json!(name);
        other[field] = value;
        other["message"] = json!(hex(&message));
        other["valid"] = json!(false);
        vectors.push(other);
    };
    let other_nonce = counting(0x21);
    refuse(
        &by_sign_in,
        "sign-in: the nonce of another connection",
        "nonce",
        json!(hex(&other_nonce)),
        sign_in_message(&other_nonce, &certificate, account(ANN), device(ANNS_PHONE)),
    );
    refuse(
        &by_sign_in,
        "sign-in: another account",
        "account",
        json!(BOB.to_string()),
        sign_in_message(&nonce, &certificate, account(BOB), device(ANNS_PHONE)),
    );
    refuse(
        &by_sign_in,
        "sign-in: another device",
        "device",
        json!("1"),
        sign_in_message(&nonce, &certificate, account(ANN), device(1)),
    );
    refuse(
        &by_register,
        "register: another name",
        "accountName",
        json!("anna"),
        register_message(&nonce, &certificate, &public, "anna"),
    );
    let mut flipped = pair.sign(&sign_in).as_ref().to_vec();
    flipped[63] ^= 1;
    refuse(
        &by_sign_in,
        "sign-in: a signature with one bit flipped",
        "signature",
        json!(hex(&flipped)),
        sign_in,
    );
    json!({
        "about": "What a device signs, and signatures that a server accepts or rejects.",
        "vectors": vectors,
    })
}

pub(crate) fn ids() -> Value {
    let pairs = [(1, 2), (2, 1), (ANN, BOB), (BOB, ANN), (1, u64::MAX)];
    let direct = pairs.map(|(a, b)| {
        let id = ConversationId::direct(account(a), account(b)).expect("two accounts");
        json!({"a": a.to_string(), "b": b.to_string(), "conversation": hex(id.as_bytes())})
    });
    let names = [
        "a",
        "0",
        "ann",
        "ann-2",
        "a.b_c",
        "a..b",
        "x234567890123456789012345678901x",
        "",
        "x2345678901234567890123456789012x",
        "Ann",
        "-a",
        "a-",
        ".a",
        "a_",
        "ä",
        "a b",
        "a\n",
        "a\0b",
        "ann@example.org",
    ];
    let names = names.map(|name| json!({"name": name, "valid": name_is_valid(name)}));
    let printed = [1, ANN, u64::MAX]
        .map(|id| json!({"id": id.to_string(), "printed": account(id).to_string()}));
    let greased: Vec<u16> = (0..=u16::MAX).filter(|&id| grease::is_grease(id)).collect();
    json!({
        "about": "Conversation ids of two accounts, names, printed ids, grease.",
        "direct": direct,
        "names": names,
        "printed": printed,
        "grease": greased,
        "notGrease": [0, 0x0001, 0x000a, 0x0a00, 0x0a1a, 0x1a0a, 0x0a0b, 0x8001, 0xffff],
    })
}

/// One step of a client: what it presents, what comes of it, what it has and does then.
fn step(presents: Value, answer: Value, keeps: Option<&str>, next: &str) -> Value {
    json!({"presents": presents, "answer": answer, "keeps": keeps, "next": next})
}

pub(crate) fn tickets() -> Value {
    let ticket = |hex: &str| json!({"ticket": hex});
    let sign_in = || json!({"signIn": true});
    let welcome = |ticket: &str| json!({"welcome": {"ticket": ticket}});
    let rejected = |code: &str, retry_after_ms: u64| json!({"rejected": {"code": code, "retryAfterMs": retry_after_ms.to_string()}});
    let closed = |code: &str| json!({"close": code});
    let scenario = |name: &str, statement: &str, holds: Option<&str>, steps: Vec<Value>| json!({"name": name, "statement": statement, "holds": holds, "steps": steps});
    let scenarios = vec![
        scenario(
            "the first sign-in brings a ticket, and each welcome a newer one",
            "TERN-5.3-4",
            None,
            vec![
                step(sign_in(), welcome("01"), Some("01"), "signedIn"),
                step(ticket("01"), welcome("02"), Some("02"), "signedIn"),
                step(ticket("02"), welcome("03"), Some("03"), "signedIn"),
            ],
        ),
        scenario(
            "an expired ticket is forgotten, a signature follows on the same stream",
            "TERN-5.2-8",
            Some("01"),
            vec![
                step(ticket("01"), rejected("ticketExpired", 0), None, "signIn"),
                step(sign_in(), welcome("02"), Some("02"), "signedIn"),
            ],
        ),
        scenario(
            "a ticket that the server can't open is forgotten",
            "TERN-5.2-8",
            Some("01"),
            vec![
                step(ticket("01"), rejected("ticketInvalid", 0), None, "signIn"),
                step(sign_in(), welcome("02"), Some("02"), "signedIn"),
            ],
        ),
        scenario(
            "the device is gone: the signature has the last word",
            "TERN-5.2-8",
            Some("01"),
            vec![
                step(ticket("01"), rejected("unknownDevice", 0), None, "signIn"),
                step(sign_in(), rejected("unknownDevice", 0), None, "giveUp"),
            ],
        ),
        scenario(
            "a busy server says nothing about the ticket",
            "TERN-5.3-4",
            Some("01"),
            vec![
                step(ticket("01"), rejected("overloaded", 500), Some("01"), "later"),
                step(ticket("01"), rejected("rateLimited", 30_000), Some("01"), "later"),
                step(ticket("01"), welcome("02"), Some("02"), "signedIn"),
            ],
        ),
        scenario(
            "a revision that the server doesn't speak says nothing about the ticket",
            "TERN-5.3-4",
            Some("01"),
            vec![step(ticket("01"), rejected("unsupportedRevision", 0), Some("01"), "giveUp")],
        ),
        scenario(
            "the connection is lost before the answer: the ticket is presented again",
            "TERN-5.3-4",
            Some("01"),
            vec![
                step(ticket("01"), json!({"lost": true}), Some("01"), "reconnect"),
                step(ticket("01"), welcome("02"), Some("02"), "signedIn"),
            ],
        ),
        scenario(
            "a server that closes says nothing about the ticket",
            "TERN-5.3-4",
            Some("01"),
            vec![
                step(ticket("01"), closed("goingAway"), Some("01"), "reconnect"),
                step(ticket("01"), closed("overloaded"), Some("01"), "reconnect"),
                step(ticket("01"), closed("replaced"), Some("01"), "giveUp"),
            ],
        ),
        scenario(
            "a removed device forgets ticket and key",
            "TERN-5.4-3",
            Some("01"),
            vec![step(ticket("01"), closed("deviceRemoved"), None, "giveUp")],
        ),
    ];
    json!({
        "about": "What a client does with its ticket.",
        "scenarios": scenarios,
    })
}
