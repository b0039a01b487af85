//! The cluster as one node sees it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tern_protocol::id::{AccountId, ConversationId};
use tokio::time::Instant;

use super::{NodeId, Ring};
use crate::signal::Signal;

/// A node, as its record in the store describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, which its certificate holds.
    pub name: Arc<str>,
    /// Where other nodes reach it.
    pub peer_address: SocketAddr,
    /// Where clients reach it, `HOST:PORT`; empty: not said.
    pub client_address: Arc<str>,
    /// When it started, by its own clock, milliseconds since the epoch. For display.
    pub started_ms: u64,
    /// Whether it is about to stop. It owns nothing any more, and is reachable.
    pub draining: bool,
    /// The version of its software. For display.
    pub software: Arc<str>,
    /// The highest version of the protocol between nodes that it speaks.
    pub peer_version: u16,
}

/// Whether a node may serve: own conversations, greet clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It may.
    Serving,
    /// Not now: it couldn't renew its record for a lease, so others may hold it for dead. It serves again
    /// if it can renew the record.
    Suspended,
    /// Never again in this process: others hold it for dead.
    Fenced,
    /// Never again: it has left.
    Left,
}

/// What differs between two views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A node is new.
    Joined(NodeId),
    /// A node is about to stop.
    Draining(NodeId),
    /// A node that was about to stop is gone.
    Left(NodeId),
    /// A node is gone without having said so: it was declared dead.
    Died(NodeId),
}

/// The cluster at some moment. Never changes; a new one takes its place.
#[derive(Debug, Clone)]
pub struct View {
    version: u64,
    me: NodeId,
    standing: Standing,
    nodes: BTreeMap<NodeId, Arc<Node>>,
    ring: Ring,
}

impl View {
    pub(super) fn new(me: NodeId, standing: Standing, nodes: BTreeMap<NodeId, Arc<Node>>) -> Self {
        let staying = nodes.iter().filter(|(_, node)| !node.draining).map(|(&node, _)| node);
        let mut ring = Ring::new(staying);
        if ring.nodes().next().is_none() {
            ring = Ring::new(nodes.keys().copied());
        }
        Self { version: 0, me, standing, nodes, ring }
    }

    /// Grows with each view of this node. Says nothing to other nodes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Whether this node may serve. Before it acts for others by it, see [`Views::is_serving`].
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// All nodes in order, draining ones included, and this one unless it is fenced or has left.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Arc<Node>)> {
        self.nodes.iter().map(|(&id, node)| (id, node))
    }

    /// A node; `None` if there is none with this id, any more or yet.
    pub fn node(&self, node: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&node)
    }

    /// Who owns what: the nodes that aren't draining; all of them if all are.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The owner of a conversation; `None` if there is no node. A node that is fenced or has left isn't among them.
    pub fn owner(&self, conversation: ConversationId) -> Option<NodeId> {
        self.ring.of_conversation(conversation)
    }

    /// The owner of what there is once for an account.
    pub fn owner_of_account(&self, account: AccountId) -> Option<NodeId> {
        self.ring.of_account(account)
    }

    /// What is different from an earlier view, in order of nodes.
    pub fn changes_since(&self, earlier: &Self) -> Vec<Change> {
        let mut changes: BTreeMap<NodeId, Change> = BTreeMap::new();
        for (&id, node) in &self.nodes {
            match earlier.nodes.get(&id) {
                None => drop(changes.insert(id, Change::Joined(id))),
                Some(before) if node.draining && !before.draining => {
                    changes.insert(id, Change::Draining(id));
                }
                Some(_) => {}
            }
        }
        for (&id, node) in &earlier.nodes {
            if !self.nodes.contains_key(&id) {
                let change = if node.draining { Change::Left(id) } else { Change::Died(id) };
                changes.insert(id, change);
            }
        }
        changes.into_values().collect()
    }
}

/// The views of a node, one after the other. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Views(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    present: Mutex<Present>,
    changed: Signal,
}

#[derive(Debug)]
struct Present {
    view: Arc<View>,
    /// Until when the last renewal lasts.
    good_until: Instant,
}

impl Views {
    pub(super) fn new(view: View, good_until: Instant) -> Self {
        let present = Mutex::new(Present { view: Arc::new(view), good_until });
        Self(Arc::new(Shared { present, changed: Signal::default() }))
    }

