//! How nodes talk: requests with answers, and notes.
//!
//! ```text
//! A ── connection that A opened ──► B    requests and notes of A; answers of B
//! A ◄── connection that B opened ── B    requests and notes of B; answers of A
//! ```
//!
//! `server/schema/peer.capnp` specifies what is said; see [`Peers`] for how to say something, and [`Handler`]
//! for who hears it.

mod message;
mod settings;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

pub use self::{
    message::{AskError, Note, Refusal, Request, Response},
    settings::{LinkSettings, OutOfBounds},
};
use super::{NodeId, Views};
use crate::{clock::Clock, metrics::Metrics, random::Random};

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
}

/// The way back to who asked. Dropped without an answer, the other node is told that it may have been done.
#[derive(Debug)]
pub struct Reply {}

impl Reply {
    /// Answers.
    pub fn send(self, answer: Result<Response, Refusal>) {
        let _ = answer;
    }
}

/// An answer to come. Dropping it doesn't take the request back.
#[derive(Debug)]
pub struct Answer {}

impl Answer {
    /// Waits for the answer, [`LinkSettings::request_timeout_ms`] at most.
    pub async fn get(self) -> Result<Response, AskError> {
        Err(AskError::NotSent)
    }
}

/// The other nodes, to be spoken to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Peers {}

impl Peers {
    /// Nobody yet; [`Links::start`] connects it.
    pub fn new(settings: LinkSettings, metrics: Arc<Metrics>) -> Result<Self, OutOfBounds> {
        settings.check()?;
        drop(metrics);
        Ok(Self {})
    }

    /// Begins a request; waits for room if too many are in flight. Requests to one node, each begun after
    /// the one before, are begun there in the same order.
    pub async fn begin(&self, node: NodeId, request: Request) -> Result<Answer, AskError> {
        let _ = (node, request);
        Err(AskError::NotSent)
    }

    /// Begins a request and waits for the answer.
    pub async fn ask(&self, node: NodeId, request: Request) -> Result<Response, AskError> {
        self.begin(node, request).await?.get().await
    }

    /// Tells a note. Never blocks: if there is no room, or no link, the note is lost, and the other node will be
    /// told to look itself ([`Handler::resync`]).
    pub fn tell(&self, node: NodeId, note: Note) {
        let _ = (node, note);
    }

    /// Waits until there is room for notes to a node, so long at most. Says whether there is; a node without a link
    /// has, since what it is told is lost anyway.
    pub async fn room(&self, node: NodeId, within: Duration) -> bool {
        let _ = (node, within);
        true
    }
}

/// What links need from outside.
pub struct LinksOutside {
    /// The network: an end point without a server configuration.
    pub endpoint: quinn::Endpoint,
    /// Who the nodes are.
    pub views: Views,
    /// For the times of certificates.
    pub clock: Clock,
    /// For jitter.
    pub random: Random,
}

/// The links of this node. They run until [`Links::stop`].
#[derive(Debug)]
pub struct Links {}

impl Links {
    /// Accepts the other nodes of the view and connects to them.
    pub fn start(outside: LinksOutside, peers: &Peers, handler: Arc<dyn Handler>) -> Self {
        let _ = (outside, peers, handler);
        Self {}
    }

    /// Ends all links: what was asked and isn't answered has an unknown outcome.
    pub async fn stop(self) {}
}
