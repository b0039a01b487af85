//! The post: news and events for devices, wherever they are connected.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tern_protocol::{
    frame::Event,
    id::{ConversationId, DeviceId},
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::told::Told;
use crate::{
    cluster::{
        NodeId, Views,
        links::{self, Note, Peers},
    },
    conversation::{Audience, News},
    hub::Hub,
    metrics::Metrics,
    route::{Route, RouteError, Routes},
};

/// Letters that wait until it is known where their devices are.
const WAITING_LETTERS: usize = 16_384;
/// Routes that are read at the same time.
const READS: usize = 256;

/// Reaches the devices that are connected, here or elsewhere. Cheap to clone.
#[derive(Clone)]
pub struct Post {
    hub: Hub,
    abroad: Option<Arc<Abroad>>,
}

impl Post {
    /// The post of a node that is alone.
    pub fn of_one(hub: Hub) -> Self {
        Self { hub, abroad: None }
    }

    /// The post of a node among others.
    pub(crate) fn of_many(hub: Hub, abroad: Arc<Abroad>) -> Self {
        Self { hub, abroad: Some(abroad) }
    }

    /// Tells an event to a device if it is connected; one that isn't misses it.
    pub fn event(&self, device: DeviceId, event: Event) {
        if !self.hub.event(device, event.clone())
            && let Some(abroad) = &self.abroad
        {
            abroad.send(device, What::Event(event));
        }
    }
}

impl Audience for Post {
    fn tell(&self, device: DeviceId, conversation: ConversationId, news: News) {
        if let Err(news) = self.hub.news(device, conversation, news)
            && let Some(abroad) = &self.abroad
        {
            abroad.send(device, What::News(conversation, news));
        }
    }
}

/// What a device that isn't connected here is to be told.
enum What {
    News(ConversationId, News),
    Event(Event),
    /// It may have missed something: its mailbox has it. With the epoch of the connection that may have missed it, if
    /// that is known: a newer one is to look.
    Look(Option<u64>),
}

impl What {
    fn into_note(self, device: DeviceId, epoch: u64) -> Note {
        match self {
            Self::News(conversation, news) => Note::News { device, epoch, conversation, news },
            Self::Event(event) => Note::Event { device, epoch, event },
            Self::Look(_) => Note::Look { device, epoch },
        }
    }
}

/// The part of the post that is for devices on other nodes.
pub(crate) struct Abroad {
    views: Views,
    peers: Peers,
    routes: Routes,
    metrics: Arc<Metrics>,
    told: Mutex<Told>,
    letters: mpsc::Sender<(DeviceId, What)>,
    /// Taken by [`Abroad::run`].
    queue: Mutex<Option<mpsc::Receiver<(DeviceId, What)>>>,
    /// Devices that may have missed something, to be sought by the store; with the epoch as in [`What::Look`]. Bounded by
    /// the devices that were told something within some seconds.
    missed: Mutex<BTreeMap<DeviceId, Option<u64>>>,
    has_missed: Notify,
}

impl Abroad {
    pub(crate) fn new(
        views: Views,
        peers: Peers,
        routes: Routes,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let (letters, queue) = mpsc::channel(WAITING_LETTERS);
        Arc::new(Self {
            views,
            peers,
            routes,
            metrics,
            told: Mutex::default(),
            letters,
            queue: Mutex::new(Some(queue)),
            missed: Mutex::default(),
            has_missed: Notify::new(),
        })
    }

    /// Sends something to a device that isn't connected here. Doesn't block.
    fn send(&self, device: DeviceId, what: What) {
        // Ready at once if memory has it.
        if let Some(Some(route)) = self.routes.remembered(device).now_or_never()
            && self.views.now().node(route.node).is_some()
        {
            self.metrics.routes_remembered.inc();
            return self.forward(device, route, what);
        }
        if self.letters.try_send((device, what)).is_err() {
            // Nobody knows any more which devices miss something, so all are to look.
            self.metrics.letters_dropped.inc();
            self.peers.resync_all();
        }
    }

