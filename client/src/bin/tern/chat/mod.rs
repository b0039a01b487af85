//! `tern chat`: a conversation on the whole terminal.

mod input;
mod screen;
mod state;
mod view;

use std::time::{Duration, Instant};

use crossterm::event::{Event as TerminalEvent, KeyEventKind};
use tern_client::{
    AccountId, Client, ClientEvent, ConnectionState, ConversationId, Events, PresenceState,
};

use self::{
    input::{Action, Input},
    screen::Screen,
    state::{Connection, State},
};
use crate::{failure::Failure, status::until_connected};

/// Messages of the history on the screen at most.
const HISTORY: usize = 500;
/// `typing` holds for six seconds, so it is repeated a little more often.
const TYPING_EVERY: Duration = Duration::from_secs(4);

pub(crate) async fn run(client: &Client, mut events: Events, name: &str) -> Result<(), Failure> {
    client.connect();
    let (peer, connection) = find(client, &mut events, name).await?;
    let own = client.identity().await?.ok_or(Failure::NotRegistered)?;
    let conversation = ConversationId::direct(own.account, peer)
        .ok_or_else(|| Failure::NoSuchAccount(name.to_owned()))?;
    client.watch([peer]).await;
    let screen = Screen::enter()?;
    let mut state = State::new(&own.name, own.account, name);
    state.connection = connection;
    let chat =
        Chat { client, peer, conversation, state, input: Input::default(), typing_told: None };
    chat.run(events, screen).await
}

/// The account with the name: from memory, or by asking the server. And what is known of the connection
/// then.
async fn find(
    client: &Client,
    events: &mut Events,
    name: &str,
) -> Result<(AccountId, Connection), Failure> {
    let known = client.status().await?.conversations;
    if let Some(known) = known.into_iter().find(|known| known.peer_name == name) {
        return Ok((known.peer, Connection::Connecting));
    }
    until_connected(events).await?;
    let peer = client.lookup(name).await?;
    let peer = peer.ok_or_else(|| Failure::NoSuchAccount(name.to_owned()))?;
    Ok((peer, Connection::Connected))
}

struct Chat<'a> {
    client: &'a Client,
    peer: AccountId,
    conversation: ConversationId,
    state: State,
    input: Input,
    typing_told: Option<Instant>,
}

impl Chat<'_> {
    async fn run(mut self, mut events: Events, mut screen: Screen) -> Result<(), Failure> {
        self.reload().await?;
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        loop {
            screen.draw(|frame| view::draw(frame, &self.state, &self.input))?;
            let mut is_stale = false;
            tokio::select! {
                typed = screen.next() => {
                    let Some(typed) = typed else { return Ok(()) };
                    if self.typed(typed).await? {
                        return Ok(());
                    }
                }
                event = events.next() => {
                    let mut event = event;
                    // What came together is drawn together.
                    while let Some(now) = event {
                        is_stale |= self.happened(now).await?;
                        event = events.try_next();
                    }
                }
                _ = clock.tick() => self.state.tick(Instant::now()),
            }
            if is_stale {
                self.reload().await?;
            }
        }
    }

    /// Reads the conversation from the store. What is on the screen counts as shown and read.
    async fn reload(&mut self) -> Result<(), Failure> {
        let history = self.client.history(self.conversation, HISTORY).await?;
        let of_peer = |account| account == self.peer;
        if let Some(seq) = history.iter().filter(|m| of_peer(m.account)).filter_map(|m| m.seq).max()
        {
            self.client.mark_read(self.conversation, seq).await?;
        }
        self.state.messages = history;
        Ok(())
    }

    /// Takes an event in; says whether the conversation has to be read again.
    async fn happened(&mut self, event: ClientEvent) -> Result<bool, Failure> {
        match event {
            ClientEvent::Message(message) if message.conversation == self.conversation => {
                self.state.typing_since = None;
                self.client.confirm([message.local]).await?;
                self.watch_if_unknown().await;
                return Ok(true);
            }
            // Not confirmed, so it is shown when its own conversation is opened.
            ClientEvent::Message(message) => self.state.elsewhere = Some(message.name),
            ClientEvent::Sent { conversation, .. } | ClientEvent::Receipt { conversation, .. }
                if conversation == self.conversation =>
            {
                self.watch_if_unknown().await;
                return Ok(true);
            }
            ClientEvent::Failed { .. } | ClientEvent::Lagged => return Ok(true),
            ClientEvent::Presence { account, state, last_seen_ms } if account == self.peer => {
                self.state.presence = Some((state, last_seen_ms));
            }
            ClientEvent::Typing { conversation, account, active }
                if conversation == self.conversation && account == self.peer =>
            {
                self.state.typing_since = active.then(Instant::now);
            }
            ClientEvent::Connection(ConnectionState::Connected) => {
                self.state.connection = Connection::Connected;
            }
            ClientEvent::Connection(ConnectionState::Connecting) => {
                self.state.connection = Connection::Connecting;
            }
            ClientEvent::Connection(ConnectionState::Waiting { error, .. }) => {
                self.state.connection = Connection::Lost(error.to_string());
                self.state.presence = None;
            }
            ClientEvent::Connection(ConnectionState::Stopped { error }) => {
                return Err(error.into());
            }
            _ => {}
        }
        Ok(false)
    }

    /// Presence is for those who share a conversation, so before the first message it wasn't told.
    async fn watch_if_unknown(&mut self) {
        if !matches!(self.state.presence, Some((PresenceState::Online | PresenceState::Offline, _)))
        {
            self.client.watch([self.peer]).await;
        }
    }

    /// Takes in what was typed; says whether to leave.
    async fn typed(&mut self, typed: TerminalEvent) -> Result<bool, Failure> {
        let action = match typed {
            TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => self.input.key(key),
            TerminalEvent::Paste(text) => self.input.paste(&text),
            _ => Action::None,
        };
        match action {
            Action::Leave => return Ok(true),
            Action::Submit(text) => {
                self.client.send(self.peer, text.as_bytes()).await?;
                self.typing_told = None;
                self.state.scroll = 0;
                self.reload().await?;
            }
            Action::Edited => self.tell_typing().await,
            Action::Scroll(lines) => self.state.scroll_by(lines),
            Action::None => {}
        }
        Ok(false)
    }

    async fn tell_typing(&mut self) {
        let now = Instant::now();
        if self.input.text().is_empty() {
            if self.typing_told.take().is_some() {
                self.client.typing(self.conversation, false).await;
            }
            return;
        }
        // An uplink needs the conversation in the store, which the first message makes.
        let is_due = self.typing_told.is_none_or(|told| now - told >= TYPING_EVERY);
        if is_due && !self.state.messages.is_empty() {
            self.typing_told = Some(now);
            self.client.typing(self.conversation, true).await;
        }
    }
}
