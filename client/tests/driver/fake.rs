//! A server for tests of the driver: it keeps everything in memory, does what SPEC.md says where a test
//! needs it, and misbehaves on demand. The real server is another crate.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use tern_protocol::{
    code::Code,
    codec,
    downlink::Sender,
    frame::*,
    framing::Deframer,
    id::{AccountId, ConversationId, DeviceId},
    limits,
    signature::{self, CertificateHash},
    uplink::{Answers, Verdict},
};
use tokio::sync::watch;

/// One device of the fake world.
#[derive(Debug, Clone)]
pub struct Known {
    pub name: String,
    pub account: AccountId,
    pub device: DeviceId,
    key: [u8; 32],
}

/// An entry of a conversation.
#[derive(Debug, Clone)]
pub struct Entry {
    pub account: AccountId,
    pub device: DeviceId,
    pub message_id: u64,
    pub text: String,
}

/// What the server knows; survives connections and restarts.
#[derive(Default)]
pub struct World {
    pub devices: Vec<Known>,
    pub logs: BTreeMap<ConversationId, Vec<Entry>>,
    members: BTreeMap<ConversationId, [AccountId; 2]>,
    pub answers: BTreeMap<(DeviceId, ConversationId), Answers>,
    pub cursors: BTreeMap<(DeviceId, ConversationId), Ack>,
    pub receipts: BTreeMap<ConversationId, Vec<Receipt>>,
    connections: Vec<(DeviceId, Connection, watch::Sender<Option<Frame>>)>,
    /// Sends that are refused, with the code and `retry_after_ms`.
    pub refuse: Vec<(u64, Code, u64)>,
    /// Tickets aren't taken.
    pub no_tickets: bool,
    /// Accepted sends aren't answered; the connection is closed instead.
    pub swallow_answers: bool,
    /// Hellos seen, with whether each was by ticket and in early data.
    pub hellos: Vec<(bool, bool)>,
    epoch: u64,
}

/// The running server.
pub struct Fake {
    pub address: SocketAddr,
    pub ca_pem: String,
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
    endpoint: Endpoint,
    hash: CertificateHash,
}

impl Fake {
    /// Starts a server that knows nobody.
    pub fn start() -> Self {
        let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = key.cert.der().clone();
        let private =
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], private)
            .unwrap();
        tls.alpn_protocols = vec![tern_protocol::ALPN.to_vec()];
        tls.max_early_data_size = u32::MAX;
        let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let mut transport = quinn::TransportConfig::default();
        // So few that several conversations have to take turns.
        transport.max_concurrent_bidi_streams(4_u32.into());
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let fake = Self {
            address: endpoint.local_addr().unwrap(),
            ca_pem: key.cert.pem(),
            world: Arc::default(),
            changed: watch::channel(0).0,
            hash: CertificateHash::of(&certificate),
            endpoint,
        };
        let handler =
            Handler { world: fake.world.clone(), changed: fake.changed.clone(), hash: fake.hash };
        let endpoint = fake.endpoint.clone();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(handler.clone().connection(incoming));
            }
        });
        fake
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Waits until the world looks as it should.
    pub async fn until(&self, what: impl Fn(&World) -> bool) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if what(&self.world()) {
                return;
            }
            changed.changed().await.unwrap();
        }
    }

    /// Closes every connection.
    pub fn drop_connections(&self, code: Code) {
        for (_, connection, _) in self.world().connections.drain(..) {
            connection.close(VarInt::from_u32(u32::from(code.value())), b"");
        }
    }

    /// Sends a frame on every session stream.
    pub fn tell_all(&self, frame: &Frame) {
        for (_, _, tell) in &self.world().connections {
            tell.send_replace(Some(frame.clone()));
        }
    }

    /// The texts of a conversation in order.
    pub fn texts(&self, conversation: ConversationId) -> Vec<String> {
        let world = self.world();
        world.logs.get(&conversation).into_iter().flatten().map(|e| e.text.clone()).collect()
    }
}

#[derive(Clone)]
struct Handler {
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
    hash: CertificateHash,
}

struct Frames(RecvStream, Deframer);

impl Frames {
    fn new(stream: RecvStream) -> Self {
        Self(stream, Deframer::new(limits::FRAME_BYTES))
    }

    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.1.next_frame().unwrap() {
                return Some(codec::decode(frame).unwrap());
            }
            let chunk = self.0.read_chunk(usize::MAX, true).await.ok()??;
            self.1.push(&chunk.bytes);
        }
    }
}

