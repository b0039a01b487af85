//! Looking into mailboxes for what devices that are connected here may not have been told.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tern_protocol::{code::Code, id::DeviceId};
use tokio::sync::Notify;

use super::Abroad;
use crate::{
    conversation::News,
    directory::{Directory, DirectoryError},
    hub::Hub,
    keys,
    metrics::Metrics,
    route::{RouteError, Routes},
    store::{ReadError, Store},
};

/// Devices whose mailboxes are looked into at the same time: enough for some thousand a second, and few enough to leave
/// the store to messages.
const AT_ONCE: usize = 64;
/// Marks read at once.
const MARKS: usize = 256;
/// Pause before those that couldn't be looked into are tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Whose mailboxes are to be looked into. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Looks(Arc<Wanted>);

#[derive(Default)]
struct Wanted {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    all: bool,
    devices: BTreeSet<DeviceId>,
}

impl Looks {
    /// All devices that are connected here, each once, however often this is said before it is done.
    pub(super) fn all(&self) {
        self.state().all = true;
        self.0.wake.notify_one();
    }

    /// One device that is connected here.
    pub(super) fn device(&self, device: DeviceId) {
        self.some([device]);
    }

    fn some(&self, devices: impl IntoIterator<Item = DeviceId>) {
        self.state().devices.extend(devices);
        self.0.wake.notify_one();
    }

    async fn next(&self) -> State {
        loop {
            let woken = self.0.wake.notified();
            let state = std::mem::take(&mut *self.state());
            if state.all || !state.devices.is_empty() {
                return state;
            }
            woken.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A flag and a set, each whole between two calls.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a mailbox isn't looked into yet.
#[derive(Debug)]
enum LookError {
    Read(ReadError),
    Route(RouteError),
    Directory(DirectoryError),
}

impl std::fmt::Display for LookError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Route(error) => error.fmt(f),
            Self::Directory(error) => error.fmt(f),
        }
    }
}

/// Looks, for ever.
pub(super) struct Looker {
    pub(super) looks: Looks,
    pub(super) hub: Hub,
    pub(super) store: Arc<dyn Store>,
    pub(super) directory: Directory,
    pub(super) routes: Routes,
    pub(super) abroad: Arc<Abroad>,
    pub(super) metrics: Arc<Metrics>,
}

impl Looker {
    pub(super) async fn run(self) {
        loop {
            let State { all, mut devices } = self.looks.next().await;
            if all {
                devices.extend(self.hub.devices());
                tracing::debug!(devices = devices.len(), "all devices look into their mailboxes");
            }
            let looks = stream::iter(devices).map(async |device| (device, self.look(device).await));
            let mut looks = std::pin::pin!(looks.buffer_unordered(AT_ONCE));
            let mut again = BTreeSet::new();
            while let Some((device, looked)) = looks.next().await {
                if let Err(error) = looked {
                    tracing::debug!(%error, %device, "a mailbox isn't looked into yet");
                    again.insert(device);
                }
            }
            if !again.is_empty() {
                tracing::warn!(devices = again.len(), "mailboxes aren't looked into yet");
                tokio::time::sleep(RETRY).await;
                self.looks.some(again);
            }
        }
    }

    async fn look(&self, device: DeviceId) -> Result<(), LookError> {
        let Some(connected) = self.hub.connection(device) else { return Ok(()) };
        self.metrics.mailbox_looks.inc();
        let route = self.routes.read(device).await.map_err(LookError::Route)?;
        if route.is_some_and(|route| route.epoch > connected.epoch) {
            // It is elsewhere, and what came here for it may have gone nowhere.
            connected.inbox.close(Code::Replaced);
            self.abroad.missed(device, Some(connected.epoch));
            return Ok(());
        }
        let account = self.directory.account(connected.account).await;
        if let Some(info) = account.map_err(LookError::Directory)? {
            self.directory.check(&info).await.map_err(LookError::Directory)?;
        }
        let is_there = self.directory.device(connected.account, device).await;
        if is_there.map_err(LookError::Directory)?.is_none() {
            connected.inbox.close(Code::DeviceRemoved);
            return Ok(());
        }
        let mut after = None;
        loop {
            let marks = self.store.scan(keys::marks(device, after, MARKS)).await;
            let marks = marks.map_err(LookError::Read)?;
            for conversation in marks.iter().filter_map(|(key, _)| keys::parse_mark(key)) {
                after = Some(conversation);
                connected.inbox.news(conversation, News::Unsure);
            }
            if marks.len() < MARKS {
                return Ok(());
            }
        }
    }
}
