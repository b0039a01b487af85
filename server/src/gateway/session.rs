//! A signed-in device: its session stream, and the tasks of its uplinks and downlinks.

use std::{
    collections::BTreeSet,
    fmt::Display,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use quinn::{ConnectionError, VarInt, ZeroRttAccepted};
use tern_protocol::{
    code::Code,
    codec::DecodeError,
    frame::{Event, Frame, GoAway, Limits, Welcome},
    grease,
    id::{AccountId, ConversationId, DeviceId},
    limits, session as protocol,
};
use tokio::{
    sync::{Notify, oneshot},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Gate, Shared,
    connection::Guest,
    downlink,
    limits::DeviceLimit,
    mailbox, requests,
    silence::{self, Silence},
    streams::{Connection, FrameWriter, Frames, Stop, var_int},
    uplink,
};
use crate::{
    hub::{Inbox, InboxSettings},
    metrics::Limited,
    signal::Signal,
};

/// How long a second uplink of a conversation waits for the end of the first.
const TAKE_OVER: Duration = Duration::from_secs(1);
/// Passing events that an inbox holds.
const INBOX_EVENTS: usize = 64;
/// What a connection is closed with when its client is gone; nobody sees it.
const GONE: Code = Code::NoError;

/// What the tasks of a signed-in device share.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Connection,
    pub(super) account: AccountId,
    pub(super) device: DeviceId,
    pub(super) limits: Limits,
    pub(super) inbox: Arc<Inbox>,
    gate: Arc<Gate>,
    epoch: u64,
    pace: DeviceLimit,
    uplinks: Mutex<BTreeSet<ConversationId>>,
    /// Told when an uplink has ended.
    uplink_ended: Notify,
    /// Counts the changes of the client's address that were noticed.
    moves: Signal,
}

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: Connection,
        guest: &Guest,
        gate: &Arc<Gate>,
        epoch: u64,
    ) -> Self {
        let limits = &shared.config.limits;
        let inbox = Inbox::new(InboxSettings {
            live_messages: limits.queued_deliveries_per_session as usize,
            events: INBOX_EVENTS,
        });
        inbox.set_active(guest.active);
        Self {
            connection,
            account: guest.account.account,
            device: guest.device,
            limits: shared.config.client_limits(),
            inbox: Arc::new(inbox),
            gate: gate.clone(),
            epoch,
            pace: DeviceLimit::new(
                limits.messages_per_device_per_second,
                limits.messages_per_device_burst,
            ),
            uplinks: Mutex::default(),
            uplink_ended: Notify::new(),
            moves: Signal::default(),
            shared,
        }
    }

    /// Slows a device down that sends faster than it may.
    pub(super) async fn pace(&self) {
        if self.pace.pace().await {
            self.shared.metrics.count_limited(Limited::Messages);
        }
    }

    /// Whether something that isn't worth waiting may be passed on.
    pub(super) fn may_pass(&self) -> bool {
        self.pace.allows()
    }

    /// Notes an uplink; false if the conversation has one that doesn't end soon. One that the client has
    /// reset may still be noticed later than the next one.
    pub(super) async fn claim_uplink(&self, conversation: ConversationId) -> bool {
        let claimed = async {
            loop {
                let ended = self.uplink_ended.notified();
                if self.uplinks().insert(conversation) {
                    return;
                }
                ended.await;
            }
        };
        timeout(TAKE_OVER, claimed).await.is_ok()
    }

    /// Notes that an uplink has ended.
    pub(super) fn release_uplink(&self, conversation: ConversationId) {
        self.uplinks().remove(&conversation);
        self.uplink_ended.notify_waiters();
    }

    /// Raised with each change of the client's address.
    pub(super) fn moves(&self) -> &Signal {
        &self.moves
    }

    fn uplinks(&self) -> MutexGuard<'_, BTreeSet<ConversationId>> {
        // A set is whole between two calls.
        self.uplinks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and logs a frame that can't be taken; its code closes the connection.
    pub(super) fn refused_frame(&self, error: &DecodeError) -> Code {
        self.shared.metrics.frames_refused.count(error.code());
        tracing::debug!(%error, device = %self.device, "a frame was refused");
        error.code()
    }

    /// Logs a failure of the server itself.
    pub(super) fn internal(&self, error: &dyn Display) -> Code {
        tracing::error!(%error, device = %self.device, "a connection is closed for a failure here");
        Code::Internal
    }

    /// Ends a stream in both directions for a reason. The connection goes on.
    pub(super) fn reset(
        &self,
        frames: &mut Frames,
        writer: &mut FrameWriter,
        code: Code,
    ) -> uplink::End {
        self.shared.metrics.streams_reset.count(code);
        frames.stop(code);
        writer.reset(code);
        Ok(())
    }
}

