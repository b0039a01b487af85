//! `layouts.json`: frames that a receiver must take although this crate's encoder writes others.

use serde_json::{Value, json};
use tern_protocol::limits;

use crate::{
    frames::{ANN, counting},
    meaning::hex,
    raw::{Pointer, Struct, frame, framed, list_pointer, segment, struct_pointer},
};

fn layout(name: &str, statement: &str, bytes: Vec<u8>, meaning: Value) -> Value {
    json!({
        "name": name,
        "statement": statement,
        "limitBytes": limits::FIRST_FRAME_BYTES,
        "bytes": hex(&bytes),
        "zeros": 0,
        "meaning": meaning,
    })
}

/// An extension frame of exactly `limit_bytes`, its body all zeros.
fn longest(name: &str, limit_bytes: usize) -> Value {
    let words = limit_bytes / 8 - 1;
    // Root pointer, tag, arm pointer, id, body pointer; then the body.
    let body_bytes = (words - 5) * 8;
    let mut bytes = framed(&[
        struct_pointer(0, 1, 1),
        0,
        struct_pointer(0, 1, 1),
        0x8001,
        list_pointer(0, 2, body_bytes as u64),
    ]);
    bytes[4..8].copy_from_slice(&(words as u32).to_le_bytes());
    json!({
        "name": name,
        "statement": "TERN-3.1-3",
        "limitBytes": limit_bytes,
        "bytes": hex(&bytes),
        "zeros": body_bytes,
        "meaning": null,
    })
}

pub(crate) fn file() -> Value {
    let mut vectors = structs();
    vectors.extend(unknown());
    vectors.extend(lists_and_texts());
    vectors.push(longest("a first frame of the greatest length", limits::FIRST_FRAME_BYTES));
    vectors.push(longest("a frame of the greatest length", limits::FRAME_BYTES));
    json!({
        "about": "Frames that a receiver must take, laid out as another encoder may do it.",
        "vectors": vectors,
    })
}

