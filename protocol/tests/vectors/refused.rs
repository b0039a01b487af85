//! `refused.json`: bytes that a receiver must refuse, each with the code for it.

use serde_json::{Value, json};
use tern_protocol::{
    code::Code,
    codec,
    frame::{Ack, Frame},
    limits,
};

use crate::{
    meaning,
    raw::{Pointer, Struct, frame, framed, list_pointer, segment, struct_pointer},
};

/// One stream that is refused.
struct Refused {
    name: String,
    statement: &'static str,
    limit_bytes: usize,
    bytes: Vec<u8>,
    ends: bool,
    code: Code,
    /// Whether a receiver may also take the frame, since it need not look at what is wrong.
    may_accept: bool,
}

fn malformed(name: impl Into<String>, statement: &'static str, bytes: Vec<u8>) -> Refused {
    Refused {
        name: name.into(),
        statement,
        limit_bytes: limits::FRAME_BYTES,
        bytes,
        ends: false,
        code: Code::MalformedFrame,
        may_accept: false,
    }
}

pub(crate) fn file() -> Value {
    let mut all = framing();
    all.extend(pointers());
    all.extend(texts());
    all.extend(lengths());
    all.extend(zero_ids());
    all.extend(unknown());
    all.extend(beyond_limits());
    all.extend(impossible());
    let vectors = all.into_iter().map(|it| {
        json!({
            "name": it.name,
            "statement": it.statement,
            "limitBytes": it.limit_bytes,
            "bytes": meaning::hex(&it.bytes),
            "ends": it.ends,
            "code": it.code.name(),
            "mayAccept": it.may_accept,
        })
    });
    json!({
        "about": "Bytes that a receiver must refuse by closing the connection with the code.",
        "vectors": vectors.collect::<Vec<_>>(),
    })
}

fn ack() -> Vec<u8> {
    let frame = Frame::Ack(Ack { seq: 3, revision: 1 });
    codec::encode(&frame).to_vec()
}

/// Framing of a segment of `words` words and nothing behind it.
fn head(segments_less_1: u32, words: u32) -> Vec<u8> {
    [segments_less_1.to_le_bytes(), words.to_le_bytes()].concat()
}

fn framing() -> Vec<Refused> {
    let too_large = |name, limit_bytes, words| Refused {
        limit_bytes,
        code: Code::FrameTooLarge,
        ..malformed(name, "TERN-3.1-2", head(0, words))
    };
    let ends = |name, bytes| Refused { ends: true, ..malformed(name, "TERN-3.1-5", bytes) };
    let mut two_segments = [1_u32, 2, 3, 0].map(u32::to_le_bytes).concat();
    two_segments.extend(&ack()[8..]);
    let mut trailing = ack();
    trailing.extend([0; 3]);
    vec![
        ends("the stream ends within the framing", ack()[..5].to_vec()),
        ends("the stream ends behind the framing", ack()[..8].to_vec()),
        ends("the stream ends within the segment", ack()[..30].to_vec()),
        ends("the stream ends within a second frame", trailing),
        malformed("an empty segment", "TERN-3.1-2", head(0, 0)),
        malformed("two segments", "TERN-3.1-2", two_segments),
        malformed("512 segments", "TERN-3.1-2", head(511, 1)),
        malformed("segment count ffffffff", "TERN-3.1-2", head(u32::MAX, 1)),
        malformed("the framing is all ones", "TERN-3.1-2", head(u32::MAX, u32::MAX)),
        too_large("one word too long for a first frame", limits::FIRST_FRAME_BYTES, 1024),
        too_large("one word too long", limits::FRAME_BYTES, 16_384),
        too_large("segment length ffffffff", limits::FRAME_BYTES, u32::MAX),
        // 2^29 words: eight times that is 0 in 32 bits.
        too_large("a length that overflows 32 bits of bytes", limits::FRAME_BYTES, 0x2000_0000),
    ]
}

