//! A phone of a run: its host, its client, its application.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tern_client::{
    AccountId, Client, ClientEvent, ConversationId, DeviceId, Events, KeepAlive, PresenceState,
    Settings,
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{RunError, mischief::Mischief, news::News, tape::Tape};
use crate::{
    app::{App, AppError},
    fault::Fault,
    scenario::ClientVariant,
    sim::{Credentials, HostId, Net, Phone},
    standing::Standing,
};

/// Orders that wait for an application at most; more are dropped, as a user's would be that nobody sees.
const ORDERS: usize = 1_024;

/// What the world tells an application.
enum Order {
    /// Send a message to the peer with this number.
    Send { peer: usize, bytes: usize },
    /// Mark everything as read, and all that comes.
    ReadAll,
    /// Record the store, when the client has stopped.
    RecordStore,
}

/// A phone of a run.
pub(super) struct Device {
    number: usize,
    phone: Phone,
    seed: u64,
    starts: u64,
    pub(super) account: AccountId,
    pub(super) device: DeviceId,
    /// The peers' accounts, by the number of the phone.
    peers: BTreeMap<usize, (usize, AccountId)>,
    read: f64,
    tape: Tape,
    news: News,
    plant: Option<Fault>,
    running: Option<Running>,
}

struct Running {
    client: Client,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<Result<(), AppError>>,
}

/// What all devices of a run share.
pub(super) struct Shared<'a> {
    pub(super) net: &'a Net,
    pub(super) credentials: &'a Credentials,
    pub(super) server: SocketAddr,
    pub(super) seed: u64,
    pub(super) tape: &'a Tape,
    pub(super) news: &'a News,
    pub(super) client: &'a ClientVariant,
    pub(super) plant: Option<Fault>,
}

impl Device {
    /// A phone that is registered and not running.
    pub(super) async fn register(
        shared: &Shared<'_>,
        number: usize,
        host: HostId,
        active: bool,
        read: f64,
    ) -> Result<Self, RunError> {
        let name = format!("p{number}");
        let variant = shared.client.clone();
        let settings = Arc::new(move || settings(&variant, active));
        let Shared { net, credentials, seed, .. } = *shared;
        let mut phone = Phone::new(net, host, credentials, &name, seed, settings);
        let (client, events) = phone.start().await.map_err(RunError::Phone)?;
        let identity = phone
            .register(&client, &name, shared.server, credentials)
            .await
            .map_err(RunError::Phone)?;
        client.shutdown().await;
        drop((client, events));
        if shared.plant == Some(Fault::PhoneIsSetBack) {
            phone.set_back();
        }
        Ok(Self {
            number,
            phone,
            seed,
            starts: 0,
            account: identity.account,
            device: identity.device,
            peers: BTreeMap::new(),
            read,
            tape: shared.tape.clone(),
            news: shared.news.clone(),
            plant: shared.plant,
            running: None,
        })
    }

    /// The phones to which this one writes, and their accounts.
    pub(super) fn set_peers(&mut self, peers: &[(usize, AccountId)]) {
        self.peers = peers
            .iter()
            .enumerate()
            .map(|(index, (phone, account))| (*phone, (index, *account)))
            .collect();
    }

    pub(super) fn host(&self) -> HostId {
        self.phone.host()
    }

    /// Starts client and application.
    pub(super) async fn start(&mut self) -> Result<(), RunError> {
        if self.running.is_some() {
            return Ok(());
        }
        self.starts += 1;
        let (client, events) = self.phone.start().await.map_err(RunError::Phone)?;
        let mut peers = vec![None; self.peers.len()];
        for (index, account) in self.peers.values() {
            peers[*index] = Some(*account);
        }
        // A number that no other start of any phone has.
        let run = (self.number as u64) << 32 | self.starts;
        let peers = peers.into_iter().flatten().collect();
        let app = App::start(client.clone(), self.tape.clone(), run, peers)
            .await
            .map_err(RunError::App)?;
        client.watch(self.peers.values().map(|(_, account)| *account).collect::<Vec<_>>()).await;
        client.connect();
        let (orders, receiver) = mpsc::channel(ORDERS);
        let direct = |peer| ConversationId::direct(self.account, peer).map(|id| (id, peer));
        let peers_by_id = self.peers.values().filter_map(|(_, peer)| direct(*peer)).collect();
        let mut screen = Screen {
            mischief: Mischief::new(self.plant, &client, peers_by_id),
            number: self.number,
            client: client.clone(),
            peers: self.peers.values().map(|(_, account)| *account).collect(),
            asks_again: false,
            news: self.news.clone(),
            random: StdRng::seed_from_u64(self.seed ^ run),
            read: self.read,
        };
        let task = tokio::spawn(async move { screen.run(app, events, receiver).await });
        self.running = Some(Running { client, orders, task });
        Ok(())
    }

