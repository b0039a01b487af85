//! Nodes in one process, over real sockets.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use rustls::{crypto::ring, pki_types::PrivateKeyDer, sign::CertifiedKey};
use tern_protocol::{
    frame::Ack,
    id::{AccountId, ConversationId, DeviceId},
};
use tokio::sync::{Mutex, mpsc};

use super::*;
use crate::{
    clock::Clock,
    cluster::{Membership, MembershipSettings, Myself},
    store::Store,
    test_store::MapStore,
};

const PATIENCE: Duration = Duration::from_secs(60);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    CertifiedIssuer::self_signed(params, key).unwrap()
}

fn tls(believes: &Authority, under: &Authority, name: &str) -> Arc<PeerTls> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = params.signed_by(&key, under).unwrap();
    let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = ring::default_provider();
    let key = CertifiedKey::from_der(vec![leaf.der().clone()], der, &provider).unwrap();
    let roots = [believes.der().clone()];
    Arc::new(PeerTls::new(&roots, key, name, Clock::system()).unwrap())
}

/// What a handler heard.
#[derive(Debug)]
enum Event {
    Asked(NodeId, Request),
    Told(u64),
    Resync,
}

/// Answers with the number in the request, when it may.
struct Recorder {
    events: mpsc::UnboundedSender<Event>,
    /// Held by a test to keep requests from being begun.
    gate: Arc<Mutex<()>>,
}

impl Handler for Recorder {
    fn request(
        &self,
        from: NodeId,
        request: Request,
        reply: Reply,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            drop(self.gate.lock().await);
            let answer = match &request {
                Request::Read { up_to: u64::MAX, .. } => None,
                Request::Read { up_to, .. } => Some(Ok(Response::Read(Ok(*up_to)))),
                Request::Members { .. } => Some(Ok(Response::Members(None))),
                Request::Ack { .. } => Some(Ok(Response::Done)),
                _ => Some(Err(Refusal::NotOwner)),
            };
            self.events.send(Event::Asked(from, request)).unwrap();
            if let Some(answer) = answer {
                reply.send(answer);
            }
        })
    }

    fn note(&self, _: NodeId, note: Note) {
        if let Note::AccountChanged { account } = note {
            self.events.send(Event::Told(account.get())).unwrap();
        }
    }

    fn resync(&self, _: NodeId) {
        self.events.send(Event::Resync).unwrap();
    }
}

struct TestNode {
    id: NodeId,
    membership: Membership,
    peers: Peers,
    _links: Links,
    events: mpsc::UnboundedReceiver<Event>,
    gate: Arc<Mutex<()>>,
    metrics: Arc<Metrics>,
}

fn settings() -> LinkSettings {
    // Busy machines mustn't break links that a test needs.
    LinkSettings {
        lease_ms: 60_000,
        requests: 8,
        request_timeout_ms: 60_000,
        retry_most_ms: 64,
        hello_timeout_ms: 2_000,
        ..LinkSettings::default()
    }
}

impl TestNode {
    async fn start(store: &Arc<dyn Store>, name: &str, tls: Arc<PeerTls>) -> Self {
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let metrics = Arc::new(Metrics::new());
        let myself = Myself {
            name: name.to_owned(),
            peer_address: endpoint.local_addr().unwrap(),
            client_address: String::new(),
        };
        let random = Random::system();
        let membership = Membership::join(
            myself,
            store.clone(),
            Clock::system(),
            &random,
            metrics.clone(),
            MembershipSettings { lease_ms: 2_000 },
        );
        let membership = membership.await.unwrap();
        let peers = Peers::new(settings(), metrics.clone()).unwrap();
        let (sender, events) = mpsc::unbounded_channel();
        let gate = Arc::new(Mutex::new(()));
        let handler = Arc::new(Recorder { events: sender, gate: gate.clone() });
        let views = membership.views();
        let outside = LinksOutside { endpoint, tls, views, random };
        let links = Links::start(outside, &peers, handler);
        let id = membership.views().now().me();
        Self { id, membership, peers, _links: links, events, gate, metrics }
    }

    async fn sees(&self, count: usize) {
        let views = self.membership.views();
        let mut view = views.now();
        while view.nodes().count() < count {
            view = views.beyond(view.version()).await;
        }
    }

