//! Several memberships on one store that fails in many ways, in virtual time.

mod faulty;
mod random;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use self::faulty::{Faulty, Mode};
use super::*;
use crate::{
    cluster::{Change, Standing},
    store::{CommitError, Condition, Mutation, Store, Transaction},
    test_store::MapStore,
};

const LEASE: Duration = Duration::from_secs(2);

/// A process: its membership, and its own way to the store.
struct Process {
    store: Arc<Faulty>,
    membership: Membership,
    views: Views,
    id: NodeId,
}

impl Process {
    async fn start(map: &Arc<MapStore>, name: &str, random: &Random) -> Self {
        let store = Arc::new(Faulty::new(map.clone()));
        let membership = join(store.clone(), name, random).await.unwrap();
        let views = membership.views();
        let id = views.now().me();
        Self { store, membership, views, id }
    }

    /// Ends it like `kill -9`.
    fn kill(self) -> Views {
        self.store.set(Mode::Cut);
        drop(self.membership);
        self.views
    }

    fn sees(&self) -> Vec<NodeId> {
        self.views.now().nodes().map(|(id, _)| id).collect()
    }

    /// Waits for a view for which something holds, for some leases at most.
    async fn view_with(&self, holds: impl Fn(&View) -> bool) -> Arc<View> {
        view_with(&self.views, holds).await
    }
}

async fn view_with(views: &Views, holds: impl Fn(&View) -> bool) -> Arc<View> {
    let wait = async {
        let mut view = views.now();
        while !holds(&view) {
            view = views.beyond(view.version()).await;
        }
        view
    };
    tokio::time::timeout(LEASE * 10, wait).await.expect("no such view comes")
}

async fn join(store: Arc<dyn Store>, name: &str, random: &Random) -> Result<Membership, JoinError> {
    let myself = Myself {
        name: name.to_owned(),
        peer_address: ([127, 0, 0, 1], 7_000).into(),
        client_address: format!("{name}.example:7777"),
    };
    let clock = Clock::starting_at(1);
    let metrics = Arc::new(Metrics::new());
    Membership::join(myself, store, clock, random, metrics, MembershipSettings::default()).await
}

async fn three(map: &Arc<MapStore>) -> [Process; 3] {
    let random = Random::seeded(1);
    let a = Process::start(map, "a", &random).await;
    let b = Process::start(map, "b", &random).await;
    let c = Process::start(map, "c", &random).await;
    for process in [&a, &b, &c] {
        process.view_with(|view| view.nodes().count() == 3).await;
    }
    [a, b, c]
}

async fn is_recorded(map: &MapStore, node: NodeId) -> bool {
    map.get(keys::node(node)).await.unwrap().is_some()
}

