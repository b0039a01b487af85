use super::*;
use crate::{clock::Clock, route::cache::RouteCacheSettings, test_store::MapStore};

const MS: u64 = 1_000_000;

fn device(id: u64) -> DeviceId {
    DeviceId::new(id).unwrap()
}

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

async fn routes(store: &Arc<MapStore>, me: u64) -> Routes {
    let cache = RouteCache::open(RouteCacheSettings::default(), Clock::system()).await.unwrap();
    Routes::new(node(me), store.clone(), cache)
}

#[tokio::test]
async fn epochs_grow_whatever_the_clocks_say() {
    let store = Arc::new(MapStore::default());
    let (a, b) = (routes(&store, 1).await, routes(&store, 2).await);
    let first = a.next_epoch(device(9), MS).await.unwrap();
    assert_eq!(first, MS);
    assert_eq!(a.enter(device(9), first).await.unwrap(), Entry::Newest(None));
    // The clock of the other node is behind.
    let second = b.next_epoch(device(9), MS - 5_000).await.unwrap();
    assert_eq!(second, MS + 1);
    let before = Route { node: node(1), epoch: first };
    assert_eq!(b.enter(device(9), second).await.unwrap(), Entry::Newest(Some(before)));
    // Also when the device has left meanwhile.
    b.leave(device(9), second).await.unwrap();
    assert_eq!(a.read(device(9)).await.unwrap(), None);
    assert_eq!(a.next_epoch(device(9), 0).await.unwrap(), MS + 2);
}

#[tokio::test]
async fn an_older_connection_takes_no_route_from_a_newer_one() {
    let store = Arc::new(MapStore::default());
    let (a, b) = (routes(&store, 1).await, routes(&store, 2).await);
    b.enter(device(9), 8).await.unwrap();
    assert_eq!(a.enter(device(9), 7).await.unwrap(), Entry::Overtaken);
    assert_eq!(a.enter(device(9), 8).await.unwrap(), Entry::Overtaken, "of two alike, the first");
    a.leave(device(9), 8).await.unwrap();
    b.leave(device(9), 7).await.unwrap();
    assert_eq!(a.find(device(9)).await.unwrap(), Some(Route { node: node(2), epoch: 8 }));
}

#[tokio::test]
async fn a_remembered_route_is_read_again_when_it_is_forgotten() {
    let store = Arc::new(MapStore::default());
    let (a, b, c) = (routes(&store, 1).await, routes(&store, 2).await, routes(&store, 3).await);
    b.enter(device(9), 8).await.unwrap();
    assert_eq!(a.find(device(9)).await.unwrap().unwrap().node, node(2));
    c.enter(device(9), 9).await.unwrap();
    assert_eq!(a.find(device(9)).await.unwrap().unwrap().node, node(2), "by memory");
    a.forget(device(9));
    assert_eq!(a.find(device(9)).await.unwrap(), Some(Route { node: node(3), epoch: 9 }));
}

#[tokio::test]
async fn of_an_unknown_outcome_the_store_is_asked() {
    let store = Arc::new(MapStore::default());
    let a = routes(&store, 1).await;
    store.lose_next_outcome();
    assert_eq!(a.enter(device(9), 8).await.unwrap(), Entry::Newest(None));
    assert_eq!(a.read(device(9)).await.unwrap(), Some(Route { node: node(1), epoch: 8 }));
}
