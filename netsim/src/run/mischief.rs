//! What a phone with a planted fault does between the library and its application.

use std::collections::BTreeMap;

use tern_client::{
    AccountId, Client, ClientEvent, ConversationId, PresenceState, StoreError, StoredMessage,
};

use crate::fault::Fault;

/// Of so many messages, or receipts, one is treated badly.
const EVERY: u64 = 7;

/// A planted fault at work, or none.
pub(super) struct Mischief {
    fault: Option<Fault>,
    client: Client,
    /// Messages, or receipts, so far.
    count: u64,
    /// A message that is shown behind the next one.
    held_back: Option<Box<StoredMessage>>,
    /// Receipts that were shown: the first, or the furthest.
    shown: BTreeMap<(ConversationId, AccountId), (u64, u64)>,
    /// The other account of each conversation.
    peers: BTreeMap<ConversationId, AccountId>,
}

impl Mischief {
    pub(super) fn new(
        fault: Option<Fault>,
        client: &Client,
        peers: BTreeMap<ConversationId, AccountId>,
    ) -> Self {
        let client = client.clone();
        Self { fault, client, count: 0, held_back: None, shown: BTreeMap::new(), peers }
    }

    fn strikes(&mut self) -> bool {
        self.count += 1;
        self.count.is_multiple_of(EVERY)
    }

    /// What the application is told instead of an event.
    pub(super) async fn pass(
        &mut self,
        event: ClientEvent,
    ) -> Result<Vec<ClientEvent>, StoreError> {
        let Some(fault) = self.fault else { return Ok(vec![event]) };
        Ok(match (fault, event) {
            (Fault::PhoneDropsMessages, ClientEvent::Message(message)) if self.strikes() => {
                // As if the user had seen it, so that it doesn't come again.
                self.client.confirm([message.local]).await?;
                vec![]
            }
            (Fault::PhoneDoublesMessages, ClientEvent::Message(message)) if self.strikes() => {
                vec![ClientEvent::Message(message.clone()), ClientEvent::Message(message)]
            }
            (Fault::PhoneSwapsMessages, event) => self.swap(event),
            (
                Fault::PhoneTicksDelivered,
                ClientEvent::Sent { local, conversation, seq, time_ms },
            ) => {
                let mut events = vec![ClientEvent::Sent { local, conversation, seq, time_ms }];
                if let Some(&account) = self.peers.get(&conversation) {
                    events.push(self.at_least(conversation, account, (seq, 0)));
                }
                events
            }
            (
                Fault::PhoneTicksDelivered,
                ClientEvent::Receipt { conversation, account, delivered, read },
            ) => vec![self.at_least(conversation, account, (delivered, read))],
            (
                Fault::PhoneTicksRead,
                ClientEvent::Receipt { conversation, account, delivered, .. },
            ) => {
                let read = delivered;
                vec![ClientEvent::Receipt { conversation, account, delivered, read }]
            }
            (
                Fault::PhoneTakesTicksBack,
                ClientEvent::Receipt { conversation, account, delivered, read },
            ) => self.take_back(conversation, account, (delivered, read)),
            (Fault::PhoneHidesArrivals, event) if is(&event, PresenceState::Online) => vec![],
            (Fault::PhoneHidesDepartures, event) if is(&event, PresenceState::Offline) => vec![],
            (_, event) => vec![event],
        })
    }

    /// Holds a message back until the next of its conversation, or until anything else comes.
    fn swap(&mut self, event: ClientEvent) -> Vec<ClientEvent> {
        let held_back = self.held_back.take();
        match (held_back, event) {
            (Some(first), ClientEvent::Message(second))
                if first.conversation == second.conversation =>
            {
                vec![ClientEvent::Message(second), ClientEvent::Message(first)]
            }
            (Some(first), event) => vec![ClientEvent::Message(first), event],
            (None, ClientEvent::Message(message)) if self.strikes() => {
                self.held_back = Some(message);
                vec![]
            }
            (None, event) => vec![event],
        }
    }

    /// Shows a receipt, or what was shown before if that is more.
    fn at_least(
        &mut self,
        conversation: ConversationId,
        account: AccountId,
        told: (u64, u64),
    ) -> ClientEvent {
        let shown = self.shown.entry((conversation, account)).or_default();
        *shown = (shown.0.max(told.0), shown.1.max(told.1));
        let (delivered, read) = *shown;
        ClientEvent::Receipt { conversation, account, delivered, read }
    }

    /// Shows a receipt, and now and then the first of all behind it.
    fn take_back(
        &mut self,
        conversation: ConversationId,
        account: AccountId,
        told: (u64, u64),
    ) -> Vec<ClientEvent> {
        let first = *self.shown.entry((conversation, account)).or_insert(told);
        let receipt =
            |(delivered, read)| ClientEvent::Receipt { conversation, account, delivered, read };
        let mut events = vec![receipt(told)];
        if self.strikes() {
            events.push(receipt(first));
        }
        events
    }
}

fn is(event: &ClientEvent, wanted: PresenceState) -> bool {
    matches!(event, ClientEvent::Presence { state, .. } if *state == wanted)
}
