//! Clients whose address changes.

use std::net::UdpSocket;

use tern_protocol::{
    code::Code,
    frame::{RequestBody, ResponseBody},
};

use crate::common::{
    Key, World,
    client::Client,
    raw::{Ended, Raw},
};

/// Registers a client with an end point of its own.
async fn register(world: &World, name: &str) -> (quinn::Endpoint, Client) {
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let raw = Raw::connect(&endpoint, world.quic(), world.server().address()).await.unwrap();
    (endpoint, Client::register(raw, name, Key::new()).await)
}

/// The client has another address from now on, and the server knows it.
async fn move_away(endpoint: &quinn::Endpoint, client: &mut Client) {
    let before = endpoint.local_addr().unwrap();
    endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    assert_ne!(endpoint.local_addr().unwrap(), before);
    client.done(RequestBody::Ping).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unacknowledged_comes_on_a_new_downlink() {
    let world = World::start().await;
    let ann = world.register("ann").await;
    let (endpoint, mut bob) = register(&world, "bob").await;
    let mut up = ann.uplink(&bob).await;
    up.send("one").await;
    let mut down = bob.downlink().await;
    down.hears("one").await;
    up.send("two").await;
    up.send("three").await;
    assert_eq!(down.delivery().await.seq, 2);
    move_away(&endpoint, &mut bob).await;
    let mut next = bob.downlink().await;
    assert_eq!(down.stream.end().await, Ended::Reset(Code::NoError));
    assert_eq!(down.stream.stopped().await, Some(Code::NoError));
    // From where bob is.
    assert_eq!(next.open.start, 1);
    next.hears("two").await;
    next.hears("three").await;
    up.send("four").await;
    next.hears("four").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downlink_with_nothing_under_way_goes_on() {
    let world = World::start().await;
    let ann = world.register("ann").await;
    let (endpoint, mut bob) = register(&world, "bob").await;
    let mut up = ann.uplink(&bob).await;
    up.send("one").await;
    let mut down = bob.downlink().await;
    down.hears("one").await;
    let metrics = world.metrics();
    crate::common::until("the ack", async || metrics.acks.get() == 1).await;
    move_away(&endpoint, &mut bob).await;
    up.send("two").await;
    down.hears("two").await;
    // And uplinks of the client that nobody asked to begin anew.
    let mut up = bob.uplink(&ann).await;
    up.send("three").await;
    move_away(&endpoint, &mut bob).await;
    up.send("four").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_forgotten_is_told_its_new_address() {
    let world = World::start().await;
    let (endpoint, mut bob) = register(&world, "bob").await;
    for _ in 0..2 {
        let address = ResponseBody::Address(endpoint.local_addr().unwrap());
        assert_eq!(bob.ask(RequestBody::Address).await, address);
        // With the very question that is the first packet from there.
        endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    }
}
