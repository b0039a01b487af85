//! Nodes that lose the store, and nodes that others hold for dead.

use tern_protocol::code::Code;

use crate::{
    common::{until, wait},
    nodes::Cluster,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_store_gives_its_devices_up_and_ends() {
    let cluster = Cluster::of(3).await;
    let mut people = cluster.people(3).await;
    let ann = people.remove(0);
    let [bob, cid] = [&people[0], &people[1]];
    let mut up = bob.uplink(&ann).await;
    up.send("before").await;
    ann.downlink().await.hears("before").await;
    // So that it doesn't come again.
    bob.downlink().await.receipt_when(ann.account(), |it| it.delivered == 1).await;
    cluster.gates[0].shut(true);
    // It can't renew its record, so it may be held for dead, and says so to its devices before that is so.
    // An ack of hers that can't be stored is a reason as well.
    assert!(matches!(ann.raw.closed().await, Code::GoingAway | Code::Internal));
    let others = [1, 2].map(|at: usize| cluster.nodes[at].metrics());
    until("the others to go on without it", async || {
        others.iter().all(|metrics| metrics.cluster_nodes.get() == 2)
    })
    .await;
    assert!(cluster.nodes[0].try_connect().await.is_err(), "it serves nobody");
    let ann = ann.away().back(&cluster.nodes[2]).await;
    up.send("meanwhile").await;
    let mut down = ann.downlink().await;
    down.hears("meanwhile").await;
    cid.uplink(&ann).await.send("hello").await;
    ann.downlink().await.hears("hello").await;
    // It doesn't come back as the one that it was.
    cluster.gates[0].shut(false);
    wait("the node to know that it is dead", cluster.nodes[0].server().fenced()).await;
    assert!(cluster.nodes[0].try_connect().await.is_err());
    assert_eq!(others[0].cluster_nodes.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_all_costs_time_and_no_node() {
    let cluster = Cluster::of(2).await;
    let people = cluster.people(2).await;
    let [ann, bob] = <[_; 2]>::try_from(people).ok().unwrap();
    ann.uplink(&bob).await.send("before").await;
    bob.downlink().await.hears("before").await;
    ann.downlink().await.receipt_when(bob.account(), |it| it.delivered == 1).await;
    cluster.gates.iter().for_each(|gate| gate.shut(true));
    for client in [&ann, &bob] {
        assert!(matches!(client.raw.closed().await, Code::GoingAway | Code::Internal));
    }
    for node in &cluster.nodes {
        let metrics = node.metrics();
        until("the node to be suspended", async || metrics.cluster_suspensions.get() > 0).await;
        assert!(!node.server().serves()());
    }
    cluster.gates.iter().for_each(|gate| gate.shut(false));
    for node in &cluster.nodes {
        until("the node to serve again", async || node.metrics().cluster_serving.get() == 1).await;
        assert!(node.server().serves()());
        assert_eq!(node.metrics().cluster_nodes.get(), 2);
    }
    let ann = ann.away().back(&cluster.nodes[1]).await;
    let bob = bob.away().back(&cluster.nodes[0]).await;
    let mut up = ann.uplink(&bob).await;
    up.next = 2;
    up.settled = 1;
    up.send("after").await;
    bob.downlink().await.hears("after").await;
}
