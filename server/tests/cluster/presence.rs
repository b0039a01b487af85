//! Presence across nodes.

use tern_protocol::{
    frame::{Event, Presence, PresenceState, RequestBody},
    id::AccountId,
};

use crate::{
    common::{client::Client, until},
    nodes::Cluster,
};

/// The next presence that is told.
async fn told(watcher: &mut Client) -> Presence {
    loop {
        if let Event::Presence(presence) = watcher.event().await {
            return presence;
        }
    }
}

/// Watches an account that is online. Nodes that have just met say only who is online, so it may take a moment.
async fn watches_online(watcher: &mut Client, account: AccountId) {
    until("it to be known who is online", async || {
        let [presence] = watcher.watch(&[account]).await[..] else { panic!("one was asked for") };
        presence.state == PresenceState::Online
    })
    .await;
    // It may have been told in between.
    watcher.events_so_far().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_on_whatever_node_sees_who_is_online() {
    let cluster = Cluster::of(3).await;
    let mut people = cluster.people(6).await;
    for a in 0..people.len() {
        let b = (a + 1) % people.len();
        let [ann, bob] = people.get_disjoint_mut([a, b]).unwrap();
        bob.uplink(ann).await.send("hello").await;
        let account = bob.account();
        watches_online(ann, account).await;
        bob.done(RequestBody::SetActive(false)).await;
        let offline = told(ann).await;
        assert_eq!((offline.account, offline.state), (account, PresenceState::Offline));
        assert!(offline.last_seen_ms >= bob.welcome.time_ms);
        bob.done(RequestBody::SetActive(true)).await;
        assert_eq!(told(ann).await.state, PresenceState::Online);
        ann.done(RequestBody::Unwatch(vec![account])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_moves_to_another_node_doesnt_flicker() {
    let cluster = Cluster::of(3).await;
    let mut people = cluster.people(2).await;
    let mut bob = people.remove(1);
    let mut ann = people.remove(0);
    bob.uplink(&ann).await.send("hello").await;
    let account = bob.account();
    watches_online(&mut ann, account).await;
    for at in [2, 0, 1, 0, 2] {
        bob = bob.away().back(&cluster.nodes[at]).await;
        bob.ping().await;
    }
    ann.events_so_far().await.iter().for_each(|event| {
        assert!(!matches!(event, Event::Presence(_)), "it was told that {event:?}");
    });
    // Only when he is gone from all.
    bob.done(RequestBody::SetActive(false)).await;
    assert_eq!(told(&mut ann).await.state, PresenceState::Offline);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_come_and_go_change_nothing_of_who_is_online() {
    let mut cluster = Cluster::of(2).await;
    let mut people = cluster.people(4).await;
    let mut ann = people.remove(0);
    for other in &people {
        other.uplink(&ann).await.send("hello").await;
        let account = other.account();
        watches_online(&mut ann, account).await;
    }
    // A third one takes over what it becomes the home of.
    cluster.add(|_| {}).await;
    cluster.are_linked(3).await;
    // And goes again.
    let mut third = cluster.nodes.pop().unwrap();
    third.stop().await;
    let metrics = cluster.nodes[0].metrics();
    until("the node to be gone", async || metrics.cluster_nodes.get() == 2).await;
    let gone = people.pop().unwrap();
    gone.raw.connection.close(0u32.into(), b"");
    let offline = told(&mut ann).await;
    assert_eq!((offline.account, offline.state), (gone.account(), PresenceState::Offline));
}
