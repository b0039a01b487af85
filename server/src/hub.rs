//! The hub: which devices are connected here, who is online, who wants to know.
//!
//! It is the conversations' [`Audience`]: news of a device goes into the [`Inbox`] of its connection,
//! which is bounded. What doesn't fit is only noted as "behind": it is in the mailbox, and the
//! downlink reads it from there.

mod inbox;
mod presence;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tern_protocol::{
    code::Code,
    frame::{Event, Presence, PresenceState},
    id::{AccountId, ConversationId, DeviceId},
};

pub use self::inbox::{Inbox, InboxSettings, KeptOut, Slot};
use self::presence::Board;
use crate::conversation::{Audience, News};

/// A connection of a device, as the hub knows it.
#[derive(Clone)]
struct Connected {
    epoch: u64,
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct State {
    devices: BTreeMap<DeviceId, Connected>,
    board: Board,
}

/// The hub of a node. Cheap to clone.
///
/// One lock guards it; under it only maps in memory are changed.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<State>>);

impl Hub {
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
        let connected = Connected { epoch, inbox };
        // A connection that was overtaken while it signed in is the older one.
        if state.devices.get(&device).is_some_and(|newer| newer.epoch > epoch) {
            connected.inbox.close(Code::Replaced);
            return;
        }
        if let Some(older) = state.devices.insert(device, connected) {
            older.inbox.close(Code::Replaced);
            state.board.unwatch_all(device);
        }
        let changed = state.board.set(account, device, active, now_ms);
        state.announce(changed);
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
                state.board.unwatch_all(device);
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
        }
    }

    /// A device's user looks, or doesn't.
    pub fn set_active(&self, account: AccountId, device: DeviceId, active: bool, now_ms: u64) {
        let mut state = self.state();
        if state.devices.contains_key(&device) {
            let changed = state.board.set(account, device, active, now_ms);
            state.announce(changed);
        }
    }

    /// A device wants to know of an account's presence. Answers what it is now; `None` if the device
    /// watches too many already.
    pub fn watch(&self, device: DeviceId, account: AccountId, most: usize) -> Option<Presence> {
        let mut state = self.state();
        state.board.watch(device, account, most).then(|| state.board.presence(account))
    }

    /// A device doesn't want to know any more.
    pub fn unwatch(&self, device: DeviceId, account: AccountId) {
        self.state().board.unwatch(device, account);
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

    /// Tells an event to a connected device; one that isn't connected misses it.
    pub fn event(&self, device: DeviceId, event: Event) {
        let inbox = self.state().devices.get(&device).map(|connected| connected.inbox.clone());
        if let Some(inbox) = inbox {
            inbox.event(event);
        }
    }

    /// Closes a device's connection.
    pub fn close(&self, device: DeviceId, code: Code) {
        let inbox = self.state().devices.get(&device).map(|connected| connected.inbox.clone());
        if let Some(inbox) = inbox {
            inbox.close(code);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic can't leave the maps half changed in a way that matters: each entry stands alone.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let inbox = self.state().devices.get(&device).map(|connected| connected.inbox.clone());
        if let Some(inbox) = inbox {
            inbox.news(conversation, news);
        }
    }
}

/// An account of which nothing is known.
pub fn unknown(account: AccountId) -> Presence {
    Presence { account, state: PresenceState::Unknown, last_seen_ms: 0 }
}

#[cfg(test)]
mod tests;
