//! A node among others: what concerns a device or a conversation is done where it belongs.
//!
//! ```text
//! gateway ── Owners ─┬─► the shard here, if this node owns the conversation
//!                    └─► its owner, over a link
//! shard ──── Post ───┬─► the hub, if the device is connected here
//!                    └─► the node that its route names
//! links ──── Colleague: what other nodes ask and tell
//! ```
//!
//! Nothing that these say to each other is the only witness of anything. A message is in its recipients' mailboxes
//! before anybody is told of it; who may have missed being told looks there (`looks.rs`). That is the case
//!
//! - of all devices of a node that another node tells so, since it had to drop notes or lost a link;
//! - of all devices of every node, when a node is gone: what it had accepted it may not have told;
//! - of a device that has come from another node, which may have been told what was for it;
//! - of a device that somebody sought on a node where it isn't any more.
//!
//! A node that is alone has [`Owners`] and [`Post`] that know nothing but itself.

mod colleague;
mod looks;
mod open;
mod owners;
mod post;
mod presence;
mod told;

use std::{sync::Arc, time::Duration};

use tern_protocol::{
    code::Code,
    id::{AccountId, DeviceId},
};
use tokio::{sync::watch, task::JoinHandle};

pub(crate) use self::post::Abroad;
use self::{colleague::Colleague, looks::Looks, presence::Desk};
pub use self::{
    open::{OpenError, Outside},
    owners::{BeginError, Owners, Pending, Place},
    post::Post,
};
use crate::{
    cluster::{
        Change, Membership, NodeId, Ring, Standing, View, Views,
        links::{Links, LinksOutside, Note, Peers},
    },
    conversation::Conversations,
    directory::Directory,
    hub::Hub,
    metrics::Metrics,
    random::Random,
    route::{Entry, RouteError, Routes},
    store::Store,
};

/// What one node does for all, as a key of the ring.
const FOR_ALL: &[u8; 16] = b"tern/for all\0\0\0\0";

/// How this node lives among the others.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// When devices look into their mailboxes once more after a node is gone, in milliseconds: what it had sent to
    /// the store may be carried out that much later.
    pub look_again_ms: u64,
    /// How long a node's word about who is online counts after it is gone, in milliseconds: as long as its phones
    /// take to find another node.
    pub presence_after_ms: u64,
}

/// What the parts of a node that serve devices need of the others.
pub struct Across {
    views: Views,
    peers: Peers,
    routes: Routes,
    membership: Membership,
}

/// What [`Across::start`] puts together.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Directory,
    pub(crate) conversations: Conversations,
    pub(crate) hub: Hub,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) routes: Routes,
    pub(crate) peers: Peers,
    pub(crate) membership: Membership,
    /// The part of [`Post`] that has been made before the shards, which need it.
    pub(crate) abroad: Arc<Abroad>,
}

/// The tasks of a node among others, and its links.
pub(crate) struct Running {
    tasks: Vec<JoinHandle<()>>,
    links: Links,
    /// Whether other nodes hold this one for dead.
    pub(crate) fenced: watch::Receiver<bool>,
}

impl Across {
    /// Begins to hear and speak to the other nodes.
    pub(crate) fn start(
        parts: Parts,
        outside: Outside,
        random: Random,
        settings: Settings,
    ) -> (Arc<Self>, Running) {
        let Parts {
            store,
            directory,
            conversations,
            hub,
            metrics,
            routes,
            peers,
            membership,
            abroad,
        } = parts;
        let views = membership.views();
        let looks = Looks::default();
        let desk = Arc::new(Desk::new(&views, peers.clone(), hub.clone()));
        let colleague = Arc::new(Colleague {
            views: views.clone(),
            peers: peers.clone(),
            conversations,
            directory: directory.clone(),
            hub: hub.clone(),
            abroad: abroad.clone(),
            looks: looks.clone(),
            desk: desk.clone(),
        });
        let Outside { endpoint, tls } = outside;
        let links = LinksOutside { endpoint, tls, views: views.clone(), random };
        let links = Links::start(links, &peers, colleague);
        let (fence, fenced) = watch::channel(false);
        let watcher = Watcher {
            views: views.clone(),
            hub: hub.clone(),
            abroad: abroad.clone(),
            looks: looks.clone(),
            desk: desk.clone(),
            settings,
            fence,
        };
        let looker = looks::Looker {
            looks,
            hub: hub.clone(),
            store,
            directory,
            routes: routes.clone(),
            abroad: abroad.clone(),
            metrics,
        };
        let tasks = vec![
            tokio::spawn(watcher.run()),
            tokio::spawn(looker.run()),
            tokio::spawn(abroad.run(hub)),
            tokio::spawn(desk.run()),
        ];
        let across = Arc::new(Self { views, peers, routes, membership });
        (across, Running { tasks, links, fenced })
    }

    /// A number for a new connection of a device, greater than those of all before on any node.
    pub async fn next_epoch(&self, device: DeviceId, now_ms: u64) -> Result<u64, RouteError> {
        self.routes.next_epoch(device, now_ms).await
    }

