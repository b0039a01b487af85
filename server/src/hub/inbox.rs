//! The inbox of one connection: what the rest of the server has for it, bounded.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tern_protocol::{
    code::Code,
    frame::{Event, Mailbox, Receipt},
    id::{AccountId, ConversationId},
};
use tokio::sync::Notify;

use crate::conversation::{Appended, News};

/// Bytes of envelopes held in memory for the downlinks of a connection, but for the last.
const LIVE_BYTES: usize = 1 << 20;
/// Messages that a downlink takes out at once.
const TAKEN_MESSAGES: usize = 16;

/// Bounds of an inbox.
#[derive(Debug, Clone, Copy)]
pub struct InboxSettings {
    /// Messages held in memory for the downlinks of a connection; others are read from the store.
    pub live_messages: usize,
    /// Typing and other passing events; the oldest are dropped. (Presence is kept per account.)
    pub events: usize,
}

/// What waits for the downlink of one conversation.
#[derive(Debug, Default)]
pub struct Slot {
    /// Messages in order, each with the last sequence number before it that the device is sent.
    pub live: VecDeque<(u64, Arc<Appended>)>,
    /// There is more in the store than in `live`.
    pub behind: bool,
    /// The last receipt of each account.
    pub receipts: BTreeMap<AccountId, Arc<Receipt>>,
}

impl Slot {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && !self.behind && self.receipts.is_empty()
    }
}

#[derive(Debug, Default)]
struct State {
    slots: BTreeMap<ConversationId, SlotState>,
    /// Conversations that need a downlink and have none, in the order in which to open them.
    ready: VecDeque<ConversationId>,
    live_messages: usize,
    live_bytes: usize,
    events: VecDeque<Event>,
    close: Option<Code>,
    /// Nobody looks: presence and typing are dropped, receipts held.
    inactive: bool,
    /// What the welcome counted and isn't acknowledged, with the position at which it is.
    catching_up: BTreeMap<ConversationId, u64>,
    mailbox: Option<Mailbox>,
}

#[derive(Debug, Default)]
struct SlotState {
    slot: Slot,
    /// Told when the slot gets something; `None` while no downlink serves it.
    served_by: Option<Arc<Notify>>,
    queued: bool,
}

/// The inbox of one connection. News comes in from anywhere; the connection's tasks take it out.
#[derive(Debug)]
pub struct Inbox {
    state: Mutex<State>,
    settings: InboxSettings,
    /// Told when there is an event, a conversation without a downlink, or a reason to close.
    changed: Notify,
    /// Told when there is a reason to close.
    closing: Notify,
    /// One downlink that has nothing to do should end for another's sake.
    room_wanted: AtomicBool,
    /// Downlinks that the client's limit on streams keeps from opening.
    kept_out: AtomicUsize,
}

/// A downlink waits for a stream. As long as this is held, others that have nothing to do end.
#[derive(Debug)]
pub struct KeptOut<'a>(&'a Inbox);

