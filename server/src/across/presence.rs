//! Presence across nodes.
//!
//! For each account there is one node that keeps account of its presence, its *home*: the owner of the account in the
//! ring. A node reports to the home whether a user looks on one of its own connections, and subscribes there to what
//! its devices watch. The home tells each subscriber what is so on the *other* nodes.
//!
//! All of it is in memory, and states are told, not events. So whatever is lost is told again: when a link comes up,
//! when the home changes, and once a minute anyway. In between an account may be shown wrongly; to bring it into order
//! again never makes one who is online flicker: after a change of nodes, homes say only who is online, until everybody has
//! had time to report.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tern_protocol::{
    frame::{Presence, PresenceState},
    id::AccountId,
};
use tokio::time::{Instant, sleep_until};

use crate::{
    cluster::{
        NodeId, View, Views,
        links::{Note, Peers},
    },
    hub::{Hub, Standing},
};

/// How long nodes have to report after a change, before who isn't reported counts as offline.
const SETTLE: Duration = Duration::from_secs(2);
/// How often everything is told again.
const REFRESH: Duration = Duration::from_secs(60);

/// Presence at one node's desk.
pub(super) struct Desk {
    peers: Peers,
    hub: Hub,
    state: Mutex<State>,
}

/// What a node knows of presence beyond its own hub. No I/O: what it wants told is in [`State::out`].
struct State {
    me: NodeId,
    view: Arc<View>,
    /// What this node has to say, of the accounts of which it has something to say.
    mine: BTreeMap<AccountId, Standing>,
    /// What it has said, and to which home.
    said: BTreeMap<AccountId, (NodeId, Standing)>,
    /// The accounts of which this node is the home.
    homes: BTreeMap<AccountId, Kept>,
    /// Accounts that a node reported as online before it began anew, and not since; they are offline by then.
    stale: BTreeMap<NodeId, (Instant, BTreeSet<AccountId>)>,
    /// Until when nobody is said to be offline.
    quiet_until: Option<Instant>,
    out: Vec<(NodeId, Note)>,
}

/// What a home knows of an account.
#[derive(Default)]
struct Kept {
    online_at: BTreeSet<NodeId>,
    watchers: BTreeSet<NodeId>,
    last_seen_ms: u64,
}

impl Kept {
    /// What a watcher is told: it knows its own connections better.
    fn for_watcher(&self, account: AccountId, watcher: NodeId) -> Presence {
        let is_online = self.online_at.iter().any(|&node| node != watcher);
        let state = if is_online { PresenceState::Online } else { PresenceState::Offline };
        Presence { account, state, last_seen_ms: self.last_seen_ms }
    }
}

impl Desk {
    pub(super) fn new(views: &Views, peers: Peers, hub: Hub) -> Self {
        let state = Mutex::new(State::new(views.now()));
        Self { peers, hub, state }
    }

