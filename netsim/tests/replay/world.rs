//! Ann, Bob, a server, and the attacker, in virtual time.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tern_client::{
    AccountId, Client, ClientEvent, ConnectionState, ConversationId, Events, Identity,
    PresenceState, Settings,
};
use tern_netsim::{
    app::{App, Recorder},
    checker::{self, Event, History, Progress, Record},
    link::LinkSettings,
    sim::{Access, Attacker, Credentials, Net, Phone, Recorded, SERVER_PORT, ServerHost},
};
use tern_server::config::Config;
use tokio::{sync::mpsc, task::JoinHandle};

/// What all applications record, in one order.
#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Vec<Record>>>);

impl Recorder for Tape {
    fn record(&mut self, record: Record) -> io::Result<()> {
        self.0.lock().unwrap().push(record);
        Ok(())
    }
}

/// What a user is shown beside messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Of the other.
    pub(crate) presence: Vec<PresenceState>,
    /// How often a connection was made.
    pub(crate) connected: usize,
    /// How often the connection was lost or ended, or an attempt failed.
    pub(crate) waited: usize,
    /// Receipts of the other.
    pub(crate) receipts: usize,
}

impl Shown {
    /// What came after an earlier state.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            presence: self.presence[before.presence.len()..].to_vec(),
            connected: self.connected - before.connected,
            waited: self.waited - before.waited,
            receipts: self.receipts - before.receipts,
        }
    }
}

pub(crate) struct Person {
    phone: Phone,
    identity: Identity,
    peer: Option<AccountId>,
    starts: u64,
    tape: Tape,
    shown: Arc<Mutex<Shown>>,
    running: Option<(Client, mpsc::UnboundedSender<Order>, JoinHandle<()>)>,
}

enum Order {
    Send,
    End,
}

impl Person {
    async fn register(
        world: (&Net, &Credentials, std::net::SocketAddr),
        tape: &Tape,
        name: &str,
        access: &Access,
    ) -> Self {
        let (net, credentials, server) = world;
        let host = net.add_host(access).unwrap();
        let settings = Arc::new(Settings::default);
        let mut phone = Phone::new(net, host, credentials, name, 1, settings);
        let (client, events) = phone.start().await.unwrap();
        let identity = phone.register(&client, name, server, credentials).await.unwrap();
        client.shutdown().await;
        drop((client, events));
        let (tape, shown) = (tape.clone(), Arc::default());
        Self { phone, identity, peer: None, starts: 0, tape, shown, running: None }
    }

    async fn start(&mut self) {
        self.starts += 1;
        let (client, events) = self.phone.start().await.unwrap();
        let run = self.identity.device.get() << 8 | self.starts;
        let peers = self.peer.into_iter().collect();
        let app = App::start(client.clone(), self.tape.clone(), run, peers).await.unwrap();
        client.watch(self.peer.into_iter().collect::<Vec<_>>()).await;
        client.connect();
        let (orders, receiver) = mpsc::unbounded_channel();
        let task = tokio::spawn(screen(app, events, receiver, self.peer, self.shown.clone()));
        self.running = Some((client, orders, task));
    }

    fn client(&self) -> &Client {
        &self.running.as_ref().unwrap().0
    }

    pub(crate) fn shown(&self) -> Shown {
        self.shown.lock().unwrap().clone()
    }

    /// How many messages its application was given.
    pub(crate) fn given(&self) -> usize {
        let records = self.tape.0.lock().unwrap();
        let own = records.iter().filter(|record| record.device == self.identity.device);
        own.filter(|record| matches!(record.event, Event::Given(_))).count()
    }

    fn send(&self) {
        let (_, orders, _) = self.running.as_ref().unwrap();
        orders.send(Order::Send).unwrap();
    }

    async fn end(&mut self) {
        let (client, orders, task) = self.running.take().unwrap();
        client.shutdown().await;
        orders.send(Order::End).unwrap();
        task.await.unwrap();
    }

    async fn kill(&mut self) {
        let (client, _, task) = self.running.take().unwrap();
        task.abort();
        self.phone.kill(client);
        let _ = task.await;
    }
}

