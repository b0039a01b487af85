use std::sync::Arc;

use bytes::Bytes;
use capnp::{message::ReaderOptions, primitive_list, serialize};
use tern_protocol::{
    code::Code,
    frame::{
        Accepted, Ack, Envelope, Event, Presence, PresenceState, Receipt, Refused, Send, Span,
    },
    id::{AccountId, ConversationId, DeviceId},
    limits,
};

use super::{
    Batch, DecodeError, Heard, Hello, ITEMS, NAME_BYTES, NESTING, RECEIPTS, Reached, SENT, wire,
};
use crate::{
    cluster::{
        NodeId,
        links::{Note, Refusal, Request, Response},
    },
    conversation::{Age, Appended, News, Snapshot},
    records::MessageRecord,
};

type Result<T> = std::result::Result<T, DecodeError>;

/// Decodes one whole batch, framing included, as cut out by a deframer. Envelopes are slices of `bytes`.
pub(crate) fn decode(bytes: &Bytes) -> Result<Batch> {
    let mut rest = &bytes[..];
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(Some(2 * (bytes.len() / 8) + 64)).nesting_limit(NESTING);
    let message = serialize::read_message_from_flat_slice_no_alloc(&mut rest, options)?;
    if !rest.is_empty() || bytes.first_chunk() != Some(&[0; 4]) {
        return Err(DecodeError::Malformed("not one segment"));
    }
    read(message.get_root::<wire::batch::Reader<'_>>()?, bytes)
}

fn read(from: wire::batch::Reader<'_>, whole: &Bytes) -> Result<Batch> {
    use wire::batch::Which;
    let which = from.which().map_err(|_| DecodeError::Malformed("a kind of batch not known"))?;
    Ok(match which {
        Which::Hello(from) => Batch::Hello(read_hello(from?)?),
        Which::Welcome(from) => Batch::Welcome(from?.get_version()),
        Which::Requests(list) => {
            let list = list?;
            held_to(ITEMS, list.len())?;
            let read =
                |from: wire::request::Reader<'_>| Ok((from.get_id(), read_request(from, whole)?));
            Batch::Requests(list.iter().map(read).collect::<Result<_>>()?)
        }
        Which::Answers(list) => {
            let list = list?;
            held_to(ITEMS, list.len())?;
            let read = |from: wire::answer::Reader<'_>| Ok((from.get_id(), read_answer(from)?));
            Batch::Answers(list.iter().map(read).collect::<Result<_>>()?)
        }
        Which::Notes(list) => {
            let list = list?;
            held_to(ITEMS, list.len())?;
            let read = |from| read_note(from, whole).transpose();
            Batch::Notes(list.iter().filter_map(read).collect::<Result<_>>()?)
        }
    })
}

fn held_to(most: usize, items: u32) -> Result<()> {
    if items as usize > most {
        return Err(DecodeError::Malformed("a list is too long"));
    }
    Ok(())
}

fn node(id: u64) -> Result<NodeId> {
    NodeId::new(id).ok_or(DecodeError::Malformed("a node id of 0"))
}

fn account(id: u64) -> Result<AccountId> {
    AccountId::new(id).ok_or(DecodeError::Malformed("an account id of 0"))
}

fn device(id: u64) -> Result<DeviceId> {
    DeviceId::new(id).ok_or(DecodeError::Malformed("a device id of 0"))
}

fn conversation(bytes: &[u8]) -> Result<ConversationId> {
    let bytes = bytes.try_into();
    bytes
        .map(ConversationId::new)
        .map_err(|_| DecodeError::Malformed("a conversation id isn't 16 bytes"))
}

fn envelope(bytes: &[u8], whole: &Bytes) -> Result<Bytes> {
    if bytes.len() > limits::ENVELOPE_BYTES {
        return Err(DecodeError::Malformed("an envelope is too long"));
    }
    Ok(whole.slice_ref(bytes))
}

fn read_hello(from: wire::hello::Reader<'_>) -> Result<Hello> {
    let name = from.get_name()?;
    if name.as_bytes().len() > NAME_BYTES {
        return Err(DecodeError::Malformed("a name is too long"));
    }
    let name = name.to_str().map_err(|_| DecodeError::Malformed("a name that isn't UTF-8"))?;
    if from.get_version() == 0 {
        return Err(DecodeError::Malformed("version 0"));
    }
    Ok(Hello {
        version: from.get_version(),
        node: node(from.get_node())?,
        name: name.to_owned(),
        to: node(from.get_to())?,
    })
}

fn read_request(from: wire::request::Reader<'_>, whole: &Bytes) -> Result<Option<Request>> {
    use wire::request::Which;
    let Ok(which) = from.which() else { return Ok(None) };
    let conversation = conversation(from.get_conversation()?)?;
    Ok(Some(match which {
        Which::Append(from) => {
            let from = from?;
            Request::Append {
                conversation,
                device: device(from.get_device())?,
                account: account(from.get_account())?,
                peer: account(from.get_peer())?,
                send: Send {
                    counter: from.get_counter(),
                    message_id: from.get_message_id(),
                    settled: from.get_settled(),
                    envelope: Envelope(envelope(from.get_envelope()?, whole)?),
                },
            }
        }
        Which::Read(from) => {
            let from = from?;
            let account = account(from.get_account())?;
            Request::Read { conversation, account, up_to: from.get_up_to() }
        }
        Which::Ack(from) => {
            let from = from?;
            let ack = Ack { seq: from.get_seq(), revision: from.get_revision() };
            Request::Ack { conversation, device: device(from.get_device())?, ack }
        }
        Which::Snapshot(id) => Request::Snapshot { conversation, device: device(id)? },
        Which::Members(()) => Request::Members { conversation },
        Which::Age(from) => {
            let from = from?;
            let list = from.get_sent()?;
            held_to(SENT, list.len())?;
            let read = |from: wire::sent::Reader<'_>| {
                let span = Span { first: from.get_first(), last: from.get_last() };
                if span.last < span.first {
                    return Err(DecodeError::Malformed("a span ends before it begins"));
                }
                Ok((account(from.get_account())?, span))
            };
            Request::Age {
                conversation,
                age: Age {
                    up_to: from.get_up_to(),
                    undelivered: from.get_undelivered(),
                    bucket: from.get_bucket(),
                    sent: list.iter().map(read).collect::<Result<_>>()?,
                },
            }
        }
    }))
}

