//! What a disk with a planted fault does to transactions.

use std::collections::BTreeMap;

use bytes::Bytes;
use tern_server::{
    keys::{ConversationKey, parse_conversation_key},
    store::{Mutation, Transaction},
};

use crate::fault::Fault;

/// Of so many messages, or commits, one is treated badly.
const EVERY: u64 = 7;

/// A planted fault at work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lie {
    pub(super) fault: Fault,
    /// Messages, or commits with a message, so far.
    count: u64,
}

/// What becomes of a transaction.
pub(super) struct Distorted {
    pub(super) transaction: Transaction,
    /// The answer is that nobody knows.
    pub(super) is_unknown: bool,
}

impl Lie {
    pub(super) fn of(fault: Fault) -> Self {
        Self { fault, count: 0 }
    }

    fn strikes(&mut self) -> bool {
        self.count += 1;
        self.count.is_multiple_of(EVERY)
    }

    /// Changes a transaction on its way to the disk.
    pub(super) fn distort(&mut self, mut transaction: Transaction) -> Distorted {
        let mutations = &mut transaction.mutations;
        let mut is_unknown = false;
        let fault = self.fault;
        match fault {
            Fault::DiskDropsMessages => {
                mutations.retain(|mutation| !(puts_message(mutation) && self.strikes()));
            }
            Fault::DiskAltersMessages => {
                for mutation in mutations {
                    if puts_message(mutation)
                        && self.strikes()
                        && let Mutation::Put(_, value) = mutation
                    {
                        *value = altered(value);
                    }
                }
            }
            Fault::DiskDeletesNothing => mutations.retain(|mutation| match mutation {
                Mutation::Delete(key) | Mutation::DeleteRange(key, _) => !is_message(key),
                Mutation::Put(..) => true,
            }),
            Fault::DiskTearsCommits if mutations.iter().any(puts_message) && self.strikes() => {
                mutations.retain(|mutation| !puts_cursor(mutation));
                is_unknown = true;
            }
            _ => {}
        }
        Distorted { transaction, is_unknown }
    }

    /// Changes what the disk has, after a transaction; `maps` are the same but for what isn't synced.
    pub(super) fn spoil(
        &mut self,
        transaction: &Transaction,
        maps: [&mut BTreeMap<Bytes, Bytes>; 2],
    ) {
        if self.fault != Fault::DiskSwapsMessages {
            return;
        }
        let messages = transaction.mutations.iter().filter_map(message_key);
        let keys: Vec<_> = messages.filter(|_| self.strikes()).collect();
        for map in maps {
            keys.iter().for_each(|key| swap(map, key));
        }
    }
}

/// Swaps a message with the one before it in its conversation.
fn swap(map: &mut BTreeMap<Bytes, Bytes>, key: &Bytes) {
    let before = map.range(..key.clone()).next_back().map(|(before, _)| before.clone());
    // A key is two letters, the conversation, and the place.
    if let Some(before) = before.filter(|before| before.get(..18) == key.get(..18))
        && let (Some(one), Some(other)) = (map.get(&before).cloned(), map.get(key).cloned())
    {
        map.insert(before, other);
        map.insert(key.clone(), one);
    }
}

fn is_message(key: &[u8]) -> bool {
    key.starts_with(b"m/")
}

fn puts_message(mutation: &Mutation) -> bool {
    message_key(mutation).is_some()
}

/// The key of the message that is put, if it is one.
fn message_key(mutation: &Mutation) -> Option<&Bytes> {
    match mutation {
        Mutation::Put(key, _) if is_message(key) => Some(key),
        _ => None,
    }
}

/// Puts what a device has of a conversation, and what it has sent there.
fn puts_cursor(mutation: &Mutation) -> bool {
    matches!(mutation, Mutation::Put(key, _) if key.starts_with(b"c/")
        && matches!(parse_conversation_key(key), Some(ConversationKey::Cursor(_))))
}

/// With another last byte, which is one of the text.
fn altered(value: &Bytes) -> Bytes {
    let mut value = value.to_vec();
    if let Some(last) = value.last_mut() {
        *last ^= 1;
    }
    value.into()
}
