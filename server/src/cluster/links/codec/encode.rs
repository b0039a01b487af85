use bytes::{BufMut, BytesMut};
use capnp::message::{Builder, HeapAllocator};
use tern_protocol::{
    frame::{Event, Presence, PresenceState, Receipt},
    id::AccountId,
};

use super::{Batch, Heard, Hello, Reached, wire};
use crate::{
    cluster::links::{Note, Refusal, Request, Response},
    conversation::{News, Snapshot},
};

/// Appends a batch to a buffer, framing included. `weight` is about how many bytes it takes: room for that is made at
/// once.
pub(crate) fn encode_into(batch: &Batch, weight: usize, out: &mut BytesMut) {
    let mut words = u32::try_from(weight / 8).unwrap_or(u32::MAX / 16).saturating_add(64);
    loop {
        let mut message = Builder::new(HeapAllocator::new().first_segment_words(words));
        write(batch, message.init_root());
        if let [segment] = &message.get_segments_for_output()[..] {
            out.reserve(8 + segment.len());
            out.put_u32_le(0);
            out.put_u32_le((segment.len() / 8) as u32);
            out.put_slice(segment);
            return;
        }
        words = words.saturating_mul(2);
    }
}

/// A list's length for the builder; no list of a batch comes near the maximum.
fn len<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

fn write(batch: &Batch, to: wire::batch::Builder<'_>) {
    match batch {
        Batch::Hello(hello) => write_hello(hello, to.init_hello()),
        Batch::Welcome(version) => to.init_welcome().set_version(*version),
        Batch::Requests(requests) => {
            let mut list = to.init_requests(len(requests));
            for (index, (id, request)) in (0..).zip(requests) {
                // One of a later version can be received but has no form to be sent in.
                if let Some(request) = request {
                    write_request(*id, request, list.reborrow().get(index));
                }
            }
        }
        Batch::Answers(answers) => {
            let mut list = to.init_answers(len(answers));
            for (index, (id, answer)) in (0..).zip(answers) {
                write_answer(*id, answer, list.reborrow().get(index));
            }
        }
        Batch::Notes(notes) => {
            let mut list = to.init_notes(len(notes));
            for (index, note) in (0..).zip(notes) {
                let mut to = list.reborrow().get(index);
                match note {
                    Heard::Resync => to.set_resync(()),
                    Heard::Note(note) => write_note(note, to),
                }
            }
        }
    }
}

fn write_hello(hello: &Hello, mut to: wire::hello::Builder<'_>) {
    to.set_version(hello.version);
    to.set_node(hello.node.get());
    to.set_name(&hello.name);
    to.set_to(hello.to.get());
}

fn write_request(id: u64, request: &Request, mut to: wire::request::Builder<'_>) {
    to.set_id(id);
    to.set_conversation(request.conversation().as_bytes());
    match request {
        Request::Append { device, account, peer, send, .. } => {
            let mut to = to.init_append();
            to.set_device(device.get());
            to.set_account(account.get());
            to.set_peer(peer.get());
            to.set_counter(send.counter);
            to.set_message_id(send.message_id);
            to.set_settled(send.settled);
            to.set_envelope(&send.envelope.0);
        }
        Request::Read { account, up_to, .. } => {
            let mut to = to.init_read();
            to.set_account(account.get());
            to.set_up_to(*up_to);
        }
        Request::Ack { device, ack, .. } => {
            let mut to = to.init_ack();
            to.set_device(device.get());
            to.set_seq(ack.seq);
            to.set_revision(ack.revision);
        }
        Request::Snapshot { device, .. } => to.set_snapshot(device.get()),
        Request::Members { .. } => to.set_members(()),
        Request::Age { age, .. } => {
            let mut to = to.init_age();
            to.set_up_to(age.up_to);
            to.set_undelivered(age.undelivered);
            to.set_bucket(age.bucket);
            let mut list = to.init_sent(len(&age.sent));
            for (index, (account, span)) in (0..).zip(&age.sent) {
                let mut to = list.reborrow().get(index);
                to.set_account(account.get());
                to.set_first(span.first);
                to.set_last(span.last);
            }
        }
    }
}

fn write_answer(id: u64, answer: &Reached, mut to: wire::answer::Builder<'_>) {
    use wire::answer::Reason;
    to.set_id(id);
    match answer {
        Reached::Unknown => to.set_unknown(()),
        Reached::Refused(refusal) => to.set_declined(match refusal {
            Refusal::NotOwner => Reason::NotOwner,
            Refusal::Suspended => Reason::Suspended,
            Refusal::Overloaded => Reason::Overloaded,
            Refusal::Stopping => Reason::Stopping,
            Refusal::Unsupported => Reason::Unsupported,
        }),
        Reached::Response(Response::Append(Ok(accepted))) => {
            let mut to = to.init_accepted();
            to.set_counter(accepted.counter);
            to.set_seq(accepted.seq);
            to.set_time_ms(accepted.time_ms);
        }
        Reached::Response(Response::Append(Err(refused))) => {
            let mut to = to.init_refused();
            to.set_counter(refused.counter);
            to.set_code(refused.code.value());
            to.set_retry_after_ms(refused.retry_after_ms);
            to.set_last(refused.last);
        }
        Reached::Response(Response::Read(Ok(mark))) => to.set_marked(*mark),
        Reached::Response(Response::Read(Err(code))) => to.set_not_marked(code.value()),
        Reached::Response(Response::Done) => to.set_done(()),
        Reached::Response(Response::Snapshot(None) | Response::Members(None)) => to.set_none(()),
        Reached::Response(Response::Snapshot(Some(snapshot))) => {
            write_snapshot(snapshot, to.init_snapshot());
        }
        Reached::Response(Response::Members(Some(members))) => {
            write_members(members, to.init_members(2));
        }
    }
}