    async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("nothing is heard").unwrap()
    }

    /// Asks until it is answered: a link may not be there yet.
    async fn ask(&self, node: NodeId, request: Request) -> Response {
        let ask = async {
            loop {
                match self.peers.ask(node, request.clone()).await {
                    Ok(response) => return response,
                    Err(AskError::NotSent | AskError::Unknown) => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        timeout(PATIENCE, ask).await.expect("there is no answer")
    }
}

fn conversation() -> ConversationId {
    ConversationId::new([7; 16])
}

fn read(up_to: u64) -> Request {
    Request::Read { conversation: conversation(), account: AccountId::new(1).unwrap(), up_to }
}

fn note(number: u64) -> Note {
    Note::AccountChanged { account: AccountId::new(number).unwrap() }
}

async fn two() -> (TestNode, TestNode) {
    let authority = authority();
    let store: Arc<dyn Store> = Arc::new(MapStore::default());
    let a = TestNode::start(&store, "a.tern", tls(&authority, &authority, "a.tern")).await;
    let b = TestNode::start(&store, "b.tern", tls(&authority, &authority, "b.tern")).await;
    timeout(PATIENCE, async {
        a.sees(2).await;
        b.sees(2).await
    })
    .await
    .unwrap();
    (a, b)
}

#[tokio::test]
async fn three_nodes_ask_and_tell_each_other() {
    let authority = authority();
    let store: Arc<dyn Store> = Arc::new(MapStore::default());
    let mut nodes = Vec::new();
    for name in ["a.tern", "b.tern", "c.tern"] {
        nodes.push(TestNode::start(&store, name, tls(&authority, &authority, name)).await);
    }
    for node in &nodes {
        timeout(PATIENCE, node.sees(3)).await.unwrap();
    }
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    for node in &nodes {
        for &to in ids.iter().filter(|&&id| id != node.id) {
            assert_eq!(node.ask(to, read(5)).await, Response::Read(Ok(5)));
            let members = Request::Members { conversation: conversation() };
            assert_eq!(node.ask(to, members).await, Response::Members(None));
            let device = DeviceId::new(1).unwrap();
            let ack = Ack { seq: 1, revision: 2 };
            let ack = Request::Ack { conversation: conversation(), device, ack };
            assert_eq!(node.ask(to, ack).await, Response::Done);
            let snapshot = Request::Snapshot { conversation: conversation(), device };
            let refused = node.peers.ask(to, snapshot).await;
            assert_eq!(refused, Err(AskError::Refused(Refusal::NotOwner)));
            node.peers.tell(to, note(9));
        }
    }
    for node in &mut nodes {
        let mut told = 0;
        while told < 2 {
            if let Event::Told(9) | Event::Resync = node.next().await {
                told += 1;
            }
        }
    }
}

#[tokio::test]
async fn requests_begin_in_order_and_too_many_wait() {
    let (a, mut b) = two().await;
    a.ask(b.id, read(0)).await;
    let gate = b.gate.clone();
    let shut = gate.lock().await;
    let mut answers = Vec::new();
    for number in 1..=8 {
        answers.push(a.peers.begin(b.id, read(number)).await.unwrap());
    }
    let mut ninth = std::pin::pin!(a.peers.begin(b.id, read(9)));
    assert!(ninth.as_mut().now_or_never().is_none(), "eight are in flight");
    drop(shut);
    answers.push(timeout(PATIENCE, ninth).await.unwrap().unwrap());
    for (number, answer) in (1..).zip(answers) {
        assert_eq!(answer.await, Ok(Response::Read(Ok(number))));
    }
    let mut expected = 0;
    while expected <= 9 {
        if let Event::Asked(from, Request::Read { up_to, .. }) = b.next().await {
            assert_eq!((from, up_to), (a.id, expected));
            expected += 1;
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_dropped_or_lost_is_unknown() {
    let (a, mut b) = two().await;
    a.ask(b.id, read(0)).await;
    assert_eq!(a.peers.ask(b.id, read(u64::MAX)).await, Err(AskError::Unknown));
    let gate = b.gate.clone();
    let shut = gate.lock().await;
    let answer = a.peers.begin(b.id, read(1)).await.unwrap();
    // It must have left before the connection breaks.
    let link = a.peers.link(b.id).unwrap();
    a.peers.tell(b.id, note(1));
    while !matches!(b.next().await, Event::Told(1)) {}
    assert!(link.break_connection());
    assert_eq!(answer.await, Err(AskError::Unknown));
    drop(shut);
    assert_eq!(a.ask(b.id, read(2)).await, Response::Read(Ok(2)));
}

#[tokio::test]
async fn what_was_told_arrives_or_a_resync_follows_it() {
    let (a, mut b) = two().await;
    a.ask(b.id, read(0)).await;
    let random = Random::seeded(5);
    for number in 1..3_000 {
        a.peers.tell(b.id, note(number));
        let [chance] = random.bytes::<1>();
        if chance < 3 {
            a.peers.link(b.id).unwrap().break_connection();
        } else if chance < 60 {
            tokio::task::yield_now().await;
        }
        if number % 500 == 0 {
            a.ask(b.id, read(number)).await;
        }
    }
    // A gap between two notes is allowed only where a resync stands between them.
    let end = 1_000_000;
    let (mut before, mut resyncs) = (None, 0);
    loop {
        a.peers.tell(b.id, note(end));
        match timeout(Duration::from_millis(200), b.events.recv()).await {
            Ok(Some(Event::Told(number))) if number == end => break,
            Ok(Some(Event::Told(number))) => {
                assert!(before.is_none_or(|before| number == before + 1), "{before:?} {number}");
                before = Some(number);
            }
            Ok(Some(Event::Resync)) => {
                before = None;
                resyncs += 1;
            }
            Ok(Some(Event::Asked(..))) | Err(_) => {}
            Ok(None) => panic!("the node is gone"),
        }
    }
    assert!(before.is_none_or(|before| before == 2_999), "the last notes are lost: {before:?}");
    assert!(resyncs > 1, "nothing was broken");
}

/// Whether `a` gets through to `b` while both look at one store.
async fn gets_through(a: Arc<PeerTls>, b: Arc<PeerTls>, recorded: &str) -> bool {
    let store: Arc<dyn Store> = Arc::new(MapStore::default());
    let a = TestNode::start(&store, "a.tern", a).await;
    let b = TestNode::start(&store, recorded, b).await;
    timeout(PATIENCE, async {
        a.sees(2).await;
        b.sees(2).await
    })
    .await
    .unwrap();
    let ask = async {
        loop {
            if a.peers.ask(b.id, read(1)).await.is_ok() {
                return true;
            }
            // Until some attempts have failed for certain.
            if a.metrics.peer_connects_failed.get() > 2 {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ask).await.unwrap()
}

#[tokio::test]
async fn who_isnt_under_the_authority_or_has_another_name_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let good = |name| tls(&ours, &ours, name);
    assert!(gets_through(good("a.tern"), good("b.tern"), "b.tern").await);
    // The accepting end believes in another authority, and so shows another certificate.
    assert!(!gets_through(good("a.tern"), tls(&theirs, &theirs, "b.tern"), "b.tern").await);
    // The client's certificate is under another authority.
    assert!(!gets_through(tls(&ours, &theirs, "a.tern"), good("b.tern"), "b.tern").await);
    // The accepting end isn't who the store says.
    assert!(!gets_through(good("a.tern"), good("b.tern"), "c.tern").await);
    // The client isn't who it says: its certificate is another node's.
    assert!(!gets_through(good("c.tern"), good("b.tern"), "b.tern").await);
}

/// Connects to a node by hand and says something first. Answers the code with which the node closes.
async fn say(store: &Arc<dyn Store>, to: &TestNode, tls: &PeerTls, first: Bytes) -> Option<u64> {
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let name = store.get(crate::keys::node(to.id)).await.unwrap();
    assert!(name.is_some());
    let view = to.membership.views().now();
    let node = view.node(to.id).unwrap();
    let config = tls.client_config(&settings());
    let connection = endpoint.connect_with(config, node.peer_address, &node.name).unwrap();
    let connection = connection.await.unwrap();
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&first).await.unwrap();
    match timeout(PATIENCE, connection.closed()).await.unwrap() {
        quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
        _ => None,
    }
}

#[tokio::test]
async fn what_breaks_the_rules_is_closed_with_a_code_and_harms_nobody_else() {
    let authority = authority();
    let store: Arc<dyn Store> = Arc::new(MapStore::default());
    let a = TestNode::start(&store, "a.tern", tls(&authority, &authority, "a.tern")).await;
    let b = TestNode::start(&store, "b.tern", tls(&authority, &authority, "b.tern")).await;
    timeout(PATIENCE, async {
        a.sees(2).await;
        b.sees(2).await
    })
    .await
    .unwrap();
    let mine = tls(&authority, &authority, "a.tern");
    let hello = |node: u64, name: &str, to: NodeId| {
        let mut bytes = bytes::BytesMut::new();
        let node = NodeId::new(node).unwrap();
        let hello = codec::Hello { version: 1, node, name: name.to_owned(), to };
        codec::encode_into(&codec::Batch::Hello(hello), 0, &mut bytes);
        bytes.freeze()
    };
    let mut too_large = vec![0; 4];
    too_large.extend(10_000_u32.to_le_bytes());
    for (first, code) in [
        (Bytes::from_static(&[0xff; 64]), Code::Malformed),
        (Bytes::from_static(&[0, 0, 0, 0, 1, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]), Code::Malformed),
        (too_large.into(), Code::TooLarge),
        (hello(a.id.get(), "a.tern", NodeId::new(5).unwrap()), Code::WrongNode),
        (hello(a.id.get(), "b.tern", b.id), Code::WrongName),
        (hello(5, "a.tern", b.id), Code::UnknownNode),
    ] {
        assert_eq!(say(&store, &b, &mine, first).await, Some(code as u64), "{code}");
    }
    assert_eq!(a.ask(b.id, read(3)).await, Response::Read(Ok(3)));
}
