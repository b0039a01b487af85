//! A server, its clients, and what is done to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, rngs::StdRng};
use tern_client::{AccountId, ConversationId, DeviceId};
use tern_netsim::{
    checker::{Event, History, Record},
    journal::Reader,
    standing::Conversation,
};

use crate::{
    devices::Device,
    support::{DEADLINE, server::Server, tail, tern::Tern},
};

/// The accounts and how many devices each has. Everybody talks to everybody.
const ACCOUNTS: [(&str, usize); 4] = [("ann", 2), ("bob", 1), ("cem", 2), ("dot", 1)];
/// What the server writes stays if the test fails.
const SERVER_FLAGS: [&str; 4] = ["--admin", "off", "--log", "warn,tern_server=debug"];
/// How long the load may make no progress before the test goes on anyway.
const STALLED: Duration = Duration::from_secs(3);

pub(crate) struct World {
    server: Server,
    devices: Vec<Device>,
    history: History,
    journal: Reader,
    /// The last message that each device's application was given.
    given: BTreeMap<(DeviceId, ConversationId), u64>,
    accepted: usize,
    runs: u64,
    stalls: usize,
    pub(crate) server_kills: usize,
    pub(crate) client_kills: usize,
    // Goes last, when nobody writes to it any more.
    folder: Folder,
}

/// The folder of server, clients and journal. It stays if the test fails.
struct Folder(Option<tempfile::TempDir>);

impl Drop for Folder {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(folder) = self.0.take()
        {
            println!("what happened is in {}", folder.keep().display());
        }
    }
}

