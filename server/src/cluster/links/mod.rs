//! How nodes talk: requests with answers, and notes.
//!
//! ```text
//! A ── connection that A opened ──► B    requests and notes of A; answers of B
//! A ◄── connection that B opened ── B    requests and notes of B; answers of A
//! ```
//!
//! `server/schema/peer.capnp` specifies what is said; see [`Peers`] for how to say something, and [`Handler`]
//! for who hears it.

mod accept;
mod batches;
mod code;
mod codec;
mod dial;
mod link;
mod message;
mod outbox;
mod pending;
mod settings;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinHandle,
    time::timeout,
};

use self::{
    accept::{Acceptor, Answers},
    code::Code,
    codec::Reached,
    dial::Dialler,
    link::Link,
};
pub use self::{
    message::{AskError, Note, Refusal, Request, Response},
    settings::{LinkSettings, OutOfBounds},
    tls::{PeerTls, PeerTlsError},
};
use super::{NodeId, Views};
use crate::{metrics::Metrics, random::Random};

/// The ALPN protocol id between nodes.
pub const ALPN: &[u8] = b"tern-peer/1";
/// The highest version of the protocol between nodes that this server speaks.
pub const VERSION: u16 = 1;

/// What hears other nodes.
pub trait Handler: Send + Sync + 'static {
    /// Begins what another node asks. The requests of a node are begun one after the other, in the order in which it
    /// asked; the next one waits until the future is ready, which makes the other node slow down. The
    /// answer may come later, by `reply`.
    fn request(
        &self,
        from: NodeId,
        request: Request,
        reply: Reply,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Hears a note. Must not block.
    fn note(&self, from: NodeId, note: Note);

    /// Notes of this node may have been lost: all that they could have said is to be looked up. Comes with each
    /// new connection of the node, before its first note. Must not block.
    fn resync(&self, from: NodeId);

    /// From now on notes to a node have a way. Must not block.
    fn linked(&self, to: NodeId) {
        let _ = to;
    }

    /// Notes to a node may have been lost. It will be told so itself, but what they said may be of concern elsewhere
    /// by now. Must not block.
    fn lost(&self, to: NodeId) {
        let _ = to;
    }
}

/// The way back to who asked. Dropped without an answer, the other node is told that it may have been done.
#[derive(Debug)]
pub struct Reply {
    id: u64,
    /// `None` once it is used.
    way: Option<(OwnedSemaphorePermit, Arc<Answers>)>,
}

impl Reply {
    fn new(id: u64, permit: OwnedSemaphorePermit, answers: Arc<Answers>) -> Self {
        Self { id, way: Some((permit, answers)) }
    }

    /// Answers. [`Response`] must be of the kind that its [`Request`] names; another closes the link.
    pub fn send(mut self, answer: Result<Response, Refusal>) {
        self.give(match answer {
            Ok(response) => Reached::Response(response),
            Err(refusal) => Reached::Refused(refusal),
        });
    }

    fn give(&mut self, reached: Reached) {
        if let Some((permit, answers)) = self.way.take() {
            answers.push(self.id, reached, permit);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.give(Reached::Unknown);
    }
}

/// What became of a note, as far as its sender knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is on its way.
    Sent,
    /// It is on its way, and others before it were dropped for want of room.
    InPlaceOfOthers,
    /// It was dropped, since there is no link.
    NoLink,
}

/// An answer to come: a future that is ready after [`LinkSettings::request_timeout_ms`] at most. Dropping it doesn't take
/// the request back.
#[derive(Debug)]
pub struct Answer(oneshot::Receiver<Result<Response, AskError>>);

impl Future for Answer {
    type Output = Result<Response, AskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // It isn't dropped unanswered unless the whole link is.
        let answer = Pin::new(&mut self.0).poll(context);
        answer.map(|answer| answer.unwrap_or(Err(AskError::Unknown)))
    }
}

/// The other nodes, to be spoken to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Peers(Arc<Known>);

#[derive(Debug)]
struct Known {
    settings: LinkSettings,
    metrics: Arc<Metrics>,
    links: Mutex<BTreeMap<NodeId, Arc<Link>>>,
}

impl Peers {
    /// Nobody yet; [`Links::start`] connects it.
    pub fn new(settings: LinkSettings, metrics: Arc<Metrics>) -> Result<Self, OutOfBounds> {
        settings.check()?;
        Ok(Self(Arc::new(Known { settings, metrics, links: Mutex::default() })))
    }

