//! Nodes, their store, their phones, and what is done to them.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, rngs::StdRng};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use tern_netsim::checker::History;
use tern_tikv_test_server::{Options, TestServer};

use crate::{
    relay::Relay,
    support::{
        load::{Folder, Load, Registered, registered},
        server::{Server, free_port},
        tail,
        tern::Tern,
    },
};

const NODES: usize = 3;
/// How many others each account talks with, around a circle.
const NEIGHBOURS: usize = 3;
/// How long it is waited for all phones to chat again after a node's death, before the test goes on anyway.
const AGAIN_WITHIN: Duration = Duration::from_secs(20);
/// It is said who took longer than this.
const LONG: Duration = Duration::from_secs(5);
/// What a node says when it ends since the others hold it for dead.
const FENCED: &str = "the other nodes hold this one for dead";

struct Node {
    server: Server,
    /// Its address for the others, and the relay that they know instead.
    address: SocketAddr,
    relay: Relay,
}

pub(crate) struct World {
    nodes: Vec<Node>,
    load: Load,
    store: TestServer,
    kills: usize,
    stops: usize,
    freezes: usize,
    partitions: usize,
    outages: usize,
    fenced: usize,
    /// How long it took after each death of a node until every phone was chatting again.
    again: Vec<Duration>,
    never_again: usize,
    // Goes last, when nobody writes to it any more.
    folder: Folder,
}

impl World {
    /// Starts a store and nodes, registers so many phones, and lets them talk.
    pub(crate) fn start(seed: u64, phones: usize) -> Self {
        let folder = Folder::new();
        let options = Options { folder: Some(folder.path().join("store")), ..Options::default() };
        let store = TestServer::start(options).unwrap();
        let pki = Pki::new(folder.path());
        let mut nodes: Vec<Node> =
            (1..=NODES).map(|number| node(folder.path(), &pki, &store, number)).collect();
        for node in &mut nodes {
            node.server.restart();
            node.server.until_ready();
        }
        let addresses: Vec<_> =
            nodes.iter().map(|node| node.server.address().to_string()).collect();
        let all = register(folder.path(), &addresses.join(","), phones);
        let order: Vec<_> = all.iter().map(|(_, account, _)| *account).collect();
        let place = |account| order.iter().position(|&it| it == account).unwrap();
        let load = Load::start(folder.path(), all.clone(), |a, b| {
            let apart = place(a).abs_diff(place(b));
            apart.min(phones - apart) <= NEIGHBOURS
        });
        // What real clusters do now and then: regions move, calls are refused, answers are lost.
        store.chaos(seed, 0.01);
        Self {
            nodes,
            load,
            store,
            kills: 0,
            stops: 0,
            freezes: 0,
            partitions: 0,
            outages: 0,
            fenced: 0,
            again: Vec::new(),
            never_again: 0,
            folder,
        }
    }

    pub(crate) fn let_it_run(&mut self, rng: &mut StdRng) {
        self.load.let_it_run(rng, || {});
        self.look_after_nodes();
    }

    /// Does something to the world.
    pub(crate) fn act(&mut self, rng: &mut StdRng) {
        match rng.random_range(0..20) {
            0..6 => self.kill_node(rng),
            6..8 => self.stop_node(rng),
            8..10 => self.freeze_node(rng),
            10..14 => self.part(rng),
            14..16 => self.store_goes(rng),
            16 => self.kill_all_but_one(rng),
            _ => self.load.kill_some(rng),
        }
        self.look_after_nodes();
    }

    /// A node that was declared dead ends by itself, and is started anew as by whoever supervises it.
    fn look_after_nodes(&mut self) {
        for node in &mut self.nodes {
            if let Some(end) = node.server.has_ended() {
                assert!(end.contains(FENCED), "a node ended: {end}");
                self.fenced += 1;
                node.server.restart();
                node.server.until_ready();
            }
        }
    }

