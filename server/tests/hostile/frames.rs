//! Bytes that aren't frames, and frames where they have no place.

use serde_json::Value;
use tern_protocol::{
    code::Code,
    codec,
    frame::{
        Ack, Extension, Frame, GoAway, Marked, OpenUplink, ReadMark, Request, RequestBody,
        Response, ResponseBody, Skip, SkipReason, Typing,
    },
    grease, limits,
};

use crate::common::{World, client::Uplink, raw::hello, talk::Talk};

/// Byte streams that every receiver refuses, and the codes.
struct Refused {
    name: String,
    bytes: Vec<u8>,
    code: Code,
    ends: bool,
    /// The limit under which they are refused.
    limit: usize,
}

fn refused() -> Vec<Refused> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/vectors/refused.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let vectors = file["vectors"].as_array().unwrap();
    // One begins with a good frame, which has no place on these streams.
    let vectors = vectors.iter().filter(|it| {
        it["mayAccept"] == false && it["name"] != "the stream ends within a second frame"
    });
    vectors
        .map(|it| Refused {
            name: text(&it["name"]),
            bytes: text(&it["bytes"])
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect(),
            code: *Code::ALL.iter().find(|code| code.name() == it["code"]).unwrap(),
            ends: it["ends"] == true,
            limit: it["limitBytes"].as_u64().unwrap() as usize,
        })
        .collect()
}

/// A stream of some kind, up to where the bad bytes are to come.
enum Where {
    /// The session stream, before the hello.
    Session,
    /// An uplink's first frame.
    Uplink,
    /// An uplink behind its first frame.
    OpenUplink,
    /// The client's direction of a downlink.
    Downlink,
}

