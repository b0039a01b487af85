//! What the screen shows.

use std::time::{Duration, Instant};

use tern_client::{AccountId, PresenceState, StoredMessage};

/// How long a sign of typing holds.
const TYPING: Duration = Duration::from_secs(6);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Connection {
    Connecting,
    Connected,
    Lost(String),
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) own_name: String,
    pub(super) own: AccountId,
    pub(super) peer_name: String,
    pub(super) messages: Vec<StoredMessage>,
    pub(super) presence: Option<(PresenceState, u64)>,
    pub(super) typing_since: Option<Instant>,
    pub(super) connection: Connection,
    /// Who wrote last in another conversation.
    pub(super) elsewhere: Option<String>,
    /// Lines that the history is scrolled up by.
    pub(super) scroll: usize,
}

impl State {
    pub(super) fn new(own_name: &str, own: AccountId, peer_name: &str) -> Self {
        Self {
            own_name: own_name.to_owned(),
            own,
            peer_name: peer_name.to_owned(),
            messages: Vec::new(),
            presence: None,
            typing_since: None,
            connection: Connection::Connecting,
            elsewhere: None,
            scroll: 0,
        }
    }

    /// Time passes.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.typing_since.is_some_and(|since| now - since >= TYPING) {
            self.typing_since = None;
        }
    }

    pub(super) fn scroll_by(&mut self, lines: isize) {
        self.scroll = self.scroll.saturating_add_signed(lines);
    }
}
