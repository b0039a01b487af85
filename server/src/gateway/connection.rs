//! The beginning of a connection: greeting, hello, welcome.

use std::{net::IpAddr, sync::Arc, time::Duration};

use quinn::{ConnectionError, ZeroRttAccepted};
use tern_protocol::{
    REVISION,
    code::Code,
    frame::{Credential, Event, Frame, Greeting, Hello, Register, Rejected, SignIn},
    grease,
    id::{AccountId, DeviceId},
    limits, session as protocol, signature,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Gate, Place, Shared,
    session::{self, Running, Session},
    streams::{self, Connection, FrameWriter, Frames, Stop, var_int},
};
use crate::{
    directory::{AccountInfo, DirectoryError},
    metrics::{Limited, Metrics},
};

/// When a client may try again after the server failed, in milliseconds.
const RETRY_MS: u64 = 1_000;
/// How long the last rejection may take to arrive before the connection is closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// The name of this software, as it greets.
fn software() -> String {
    concat!("tern-server/", env!("CARGO_PKG_VERSION")).to_owned()
}

/// Serves a connection from its first packet to its end.
///
/// The beginning is boxed and goes when it is over, so that the task of a signed-in connection has room for
/// nothing but its session.
pub(super) fn serve(
    incoming: quinn::Incoming,
    visit: Visit,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
) -> impl Future<Output = ()> {
    let arrival = Box::pin(arrive(incoming, visit, shared, gate));
    async move {
        let Some((mut running, visit)) = arrival.await else { return };
        let end = running.run().await;
        finish(&running.session().connection, end, &running.session().shared);
        drop(visit);
    }
}

/// From the first packet to an acceptable hello.
async fn arrive(
    incoming: quinn::Incoming,
    mut visit: Visit,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
) -> Option<(Box<Running>, Visit)> {
    let address = incoming.remote_address().ip();
    let deadline = Instant::now() + Duration::from_millis(limits::HELLO_TIMEOUT_MS);
    // An incoming connection always yields one that can write before the handshake is complete.
    let accepted = incoming.accept().ok().and_then(|connecting| connecting.into_0rtt().ok());
    let Some((connection, complete)) = accepted else {
        shared.metrics.handshakes_failed.inc();
        return None;
    };
    let connection = streams::with_streams(connection);
    match begin(&connection, complete, deadline, address, &shared, &gate).await {
        Ok(running) => {
            visit.handshake_over();
            Some((running, visit))
        }
        Err(code) => {
            finish(&connection, Err(code), &shared);
            None
        }
    }
}

/// Counts a connection while it lasts, and its handshake as in progress until its client has said an
/// acceptable hello, or is gone.
pub(super) struct Visit {
    metrics: Arc<Metrics>,
    /// Held for its drop.
    _place: Place,
    is_handshake_over: bool,
}

impl Visit {
    /// Counts from now on: limits are held to what was admitted, not to what has begun to run.
    pub(super) fn admitted(metrics: &Arc<Metrics>, place: Place) -> Self {
        metrics.handshakes.inc();
        metrics.connections.inc();
        metrics.handshakes_in_progress.inc();
        Self { metrics: metrics.clone(), _place: place, is_handshake_over: false }
    }

