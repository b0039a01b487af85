//! Devices under load, and what became of what they sent.

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

use super::{DEADLINE, devices::Device, tern::Tern};

/// How long the load may make no progress before the test goes on anyway.
const STALLED: Duration = Duration::from_secs(3);

/// A device that is registered: its name, account and id.
pub(crate) type Registered = (String, AccountId, DeviceId);

/// The devices of a run and its history.
pub(crate) struct Load {
    devices: Vec<Device>,
    history: History,
    journal: Reader,
    /// The last message that each device's application was given.
    given: BTreeMap<(DeviceId, ConversationId), u64>,
    accepted: usize,
    /// When each device last heard that a message was accepted.
    last_accepted: BTreeMap<DeviceId, Instant>,
    runs: u64,
    stalls: usize,
    pub(crate) kills: usize,
}

impl Load {
    /// Starts devices whose homes are in a folder. Each account talks with those that `talk` says.
    pub(crate) fn start(
        folder: &Path,
        registered: Vec<Registered>,
        talk: impl Fn(AccountId, AccountId) -> bool,
    ) -> Self {
        let accounts: BTreeSet<_> = registered.iter().map(|(_, account, _)| *account).collect();
        let mut history = History::default();
        for &a in &accounts {
            for &b in accounts.range(..a).filter(|&&b| talk(a, b)) {
                let conversation = ConversationId::direct(a, b).unwrap();
                history.conversations.insert(conversation, BTreeSet::from([a, b]));
            }
        }
        let mut devices = Vec::new();
        for (name, account, device) in registered {
            history.devices.insert(device, account);
            let is_peer = |&peer: &AccountId| peer != account && talk(account, peer);
            let peers = accounts.iter().copied().filter(is_peer).collect();
            devices.push(Device::new(folder, &name, (account, device), peers));
        }
        let journal = Reader::open(&folder.join("journal")).unwrap();
        let mut load = Self {
            devices,
            history,
            journal,
            given: BTreeMap::new(),
            accepted: 0,
            last_accepted: BTreeMap::new(),
            runs: 0,
            stalls: 0,
            kills: 0,
        };
        for device in 0..load.devices.len() {
            load.start_device(device);
        }
        load
    }

    fn start_device(&mut self, device: usize) {
        self.runs += 1;
        self.devices[device].start(self.runs);
    }

    /// Waits for some progress, or sometimes only for a moment, so that kills also hit what happens while
    /// server and clients come back. `look` is done now and then meanwhile.
    pub(crate) fn let_it_run(&mut self, rng: &mut StdRng, mut look: impl FnMut()) {
        if rng.random_bool(0.25) {
            thread::sleep(Duration::from_millis(rng.random_range(0..200)));
            return;
        }
        let wanted = self.accepted + rng.random_range(1..100);
        let mut moved = Instant::now();
        while self.accepted < wanted {
            let before = self.accepted;
            self.follow();
            look();
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
    pub(crate) fn follow(&mut self) {
        let now = Instant::now();
        for record in self.journal.read().unwrap() {
            match &record.event {
                Event::Accepted { .. } => {
                    self.accepted += 1;
                    self.last_accepted.insert(record.device, now);
                }
                Event::Given(entry) => {
                    self.given.insert((record.device, entry.conversation), entry.seq);
                }
                _ => {}
            }
            self.history.records.push(record);
        }
        for device in &mut self.devices {
            device.must_run();
        }
    }

    /// The devices that haven't heard that a message was accepted since.
    pub(crate) fn silent_since(&self, since: Instant) -> Vec<&str> {
        let is_silent =
            |device: &&Device| self.last_accepted.get(&device.device).is_none_or(|&at| at < since);
        self.devices.iter().filter(is_silent).map(|device| &*device.name).collect()
    }

    /// Phones learn of a new network now and then, and then try at once.
    pub(crate) fn change_networks(&mut self, rng: &mut StdRng) {
        for device in &mut self.devices {
            if rng.random_bool(0.7) {
                device.order("network");
            }
        }
    }

    /// Kills some clients at once and starts them again.
    pub(crate) fn kill_some(&mut self, rng: &mut StdRng) {
        let some: BTreeSet<_> =
            (0..rng.random_range(1..=2)).map(|_| rng.random_range(0..self.devices.len())).collect();
        for &device in &some {
            self.devices[device].must_run();
            self.devices[device].kill();
            self.kills += 1;
        }
        for device in some {
            self.start_device(device);
        }
    }

    /// Lets everybody send what waits, get what waits and read it. The error says what doesn't come to an end.
    pub(crate) fn settle(&mut self, mut look: impl FnMut()) -> Result<(), String> {
        for device in &mut self.devices {
            device.order("settle");
            device.order("network");
        }
        let started = Instant::now();
        loop {
            self.follow();
            look();
            match self.missing() {
                None => return Ok(()),
                Some(missing) if started.elapsed() > DEADLINE => {
                    return Err(format!("not settled within {DEADLINE:?}: {missing}"));
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

    /// What the devices say of themselves.
    pub(crate) fn report(&self) -> String {
        let mut report = String::new();
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
        assert!(self.journal.torn() <= self.kills);
        self.history
    }

    pub(crate) fn counts(&self) -> String {
        format!(
            "{} kills of clients, {} messages accepted, {} records, {} stalls",
            self.kills,
            self.accepted,
            self.history.records.len(),
            self.stalls
        )
    }
}

/// Who a home belongs to.
pub(crate) fn registered(tern: &Tern, name: &str) -> Registered {
    let status = tern.run(&["status", "--json"]).json();
    let id = |key: &str| status[key].as_str().unwrap().to_owned();
    (name.to_owned(), id("account").parse().unwrap(), id("device").parse().unwrap())
}

/// The folder of servers, clients and journal. It stays if the test fails, or `TERN_KEEP` is set.
pub(crate) struct Folder(Option<tempfile::TempDir>);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(Some(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().unwrap().path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if (thread::panicking() || std::env::var_os("TERN_KEEP").is_some())
            && let Some(folder) = self.0.take()
        {
            println!("what happened is in {}", folder.keep().display());
        }
    }
}