impl Drop for KeptOut<'_> {
    fn drop(&mut self) {
        self.0.kept_out.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inbox {
    /// An empty inbox.
    pub fn new(settings: InboxSettings) -> Self {
        Self {
            state: Mutex::default(),
            settings,
            changed: Notify::new(),
            closing: Notify::new(),
            room_wanted: AtomicBool::new(false),
            kept_out: AtomicUsize::new(0),
        }
    }

    /// Waits until there may be something for [`Inbox::take_events`], [`Inbox::next_ready`] or
    /// [`Inbox::close_code`].
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Puts in news of a conversation.
    pub fn news(&self, conversation: ConversationId, news: News) {
        let mut state = self.state();
        let room =
            state.live_messages < self.settings.live_messages && state.live_bytes < LIVE_BYTES;
        let entry = state.slots.entry(conversation).or_default();
        let (mut added, mut added_bytes) = (0, 0);
        match news {
            // Once something was left out, what follows comes from the store as well, in order.
            News::Message { foreign_head, appended } if room && !entry.slot.behind => {
                (added, added_bytes) = (1, appended.message.envelope.len());
                entry.slot.live.push_back((foreign_head, appended));
            }
            News::Message { .. } | News::Unsure => entry.slot.behind = true,
            News::Receipt(receipt) => drop(entry.slot.receipts.insert(receipt.account, receipt)),
        }
        let held = state.inactive && added == 0 && !entry_is_behind(&state, conversation);
        state.live_messages += added;
        state.live_bytes += added_bytes;
        if !held {
            self.wake(&mut state, conversation);
        }
    }

    /// Whether a user looks.
    pub fn is_active(&self) -> bool {
        !self.state().inactive
    }

    /// Sets whether a user looks. When one does again, held receipts go out.
    pub fn set_active(&self, active: bool) {
        self.state().inactive = !active;
        if active {
            self.release_receipts();
        }
    }

    /// Lets the receipts out that were held for an inactive client.
    pub fn release_receipts(&self) {
        let mut state = self.state();
        let held: Vec<ConversationId> = state
            .slots
            .iter()
            .filter(|(_, entry)| !entry.slot.is_empty())
            .map(|(&conversation, _)| conversation)
            .collect();
        for conversation in held {
            self.wake(&mut state, conversation);
        }
        self.changed.notify_one();
    }

    /// Asks for a downlink of each conversation, in this order: the mailbox at sign-in. When each is
    /// acknowledged up to its position, if it has one, the event `caughtUp` follows.
    pub fn fill(&self, waiting: &[(ConversationId, Option<u64>)], mailbox: Mailbox) {
        let mut state = self.state();
        for &(conversation, position) in waiting {
            state.slots.entry(conversation).or_default().slot.behind = true;
            if let Some(position) = position {
                state.catching_up.insert(conversation, position);
            }
            self.wake(&mut state, conversation);
        }
        state.mailbox = Some(mailbox);
        self.check_caught_up(&mut state);
    }

    /// A conversation was acknowledged up to `seq`.
    pub fn acknowledged(&self, conversation: ConversationId, seq: u64) {
        let mut state = self.state();
        if state.catching_up.get(&conversation).is_some_and(|&position| position <= seq) {
            state.catching_up.remove(&conversation);
            self.check_caught_up(&mut state);
        }
    }

    /// A conversation of the mailbox turned out to have nothing that can be delivered.
    pub fn abandoned(&self, conversation: ConversationId) {
        self.acknowledged(conversation, u64::MAX);
    }

    fn check_caught_up(&self, state: &mut State) {
        if state.catching_up.is_empty()
            && let Some(mailbox) = state.mailbox.take()
        {
            state.events.push_back(Event::CaughtUp(mailbox));
            self.changed.notify_one();
        }
    }

    /// Puts in an event. Of presence, only the last of an account is kept; of typing, as many as fit;
    /// of changed devices, one.
    pub fn event(&self, event: Event) {
        let mut state = self.state();
        if state.inactive && matches!(event, Event::Presence(_) | Event::Typing { .. }) {
            return;
        }
        if let Event::Presence(new) = &event {
            let same =
                |old: &Event| matches!(old, Event::Presence(old) if old.account == new.account);
            state.events.retain(|old| !same(old));
        } else if matches!(event, Event::Typing { .. })
            && state.events.len() >= self.settings.events
        {
            return;
        } else if event == Event::DevicesChanged && state.events.contains(&event) {
            // It says to look again, which once does.
            return;
        }
        state.events.push_back(event);
        self.changed.notify_one();
    }

    /// Says that the connection is to be closed.
    pub fn close(&self, code: Code) {
        self.state().close.get_or_insert(code);
        self.changed.notify_one();
        self.closing.notify_one();
    }

    /// Waits until the connection is to be closed.
    pub async fn closing(&self) -> Code {
        loop {
            if let Some(code) = self.close_code() {
                return code;
            }
            self.closing.notified().await;
        }
    }

    /// Why the connection is to be closed, if it is.
    pub fn close_code(&self) -> Option<Code> {
        self.state().close
    }

    /// Takes all events.
    pub fn take_events(&self) -> Vec<Event> {
        self.state().events.drain(..).collect()
    }

    /// The next conversation that needs a downlink. From now on it is served by whoever waits on the
    /// [`Notify`], until [`Inbox::release`].
    pub fn next_ready(&self) -> Option<(ConversationId, Arc<Notify>)> {
        let mut state = self.state();
        let conversation = state.ready.pop_front()?;
        let entry = state.slots.entry(conversation).or_default();
        let notify = Arc::new(Notify::new());
        entry.queued = false;
        entry.served_by = Some(notify.clone());
        Some((conversation, notify))
    }

    /// As many downlinks are open as may be: if a conversation waits for one, another downlink should
    /// end.
    pub fn is_full(&self) {
        let state = self.state();
        if !state.ready.is_empty() && !self.room_wanted.swap(true, Ordering::Relaxed) {
            wake_all(&state);
        }
    }

    /// The client allows no further stream now; see [`KeptOut`].
    pub fn keep_out(&self) -> KeptOut<'_> {
        let state = self.state();
        self.kept_out.fetch_add(1, Ordering::Relaxed);
        wake_all(&state);
        KeptOut(self)
    }

    /// Whether a downlink that has nothing to do should end for another's sake. Who is told so does.
    pub fn should_give_way(&self) -> bool {
        self.kept_out.load(Ordering::Relaxed) > 0 || self.room_wanted.swap(false, Ordering::Relaxed)
    }

    /// Takes what waits for a downlink: of many messages the first few, so that what a blocked downlink
    /// holds is bounded, too. The rest stays for the next call.
    pub fn take(&self, conversation: ConversationId) -> Slot {
        let mut state = self.state();
        let Some(entry) = state.slots.get_mut(&conversation) else { return Slot::default() };
        let few = entry.slot.live.len().min(TAKEN_MESSAGES);
        let rest = entry.slot.live.split_off(few);
        let mut taken = std::mem::replace(&mut entry.slot.live, rest);
        taken.shrink_to_fit();
        // What is only in the store comes behind what is in memory.
        let behind = entry.slot.live.is_empty() && std::mem::take(&mut entry.slot.behind);
        let receipts = std::mem::take(&mut entry.slot.receipts);
        state.live_messages -= taken.len();
        state.live_bytes -=
            taken.iter().map(|(_, appended)| appended.message.envelope.len()).sum::<usize>();
        Slot { live: taken, behind, receipts }
    }

    /// The downlink that serves the conversation is about to end before all is acknowledged: another is
    /// asked for when it has.
    pub fn again(&self, conversation: ConversationId) {
        if let Some(entry) = self.state().slots.get_mut(&conversation) {
            entry.slot.behind = true;
        }
    }

    /// The downlink ends. If something came meanwhile, another is asked for.
    pub fn release(&self, conversation: ConversationId) {
        let mut state = self.state();
        if let Some(entry) = state.slots.get_mut(&conversation) {
            entry.served_by = None;
            if entry.slot.is_empty() {
                state.slots.remove(&conversation);
            } else {
                self.wake(&mut state, conversation);
            }
        }
    }

    fn wake(&self, state: &mut State, conversation: ConversationId) {
        let Some(entry) = state.slots.get_mut(&conversation) else { return };
        match &entry.served_by {
            Some(downlink) => downlink.notify_one(),
            None if !entry.queued => {
                entry.queued = true;
                state.ready.push_back(conversation);
                self.changed.notify_one();
            }
            None => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below leaves the state whole before it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the downlinks. A permit that stays until a downlink waits makes it look around once more.
fn wake_all(state: &State) {
    for downlink in state.slots.values().filter_map(|entry| entry.served_by.as_ref()) {
        downlink.notify_one();
    }
}

fn entry_is_behind(state: &State, conversation: ConversationId) -> bool {
    state.slots.get(&conversation).is_some_and(|entry| entry.slot.behind)
}
