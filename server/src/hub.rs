//! The hub: which devices are connected here, who is online, who wants to know.
//!
//! It is the conversations' [`Audience`]: news of a device goes into the [`Inbox`] of its connection,
//! which is bounded. What doesn't fit is only noted as "behind": it is in the mailbox, and the
//! downlink reads it from there.

mod inbox;
mod presence;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tern_protocol::{
    code::Code,
    frame::{Event, Presence, PresenceState},
    id::{AccountId, ConversationId, DeviceId},
};

use tokio::sync::Notify;

use self::presence::Board;
pub use self::{
    inbox::{Inbox, InboxSettings, KeptOut, Slot},
    presence::Standing,
};
use crate::conversation::{Audience, News};

/// A connection of a device, as the hub knows it.
#[derive(Debug, Clone)]
pub struct Connected {
    /// The device's account.
    pub account: AccountId,
    /// The connection's epoch: of two, the higher one is the newer.
    pub epoch: u64,
    /// What takes news for it.
    pub inbox: Arc<Inbox>,
}

#[derive(Default)]
struct State {
    devices: BTreeMap<DeviceId, Connected>,
    board: Board,
    /// Accounts of which other nodes may have to be told something; `None` if there are no others.
    changed: Option<BTreeSet<AccountId>>,
}

/// The hub of a node. Cheap to clone.
///
/// One lock guards it; under it only maps in memory are changed.
#[derive(Clone, Default)]
pub struct Hub(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when there is something for [`Hub::take_changed`].
    has_changed: Notify,
    /// Told when other nodes have said something.
    was_told: Notify,
}

impl Hub {
    /// A hub of a node that isn't alone: it notes of which accounts others may have to be told.
    pub fn of_cluster() -> Self {
        let hub = Self::default();
        hub.state().changed = Some(BTreeSet::new());
        hub
    }

    /// A device is signed in on a new connection. Its older connection is told that it is replaced.
    pub fn connect(
        &self,
        account: AccountId,
        device: DeviceId,
        epoch: u64,
        inbox: Arc<Inbox>,
        active: bool,
        now_ms: u64,
    ) {
        let mut state = self.state();
        let connected = Connected { account, epoch, inbox };
        // A connection that was overtaken while it signed in is the older one.
        if state.devices.get(&device).is_some_and(|newer| newer.epoch > epoch) {
            connected.inbox.close(Code::Replaced);
            return;
        }
        if let Some(older) = state.devices.insert(device, connected) {
            older.inbox.close(Code::Replaced);
            self.unwatch_all(&mut state, device);
        }
        let changed = state.board.set(account, device, active, now_ms);
        state.announce(changed);
        self.note(&mut state, [account]);
    }

    /// A connection has ended. Says whether it was the device's present one.
    ///
    /// The device counts as online until [`Hub::offline`], so that one that comes back at once
    /// doesn't flicker.
    pub fn disconnect(&self, device: DeviceId, epoch: u64) -> bool {
        let mut state = self.state();
        match state.devices.get(&device) {
            Some(connected) if connected.epoch == epoch => {
                state.devices.remove(&device);
                self.unwatch_all(&mut state, device);
                true
            }
            _ => false,
        }
    }

    /// A device that disconnected hasn't come back.
    pub fn offline(&self, account: AccountId, device: DeviceId, last_seen_ms: u64) {
        let mut state = self.state();
        if !state.devices.contains_key(&device) {
            let changed = state.board.remove(account, device, last_seen_ms);
            state.announce(changed);
            self.note(&mut state, [account]);
        }
    }

    /// A device's user looks, or doesn't.
    pub fn set_active(&self, account: AccountId, device: DeviceId, active: bool, now_ms: u64) {
        let mut state = self.state();
        if state.devices.contains_key(&device) {
            let changed = state.board.set(account, device, active, now_ms);
            state.announce(changed);
            self.note(&mut state, [account]);
        }
    }

    /// A device wants to know of an account's presence from now on. False if it watches too many already.
    pub fn watch(&self, device: DeviceId, account: AccountId, most: usize) -> bool {
        let mut state = self.state();
        let is_watched = state.board.watch(device, account, most);
        self.note(&mut state, [account]);
        is_watched
    }

    /// The presence of an account, as far as it is known here.
    pub fn presence(&self, account: AccountId) -> Presence {
        self.state().board.presence(account)
    }