/// A device's presence in the hub, for as long as its connection lives.
struct Entered {
    session: Arc<Session>,
}

impl Entered {
    fn new(session: &Arc<Session>) -> Self {
        let shared = &session.shared;
        let (account, device) = (session.account, session.device);
        tracing::debug!(%account, %device, epoch = session.epoch, "signed in");
        shared.metrics.sessions.inc();
        shared.hub.connect(
            session.account,
            session.device,
            session.epoch,
            session.inbox.clone(),
            session.inbox.is_active(),
            shared.clock.now_ms(),
        );
        Self { session: session.clone() }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let session = self.session.clone();
        let shared = session.shared.clone();
        shared.metrics.sessions.dec();
        let is_gone = shared.hub.disconnect(session.device, session.epoch);
        if let Some(across) = shared.across.clone() {
            let (device, epoch) = (session.device, session.epoch);
            tokio::spawn(async move { across.leave(device, epoch).await });
        }
        if !is_gone {
            return;
        }
        let left_by_itself = matches!(
            session.connection.close_reason(),
            Some(ConnectionError::ApplicationClosed(close)) if close.error_code == var_int(Code::NoError)
        );
        // A server that stops doesn't wait for anybody to come back.
        let draining = session.gate.draining.count() > 0;
        let grace_ms = match left_by_itself || draining {
            true => 0,
            false => u64::from(shared.config.presence.grace_ms),
        };
        let (account, device) = (session.account, session.device);
        let seen_ms = shared.clock.now_ms();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(grace_ms)).await;
            shared.hub.offline(account, device, seen_ms);
            if let Err(error) = shared.directory.seen(&[(device, seen_ms)]).await {
                tracing::warn!(%error, %device, "when a device was last seen isn't stored");
            }
        });
    }
}

/// The session stream.
pub(super) struct Stream {
    pub(super) protocol: protocol::Server,
    pub(super) frames: Frames,
    pub(super) writer: FrameWriter,
}

/// How a task of the session ended.
enum Ended {
    Uplink(uplink::End),
    Downlink(uplink::End),
}

/// A device from its welcome to the end of its connection.
pub(super) struct Running {
    session: Arc<Session>,
    stream: Stream,
    /// Until the welcome.
    guest: Option<Guest>,
    /// While the hello may be a replay: ready when the handshake is complete.
    provisional: Option<ZeroRttAccepted>,
    tasks: JoinSet<Ended>,
    downlinks: usize,
    /// Streams that the client may have open.
    streams: u32,
    /// The client's address when it last sent something on the session stream.
    address: SocketAddr,
    silence: Silence,
    /// Ends when the downlink that was started last has its stream.
    last_turn: Option<oneshot::Receiver<()>>,
}

impl Running {
    /// With `provisional` it may be a replay until that is ready: sends are taken, since they are
    /// idempotent, and nothing else happens.
    pub(super) fn new(
        session: Session,
        stream: Stream,
        guest: Guest,
        provisional: Option<ZeroRttAccepted>,
    ) -> Self {
        Self {
            stream,
            guest: Some(guest),
            provisional,
            tasks: JoinSet::new(),
            downlinks: 0,
            streams: session.shared.config.listen.bidi_streams,
            address: session.connection.remote_address(),
            silence: Silence::new(Instant::now(), session.connection.stats().udp_rx.datagrams),
            last_turn: None,
            session: Arc::new(session),
        }
    }

