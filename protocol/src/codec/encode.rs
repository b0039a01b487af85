use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use capnp::message::{Builder, HeapAllocator};

use crate::{frame::*, tern_capnp as wire};

/// The bytes of a frame, framing included.
pub fn encode(frame: &Frame) -> Bytes {
    let mut out = BytesMut::new();
    encode_into(frame, &mut out);
    out.freeze()
}

/// Appends the bytes of a frame, framing included, to `out`.
///
/// Lengths aren't checked here: whoever makes a frame keeps to [`crate::limits`], and the other end's
/// decoder holds it to that.
pub fn encode_into(frame: &Frame, out: &mut BytesMut) {
    // Room for the fixed part of any frame, in words; with the payload added, nearly every frame
    // fits its first segment at once.
    let mut words = 40 + payload_bytes(frame).div_ceil(8) as u32;
    loop {
        let mut message = Builder::new(HeapAllocator::new().first_segment_words(words));
        write(frame, message.init_root());
        if let [segment] = &message.get_segments_for_output()[..] {
            out.reserve(8 + segment.len());
            out.put_u32_le(0);
            out.put_u32_le((segment.len() / 8) as u32);
            out.put_slice(segment);
            return;
        }
        words *= 2;
    }
}

fn payload_bytes(frame: &Frame) -> usize {
    match frame {
        Frame::Send(send) => send.envelope.0.len(),
        Frame::Deliver(deliver) => deliver.envelope.0.len(),
        Frame::Welcome(welcome) => welcome.ticket.expose().len(),
        Frame::Hello(hello) => match &hello.credential {
            Credential::Ticket(ticket) => ticket.expose().len(),
            Credential::SignIn(_) | Credential::Register(_) => 256,
        },
        _ => 0,
    }
}

/// A list's length for the builder; no list of a frame comes near the maximum.
fn len<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

fn write_ids(ids: &[u16], mut list: capnp::primitive_list::Builder<'_, u16>) {
    for (index, &id) in (0..).zip(ids) {
        list.set(index, id);
    }
}

fn write_accounts(
    accounts: &[crate::id::AccountId],
    mut list: capnp::primitive_list::Builder<'_, u64>,
) {
    for (index, account) in (0..).zip(accounts) {
        list.set(index, account.get());
    }
}