fn pointers() -> Vec<Refused> {
    let is = |name: &str, bytes| malformed(name, "TERN-3.1-4", bytes);
    let rooted = |name, word| is(name, framed(&[word, 20, 0, 0]));
    // Into segment 1, which isn't there.
    let far = 1 << 32 | 1 << 3 | 2;
    let double_far = 1 << 32 | 1 << 3 | 6;
    let capability = 3;
    let open_downlink =
        |conversation, peer| frame(16, Pointer::To(Struct(vec![0, 0], vec![conversation, peer])));
    let account = |name| Pointer::To(Struct(vec![1], vec![name]));
    let conversation = || Pointer::Data(vec![4; 16]);
    let labelled = |label| {
        let device = Struct(vec![1, 0, 0, 0], vec![label]);
        frame(6, Pointer::To(Struct(vec![3 << 32], vec![Pointer::Structs(vec![device])])))
    };
    let presences = |list| frame(6, Pointer::To(Struct(vec![5 << 32], vec![list])));

    // A list of composite elements of no size, which costs nothing to send and much to walk.
    let mut bomb =
        segment(Struct(vec![6], vec![Pointer::To(Struct(vec![5 << 32], vec![Pointer::Null]))]));
    bomb[4] = list_pointer(0, 7, 0);
    bomb.push(0x1fff_ffff << 2);

    // Each of 16 devices shares one text of 2,000 bytes.
    let mut shared = segment(Struct(
        vec![6],
        vec![Pointer::To(Struct(
            vec![3 << 32],
            vec![Pointer::Structs(vec![Struct(vec![1, 0, 0, 0], vec![Pointer::Null]); 16])],
        ))],
    ));
    let text = shared.len();
    shared.extend([0x7878_7878_7878_7878; 249]);
    shared.push(0x0078_7878_7878_7878);
    for device in 0..16 {
        let at = text - 16 * 5 + device * 5 + 4;
        shared[at] = list_pointer((text - at - 1) as i64, 2, 2000);
    }

    let mut lying = segment(Struct(
        vec![6],
        vec![Pointer::To(Struct(
            vec![5 << 32],
            vec![Pointer::Structs(vec![Struct(vec![1, 2, 3], Vec::new()); 2])],
        ))],
    ));
    // The tag says three elements where the list has room for two.
    lying[5] = struct_pointer(3, 3, 0);

    // A far pointer into the only segment there is: correct, and never needed.
    let far_near =
        framed(&[struct_pointer(0, 1, 1), 20, 3 << 3 | 2, struct_pointer(0, 2, 0), 3, 1]);
    let deep = deep();
    vec![
        rooted("the root is a list", list_pointer(0, 5, 2)),
        rooted("the root is a far pointer", far),
        rooted("the root is a double far pointer", double_far),
        rooted("the root is a capability", capability),
        rooted("the root begins outside", struct_pointer(4, 1, 1)),
        rooted("the root ends outside", struct_pointer(0, 2, 2)),
        rooted("the root begins before the segment", struct_pointer(-3, 1, 1)),
        rooted("the root lies as far away as a pointer can say", struct_pointer(0x1fff_ffff, 1, 1)),
        is("the root pointer is null", framed(&[0])),
        is("an arm is a list", frame(20, Pointer::Longs(vec![3, 1]))),
        is("an arm is a far pointer", frame(20, Pointer::Raw(far))),
        is("an arm is a double far pointer", frame(20, Pointer::Raw(double_far))),
        is("an arm is a capability", frame(20, Pointer::Raw(capability))),
        is("an arm begins outside", frame(20, Pointer::Raw(struct_pointer(1, 2, 0)))),
        is("an arm ends outside", frame(20, Pointer::Raw(struct_pointer(-2, 3, 0)))),
        is("an arm begins before the segment", frame(20, Pointer::Raw(struct_pointer(-4, 2, 0)))),
        is(
            "an arm of the greatest size",
            frame(20, Pointer::Raw(struct_pointer(-1, 0xffff, 0xffff))),
        ),
        is(
            "data ends outside",
            open_downlink(Pointer::Raw(list_pointer(2, 2, 16)), account(Pointer::Null)),
        ),
        is(
            "data of the greatest length",
            open_downlink(Pointer::Raw(list_pointer(1, 2, 0x1fff_ffff)), account(Pointer::Null)),
        ),
        is("data is a far pointer", open_downlink(Pointer::Raw(far), account(Pointer::Null))),
        is("text is a far pointer", open_downlink(conversation(), account(Pointer::Raw(far)))),
        is("a struct is a far pointer", open_downlink(conversation(), Pointer::Raw(far))),
        is(
            "text is a list of 16-bit numbers",
            open_downlink(conversation(), account(Pointer::Ids(vec![0x6161, 0]))),
        ),
        is(
            "text is a struct",
            open_downlink(conversation(), account(Pointer::To(Struct(vec![1], Vec::new())))),
        ),
        is("an arm points at the frame that holds it", {
            frame(2, Pointer::Raw(struct_pointer(-2, 1, 1)))
        }),
        is(
            "a text points at the struct that holds it",
            open_downlink(conversation(), account(Pointer::Raw(struct_pointer(-2, 1, 1)))),
        ),
        is(
            "a device's label is the list that holds it",
            labelled(Pointer::Raw(list_pointer(-6, 7, 5))),
        ),
        is("a bomb: half a billion presences of no size", framed(&bomb)),
        is(
            "a bomb: half a billion presences of no bits",
            presences(Pointer::List(0, 0x1fff_ffff, Vec::new())),
        ),
        is(
            "a bomb: half a billion accounts of no bits to watch",
            frame(
                5,
                Pointer::To(Struct(
                    vec![7 << 32, 0],
                    vec![Pointer::List(0, 0x1fff_ffff, Vec::new())],
                )),
            ),
        ),
        is("a bomb: sixteen devices share one long label", framed(&shared)),
        is("a list has fewer elements than it says", framed(&lying)),
        is("a list of structs is a list of bits", presences(Pointer::List(1, 8, vec![0xff]))),
        Refused { may_accept: true, ..is("a far pointer into the same segment", far_near) },
        Refused { may_accept: true, ..is("an unknown field nests 100 deep", deep) },
        Refused {
            may_accept: true,
            ..is(
                "an unknown field points outside",
                frame(
                    20,
                    Pointer::To(Struct(vec![3, 1], vec![Pointer::Raw(struct_pointer(1000, 1, 0))])),
                ),
            )
        },
        Refused {
            may_accept: true,
            ..is(
                "an unknown field points at itself",
                frame(
                    20,
                    Pointer::To(Struct(vec![3, 1], vec![Pointer::Raw(struct_pointer(-1, 0, 1))])),
                ),
            )
        },
    ]
}