/// An answer. That nothing is there is said alike of a snapshot and of members: who asked knows what it asked for, see
/// [`Reached::fits`].
fn read_answer(from: wire::answer::Reader<'_>) -> Result<Reached> {
    use wire::answer::{Reason, Which};
    let Ok(which) = from.which() else { return Ok(Reached::Unknown) };
    Ok(match which {
        Which::Unknown(()) => Reached::Unknown,
        Which::Declined(reason) => Reached::Refused(match reason {
            Ok(Reason::NotOwner) => Refusal::NotOwner,
            Ok(Reason::Suspended) => Refusal::Suspended,
            Ok(Reason::Overloaded) => Refusal::Overloaded,
            Ok(Reason::Stopping) => Refusal::Stopping,
            // A reason of a later version: it isn't done, whatever the reason.
            Ok(Reason::Unsupported) | Err(_) => Refusal::Unsupported,
        }),
        Which::Accepted(from) => {
            let from = from?;
            Reached::Response(Response::Append(Ok(Accepted {
                counter: from.get_counter(),
                seq: from.get_seq(),
                time_ms: from.get_time_ms(),
            })))
        }
        Which::Refused(from) => {
            let from = from?;
            Reached::Response(Response::Append(Err(Refused {
                counter: from.get_counter(),
                code: from.get_code().into(),
                retry_after_ms: from.get_retry_after_ms(),
                last: from.get_last(),
            })))
        }
        Which::Marked(mark) => Reached::Response(Response::Read(Ok(mark))),
        Which::NotMarked(code) => Reached::Response(Response::Read(Err(Code::from(code)))),
        Which::Done(()) => Reached::Response(Response::Done),
        Which::None(()) => Reached::Response(Response::Snapshot(None)),
        Which::Snapshot(from) => Reached::Response(Response::Snapshot(Some(read_snapshot(from?)?))),
        Which::Members(list) => Reached::Response(Response::Members(Some(read_members(list?)?))),
    })
}

fn read_members(list: primitive_list::Reader<'_, u64>) -> Result<[AccountId; 2]> {
    if list.len() != 2 {
        return Err(DecodeError::Malformed("members that aren't two"));
    }
    Ok([account(list.get(0))?, account(list.get(1))?])
}

fn read_snapshot(from: wire::snapshot::Reader<'_>) -> Result<Snapshot> {
    let list = from.get_receipts()?;
    held_to(RECEIPTS, list.len())?;
    Ok(Snapshot {
        members: read_members(from.get_members()?)?,
        cursor: Ack { seq: from.get_seq(), revision: from.get_revision() },
        head: from.get_head(),
        foreign_head: from.get_foreign_head(),
        expired_to: from.get_expired_to(),
        receipts: list.iter().map(read_receipt).collect::<Result<_>>()?,
    })
}

