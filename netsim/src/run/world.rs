//! The world of a run and what happens to it.

mod bounds;

use std::{collections::BTreeMap, time::Duration};

use tern_client::{AccountId, ConversationId, PresenceState};
use tern_server::config::Config;

use super::{
    Options, RunError, Watch,
    device::{Device, Shared},
    memory::Meter,
    news::News,
    outcome::{self, ConnectionChange, Happened, Outcome, PhoneTraffic, Seen},
    tape::Tape,
};
use crate::{
    checker::{
        self, Event, History, Progress,
        presence::{self, Absence, Sight},
    },
    link::LinkSettings,
    scenario::{Scenario, Step, Timeline},
    sim::{Access, Credentials, DiskSettings, Net, PathId, SERVER_PORT, ServerHost, Traffic},
    standing::Conversation,
};

/// Why somebody can't be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    NoNetwork,
    BlackHole,
    Dead,
}

/// How long the phones may take to connect before the load begins.
const CONNECT_WITHIN: Duration = Duration::from_secs(60);
/// How long the server may take to notice that everybody has left.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often to look whether everything has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The links of every phone when it is to settle.
const GOOD_MS: f64 = 20.0;

pub(super) async fn run(
    scenario: &Scenario,
    options: Options,
    watch: &Watch,
) -> Result<Outcome, RunError> {
    let mut world = World::build(scenario, options, watch).await?;
    world.load().await?;
    world.heal().await?;
    let unsettled = world.settle().await?;
    world.finish(unsettled).await
}

struct World<'a> {
    scenario: &'a Scenario,
    options: Options,
    watch: &'a Watch,
    net: Net,
    server: ServerHost,
    devices: Vec<Device>,
    /// The path that each phone has left for another, which is closed when they no longer overlap.
    old_paths: Vec<Option<PathId>>,
    /// The path that each phone has lost without having another.
    lost_paths: Vec<Option<PathId>>,
    /// The links that each phone has.
    links: Vec<(LinkSettings, LinkSettings)>,
    /// How long the server's news may take on the worst links so far.
    told_within: Duration,
    conversations: BTreeMap<ConversationId, (usize, (AccountId, AccountId))>,
    tape: Tape,
    news: News,
    begun: Duration,
    happened: Vec<(Duration, Option<usize>, String)>,
    /// Who can't be reached at present, by why, and since when; `None` is the server.
    away: BTreeMap<(Option<usize>, Why), Duration>,
    absences: Vec<Absence>,
    meter: Meter,
    traffic: Vec<(Traffic, Traffic)>,
    /// The folder of the run goes with it, so it goes last.
    _credentials: Credentials,
}