/// An ack with a further pointer field, a chain of structs of one pointer each.
fn deep() -> Vec<u8> {
    let mut chain = Pointer::Null;
    for _ in 0..100 {
        chain = Pointer::To(Struct(Vec::new(), vec![chain]));
    }
    frame(20, Pointer::To(Struct(vec![3, 1], vec![chain])))
}

fn rejected(text: Pointer) -> Vec<u8> {
    frame(4, Pointer::To(Struct(vec![0x303, 0], vec![text])))
}

fn bytes_list(bytes: &[u8]) -> Pointer {
    Pointer::List(2, bytes.len() as u64, bytes.to_vec())
}

fn texts() -> Vec<Refused> {
    let is = |name, text: &[u8]| malformed(name, "TERN-3.1-4", rejected(bytes_list(text)));
    let invite = |text: &[u8]| {
        let register =
            register(Register { tag: 1, token: bytes_list(text), ..Register::default() });
        malformed("a token that isn't UTF-8", "TERN-3.1-4", register)
    };
    vec![
        is("text that isn't UTF-8: a lone ff", b"a\xff\0"),
        is("text that isn't UTF-8: an overlong slash", b"\xc0\xaf\0"),
        is("text that isn't UTF-8: a surrogate", b"\xed\xa0\x80\0"),
        is("text that isn't UTF-8: cut within a character", b"\xe2\x98\0"),
        is("text without the zero byte at its end", b"abc"),
        is("text of no bytes, not even the zero byte", b""),
        invite(b"\xfe\0"),
    ]
}

struct Register {
    name: Pointer,
    key: Pointer,
    label: Pointer,
    signature: Pointer,
    tag: u64,
    token: Pointer,
}

