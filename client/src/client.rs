//! The handle that an application holds.

use std::{
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use rand::RngCore;
use tern_protocol::{
    code::Code,
    frame::{Device, Entitlement, RequestBody, ResponseBody, Secret},
    id::{AccountId, ConversationId, DeviceId, name_is_valid},
    limits,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    content,
    core::{Core, Wake, lock},
    driver::{
        self, COMMANDS, Command,
        connect::{Purpose, connect},
    },
    error::{ConnectError, OpenError, RegisterError, RequestError, SendError},
    events::{self, Events},
    home::Home,
    identity::{DeviceKey, Identity, Server},
    network,
    settings::Settings,
    store::{
        self, Store, StoreError,
        conversations::{self, Conversation},
        history::{self, StoredMessage, Tick},
        inbox,
        outbox::{self, LocalId, Outgoing, Target},
    },
};

/// How long leaving may take; what is lost with it is the courtesy, not a message.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A device of an account.
///
/// Clones are handles to the same device. When the last one is dropped, everything stops at once;
/// [`Client::shutdown`] also sees to it that the server is told.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    presenter: JoinHandle<()>,
    driver: Mutex<Option<Driver>>,
}

struct Driver {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.presenter.abort();
        if let Some(driver) = &*lock(&self.driver) {
            driver.task.abort();
        }
    }
}

/// To whom a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recipient {
    /// The account of this name. It may be unknown here yet: then it is looked up once there is a
    /// connection.
    Name(String),
    /// This account.
    Account(AccountId),
    /// The others of this conversation.
    Conversation(ConversationId),
}

impl From<&str> for Recipient {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<AccountId> for Recipient {
    fn from(account: AccountId) -> Self {
        Self::Account(account)
    }
}

impl From<ConversationId> for Recipient {
    fn from(conversation: ConversationId) -> Self {
        Self::Conversation(conversation)
    }
}

/// What a new device says of itself.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The server.
    pub server: Server,
    /// The account's name.
    pub name: String,
    /// The device as its owner knows it, at most 64 bytes.
    pub label: String,
    /// What entitles it.
    pub entitlement: Entitlement,
}

/// What a device knows about itself and its conversations.
#[derive(Debug, Clone)]
pub struct Status {
    /// Who it is; `None` before it is registered.
    pub identity: Option<Identity>,
    /// When it was last signed in, milliseconds since the epoch; 0: never.
    pub last_connected_ms: u64,
    /// Messages that wait to be accepted.
    pub outbox: u64,
    /// The conversations, the one with the newest message first.
    pub conversations: Vec<Conversation>,
}

impl Client {
    /// Opens the device that lives in the folder `home`, which is made if it isn't there. No other
    /// process can open it meanwhile. To be called within a tokio runtime.
    pub async fn open(
        home: impl AsRef<Path>,
        settings: Settings,
    ) -> Result<(Self, Events), OpenError> {
        let home = Home::lock(home.as_ref())?;
        let store = Store::open(&home.database(), settings.inline_store)?;
        let (core, notices) = Core::new(settings, store, home);
        let core = Arc::new(core);
        let (presenter, events) = events::present(core.clone(), notices);
        let inner = Inner { core, presenter, driver: Mutex::default() };
        Ok((Self { inner: Arc::new(inner) }, events))
    }

    /// Makes this home a device: of a new account, or with a link or token a further one of an account.
    ///
    /// May be repeated after an error: the server recognises the device by its key, which is stored
    /// before it is used.
    pub async fn register(&self, registration: Registration) -> Result<Identity, RegisterError> {
        check(&registration)?;
        let core = &self.inner.core;
        if let Some(name) = self.identity().await?.map(|identity| identity.name) {
            return Err(RegisterError::AlreadyRegistered { name });
        }
        let key = DeviceKey::generate(&mut *core.rng()).ok_or(ConnectError::NotRegistered)?;
        let Registration { server, name, label, entitlement } = registration;
        core.store
            .durably(move |db| {
                // The key of an attempt whose answer was lost is used again.
                let key = match store::identity::load(db)? {
                    Some(begun) if begun.name == name => begun.key,
                    _ => Arc::new(key),
                };
                store::identity::begin(db, &server, &name, &label, &key)
            })
            .await?;
        core.forget_config();
        connect(core, None, Purpose::Register(entitlement)).await?.leave();
        Ok(self.identity().await?.ok_or(ConnectError::NotRegistered)?)
    }