    /// Waits until other nodes have said what they know of accounts that are watched; not at all if there are none.
    pub async fn known(&self, accounts: &[AccountId]) {
        loop {
            let told = self.0.was_told.notified();
            {
                let state = self.state();
                let is_known = |account: &AccountId| state.board.is_known_abroad(*account);
                if state.changed.is_none() || accounts.iter().all(is_known) {
                    return;
                }
            }
            told.await;
        }
    }

    /// What other nodes say of an account's presence, for those here who watch it.
    pub fn set_abroad(&self, account: AccountId, is_online: bool, last_seen_ms: u64) {
        let mut state = self.state();
        let changed = state.board.set_abroad(account, is_online, last_seen_ms);
        state.announce(changed);
        self.0.was_told.notify_waiters();
    }

    /// The accounts of which something may have changed that concerns other nodes, each with what is so now. Waits
    /// until there are some.
    pub async fn take_changed(&self) -> Vec<(AccountId, Standing)> {
        loop {
            let changed = self.0.has_changed.notified();
            {
                let mut state = self.state();
                let accounts = state.changed.as_mut().map(std::mem::take).unwrap_or_default();
                if !accounts.is_empty() {
                    let standing = |account| (account, state.board.standing(account));
                    return accounts.into_iter().map(standing).collect();
                }
            }
            changed.await;
        }
    }

    /// A device doesn't want to know any more.
    pub fn unwatch(&self, device: DeviceId, account: AccountId) {
        let mut state = self.state();
        state.board.unwatch(device, account);
        self.note(&mut state, [account]);
    }

    /// The presence of what a device watches, for when its user looks again.
    pub fn watched(&self, device: DeviceId) -> Vec<Presence> {
        let state = self.state();
        state.board.watched(device).map(|account| state.board.presence(account)).collect()
    }

    /// Whether a device is connected.
    pub fn is_connected(&self, device: DeviceId) -> bool {
        self.state().devices.contains_key(&device)
    }

    /// A device's connection.
    pub fn connection(&self, device: DeviceId) -> Option<Connected> {
        self.state().devices.get(&device).cloned()
    }

    /// The devices that are connected.
    pub fn devices(&self) -> Vec<DeviceId> {
        self.state().devices.keys().copied().collect()
    }

    /// The devices of an account that are connected.
    pub fn devices_of(&self, account: AccountId) -> Vec<DeviceId> {
        self.state().board.devices(account).collect()
    }

    /// Tells news of a conversation to a connected device. Says whether it is connected.
    pub fn news(
        &self,
        device: DeviceId,
        conversation: ConversationId,
        news: News,
    ) -> Result<(), News> {
        match self.connection(device) {
            Some(connected) => {
                connected.inbox.news(conversation, news);
                Ok(())
            }
            None => Err(news),
        }
    }

    /// Tells an event to a connected device. Says whether it is connected.
    pub fn event(&self, device: DeviceId, event: Event) -> bool {
        let connected = self.connection(device);
        if let Some(connected) = &connected {
            connected.inbox.event(event);
        }
        connected.is_some()
    }

    /// Closes a device's connection.
    pub fn close(&self, device: DeviceId, code: Code) {
        if let Some(connected) = self.connection(device) {
            connected.inbox.close(code);
        }
    }

    /// Closes all connections.
    pub fn close_all(&self, code: Code) {
        let all: Vec<_> = self.state().devices.values().cloned().collect();
        all.iter().for_each(|connected| connected.inbox.close(code));
    }

    fn unwatch_all(&self, state: &mut State, device: DeviceId) {
        let watched: Vec<AccountId> = state.board.watched(device).collect();
        state.board.unwatch_all(device);
        self.note(state, watched);
    }

    /// Notes that something of accounts may concern other nodes.
    fn note(&self, state: &mut State, accounts: impl IntoIterator<Item = AccountId>) {
        if let Some(changed) = &mut state.changed {
            changed.extend(accounts);
            self.0.has_changed.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic can't leave the maps half changed in a way that matters: each entry stands alone.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn announce(&self, changed: Option<Presence>) {
        let Some(presence) = changed else { return };
        for device in self.board.watchers(presence.account) {
            if let Some(connected) = self.devices.get(&device) {
                connected.inbox.event(Event::Presence(presence));
            }
        }
    }
}

impl Audience for Hub {
    fn tell(&self, device: DeviceId, conversation: ConversationId, news: News) {
        // The mailbox of one that isn't connected has it.
        drop(self.news(device, conversation, news));
    }
}

/// An account of which nothing is known.
pub fn unknown(account: AccountId) -> Presence {
    Presence { account, state: PresenceState::Unknown, last_seen_ms: 0 }
}

#[cfg(test)]
mod tests;