impl Default for Register {
    fn default() -> Self {
        Self {
            name: Pointer::Text("ann".into()),
            key: Pointer::Data(vec![1; 32]),
            label: Pointer::Text("phone".into()),
            signature: Pointer::Data(vec![2; 64]),
            tag: 0,
            token: Pointer::Null,
        }
    }
}

fn register(it: Register) -> Vec<u8> {
    let pointers = vec![it.name, it.key, it.label, it.signature, it.token];
    hello(2, Pointer::To(Struct(vec![it.tag], pointers)))
}

fn hello(tag: u64, credential: Pointer) -> Vec<u8> {
    let pointers = vec![Pointer::Text("x".into()), Pointer::Null, credential];
    frame(2, Pointer::To(Struct(vec![1 | tag << 32], pointers)))
}

fn sign_in(account: u64, device: u64, signature: Pointer) -> Vec<u8> {
    hello(1, Pointer::To(Struct(vec![account, device], vec![signature])))
}

struct Greeting {
    nonce: Pointer,
    revision: u64,
    registration: u64,
    software: Pointer,
    extensions: Pointer,
}

impl Default for Greeting {
    fn default() -> Self {
        Self {
            nonce: Pointer::Data(vec![3; 32]),
            revision: 1,
            registration: 1,
            software: Pointer::Null,
            extensions: Pointer::Null,
        }
    }
}

fn greeting(it: Greeting) -> Vec<u8> {
    let data = vec![it.revision | it.registration << 16, 0];
    frame(1, Pointer::To(Struct(data, vec![it.nonce, it.software, it.extensions])))
}

struct Welcome {
    account: u64,
    device: u64,
    name: Pointer,
    ticket: Pointer,
    extensions: Pointer,
}

impl Default for Welcome {
    fn default() -> Self {
        Self {
            account: 1,
            device: 2,
            name: Pointer::Text("ann".into()),
            ticket: Pointer::Data(vec![4; 8]),
            extensions: Pointer::Null,
        }
    }
}

fn welcome(it: Welcome) -> Vec<u8> {
    let data = vec![1, it.account, it.device, 1, 0, 0];
    let pointers = vec![it.name, it.ticket, Pointer::Null, Pointer::Null, it.extensions];
    frame(3, Pointer::To(Struct(data, pointers)))
}

fn request(tag: u64, argument: u64, list: Pointer) -> Vec<u8> {
    frame(5, Pointer::To(Struct(vec![7 | tag << 32, argument], vec![list])))
}

fn response(tag: u64, body: Pointer) -> Vec<u8> {
    frame(6, Pointer::To(Struct(vec![7 | tag << 32], vec![body])))
}

fn event(tag: u64, body: Struct) -> Vec<u8> {
    frame(7, Pointer::To(Struct(vec![tag], vec![Pointer::To(body)])))
}

fn account(id: u64, name: &str) -> Struct {
    Struct(vec![id], vec![Pointer::Text(name.into())])
}

fn device(id: u64, label: &str) -> Struct {
    Struct(vec![id, 0, 0, 0], vec![Pointer::Text(label.into())])
}

fn open_uplink(conversation: Pointer) -> Vec<u8> {
    frame(9, Pointer::To(Struct(vec![0], vec![conversation])))
}

fn open_downlink(start: u64, head: u64, conversation: Pointer, peer: Struct) -> Vec<u8> {
    let pointers = vec![conversation, Pointer::To(peer)];
    frame(16, Pointer::To(Struct(vec![start, head], pointers)))
}

fn deliver(account: u64, device: u64) -> Vec<u8> {
    let data = vec![1, account, device, 1, 1];
    frame(17, Pointer::To(Struct(data, vec![Pointer::Data(vec![5])])))
}

fn receipt(account: u64, spans: &[(u64, u64)]) -> Vec<u8> {
    let list = match spans {
        [] => Pointer::Null,
        _ => Pointer::Structs(
            spans.iter().map(|&(first, last)| Struct(vec![first, last], Vec::new())).collect(),
        ),
    };
    frame(19, Pointer::To(Struct(vec![1, account, 9, 9], vec![list])))
}