#[tokio::test(start_paused = true)]
async fn who_joins_is_seen_by_all_and_all_agree_who_owns_what() {
    let map = Arc::new(MapStore::default());
    let [a, b, c] = three(&map).await;
    for key in 0..100 {
        let owner = |process: &Process| process.views.now().ring().owner(&[key; 16]);
        assert!(owner(&a).is_some());
        assert!(owner(&a) == owner(&b) && owner(&b) == owner(&c));
    }
    let view = b.views.now();
    let node = view.node(a.id).unwrap();
    assert_eq!((&*node.name, &*node.client_address), ("a", "a.example:7777"));
    assert!([a, b, c].iter().all(|process| process.views.is_serving()));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_killed_is_declared_dead_in_time() {
    let map = Arc::new(MapStore::default());
    let [a, b, c] = three(&map).await;
    let before = b.views.now();
    let killed = Instant::now();
    let (dead, views) = (a.id, a.kill());
    let after = b.view_with(|view| view.node(dead).is_none()).await;
    // The promise, with the clock's resolution.
    assert!(killed.elapsed() <= LEASE * 5 / 4 + Duration::from_millis(10));
    assert_eq!(after.changes_since(&before), [Change::Died(dead)]);
    c.view_with(|view| view.node(dead).is_none()).await;
    assert!(!views.is_serving(), "what is left of it doesn't serve either");
    assert!(b.views.is_serving() && c.views.is_serving());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_declared_dead_when_the_store_is_away_for_all() {
    for mode in [Mode::Away, Mode::Silent] {
        let map = Arc::new(MapStore::default());
        let processes = three(&map).await;
        for process in &processes {
            process.store.set(mode);
        }
        for process in &processes {
            process.view_with(|view| view.standing() == Standing::Suspended).await;
        }
        sleep(LEASE * 5).await;
        for process in &processes {
            process.store.set(Mode::Fine);
            // Not all at once: the first must be patient with the last.
            sleep(LEASE / 8).await;
        }
        for process in &processes {
            process.view_with(|view| view.standing() == Standing::Serving).await;
        }
        sleep(LEASE * 2).await;
        for process in &processes {
            assert_eq!(process.sees().len(), 3, "{mode:?}");
            assert!(process.views.is_serving());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_loses_the_store_suspends_itself_before_it_is_declared_dead() {
    for mode in [Mode::Away, Mode::Silent] {
        let map = Arc::new(MapStore::default());
        let [a, b, c] = three(&map).await;
        a.store.set(mode);
        while is_recorded(&map, a.id).await {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(!a.views.is_serving(), "suspended no later than the others declare it dead");
        a.view_with(|view| view.standing() == Standing::Suspended).await;
        b.view_with(|view| view.node(a.id).is_none()).await;
        c.view_with(|view| view.node(a.id).is_none()).await;
        assert_eq!(a.views.now().standing(), Standing::Suspended);
        a.store.set(Mode::Fine);
        let view = a.view_with(|view| view.standing() == Standing::Fenced).await;
        assert!(view.node(a.id).is_none());
        // For good.
        sleep(LEASE * 3).await;
        assert_eq!(a.views.now().standing(), Standing::Fenced);
        assert!(!is_recorded(&map, a.id).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_absence_of_the_store_disturbs_nobody() {
    let map = Arc::new(MapStore::default());
    let [a, b, c] = three(&map).await;
    for _ in 0..20 {
        a.store.set(Mode::Away);
        sleep(LEASE / 2).await;
        a.store.set(Mode::Fine);
        sleep(LEASE / 3).await;
        for process in [&a, &b, &c] {
            assert!(process.views.is_serving());
            assert_eq!(process.sees().len(), 3);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn renewals_with_unknown_outcomes_are_read_back() {
    for mode in [Mode::UnknownDone, Mode::UnknownNotDone, Mode::Late(LEASE * 5 / 8)] {
        let map = Arc::new(MapStore::default());
        let [a, b, _c] = three(&map).await;
        a.store.set(mode);
        sleep(LEASE / 2).await;
        let is_kept_alive = mode == Mode::UnknownDone;
        if is_kept_alive {
            sleep(LEASE * 5).await;
            assert!(a.views.is_serving());
        }
        a.store.set(Mode::Fine);
        sleep(LEASE * 5).await;
        assert!(a.views.is_serving(), "{mode:?}");
        assert!(b.sees().contains(&a.id));
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_that_declare_a_node_dead_one_does() {
    let map = Arc::new(MapStore::default());
    let [a, b, c] = three(&map).await;
    // The other one does it between this one's look and its commit.
    let dead = keys::node(a.id);
    let id = a.id;
    a.kill();
    b.view_with(|view| view.node(id).is_none()).await;
    c.view_with(|view| view.node(id).is_none()).await;
    assert_eq!(map.get(dead).await.unwrap(), None);
    assert!(b.views.is_serving() && c.views.is_serving());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_renews_at_the_last_moment_stays() {
    let map = Arc::new(MapStore::default());
    let [a, b, c] = three(&map).await;
    // Its renewals take so long that each comes just before the record would be deleted.
    a.store.set(Mode::Late(LEASE * 3 / 8));
    sleep(LEASE * 10).await;
    for process in [&b, &c] {
        assert!(process.sees().contains(&a.id));
    }
    assert_ne!(a.views.now().standing(), Standing::Fenced);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_is_gone_at_once() {
    let map = Arc::new(MapStore::default());
    let [a, b, c] = three(&map).await;
    let draining = a.membership.drain().await;
    assert!(draining.node(a.id).unwrap().draining);
    assert!(draining.ring().nodes().all(|node| node != a.id));
    let before = b.view_with(|view| view.node(a.id).is_some_and(|node| node.draining)).await;
    assert!(before.ring().nodes().all(|node| node != a.id));
    let (id, views) = (a.id, a.views.clone());
    a.membership.leave().await;
    let left = Instant::now();
    assert_eq!(views.now().standing(), Standing::Left);
    let after = b.view_with(|view| view.node(id).is_none()).await;
    assert!(left.elapsed() <= LEASE / 4 + Duration::from_millis(10));
    assert_eq!(after.changes_since(&before), [Change::Left(id)]);
    c.view_with(|view| view.node(id).is_none()).await;
    assert_eq!(map.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_started_anew_is_another() {
    let map = Arc::new(MapStore::default());
    let [a, b, _c] = three(&map).await;
    let old = a.id;
    a.kill();
    let again = Process::start(&map, "a", &Random::seeded(2)).await;
    assert_ne!(again.id, old);
    b.view_with(|view| view.node(again.id).is_some()).await;
    let view = b.view_with(|view| view.node(old).is_none()).await;
    assert_eq!(&*view.node(again.id).unwrap().name, "a");
    assert!(again.views.is_serving());
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_later_version_is_left_alone() {
    let map = Arc::new(MapStore::default());
    let strange = NodeId::new(77).unwrap();
    map.put(&keys::node(strange), &[9, 9, 9]);
    let [a, _b, _c] = three(&map).await;
    sleep(LEASE * 5).await;
    assert!(is_recorded(&map, strange).await);
    assert!(!a.sees().contains(&strange));
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_record_was_deleted_is_fenced_with_its_next_renewal() {
    let map = Arc::new(MapStore::default());
    let [a, _b, _c] = three(&map).await;
    let delete =
        Transaction { conditions: Vec::new(), mutations: vec![Mutation::Delete(keys::node(a.id))] };
    map.commit(delete).await.unwrap();
    a.view_with(|view| view.standing() == Standing::Fenced).await;
    let left = Transaction {
        conditions: vec![Condition::Absent(keys::node(a.id))],
        mutations: vec![Mutation::Put(Bytes::from_static(b"z"), Bytes::new())],
    };
    map.commit(left).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_join_that_cant_be_is_an_error() {
    let random = Random::seeded(1);
    let map = Arc::new(MapStore::default());
    let error = join(map.clone(), "not a name", &random).await.unwrap_err();
    assert!(matches!(error, JoinError::Name(_)), "{error}");
    map.fail(true);
    let error = join(map.clone(), "a", &random).await.unwrap_err();
    assert!(matches!(error, JoinError::Read(_)), "{error}");
    map.fail(false);
    let away = Arc::new(Faulty::new(map.clone()));
    away.set(Mode::UnknownNotDone);
    let error = join(away, "a", &random).await.unwrap_err();
    assert!(matches!(error, JoinError::Commit(CommitError::Unknown(_))), "{error}");
    for id in 0..NODES as u64 {
        map.put(&keys::node(NodeId::new(id + 1).unwrap()), &[9]);
    }
    let error = join(map, "a", &random).await.unwrap_err();
    assert!(matches!(error, JoinError::Full), "{error}");
}
