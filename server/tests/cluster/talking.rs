//! Messages, receipts and typing between devices on different nodes.

use tern_protocol::frame::Event;

use crate::{
    common::{client::text_of, until},
    nodes::Cluster,
};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_owns_the_conversation_and_wherever_they_are_people_talk() {
    let cluster = Cluster::of(3).await;
    let mut people = cluster.people(6).await;
    let mut served = cluster.nodes.iter().map(|node| node.metrics().peer_requests_served.get());
    assert!(served.all(|served| served == 0));
    for a in 0..people.len() {
        for b in a + 1..people.len() {
            let [ann, bob] = people.get_disjoint_mut([a, b]).unwrap();
            let mut up = ann.uplink(bob).await;
            let first = format!("{a} to {b}");
            assert_eq!(up.send(&first).await.seq, 1);
            let mut down = bob.downlink().await;
            assert_eq!(text_of(&down.delivery().await), first);
            // One that is told while the downlink is open.
            assert_eq!(up.send("and").await.seq, 2);
            assert_eq!(text_of(&down.delivery().await), "and");
            down.ack(2).await;
            let mut receipts = ann.downlink().await;
            receipts.receipt_when(bob.account(), |it| it.delivered == 2).await;
            let mut mark = bob.uplink(ann).await;
            assert_eq!(mark.read(2).await, 2);
            receipts.receipt_when(bob.account(), |it| it.read == 2).await;
            mark.typing(true).await;
            let typing = loop {
                match ann.event().await {
                    Event::Typing { account, active, .. } => break (account, active),
                    _ => continue,
                }
            };
            assert_eq!(typing, (bob.account(), true));
        }
    }
    // With fifteen conversations each node has owned some for others: chance is against it by less than one in a thousand.
    for node in &cluster.nodes {
        assert!(node.metrics().peer_requests_served.get() > 0, "a node owns nothing");
        assert_eq!(node.metrics().commits_conflicting.get(), 0, "two wrote one conversation");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_while_a_device_was_away_waits_on_every_node() {
    let cluster = Cluster::of(2).await;
    let people = cluster.people(2).await;
    let [ann, bob] = <[_; 2]>::try_from(people).ok().unwrap();
    let mut up = ann.uplink(&bob).await;
    up.send("one").await;
    let bob = bob.leave(&cluster.nodes[1]).await;
    up.send("two").await;
    // To the node where he wasn't.
    let bob = bob.back(&cluster.nodes[0]).await;
    assert_eq!((bob.welcome.mailbox.conversations, bob.welcome.mailbox.positions), (1, 2));
    let mut down = bob.downlink().await;
    down.hears("one").await;
    down.hears("two").await;
    up.send("three").await;
    down.hears("three").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_link_to_the_owner_people_talk_all_the_same() {
    let mut cluster = Cluster::of(2).await;
    let people = cluster.people(4).await;
    // The second node's address for others leads nowhere any more: it is stopped, but by the store it is alive.
    let mut gone = cluster.nodes.remove(1);
    cluster.gates.remove(1).shut(true);
    let _stopping = gone.begin_stop();
    let node = &cluster.nodes[0];
    let [ann, bob] = [&people[0], &people[2]];
    let mut up = ann.uplink(bob).await;
    until("the link to end", async || node.metrics().peer_links.get() == 0).await;
    assert_eq!(up.send("hello").await.seq, 1);
    bob.downlink().await.hears("hello").await;
}