    /// Who this device is, once it is registered.
    pub async fn identity(&self) -> Result<Option<Identity>, StoreError> {
        let stored = self.inner.core.store.quickly(store::identity::load).await?;
        Ok(stored.and_then(|stored| stored.identity()))
    }

    /// Notes that the server moved: to another address, under another name, with another certificate
    /// authority. What is `None` stays. Counts from the next connection on.
    pub async fn move_server(
        &self,
        address: Option<String>,
        name: Option<String>,
        ca_pem: Option<String>,
    ) -> Result<(), StoreError> {
        let core = &self.inner.core;
        core.store
            .durably(move |db| {
                let (address, name, ca_pem) =
                    (address.as_deref(), name.as_deref(), ca_pem.as_deref());
                store::identity::move_server(db, address, name, ca_pem)
            })
            .await?;
        core.forget_config();
        Ok(())
    }

    /// Starts to keep a connection to the server, and goes on until [`Client::shutdown`], or until an
    /// event says [`ConnectionState::Stopped`](crate::ConnectionState::Stopped). Does nothing if
    /// it is doing so already.
    pub fn connect(&self) {
        let mut driver = lock(&self.inner.driver);
        if driver.as_ref().is_some_and(|driver| !driver.task.is_finished()) {
            return;
        }
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let task = tokio::spawn(driver::supervise(self.inner.core.clone(), receiver));
        *driver = Some(Driver { commands, task });
    }