fn structs() -> Vec<Value> {
    let ack = json!({"ack": {"seq": "3", "revision": "1"}});
    let of = |pointer| frame(20, pointer);
    let mut gap = segment(Struct(vec![20], vec![Pointer::Null]));
    gap[2] = struct_pointer(2, 2, 0);
    gap.extend([0xdead, 0xbeef, 3, 1]);
    let before = framed(&[struct_pointer(2, 1, 1), 3, 1, 20, struct_pointer(-4, 2, 0)]);
    let mut behind = segment(Struct(vec![20], vec![Pointer::To(Struct(vec![3, 1], Vec::new()))]));
    behind.extend([1, 2, 3]);
    vec![
        layout(
            "a struct of a later revision: more data",
            "TERN-3.1-6",
            of(Pointer::To(Struct(vec![3, 1, 99], Vec::new()))),
            ack.clone(),
        ),
        layout(
            "a struct of a later revision: a pointer",
            "TERN-3.1-6",
            of(Pointer::To(Struct(vec![3, 1], vec![Pointer::Text("later".into())]))),
            ack.clone(),
        ),
        layout(
            "a frame with more data and pointers",
            "TERN-3.1-6",
            framed(&segment(Struct(
                vec![20, 7],
                vec![Pointer::To(Struct(vec![3, 1], Vec::new())), Pointer::Text("later".into())],
            ))),
            ack.clone(),
        ),
        layout(
            "words between structs that nothing points at",
            "TERN-3.1-1",
            framed(&gap),
            ack.clone(),
        ),
        layout("a struct before the pointer to it", "TERN-3.1-1", before, ack.clone()),
        layout("words at the end that nothing points at", "TERN-3.1-1", framed(&behind), ack),
        layout(
            "a struct shorter than it could be: the rest is 0",
            "TERN-3.1-1",
            of(Pointer::To(Struct(vec![3], Vec::new()))),
            json!({"ack": {"seq": "3", "revision": "0"}}),
        ),
        layout(
            "a null pointer is a struct of zeros",
            "TERN-3.1-1",
            of(Pointer::Null),
            json!({"ack": {"seq": "0", "revision": "0"}}),
        ),
        layout(
            "a struct of no size is a struct of zeros",
            "TERN-3.1-1",
            of(Pointer::Raw(struct_pointer(-1, 0, 0))),
            json!({"ack": {"seq": "0", "revision": "0"}}),
        ),
        layout(
            "a null hello: a ticket of no bytes for revision 0",
            "TERN-3.1-1",
            frame(2, Pointer::Null),
            json!({"hello": {
                "revision": 0, "active": false, "software": "", "extensions": [], "ticket": "",
            }}),
        ),
        layout(
            "pointers of a struct laid out in another order",
            "TERN-3.1-1",
            {
                let mut words = segment(Struct(
                    vec![16],
                    vec![Pointer::To(Struct(vec![1, 2], vec![Pointer::Null, Pointer::Null]))],
                ));
                // The peer first, its name, and the conversation last.
                let at = words.len();
                words[at - 1] = struct_pointer(0, 1, 1);
                words.extend([ANN, list_pointer(0, 2, 4), 0x006e_6e61]);
                words[at - 2] = list_pointer(4, 2, 16);
                words.extend([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
                framed(&words)
            },
            json!({"openDownlink": {
                "conversation": hex(&counting::<16>(0)),
                "start": "1",
                "head": "2",
                "peer": {"account": ANN.to_string(), "name": "ann"},
                "revision": "0",
            }}),
        ),
    ]
}

fn unknown() -> Vec<Value> {
    let rejected = |code| frame(4, Pointer::To(Struct(vec![code, 0], vec![Pointer::Null])));
    let nothing = || Pointer::To(Struct(vec![0], Vec::new()));
    vec![
        layout(
            "a request of a later revision",
            "TERN-5.4-6",
            frame(5, Pointer::To(Struct(vec![7 | 900 << 32, 0], vec![nothing()]))),
            json!({"request": {"id": 7, "unknown": 900}}),
        ),
        layout(
            "an event of a later revision",
            "TERN-3.1-6",
            frame(7, Pointer::To(Struct(vec![77], vec![nothing()]))),
            json!({"event": {"unknown": 77}}),
        ),
        layout(
            "a code of a later revision",
            "TERN-3.1-6",
            rejected(0x3ff),
            json!({"rejected": {"code": 0x3ff, "text": "", "retryAfterMs": "0"}}),
        ),
        layout(
            "an extension that nobody announced",
            "TERN-11.2-1",
            frame(0, Pointer::To(Struct(vec![0x7fff], vec![Pointer::Data(vec![1, 2, 3])]))),
            json!({"extension": {"id": 0x7fff, "body": "010203"}}),
        ),
        layout(
            "an extension list with reserved, unknown and repeated ids",
            "TERN-11.2-1",
            frame(
                2,
                Pointer::To(Struct(
                    vec![1],
                    vec![
                        Pointer::Null,
                        Pointer::Ids(vec![0, 0x7abc, 0x0a0a, 0x0a0a]),
                        Pointer::Data(vec![9]),
                    ],
                )),
            ),
            json!({"hello": {
                "revision": 1, "active": false, "software": "",
                "extensions": [0, 0x7abc, 0x0a0a, 0x0a0a], "ticket": "09",
            }}),
        ),
    ]
}

fn lists_and_texts() -> Vec<Value> {
    let receipt = |list| frame(19, Pointer::To(Struct(vec![1, ANN, 9, 4], vec![list])));
    let meaning = |spans| {
        json!({"receipt": {
            "revision": "1", "account": ANN.to_string(),
            "delivered": "9", "read": "4", "expired": spans,
        }})
    };
    let spans = json!([{"first": "1", "last": "2"}, {"first": "5", "last": "5"}]);
    let registration = frame(
        2,
        Pointer::To(Struct(
            vec![1 | 2 << 32],
            vec![
                Pointer::Null,
                Pointer::Null,
                Pointer::To(Struct(
                    vec![0],
                    vec![
                        Pointer::Text("x".repeat(33)),
                        Pointer::Data(counting::<32>(1).to_vec()),
                        Pointer::Null,
                        Pointer::Data(counting::<64>(1).to_vec()),
                        Pointer::Null,
                    ],
                )),
            ],
        )),
    );
    vec![
        layout(
            "list elements of a later revision: more data and a pointer",
            "TERN-3.1-6",
            receipt(Pointer::Structs(vec![
                Struct(vec![1, 2, 99], vec![Pointer::Text("later".into())]),
                Struct(vec![5, 5, 99], vec![Pointer::Null]),
            ])),
            meaning(spans),
        ),
        layout(
            "a null list is an empty one",
            "TERN-3.1-1",
            receipt(Pointer::Null),
            meaning(json!([])),
        ),
        layout(
            "a null text is an empty one",
            "TERN-3.1-1",
            frame(4, Pointer::To(Struct(vec![0x100, 0], vec![Pointer::Null]))),
            json!({"rejected": {"code": 0x100, "text": "", "retryAfterMs": "0"}}),
        ),
        layout(
            "an empty text of one zero byte",
            "TERN-3.1-1",
            frame(4, Pointer::To(Struct(vec![0x100, 0], vec![Pointer::Text(String::new())]))),
            json!({"rejected": {"code": 0x100, "text": "", "retryAfterMs": "0"}}),
        ),
        layout(
            "a name that is too long to register, answered by nameInvalid",
            "TERN-3.2-3",
            registration,
            json!({"hello": {
                "revision": 1, "active": false, "software": "", "extensions": [],
                "register": {
                    "name": "x".repeat(33),
                    "deviceKey": hex(&counting::<32>(1)),
                    "label": "",
                    "signature": hex(&counting::<64>(1)),
                    "none": null,
                },
            }}),
        ),
    ]
}