    /// Some device may have missed something that went to a node where it isn't, by a connection with this epoch.
    pub(super) fn missed(&self, device: DeviceId, epoch: Option<u64>) {
        self.routes.forget(device);
        self.missed_devices().insert(device, epoch);
        self.has_missed.notify_one();
    }

    /// What was lately sent to a node may be lost. The devices that are there look when the node is told so; those that
    /// aren't any more are sought.
    pub(super) fn lost(&self, node: NodeId) {
        let devices = self.told().take(node);
        if devices.is_empty() {
            return;
        }
        tracing::debug!(%node, devices = devices.len(), "what was sent to a node may be lost");
        for &device in &devices {
            self.routes.forget(device);
        }
        self.missed_devices().extend(devices.into_iter().map(|device| (device, None)));
        self.has_missed.notify_one();
    }

    /// Finds out where devices are, and sends what waits for that; for ever.
    pub(super) async fn run(self: Arc<Self>, hub: Hub) {
        let taken = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut queue) = taken else { return };
        // What waits for the route of each device that is being sought.
        let mut waiting: BTreeMap<DeviceId, Vec<What>> = BTreeMap::new();
        let mut reads = FuturesUnordered::new();
        let mut held = 0;
        loop {
            let has_room = waiting.len() < READS && held < WAITING_LETTERS;
            let next_missed = async {
                loop {
                    let has_missed = self.has_missed.notified();
                    if let Some(missed) = self.missed_devices().pop_first() {
                        return missed;
                    }
                    has_missed.await;
                }
            };
            let (device, what) = tokio::select! {
                biased;
                Some((device, found)) = reads.next(), if !reads.is_empty() => {
                    let letters = waiting.remove(&device).unwrap_or_default();
                    held -= letters.len();
                    self.found(&hub, device, found, letters);
                    continue;
                }
                letter = queue.recv(), if has_room => match letter {
                    Some(letter) => letter,
                    None => return,
                },
                (device, epoch) = next_missed, if has_room => {
                    (device, What::Look(epoch))
                }
            };
            let letters = waiting.entry(device).or_default();
            letters.push(what);
            held += 1;
            if letters.len() == 1 {
                self.metrics.routes_read.inc();
                let routes = self.routes.clone();
                reads.push(async move { (device, routes.read(device).await) });
            }
        }
    }

    fn found(
        &self,
        hub: &Hub,
        device: DeviceId,
        found: Result<Option<Route>, RouteError>,
        letters: Vec<What>,
    ) {
        let route = match found {
            Ok(Some(route)) => route,
            // It isn't connected; when it is, it looks.
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, %device, "it isn't known where a device is");
                self.peers.resync_all();
                return;
            }
        };
        let view = self.views.now();
        for what in letters {
            if route.node == view.me() {
                // It has come meanwhile, or is about to come, and then looks.
                deliver(hub, device, what);
            } else if view.node(route.node).is_some() {
                self.forward(device, route, what);
            }
        }
    }

    fn forward(&self, device: DeviceId, route: Route, what: What) {
        if let What::Look(Some(missed)) = what
            && route.epoch <= missed
        {
            // The connection is over, and there is none after it. When there is, it looks.
            return;
        }
        let is_look = matches!(what, What::Look(_));
        let note = what.into_note(device, route.epoch);
        self.told().insert(route.node, device, Instant::now());
        match self.peers.tell(route.node, note) {
            links::Told::Sent => {}
            links::Told::InPlaceOfOthers => self.lost(route.node),
            // The node looks when there is a link again; by then the device may be elsewhere.
            links::Told::NoLink if !is_look => self.missed(device, Some(route.epoch)),
            links::Told::NoLink => {}
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        // Each change of it stands alone.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missed_devices(&self) -> std::sync::MutexGuard<'_, BTreeMap<DeviceId, Option<u64>>> {
        // Each entry stands alone.
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// To a device that is here, though it wasn't a moment ago.
fn deliver(hub: &Hub, device: DeviceId, what: What) {
    match what {
        // Of one that isn't here yet, the mailbox is still to be read.
        What::News(conversation, news) => drop(hub.news(device, conversation, news)),
        What::Event(event) => drop(hub.event(device, event)),
        What::Look(_) => {}
    }
}