fn read_receipt(from: wire::receipt::Reader<'_>) -> Result<Receipt> {
    let list = from.get_expired()?;
    held_to(limits::SPANS, list.len())?;
    let mut expired = Vec::with_capacity(list.len() as usize);
    let mut above = 0;
    for span in list.iter() {
        let span = Span { first: span.get_first(), last: span.get_last() };
        if span.first <= above || span.last < span.first {
            return Err(DecodeError::Malformed("spans out of order"));
        }
        above = span.last;
        expired.push(span);
    }
    Ok(Receipt {
        revision: from.get_revision(),
        account: account(from.get_account())?,
        delivered: from.get_delivered(),
        read: from.get_read(),
        expired,
    })
}

/// A note; `None` for one of a later version.
fn read_note(from: wire::note::Reader<'_>, whole: &Bytes) -> Result<Option<Heard>> {
    use wire::note::Which;
    let Ok(which) = from.which() else { return Ok(None) };
    let epoch = from.get_epoch();
    let device = match which {
        Which::Resync(()) => return Ok(Some(Heard::Resync)),
        Which::AccountChanged(id) => {
            return Ok(Some(Heard::Note(Note::AccountChanged { account: account(id)? })));
        }
        Which::Watch(from) => {
            let from = from?;
            let (account, is_on) = (account(from.get_account())?, from.get_is_on());
            return Ok(Some(Heard::Note(Note::Watch { account, is_on })));
        }
        Which::Report(from) => {
            return Ok(Some(Heard::Note(Note::Report(read_presence(from?)?))));
        }
        Which::Reset(()) => return Ok(Some(Heard::Note(Note::Reset))),
        Which::State(from) => return Ok(Some(Heard::Note(Note::State(read_presence(from?)?)))),
        _ => device(from.get_device())?,
    };
    let news = |of: &[u8], news| -> Result<Note> {
        Ok(Note::News { device, epoch, conversation: conversation(of)?, news })
    };
    Ok(Some(Heard::Note(match which {
        Which::Message(from) => {
            let from = from?;
            let message = MessageRecord {
                account: account(from.get_account())?,
                device: self::device(from.get_device())?,
                message_id: from.get_message_id(),
                time_ms: from.get_time_ms(),
                envelope: envelope(from.get_envelope()?, whole)?,
            };
            let appended = Arc::new(Appended { seq: from.get_seq(), message });
            let foreign_head = from.get_foreign_head();
            news(from.get_conversation()?, News::Message { foreign_head, appended })?
        }
        Which::Receipt(from) => {
            let from = from?;
            let receipt = Arc::new(read_receipt(from.get_receipt()?)?);
            news(from.get_conversation()?, News::Receipt(receipt))?
        }
        Which::Unsure(of) => news(of?, News::Unsure)?,
        Which::NotHere(()) => Note::NotHere { device, epoch },
        Which::Replaced(()) => Note::Replaced { device, epoch },
        Which::Presence(from) => {
            Note::Event { device, epoch, event: Event::Presence(read_presence(from?)?) }
        }
        Which::Typing(from) => {
            let from = from?;
            let event = Event::Typing {
                conversation: conversation(from.get_conversation()?)?,
                account: account(from.get_account())?,
                active: from.get_active(),
            };
            Note::Event { device, epoch, event }
        }
        Which::DevicesChanged(()) => Note::Event { device, epoch, event: Event::DevicesChanged },
        Which::Look(()) => Note::Look { device, epoch },
        Which::Resync(())
        | Which::AccountChanged(_)
        | Which::Watch(_)
        | Which::Report(_)
        | Which::Reset(())
        | Which::State(_) => return Ok(None),
    })))
}

fn read_presence(from: wire::presence::Reader<'_>) -> Result<Presence> {
    use wire::presence::State;
    Ok(Presence {
        account: account(from.get_account())?,
        state: match from.get_state() {
            Ok(State::Unknown) => PresenceState::Unknown,
            Ok(State::Offline) => PresenceState::Offline,
            Ok(State::Online) => PresenceState::Online,
            Err(_) => return Err(DecodeError::Malformed("a presence that isn't known")),
        },
        last_seen_ms: from.get_last_seen_ms(),
    })
}
