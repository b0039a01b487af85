//! Accounts and their devices, changed on one node and known on the others.

use tern_protocol::{
    code::Code,
    frame::{Credential, Event, RequestBody},
};

use crate::nodes::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_removed_on_one_node_is_gone_from_all() {
    let cluster = Cluster::of(2).await;
    let mut ann = cluster.nodes[0].register("ann").await;
    let desk = cluster.nodes[1].link(&mut ann).await;
    assert_eq!(ann.event().await, Event::DevicesChanged);
    let devices = ann.devices().await;
    assert!(devices.iter().all(|device| device.online), "also the one on the other node");
    ann.done(RequestBody::RemoveDevice(desk.device())).await;
    assert_eq!(desk.raw.closed().await, Code::DeviceRemoved);
    for node in &cluster.nodes {
        let ticket = Credential::Ticket(desk.welcome.ticket.clone());
        let mut raw = node.connect().await;
        assert_eq!(raw.rejected(ticket).await, Code::UnknownDevice);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_for_the_devices_that_are_there_wherever_they_were_added() {
    let cluster = Cluster::of(3).await;
    let mut people = cluster.people(2).await;
    let mut bob = people.remove(1);
    let ann = people.remove(0);
    let mut up = ann.uplink(&bob).await;
    // So that every node has the accounts in memory as they are now.
    up.send("before").await;
    bob.downlink().await.hears("before").await;
    for n in 0..5 {
        let more = cluster.nodes[n % 3].link(&mut bob).await;
        let text = format!("to {} devices", n + 2);
        // The very first message after it was added.
        up.send(&text).await;
        let mut down = more.downlink().await;
        down.hears(&text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_name_that_two_nodes_are_asked_for_at_once_one_gets_it() {
    let cluster = Cluster::of(3).await;
    for n in 0..10 {
        let name = format!("name{n}");
        let mut won = 0;
        let asked = futures_util::future::join_all(cluster.nodes.iter().map(async |node| {
            let mut raw = node.connect().await;
            let key = crate::common::Key::new();
            let credential = raw.register(&key, &name, tern_protocol::frame::Entitlement::None);
            raw.hello(credential).await.map_err(|rejected| rejected.code)
        }));
        for outcome in asked.await {
            match outcome {
                Ok(_) => won += 1,
                Err(code) => assert_eq!(code, Code::NameTaken),
            }
        }
        assert_eq!(won, 1);
    }
}
