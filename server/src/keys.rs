//! The key layout, the same for every backend.
//!
//! | key | value | written |
//! | --- | --- | --- |
//! | `a/` account | [`AccountRecord`](crate::records::AccountRecord) | at registration |
//! | `n/` name | account id | at registration |
//! | `d/` device | [`DeviceRecord`](crate::records::DeviceRecord) | when a device registers |
//! | `e/` account device | nothing: the account's devices | when a device registers |
//! | `v/` account | how often its devices have changed | when a device registers or is removed |
//! | `k/` device key | device id | when a device registers |
//! | `l/` hash of a link token | [`LinkRecord`](crate::records::LinkRecord) | when a link is made |
//! | `s/` device | last seen, ms | when a device goes offline |
//! | `c/` conversation `0` | [`MetaRecord`](crate::records::MetaRecord) | with every append |
//! | `c/` conversation `1` device | [`CursorRecord`](crate::records::CursorRecord) | with the device's sends and acks |
//! | `c/` conversation `2` account | [`MemberRecord`](crate::records::MemberRecord) | when a receipt changes |
//! | `m/` conversation seq | [`MessageRecord`](crate::records::MessageRecord) | once per message |
//! | `b/` device conversation | nothing: the mailbox mark | when the mailbox gets its first entry |
//! | `x/` bucket conversation | nothing: the expiry index | once per conversation and bucket of time |
//! | `r/` device | [`RouteRecord`](crate::records::RouteRecord) | in a cluster, when a device connects or leaves |
//! | `o/` node | [`NodeRecord`](crate::records::NodeRecord) | by each node of a cluster, some times in a lease |
//!
//! Numbers in keys are big-endian, so that order of keys is order of numbers. A conversation is
//! loaded by one scan of `c/` conversation; a mailbox by one scan of `b/` device; the messages behind
//! a cursor are one scan of `m/` conversation. An append is one transaction of at most 3 + d puts,
//! where d is the number of recipients' devices that had nothing waiting.

use bytes::{BufMut, Bytes, BytesMut};
use tern_protocol::id::{AccountId, ConversationId, DeviceId};

use crate::{
    cluster::NodeId,
    store::{Scan, prefix_end},
};

fn key(prefix: &[u8; 2], parts: &[&[u8]]) -> Bytes {
    let mut key = BytesMut::with_capacity(2 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.put_slice(prefix);
    for part in parts {
        key.put_slice(part);
    }
    key.freeze()
}

/// An account's record.
pub fn account(account: AccountId) -> Bytes {
    key(b"a/", &[&account.get().to_be_bytes()])
}

/// The account of a name.
pub fn name(name: &str) -> Bytes {
    key(b"n/", &[name.as_bytes()])
}

/// A device's record.
pub fn device(device: DeviceId) -> Bytes {
    key(b"d/", &[&device.get().to_be_bytes()])
}

/// One entry of the list of an account's devices.
pub fn account_device(account: AccountId, device: DeviceId) -> Bytes {
    key(b"e/", &[&account.get().to_be_bytes(), &device.get().to_be_bytes()])
}

/// The list of an account's devices.
pub fn account_devices(account: AccountId, limit: usize) -> Scan {
    prefix(key(b"e/", &[&account.get().to_be_bytes()]), limit)
}

/// How often an account's devices have changed.
pub fn account_version(account: AccountId) -> Bytes {
    key(b"v/", &[&account.get().to_be_bytes()])
}

/// Where a device is connected.
pub fn route(device: DeviceId) -> Bytes {
    key(b"r/", &[&device.get().to_be_bytes()])
}

/// The device that has a key.
pub fn device_key(device_key: &[u8; 32]) -> Bytes {
    key(b"k/", &[device_key])
}

/// A link token, by its hash.
pub fn link(hash: &[u8]) -> Bytes {
    key(b"l/", &[hash])
}

/// When a device was last seen.
pub fn last_seen(device: DeviceId) -> Bytes {
    key(b"s/", &[&device.get().to_be_bytes()])
}

/// A conversation's record.
pub fn meta(conversation: ConversationId) -> Bytes {
    key(b"c/", &[conversation.as_bytes(), &[0]])
}

/// What a device has of a conversation.
pub fn cursor(conversation: ConversationId, device: DeviceId) -> Bytes {
    key(b"c/", &[conversation.as_bytes(), &[1], &device.get().to_be_bytes()])
}

/// What an account has of a conversation.
pub fn member(conversation: ConversationId, account: AccountId) -> Bytes {
    key(b"c/", &[conversation.as_bytes(), &[2], &account.get().to_be_bytes()])
}

/// All of a conversation but its messages.
pub fn conversation(conversation: ConversationId, limit: usize) -> Scan {
    prefix(key(b"c/", &[conversation.as_bytes()]), limit)
}

/// What a key of [`conversation`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConversationKey {
    /// See [`meta`].
    Meta,
    /// See [`cursor`].
    Cursor(DeviceId),
    /// See [`member`].
    Member(AccountId),
}

