//! Who is online and who watches whom: plain maps, changed under the hub's lock.

use std::collections::{BTreeMap, BTreeSet};

use tern_protocol::{
    frame::{Presence, PresenceState},
    id::{AccountId, DeviceId},
};

/// The presence of accounts with a device here, or with a watcher here.
#[derive(Debug, Default)]
pub(super) struct Board {
    accounts: BTreeMap<AccountId, Account>,
    watching: BTreeMap<DeviceId, BTreeSet<AccountId>>,
}

#[derive(Debug, Default)]
struct Account {
    /// Devices that are connected (or were a moment ago), and whether they are active.
    devices: BTreeMap<DeviceId, bool>,
    watchers: BTreeSet<DeviceId>,
    last_seen_ms: u64,
    /// Whether other nodes say that it is online. Kept for as long as somebody watches.
    is_online_abroad: bool,
    /// Whether other nodes have said anything since somebody watches.
    is_known_abroad: bool,
}

/// What one node has to say of an account to the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether a user looks on a device that is connected here.
    pub is_online: bool,
    /// When one last did, milliseconds since the epoch; 0 if not known.
    pub last_seen_ms: u64,
    /// Whether a device that is connected here watches the account.
    pub is_watched: bool,
}

impl Account {
    fn is_online_here(&self) -> bool {
        self.devices.values().any(|&active| active)
    }

    fn is_online(&self) -> bool {
        self.is_online_abroad || self.is_online_here()
    }

    fn is_unused(&self) -> bool {
        self.devices.is_empty() && self.watchers.is_empty()
    }
}

impl Board {
    /// Notes a device and its activity. Answers the account's presence if that changed.
    pub(super) fn set(
        &mut self,
        account: AccountId,
        device: DeviceId,
        active: bool,
        now_ms: u64,
    ) -> Option<Presence> {
        self.change(account, now_ms, |state| {
            state.devices.insert(device, active);
        })
    }

    /// Forgets a device. Answers the account's presence if that changed.
    pub(super) fn remove(
        &mut self,
        account: AccountId,
        device: DeviceId,
        last_seen_ms: u64,
    ) -> Option<Presence> {
        self.change(account, last_seen_ms, |state| {
            state.devices.remove(&device);
        })
    }

    /// Notes what other nodes say of an account that is watched. Answers its presence if that changed.
    pub(super) fn set_abroad(
        &mut self,
        account: AccountId,
        is_online: bool,
        last_seen_ms: u64,
    ) -> Option<Presence> {
        let is_watched =
            self.accounts.get(&account).is_some_and(|state| !state.watchers.is_empty());
        if !is_watched {
            return None;
        }
        self.change(account, last_seen_ms, |state| {
            state.is_online_abroad = is_online;
            state.is_known_abroad = true;
        })
    }

    fn change(
        &mut self,
        account: AccountId,
        now_ms: u64,
        change: impl FnOnce(&mut Account),
    ) -> Option<Presence> {
        let state = self.accounts.entry(account).or_default();
        let before = state.is_online();
        change(state);
        let after = state.is_online();
        if before {
            state.last_seen_ms = state.last_seen_ms.max(now_ms);
        }
        let changed = (before != after).then(|| self.presence(account));
        self.tidy(account);
        changed
    }

    /// Adds a watcher, unless it watches `most` others already.
    pub(super) fn watch(&mut self, device: DeviceId, account: AccountId, most: usize) -> bool {
        let watched = self.watching.entry(device).or_default();
        if watched.len() >= most && !watched.contains(&account) {
            return false;
        }
        watched.insert(account);
        self.accounts.entry(account).or_default().watchers.insert(device);
        true
    }

    /// Takes a watcher away.
    pub(super) fn unwatch(&mut self, device: DeviceId, account: AccountId) {
        if let Some(watched) = self.watching.get_mut(&device) {
            watched.remove(&account);
        }
        if let Some(state) = self.accounts.get_mut(&account) {
            state.watchers.remove(&device);
            // Who doesn't watch isn't told any more.
            state.is_online_abroad &= !state.watchers.is_empty();
            state.is_known_abroad &= !state.watchers.is_empty();
        }
        self.tidy(account);
    }

    /// Takes a watcher away from all that it watches.
    pub(super) fn unwatch_all(&mut self, device: DeviceId) {
        for account in self.watching.remove(&device).unwrap_or_default() {
            self.unwatch(device, account);
        }
    }

    /// The accounts that a device watches.
    pub(super) fn watched(&self, device: DeviceId) -> impl Iterator<Item = AccountId> {
        self.watching.get(&device).into_iter().flatten().copied()
    }

    /// The devices that watch an account.
    pub(super) fn watchers(&self, account: AccountId) -> impl Iterator<Item = DeviceId> {
        self.accounts.get(&account).into_iter().flat_map(|state| &state.watchers).copied()
    }

    /// The devices of an account that are connected here, or were a moment ago.
    pub(super) fn devices(&self, account: AccountId) -> impl Iterator<Item = DeviceId> {
        self.accounts.get(&account).into_iter().flat_map(|state| state.devices.keys()).copied()
    }

    /// The presence of an account.
    pub(super) fn presence(&self, account: AccountId) -> Presence {
        let state = self.accounts.get(&account);
        let online = state.is_some_and(Account::is_online);
        Presence {
            account,
            state: if online { PresenceState::Online } else { PresenceState::Offline },
            last_seen_ms: state.map_or(0, |state| state.last_seen_ms),
        }
    }

    /// Whether other nodes have said anything of an account that is watched.
    pub(super) fn is_known_abroad(&self, account: AccountId) -> bool {
        self.accounts.get(&account).is_some_and(|state| state.is_known_abroad)
    }

    /// What this node knows of an account by its own connections, and whether anybody here watches it.
    pub(super) fn standing(&self, account: AccountId) -> Standing {
        let state = self.accounts.get(&account);
        Standing {
            is_online: state.is_some_and(Account::is_online_here),
            last_seen_ms: state.map_or(0, |state| state.last_seen_ms),
            is_watched: state.is_some_and(|state| !state.watchers.is_empty()),
        }
    }

    fn tidy(&mut self, account: AccountId) {
        if self.accounts.get(&account).is_some_and(Account::is_unused) {
            self.accounts.remove(&account);
        }
    }
}