    /// Passes on what changes in the hub, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let mut refresh_at = Instant::now() + REFRESH;
        loop {
            let due = self.locked().next_due();
            let wake = due.map_or(refresh_at, |due| due.min(refresh_at));
            tokio::select! {
                biased;
                changed = self.hub.take_changed() => self.with(|state| {
                    changed.into_iter().for_each(|(account, mine)| state.changed(account, mine));
                }),
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    self.with(|state| state.pass(now));
                    if now >= refresh_at {
                        refresh_at = now + REFRESH;
                        self.with(State::say_all);
                    }
                }
            }
        }
    }

    pub(super) fn view_changed(&self, view: &Arc<View>) {
        self.with(|state| state.view_changed(view.clone(), Instant::now()));
    }

    pub(super) fn watch(&self, from: NodeId, account: AccountId, is_on: bool) {
        self.with(|state| state.watch(from, account, is_on));
    }

    pub(super) fn report(&self, from: NodeId, presence: Presence) {
        self.with(|state| state.report(from, presence));
    }

    pub(super) fn reset(&self, from: NodeId) {
        self.with(|state| state.reset(from, Instant::now()));
    }

    /// A home says what is so.
    pub(super) fn state(&self, presence: Presence) {
        let is_online = presence.state == PresenceState::Online;
        self.hub.set_abroad(presence.account, is_online, presence.last_seen_ms);
    }

    /// A node may have said things that were lost.
    pub(super) fn resync(&self, from: NodeId) {
        self.with(|state| state.watch_again(from));
    }

    /// There is a link to a node, which knows nothing of this one yet.
    pub(super) fn linked(&self, to: NodeId) {
        self.with(|state| state.say_anew(to));
    }

    /// A node is gone for good.
    pub(super) fn forget(&self, node: NodeId) {
        self.with(|state| state.forget(node));
    }

    /// Changes the state and tells what that yields, in the order of the changes.
    fn with(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.locked();
        change(&mut state);
        for (node, note) in std::mem::take(&mut state.out) {
            match note {
                Note::State(presence) if node == state.me => self.state(presence),
                // What is lost is told again when there is a link, or in a minute.
                note => drop(self.peers.tell(node, note)),
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Whatever a panic leaves is put right by the next refresh.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(view: Arc<View>) -> Self {
        Self {
            me: view.me(),
            view,
            mine: BTreeMap::new(),
            said: BTreeMap::new(),
            homes: BTreeMap::new(),
            stale: BTreeMap::new(),
            quiet_until: Some(Instant::now() + SETTLE),
            out: Vec::new(),
        }
    }

    // --- What this node has to say -------------------------------------------------------------

    fn changed(&mut self, account: AccountId, mine: Standing) {
        if mine.is_online || mine.is_watched {
            self.mine.insert(account, mine);
        } else {
            self.mine.remove(&account);
        }
        self.say(account, mine);
        if !self.mine.contains_key(&account) {
            self.said.remove(&account);
        }
    }

    /// Says to an account's home what it hasn't been told.
    fn say(&mut self, account: AccountId, mine: Standing) {
        let Some(home) = self.view.owner_of_account(account) else { return };
        let said = self.said.insert(account, (home, mine));
        let said = said.filter(|(to, _)| *to == home).map(|(_, said)| said).unwrap_or_default();
        if said.is_online != mine.is_online {
            let state = if mine.is_online { PresenceState::Online } else { PresenceState::Offline };
            let presence = Presence { account, state, last_seen_ms: mine.last_seen_ms };
            match home == self.me {
                true => self.report(home, presence),
                false => self.out.push((home, Note::Report(presence))),
            }
        }
        if said.is_watched != mine.is_watched {
            self.say_watch(home, account, mine.is_watched);
        }
    }

    fn say_watch(&mut self, home: NodeId, account: AccountId, is_on: bool) {
        match home == self.me {
            true => self.watch(home, account, is_on),
            false => self.out.push((home, Note::Watch { account, is_on })),
        }
    }

    /// Says everything to one home.
    fn say_anew(&mut self, home: NodeId) {
        if home != self.me {
            self.out.push((home, Note::Reset));
        }
        self.said.retain(|_, (to, _)| *to != home);
        self.say_unsaid();
    }

    fn say_all(&mut self) {
        let homes: BTreeSet<NodeId> = self.said.values().map(|(home, _)| *home).collect();
        homes.into_iter().for_each(|home| self.say_anew(home));
    }

    /// Says what the present homes haven't been told.
    fn say_unsaid(&mut self) {
        let unsaid: Vec<(AccountId, Standing)> = self
            .mine
            .iter()
            .filter(|(account, _)| {
                let home = self.view.owner_of_account(**account);
                self.said.get(account).map(|(to, _)| *to) != home
            })
            .map(|(&account, &mine)| (account, mine))
            .collect();
        unsaid.into_iter().for_each(|(account, mine)| self.say(account, mine));
    }

    /// Asks a home again what is so.
    fn watch_again(&mut self, home: NodeId) {
        let watched: Vec<AccountId> = self
            .said
            .iter()
            .filter(|(_, (to, said))| *to == home && said.is_watched)
            .map(|(&account, _)| account)
            .collect();
        watched.into_iter().for_each(|account| self.say_watch(home, account, true));
    }

    // --- What it keeps account of --------------------------------------------------------------

    fn report(&mut self, from: NodeId, presence: Presence) {
        let account = presence.account;
        if let Some((_, stale)) = self.stale.get_mut(&from) {
            stale.remove(&account);
        }
        let kept = self.homes.entry(account).or_default();
        kept.last_seen_ms = kept.last_seen_ms.max(presence.last_seen_ms);
        let changed = match presence.state {
            PresenceState::Online => kept.online_at.insert(from),
            _ => kept.online_at.remove(&from),
        };
        if changed {
            self.tell_watchers(account);
        }
        self.tidy(account);
    }

    fn watch(&mut self, from: NodeId, account: AccountId, is_on: bool) {
        let kept = self.homes.entry(account).or_default();
        if is_on {
            kept.watchers.insert(from);
            let presence = kept.for_watcher(account, from);
            self.tell(from, presence);
        } else {
            kept.watchers.remove(&from);
        }
        self.tidy(account);
    }

    fn tell_watchers(&mut self, account: AccountId) {
        let Some(kept) = self.homes.get(&account) else { return };
        let told: Vec<_> =
            kept.watchers.iter().map(|&node| (node, kept.for_watcher(account, node))).collect();
        told.into_iter().for_each(|(node, presence)| self.tell(node, presence));
    }

    fn tell(&mut self, watcher: NodeId, presence: Presence) {
        if presence.state == PresenceState::Online || self.quiet_until.is_none() {
            self.out.push((watcher, Note::State(presence)));
        }
    }

    fn reset(&mut self, from: NodeId, now: Instant) {
        let mut online = BTreeSet::new();
        for (&account, kept) in &mut self.homes {
            kept.watchers.remove(&from);
            if kept.online_at.contains(&from) {
                online.insert(account);
            }
        }
        let (_, stale) = self.stale.entry(from).or_insert((now, BTreeSet::new()));
        stale.extend(online);
        if let Some((until, _)) = self.stale.get_mut(&from) {
            *until = now + SETTLE;
        }
        let unused: Vec<AccountId> = self.homes.keys().copied().collect();
        unused.into_iter().for_each(|account| self.tidy(account));
    }

    fn forget(&mut self, node: NodeId) {
        self.stale.remove(&node);
        let accounts: Vec<AccountId> = self.homes.keys().copied().collect();
        for account in accounts {
            let Some(kept) = self.homes.get_mut(&account) else { continue };
            kept.watchers.remove(&node);
            if kept.online_at.remove(&node) {
                self.tell_watchers(account);
            }
            self.tidy(account);
        }
    }

    fn tidy(&mut self, account: AccountId) {
        let is_unused = |kept: &Kept| kept.online_at.is_empty() && kept.watchers.is_empty();
        if self.homes.get(&account).is_some_and(is_unused) {
            self.homes.remove(&account);
        }
    }

    // --- Time and nodes ------------------------------------------------------------------------

    fn view_changed(&mut self, view: Arc<View>, now: Instant) {
        self.view = view;
        let (view, me) = (self.view.clone(), self.me);
        self.homes.retain(|&account, _| view.owner_of_account(account) == Some(me));
        self.quiet_until = Some(now + SETTLE);
        self.say_unsaid();
    }

    fn next_due(&self) -> Option<Instant> {
        let stale = self.stale.values().map(|(until, _)| *until);
        stale.chain(self.quiet_until).min()
    }

    /// Does what is due.
    fn pass(&mut self, now: Instant) {
        let due: Vec<NodeId> = self
            .stale
            .iter()
            .filter(|(_, (until, _))| *until <= now)
            .map(|(&node, _)| node)
            .collect();
        for node in due {
            let (_, accounts) = self.stale.remove(&node).unwrap_or((now, BTreeSet::new()));
            for account in accounts {
                if let Some(kept) = self.homes.get_mut(&account)
                    && kept.online_at.remove(&node)
                {
                    self.tell_watchers(account);
                    self.tidy(account);
                }
            }
        }
        if self.quiet_until.is_some_and(|until| until <= now) {
            self.quiet_until = None;
            let accounts: Vec<AccountId> = self.homes.keys().copied().collect();
            accounts.into_iter().for_each(|account| self.tell_watchers(account));
        }
    }
}

#[cfg(test)]
mod tests;