    fn kill_node(&mut self, rng: &mut StdRng) {
        let killed = rng.random_range(0..NODES);
        // What was done before is to be over, so that it is known what the time is that it takes.
        let was_well = self.wait_for_all().is_some();
        self.nodes[killed].server.process().kill();
        self.kills += 1;
        // The others are to manage without it.
        match self.wait_for_all() {
            Some(took) if was_well => self.again.push(took),
            Some(_) => {}
            None => self.never_again += 1,
        }
        self.start_node(killed);
    }

    fn kill_all_but_one(&mut self, rng: &mut StdRng) {
        let spared = rng.random_range(0..NODES);
        for killed in (0..NODES).filter(|&node| node != spared) {
            self.nodes[killed].server.process().kill();
            self.kills += 1;
        }
        thread::sleep(Duration::from_millis(rng.random_range(0..4_000)));
        for killed in (0..NODES).filter(|&node| node != spared) {
            self.start_node(killed);
        }
    }

    fn stop_node(&mut self, rng: &mut StdRng) {
        let stopped = rng.random_range(0..NODES);
        let process = self.nodes[stopped].server.process();
        process.terminate();
        let status = process.wait("a node's stop");
        assert!(status.success(), "a node stopped with {status}");
        self.stops += 1;
        self.start_node(stopped);
    }

    /// A node does nothing for a while, as one whose machine is suspended: shorter or longer than a lease.
    fn freeze_node(&mut self, rng: &mut StdRng) {
        let frozen = rng.random_range(0..NODES);
        self.nodes[frozen].server.process().signal("-STOP");
        thread::sleep(Duration::from_millis(rng.random_range(200..6_000)));
        self.nodes[frozen].server.process().signal("-CONT");
        self.freezes += 1;
    }

    /// Two nodes don't reach each other for a while; the store, both do.
    fn part(&mut self, rng: &mut StdRng) {
        let one = rng.random_range(0..NODES);
        let other = (one + rng.random_range(1..NODES)) % NODES;
        self.set_parted(one, other, true);
        thread::sleep(Duration::from_millis(rng.random_range(200..6_000)));
        self.set_parted(one, other, false);
        self.partitions += 1;
    }

    fn set_parted(&mut self, one: usize, other: usize, is_parted: bool) {
        for (from, to) in [(one, other), (other, one)] {
            self.nodes[to].relay.cut_off(self.nodes[from].address, is_parted);
        }
    }

    /// The store is killed and comes back, or doesn't give time-stamps for a while.
    fn store_goes(&mut self, rng: &mut StdRng) {
        let pause = Duration::from_millis(rng.random_range(100..4_000));
        if rng.random_bool(0.5) {
            self.store.stop();
            thread::sleep(pause);
            self.store.start_again().unwrap();
            self.store.chaos(rng.random(), 0.01);
        } else {
            self.store.silence_oracle(true).unwrap();
            thread::sleep(pause);
            self.store.silence_oracle(false).unwrap();
        }
        self.outages += 1;
    }

    fn start_node(&mut self, node: usize) {
        self.nodes[node].server.restart();
        self.nodes[node].server.until_ready();
    }

    /// Waits until every phone has had a message accepted; answers how long that took.
    fn wait_for_all(&mut self) -> Option<Duration> {
        let since = Instant::now();
        let mut last = Vec::new();
        while since.elapsed() < AGAIN_WITHIN {
            self.load.follow();
            let silent = self.load.silent_since(since);
            if silent.is_empty() {
                let took = since.elapsed();
                if took > LONG {
                    println!("{took:?} until all were chatting again; the last: {last:?}");
                }
                return Some(took);
            }
            last = silent.into_iter().map(str::to_owned).collect();
            thread::sleep(Duration::from_millis(2));
        }
        println!("not chatting again within {AGAIN_WITHIN:?}: {last:?}");
        None
    }