    /// Kills client and application.
    pub(super) async fn kill(&mut self) {
        if let Some(Running { client, task, .. }) = self.running.take() {
            task.abort();
            self.phone.kill(client);
            // It was cancelled, or had ended with an error that `check` has told.
            let _ = task.await;
        }
    }

    /// Whether the application has ended, and how.
    pub(super) async fn check(&mut self) -> Result<(), RunError> {
        if self.running.as_ref().is_none_or(|running| !running.task.is_finished()) {
            return Ok(());
        }
        let Some(Running { client, task, .. }) = self.running.take() else { return Ok(()) };
        self.phone.kill(client);
        match task.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(RunError::App(error)),
            Err(_) => Err(RunError::Panicked),
        }
    }

    /// Has the application send to another phone, if it runs.
    pub(super) fn send(&self, to: usize, bytes: usize) {
        if let (Some(running), Some((peer, _))) = (&self.running, self.peers.get(&to)) {
            // An application that is so far behind takes no more orders; so below.
            let _ = running.orders.try_send(Order::Send { peer: *peer, bytes });
        }
    }

    /// Has the application mark everything as read.
    pub(super) fn read_all(&self) {
        if let Some(running) = &self.running {
            let _ = running.orders.try_send(Order::ReadAll);
        }
    }

    /// Tells the client that the network is another one.
    pub(super) async fn network_changed(&self) {
        if let Some(running) = &self.running {
            running.client.network_changed().await;
        }
    }

    /// How far the client is; `None` if it doesn't run.
    pub(super) async fn standing(&self) -> Result<Option<Standing>, RunError> {
        match &self.running {
            Some(running) => Standing::of(&running.client).await.map(Some).map_err(RunError::Store),
            None => Ok(None),
        }
    }

    /// Ends client and application in good order, and records what the store has.
    pub(super) async fn finish(&mut self) -> Result<(), RunError> {
        let Some(Running { client, orders, task }) = self.running.take() else { return Ok(()) };
        client.shutdown().await;
        let _ = orders.send(Order::RecordStore).await;
        drop(orders);
        match task.await {
            Ok(result) => result.map_err(RunError::App),
            Err(_) => Err(RunError::Panicked),
        }
    }
}

/// What runs beside the application: it takes orders and events.
struct Screen {
    mischief: Mischief,
    number: usize,
    client: Client,
    peers: Vec<AccountId>,
    /// A peer's presence wasn't told.
    asks_again: bool,
    news: News,
    random: StdRng,
    read: f64,
}

impl Screen {
    async fn run(
        &mut self,
        mut app: App<Tape>,
        mut events: Events,
        mut orders: mpsc::Receiver<Order>,
    ) -> Result<(), AppError> {
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Send { peer, bytes }) => app.send_to(peer, bytes).await?,
                    Some(Order::ReadAll) => {
                        self.read = 1.0;
                        app.read_all().await?;
                    }
                    Some(Order::RecordStore) => {
                        while let Some(event) = events.try_next() {
                            for event in self.mischief.pass(event).await? {
                                app.take(event, false).await?;
                            }
                        }
                        app.record_store().await?;
                    }
                    None => return Ok(()),
                },
                event = events.next() => {
                    let event = event.ok_or(AppError::Contract("the client has gone"))?;
                    for event in self.mischief.pass(event).await? {
                        self.show(&mut app, event).await?;
                    }
                }
            }
        }
    }

    async fn show(&mut self, app: &mut App<Tape>, event: ClientEvent) -> Result<(), AppError> {
        match event {
            ClientEvent::Connection(state) => self.news.connection(self.number, &state),
            ClientEvent::Presence { account, state, .. } => {
                // Of strangers nothing is told: asked again when there is a conversation.
                self.asks_again |= state == PresenceState::Unknown;
                self.news.presence(self.number, account, state);
            }
            event => {
                let is_first = matches!(event, ClientEvent::Message(_) | ClientEvent::Sent { .. });
                if is_first && std::mem::take(&mut self.asks_again) {
                    self.client.watch(self.peers.clone()).await;
                }
                let reads = self.random.random_bool(self.read);
                app.take(event, reads).await?;
            }
        }
        Ok(())
    }
}

fn settings(variant: &ClientVariant, active: bool) -> Settings {
    let mut settings = Settings { active, ..Settings::default() };
    if let Some(keep_alive) = variant.keep_alive_s {
        settings.keep_alive =
            (keep_alive > 0.0).then(|| KeepAlive::fixed(Duration::from_secs_f64(keep_alive)));
    }
    if let Some(bytes) = variant.send_window_bytes {
        settings.send_window_bytes = bytes;
    }
    if let Some(bytes) = variant.initial_window_bytes {
        settings.initial_window_bytes = bytes;
    }
    settings.single_stream = variant.single_stream.unwrap_or(false);
    settings
}