/// Fields of fixed length with a byte too few, too many, or none at all.
fn lengths() -> Vec<Refused> {
    type Make = fn(Pointer) -> Vec<u8>;
    let fields: [(&str, &'static str, usize, Make); 7] = [
        ("a nonce", "TERN-3.1-4", 32, |nonce| greeting(Greeting { nonce, ..Greeting::default() })),
        ("a sign-in's signature", "TERN-3.1-4", 64, |signature| sign_in(1, 2, signature)),
        ("a registration's signature", "TERN-3.1-4", 64, |signature| {
            register(Register { signature, ..Register::default() })
        }),
        ("a device key", "TERN-3.1-4", 32, |key| register(Register { key, ..Register::default() })),
        ("an uplink's conversation", "TERN-3.2-1", 16, open_uplink),
        ("a downlink's conversation", "TERN-3.2-1", 16, |it| {
            open_downlink(0, 0, it, account(1, "ann"))
        }),
        ("the conversation of typing", "TERN-3.2-1", 16, |it| {
            event(1, Struct(vec![1, 1], vec![it]))
        }),
    ];
    let mut all = Vec::new();
    for (what, statement, right, make) in fields {
        for length in [right - 1, right + 1, 0] {
            all.push(malformed(
                format!("{what} of {length} bytes"),
                statement,
                make(Pointer::Data(vec![1; length])),
            ));
        }
        all.push(malformed(format!("{what} that is null"), statement, make(Pointer::Null)));
    }
    for length in [0, 3, 5, 15, 17] {
        let ip = Pointer::Data(vec![1; length]);
        all.push(malformed(
            format!("an address of {length} bytes"),
            "TERN-3.1-4",
            response(7, Pointer::To(Struct(vec![443], vec![ip]))),
        ));
    }
    all
}

fn zero_ids() -> Vec<Refused> {
    let is = |what: &str, bytes| malformed(format!("id 0: {what}"), "TERN-3.2-1", bytes);
    let signature = || Pointer::Data(vec![2; 64]);
    let conversation = || Pointer::Data(vec![4; 16]);
    vec![
        is("account of a sign-in", sign_in(0, 2, signature())),
        is("device of a sign-in", sign_in(1, 0, signature())),
        is("account of a welcome", welcome(Welcome { account: 0, ..Welcome::default() })),
        is("device of a welcome", welcome(Welcome { device: 0, ..Welcome::default() })),
        is("account asked for", request(2, 0, Pointer::Null)),
        is("device to remove", request(4, 0, Pointer::Null)),
        is("an account to watch", request(7, 0, Pointer::Longs(vec![1, 0]))),
        is("an account to watch no more", request(8, 0, Pointer::Longs(vec![0]))),
        is("account of a response", response(2, Pointer::To(account(0, "ann")))),
        is("a device of a response", response(3, Pointer::Structs(vec![device(0, "phone")]))),
        is(
            "account of a presence in a response",
            response(5, Pointer::Structs(vec![Struct(vec![0, 1, 0], Vec::new())])),
        ),
        is("account of a presence in an event", event(0, Struct(vec![0, 1, 0], Vec::new()))),
        is("account of typing", event(1, Struct(vec![0, 1], vec![conversation()]))),
        is("peer of a downlink", open_downlink(0, 0, conversation(), account(0, "ann"))),
        is("account of a delivery", deliver(0, 2)),
        is("device of a delivery", deliver(1, 0)),
        is("account of a receipt", receipt(0, &[])),
    ]
}

fn unknown() -> Vec<Refused> {
    let nothing = || Pointer::To(Struct(vec![0], Vec::new()));
    let kind = |tag| Refused {
        code: Code::UnknownFrame,
        ..malformed(format!("an unknown kind of frame: {tag}"), "TERN-3.1-6", frame(tag, nothing()))
    };
    let is = |name, bytes| malformed(name, "TERN-3.1-4", bytes);
    vec![
        kind(21),
        kind(255),
        kind(65_535),
        is("an unknown credential", hello(3, nothing())),
        is("an unknown entitlement", register(Register { tag: 4, ..Register::default() })),
        is("an unknown kind of response", response(6, Pointer::Null)),
        is(
            "an unknown registration policy",
            greeting(Greeting { registration: 4, ..Greeting::default() }),
        ),
        is("an unknown state of presence", event(0, Struct(vec![1, 3, 0], Vec::new()))),
        is("an unknown reason to skip", frame(18, Pointer::To(Struct(vec![1, 2], Vec::new())))),
    ]
}

fn beyond_limits() -> Vec<Refused> {
    let is = |name, bytes| malformed(name, "TERN-10.1-1", bytes);
    let long = |length| Pointer::Text("x".repeat(length));
    let go_away = |target, text| frame(8, Pointer::To(Struct(vec![0x109, 0], vec![target, text])));
    let spans: Vec<(u64, u64)> = (1..=65).map(|n| (2 * n, 2 * n)).collect();
    vec![
        is(
            "33 extension ids in a greeting",
            greeting(Greeting {
                extensions: Pointer::Ids(vec![0x0a0a; 33]),
                ..Greeting::default()
            }),
        ),
        is(
            "33 extension ids in a welcome",
            welcome(Welcome { extensions: Pointer::Ids(vec![0x0a0a; 33]), ..Welcome::default() }),
        ),
        is(
            "software of 65 bytes",
            greeting(Greeting { software: long(65), ..Greeting::default() }),
        ),
        is("a label of 65 bytes", register(Register { label: long(65), ..Register::default() })),
        is("a ticket of 513 bytes presented", hello(0, Pointer::Data(vec![4; 513]))),
        is(
            "a ticket of 513 bytes given",
            welcome(Welcome { ticket: Pointer::Data(vec![4; 513]), ..Welcome::default() }),
        ),
        is(
            "an invite of 129 bytes",
            register(Register { tag: 1, token: long(129), ..Register::default() }),
        ),
        is(
            "a JSON Web Token of 4,097 bytes",
            register(Register { tag: 2, token: long(4097), ..Register::default() }),
        ),
        is(
            "a link of 129 bytes",
            register(Register { tag: 3, token: long(129), ..Register::default() }),
        ),
        is(
            "a name of 33 bytes in a welcome",
            welcome(Welcome { name: long(33), ..Welcome::default() }),
        ),
        is("text of an error of 257 bytes", rejected(long(257))),
        is("target of a go-away of 257 bytes", go_away(long(257), Pointer::Null)),
        is("text of a go-away of 257 bytes", go_away(Pointer::Null, long(257))),
        is("257 accounts to watch", request(7, 0, Pointer::Longs(vec![9; 257]))),
        is("257 accounts to watch no more", request(8, 0, Pointer::Longs(vec![9; 257]))),
        is("17 devices", response(3, Pointer::Structs(vec![device(1, "x"); 17]))),
        is("65 spans", receipt(1, &spans)),
    ]
}

fn impossible() -> Vec<Refused> {
    let is = |name, bytes| malformed(name, "TERN-3.1-4", bytes);
    let conversation = || Pointer::Data(vec![4; 16]);
    vec![
        malformed(
            "extension 0",
            "TERN-11.2-2",
            frame(0, Pointer::To(Struct(vec![0], vec![Pointer::Data(vec![1])]))),
        ),
        malformed("an extension that is null", "TERN-11.2-2", frame(0, Pointer::Null)),
        malformed("all zero", "TERN-11.2-2", framed(&[0; 4])),
        malformed(
            "a greeting of revision 0",
            "TERN-5.1-2",
            greeting(Greeting { revision: 0, ..Greeting::default() }),
        ),
        is(
            "a downlink that starts beyond its head",
            open_downlink(5, 4, conversation(), account(1, "ann")),
        ),
        is("a span from 0", receipt(1, &[(0, 1)])),
        is("a span that ends before it begins", receipt(1, &[(2, 1)])),
        is("spans that overlap", receipt(1, &[(1, 3), (3, 4)])),
        is("spans out of order", receipt(1, &[(5, 6), (1, 2)])),
        is("the same span twice", receipt(1, &[(1, 2), (1, 2)])),
    ]
}