    fn handshake_over(&mut self) {
        if !std::mem::replace(&mut self.is_handshake_over, true) {
            self.metrics.handshakes_in_progress.dec();
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.handshake_over();
        self.metrics.connections.dec();
    }
}

fn finish(connection: &Connection, end: Result<(), Code>, shared: &Shared) {
    if let Some(ConnectionError::ApplicationClosed(close)) = connection.close_reason() {
        let code = u16::try_from(close.error_code.into_inner()).unwrap_or(u16::MAX);
        shared.metrics.closed_by_clients.count(Code::from(code));
        return;
    }
    let code = end.err().unwrap_or(Code::NoError);
    if connection.close_reason().is_none() {
        shared.metrics.closed.count(code);
        connection.close(var_int(code), code.name().as_bytes());
    }
}

async fn begin(
    connection: &Connection,
    complete: ZeroRttAccepted,
    deadline: Instant,
    address: IpAddr,
    shared: &Arc<Shared>,
    gate: &Arc<Gate>,
) -> Result<Box<Running>, Code> {
    let nonce = shared.random.bytes();
    let signed_in = Box::pin(async {
        greet(connection, nonce, shared).await?;
        let Ok((send, receive)) = connection.accept_bi().await else { return Err(Code::NoError) };
        let mut hello = Door {
            shared,
            gate,
            address,
            nonce,
            protocol: protocol::Server::new(shared.config.limits.requests),
            frames: Frames::new(receive),
            writer: FrameWriter::new(send),
        };
        let guest = hello.sign_in().await?;
        Ok((hello, guest))
    });
    let (hello, guest) = match timeout_at(deadline, signed_in).await {
        Ok(Ok(signed_in)) => signed_in,
        Ok(Err(code)) => return Err(code),
        Err(_) => return Err(Code::HelloTimeout),
    };
    let Door { protocol, frames, writer, .. } = hello;
    let epoch = match timeout_at(deadline, next_epoch(shared, gate, &guest)).await {
        Ok(epoch) => epoch?,
        Err(_) => return Err(Code::HelloTimeout),
    };
    let session = Session::new(shared.clone(), connection.clone(), &guest, gate, epoch);
    // A hello out of 0-RTT data may be a replay until the handshake is complete; until then the
    // device isn't connected for anybody else.
    let provisional = frames.is_early().then_some(complete);
    let stream = session::Stream { protocol, frames, writer };
    Ok(Box::new(Running::new(session, stream, guest, provisional)))
}

/// A number for a new connection, greater than those of the device's connections before.
async fn next_epoch(shared: &Shared, gate: &Gate, guest: &Guest) -> Result<u64, Code> {
    let here = gate.next_epoch(shared.clock.now_ms());
    match &shared.across {
        None => Ok(here),
        Some(across) => across.next_epoch(guest.device, here).await.map_err(|error| {
            tracing::error!(%error, device = %guest.device, "a device's route can't be read");
            Code::Internal
        }),
    }
}

async fn greet(connection: &Connection, nonce: [u8; 32], shared: &Shared) -> Result<(), Code> {
    let Ok(stream) = connection.open_uni().await else { return Err(Code::NoError) };
    let mut writer = FrameWriter::new(stream);
    let [which] = shared.random.bytes();
    writer.queue(&Frame::Greeting(Greeting {
        nonce,
        revision: REVISION,
        time_ms: shared.clock.now_ms(),
        software: software(),
        extensions: vec![grease::id(which)],
        registration: shared.config.announced_registration(),
    }));
    writer.flush().await.map_err(|_| Code::NoError)?;
    writer.finish();
    Ok(())
}

/// Who was let in.
pub(super) struct Guest {
    pub(super) account: Arc<AccountInfo>,
    pub(super) device: DeviceId,
    pub(super) revision: u16,
    pub(super) active: bool,
}

/// The session stream before the welcome.
struct Door<'a> {
    shared: &'a Arc<Shared>,
    gate: &'a Gate,
    address: IpAddr,
    nonce: [u8; 32],
    protocol: protocol::Server,
    frames: Frames,
    writer: FrameWriter,
}