/// The application: it does what it is told, takes what comes, and reads all of it.
async fn screen(
    mut app: App<Tape>,
    mut events: Events,
    mut orders: mpsc::UnboundedReceiver<Order>,
    peer: Option<AccountId>,
    shown: Arc<Mutex<Shown>>,
) {
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Send) => app.send_to(0, 0).await.unwrap(),
                Some(Order::End) => {
                    while let Some(event) = events.try_next() {
                        app.take(event, false).await.unwrap();
                    }
                    return app.record_store().await.unwrap();
                }
                None => return,
            },
            event = events.next() => {
                let event = event.unwrap();
                match &event {
                    ClientEvent::Presence { state, .. } => {
                        shown.lock().unwrap().presence.push(*state);
                    }
                    ClientEvent::Connection(ConnectionState::Connected) => {
                        shown.lock().unwrap().connected += 1;
                    }
                    ClientEvent::Connection(ConnectionState::Connecting) => {}
                    ClientEvent::Connection(_) => shown.lock().unwrap().waited += 1,
                    ClientEvent::Receipt { account, .. } if Some(*account) == peer => shown.lock().unwrap().receipts += 1,
                    _ => {}
                }
                app.take(event, true).await.unwrap();
            }
        }
    }
}

/// What the server of now has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) handshakes: u64,
    /// Hellos welcomed for a ticket.
    pub(crate) tickets: u64,
    /// Sends answered as accepted, repeats included.
    pub(crate) accepted: u64,
    /// 0-RTT connections whose handshake was completed.
    pub(crate) early_data: u64,
    /// Devices signed in now.
    pub(crate) sessions: i64,
}

pub(crate) struct World {
    pub(crate) net: Net,
    server: ServerHost,
    pub(crate) ann: Person,
    pub(crate) bob: Person,
    pub(crate) attacker: Attacker,
    tape: Tape,
    sent: usize,
    /// The folder goes with it, so it goes last.
    _credentials: Credentials,
}

