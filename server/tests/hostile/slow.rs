//! Clients that don't read what they asked for: they cost bounded memory, and wait alone.

use quinn::ConnectionError;
use tern_protocol::{
    code::Code,
    codec,
    frame::{Event, Frame, Request, RequestBody},
};

use crate::common::{
    Key, World,
    client::{Client, text_of},
    is_pending,
    raw::{Raw, code_of},
    talk::Talk,
    until, wait,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_downlink_that_is_not_read_or_not_acknowledged_waits() {
    let world = World::with(|config| {
        config.limits.messages_per_device_burst = 10_000;
        config.limits.queued_deliveries_per_session = 16;
    })
    .await;
    let mut talk = Talk::begin(&world).await;
    let metrics = world.metrics();
    // Her flow control is tight.
    let mut quic = world.quic();
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(20_000u32.into());
    quic.transport_config(std::sync::Arc::new(transport));
    let raw = Raw::connect(&world.endpoint, quic, world.server().address()).await.unwrap();
    let eve = Client::register(raw, "eve", Key::new()).await;
    let mut up = talk.ann.uplink(&eve).await;
    let before = metrics.deliveries.get();
    for n in 1..=600 {
        up.send(&format!("{n} {}", "x".repeat(1_000))).await;
    }
    talk.goes_on().await;
    let sent = metrics.deliveries.get() - before - 1;
    // Eve reads nothing: of 600 kB, only what her flow control lets through and one write have left
    // the store for her.
    assert!(sent < 100, "{sent} were sent to somebody who doesn't read");
    // She reads and doesn't acknowledge: 256 and no more, however much is there.
    let mut down = eve.downlink().await;
    for n in 1..=256 {
        assert_eq!(down.delivery().await.seq, n);
    }
    talk.goes_on().await;
    assert_eq!(metrics.deliveries.get() - before, 256 + 2);
    // As soon as she does, the rest follows in order.
    down.ack(100).await;
    for n in 257..=356 {
        assert_eq!(down.delivery().await.seq, n);
    }
    down.ack(356).await;
    for n in 357..=600 {
        let delivery = down.delivery().await;
        assert_eq!(delivery.seq, n);
        assert!(text_of(&delivery).starts_with(&format!("{n} ")));
        down.ack(n).await;
    }
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stream_that_is_not_read_holds_its_requests_up_alone() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let mut eve = world.register("eve").await;
    // She asks for more than the server may keep for her, and reads nothing: at some point the
    // server reads no further, and she can't write any more.
    let ask = |id| Frame::Request(Request { id, body: RequestBody::Devices });
    let mut asked = 0;
    let metrics = world.metrics();
    let mut buffer = bytes::BytesMut::new();
    for id in 0..20_000 {
        tern_protocol::codec::encode_into(&ask(id), &mut buffer);
    }
    let all = buffer.freeze();
    let window = (world.config().listen.stream_receive_window_bytes
        + world.config().listen.send_window_bytes as u32) as usize;
    let stuck = {
        let raw = &mut eve.raw;
        let mut sending = std::pin::pin!(async {
            while asked < all.len() {
                asked += raw.session.send.write(&all[asked..]).await.unwrap();
            }
        });
        let mut answered = 0;
        let mut still = 0;
        until("the server to read no further", async || {
            is_pending(sending.as_mut()).await;
            let now = metrics.requests.get();
            still = if now == answered { still + 1 } else { 0 };
            answered = now;
            still > 40
        })
        .await;
        answered
    };
    assert!(asked < all.len(), "the server took everything, {window} bytes notwithstanding");
    assert!(stuck > 0);
    // Others speak to her as before. Of typing only what fits is kept; her message waits.
    let mut up = talk.ann.uplink(&eve).await;
    for n in 0..300 {
        up.typing(n % 2 == 0).await;
    }
    up.send("and a message").await;
    talk.goes_on().await;
    // Once she reads, every answer comes, in order here, then the events and the message.
    let mut responses = 0;
    let mut typing = 0;
    while responses < stuck as usize || typing == 0 {
        match eve.raw.session.frame().await {
            Frame::Response(response) => {
                assert_eq!(response.id as usize, responses);
                responses += 1;
            }
            Frame::Event(Event::Typing { .. }) => typing += 1,
            Frame::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(typing <= 64, "{typing} notices of typing were kept");
    eve.downlink().await.hears("and a message").await;
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_read_is_closed_all_the_same() {
    let world = World::start().await;
    let mut ann = world.register("ann").await;
    let mut phone = world.link(&mut ann).await;
    let ask = Frame::Request(Request { id: 1, body: RequestBody::Devices });
    let metrics = world.metrics();
    let before = metrics.requests.get();
    let asked: Vec<Frame> = vec![ask; 5_000];
    let bytes: Vec<u8> = asked.iter().flat_map(|frame| codec::encode(frame).to_vec()).collect();
    {
        let mut sending = std::pin::pin!(phone.raw.session.bytes(&bytes));
        // The client's own flow control lets everything through; what it doesn't read is bounded by
        // that and by the send window.
        until("some requests", async || {
            is_pending(sending.as_mut()).await;
            metrics.requests.get() > before + 100
        })
        .await;
    }
    let device = phone.device();
    ann.done(RequestBody::RemoveDevice(device)).await;
    // QUIC's implementation holds the packet with the code back while the congestion window is full of what the
    // client hasn't acknowledged, and gives up after three probe time-outs; then a reset ends the connection.
    match wait("the connection's end", phone.raw.connection.closed()).await {
        ConnectionError::Reset => {}
        end => assert_eq!(code_of(&end), Code::DeviceRemoved),
    }
    assert_eq!(metrics.closed.get(Code::DeviceRemoved), 1);
    let phone = phone.away();
    let mut raw = world.connect().await;
    assert_eq!(raw.rejected(phone.ticket()).await, Code::UnknownDevice);
}
