//! A device that is signed in, and its uplinks and downlinks.

use std::collections::VecDeque;

use tern_protocol::{
    code::Code,
    frame::{
        Accepted, Ack, Credential, Deliver, Device, Entitlement, Envelope, Event, Frame,
        OpenDownlink, OpenUplink, Presence, Receipt, Refused, Request, RequestBody, ResponseBody,
        Secret, Send, Skip, Welcome,
    },
    id::{AccountId, ConversationId, DeviceId},
};

use super::{
    Key, World, random,
    raw::{Ended, Raw, Stream, hello},
    wait,
};

/// A device that is signed in.
pub(crate) struct Client {
    pub(crate) raw: Raw,
    pub(crate) welcome: Welcome,
    pub(crate) key: Key,
    events: VecDeque<Event>,
    requests: u32,
}

impl Client {
    pub(crate) async fn register(raw: Raw, name: &str, key: Key) -> Self {
        Self::register_with(raw, name, key, Entitlement::None).await
    }

    pub(crate) async fn register_with(
        mut raw: Raw,
        name: &str,
        key: Key,
        entitlement: Entitlement,
    ) -> Self {
        let credential = raw.register(&key, name, entitlement);
        let welcome = raw.hello(credential).await.unwrap();
        Self::new(raw, welcome, key)
    }

    pub(crate) fn new(raw: Raw, welcome: Welcome, key: Key) -> Self {
        Self { raw, welcome, key, events: VecDeque::new(), requests: 0 }
    }

    /// The device leaves, and comes back by its ticket.
    pub(crate) async fn again(self, world: &World) -> Self {
        self.leave(world).await.back(world).await
    }

    /// The device leaves.
    pub(crate) async fn leave(self, world: &World) -> Away {
        let Self { raw, welcome, key, .. } = self;
        let metrics = world.metrics();
        let before = metrics.closed_by_clients.get(Code::NoError);
        raw.connection.close(0u32.into(), b"");
        super::until("the server to notice that a device left", async || {
            metrics.closed_by_clients.get(Code::NoError) > before
        })
        .await;
        Away { welcome, key }
    }

    /// What the device keeps when its connection is of no use any more.
    pub(crate) fn away(self) -> Away {
        Away { welcome: self.welcome, key: self.key }
    }

    pub(crate) fn account(&self) -> AccountId {
        self.welcome.account
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.welcome.device
    }

    /// The conversation with somebody.
    pub(crate) fn with(&self, peer: &Self) -> ConversationId {
        ConversationId::direct(self.account(), peer.account()).unwrap()
    }

    /// Asks and hears the answer; events that come before it are kept.
    pub(crate) async fn ask(&mut self, body: RequestBody) -> ResponseBody {
        self.requests += 1;
        let id = self.requests;
        self.raw.session.say(&Frame::Request(Request { id, body })).await;
        loop {
            match self.raw.session.frame().await {
                Frame::Response(response) if response.id == id => return response.body,
                Frame::Event(event) => self.events.push_back(event),
                other => panic!("neither the response nor an event: {other:?}"),
            }
        }
    }

    /// Asks for what must be refused.
    pub(crate) async fn refused(&mut self, body: RequestBody) -> Code {
        match self.ask(body).await {
            ResponseBody::Error { code, .. } => code,
            other => panic!("should have been refused: {other:?}"),
        }
    }

    pub(crate) async fn done(&mut self, body: RequestBody) {
        assert_eq!(self.ask(body).await, ResponseBody::Done);
    }

    pub(crate) async fn link(&mut self) -> Secret {
        match self.ask(RequestBody::CreateLink).await {
            ResponseBody::Link { token, .. } => token,
            other => panic!("no link: {other:?}"),
        }
    }

    pub(crate) async fn devices(&mut self) -> Vec<Device> {
        match self.ask(RequestBody::Devices).await {
            ResponseBody::Devices(devices) => devices,
            other => panic!("no devices: {other:?}"),
        }
    }

    pub(crate) async fn watch(&mut self, accounts: &[AccountId]) -> Vec<Presence> {
        match self.ask(RequestBody::Watch(accounts.to_vec())).await {
            ResponseBody::Presence(presence) => presence,
            other => panic!("no presence: {other:?}"),
        }
    }