/// Reads a key of [`conversation`]; `None` if it isn't one.
pub fn parse_conversation_key(key: &[u8]) -> Option<ConversationKey> {
    match key.get(18..)? {
        [0] => Some(ConversationKey::Meta),
        [1, id @ ..] => Some(ConversationKey::Cursor(DeviceId::new(number(id)?)?)),
        [2, id @ ..] => Some(ConversationKey::Member(AccountId::new(number(id)?)?)),
        _ => None,
    }
}

/// A message.
pub fn message(conversation: ConversationId, seq: u64) -> Bytes {
    key(b"m/", &[conversation.as_bytes(), &seq.to_be_bytes()])
}

/// The messages of a conversation from `first` to `last`, both included.
pub fn messages(conversation: ConversationId, first: u64, last: u64, limit: usize) -> Scan {
    Scan {
        from: message(conversation, first),
        to: message(conversation, last.saturating_add(1)),
        limit,
        reverse: false,
    }
}

/// The sequence number in a message's key.
pub fn parse_message_seq(key: &[u8]) -> Option<u64> {
    number(key.get(18..)?)
}

/// The mark that a conversation waits in a device's mailbox.
pub fn mark(device: DeviceId, conversation: ConversationId) -> Bytes {
    key(b"b/", &[&device.get().to_be_bytes(), conversation.as_bytes()])
}

/// A device's mailbox, behind `after` if given.
pub fn marks(device: DeviceId, after: Option<ConversationId>, limit: usize) -> Scan {
    let mut scan = prefix(key(b"b/", &[&device.get().to_be_bytes()]), limit);
    if let Some(after) = after {
        let mut from = BytesMut::from(&mark(device, after)[..]);
        from.put_u8(0);
        scan.from = from.freeze();
    }
    scan
}

/// The conversation of a mailbox mark.
pub fn parse_mark(key: &[u8]) -> Option<ConversationId> {
    Some(ConversationId::new(key.get(10..)?.try_into().ok()?))
}

/// An entry of the expiry index.
pub fn expiry(bucket: u64, conversation: ConversationId) -> Bytes {
    key(b"x/", &[&bucket.to_be_bytes(), conversation.as_bytes()])
}

/// The entries of the expiry index in buckets before `bucket`, behind an entry if one is given.
pub fn expiries_before(bucket: u64, after: Option<&Bytes>, limit: usize) -> Scan {
    let from = match after {
        Some(after) => [after, &[0][..]].concat().into(),
        None => Bytes::from_static(b"x/"),
    };
    Scan { from, to: key(b"x/", &[&bucket.to_be_bytes()]), limit, reverse: false }
}

/// Bucket and conversation of an entry of the expiry index.
pub fn parse_expiry(key: &[u8]) -> Option<(u64, ConversationId)> {
    let bucket = number(key.get(2..10)?)?;
    Some((bucket, ConversationId::new(key.get(10..)?.try_into().ok()?)))
}

/// The record of a node.
pub fn node(node: NodeId) -> Bytes {
    key(b"o/", &[&node.get().to_be_bytes()])
}

/// The records of all nodes.
pub fn nodes(limit: usize) -> Scan {
    prefix(Bytes::from_static(b"o/"), limit)
}

/// The node of a record's key.
pub fn parse_node(key: &[u8]) -> Option<NodeId> {
    NodeId::new(number(key.get(2..)?)?)
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn prefix(prefix: Bytes, limit: usize) -> Scan {
    // Every prefix here begins with an ASCII letter, so it has an end.
    let to = prefix_end(&prefix).unwrap_or_default();
    Scan { from: prefix, to, limit, reverse: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        let conversation = ConversationId::new([9; 16]);
        let (account, device) = (AccountId::new(3).unwrap(), DeviceId::new(4).unwrap());
        let parsed = |key: Bytes| parse_conversation_key(&key);
        assert_eq!(parsed(meta(conversation)), Some(ConversationKey::Meta));
        assert_eq!(parsed(cursor(conversation, device)), Some(ConversationKey::Cursor(device)));
        assert_eq!(parsed(member(conversation, account)), Some(ConversationKey::Member(account)));
        assert_eq!(parse_message_seq(&message(conversation, 77)), Some(77));
        assert_eq!(parse_mark(&mark(device, conversation)), Some(conversation));
        assert_eq!(parse_expiry(&expiry(5, conversation)), Some((5, conversation)));
        assert_eq!(parse_conversation_key(b"c/short"), None);
        let id = NodeId::new(0x0102).unwrap();
        assert_eq!(parse_node(&node(id)), Some(id));
        assert_eq!(parse_node(b"o/"), None);
    }

    #[test]
    fn a_mailbox_goes_on_behind_a_conversation() {
        let device = DeviceId::new(4).unwrap();
        let first = ConversationId::new([1; 16]);
        let scan = marks(device, Some(first), 10);
        assert!(scan.from > mark(device, first));
        assert!(scan.from < mark(device, ConversationId::new([2; 16])));
        assert!(mark(device, ConversationId::new([0xff; 16])) < scan.to);
    }
}
