//! What all parts of a running client share.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use quinn::{ClientConfig, Endpoint};
use rand::{SeedableRng, rngs::StdRng};
use tern_protocol::id::{AccountId, ConversationId};
use tokio::sync::{broadcast, mpsc, watch};

use crate::{
    driver::{AddressTurn, Learner, Signs},
    event::ClientEvent,
    home::Home,
    sessions::Sessions,
    settings::Settings,
    store::Store,
};

/// News that wait for the application at most; see [`ClientEvent::Lagged`].
const NOTICES: usize = 1_024;
/// Wakes that a link may be behind; beyond that it reads all from the store.
const WAKES: usize = 256;

/// Something waits to go up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// In this conversation.
    Conversation(ConversationId),
    /// To a name that must be looked up.
    Names,
}

/// Shared by the handles, the connection's driver and the presenter.
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) wakes: broadcast::Sender<Wake>,
    /// Counts the steps that brought messages for the application.
    pub(crate) inbox: watch::Sender<u64>,
    /// Counts the steps that may have changed a tick.
    pub(crate) ticks: watch::Sender<u64>,
    pub(crate) active: AtomicBool,
    /// Accounts whose presence the application wants.
    pub(crate) watched: Mutex<BTreeSet<AccountId>>,
    /// The end point, once there is one; it outlives connections.
    pub(crate) endpoint: Mutex<Option<Endpoint>>,
    /// What QUIC is told.
    pub(crate) config: Mutex<Option<ClientConfig>>,
    /// Which of the server's addresses is tried next.
    pub(crate) turn: AddressTurn,
    /// The TLS sessions, which outlive what QUIC is told.
    pub(crate) sessions: Arc<Sessions>,
    /// When something was last sent or came.
    pub(crate) signs: Arc<Signs>,
    /// What is known of the routers on the way.
    pub(crate) learner: Mutex<Learner>,
    rng: Mutex<StdRng>,
    notices: mpsc::Sender<ClientEvent>,
    lagged: AtomicBool,
    /// Holds the lock for as long as anything of the client lives.
    _home: Home,
}

impl Core {
    pub(crate) fn new(
        settings: Settings,
        store: Store,
        home: Home,
    ) -> (Self, mpsc::Receiver<ClientEvent>) {
        let (notices, receiver) = mpsc::channel(NOTICES);
        let core = Self {
            rng: Mutex::new(match settings.seed {
                Some(seed) => StdRng::from_seed(seed),
                None => StdRng::from_os_rng(),
            }),
            active: AtomicBool::new(settings.active),
            signs: Arc::new(Signs::new()),
            learner: Mutex::new(Learner::new(settings.keep_alive)),
            settings,
            store,
            wakes: broadcast::channel(WAKES).0,
            inbox: watch::channel(0).0,
            ticks: watch::channel(0).0,
            watched: Mutex::default(),
            endpoint: Mutex::default(),
            config: Mutex::default(),
            turn: AddressTurn::default(),
            sessions: Arc::default(),
            notices,
            lagged: AtomicBool::new(false),
            _home: home,
        };
        (core, receiver)
    }

    /// The server isn't the same any more: what QUIC is told about it is made anew.
    pub(crate) fn forget_config(&self) {
        *lock(&self.config) = None;
        self.sessions.clear();
    }

    /// The generator of all randomness.
    pub(crate) fn rng(&self) -> MutexGuard<'_, StdRng> {
        lock(&self.rng)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        (self.settings.time_of_day_ms)()
    }

    /// Tells the application; if it doesn't keep up, the news is dropped and that is told.
    pub(crate) fn notify(&self, event: ClientEvent) {
        if self.lagged.load(Ordering::Relaxed) {
            match self.notices.try_send(ClientEvent::Lagged) {
                Ok(()) => self.lagged.store(false, Ordering::Relaxed),
                Err(_) => return,
            }
        }
        if self.notices.try_send(event).is_err() {
            self.lagged.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the application has to be told that it missed something; asking clears it.
    pub(crate) fn take_lagged(&self) -> bool {
        self.lagged.swap(false, Ordering::Relaxed)
    }

    /// Something waits to go up. Without a connection nobody listens, and the next one reads it all
    /// from the store.
    pub(crate) fn wake(&self, wake: Wake) {
        let _ = self.wakes.send(wake);
    }

    pub(crate) fn inbox_grew(&self) {
        self.inbox.send_modify(|version| *version += 1);
    }

    pub(crate) fn ticks_moved(&self) {
        self.ticks.send_modify(|version| *version += 1);
    }
}

/// Locks; a panic elsewhere doesn't spread, since nothing here is left half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
