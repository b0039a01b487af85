//! Devices that go from node to node.

use tern_protocol::{code::Code, frame::Frame};

use crate::{
    common::{
        Key,
        client::{Client, text_of},
        raw::code_of,
        until,
    },
    nodes::Cluster,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_has_one_connection_whatever_the_node() {
    let cluster = Cluster::of(3).await;
    let people = cluster.people(2).await;
    let [ann, bob] = <[_; 2]>::try_from(people).ok().unwrap();
    let mut up = ann.uplink(&bob).await;
    up.send("at the second").await;
    let receipts = ann.downlink();
    bob.downlink().await.hears("at the second").await;
    // So that it doesn't come again.
    receipts.await.receipt_when(bob.account(), |it| it.delivered == 1).await;
    // He comes to the third before he has left the second.
    let old = bob.raw.connection.clone();
    let (key, welcome) = (Key::new(), bob.welcome.clone());
    let mut raw = cluster.nodes[2].connect().await;
    let credential = tern_protocol::frame::Credential::Ticket(welcome.ticket.clone());
    let again = raw.hello(credential).await.unwrap();
    assert!(again.epoch > welcome.epoch);
    let closed = old.closed().await;
    assert_eq!(code_of(&closed), Code::Replaced);
    let bob = Client::new(raw, again, key);
    // From now on it comes there.
    up.send("at the third").await;
    let mut down = bob.downlink().await;
    down.hears("at the third").await;
    for n in 0..5 {
        let text = format!("at the third, {n}");
        up.send(&text).await;
        down.hears(&text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missed_between_nodes() {
    const MESSAGES: u64 = 400;
    let cluster = Cluster::of(3).await;
    let people = cluster.people(2).await;
    let [ann, mut bob] = <[_; 2]>::try_from(people).ok().unwrap();
    let to = bob.account();
    let sender = tokio::spawn(async move {
        let mut up = ann.uplink_to(to).await;
        for n in 1..=MESSAGES {
            assert_eq!(up.send(&n.to_string()).await.seq, n);
        }
    });
    // Meanwhile he goes from node to node. If he missed one in between, no downlink would begin.
    let (mut got, mut at) = (0, 1);
    while got < MESSAGES {
        let mut down = bob.downlink().await;
        assert!(down.open.start <= got, "more is acknowledged than he has");
        let enough = (got + 15).min(MESSAGES);
        while got < enough {
            match down.stream.frame().await {
                Frame::Deliver(delivery) => {
                    assert!(delivery.seq <= got + 1, "{} behind {got}", delivery.seq);
                    assert_eq!(text_of(&delivery), delivery.seq.to_string());
                    got = got.max(delivery.seq);
                    down.ack(delivery.seq).await;
                }
                Frame::Receipt(_) => {}
                other => panic!("a delivery was due: {other:?}"),
            }
        }
        at = (at + 1) % cluster.nodes.len();
        bob = bob.away().back(&cluster.nodes[at]).await;
    }
    sender.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_sends_its_devices_to_another() {
    let mut cluster = Cluster::of(2).await;
    let mut people = cluster.people(2).await;
    let stopping = cluster.nodes[0].begin_stop();
    let target = loop {
        match people[0].raw.session.frame().await {
            Frame::GoAway(go_away) => break go_away,
            Frame::Event(_) => {}
            other => panic!("to be sent away was due: {other:?}"),
        }
    };
    let other = cluster.nodes[1].server().address().to_string();
    assert_eq!((target.code, target.target), (Code::GoingAway, other));
    let ann = people.remove(0).away().back(&cluster.nodes[1]).await;
    stopping.await.unwrap();
    let bob = &people[0];
    let mut up = ann.uplink(bob).await;
    assert_eq!(up.send("moved").await.seq, 1);
    bob.downlink().await.hears("moved").await;
    let metrics = cluster.nodes[1].metrics();
    until("the node to be gone", async || metrics.cluster_nodes.get() == 1).await;
}