    /// Begins a request; waits for room if too many are in flight. Requests to one node, each begun after
    /// the one before, are begun there in the same order.
    pub async fn begin(&self, node: NodeId, request: Request) -> Result<Answer, AskError> {
        let Some(link) = self.link(node) else {
            self.0.metrics.peer_requests_not_sent.inc();
            return Err(AskError::NotSent);
        };
        link.begin(request).await.map(Answer)
    }

    /// Begins a request and waits for the answer.
    pub async fn ask(&self, node: NodeId, request: Request) -> Result<Response, AskError> {
        self.begin(node, request).await?.await
    }

    /// Tells a note. Never blocks: if there is no room, or no link, notes are lost, and the other node will be
    /// told to look itself ([`Handler::resync`]).
    pub fn tell(&self, node: NodeId, note: Note) -> Told {
        match self.link(node) {
            Some(link) => link.tell(note),
            None => {
                self.0.metrics.peer_notes_dropped.inc();
                Told::NoLink
            }
        }
    }

    /// Tells a note to every node with a link.
    pub fn tell_all(&self, note: &Note) {
        for link in self.links().values() {
            link.tell(note.clone());
        }
    }

    /// Tells every node to look itself, as if notes had been lost.
    pub fn resync_all(&self) {
        for link in self.links().values() {
            link.owe_resync();
        }
    }

    /// Waits until there is room for notes to a node, so long at most. Says whether there is; a node without a link
    /// has, since what it is told is lost anyway.
    pub async fn room(&self, node: NodeId, within: Duration) -> bool {
        match self.link(node) {
            Some(link) => link.room(within).await,
            None => true,
        }
    }

    fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.links().get(&node).cloned()
    }

    fn add(&self, node: NodeId) -> Arc<Link> {
        let link = Arc::new(Link::new(self.0.settings, self.0.metrics.clone()));
        self.links().insert(node, link.clone());
        link
    }

    fn remove(&self, node: NodeId) {
        let link = self.links().remove(&node);
        if let Some(link) = link {
            link.end(Code::NoError);
        }
    }

    fn remove_all(&self, code: Code) {
        let links = std::mem::take(&mut *self.links());
        links.values().for_each(|link| link.end(code));
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Link>>> {
        // Each entry stands alone.
        self.0.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What links need from outside.
pub struct LinksOutside {
    /// The network: an end point of this node's links alone, without a server configuration.
    pub endpoint: quinn::Endpoint,
    /// Who this node is, and whom it believes.
    pub tls: Arc<PeerTls>,
    /// Who the nodes are.
    pub views: Views,
    /// For jitter.
    pub random: Random,
}

/// The links of this node. They run until [`Links::stop`], or until this is dropped.
#[derive(Debug)]
pub struct Links {
    endpoint: quinn::Endpoint,
    peers: Peers,
    tasks: [JoinHandle<()>; 2],
}

impl Links {
    /// Accepts the other nodes of the view and connects to them.
    pub fn start(outside: LinksOutside, peers: &Peers, handler: Arc<dyn Handler>) -> Self {
        let LinksOutside { endpoint, tls, views, random } = outside;
        let settings = peers.0.settings;
        let metrics = peers.0.metrics.clone();
        endpoint.set_server_config(Some(tls.server_config(&settings)));
        let acceptor = Acceptor {
            views: views.clone(),
            handler: handler.clone(),
            settings,
            metrics: metrics.clone(),
            handshakes: Arc::new(Semaphore::new(settings.handshakes as usize)),
            guests: Mutex::default(),
        };
        let dialler =
            Dialler { endpoint: endpoint.clone(), tls, views, handler, random, settings, metrics };
        let tasks = [
            tokio::spawn(Arc::new(acceptor).run(endpoint.clone())),
            tokio::spawn(Arc::new(dialler).run(peers.clone())),
        ];
        Self { endpoint, peers: peers.clone(), tasks }
    }

    /// Ends all links: what was asked and isn't answered has an unknown outcome. Returns when the other nodes
    /// have heard it, or half a lease later.
    pub async fn stop(self) {
        self.end();
        // Whoever hasn't heard it by then finds out by itself.
        let _ = timeout(self.peers.0.settings.idle_timeout(), self.endpoint.wait_idle()).await;
    }

    fn end(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.peers.remove_all(Code::Stopping);
        self.endpoint.close(Code::Stopping.var_int(), Code::Stopping.to_string().as_bytes());
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.end();
    }
}
