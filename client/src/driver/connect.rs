//! From nothing to signed in: resolve, shake hands, say hello.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use quinn::{ClientConfig, Connection, Endpoint, RecvStream, VarInt, ZeroRttAccepted};
use rand::RngCore;
use rustls::pki_types::CertificateDer;
use tern_protocol::{
    REVISION,
    code::Code,
    frame::{Credential, Entitlement, Frame, Greeting, Hello, Register, SignIn, Welcome},
    grease, limits,
    session::{AfterRejection, Client as Session, ClientInput},
    signature::{self, CertificateHash},
};

use super::{
    io::{self, FrameReader, FrameWriter, IoError},
    link::Link,
};
use crate::{
    core::{Core, lock},
    error::ConnectError,
    identity::{Server, StoredIdentity},
    network,
    store::{self, conversations},
};

/// What the client says hello for.
pub(crate) enum Purpose {
    /// To sign in.
    SignIn,
    /// To become a device.
    Register(Entitlement),
}

/// Whether the server has said anything on an attempt; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Hearing>>);

#[derive(Debug, Default)]
enum Hearing {
    #[default]
    Nothing,
    /// What is sent in the first flight goes over it, so it is there before the server has spoken.
    On(Connection),
    Something,
}

impl Heard {
    pub(super) fn anything(&self) -> bool {
        match &*lock(&self.0) {
            Hearing::Nothing => false,
            Hearing::On(connection) => connection.stats().udp_rx.datagrams > 0,
            Hearing::Something => true,
        }
    }

    fn set(&self, hearing: Hearing) {
        *lock(&self.0) = hearing;
    }
}

/// Connects to `address` (or the server's own) and signs in, within the time that the settings allow.
pub(crate) async fn connect(
    core: &Arc<Core>,
    address: Option<&str>,
    purpose: Purpose,
) -> Result<Link, ConnectError> {
    connect_heard(core, address, 0, purpose, Heard::default()).await
}

/// The same; `heard` tells meanwhile whether the server has said anything. Of several addresses of the server, those
/// `ahead` places behind the one in use are tried first.
pub(super) async fn connect_heard(
    core: &Arc<Core>,
    address: Option<&str>,
    ahead: usize,
    purpose: Purpose,
    heard: Heard,
) -> Result<Link, ConnectError> {
    let timeout = core.settings.connect_timeout;
    let attempt = Box::pin(attempt(core, address, ahead, purpose, &heard));
    match tokio::time::timeout(timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut),
    }
}

async fn attempt(
    core: &Arc<Core>,
    address: Option<&str>,
    ahead: usize,
    purpose: Purpose,
    heard: &Heard,
) -> Result<Link, ConnectError> {
    let mut identity =
        core.store.quickly(store::identity::load).await?.ok_or(ConnectError::NotRegistered)?;
    if identity.ids.is_none() && matches!(purpose, Purpose::SignIn) {
        return Err(ConnectError::NotRegistered);
    }
    if identity.ticket_until_ms <= core.now_ms() {
        // The server would reject it, at the price of a round trip.
        identity.ticket = None;
    }
    let by_ticket = identity.ticket.is_some() && matches!(purpose, Purpose::SignIn);
    let (connection, early) =
        dial(core, &identity.server, address, ahead, by_ticket, heard).await?;
    let guard = CloseOnDrop(Some(connection.clone()));
    let mut hello = HelloState { core, identity, purpose, connection };
    let link = match early {
        None => hello.sign_in(None).await,
        Some(accepted) => match hello.sign_in(Some(accepted)).await {
            // Everything goes again, on the same connection, as 1-RTT data.
            Err(Failed::EarlyDataRejected) => hello.sign_in(None).await,
            other => other,
        },
    };
    match link {
        Ok(link) => {
            guard.disarm();
            core.turn.uses(hello.connection.remote_address());
            Ok(link)
        }
        Err(Failed::EarlyDataRejected) => Err(ConnectError::Closed(Code::NoError)),
        Err(Failed::Other(error)) => {
            if let ConnectError::Protocol(code, _) = &error {
                close(&hello.connection, *code);
            }
            Err(error)
        }
    }
}

/// Closes a connection with a code of the registry.
pub(crate) fn close(connection: &Connection, code: Code) {
    connection.close(VarInt::from_u32(u32::from(code.value())), b"");
}

/// Closes a connection whose set-up was given up.
struct CloseOnDrop(Option<Connection>);

impl CloseOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            close(connection, Code::NoError);
        }
    }
}