    /// Makes a device's route lead to a connection here; answers where it led before. News go there
    /// from then on, so the mailbox is to be read afterwards. The error says why the connection is to be closed.
    pub async fn enter(&self, device: DeviceId, epoch: u64) -> Result<Option<NodeId>, Code> {
        if !self.views.is_serving() {
            return Err(Code::GoingAway);
        }
        match self.routes.enter(device, epoch).await {
            Ok(Entry::Newest(before)) => {
                Ok(before.map(|route| route.node).filter(|&node| node != self.views.now().me()))
            }
            Ok(Entry::Overtaken) => Err(Code::Replaced),
            Err(error) => {
                tracing::error!(%error, %device, "a device's route isn't stored");
                Err(Code::Internal)
            }
        }
    }

    /// Tells the node where a device was connected that it is here now, once the hub has it.
    pub fn entered(&self, device: DeviceId, epoch: u64, before: NodeId) {
        // If it isn't told, it looks when it is told that it wasn't told something.
        self.peers.tell(before, Note::Replaced { device, epoch });
    }

    /// Makes a device's route lead nowhere, if it leads to this connection.
    pub async fn leave(&self, device: DeviceId, epoch: u64) {
        if let Err(error) = self.routes.leave(device, epoch).await {
            // Who seeks it here is told that it isn't.
            tracing::warn!(%error, %device, "a device's old route stays");
        }
    }

    /// Whether a device is connected to any node.
    pub async fn is_connected(&self, device: DeviceId) -> Result<bool, RouteError> {
        let route = self.routes.read(device).await?;
        Ok(route.is_some_and(|route| self.views.now().node(route.node).is_some()))
    }

    /// Tells the other nodes that an account's devices have changed.
    pub fn account_changed(&self, account: AccountId) {
        self.peers.tell_all(&Note::AccountChanged { account });
    }

    /// Whether it is for this node to do what one node does for all.
    pub fn does_for_all(&self) -> bool {
        let view = self.views.now();
        self.views.is_serving() && view.ring().owner(FOR_ALL) == Some(view.me())
    }

    /// Whether this node may serve devices now.
    pub fn is_serving(&self) -> bool {
        self.views.is_serving()
    }

    /// Where a device may go that can't stay here: the address of another node for clients, or nothing.
    pub fn elsewhere(&self, device: DeviceId) -> String {
        let view = self.views.now();
        let others = view.nodes().filter(|(id, node)| {
            *id != view.me() && !node.draining && !node.client_address.is_empty()
        });
        let ring = Ring::new(others.map(|(id, _)| id));
        let mut key = [0; 16];
        key[..8].copy_from_slice(&device.get().to_le_bytes());
        let target = ring.owner(&key).and_then(|id| view.node(id));
        target.map(|node| node.client_address.to_string()).unwrap_or_default()
    }

    /// From now on this node owns nothing new; it is still reachable for others.
    pub(crate) async fn drain(&self) {
        self.membership.drain().await;
    }

    /// Hears and speaks to nobody any more, when no device is connected.
    pub(crate) async fn hang_up(&self, running: Running) {
        for task in &running.tasks {
            task.abort();
        }
        for task in running.tasks {
            // It was cancelled, which is no failure.
            let _ = task.await;
        }
        running.links.stop().await;
        self.routes.close().await;
    }

    /// Leaves the cluster, when everything is committed.
    pub(crate) async fn leave_cluster(&self) {
        self.membership.leave().await;
    }
}

/// Follows the views.
struct Watcher {
    views: Views,
    hub: Hub,
    abroad: Arc<Abroad>,
    looks: Looks,
    desk: Arc<Desk>,
    settings: Settings,
    fence: watch::Sender<bool>,
}

impl Watcher {
    async fn run(self) {
        let mut seen = self.views.now();
        loop {
            let view = self.views.beyond(seen.version()).await;
            self.stand(view.standing());
            self.changes(&view, &seen);
            seen = view;
        }
    }

    fn stand(&self, standing: Standing) {
        if standing == Standing::Fenced {
            self.fence.send_replace(true);
        }
        if standing != Standing::Serving {
            // Others may hold this node for dead, so the devices are to go to one that isn't.
            self.hub.close_all(Code::GoingAway);
        }
    }

    fn changes(&self, view: &Arc<View>, seen: &View) {
        let changes = view.changes_since(seen);
        self.desk.view_changed(view);
        let mut is_gone = false;
        for change in changes {
            if let Change::Left(node) | Change::Died(node) = change {
                is_gone = true;
                self.abroad.lost(node);
                let (desk, after_ms) = (self.desk.clone(), self.settings.presence_after_ms);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                    desk.forget(node);
                });
            }
        }
        if is_gone {
            self.looks.all();
            let (looks, again_ms) = (self.looks.clone(), self.settings.look_again_ms);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(again_ms)).await;
                looks.all();
            });
        }
    }
}