    /// What the connection belongs to.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Serves the device to the end of its connection.
    pub(super) async fn run(&mut self) -> Result<(), Code> {
        let end = self.serve().await;
        // The streams end with the connection, and their tasks with the streams.
        let session = &self.session;
        let code = *end.as_ref().err().unwrap_or(&Code::NoError);
        tracing::debug!(device = %session.device, epoch = session.epoch, code = code.name(), "left");
        if session.connection.close_reason().is_none() {
            session.shared.metrics.closed.count(code);
            session.connection.close(var_int(code), code.name().as_bytes());
        }
        while self.tasks.join_next().await.is_some() {}
        end
    }

    async fn serve(&mut self) -> Result<(), Code> {
        let session = self.session.clone();
        // Entered before the mailbox is read: what is appended in between comes as news.
        let mut entered = match self.provisional {
            None => Some(Box::pin(self.enter()).await?),
            Some(_) => None,
        };
        Box::pin(self.begin(entered.is_some())).await?;
        let mut leave_at = None;
        let mut go_away_at = None;
        let mut left_ms = 0;
        let mut release_receipts_at = None;
        loop {
            self.start_downlinks();
            if let Some(code) = session.inbox.close_code() {
                return Err(code);
            }
            if !session.inbox.is_active() && release_receipts_at.is_none() {
                let hold = Duration::from_millis(limits::INACTIVE_RECEIPTS_MS);
                release_receipts_at = Some(Instant::now() + hold);
            }
            let timer = [leave_at, go_away_at, release_receipts_at].into_iter().flatten().min();
            let provisional = self.provisional.is_some();
            tokio::select! {
                biased;
                () = session.inbox.changed() => self.tell_events().await?,
                complete = handshake(&mut self.provisional) => {
                    self.provisional = None;
                    // Rejected early data would never have got here, so whatever the future says,
                    // the handshake is over; if it failed, the connection is closed.
                    let _: bool = complete;
                    if session.connection.close_reason().is_some() {
                        return Err(GONE);
                    }
                    session.shared.metrics.early_data.inc();
                    entered = Some(Box::pin(self.enter()).await?);
                    let waiting = Box::pin(self.mailbox()).await?;
                    self.fill(&waiting);
                }
                frame = self.stream.frames.next(),
                    if !provisional && self.stream.protocol.may_read() =>
                {
                    // Boxed, so that a connection that asks for nothing has no room for it.
                    Box::pin(self.take(frame)).await?;
                }
                accepted = session.connection.accept_bi() => match accepted {
                    Ok((send, receive)) => {
                        let served = uplink::serve(
                            session.clone(),
                            Frames::new(receive),
                            FrameWriter::new(send),
                        );
                        // Mapped and not wrapped: a future within a block takes its room twice.
                        self.tasks.spawn(served.map(Ended::Uplink));
                        self.allow_streams();
                    }
                    Err(_) => return Err(GONE),
                },
                accepted = session.connection.accept_uni() => match accepted {
                    Ok(receive) => {
                        session.shared.metrics.streams_reset.count(Code::UnknownStream);
                        Frames::new(receive).stop(Code::UnknownStream);
                    }
                    Err(_) => return Err(GONE),
                },
                Some(ended) = self.tasks.join_next() => self.ended(ended)?,
                _ = session.gate.draining.beyond(0), if leave_at.is_none() => {
                    let within_ms = session.shared.config.drain.within_ms;
                    let now = Instant::now();
                    leave_at = Some(now + Duration::from_millis(within_ms));
                    let turn_ms = self.turn_to_leave_ms(within_ms);
                    go_away_at = Some(now + Duration::from_millis(turn_ms));
                    left_ms = within_ms - turn_ms;
                }
                // One timer for all, since each has its room in the task.
                () = at(timer) => {
                    if leave_at.is_some() && leave_at == timer {
                        return Err(Code::GoingAway);
                    }
                    if go_away_at.is_some() && go_away_at == timer {
                        go_away_at = None;
                        self.send_away(left_ms).await?;
                        continue;
                    }
                    release_receipts_at = None;
                    session.inbox.release_receipts();
                }
                () = silence::too_long(&session, &mut self.silence, provisional) => return Err(GONE),
            }
            // Held for its drop.
            let _ = &entered;
        }
    }

