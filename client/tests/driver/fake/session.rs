//! A connection of the fake server: greeting, hello, welcome, requests.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use quinn::{Connection, ConnectionError, SendStream};
use tern_protocol::{
    code::Code,
    codec,
    frame::*,
    id::{AccountId, DeviceId},
    signature::{self, CertificateHash},
};
use tokio::sync::watch;

use super::{
    frames::{Frames, from_var_int, var_int, write, write_grease},
    world::{Known, Signed, Visit, World},
};

/// What serves one connection.
#[derive(Clone)]
pub(super) struct Handler {
    pub(super) node: usize,
    pub(super) world: Arc<Mutex<World>>,
    pub(super) changed: watch::Sender<u64>,
    pub(super) hash: CertificateHash,
    /// Which of the visits this is.
    pub(super) visit: usize,
}

impl Handler {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.world());
        self.changed.send_modify(|version| *version += 1);
        result
    }

    /// Remembers what came.
    pub(super) fn note(&self, frame: &Frame) {
        self.change(|world| world.visits[self.visit].frames.push(frame.clone()));
    }

    pub(super) async fn connection(mut self, incoming: quinn::Incoming) -> Option<()> {
        let (connection, mut complete) = incoming.accept().ok()?.into_0rtt().ok()?;
        let closed = (self.clone(), connection.clone());
        tokio::spawn(async move {
            let (this, connection) = closed;
            if let ConnectionError::ApplicationClosed(close) = connection.closed().await {
                this.change(|world| world.closed.push(from_var_int(close.error_code)));
            }
        });
        let nonce = [9; 32];
        self.greet(&connection, nonce).await?;
        let (send, recv) = connection.accept_bi().await.ok()?;
        let visit = Visit { node: self.node, is_early: recv.is_0rtt(), frames: Vec::new() };
        self.visit = self.change(|world| {
            world.visits.push(visit);
            world.visits.len() - 1
        });
        let mut frames = Frames::new(recv);
        let (mut send, known) = self.hello(send, &mut frames, &nonce).await?;
        tokio::spawn(self.clone().uplinks(connection.clone(), known.clone()));
        // What comes behind the hello in early data is noted before the handshake is complete.
        loop {
            tokio::select! {
                _ = &mut complete => break,
                frame = frames.next() => self.note(&frame?),
            }
        }
        let (tell, mut told) = watch::channel(None);
        let epoch = self.change(|world| {
            let is_older = |signed: &mut Signed| signed.device == known.device;
            for older in world.connections.extract_if(.., is_older) {
                older.connection.close(var_int(Code::Replaced), b"");
            }
            let connection = connection.clone();
            let (device, is_told) = (known.device, true);
            world.connections.push(Signed { device, connection, tell, is_told });
            world.epoch += 1;
            world.epoch
        });
        // The test may act as soon as its client is welcome, so everything is in place before.
        write(&mut send, &Frame::Welcome(self.welcome(&known, epoch))).await?;
        write_grease(&mut send).await?;
        tokio::spawn(self.clone().downlinks(connection.clone(), known.clone()));
        loop {
            tokio::select! {
                frame = frames.next() => {
                    let frame = frame?;
                    self.note(&frame);
                    match frame {
                        Frame::Request(request) => {
                            let body = self.answer(&known, connection.remote_address(), request.body);
                            let response = Response { id: request.id, body };
                            write(&mut send, &Frame::Response(response)).await?;
                        }
                        Frame::Extension(_) => {}
                        other => panic!("{other:?} on the session stream"),
                    }
                }
                changed = told.changed() => {
                    changed.ok()?;
                    let frame = told.borrow_and_update().clone();
                    if let Some(frame) = frame {
                        write(&mut send, &frame).await?;
                        self.change(|world| {
                            for signed in &mut world.connections {
                                let id = signed.connection.stable_id();
                                signed.is_told |= id == connection.stable_id();
                            }
                        });
                    }
                }
            }
        }
    }

    async fn greet(&self, connection: &Connection, nonce: [u8; 32]) -> Option<()> {
        let mut stream = connection.open_uni().await.ok()?;
        let (later, speaks_nothing) = {
            let world = self.world();
            (world.later_revisions, world.speaks_nothing)
        };
        let greeting = Greeting {
            nonce,
            revision: 1 + later,
            time_ms: 1,
            software: "fake".into(),
            extensions: vec![0x2a2a],
            registration: Registration::Open,
        };
        let mut bytes = codec::encode(&Frame::Greeting(greeting.clone()));
        if speaks_nothing {
            // Where the revision stands is where the bytes of two greetings differ.
            let other = Greeting { revision: greeting.revision ^ 1, ..greeting };
            let other = codec::encode(&Frame::Greeting(other));
            let at = bytes.iter().zip(&other).position(|(one, other)| one != other).unwrap();
            let mut changed = bytes.to_vec();
            changed[at] = 0;
            bytes = changed.into();
        }
        stream.write_all(&bytes).await.ok()?;
        stream.finish().ok()
    }

    fn welcome(&self, known: &Known, epoch: u64) -> Welcome {
        let defaults = Limits::default();
        let idle_for_ms = self.world().idle_for_ms.unwrap_or(defaults.idle_for_ms);
        let ticket = [known.device.get().to_le_bytes(), epoch.to_le_bytes()].concat();
        Welcome {
            revision: 1,
            account: known.account,
            device: known.device,
            name: known.name.clone(),
            epoch,
            ticket: Secret::new(ticket),
            ticket_for_ms: 1_000_000,
            time_ms: 1,
            mailbox: Mailbox::default(),
            limits: Limits { unanswered_sends: 8, idle_for_ms, ..defaults },
            extensions: Vec::new(),
        }
    }

    async fn hello(
        &self,
        mut send: SendStream,
        frames: &mut Frames,
        nonce: &[u8; 32],
    ) -> Option<(SendStream, Known)> {
        loop {
            let frame = frames.next().await?;
            self.note(&frame);
            let hello = match frame {
                Frame::Hello(hello) => hello,
                Frame::Extension(_) => continue,
                other => panic!("{other:?} instead of a hello"),
            };
            match self.judge(hello.credential, nonce) {
                Ok(known) => return Some((send, known)),
                Err((code, retry_after_ms)) => {
                    let rejected = Rejected { code, text: String::new(), retry_after_ms };
                    write(&mut send, &Frame::Rejected(rejected)).await?;
                }
            }
        }
    }

    fn judge(&self, credential: Credential, nonce: &[u8; 32]) -> Result<Known, (Code, u64)> {
        let mut world = self.world();
        if !world.reject.is_empty() {
            return Err(world.reject.remove(0));
        }
        let known = match credential {
            Credential::Ticket(_) if world.no_tickets => Err(Code::TicketInvalid),
            Credential::Ticket(ticket) => {
                let is_its =
                    |known: &&Known| ticket.expose().starts_with(&known.device.get().to_le_bytes());
                world.devices.iter().find(is_its).cloned().ok_or(Code::TicketInvalid)
            }
            Credential::SignIn(sign_in) => {
                let (account, device) = (sign_in.account, sign_in.device);
                let known = world.devices.iter().find(|known| known.device == device);
                known.cloned().ok_or(Code::UnknownDevice).and_then(|known| {
                    let message = signature::sign_in_message(nonce, &self.hash, account, device);
                    signature::verify(&known.key, &message, &sign_in.signature)
                        .then_some(known)
                        .ok_or(Code::BadSignature)
                })
            }
            Credential::Register(register) => self.register(&mut world, register, nonce),
        };
        known.map_err(|code| (code, 0))
    }

    fn register(
        &self,
        world: &mut World,
        register: Register,
        nonce: &[u8; 32],
    ) -> Result<Known, Code> {
        let key = register.device_key;
        let message = signature::register_message(nonce, &self.hash, &key, &register.name);
        if !signature::verify(&key, &message, &register.signature) {
            return Err(Code::BadSignature);
        }
        match world.devices.iter().find(|known| known.name == register.name) {
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

    fn answer(&self, known: &Known, seen: SocketAddr, body: RequestBody) -> ResponseBody {
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
            RequestBody::Address => match self.world().hides_addresses {
                true => error(Code::UnknownRequest),
                false => ResponseBody::Address(seen),
            },
            RequestBody::Ping | RequestBody::SetActive(_) | RequestBody::Unwatch(_) => {
                ResponseBody::Done
            }
            _ => error(Code::UnknownRequest),
        }
    }
}
