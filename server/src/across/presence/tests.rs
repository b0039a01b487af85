//! Some desks whose notes arrive when a test lets them.

use std::collections::VecDeque;

use tern_protocol::frame::PresenceState;

use super::*;
use crate::cluster::view::tests::view_of;

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn account(id: u64) -> AccountId {
    AccountId::new(id).unwrap()
}

/// Nodes 1 to n, what is on its way between them, and what each shows of accounts on other nodes.
struct World {
    states: BTreeMap<NodeId, State>,
    way: VecDeque<(NodeId, NodeId, Note)>,
    shown: BTreeMap<(NodeId, AccountId), PresenceState>,
    /// Each change of what is shown.
    history: Vec<(NodeId, AccountId, PresenceState)>,
}

impl World {
    fn of(nodes: u64) -> Self {
        let states = (1..=nodes).map(|id| (node(id), State::new(view_of(id, 1..=nodes)))).collect();
        let (shown, history) = (BTreeMap::new(), Vec::new());
        let mut world = Self { states, way: VecDeque::new(), shown, history };
        world.time_passes();
        world
    }

    /// What a node's hub says of an account.
    fn is(&mut self, at: u64, of: u64, is_online: bool, is_watched: bool) {
        let mine = Standing { is_online, last_seen_ms: 7, is_watched };
        self.with(node(at), |state| state.changed(account(of), mine));
    }

    fn with(&mut self, at: NodeId, change: impl FnOnce(&mut State)) {
        let Some(state) = self.states.get_mut(&at) else { return };
        change(state);
        for (to, note) in std::mem::take(&mut state.out) {
            self.way.push_back((at, to, note));
        }
    }

    fn arrive(&mut self) {
        while let Some((from, to, note)) = self.way.pop_front() {
            match note {
                Note::Watch { account, is_on } => {
                    self.with(to, |it| it.watch(from, account, is_on))
                }
                Note::Report(presence) => self.with(to, |it| it.report(from, presence)),
                Note::Reset => self.with(to, |it| it.reset(from, Instant::now())),
                Note::State(presence) => {
                    let key = (to, presence.account);
                    if self.shown.insert(key, presence.state) != Some(presence.state) {
                        self.history.push((to, presence.account, presence.state));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Everything that waits for time is due.
    fn time_passes(&mut self) {
        let later = Instant::now() + SETTLE + SETTLE;
        let nodes: Vec<NodeId> = self.states.keys().copied().collect();
        for at in nodes {
            self.with(at, |state| state.pass(later));
        }
        self.arrive();
    }

    /// The nodes are these from now on, for all of them.
    fn are(&mut self, nodes: &[u64]) {
        for &id in nodes {
            let view = view_of(id, nodes.iter().copied());
            self.states.entry(node(id)).or_insert_with(|| State::new(view.clone()));
            self.with(node(id), |state| state.view_changed(view, Instant::now()));
        }
        self.arrive();
    }

    fn shows(&self, at: u64, of: u64) -> Option<PresenceState> {
        self.shown.get(&(node(at), account(of))).copied()
    }
}

#[tokio::test(start_paused = true)]
async fn watchers_on_other_nodes_are_told_and_the_own_node_isnt_told_its_own() {
    let mut world = World::of(3);
    for of in 1..=20 {
        world.is(1, of, true, true);
        world.is(2, of, false, true);
        world.arrive();
        assert_eq!(world.shows(2, of), Some(PresenceState::Online));
        assert_eq!(world.shows(1, of), Some(PresenceState::Offline), "nowhere else");
        assert_eq!(world.shows(3, of), None, "nobody watches there");
        world.is(1, of, false, true);
        world.arrive();
        assert_eq!(world.shows(2, of), Some(PresenceState::Offline));
        // Who doesn't watch any more isn't told.
        world.is(2, of, false, false);
        world.arrive();
        world.is(1, of, true, true);
        world.arrive();
        assert_eq!(world.shows(2, of), Some(PresenceState::Offline));
    }
}

#[tokio::test(start_paused = true)]
async fn a_home_that_changes_makes_nobody_flicker() {
    let mut world = World::of(2);
    for of in 1..=30 {
        world.is(1, of, true, false);
        world.is(2, of, false, true);
    }
    world.arrive();
    world.history.clear();
    world.are(&[1, 2, 3]);
    world.time_passes();
    world.are(&[1, 2]);
    world.time_passes();
    assert_eq!(world.history, [], "nothing has changed but the homes");
    // And what changes is told as before.
    world.is(1, 5, false, false);
    world.arrive();
    assert_eq!(world.shows(2, 5), Some(PresenceState::Offline));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_takes_its_people_with_it_but_not_at_once() {
    let mut world = World::of(3);
    for of in 1..=30 {
        world.is(1, of, true, false);
        world.is(2, of, false, true);
    }
    world.arrive();
    world.history.clear();
    world.states.remove(&node(1));
    world.are(&[2, 3]);
    // Some of them come to another node.
    for of in 1..=10 {
        world.is(3, of, true, false);
    }
    world.arrive();
    for at in [2, 3] {
        world.with(node(at), |state| state.forget(node(1)));
    }
    world.time_passes();
    for of in 1..=30 {
        let expected = if of <= 10 { PresenceState::Online } else { PresenceState::Offline };
        assert_eq!(world.shows(2, of), Some(expected), "of {of}");
    }
    let flickered = world.history.iter().filter(|(_, of, _)| *of <= account(10));
    assert_eq!(flickered.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_is_told_again() {
    let mut world = World::of(3);
    for of in 1..=30 {
        world.is(1, of, true, false);
        world.is(2, of, false, true);
        world.is(3, of, true, false);
    }
    world.arrive();
    // These notes are lost, then the links are there again.
    for of in 1..=30 {
        world.is(1, of, false, false);
        world.is(3, of, false, false);
    }
    world.way.clear();
    world.history.clear();
    for (at, to) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
        world.with(node(at), |state| state.say_anew(node(to)));
    }
    world.arrive();
    world.time_passes();
    for of in 1..=30 {
        assert_eq!(world.shows(2, of), Some(PresenceState::Offline), "of {of}");
    }
    let came_back = world.history.iter().filter(|(.., state)| *state == PresenceState::Online);
    assert_eq!(came_back.count(), 0);
}