    /// The present view.
    pub fn now(&self) -> Arc<View> {
        self.present().view.clone()
    }

    /// Whether this node may serve at this very moment, by the clock. The view may say so a little longer than
    /// that, when the process was held up.
    pub fn is_serving(&self) -> bool {
        let present = self.present();
        present.view.standing == Standing::Serving && Instant::now() < present.good_until
    }

    /// Waits for a view later than that with this version. Views in between may be missed; see
    /// [`View::changes_since`].
    pub async fn beyond(&self, version: u64) -> Arc<View> {
        self.0.changed.beyond(version).await;
        self.now()
    }

    /// Shows another view if it differs from the present one.
    pub(super) fn show(&self, mut view: View, good_until: Instant) {
        let mut present = self.present();
        present.good_until = good_until;
        let is_same = present.view.standing == view.standing && present.view.nodes == view.nodes;
        if !is_same {
            view.version = present.view.version + 1;
            present.view = Arc::new(view);
            // Raised as often as there were views, so that its count is the version.
            self.0.changed.raise();
        }
    }

    /// Until when the last renewal lasts.
    pub(super) fn good_until(&self) -> Instant {
        self.present().good_until
    }

    /// Shows that the node is suspended, if it was serving and its lease is over. Says whether that was so.
    pub(super) fn expire(&self) -> bool {
        let mut present = self.present();
        let view = &present.view;
        if view.standing != Standing::Serving || Instant::now() < present.good_until {
            return false;
        }
        let version = view.version + 1;
        let suspended = View { version, standing: Standing::Suspended, ..View::clone(view) };
        present.view = Arc::new(suspended);
        self.0.changed.raise();
        true
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        // Each change of it is one assignment.
        self.0.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    pub(crate) fn node(draining: bool) -> Arc<Node> {
        Arc::new(Node {
            name: "a".into(),
            peer_address: ([127, 0, 0, 1], 1).into(),
            client_address: "a:1".into(),
            started_ms: 0,
            draining,
            software: "0".into(),
            peer_version: 1,
        })
    }

    /// The view of one node on some that serve.
    pub(crate) fn view_of(me: u64, nodes: impl IntoIterator<Item = u64>) -> Arc<View> {
        let id = |id| NodeId::new(id).unwrap();
        let nodes = nodes.into_iter().map(|node_id| (id(node_id), node(false)));
        Arc::new(View::new(id(me), Standing::Serving, nodes.collect()))
    }

    fn view(nodes: &[(u64, bool)]) -> View {
        let id = |id| NodeId::new(id).unwrap();
        let nodes = nodes.iter().map(|&(node_id, draining)| (id(node_id), node(draining)));
        View::new(id(1), Standing::Serving, nodes.collect())
    }

    #[test]
    fn changes_are_told_in_order_of_nodes() {
        let id = |id| NodeId::new(id).unwrap();
        let before = view(&[(1, false), (2, true), (4, false), (5, false)]);
        let after = view(&[(1, false), (3, false), (5, true)]);
        assert_eq!(
            after.changes_since(&before),
            [
                Change::Left(id(2)),
                Change::Joined(id(3)),
                Change::Died(id(4)),
                Change::Draining(id(5))
            ]
        );
    }

    #[test]
    fn who_drains_owns_nothing_unless_everybody_does() {
        let conversation = ConversationId::new([1; 16]);
        let some = view(&[(1, true), (2, false)]);
        assert_eq!(some.owner(conversation), NodeId::new(2));
        assert!(view(&[(1, true), (2, true)]).owner(conversation).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_that_wasnt_renewed_in_time_is_good_for_nothing() {
        let lease = Duration::from_secs(2);
        let views = Views::new(view(&[(1, false)]), Instant::now() + lease);
        assert!(views.is_serving());
        tokio::time::advance(lease).await;
        assert!(!views.is_serving());
        // The same once more, renewed: nobody is woken for it.
        views.show(view(&[(1, false)]), Instant::now() + lease);
        assert!(views.is_serving());
        assert_eq!(views.now().version(), 0);
        views.show(view(&[(1, false), (2, false)]), Instant::now() + lease);
        assert_eq!(views.beyond(0).await.version(), 1);
    }
}