impl Door<'_> {
    /// Takes hellos until one is acceptable.
    async fn sign_in(&mut self) -> Result<Guest, Code> {
        loop {
            let frame = self.next_frame().await?;
            let hello = match self.protocol.receive(frame)? {
                protocol::ServerInput::Hello(hello) => hello,
                _ => continue,
            };
            match self.judge(&hello).await {
                Ok(guest) => {
                    self.protocol.welcomed();
                    self.frames.set_limit(self.protocol.frame_bytes());
                    return Ok(guest);
                }
                Err((code, retry_after_ms)) => {
                    tracing::debug!(code = code.name(), address = %self.address, "a hello was rejected");
                    self.shared.metrics.hellos_rejected.count(code);
                    let text = code.meaning().to_owned();
                    self.writer.queue(&Frame::Rejected(Rejected { code, text, retry_after_ms }));
                    self.writer.flush().await.map_err(|_| Code::NoError)?;
                    if let Err(code) = self.protocol.rejected() {
                        // Closing at once would take the rejection back that is on its way.
                        self.writer.finish();
                        let _ = timeout(FAREWELL, self.writer.arrived()).await;
                        return Err(code);
                    }
                }
            }
        }
    }

    async fn next_frame(&mut self) -> Result<Frame, Code> {
        match self.frames.next().await {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) | Err(Stop::Reset | Stop::Lost) => Err(Code::NoError),
            Err(Stop::Decode(error)) => {
                self.shared.metrics.frames_refused.count(error.code());
                tracing::debug!(%error, address = %self.address, "a frame was refused");
                Err(error.code())
            }
        }
    }

    /// Judges a hello. The error is a code and when to try again.
    async fn judge(&self, hello: &Hello) -> Result<Guest, (Code, u64)> {
        let metrics = &self.shared.metrics;
        protocol::Server::check_revision(hello).map_err(|code| (code, 0))?;
        if let Err(retry_after_ms) = self.gate.sign_ins.check(self.address) {
            metrics.count_limited(Limited::SignIns);
            return Err((Code::RateLimited, retry_after_ms));
        }
        let (account, device) = match &hello.credential {
            Credential::Ticket(ticket) => {
                let now_ms = self.shared.clock.now_ms();
                let claims = self.shared.tickets.open_ticket(ticket.expose(), now_ms);
                let claims = claims.map_err(|error| (error.code(), 0))?;
                let account = self.existing(claims.account, claims.device).await?;
                metrics.sign_ins_by_ticket.inc();
                (account, claims.device)
            }
            Credential::SignIn(sign_in) => {
                let account = self.by_signature(sign_in).await?;
                metrics.sign_ins_by_signature.inc();
                (account, sign_in.device)
            }
            Credential::Register(register) => {
                let registered = self.register(register).await?;
                metrics.registrations.inc();
                registered
            }
        };
        Ok(Guest { account, device, revision: hello.revision, active: hello.active })
    }

    async fn existing(
        &self,
        account: AccountId,
        device: DeviceId,
    ) -> Result<Arc<AccountInfo>, (Code, u64)> {
        let directory = &self.shared.directory;
        let failed = |error| self.failed(&error);
        if self.shared.across.is_some()
            && let Some(info) = directory.account(account).await.map_err(failed)?
        {
            // It may have been removed on another node.
            directory.check(&info).await.map_err(failed)?;
        }
        let found = directory.device(account, device).await;
        found.map_err(failed)?.ok_or((Code::UnknownDevice, 0))
    }

    async fn by_signature(&self, sign_in: &SignIn) -> Result<Arc<AccountInfo>, (Code, u64)> {
        let account = self.existing(sign_in.account, sign_in.device).await?;
        let device = account.device(sign_in.device).ok_or((Code::UnknownDevice, 0))?;
        // Which certificate the client saw isn't said; it is one of the few that were served.
        let is_signed = self.shared.certificates.hashes().iter().any(|certificate| {
            let message = signature::sign_in_message(
                &self.nonce,
                certificate,
                sign_in.account,
                sign_in.device,
            );
            signature::verify(&device.key, &message, &sign_in.signature)
        });
        if is_signed { Ok(account) } else { Err((Code::BadSignature, 0)) }
    }

    async fn register(
        &self,
        register: &Register,
    ) -> Result<(Arc<AccountInfo>, DeviceId), (Code, u64)> {
        if let Err(retry_after_ms) = self.gate.registrations.check(self.address) {
            self.shared.metrics.count_limited(Limited::Registrations);
            return Err((Code::RateLimited, retry_after_ms));
        }
        let is_signed = self.shared.certificates.hashes().iter().any(|certificate| {
            let message = signature::register_message(
                &self.nonce,
                certificate,
                &register.device_key,
                &register.name,
            );
            signature::verify(&register.device_key, &message, &register.signature)
        });
        if !is_signed {
            return Err((Code::BadSignature, 0));
        }
        let now_ms = self.shared.clock.now_ms();
        let directory = &self.shared.directory;
        let registered = directory.register(register, &self.shared.policy, now_ms).await;
        let (account, device) = registered.map_err(|error| self.failed(&error))?;
        tracing::info!(account = %account.account, %device, "registered");
        for other in account.devices.iter().filter(|other| other.device != device) {
            self.shared.hub.event(other.device, Event::DevicesChanged);
        }
        if account.devices.len() > 1
            && let Some(across) = &self.shared.across
        {
            across.account_changed(account.account);
        }
        Ok((account, device))
    }

    fn failed(&self, error: &DirectoryError) -> (Code, u64) {
        match error {
            DirectoryError::Refused(code) => (*code, 0),
            error => {
                tracing::error!(%error, "a hello can't be judged");
                (Code::Internal, RETRY_MS)
            }
        }
    }
}
