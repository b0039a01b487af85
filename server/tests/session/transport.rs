//! Handshakes, greetings, certificates.

use tern_protocol::{code::Code, frame::Entitlement};

use crate::common::{
    Key, World,
    raw::{Raw, client_config},
    relay::Relay,
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_greeting_comes_with_the_first_flight() {
    let world = World::start().await;
    let mut nonces = std::collections::BTreeSet::new();
    for _ in 0..5 {
        // Nothing but the client's first packet arrives, so the server never hears the handshake
        // completed.
        let relay = Relay::to(world.server().address()).await;
        relay.pass_up(1);
        let raw = Raw::connect(&world.endpoint, world.quic(), relay.address).await.unwrap();
        assert_eq!(raw.greeting.revision, 1);
        assert!(raw.greeting.software.starts_with("tern-server/"));
        assert!(nonces.insert(raw.greeting.nonce));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_is_refused() {
    let world = World::start().await;
    for alpn in [vec![b"tern/2".to_vec()], vec![b"h3".to_vec()], vec![]] {
        let mut tls = world.tls();
        tls.alpn_protocols = alpn;
        let address = world.server().address();
        assert!(Raw::connect(&world.endpoint, client_config(tls), address).await.is_err());
    }
    until("the failures to be forgotten", async || world.metrics().connections.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_open_three_uplinks_and_go_on_with_others() {
    let world = World::start().await;
    let ann = world.register("ann").await;
    let mut ups = Vec::new();
    for name in ["bob", "carl", "dora", "emil", "fred", "gabi", "hans", "inga"] {
        let peer = world.register(name).await;
        if ups.len() == 3 {
            let up: crate::common::client::Uplink = ups.remove(0);
            up.finish().await;
        }
        let mut up = ann.uplink(&peer).await;
        up.send("hello").await;
        ups.push(up);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_changed_without_a_restart() {
    let world = World::start().await;
    let mut before = world.connect().await;
    for file in ["cert.pem", "key.pem"] {
        std::fs::remove_file(world.path().join(file)).unwrap();
    }
    world.server().reload();
    let mut after = world.connect().await;
    assert_ne!(before.certificate, after.certificate);
    // What was signed over the one before is still good, since it was shown.
    for (raw, name) in [(&mut before, "ann"), (&mut after, "bob")] {
        let key = Key::new();
        let credential = raw.register(&key, name, Entitlement::None);
        let welcome = raw.hello(credential).await.unwrap();
        assert_eq!(welcome.name, name);
    }
    let mut raw = world.connect().await;
    raw.certificate.0[0] ^= 1;
    let credential = raw.register(&Key::new(), "carl", Entitlement::None);
    assert_eq!(raw.rejected(credential).await, Code::BadSignature);
    // One that is damaged is no reason to stop serving.
    std::fs::write(world.path().join("cert.pem"), "no certificate").unwrap();
    world.server().reload();
    world.register("dora").await;
}