    /// The next event that isn't `caughtUp`.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            match self.any_event().await {
                Event::CaughtUp(_) => {}
                event => return event,
            }
        }
    }

    /// The next event.
    pub(crate) async fn any_event(&mut self) -> Event {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        match self.raw.session.frame().await {
            Frame::Event(event) => event,
            other => panic!("an event was due: {other:?}"),
        }
    }

    /// The events that the server had told when it answered a ping.
    pub(crate) async fn events_so_far(&mut self) -> Vec<Event> {
        self.done(RequestBody::Ping).await;
        let told = std::mem::take(&mut self.events);
        told.into_iter().filter(|event| !matches!(event, Event::CaughtUp(_))).collect()
    }

    /// Hears that the server is there.
    pub(crate) async fn ping(&mut self) {
        self.done(RequestBody::Ping).await;
    }

    /// Opens an uplink to somebody. Its first send has the counter 1.
    pub(crate) async fn uplink(&self, peer: &Self) -> Uplink {
        self.uplink_to(peer.account()).await
    }

    pub(crate) async fn uplink_to(&self, peer: AccountId) -> Uplink {
        let conversation = ConversationId::direct(self.account(), peer).unwrap();
        Uplink::open(&self.raw, conversation, Some(peer)).await
    }

    /// The next downlink that the server opens.
    pub(crate) async fn downlink(&self) -> Downlink {
        let accepted = wait("a downlink", self.raw.connection.accept_bi()).await.unwrap();
        let mut stream = Stream::new(accepted);
        match stream.frame().await {
            Frame::OpenDownlink(open) => {
                let acked = Ack { seq: open.start, revision: open.revision };
                Downlink { stream, open, acked }
            }
            other => panic!("a downlink begins with {other:?}"),
        }
    }
}

/// A device that isn't connected.
pub(crate) struct Away {
    pub(crate) welcome: Welcome,
    pub(crate) key: Key,
}

impl Away {
    /// The device comes back by its ticket.
    pub(crate) async fn back(self, world: &World) -> Client {
        self.back_as(world, true).await
    }

    pub(crate) async fn back_as(self, world: &World, active: bool) -> Client {
        let mut raw = world.connect().await;
        let mut hello = hello(self.ticket());
        hello.active = active;
        let welcome = raw.hello_as(hello).await.unwrap();
        Client::new(raw, welcome, self.key)
    }

    pub(crate) fn ticket(&self) -> Credential {
        Credential::Ticket(self.welcome.ticket.clone())
    }
}

/// An uplink that numbers what is said.
pub(crate) struct Uplink {
    pub(crate) stream: Stream,
    /// The counter of the next send.
    pub(crate) next: u64,
    pub(crate) settled: u64,
}

impl Uplink {
    pub(crate) async fn open(
        raw: &Raw,
        conversation: ConversationId,
        peer: Option<AccountId>,
    ) -> Self {
        let mut stream = raw.open().await;
        stream.say(&Frame::OpenUplink(OpenUplink { conversation, peer })).await;
        Self { stream, next: 1, settled: 0 }
    }

    /// Sends a text and hears that it was accepted.
    pub(crate) async fn send(&mut self, text: &str) -> Accepted {
        let send = self.number(text);
        self.stream.say(&Frame::Send(send)).await;
        let accepted = self.accepted().await;
        self.settled = accepted.counter;
        accepted
    }

    /// A send with the next counter.
    pub(crate) fn number(&mut self, text: &str) -> Send {
        let send = send(self.next, self.settled, text);
        self.next += 1;
        send
    }

    pub(crate) async fn accepted(&mut self) -> Accepted {
        match self.stream.frame().await {
            Frame::Accepted(accepted) => accepted,
            other => panic!("should have been accepted: {other:?}"),
        }
    }

    /// Sends what must be refused.
    pub(crate) async fn refused(&mut self, send: Send) -> Refused {
        self.stream.say(&Frame::Send(send)).await;
        match self.stream.frame().await {
            Frame::Refused(refused) => refused,
            other => panic!("should have been refused: {other:?}"),
        }
    }

    /// Moves the read mark.
    pub(crate) async fn read(&mut self, up_to: u64) -> u64 {
        let mark = tern_protocol::frame::ReadMark { up_to };
        self.stream.say(&Frame::ReadMark(mark)).await;
        match self.stream.frame().await {
            Frame::Marked(marked) => marked.up_to,
            other => panic!("should have been marked: {other:?}"),
        }
    }