fn write_members(members: &[AccountId; 2], mut to: capnp::primitive_list::Builder<'_, u64>) {
    for (index, member) in (0..).zip(members) {
        to.set(index, member.get());
    }
}

fn write_snapshot(snapshot: &Snapshot, mut to: wire::snapshot::Builder<'_>) {
    write_members(&snapshot.members, to.reborrow().init_members(2));
    to.set_seq(snapshot.cursor.seq);
    to.set_revision(snapshot.cursor.revision);
    to.set_head(snapshot.head);
    to.set_foreign_head(snapshot.foreign_head);
    to.set_expired_to(snapshot.expired_to);
    let mut list = to.init_receipts(len(&snapshot.receipts));
    for (index, receipt) in (0..).zip(&snapshot.receipts) {
        write_receipt(receipt, list.reborrow().get(index));
    }
}

fn write_receipt(receipt: &Receipt, mut to: wire::receipt::Builder<'_>) {
    to.set_revision(receipt.revision);
    to.set_account(receipt.account.get());
    to.set_delivered(receipt.delivered);
    to.set_read(receipt.read);
    let mut list = to.init_expired(len(&receipt.expired));
    for (index, span) in (0..).zip(&receipt.expired) {
        let mut to = list.reborrow().get(index);
        to.set_first(span.first);
        to.set_last(span.last);
    }
}

fn write_note(note: &Note, mut to: wire::note::Builder<'_>) {
    match note {
        Note::News { device, epoch, .. }
        | Note::NotHere { device, epoch }
        | Note::Replaced { device, epoch }
        | Note::Look { device, epoch }
        | Note::Event { device, epoch, .. } => {
            to.set_device(device.get());
            to.set_epoch(*epoch);
        }
        Note::AccountChanged { .. }
        | Note::Watch { .. }
        | Note::Report(_)
        | Note::Reset
        | Note::State(_) => {}
    }
    match note {
        Note::News { conversation, news, .. } => match news {
            News::Message { foreign_head, appended } => {
                let mut to = to.init_message();
                to.set_conversation(conversation.as_bytes());
                to.set_foreign_head(*foreign_head);
                to.set_seq(appended.seq);
                to.set_account(appended.message.account.get());
                to.set_device(appended.message.device.get());
                to.set_message_id(appended.message.message_id);
                to.set_time_ms(appended.message.time_ms);
                to.set_envelope(&appended.message.envelope);
            }
            News::Receipt(receipt) => {
                let mut to = to.init_receipt();
                to.set_conversation(conversation.as_bytes());
                write_receipt(receipt, to.init_receipt());
            }
            News::Unsure => to.set_unsure(conversation.as_bytes()),
        },
        Note::NotHere { .. } => to.set_not_here(()),
        Note::Replaced { .. } => to.set_replaced(()),
        Note::Event { event, .. } => write_event(event, to),
        Note::AccountChanged { account } => to.set_account_changed(account.get()),
        Note::Look { .. } => to.set_look(()),
        Note::Watch { account, is_on } => {
            let mut to = to.init_watch();
            to.set_account(account.get());
            to.set_is_on(*is_on);
        }
        Note::Report(presence) => write_presence(presence, to.init_report()),
        Note::Reset => to.set_reset(()),
        Note::State(presence) => write_presence(presence, to.init_state()),
    }
}

fn write_presence(presence: &Presence, mut to: wire::presence::Builder<'_>) {
    use wire::presence::State;
    to.set_account(presence.account.get());
    to.set_last_seen_ms(presence.last_seen_ms);
    to.set_state(match presence.state {
        PresenceState::Unknown => State::Unknown,
        PresenceState::Offline => State::Offline,
        PresenceState::Online => State::Online,
    });
}

fn write_event(event: &Event, mut to: wire::note::Builder<'_>) {
    match event {
        Event::Presence(presence) => write_presence(presence, to.init_presence()),
        Event::Typing { conversation, account, active } => {
            let mut to = to.init_typing();
            to.set_conversation(conversation.as_bytes());
            to.set_account(account.get());
            to.set_active(*active);
        }
        // A session finds out for itself when it has caught up, and nobody else knows; see `Peers::tell`.
        Event::DevicesChanged | Event::CaughtUp(_) | Event::Unknown(_) => {
            to.set_devices_changed(());
        }
    }
}