impl<'a> World<'a> {
    async fn build(
        scenario: &'a Scenario,
        options: Options,
        watch: &'a Watch,
    ) -> Result<Self, RunError> {
        let seed = options.seed;
        let net = Net::new(seed);
        let credentials = Credentials::new(seed).map_err(RunError::Io)?;
        let server_host = net.add_host(&Access::default())?;
        let mut config = Config::default();
        // All phones of the hub write through one device.
        config.limits.messages_per_device_per_second = 1_000;
        config.single_stream = scenario.client.single_stream.unwrap_or(false);
        let mut server = ServerHost::new(&net, server_host, &credentials, config, seed);
        server.start().await?;
        if let Some(fault) = options.plant {
            server.disk().plant(fault);
        }
        let address = net.address(server_host, SERVER_PORT);
        let address = address.ok_or_else(|| RunError::Io(std::io::Error::other("no address")))?;
        let (tape, news) = (Tape::new(&net), News::new(&net));
        let shared = Shared {
            net: &net,
            credentials: &credentials,
            server: address,
            seed,
            tape: &tape,
            news: &news,
            client: &scenario.client,
            plant: options.plant,
        };
        let access = scenario.path().map_err(RunError::Scenario)?;
        let good = Access { up: good(), down: good(), ..access.clone() };
        let mut devices = Vec::new();
        for number in 0..scenario.phones.count {
            let host = net.add_host(&good)?;
            let active = number < scenario.phones.count - scenario.phones.inactive;
            let device = Device::register(&shared, number, host, active, scenario.load.read);
            devices.push(device.await?);
        }
        let mut conversations = BTreeMap::new();
        let mut peers = vec![Vec::new(); devices.len()];
        for (number, (one, other)) in scenario.conversations().into_iter().enumerate() {
            let accounts = (devices[one].account, devices[other].account);
            if let Some(id) = ConversationId::direct(accounts.0, accounts.1) {
                conversations.insert(id, (number, accounts));
            }
            peers[one].push((other, accounts.1));
            peers[other].push((one, accounts.0));
        }
        for (device, peers) in devices.iter_mut().zip(&peers) {
            device.set_peers(peers);
            device.start().await?;
        }
        let deadline = net.now() + CONNECT_WITHIN;
        while news.ever_connected() < devices.len() {
            if net.now() > deadline {
                return Err(RunError::NeverConnected);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let mut traffic = Vec::new();
        for device in &devices {
            let host = device.host();
            if let Some(path) = net.current_path(host) {
                net.change_path(host, path, access.up.clone(), access.down.clone())?;
            }
            traffic.push((net.traffic(host), Traffic::default()));
        }
        Ok(Self {
            scenario,
            options,
            watch,
            server,
            old_paths: vec![None; devices.len()],
            lost_paths: vec![None; devices.len()],
            told_within: told_within(&access.up, &access.down),
            links: vec![(access.up, access.down); devices.len()],
            devices,
            conversations,
            tape,
            news,
            begun: net.now(),
            happened: Vec::new(),
            away: BTreeMap::new(),
            absences: Vec::new(),
            meter: Meter::default(),
            traffic,
            net,
            _credentials: credentials,
        })
    }

    /// The load and the events, each at its time.
    async fn load(&mut self) -> Result<(), RunError> {
        let Timeline(steps) = Timeline::of(self.scenario).map_err(RunError::Scenario)?;
        let end = Duration::from_secs_f64(self.scenario.seconds);
        let mut steps = steps.into_iter().take_while(|(at, _)| *at < end).peekable();
        let mut messages = messages(self.scenario).peekable();
        loop {
            let step = steps.peek().map(|(at, _)| *at);
            let message = messages.peek().map(|(at, ..)| *at);
            // What happens comes before what is sent at the same moment.
            match (step, message) {
                (Some(at), message) if message.is_none_or(|message| at <= message) => {
                    self.until(at).await;
                    if let Some((_, step)) = steps.next() {
                        self.take(step).await?;
                    }
                }
                (_, Some(at)) => {
                    self.until(at).await;
                    if let Some((_, from, to)) = messages.next() {
                        self.devices[from].send(to, self.scenario.load.bytes);
                    }
                }
                (None, None) => break,
                (Some(_), None) => {}
            }
            for device in &mut self.devices {
                device.check().await?;
            }
        }
        self.until(end).await;
        for (device, traffic) in self.devices.iter().zip(&mut self.traffic) {
            traffic.1 = self.net.traffic(device.host());
        }
        Ok(())
    }

    /// Waits, and looks at what must be bounded each second.
    async fn until(&mut self, at: Duration) {
        loop {
            let passed = self.net.now().saturating_sub(self.begun);
            self.watch.set(passed);
            let next = Duration::from_secs(passed.as_secs() + 1);
            if next > at {
                break;
            }
            tokio::time::sleep(next - passed).await;
            self.sample();
        }
        let now = self.net.now();
        tokio::time::sleep((self.begun + at).saturating_sub(now)).await;
    }

    fn happens(&mut self, phone: Option<usize>, what: &str) {
        tracing::debug!(at = ?self.net.now(), ?phone, what);
        self.happened.push((self.net.now(), phone, what.to_owned()));
    }

    /// Somebody can't be reached from now on, or can again.
    fn is_away(&mut self, phone: Option<usize>, why: Why, away: bool) {
        let now = self.net.now();
        if away {
            self.away.entry((phone, why)).or_insert(now);
        } else if let Some(from) = self.away.remove(&(phone, why)) {
            self.absences.push(Absence { phone, from, to: now });
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), RunError> {
        let told = self.scenario.client.is_told_of_networks.unwrap_or(true);
        match step {
            Step::LeaveNetwork(phone) | Step::CutOff(phone) => {
                self.happens(Some(phone), "no network");
                self.is_away(Some(phone), Why::NoNetwork, true);
                let host = self.devices[phone].host();
                if let Some(path) = self.net.current_path(host) {
                    self.lost_paths[phone] = Some(path);
                    self.net.open_path(host, path, false);
                    self.net.use_path(host, None);
                }
            }
            Step::EnterNetwork(phone, links) => {
                self.happens(Some(phone), "another network");
                self.is_away(Some(phone), Why::NoNetwork, false);
                if let Some(links) = links {
                    self.told_within = self.told_within.max(told_within(&links.0, &links.1));
                    self.links[phone] = links;
                }
                self.enter(phone)?;
                if told {
                    self.devices[phone].network_changed().await;
                }
            }
            Step::CloseOld(phone) => {
                let host = self.devices[phone].host();
                let old = self.old_paths[phone].take();
                if let Some(path) = old.filter(|&path| self.net.current_path(host) != Some(path)) {
                    self.net.open_path(host, path, false);
                }
            }
            Step::PutBack(phone) => {
                self.happens(Some(phone), "the same network again");
                self.is_away(Some(phone), Why::NoNetwork, false);
                let host = self.devices[phone].host();
                if let (Some(path), None) = (self.lost_paths[phone], self.net.current_path(host)) {
                    self.net.open_path(host, path, true);
                    self.net.use_path(host, Some(path));
                    if told {
                        self.devices[phone].network_changed().await;
                    }
                }
            }
            Step::ForgetPorts(phone) => {
                self.happens(Some(phone), "another port");
                self.net.forget_ports(self.devices[phone].host());
            }
            Step::BlackHole(phone, on) => {
                self.happens(Some(phone), if on { "black hole" } else { "black hole ends" });
                self.is_away(Some(phone), Why::BlackHole, on);
                self.net.black_hole(self.devices[phone].host(), on);
            }
            Step::Change(phone, up, down) => {
                self.happens(Some(phone), "other links");
                self.told_within = self.told_within.max(told_within(&up, &down));
                self.links[phone] = (up.clone(), down.clone());
                let host = self.devices[phone].host();
                if let Some(path) = self.net.current_path(host) {
                    self.net.change_path(host, path, up, down)?;
                }
            }
            Step::KillClient(phone) => {
                self.happens(Some(phone), "client killed");
                self.is_away(Some(phone), Why::Dead, true);
                self.devices[phone].kill().await;
            }
            Step::StartClient(phone) => {
                self.happens(Some(phone), "client started");
                self.is_away(Some(phone), Why::Dead, false);
                self.devices[phone].start().await?;
            }
            Step::KillServer => {
                self.happens(None, "server killed");
                self.is_away(None, Why::Dead, true);
                self.server.kill();
            }
            Step::StopServer => {
                self.happens(None, "server stopped");
                self.is_away(None, Why::Dead, true);
                self.server.stop();
            }
            Step::StartServer => {
                if self.server.server().is_none() {
                    self.happens(None, "server started");
                    self.is_away(None, Why::Dead, false);
                    self.server.start().await?;
                }
            }
            Step::Disk(settings) => {
                self.happens(None, &format!("disk: {settings:?}"));
                self.server.disk().set(settings);
            }
        }
        Ok(())
    }

    /// Puts a phone on a new path, with an address that nobody had.
    fn enter(&mut self, phone: usize) -> Result<(), RunError> {
        let host = self.devices[phone].host();
        let (up, down) = self.links[phone].clone();
        let access = self.scenario.path().map_err(RunError::Scenario)?;
        let path = self.net.add_path(host, &Access { up, down, ..access })?;
        if let Some(current) = self.net.current_path(host) {
            self.old_paths[phone] = Some(current);
        }
        self.net.use_path(host, Some(path));
        Ok(())
    }

    /// Everything works again, and everybody is there.
    async fn heal(&mut self) -> Result<(), RunError> {
        self.happens(None, "all is well again");
        let away: Vec<_> = self.away.keys().copied().collect();
        for (phone, why) in away {
            self.is_away(phone, why, false);
        }
        self.server.disk().set(DiskSettings::default());
        if self.server.server().is_none() {
            self.server.start().await?;
        }
        for phone in 0..self.devices.len() {
            self.links[phone] = (good(), good());
            let host = self.devices[phone].host();
            self.net.black_hole(host, false);
            match self.net.current_path(host) {
                Some(path) => self.net.change_path(host, path, good(), good())?,
                None => {
                    self.enter(phone)?;
                    self.devices[phone].network_changed().await;
                }
            }
            self.devices[phone].start().await?;
            self.devices[phone].read_all();
        }
        Ok(())
    }

    /// Waits until everything has arrived; what is missing if it takes too long.
    async fn settle(&mut self) -> Result<Option<String>, RunError> {
        let deadline = self.net.now() + Duration::from_secs_f64(self.scenario.settle_s);
        loop {
            // First, so that the applications have taken the orders of this very moment.
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(missing) = self.missing().await? else { return Ok(None) };
            if self.net.now() >= deadline {
                return Ok(Some(missing));
            }
        }
    }

    /// What hasn't arrived yet.
    async fn missing(&mut self) -> Result<Option<String>, RunError> {
        let mut standings = Vec::new();
        for device in &mut self.devices {
            device.check().await?;
            let standing = device.standing().await?;
            let Some(standing) = standing else { return Ok(Some("a phone is dead".into())) };
            if !standing.is_settled {
                return Ok(Some(format!("a phone has {} messages waiting", standing.outbox)));
            }
            standings.push((device.account, device.device, standing));
        }
        if let Some((watcher, watched)) = self.not_healed() {
            return Ok(Some(format!("p{watcher} sees p{watched} as offline")));
        }
        let mut given = BTreeMap::new();
        for (_, record) in self.tape.records().iter() {
            if let Event::Given(entry) = &record.event {
                let last = given.entry((record.device, entry.conversation)).or_insert(0);
                *last = entry.seq.max(*last);
            }
        }
        for (id, (number, accounts)) in &self.conversations {
            let of = |standing: &crate::standing::Standing| {
                standing.conversations.get(&id.to_string()).copied().unwrap_or_default()
            };
            let head = standings.iter().map(|(.., standing)| of(standing).head).max().unwrap_or(0);
            for (account, device, standing) in &standings {
                if *account != accounts.0 && *account != accounts.1 {
                    continue;
                }
                let Conversation { held, own, foreign, delivered, read, .. } = of(standing);
                let given = given.get(&(*device, *id)).copied().unwrap_or(0);
                if held < head || given < foreign || delivered < own || read < own {
                    return Ok(Some(format!(
                        "conversation {number}: a phone holds {held} of {head}, was given {given} \
                         of {foreign}; of {own} own, {delivered} are delivered and {read} read"
                    )));
                }
            }
        }
        Ok(None)
    }

    /// Who still looks offline to whom, now that everybody is there.
    fn not_healed(&self) -> Option<(usize, usize)> {
        let mut last = BTreeMap::new();
        for sight in self.sights() {
            last.insert((sight.watcher, sight.watched), sight.online);
        }
        // A client whose user doesn't look isn't online and isn't told.
        let active = self.devices.len() - self.scenario.phones.inactive;
        let offline = last
            .iter()
            .find(|((watcher, watched), online)| watcher.max(watched) < &active && !**online);
        offline.map(|((watcher, watched), _)| (*watcher, *watched))
    }

    /// What phones were told of each other.
    fn sights(&self) -> Vec<Sight> {
        let numbers: BTreeMap<_, _> =
            self.devices.iter().enumerate().map(|(number, d)| (d.account, number)).collect();
        let all = self.news.all();
        let sights = all.presence.iter().filter_map(|(at, watcher, account, state)| {
            let online = match state {
                PresenceState::Online => true,
                PresenceState::Offline => false,
                _ => return None,
            };
            let watched = *numbers.get(account)?;
            Some(Sight { at: *at, watcher: *watcher, watched, online })
        });
        sights.collect()
    }

    async fn finish(mut self, unsettled: Option<String>) -> Result<Outcome, RunError> {
        let settled = self.net.now();
        // Only if both are connected: whoever isn't there is shown as offline rightly.
        let unseen = self.not_healed().filter(|(watcher, watched)| {
            self.news.is_connected(*watcher) && self.news.is_connected(*watched)
        });
        if unsettled.is_none() {
            self.rest().await;
        }
        for device in &mut self.devices {
            device.finish().await?;
        }
        if unsettled.is_none() {
            tokio::time::sleep(FAREWELL).await;
            self.at_rest(0);
        }
        let trace_hash = self.net.trace_hash();
        self.server.stop();
        self.server.await_end().await;
        let begun = self.begun;
        let ms = |at: Duration| (at.as_secs_f64() - begun.as_secs_f64()) * 1_000.0;
        let phones: BTreeMap<_, _> =
            self.devices.iter().enumerate().map(|(number, d)| (d.device, number)).collect();
        let records = std::mem::take(&mut *self.tape.records());
        let delays = outcome::delays(
            &records,
            ms,
            |record| phones.get(&record.device).copied(),
            |id| self.conversations.get(id).map(|(number, _)| *number),
        );
        let history = History {
            devices: self.devices.iter().map(|d| (d.device, d.account)).collect(),
            conversations: self
                .conversations
                .iter()
                .map(|(id, (_, (one, other)))| (*id, [*one, *other].into()))
                .collect(),
            records: records.into_iter().map(|(_, record)| record).collect(),
        };
        let mut verdict = checker::check(&history, Progress::Settled);
        let sights = self.sights();
        verdict.violations.extend(presence::ghosts(&sights, &self.absences, self.told_within));
        let unseen = unseen.map(|(watcher, watched)| presence::unseen(watcher, watched));
        verdict.violations.extend(unseen);
        verdict.violations.extend(self.meter.violations());
        let all = std::mem::take(&mut *self.news.all());
        let (commits, syncs) = self.server.disk().counts();
        Ok(Outcome {
            about: self.scenario.about.clone(),
            seed: self.options.seed,
            trace_hash,
            kinds: verdict.kinds(),
            violations: verdict.violations.iter().map(ToString::to_string).collect(),
            presence: sights
                .into_iter()
                .map(|Sight { at, watcher, watched, online }| Seen {
                    at_ms: ms(at),
                    watcher,
                    watched,
                    online,
                })
                .collect(),
            unsettled,
            settled_ms: ms(settled),
            messages: verdict.messages,
            deliveries: verdict.deliveries,
            receipts: verdict.receipts,
            delays,
            events: self
                .happened
                .into_iter()
                .map(|(at, phone, what)| Happened { at_ms: ms(at), phone, what })
                .collect(),
            connections: all
                .connections
                .into_iter()
                .map(|(at, phone, state)| ConnectionChange { at_ms: ms(at), phone, state })
                .collect(),
            phones: self
                .traffic
                .iter()
                .enumerate()
                .map(|(phone, (before, after))| PhoneTraffic::of(phone, after.since(before)))
                .collect(),
            memory: self.meter.peaks(),
            strayed_packets: self.net.strayed(),
            commits,
            syncs,
        })
    }
}

fn good() -> LinkSettings {
    LinkSettings { delay_ms: GOOD_MS, ..LinkSettings::default() }
}

/// When which phone sends to which.
fn messages(scenario: &Scenario) -> impl Iterator<Item = (Duration, usize, usize)> {
    let conversations = scenario.conversations();
    let rate = scenario.load.messages_per_s;
    let both_ways = scenario.load.both_ways;
    let count = if conversations.is_empty() { 0.0 } else { scenario.seconds * rate };
    (0..count as usize).map(move |number| {
        let (one, other) = conversations[number % conversations.len()];
        let turn = number / conversations.len() % 2;
        let (from, to) = if both_ways && turn == 1 { (other, one) } else { (one, other) };
        (Duration::from_secs_f64(number as f64 / rate), from, to)
    })
}

/// How long the server's news may take to a phone with these links.
fn told_within(up: &LinkSettings, down: &LinkSettings) -> Duration {
    let is_sure = |link: &LinkSettings| {
        link.rate_kbit_s.is_none()
            && link.trace.is_none()
            && link.corrupt == 0.0
            && !link.can_lose()
            && link.delay_ms + link.jitter_ms + link.reorder_by_ms < 500.0
    };
    if is_sure(up) && is_sure(down) { presence::TOLD_SOON } else { presence::TOLD_AT_LAST }
}