fn access(delay_ms: f64) -> Access {
    let link = LinkSettings { delay_ms, ..LinkSettings::default() };
    Access { up: link.clone(), down: link, router_forgets_after: None }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl World {
    /// Both are connected and have written to each other. Ann is 50 ms from the server, the attacker 1 ms.
    pub(crate) async fn new() -> Self {
        let net = Net::new(1);
        let credentials = Credentials::new(1).unwrap();
        let host = net.add_host(&Access::default()).unwrap();
        let mut server = ServerHost::new(&net, host, &credentials, Config::default(), 1);
        server.start().await.unwrap();
        let address = net.address(host, SERVER_PORT).unwrap();
        let tape = Tape::default();
        let shared = (&net, &credentials, address);
        let mut ann = Person::register(shared, &tape, "ann", &access(50.0)).await;
        let mut bob = Person::register(shared, &tape, "bob", &access(10.0)).await;
        ann.peer = Some(bob.identity.account);
        bob.peer = Some(ann.identity.account);
        ann.start().await;
        bob.start().await;
        let attacker = Attacker::new(&net, &access(1.0)).unwrap();
        let mut world =
            Self { net, server, ann, bob, attacker, tape, sent: 0, _credentials: credentials };
        world.talk().await;
        // They were strangers before, of whom nothing is told.
        for person in [&world.ann, &world.bob] {
            person.client().watch(person.peer.into_iter().collect::<Vec<_>>()).await;
        }
        tokio::time::sleep(seconds(5)).await;
        world
    }

    pub(crate) fn counts(&self) -> Counts {
        let metrics = self.server.server().unwrap().metrics();
        Counts {
            handshakes: metrics.handshakes.get(),
            tickets: metrics.sign_ins_by_ticket.get(),
            accepted: metrics.sends_accepted.get(),
            early_data: metrics.early_data.get(),
            sessions: metrics.sessions.get(),
        }
    }

    /// Each writes to the other, and it arrives.
    async fn talk(&mut self) {
        let (ann, bob) = (self.ann.given(), self.bob.given());
        self.ann.send();
        self.bob.send();
        self.sent += 2;
        tokio::time::sleep(seconds(5)).await;
        assert_eq!((self.ann.given(), self.bob.given()), (ann + 1, bob + 1));
    }

    /// Ann has no network for so long that her connection is dead.
    pub(crate) async fn leave(&mut self) {
        let host = self.ann.phone.host();
        let path = self.net.current_path(host).unwrap();
        self.net.open_path(host, path, false);
        self.net.use_path(host, None);
        tokio::time::sleep(seconds(60)).await;
        assert_eq!(self.bob.shown().presence.last(), Some(&PresenceState::Offline));
    }

    /// Ann has a network again and something to say; what she sends is recorded.
    pub(crate) async fn come_back(&mut self) {
        self.ann.send();
        self.sent += 1;
        // The message is in her outbox before she connects.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let host = self.ann.phone.host();
        let path = self.net.add_path(host, &access(50.0)).unwrap();
        self.net.tap(host);
        self.net.use_path(host, Some(path));
        self.ann.client().network_changed().await;
    }

    /// What Ann has sent since she came back.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        let recorded = self.net.untap(self.ann.phone.host());
        assert!(recorded.iter().all(|datagram| datagram.at == recorded[0].at), "one flight");
        assert!(!recorded.is_empty());
        recorded
    }

    /// Ann has resumed, with a message in the first flight, which is returned.
    pub(crate) async fn resume(&mut self) -> Vec<Recorded> {
        self.leave().await;
        let before = self.counts();
        self.come_back().await;
        tokio::time::sleep(Duration::from_millis(80)).await;
        let flight = self.recorded();
        let taken = self.counts();
        assert_eq!(taken.accepted, before.accepted + 1, "it came with the first flight");
        tokio::time::sleep(seconds(5)).await;
        assert_eq!(self.counts().early_data, before.early_data + 1);
        flight
    }

    /// Whether what Ann sends vanishes.
    pub(crate) fn lose_what_ann_sends(&self, lose: bool) {
        self.net.black_hole(self.ann.phone.host(), lose);
    }

    /// Ann's process is killed and started: it knows its ticket, but no TLS session.
    pub(crate) async fn restart_ann(&mut self) {
        self.ann.kill().await;
        self.ann.start().await;
    }

    /// The server stops and starts, and everybody is there again.
    pub(crate) async fn restart_server(&mut self) {
        self.server.stop();
        self.server.start().await.unwrap();
        tokio::time::sleep(seconds(60)).await;
        assert_eq!(self.counts().sessions, 2);
    }

    /// The recorded flight is sent again while Ann is connected, and nobody notices.
    pub(crate) async fn replay_unnoticed(&mut self, flight: &[Recorded]) {
        let (ann, bob) = (self.ann.shown(), self.bob.shown());
        let given = (self.ann.given(), self.bob.given());
        self.attacker.replay(flight).unwrap();
        // Longer than any time-out of a connection that is never completed.
        tokio::time::sleep(seconds(60)).await;
        assert_eq!(self.ann.shown(), ann);
        assert_eq!(self.bob.shown(), bob);
        assert_eq!((self.ann.given(), self.bob.given()), given);
    }

    /// Ann gets her connection in spite of what was replayed, once, and Bob sees her once; `before` is what
    /// they were shown before.
    pub(crate) async fn ann_gets_through(&mut self, (ann, bob): (Shown, Shown)) {
        // An attempt that gets no answer is given up after 10 s, and another begins.
        tokio::time::sleep(seconds(60)).await;
        let since = self.ann.shown().since(&ann);
        assert_eq!(since.connected, 1, "{since:?}");
        let since = self.bob.shown().since(&bob);
        assert_eq!((since.connected, since.waited), (0, 0), "{since:?}");
        assert_eq!(since.presence, [PresenceState::Online]);
    }

    /// What both were shown so far.
    pub(crate) fn shown(&self) -> (Shown, Shown) {
        (self.ann.shown(), self.bob.shown())
    }

    /// Both go on, and everything was given once, in order, to whom it was for.
    pub(crate) async fn judge(mut self) {
        self.talk().await;
        let counts = self.counts();
        assert_eq!(counts.sessions, 2);
        // What a server says before an address is validated is bounded, or it would be a weapon.
        let heard: usize = self.attacker.heard().iter().map(Vec::len).sum();
        assert!(heard as u64 <= 3 * self.attacker.sent_bytes(), "{heard}");
        self.ann.end().await;
        self.bob.end().await;
        let people = [&self.ann, &self.bob].map(|person| &person.identity);
        let [ann, bob] = people.map(|identity| identity.account);
        let conversation = ConversationId::direct(ann, bob).unwrap();
        let history = History {
            devices: people.map(|identity| (identity.device, identity.account)).into(),
            conversations: [(conversation, [ann, bob].into())].into(),
            records: std::mem::take(&mut *self.tape.0.lock().unwrap()),
        };
        let verdict = checker::check(&history, Progress::Settled);
        assert!(verdict.is_good(), "{verdict}");
        assert_eq!((verdict.messages, verdict.deliveries), (self.sent, self.sent));
    }
}