async fn write(stream: &mut SendStream, frame: &Frame) -> Option<()> {
    stream.write_all(&codec::encode(frame)).await.ok()
}

impl Handler {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.world());
        self.changed.send_modify(|version| *version += 1);
        result
    }

    async fn connection(self, incoming: quinn::Incoming) -> Option<()> {
        let (connection, complete) = incoming.accept().ok()?.into_0rtt().ok()?;
        let nonce = [9; 32];
        let mut stream = connection.open_uni().await.ok()?;
        let greeting = Greeting {
            nonce,
            revision: 1,
            time_ms: 1,
            software: "fake".into(),
            extensions: vec![0x2a2a],
            registration: Registration::Open,
        };
        write(&mut stream, &Frame::Greeting(greeting)).await?;
        stream.finish().ok()?;
        let (send, recv) = connection.accept_bi().await.ok()?;
        let is_early = recv.is_0rtt();
        let mut frames = Frames::new(recv);
        let (mut send, known) = self.hello(send, &mut frames, &nonce, is_early).await?;
        complete.await;
        let (tell, mut told) = watch::channel(None);
        self.change(|world| {
            for (_, older, _) in world.connections.extract_if(.., |(d, ..)| *d == known.device) {
                older.close(VarInt::from_u32(u32::from(Code::Replaced.value())), b"");
            }
            world.connections.push((known.device, connection.clone(), tell));
        });
        let epoch = self.change(|world| {
            world.epoch += 1;
            world.epoch
        });
        let welcome = Welcome {
            revision: 1,
            account: known.account,
            device: known.device,
            name: known.name.clone(),
            epoch,
            ticket: Secret::new(known.device.get().to_le_bytes()),
            ticket_for_ms: 1_000_000,
            time_ms: 1,
            mailbox: Mailbox::default(),
            limits: Limits { unanswered_sends: 8, ..Limits::default() },
            extensions: Vec::new(),
        };
        // The test may act as soon as its client is welcome, so everything is in place before.
        write(&mut send, &Frame::Welcome(welcome)).await?;
        tokio::spawn(self.clone().downlinks(connection.clone(), known.clone()));
        loop {
            tokio::select! {
                frame = frames.next() => match frame? {
                    Frame::Request(request) => {
                        let body = self.answer(&known, request.body);
                        let response = Response { id: request.id, body };
                        write(&mut send, &Frame::Response(response)).await?;
                    }
                    Frame::Extension(_) => {}
                    other => panic!("{other:?} on the session stream"),
                },
                streams = connection.accept_bi() => {
                    let (send, recv) = streams.ok()?;
                    tokio::spawn(self.clone().uplink(connection.clone(), known.clone(), send, recv));
                }
                changed = told.changed() => {
                    changed.ok()?;
                    let frame = told.borrow_and_update().clone();
                    if let Some(frame) = frame {
                        write(&mut send, &frame).await?;
                    }
                }
            }
        }
    }

    async fn hello(
        &self,
        mut send: SendStream,
        frames: &mut Frames,
        nonce: &[u8; 32],
        is_early: bool,
    ) -> Option<(SendStream, Known)> {
        loop {
            let hello = match frames.next().await? {
                Frame::Hello(hello) => hello,
                Frame::Extension(_) => continue,
                other => panic!("{other:?} instead of a hello"),
            };
            match self.judge(hello.credential, nonce, is_early) {
                Ok(known) => {
                    return Some((send, known));
                }
                Err(code) => {
                    let rejected = Rejected { code, text: String::new(), retry_after_ms: 0 };
                    write(&mut send, &Frame::Rejected(rejected)).await?;
                }
            }
        }
    }

    fn judge(
        &self,
        credential: Credential,
        nonce: &[u8; 32],
        is_early: bool,
    ) -> Result<Known, Code> {
        let by_ticket = matches!(credential, Credential::Ticket(_));
        self.change(|world| {
            world.hellos.push((by_ticket, is_early));
            match credential {
                Credential::Ticket(_) if world.no_tickets => Err(Code::TicketInvalid),
                Credential::Ticket(ticket) => world
                    .devices
                    .iter()
                    .find(|known| ticket.matches(&known.device.get().to_le_bytes()))
                    .cloned()
                    .ok_or(Code::TicketInvalid),
                Credential::SignIn(sign_in) => {
                    let (account, device) = (sign_in.account, sign_in.device);
                    let known = world.devices.iter().find(|known| known.device == device);
                    let known = known.ok_or(Code::UnknownDevice)?;
                    let message = signature::sign_in_message(nonce, &self.hash, account, device);
                    signature::verify(&known.key, &message, &sign_in.signature)
                        .then(|| known.clone())
                        .ok_or(Code::BadSignature)
                }
                Credential::Register(register) => {
                    let key = register.device_key;
                    let message =
                        signature::register_message(nonce, &self.hash, &key, &register.name);
                    if !signature::verify(&key, &message, &register.signature) {
                        return Err(Code::BadSignature);
                    }
                    let known = world.devices.iter().find(|known| known.name == register.name);
                    match known {
                        Some(known) if known.key == key => return Ok(known.clone()),
                        Some(_) => return Err(Code::NameTaken),
                        None => {}
                    }
                    let number = world.devices.len() as u64 + 1;
                    let known = Known {
                        name: register.name,
                        account: AccountId::new(number).unwrap(),
                        device: DeviceId::new(number + 100).unwrap(),
                        key,
                    };
                    world.devices.push(known.clone());
                    Ok(known)
                }
            }
        })
    }

    fn answer(&self, known: &Known, body: RequestBody) -> ResponseBody {
        let error = |code| ResponseBody::Error { code, text: String::new(), retry_after_ms: 0 };
        match body {
            RequestBody::Lookup(name) => {
                let world = self.world();
                match world.devices.iter().find(|known| known.name == name) {
                    Some(found) => ResponseBody::Account(Account { account: found.account, name }),
                    None => error(Code::UnknownName),
                }
            }
            RequestBody::Watch(accounts) => ResponseBody::Presence(
                accounts
                    .into_iter()
                    .map(|account| Presence {
                        account,
                        state: PresenceState::Online,
                        last_seen_ms: 1,
                    })
                    .collect(),
            ),
            RequestBody::Devices => ResponseBody::Devices(vec![Device {
                device: known.device,
                label: "x".into(),
                created_ms: 1,
                last_seen_ms: 1,
                online: true,
            }]),
            RequestBody::Ping | RequestBody::SetActive(_) | RequestBody::Unwatch(_) => {
                ResponseBody::Done
            }
            _ => error(Code::UnknownRequest),
        }
    }

    async fn uplink(
        self,
        connection: Connection,
        known: Known,
        mut send: SendStream,
        recv: RecvStream,
    ) -> Option<()> {
        let mut frames = Frames::new(recv);
        let Frame::OpenUplink(open) = frames.next().await? else { panic!("no openUplink") };
        let peer = open.peer.unwrap();
        if !self.world().devices.iter().any(|known| known.account == peer) {
            let code = VarInt::from_u32(u32::from(Code::UnknownConversation.value()));
            send.reset(code).ok()?;
            frames.0.stop(code).ok()?;
            return None;
        }
        self.world().members.insert(open.conversation, [known.account, peer]);
        while let Some(frame) = frames.next().await {
            let answer = match frame {
                Frame::Send(message) => {
                    let answer = self.send(&known, open.conversation, &message);
                    if self.world().swallow_answers {
                        connection.close(VarInt::from_u32(0x100), b"");
                        return None;
                    }
                    answer
                }
                Frame::ReadMark(mark) => {
                    self.change(|world| {
                        raise(world, open.conversation, known.account, 0, mark.up_to)
                    });
                    Frame::Marked(Marked { up_to: mark.up_to })
                }
                Frame::Typing(_) => continue,
                other => panic!("{other:?} on an uplink"),
            };
            write(&mut send, &answer).await?;
        }
        send.finish().ok()
    }

    fn send(&self, known: &Known, conversation: ConversationId, send: &Send) -> Frame {
        self.change(|world| {
            let answers = world.answers.entry((known.device, conversation)).or_default();
            let refuse = |code, retry_after_ms, last| {
                Frame::Refused(Refused { counter: send.counter, code, retry_after_ms, last })
            };
            match answers.judge(send, 1_000) {
                Verdict::Append => {
                    let planned = world.refuse.iter().position(|(n, ..)| *n == send.counter);
                    if let Some(index) = planned {
                        let (_, code, retry_after_ms) = world.refuse.remove(index);
                        return refuse(code, retry_after_ms, answers.last());
                    }
                    let log = world.logs.entry(conversation).or_default();
                    log.push(Entry {
                        account: known.account,
                        device: known.device,
                        message_id: send.message_id,
                        text: String::from_utf8(send.envelope.0.to_vec()).unwrap(),
                    });
                    Frame::Accepted(answers.record(send, log.len() as u64, 7))
                }
                Verdict::Repeat(accepted) => Frame::Accepted(accepted),
                Verdict::Refuse(code) => refuse(code, 0, answers.last()),
            }
        })
    }

    /// Opens downlinks for what the device hasn't acknowledged.
    async fn downlinks(self, connection: Connection, known: Known) -> Option<()> {
        let mut changed = self.changed.subscribe();
        let mut open = Vec::new();
        loop {
            changed.borrow_and_update();
            let due: Vec<_> = {
                let world = self.world();
                let is_member = |id: &ConversationId| world.members[id].contains(&known.account);
                world.logs.keys().filter(|id| is_member(id)).copied().collect()
            };
            for conversation in due {
                if !open.contains(&conversation) {
                    open.push(conversation);
                    let this = self.clone();
                    tokio::spawn(this.downlink(connection.clone(), known.clone(), conversation));
                }
            }
            tokio::select! {
                changed = changed.changed() => changed.ok()?,
                _ = connection.closed() => return None,
            }
        }
    }

    async fn downlink(
        self,
        connection: Connection,
        known: Known,
        conversation: ConversationId,
    ) -> Option<()> {
        let (mut send, recv) = connection.open_bi().await.ok()?;
        let mut frames = Frames::new(recv);
        let (open, cursor) = {
            let world = self.world();
            let cursor = world.cursors.get(&(known.device, conversation)).copied();
            let cursor = cursor.unwrap_or_default();
            let [a, b] = world.members[&conversation];
            let peer = if a == known.account { b } else { a };
            let peer = world.devices.iter().find(|known| known.account == peer)?;
            let open = OpenDownlink {
                conversation,
                start: cursor.seq,
                head: world.logs[&conversation].len() as u64,
                peer: Account { account: peer.account, name: peer.name.clone() },
                revision: cursor.revision,
            };
            (open, cursor)
        };
        write(&mut send, &Frame::OpenDownlink(open)).await?;
        let mut sender = Sender::new(cursor);
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            for frame in self.due(&mut sender, &known, conversation) {
                write(&mut send, &frame).await?;
            }
            tokio::select! {
                changed = changed.changed() => changed.ok()?,
                frame = frames.next() => match frame? {
                    Frame::Ack(ack) => {
                        sender.ack(&ack).unwrap();
                        self.change(|world| {
                            world.cursors.insert((known.device, conversation), ack);
                            raise(world, conversation, known.account, ack.seq, 0);
                        });
                    }
                    other => panic!("{other:?} on a downlink"),
                },
            }
        }
    }

    fn due(&self, sender: &mut Sender, known: &Known, conversation: ConversationId) -> Vec<Frame> {
        let world = self.world();
        let mut frames = Vec::new();
        for (seq, entry) in (1..).zip(&world.logs[&conversation]) {
            if seq <= sender.sent_seq() || sender.room() == 0 {
                continue;
            }
            sender.sent_up_to(seq);
            frames.push(if entry.device == known.device {
                Frame::Skip(Skip { up_to: seq, reason: SkipReason::Own })
            } else {
                Frame::Deliver(Deliver {
                    seq,
                    account: entry.account,
                    device: entry.device,
                    message_id: entry.message_id,
                    time_ms: 7,
                    envelope: Envelope(entry.text.clone().into_bytes().into()),
                })
            });
        }
        for receipt in world.receipts.get(&conversation).into_iter().flatten() {
            if receipt.revision > sender.sent_revision() {
                sender.sent_receipts_up_to(receipt.revision);
                frames.push(Frame::Receipt(receipt.clone()));
            }
        }
        frames
    }
}

/// Raises a member's receipt; the list stays in the order of revisions.
fn raise(world: &mut World, id: ConversationId, account: AccountId, delivered: u64, read: u64) {
    let receipts = world.receipts.entry(id).or_default();
    let revision = receipts.last().map_or(0, |last| last.revision) + 1;
    let old = receipts.iter().position(|receipt| receipt.account == account);
    let mut receipt = match old {
        Some(index) => receipts[index].clone(),
        None => Receipt { revision, account, delivered: 0, read: 0, expired: Vec::new() },
    };
    if old.is_some() && delivered <= receipt.delivered && read <= receipt.read {
        return;
    }
    receipt.revision = revision;
    receipt.delivered = receipt.delivered.max(delivered);
    receipt.read = receipt.read.max(read);
    if let Some(index) = old {
        receipts.remove(index);
    }
    receipts.push(receipt);
}