/// Starts a connection; with early data if there is a ticket to send in it and a TLS session.
async fn dial(
    core: &Arc<Core>,
    server: &Server,
    address: Option<&str>,
    ahead: usize,
    by_ticket: bool,
    heard: &Heard,
) -> Result<(Connection, Option<ZeroRttAccepted>), ConnectError> {
    let name = network::server_name(server).map_err(server_error)?;
    let config = client_config(core, server)?;
    let mut addresses = network::resolve(address.unwrap_or(&server.address))
        .await
        .map_err(|error| ConnectError::Network(Arc::new(error)))?;
    if address.is_none() {
        core.turn.order(&mut addresses, ahead, &mut *core.rng());
    }
    let mut last = ConnectError::TimedOut;
    for address in addresses {
        let connecting =
            endpoint(core, address)?.connect_with(config.clone(), address, &name).map_err(
                |error| ConnectError::Network(Arc::new(std::io::Error::other(error.to_string()))),
            )?;
        let mut connecting = if by_ticket {
            match connecting.into_0rtt() {
                Ok((connection, accepted)) => {
                    heard.set(Hearing::On(connection.clone()));
                    return Ok((connection, Some(accepted)));
                }
                Err(connecting) => connecting,
            }
        } else {
            connecting
        };
        if connecting.handshake_data().await.is_ok() {
            heard.set(Hearing::Something);
        }
        match connecting.await {
            Ok(connection) => return Ok((connection, None)),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn server_error(error: network::ServerError) -> ConnectError {
    ConnectError::Server(Arc::new(error))
}

fn client_config(core: &Core, server: &Server) -> Result<ClientConfig, ConnectError> {
    let mut slot = lock(&core.config);
    if let Some(config) = &*slot {
        return Ok(config.clone());
    }
    let config =
        network::client_config(server, &core.settings, &core.sessions).map_err(server_error)?;
    *slot = Some(config.clone());
    Ok(config)
}

fn endpoint(core: &Core, remote: SocketAddr) -> Result<Endpoint, ConnectError> {
    let mut slot = lock(&core.endpoint);
    if let Some(endpoint) = &*slot {
        let fits = endpoint.local_addr().is_ok_and(|local| local.is_ipv6() == remote.is_ipv6());
        if fits {
            return Ok(endpoint.clone());
        }
    }
    let endpoint = core
        .settings
        .network
        .endpoint(remote)
        .map_err(|error| ConnectError::Network(Arc::new(error)))?;
    *slot = Some(endpoint.clone());
    Ok(endpoint)
}

struct HelloState<'a> {
    core: &'a Arc<Core>,
    identity: StoredIdentity,
    purpose: Purpose,
    connection: Connection,
}

enum Failed {
    EarlyDataRejected,
    Other(ConnectError),
}

impl From<IoError> for Failed {
    fn from(error: IoError) -> Self {
        match error {
            IoError::EarlyDataRejected => Self::EarlyDataRejected,
            other => Self::Other(other.into()),
        }
    }
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        Self::Other(error)
    }
}

impl From<store::StoreError> for Failed {
    fn from(error: store::StoreError) -> Self {
        Self::Other(error.into())
    }
}

impl From<quinn::ConnectionError> for Failed {
    fn from(error: quinn::ConnectionError) -> Self {
        Self::Other(error.into())
    }
}

impl HelloState<'_> {
    /// Opens the session stream and says hello until the server is content.
    async fn sign_in(&mut self, early: Option<ZeroRttAccepted>) -> Result<Link, Failed> {
        let connection = io::with_streams(self.connection.clone(), &self.core.settings);
        let (send, recv) = connection.open_bi().await?;
        let signs = || self.core.signs.clone();
        let mut writer = FrameWriter::new(send, signs());
        let mut reader = FrameReader::new(recv, signs());
        reader.hold_limit();
        let ticket = match self.purpose {
            Purpose::SignIn => self.identity.ticket.clone(),
            Purpose::Register(_) => None,
        };
        let by_ticket = ticket.is_some();
        let mut session = Session::new(ticket);
        let credential = match session.begin_hello() {
            Some(ticket) => Credential::Ticket(ticket.clone()),
            None => self.signed().await?,
        };
        writer.push(&self.hello(credential));
        writer.push(&self.grease());
        writer.flush().await?;
        let mut link = Link::new(self.core.clone(), connection, writer, reader);
        if by_ticket {
            // What waits rides along, in the same flight as the hello.
            link.speak_early().await?;
        }
        if let Some(accepted) = early
            && !accepted.await
        {
            link.silence().await;
            return Err(Failed::EarlyDataRejected);
        }
        loop {
            let frame = link.reader.next().await?;
            let Some(frame) = frame else {
                return Err(ConnectError::Closed(Code::NoError).into());
            };
            match session.receive(frame).map_err(unexpected)? {
                ClientInput::Welcome(welcome) => {
                    self.store_welcome(&welcome).await?;
                    link.welcomed(&welcome, session);
                    return Ok(link);
                }
                ClientInput::Rejected(_, AfterRejection::SignIn) => {
                    self.identity.ticket = None;
                    self.core.store.durably(store::identity::forget_ticket).await?;
                    session.begin_hello();
                    let credential = self.signed().await?;
                    let hello = self.hello(credential);
                    link.writer.push(&hello);
                    link.writer.flush().await?;
                }
                ClientInput::Rejected(rejected, _) => {
                    return Err(ConnectError::Rejected {
                        code: rejected.code,
                        text: rejected.text,
                        retry_after_ms: rejected.retry_after_ms,
                    }
                    .into());
                }
                _ => {}
            }
        }
    }

    /// Keeps ids and ticket before anything relies on them.
    async fn store_welcome(&self, welcome: &Welcome) -> Result<(), ConnectError> {
        if let Some(ids) = self.identity.ids
            && ids != (welcome.account, welcome.device)
        {
            let what = "it welcomed this device under another id";
            return Err(ConnectError::Protocol(Code::UnexpectedFrame, what.into()));
        }
        let now_ms = self.core.now_ms();
        let (account, device, name) = (welcome.account, welcome.device, welcome.name.clone());
        let ticket = welcome.ticket.clone();
        let until_ms = now_ms.saturating_add(welcome.ticket_for_ms);
        self.core
            .store
            .durably(move |db| {
                conversations::remember_account(db, account, &name)?;
                store::identity::welcomed(db, account, device, &name, &ticket, until_ms, now_ms)
            })
            .await?;
        Ok(())
    }

    fn hello(&self, credential: Credential) -> Frame {
        let random = self.core.rng().next_u32().to_le_bytes();
        Frame::Hello(Hello {
            revision: REVISION,
            active: self.core.active.load(std::sync::atomic::Ordering::Relaxed),
            software: self.core.settings.software.clone(),
            extensions: vec![grease::id(random[0])],
            credential,
        })
    }

    fn grease(&self) -> Frame {
        let mut random = [0; 2 + limits::GREASE_BYTES];
        self.core.rng().fill_bytes(&mut random);
        Frame::Extension(grease::frame(&random))
    }

    /// The credential that needs the greeting's nonce.
    async fn signed(&self) -> Result<Credential, Failed> {
        let greeting = greeting(&self.connection, self.core).await?;
        let certificate = certificate_hash(&self.connection)?;
        let key = &self.identity.key;
        let credential = match (&self.purpose, self.identity.ids) {
            (Purpose::Register(entitlement), _) => {
                let device_key = key.public();
                let name = self.identity.name.clone();
                let message =
                    signature::register_message(&greeting.nonce, &certificate, &device_key, &name);
                Credential::Register(Register {
                    device_key,
                    label: self.identity.label.clone(),
                    signature: key.sign(&message),
                    entitlement: entitlement.clone(),
                    name,
                })
            }
            (Purpose::SignIn, Some((account, device))) => {
                let message =
                    signature::sign_in_message(&greeting.nonce, &certificate, account, device);
                let signature = key.sign(&message);
                Credential::SignIn(SignIn { account, device, signature })
            }
            (Purpose::SignIn, None) => return Err(ConnectError::NotRegistered.into()),
        };
        Ok(credential)
    }
}

async fn greeting(connection: &Connection, core: &Core) -> Result<Greeting, Failed> {
    let stream: RecvStream = connection.accept_uni().await?;
    match FrameReader::new(stream, core.signs.clone()).next().await? {
        Some(Frame::Greeting(greeting)) => Ok(greeting),
        _ => Err(unexpected(Code::UnexpectedFrame).into()),
    }
}

/// The hash of the certificate that this very connection was made with.
fn certificate_hash(connection: &Connection) -> Result<CertificateHash, ConnectError> {
    connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .and_then(|chain| chain.first().map(|leaf| CertificateHash::of(leaf)))
        .ok_or(ConnectError::Closed(Code::NoError))
}

fn unexpected(code: Code) -> ConnectError {
    ConnectError::Protocol(code, "an unexpected frame before the welcome".into())
}