    /// Closes the connection and waits until the server was told, so that it knows at once that the
    /// device is gone. [`Client::connect`] starts anew.
    pub async fn shutdown(&self) {
        let driver = lock(&self.inner.driver).take();
        let leave = async {
            if let Some(driver) = driver {
                driver.task.abort();
                let _ = driver.task.await;
            }
            let endpoint = lock(&self.inner.core.endpoint).clone();
            if let Some(endpoint) = endpoint {
                endpoint.wait_idle().await;
            }
        };
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, leave).await;
    }

    /// Stores a message for sending; when this returns, it survives a loss of power. It is sent now or
    /// once there is a connection, in the order of the calls within a conversation.
    pub async fn send(
        &self,
        to: impl Into<Recipient>,
        message: &[u8],
    ) -> Result<LocalId, SendError> {
        let envelope = content::seal(message)?;
        let recipient = to.into();
        if let Recipient::Name(name) = &recipient
            && !name_is_valid(name)
        {
            return Err(SendError::NameInvalid(name.clone()));
        }
        let core = &self.inner.core;
        let (message_id, time_ms) = (core.rng().next_u64(), core.now_ms());
        let stored = core
            .store
            .durably(move |db| {
                let Some(own) = store::identity::load(db)?.and_then(|own| own.identity()) else {
                    return Ok(Err(SendError::NotRegistered));
                };
                let target = match recipient {
                    Recipient::Name(name) if name == own.name => {
                        return Ok(Err(SendError::Oneself));
                    }
                    Recipient::Name(name) => match conversations::account_of(db, &name)? {
                        Some(peer) => direct(own.account, peer),
                        None => Some(Target::Name(name)),
                    },
                    Recipient::Account(peer) => direct(own.account, peer),
                    Recipient::Conversation(id) => {
                        Some(Target::Account(conversations::peer(db, id)?, id))
                    }
                };
                let Some(target) = target else {
                    return Ok(Err(SendError::Oneself));
                };
                let wake = match &target {
                    Target::Account(_, conversation) => Wake::Conversation(*conversation),
                    Target::Name(_) => Wake::Names,
                };
                let (account, device) = (own.account, own.device);
                let message = Outgoing { target, message_id, account, device, time_ms, envelope };
                Ok(Ok((outbox::enqueue(db, &message)?, wake)))
            })
            .await?;
        let (local, wake) = stored?;
        core.wake(wake);
        Ok(local)
    }

    /// How far a message got, and why it failed if the server refused it.
    pub async fn tick(&self, local: LocalId) -> Result<Option<(Tick, Option<Code>)>, StoreError> {
        self.inner.core.store.quickly(move |db| history::tick_of(db, local)).await
    }

    /// Waits until a message got as far as `wanted`, or failed; returns how far it got.
    pub async fn wait_for_tick(
        &self,
        local: LocalId,
        wanted: Tick,
    ) -> Result<(Tick, Option<Code>), StoreError> {
        let mut moved = self.inner.core.ticks.subscribe();
        loop {
            moved.borrow_and_update();
            match self.tick(local).await? {
                Some((tick, failure)) if tick >= wanted => return Ok((tick, failure)),
                Some(_) => {}
                None => return Err(StoreError::UnknownConversation),
            }
            moved.changed().await.map_err(|_| StoreError::Closed)?;
        }
    }

    /// Confirms that messages were shown to the user (or whatever stands for it): they don't come as
    /// events again. Survives the death of the process, not a loss of power.
    pub async fn confirm(&self, shown: impl Into<Vec<LocalId>>) -> Result<(), StoreError> {
        let shown = shown.into();
        self.inner.core.store.quickly(move |db| inbox::shown(db, &shown)).await
    }

    /// Says that the user has read a conversation up to `up_to`. Is told to the server now or later.
    pub async fn mark_read(
        &self,
        conversation: ConversationId,
        up_to: u64,
    ) -> Result<(), StoreError> {
        let core = &self.inner.core;
        let is_news =
            core.store.durably(move |db| conversations::want_read(db, conversation, up_to)).await?;
        if is_news {
            core.wake(Wake::Conversation(conversation));
        }
        Ok(())
    }

    /// Whether everything that the user has read is known to the server, in every conversation.
    pub async fn is_settled(&self) -> Result<bool, StoreError> {
        let waiting = self.inner.core.store.quickly(conversations::with_something_to_say).await?;
        Ok(waiting.is_empty())
    }

    /// Tells the others in a conversation that the user is typing, or stopped. Lost without a connection.
    pub async fn typing(&self, conversation: ConversationId, active: bool) {
        self.command(Command::Typing(conversation, active)).await;
    }

    /// Says whether a user is looking; see [`Settings::active`].
    pub async fn set_active(&self, active: bool) {
        self.inner.core.active.store(active, Ordering::Relaxed);
        self.command(Command::SetActive(active)).await;
    }

    /// Wants events on the presence of these accounts, from now on and on every connection.
    pub async fn watch(&self, accounts: impl Into<Vec<AccountId>>) {
        let accounts = accounts.into();
        lock(&self.inner.core.watched).extend(&accounts);
        for some in accounts.chunks(limits::WATCH_LIST) {
            self.command(Command::Watch(some.to_vec())).await;
        }
    }

    /// Wants them no more.
    pub async fn unwatch(&self, accounts: impl Into<Vec<AccountId>>) {
        let accounts = accounts.into();
        lock(&self.inner.core.watched).retain(|account| !accounts.contains(account));
        for some in accounts.chunks(limits::WATCH_LIST) {
            self.command(Command::Unwatch(some.to_vec())).await;
        }
    }

    /// To be called when the phone says that its network changed, even if the address looks the same: the
    /// connection moves to a new socket, and if the server doesn't answer there soon, a new one is made.
    pub async fn network_changed(&self) {
        let core = &self.inner.core;
        let endpoint = lock(&core.endpoint).clone();
        if let Some(endpoint) = endpoint
            && let Err(error) = core.settings.network.rebind(&endpoint)
        {
            tracing::warn!(%error, "the socket can't be replaced");
        }
        lock(&core.learner).network_changed();
        self.command(Command::NetworkChanged).await;
    }

    /// The account of a name: from memory, or by asking the server. `None` if there is no such account.
    pub async fn lookup(&self, name: &str) -> Result<Option<AccountId>, RequestError> {
        let asked = name.to_owned();
        let store = &self.inner.core.store;
        let known = store.quickly(move |db| conversations::account_of(db, &asked)).await?;
        if known.is_some() {
            return Ok(known);
        }
        match self.request(RequestBody::Lookup(name.to_owned())).await {
            Ok(ResponseBody::Account(found)) => {
                let account = found.account;
                store
                    .quickly(move |db| {
                        conversations::remember_account(db, found.account, &found.name)
                    })
                    .await?;
                Ok(Some(account))
            }
            Ok(_) => Err(unfit()),
            Err(RequestError::Refused { code: Code::UnknownName, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The name of an account, if this device has met it.
    pub async fn name_of(&self, account: AccountId) -> Result<Option<String>, StoreError> {
        self.inner.core.store.quickly(move |db| conversations::name_of(db, account)).await
    }

    /// The devices of the own account.
    pub async fn devices(&self) -> Result<Vec<Device>, RequestError> {
        match self.request(RequestBody::Devices).await? {
            ResponseBody::Devices(devices) => Ok(devices),
            _ => Err(unfit()),
        }
    }

    /// Removes a device of the own account.
    pub async fn remove_device(&self, device: DeviceId) -> Result<(), RequestError> {
        self.request(RequestBody::RemoveDevice(device)).await.map(|_| ())
    }

    /// Makes a token with which one further device can register under the account's name; the number
    /// says how long it is valid, in milliseconds.
    pub async fn create_link(&self) -> Result<(Secret, u64), RequestError> {
        match self.request(RequestBody::CreateLink).await? {
            ResponseBody::Link { token, valid_for_ms } => Ok((token, valid_for_ms)),
            _ => Err(unfit()),
        }
    }

    /// Asks the server for a sign of life.
    pub async fn ping(&self) -> Result<(), RequestError> {
        self.request(RequestBody::Ping).await.map(|_| ())
    }

    /// What the device knows about itself, without asking the server.
    pub async fn status(&self) -> Result<Status, StoreError> {
        self.inner
            .core
            .store
            .quickly(|db| {
                let stored = store::identity::load(db)?;
                Ok(Status {
                    last_connected_ms: stored.as_ref().map_or(0, |stored| stored.last_connected_ms),
                    identity: stored.and_then(|stored| stored.identity()),
                    outbox: history::waiting(db)?,
                    conversations: conversations::list(db)?,
                })
            })
            .await
    }

    /// The last messages of a conversation, the oldest first.
    pub async fn history(
        &self,
        conversation: ConversationId,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.inner.core.store.quickly(move |db| history::last(db, conversation, limit)).await
    }

    /// What each member of a conversation has: account, delivered and read sequence number.
    pub async fn receipts(
        &self,
        conversation: ConversationId,
    ) -> Result<Vec<(AccountId, u64, u64)>, StoreError> {
        self.inner.core.store.quickly(move |db| inbox::receipts(db, conversation)).await
    }

    async fn command(&self, command: Command) {
        let commands = lock(&self.inner.driver).as_ref().map(|driver| driver.commands.clone());
        if let Some(commands) = commands {
            // A driver that has stopped can't be told, and needn't: the next one starts afresh.
            let _ = commands.send(command).await;
        }
    }

    async fn request(&self, body: RequestBody) -> Result<ResponseBody, RequestError> {
        let commands = lock(&self.inner.driver).as_ref().map(|driver| driver.commands.clone());
        let commands = commands.ok_or(RequestError::Stopped)?;
        let (answer, answered) = oneshot::channel();
        commands.send(Command::Request(body, answer)).await.map_err(|_| RequestError::Stopped)?;
        answered.await.map_err(|_| RequestError::ConnectionLost)?
    }
}

fn direct(own: AccountId, peer: AccountId) -> Option<Target> {
    ConversationId::direct(own, peer).map(|conversation| Target::Account(peer, conversation))
}

/// A server that answers one thing with another has a bug.
fn unfit() -> RequestError {
    RequestError::Refused { code: Code::UnexpectedFrame, retry_after_ms: 0 }
}

fn check(registration: &Registration) -> Result<(), RegisterError> {
    if !name_is_valid(&registration.name) {
        return Err(RegisterError::NameInvalid(registration.name.clone()));
    }
    network::server_name(&registration.server)
        .map_err(|error| ConnectError::Server(Arc::new(error)))?;
    let (what, bytes, limit_bytes) = match &registration.entitlement {
        Entitlement::None => ("", 0, 0),
        Entitlement::Invite(token) => ("invite", token.expose().len(), limits::TOKEN_BYTES),
        Entitlement::Link(token) => ("link token", token.expose().len(), limits::TOKEN_BYTES),
        Entitlement::Token(token) => ("token", token.expose().len(), limits::JWT_BYTES),
    };
    let label_bytes = registration.label.len();
    for (what, bytes, limit_bytes) in
        [(what, bytes, limit_bytes), ("label", label_bytes, limits::LABEL_BYTES)]
    {
        if bytes > limit_bytes {
            return Err(RegisterError::TooLong { what, limit_bytes });
        }
    }
    Ok(())
}