    /// When the client is sent away, of the time that all clients have to leave: at once if there is nowhere to go but to
    /// wait for this server, else one after the other, so that the other nodes aren't met by all at the same moment.
    fn turn_to_leave_ms(&self, within_ms: u64) -> u64 {
        let session = &self.session;
        if session.shared.across.is_none() {
            return 0;
        }
        let [random] = session.shared.random.bytes::<1>();
        // In the first half, so that there is time for the way.
        within_ms / 2 * u64::from(random) / 256
    }

    /// Tells the client to go, and for how long it may still stay.
    async fn send_away(&mut self, left_ms: u64) -> Result<(), Code> {
        let session = &self.session;
        let across = session.shared.across.as_ref();
        self.stream.writer.queue(&Frame::GoAway(GoAway {
            code: Code::GoingAway,
            within_ms: left_ms,
            target: across.map(|across| across.elsewhere(session.device)).unwrap_or_default(),
            text: Code::GoingAway.meaning().to_owned(),
        }));
        self.flush().await
    }

    /// A client that uses all streams that it may have is allowed more: most never do, and room for
    /// each costs memory.
    fn allow_streams(&mut self) {
        let uplinks = self.tasks.len() - self.downlinks;
        let busy = self.session.shared.config.listen.bidi_streams_busy;
        // The session stream is one of them.
        if self.streams < busy && uplinks + 1 >= self.streams as usize {
            self.streams = busy;
            self.session.connection.set_max_concurrent_bi_streams(VarInt::from_u32(busy));
        }
    }

    /// Welcomes the device and, unless it may be a replay, begins to empty its mailbox.
    async fn begin(&mut self, has_entered: bool) -> Result<(), Code> {
        let waiting = self.mailbox().await?;
        let mailbox = mailbox::count(&waiting);
        self.session.shared.metrics.mailbox_positions.observe(mailbox.positions as f64);
        if let Some(guest) = self.guest.take() {
            self.welcome(&guest, mailbox).await?;
        }
        if has_entered {
            self.fill(&waiting);
        }
        Ok(())
    }

    /// From now on the device is connected for everybody.
    async fn enter(&self) -> Result<Entered, Code> {
        let Session { shared, account, device, epoch, .. } = &*self.session;
        // First, so that whoever reads the route sends what it has to a node that expects it.
        let before = match &shared.across {
            Some(across) => across.enter(*device, *epoch).await?,
            None => None,
        };
        let entered = Entered::new(&self.session);
        if let (Some(across), Some(before)) = (&shared.across, before) {
            across.entered(*device, *epoch, before);
        }
        // Whoever removes a device closes its connection if the hub has it. Since the hello was
        // judged, the device may have been removed when the hub didn't.
        match shared.directory.device(*account, *device).await {
            Ok(Some(_)) => Ok(entered),
            Ok(None) => Err(Code::DeviceRemoved),
            Err(error) => Err(self.session.internal(&error)),
        }
    }

    async fn mailbox(&self) -> Result<Vec<mailbox::Waiting>, Code> {
        let waiting = mailbox::waiting(&self.session.shared, self.session.device).await;
        waiting.map_err(|error| self.session.internal(&error))
    }

    fn fill(&self, waiting: &[mailbox::Waiting]) {
        let positions: Vec<_> =
            waiting.iter().map(|waiting| (waiting.conversation, waiting.awaited())).collect();
        self.session.inbox.fill(&positions, mailbox::count(waiting));
    }