    pub(crate) async fn typing(&mut self, active: bool) {
        self.stream.say(&Frame::Typing(tern_protocol::frame::Typing { active })).await;
    }

    /// Ends the uplink and hears the server end it.
    pub(crate) async fn finish(mut self) {
        self.stream.finish();
        assert_eq!(self.stream.end().await, Ended::Finished);
    }
}

/// A send of a text.
pub(crate) fn send(counter: u64, settled: u64, text: &str) -> Send {
    let message_id = u64::from_le_bytes(random());
    let envelope = Envelope(text.as_bytes().to_vec().into());
    Send { counter, message_id, settled, envelope }
}

/// A downlink that the server has opened.
pub(crate) struct Downlink {
    pub(crate) stream: Stream,
    pub(crate) open: OpenDownlink,
    /// What was acknowledged.
    pub(crate) acked: Ack,
}

impl Downlink {
    /// The next frame, which must be a delivery.
    pub(crate) async fn delivery(&mut self) -> Deliver {
        match self.stream.frame().await {
            Frame::Deliver(deliver) => deliver,
            other => panic!("a delivery was due: {other:?}"),
        }
    }

    pub(crate) async fn skip(&mut self) -> Skip {
        match self.stream.frame().await {
            Frame::Skip(skip) => skip,
            other => panic!("a skip was due: {other:?}"),
        }
    }

    /// The next skip, behind receipts that are acknowledged.
    pub(crate) async fn skip_behind_receipts(&mut self) -> Skip {
        loop {
            match self.stream.frame().await {
                Frame::Receipt(receipt) => self.ack_receipt(&receipt).await,
                Frame::Skip(skip) => return skip,
                other => panic!("a skip was due: {other:?}"),
            }
        }
    }

    pub(crate) async fn receipt(&mut self) -> Receipt {
        match self.stream.frame().await {
            Frame::Receipt(receipt) => receipt,
            other => panic!("a receipt was due: {other:?}"),
        }
    }

    /// Acknowledges entries.
    pub(crate) async fn ack(&mut self, seq: u64) {
        self.acked.seq = seq;
        self.stream.say(&Frame::Ack(self.acked)).await;
    }

    /// Acknowledges receipts.
    pub(crate) async fn ack_receipt(&mut self, receipt: &Receipt) {
        self.acked.revision = receipt.revision;
        self.stream.say(&Frame::Ack(self.acked)).await;
    }

    /// Takes a delivery with this text and acknowledges it, and receipts that come before it.
    pub(crate) async fn hears(&mut self, text: &str) -> Deliver {
        let delivery = loop {
            match self.stream.frame().await {
                Frame::Receipt(receipt) => self.ack_receipt(&receipt).await,
                Frame::Deliver(deliver) => break deliver,
                other => panic!("a delivery was due: {other:?}"),
            }
        };
        assert_eq!(text_of(&delivery), text);
        self.ack(delivery.seq).await;
        delivery
    }

    /// Takes receipts until one of `account` is as wanted, and acknowledges it.
    pub(crate) async fn receipt_when(
        &mut self,
        account: AccountId,
        mut wanted: impl FnMut(&Receipt) -> bool,
    ) -> Receipt {
        loop {
            let receipt = self.receipt().await;
            self.ack_receipt(&receipt).await;
            if receipt.account == account && wanted(&receipt) {
                return receipt;
            }
        }
    }
}

impl Downlink {
    /// Waits until an account is told to have everything up to `delivered`, and acknowledges what
    /// comes before.
    pub(crate) async fn receipt_of(&mut self, account: AccountId, delivered: u64) {
        loop {
            match self.stream.frame().await {
                Frame::Deliver(deliver) => self.ack(deliver.seq).await,
                Frame::Skip(skip) => self.ack(skip.up_to).await,
                Frame::Receipt(receipt) => {
                    self.ack_receipt(&receipt).await;
                    if receipt.account == account && receipt.delivered == delivered {
                        return;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

pub(crate) fn text_of(deliver: &Deliver) -> &str {
    std::str::from_utf8(&deliver.envelope.0).unwrap()
}