    /// Lets everybody send what waits, get what waits and read it.
    pub(crate) fn settle(&mut self) {
        self.store.clear_faults();
        self.look_after_nodes();
        if let Err(error) = self.load.settle(|| {}) {
            let logs = self.nodes.iter().map(|node| tail(&node.server.log()));
            let logs = logs.collect::<Vec<_>>().join("\n\n");
            panic!("{error}\n{}\nnodes:\n{logs}{}", self.counts(), self.load.report());
        }
    }

    /// Ends everything; answers what happened.
    pub(crate) fn finish(mut self) -> History {
        let history = self.load.finish();
        for node in &mut self.nodes {
            assert_eq!(node.server.has_ended(), None);
        }
        drop(self.folder);
        history
    }

    pub(crate) fn counts(&self) -> String {
        let mut again = self.again.clone();
        again.sort_unstable();
        let at = |share: usize| again.get(again.len() * share / 100).or(again.last());
        format!(
            "{} kills of nodes, {} stops, {} freezes, {} partitions, {} outages of the store, {} nodes declared \
             dead by mistake; {}; all phones chatting again after a kill: median {:?}, 95% {:?}, worst {:?}, not \
             within {AGAIN_WITHIN:?}: {}",
            self.kills,
            self.stops,
            self.freezes,
            self.partitions,
            self.outages,
            self.fenced,
            self.load.counts(),
            at(50),
            at(95),
            again.last(),
            self.never_again,
        )
    }
}

/// The certificates: one authority for clients and nodes, which is enough for a test.
struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    ca_file: String,
}

impl Pki {
    fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let ca_file = folder.join("ca.pem");
        fs::write(&ca_file, authority.pem()).unwrap();
        Self { authority, ca_file: ca_file.display().to_string() }
    }

    /// Makes a certificate and its key; answers their files.
    fn make(&self, folder: &Path, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let certificate = CertificateParams::new(names.clone()).unwrap();
        let certificate = certificate.signed_by(&key, &self.authority).unwrap();
        let (cert_file, key_file) =
            (folder.join(format!("{}.pem", names[0])), folder.join(format!("{}.key", names[0])));
        fs::write(&cert_file, certificate.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        (cert_file.display().to_string(), key_file.display().to_string())
    }
}

fn node(folder: &Path, pki: &Pki, store: &TestServer, number: usize) -> Node {
    let name = format!("node-{number}");
    let folder = folder.join(&name);
    fs::create_dir_all(&folder).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let relay = Relay::to(address);
    let (cert_file, key_file) = pki.make(&folder, &[&name]);
    let (client_cert, client_key) = pki.make(&folder, &["127.0.0.1", "localhost"]);
    let settings = [
        ("store.kind", "tikv".to_owned()),
        ("store.pd", format!("[\"{}\"]", store.pd_address())),
        ("tls.cert_file", client_cert),
        ("tls.key_file", client_key),
        ("cluster.enabled", "true".to_owned()),
        ("cluster.name", name),
        ("cluster.listen", address.to_string()),
        ("cluster.advertise", relay.address().to_string()),
        ("cluster.ca_file", pki.ca_file.clone()),
        ("cluster.cert_file", cert_file),
        ("cluster.key_file", key_file),
        ("limits.registrations_per_address_burst", "1000000".to_owned()),
        ("drain.within_ms", "2000".to_owned()),
    ];
    let mut flags: Vec<String> =
        ["--admin", "off", "--log", "warn,tern_server=debug"].map(str::to_owned).to_vec();
    for (setting, value) in settings {
        flags.extend(["--set".to_owned(), format!("{setting}={value}")]);
    }
    Node { server: Server::stopped(&folder, &flags), address, relay }
}

fn register(folder: &Path, addresses: &str, phones: usize) -> Vec<Registered> {
    let ca = folder.join("ca.pem").display().to_string();
    let register = |number: usize| {
        let name = format!("phone{number}");
        let tern = Tern::new(&folder.join(&name));
        tern.run(&["--server", addresses, "--ca", &ca, "register", &name]).good();
        registered(&tern, &name)
    };
    (1..=phones).map(register).collect()
}