    async fn welcome(
        &mut self,
        guest: &Guest,
        mailbox: tern_protocol::frame::Mailbox,
    ) -> Result<(), Code> {
        let session = &self.session;
        let shared = &session.shared;
        let now_ms = shared.clock.now_ms();
        self.stream.writer.queue(&Frame::Welcome(Welcome {
            revision: guest.revision,
            account: session.account,
            device: session.device,
            name: guest.account.name.clone(),
            epoch: session.epoch,
            ticket: shared.tickets.seal(session.account, session.device, now_ms),
            ticket_for_ms: shared.tickets.lifetime_ms(),
            time_ms: now_ms,
            mailbox,
            limits: session.limits,
            extensions: Vec::new(),
        }));
        self.stream.writer.queue(&Frame::Extension(grease::frame(&shared.random.bytes())));
        self.flush().await
    }

    /// Writes to the session stream. A client that doesn't read it is waited for only as long as
    /// the connection is wanted.
    async fn flush(&mut self) -> Result<(), Code> {
        // Boxed, since it is seldom waited for.
        let provisional = self.provisional.is_some();
        let silence = silence::too_long(&self.session, &mut self.silence, provisional);
        let silence = Box::pin(silence);
        tokio::select! {
            biased;
            written = self.stream.writer.flush() => {
                // Most connections say nothing more for long.
                self.stream.writer.give_back();
                written.map_err(|_| GONE)
            }
            code = self.session.inbox.closing() => Err(code),
            () = silence => Err(GONE),
        }
    }

    async fn take(&mut self, frame: Result<Option<Frame>, Stop>) -> Result<(), Code> {
        let frame = match frame {
            Ok(Some(frame)) => frame,
            // The session stream lives as long as the connection.
            Ok(None) | Err(Stop::Reset | Stop::Lost) => return Err(GONE),
            Err(Stop::Decode(error)) => return Err(self.session.refused_frame(&error)),
        };
        let address = self.session.connection.remote_address();
        if address != std::mem::replace(&mut self.address, address) {
            tracing::debug!(device = %self.session.device, "on another path");
            self.session.moves.raise();
        }
        if let protocol::ServerInput::Request(request) = self.stream.protocol.receive(frame)? {
            let response = requests::answer(&self.session, request).await?;
            self.stream.protocol.responded();
            self.stream.writer.queue(&Frame::Response(response));
            self.flush().await?;
        }
        Ok(())
    }

    async fn tell_events(&mut self) -> Result<(), Code> {
        for event in self.session.inbox.take_events() {
            if matches!(event, Event::Presence(_)) {
                self.session.shared.metrics.presence_events.inc();
            }
            self.stream.writer.queue(&Frame::Event(event));
        }
        self.flush().await
    }

    /// Opens downlinks for the conversations that need one, as many as may be open at once.
    fn start_downlinks(&mut self) {
        let most = self.session.shared.config.limits.downlinks_per_session as usize;
        while self.downlinks < most
            && let Some((conversation, wake)) = self.session.inbox.next_ready()
        {
            self.downlinks += 1;
            let turn = downlink::Turn::behind(&mut self.last_turn);
            let served = downlink::serve(self.session.clone(), conversation, wake, turn);
            self.tasks.spawn(served.map(Ended::Downlink));
        }
        if self.downlinks >= most {
            self.session.inbox.is_full();
        }
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) -> Result<(), Code> {
        match ended {
            Ok(Ended::Uplink(end)) => end,
            Ok(Ended::Downlink(end)) => {
                self.downlinks -= 1;
                end
            }
            Err(error) => Err(self.session.internal(&error)),
        }
    }
}

/// Waits for the handshake of a provisional session; for ever if it isn't provisional.
async fn handshake(provisional: &mut Option<ZeroRttAccepted>) -> bool {
    match provisional {
        Some(complete) => complete.await,
        None => std::future::pending().await,
    }
}

/// Waits until a moment; for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