impl World {
    /// Starts a server, registers all devices, and lets them talk.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start_with(folder.path(), &SERVER_FLAGS);
        let registered = register(&server, folder.path());
        let accounts: BTreeSet<_> = registered.iter().map(|(_, account, _)| *account).collect();
        let mut history = History::default();
        for &a in &accounts {
            for &b in accounts.range(..a) {
                let conversation = ConversationId::direct(a, b).unwrap();
                history.conversations.insert(conversation, BTreeSet::from([a, b]));
            }
        }
        let mut devices = Vec::new();
        for (name, account, device) in registered {
            history.devices.insert(device, account);
            let peers = accounts.iter().copied().filter(|&peer| peer != account).collect();
            devices.push(Device::new(folder.path(), &name, (account, device), peers));
        }
        let journal = Reader::open(&folder.path().join("journal")).unwrap();
        let mut world = Self {
            server,
            devices,
            history,
            journal,
            given: BTreeMap::new(),
            accepted: 0,
            runs: 0,
            stalls: 0,
            server_kills: 0,
            client_kills: 0,
            folder: Folder(Some(folder)),
        };
        for device in 0..world.devices.len() {
            world.start_device(device);
        }
        world
    }

    fn start_device(&mut self, device: usize) {
        self.runs += 1;
        self.devices[device].start(self.runs);
    }

    /// Waits for some progress, or sometimes only for a moment, so that kills also hit what happens while
    /// server and clients come back.
    pub(crate) fn let_it_run(&mut self, rng: &mut StdRng) {
        if rng.random_bool(0.25) {
            thread::sleep(Duration::from_millis(rng.random_range(0..200)));
            return;
        }
        let wanted = self.accepted + rng.random_range(1..100);
        let mut moved = Instant::now();
        while self.accepted < wanted {
            let before = self.accepted;
            self.follow();
            if self.accepted > before {
                moved = Instant::now();
            } else if moved.elapsed() > STALLED {
                self.stalls += 1;
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Reads what the journal has got.
    fn follow(&mut self) {
        for record in self.journal.read().unwrap() {
            match &record.event {
                Event::Accepted { .. } => self.accepted += 1,
                Event::Given(entry) => {
                    self.given.insert((record.device, entry.conversation), entry.seq);
                }
                _ => {}
            }
            self.history.records.push(record);
        }
        self.server.must_run();
        for device in &mut self.devices {
            device.must_run();
        }
    }

    /// Kills the server and starts it again, at times in the middle of its start.
    pub(crate) fn kill_server(&mut self, rng: &mut StdRng) {
        self.server.process().kill();
        self.server_kills += 1;
        while rng.random_bool(0.15) {
            self.server.restart();
            thread::sleep(Duration::from_millis(rng.random_range(0..60)));
            self.server.process().kill();
            self.server_kills += 1;
        }
        self.server.restart();
        self.server.until_ready();
        // Phones learn of a new network now and then, and then try at once.
        for device in &mut self.devices {
            if rng.random_bool(0.7) {
                device.order("network");
            }
        }
    }

    /// Kills some clients at once and starts them again.
    pub(crate) fn kill_clients(&mut self, rng: &mut StdRng) {
        let some: BTreeSet<_> =
            (0..rng.random_range(1..=2)).map(|_| rng.random_range(0..self.devices.len())).collect();
        for &device in &some {
            self.devices[device].must_run();
            self.devices[device].kill();
            self.client_kills += 1;
        }
        for device in some {
            self.start_device(device);
        }
    }

    /// Lets everybody send what waits, get what waits and read it.
    pub(crate) fn settle(&mut self) {
        for device in &mut self.devices {
            device.order("settle");
            device.order("network");
        }
        let started = Instant::now();
        loop {
            self.follow();
            match self.missing() {
                None => return,
                Some(missing) if started.elapsed() > DEADLINE => {
                    panic!("not settled within {DEADLINE:?}: {missing}\n{}", self.report())
                }
                Some(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// What keeps the run from being settled.
    fn missing(&self) -> Option<String> {
        let mut heads: BTreeMap<String, u64> = BTreeMap::new();
        let mut standings = Vec::new();
        for device in &self.devices {
            let Some(standing) = device.standing() else {
                return Some(format!("{} says nothing", device.name));
            };
            for (conversation, standing) in &standing.conversations {
                let head = heads.entry(conversation.clone()).or_default();
                *head = standing.head.max(*head);
            }
            standings.push((device, standing));
        }
        for (device, standing) in standings {
            let name = &device.name;
            if !standing.is_settled {
                return Some(format!("{name} has {} waiting", standing.outbox));
            }
            for (conversation, members) in &self.history.conversations {
                if !members.contains(&device.account) {
                    continue;
                }
                let id = conversation.to_string();
                let head = heads.get(&id).copied().unwrap_or(0);
                let Conversation { held, own, foreign, delivered, read, .. } =
                    standing.conversations.get(&id).copied().unwrap_or_default();
                let given = self.given.get(&(device.device, *conversation)).copied().unwrap_or(0);
                if held < head || given < foreign || delivered < own || read < own {
                    return Some(format!(
                        "{name} in {id}: holds {held} of {head}, was given {given} of {foreign}; of \
                         {own} own, {delivered} are delivered and {read} read"
                    ));
                }
            }
        }
        None
    }

    fn report(&self) -> String {
        let mut report = format!("{}\nserver:\n{}", self.counts(), tail(&self.server.log()));
        for device in &self.devices {
            let _ = write!(
                report,
                "\n{} ({}): {:?}\n{}",
                device.name,
                device.device,
                device.standing(),
                device.said()
            );
        }
        report
    }

    /// Ends everything; answers what happened.
    pub(crate) fn finish(mut self) -> History {
        for device in &mut self.devices {
            device.finish();
        }
        let last: Vec<Record> = self.journal.read().unwrap();
        self.history.records.extend(last);
        // A line is torn by a kill alone.
        assert!(self.journal.torn() <= self.client_kills);
        assert!(
            self.server.process().child().try_wait().unwrap().is_none(),
            "the server has ended"
        );
        drop(self.folder);
        self.history
    }

    pub(crate) fn counts(&self) -> String {
        format!(
            "{} kills of the server, {} of clients, {} messages accepted, {} records, {} stalls",
            self.server_kills,
            self.client_kills,
            self.accepted,
            self.history.records.len(),
            self.stalls
        )
    }
}

fn register(server: &Server, folder: &Path) -> Vec<(String, AccountId, DeviceId)> {
    let mut all = Vec::new();
    for (name, devices) in ACCOUNTS {
        let first = Tern::register(server, &folder.join(format!("{name}-1")), name);
        let ids = |tern: &Tern| {
            let status = tern.run(&["status", "--json"]).json();
            let id = |key: &str| status[key].as_str().unwrap().to_owned();
            (id("account").parse().unwrap(), id("device").parse().unwrap())
        };
        let (account, device) = ids(&first);
        all.push((format!("{name}-1"), account, device));
        for number in 2..=devices {
            let link = first.run(&["devices", "--json", "link"]).json();
            let token = link["token"].as_str().unwrap();
            let further = Tern::new(&folder.join(format!("{name}-{number}")));
            further.try_register(server, name, &["--link", token]).good();
            let (account, device) = ids(&further);
            all.push((format!("{name}-{number}"), account, device));
        }
    }
    all
}