fn write(frame: &Frame, to: wire::frame::Builder<'_>) {
    match frame {
        Frame::Extension(extension) => {
            let mut to = to.init_extension();
            to.set_id(extension.id);
            to.set_body(&extension.body);
        }
        Frame::Greeting(greeting) => write_greeting(greeting, to.init_greeting()),
        Frame::Hello(hello) => write_hello(hello, to.init_hello()),
        Frame::Welcome(welcome) => write_welcome(welcome, to.init_welcome()),
        Frame::Rejected(rejected) => {
            let mut to = to.init_rejected();
            to.set_code(rejected.code.value());
            to.set_text(&rejected.text);
            to.set_retry_after_ms(rejected.retry_after_ms);
        }
        Frame::Request(request) => write_request(request, to.init_request()),
        Frame::Response(response) => write_response(response, to.init_response()),
        Frame::Event(event) => write_event(event, to.init_event()),
        Frame::GoAway(go_away) => {
            let mut to = to.init_go_away();
            to.set_code(go_away.code.value());
            to.set_within_ms(go_away.within_ms);
            to.set_target(&go_away.target);
            to.set_text(&go_away.text);
        }
        Frame::OpenUplink(open) => {
            let mut to = to.init_open_uplink();
            to.set_conversation(open.conversation.as_bytes());
            to.set_peer(open.peer.map_or(0, |peer| peer.get()));
        }
        Frame::Send(send) => {
            let mut to = to.init_send();
            to.set_counter(send.counter);
            to.set_message_id(send.message_id);
            to.set_settled(send.settled);
            to.set_envelope(&send.envelope.0);
        }
        Frame::ReadMark(mark) => to.init_read_mark().set_up_to(mark.up_to),
        Frame::Typing(typing) => to.init_typing().set_active(typing.active),
        Frame::Accepted(accepted) => {
            let mut to = to.init_accepted();
            to.set_counter(accepted.counter);
            to.set_seq(accepted.seq);
            to.set_time_ms(accepted.time_ms);
        }
        Frame::Refused(refused) => {
            let mut to = to.init_refused();
            to.set_counter(refused.counter);
            to.set_code(refused.code.value());
            to.set_retry_after_ms(refused.retry_after_ms);
            to.set_last(refused.last);
        }
        Frame::Marked(marked) => to.init_marked().set_up_to(marked.up_to),
        Frame::OpenDownlink(open) => {
            let mut to = to.init_open_downlink();
            to.set_conversation(open.conversation.as_bytes());
            to.set_start(open.start);
            to.set_head(open.head);
            to.set_revision(open.revision);
            write_account(&open.peer, to.init_peer());
        }
        Frame::Deliver(deliver) => {
            let mut to = to.init_deliver();
            to.set_seq(deliver.seq);
            to.set_account(deliver.account.get());
            to.set_device(deliver.device.get());
            to.set_message_id(deliver.message_id);
            to.set_time_ms(deliver.time_ms);
            to.set_envelope(&deliver.envelope.0);
        }
        Frame::Skip(skip) => {
            let mut to = to.init_skip();
            to.set_up_to(skip.up_to);
            to.set_reason(match skip.reason {
                SkipReason::Own => wire::skip::Reason::Own,
                SkipReason::Expired => wire::skip::Reason::Expired,
            });
        }
        Frame::Receipt(receipt) => {
            let mut to = to.init_receipt();
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
        Frame::Ack(ack) => {
            let mut to = to.init_ack();
            to.set_seq(ack.seq);
            to.set_revision(ack.revision);
        }
    }
}

fn write_account(account: &Account, mut to: wire::account::Builder<'_>) {
    to.set_account(account.account.get());
    to.set_name(&account.name);
}

fn write_greeting(greeting: &Greeting, mut to: wire::greeting::Builder<'_>) {
    use wire::greeting::Registration as Wire;
    to.set_nonce(&greeting.nonce);
    to.set_revision(greeting.revision);
    to.set_time_ms(greeting.time_ms);
    to.set_software(&greeting.software);
    to.set_registration(match greeting.registration {
        Registration::Closed => Wire::Closed,
        Registration::Open => Wire::Open,
        Registration::Invite => Wire::Invite,
        Registration::Token => Wire::Token,
    });
    write_ids(&greeting.extensions, to.init_extensions(len(&greeting.extensions)));
}

/// Text of a secret that is text by construction; anything else is sent empty and refused.
fn secret_text(secret: &Secret) -> &str {
    secret.expose_text().unwrap_or_default()
}

fn write_hello(hello: &Hello, mut to: wire::hello::Builder<'_>) {
    to.set_revision(hello.revision);
    to.set_active(hello.active);
    to.set_software(&hello.software);
    write_ids(&hello.extensions, to.reborrow().init_extensions(len(&hello.extensions)));
    match &hello.credential {
        Credential::Ticket(ticket) => to.set_ticket(ticket.expose()),
        Credential::SignIn(sign_in) => {
            let mut to = to.init_sign_in();
            to.set_account(sign_in.account.get());
            to.set_device(sign_in.device.get());
            to.set_signature(&sign_in.signature);
        }
        Credential::Register(register) => {
            let mut to = to.init_register();
            to.set_name(&register.name);
            to.set_device_key(&register.device_key);
            to.set_label(&register.label);
            to.set_signature(&register.signature);
            match &register.entitlement {
                Entitlement::None => to.set_none(()),
                Entitlement::Invite(secret) => to.set_invite(secret_text(secret)),
                Entitlement::Token(secret) => to.set_token(secret_text(secret)),
                Entitlement::Link(secret) => to.set_link(secret_text(secret)),
            }
        }
    }
}

fn write_welcome(welcome: &Welcome, mut to: wire::welcome::Builder<'_>) {
    to.set_revision(welcome.revision);
    to.set_account(welcome.account.get());
    to.set_device(welcome.device.get());
    to.set_name(&welcome.name);
    to.set_epoch(welcome.epoch);
    to.set_ticket(welcome.ticket.expose());
    to.set_ticket_for_ms(welcome.ticket_for_ms);
    to.set_time_ms(welcome.time_ms);
    let mut mailbox = to.reborrow().init_mailbox();
    mailbox.set_conversations(welcome.mailbox.conversations);
    mailbox.set_positions(welcome.mailbox.positions);
    let mut limits = to.reborrow().init_limits();
    limits.set_envelope_bytes(welcome.limits.envelope_bytes);
    limits.set_unanswered_sends(welcome.limits.unanswered_sends);
    limits.set_requests(welcome.limits.requests);
    limits.set_watches(welcome.limits.watches);
    limits.set_idle_for_ms(welcome.limits.idle_for_ms);
    limits.set_inactive_idle_for_ms(welcome.limits.inactive_idle_for_ms);
    limits.set_stream_idle_for_ms(welcome.limits.stream_idle_for_ms);
    write_ids(&welcome.extensions, to.init_extensions(len(&welcome.extensions)));
}

fn write_request(request: &Request, mut to: wire::request::Builder<'_>) {
    to.set_id(request.id);
    match &request.body {
        // An unknown request can be received but has no form to be sent in.
        RequestBody::Ping | RequestBody::Unknown(_) => to.set_ping(()),
        RequestBody::Lookup(name) => to.set_lookup(name),
        RequestBody::Account(account) => to.set_account(account.get()),
        RequestBody::Devices => to.set_devices(()),
        RequestBody::RemoveDevice(device) => to.set_remove_device(device.get()),
        RequestBody::CreateLink => to.set_create_link(()),
        RequestBody::SetActive(active) => to.set_set_active(*active),
        RequestBody::Watch(accounts) => write_accounts(accounts, to.init_watch(len(accounts))),
        RequestBody::Unwatch(accounts) => write_accounts(accounts, to.init_unwatch(len(accounts))),
        RequestBody::Address => to.set_address(()),
    }
}

fn write_presence(presence: &Presence, mut to: wire::presence::Builder<'_>) {
    use wire::presence::State as Wire;
    to.set_account(presence.account.get());
    to.set_state(match presence.state {
        PresenceState::Unknown => Wire::Unknown,
        PresenceState::Offline => Wire::Offline,
        PresenceState::Online => Wire::Online,
    });
    to.set_last_seen_ms(presence.last_seen_ms);
}

fn write_response(response: &Response, mut to: wire::response::Builder<'_>) {
    to.set_id(response.id);
    match &response.body {
        ResponseBody::Error { code, text, retry_after_ms } => {
            let mut to = to.init_error();
            to.set_code(code.value());
            to.set_text(text);
            to.set_retry_after_ms(*retry_after_ms);
        }
        ResponseBody::Done => to.set_done(()),
        ResponseBody::Account(account) => write_account(account, to.init_account()),
        ResponseBody::Devices(devices) => {
            let mut list = to.init_devices(len(devices));
            for (index, device) in (0..).zip(devices) {
                let mut to = list.reborrow().get(index);
                to.set_device(device.device.get());
                to.set_label(&device.label);
                to.set_created_ms(device.created_ms);
                to.set_last_seen_ms(device.last_seen_ms);
                to.set_online(device.online);
            }
        }
        ResponseBody::Link { token, valid_for_ms } => {
            let mut to = to.init_link();
            to.set_token(secret_text(token));
            to.set_valid_for_ms(*valid_for_ms);
        }
        ResponseBody::Presence(all) => {
            let mut list = to.init_presence(len(all));
            for (index, presence) in (0..).zip(all) {
                write_presence(presence, list.reborrow().get(index));
            }
        }
        ResponseBody::Address(address) => {
            let mut to = to.init_address();
            match address.ip() {
                IpAddr::V4(ip) => to.set_ip(&ip.octets()),
                IpAddr::V6(ip) => to.set_ip(&ip.octets()),
            }
            to.set_port(address.port());
        }
    }
}

fn write_event(event: &Event, mut to: wire::event::Builder<'_>) {
    match event {
        Event::Presence(presence) => write_presence(presence, to.init_presence()),
        Event::Typing { conversation, account, active } => {
            let mut to = to.init_typing();
            to.set_conversation(conversation.as_bytes());
            to.set_account(account.get());
            to.set_active(*active);
        }
        Event::CaughtUp(mailbox) => {
            let mut to = to.init_caught_up();
            to.set_conversations(mailbox.conversations);
            to.set_positions(mailbox.positions);
        }
        // An unknown event can be received but has no form to be sent in.
        Event::DevicesChanged | Event::Unknown(_) => to.set_devices_changed(()),
    }
}