async fn bad_bytes_close_the_connection(place: Where, filter: impl Fn(&Refused) -> bool) {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let metrics = world.metrics();
    let mut eve = world.register("eve").await.away();
    let mut up = talk.ann.uplink_to(eve.welcome.account).await;
    up.send("for eve").await;
    let refused: Vec<Refused> = refused().into_iter().filter(filter).collect();
    assert!(refused.len() > 80, "there are {}", refused.len());
    for vector in &refused {
        let code = vector.code;
        let counted = (metrics.frames_refused.get(code), metrics.closed.get(code));
        let raw = if let Where::Session = place {
            let mut raw = world.connect().await;
            raw.session.bytes(&vector.bytes).await;
            if vector.ends {
                raw.session.finish();
            }
            raw
        } else {
            let client = eve.back(&world).await;
            let mut stream = match place {
                Where::OpenUplink => client.uplink(&talk.ann).await.stream,
                Where::Downlink => client.downlink().await.stream,
                _ => client.raw.open().await,
            };
            stream.bytes(&vector.bytes).await;
            if vector.ends {
                stream.finish();
            }
            assert_eq!(client.raw.closed().await, code, "{}", vector.name);
            eve = client.away();
            world.connect().await
        };
        if let Where::Session = place {
            assert_eq!(raw.closed().await, code, "{}", vector.name);
        }
        let now = (metrics.frames_refused.get(code), metrics.closed.get(code));
        assert_eq!(now, (counted.0 + 1, counted.1 + 1), "{}", vector.name);
    }
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_hello_bad_bytes_close_the_connection() {
    bad_bytes_close_the_connection(Where::Session, |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bytes_instead_of_an_open_uplink_close_the_connection() {
    bad_bytes_close_the_connection(Where::Uplink, |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bytes_on_an_uplink_close_the_connection() {
    // Behind the first frame, those that are too long for a first frame alone are within the limit.
    let limit = limits::FRAME_BYTES;
    bad_bytes_close_the_connection(Where::OpenUplink, |it| it.limit == limit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bytes_instead_of_an_ack_close_the_connection() {
    bad_bytes_close_the_connection(Where::Downlink, |_| true).await;
}

/// A frame of so many bytes that nobody needs to understand.
fn extension(bytes: usize) -> Frame {
    let body = vec![7; bytes - codec::encode(&of(8)).len() + 8];
    fn of(bytes: usize) -> Frame {
        Frame::Extension(Extension { id: 0x8001, body: vec![7; bytes].into() })
    }
    let frame = of(body.len());
    assert_eq!(codec::encode(&frame).len(), bytes);
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_may_be_as_long_as_the_limit_of_their_place() {
    let world = World::start().await;
    let mut ann = world.register("ann").await;
    let mut bob = world.register("bob").await;
    // Signed in, and behind the first frame of an uplink, the longest frames are taken.
    ann.raw.session.say(&extension(limits::FRAME_BYTES)).await;
    ann.done(RequestBody::Ping).await;
    let mut up = ann.uplink(&bob).await;
    up.stream.say(&extension(limits::FRAME_BYTES)).await;
    up.send("short").await;
    // Also behind an ack.
    let mut down = bob.downlink().await;
    down.hears("short").await;
    down.stream.say(&extension(limits::FRAME_BYTES)).await;
    up.send("again").await;
    down.hears("again").await;
    bob.done(RequestBody::Ping).await;

    // A word more is too much, and so is it before the welcome beyond the lower limit.
    let mut over = codec::encode(&extension(limits::FRAME_BYTES)).to_vec();
    over[4..8].copy_from_slice(&(limits::FRAME_BYTES as u32 / 8).to_le_bytes());
    ann.raw.session.bytes(&over[..8]).await;
    assert_eq!(ann.raw.closed().await, Code::FrameTooLarge);
    let mut raw = world.connect().await;
    raw.session.bytes(&codec::encode(&extension(limits::FIRST_FRAME_BYTES + 8))[..8]).await;
    assert_eq!(raw.closed().await, Code::FrameTooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_out_of_place_close_the_connection() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let metrics = world.metrics();
    let mut eve = world.register("eve").await.away();
    let mut to_eve = talk.ann.uplink_to(eve.welcome.account).await;
    to_eve.send("for eve").await;
    let conversation = talk.ann.with(&talk.bob);
    let peer = Some(talk.ann.account());
    let ping = Frame::Request(Request { id: 1, body: RequestBody::Ping });
    let hello = Frame::Hello(hello(eve.ticket()));
    let open = Frame::OpenUplink(OpenUplink { conversation, peer });
    let ack = Frame::Ack(Ack::default());
    let typing = Frame::Typing(Typing { active: true });
    let read = Frame::ReadMark(ReadMark { up_to: 0 });
    let of_server = [
        Frame::Marked(Marked { up_to: 1 }),
        Frame::Skip(Skip { up_to: 1, reason: SkipReason::Own }),
        Frame::GoAway(GoAway {
            code: Code::GoingAway,
            within_ms: 1,
            target: String::new(),
            text: String::new(),
        }),
    ];

    // Before the hello nothing else is taken, not even an extension.
    let first = [&ping, &open, &ack, &typing, &read, &extension(64)];
    for frame in first.into_iter().chain(&of_server) {
        let mut raw = world.connect().await;
        raw.session.say(frame).await;
        assert_eq!(raw.closed().await, Code::UnexpectedFrame, "{frame:?}");
    }
    // After it, only requests and extensions are.
    for frame in [&hello, &open, &ack, &typing, &read].into_iter().chain(&of_server) {
        let mut client = eve.back(&world).await;
        client.raw.session.say(frame).await;
        assert_eq!(client.raw.closed().await, Code::UnexpectedFrame, "{frame:?}");
        eve = client.away();
    }
    // An uplink begins with its opening, and has one.
    for frame in [&hello, &ping, &ack, &typing, &read, &extension(64)].into_iter().chain(&of_server)
    {
        let client = eve.back(&world).await;
        client.raw.open().await.say(frame).await;
        assert_eq!(client.raw.closed().await, Code::UnexpectedFrame, "{frame:?}");
        eve = client.away();
    }
    for frame in [&hello, &ping, &ack, &open].into_iter().chain(&of_server) {
        let client = eve.back(&world).await;
        let mut up: Uplink = client.uplink(&talk.ann).await;
        up.stream.say(frame).await;
        assert_eq!(client.raw.closed().await, Code::UnexpectedFrame, "{frame:?}");
        eve = client.away();
    }
    // On a downlink there are acks, and extensions behind the first.
    for frame in
        [&hello, &ping, &open, &typing, &read, &extension(64)].into_iter().chain(&of_server)
    {
        let client = eve.back(&world).await;
        client.downlink().await.stream.say(frame).await;
        assert_eq!(client.raw.closed().await, Code::UnexpectedFrame, "{frame:?}");
        eve = client.away();
    }
    assert_eq!(metrics.closed.get(Code::UnexpectedFrame), 9 + 8 + 9 + 7 + 9);
    assert_eq!(metrics.frames_refused.get(Code::UnexpectedFrame), 0);
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_meaning_here_is_ignored() {
    let world = World::start().await;
    let [mut ann, bob] = world.two().await;
    // The server says things without a meaning itself.
    let is_grease = |id: u16| (0..=255).any(|which| grease::id(which) == id);
    assert!(ann.raw.greeting.extensions.iter().any(|&id| is_grease(id)));
    ann.done(RequestBody::Ping).await;
    let [said] = &ann.raw.session.extensions[..] else { panic!("one frame of grease was due") };
    assert!(is_grease(said.id) && said.body.len() <= limits::GREASE_BYTES);
    // The hello listed grease and an unknown id; nothing of it is in use.
    assert!(ann.welcome.extensions.is_empty());
    for id in [0x0a0a, 0xfafa, 0x0001, 0xffff] {
        let frame = Frame::Extension(Extension { id, body: vec![1; 64].into() });
        ann.raw.session.say(&frame).await;
        let mut up = ann.uplink(&bob).await;
        up.stream.say(&frame).await;
        up.finish().await;
    }
    ann.done(RequestBody::Ping).await;
    // A request of a later revision: a ping with another union tag.
    let ping = Frame::Request(Request { id: 77, body: RequestBody::Ping });
    let mut bytes = codec::encode(&ping).to_vec();
    bytes[36..38].copy_from_slice(&99u16.to_le_bytes());
    ann.raw.session.bytes(&bytes).await;
    match ann.raw.session.frame().await {
        Frame::Response(Response { id: 77, body: ResponseBody::Error { code, .. } }) => {
            assert_eq!(code, Code::UnknownRequest);
        }
        other => panic!("should have been refused: {other:?}"),
    }
    ann.done(RequestBody::Ping).await;
    assert_eq!(world.metrics().requests_refused.get(Code::UnknownRequest), 1);
}
