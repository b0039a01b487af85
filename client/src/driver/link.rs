//! One signed-in connection: the session stream, and the uplinks and downlinks beside it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use quinn::VarInt;
use rand::Rng;
use tern_protocol::{
    code::Code,
    frame::{Event, Extension, Frame, GoAway, Limits, RequestBody, ResponseBody, Welcome},
    grease,
    id::{AccountId, ConversationId},
    limits,
    session::{Client as Session, ClientInput},
};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    Command,
    connect::close,
    downlink,
    io::{Connection, FrameReader, FrameWriter},
    keep_alive::{Line, Mode, Question},
    pulse::{Beat, Pulse},
    uplink::{self, Order, Starved},
};
use crate::{
    core::{Core, Wake, lock},
    error::{ConnectError, RequestError},
    event::ClientEvent,
    store::{StoreError, conversations, outbox},
};

/// Orders that an uplink may be behind; a look that finds no room is superfluous.
const ORDERS: usize = 8;
/// Names that are looked up at a time.
const LOOKUPS: usize = 16;
/// How long an uplink that was broken off is left alone.
const RESET_PAUSE: Duration = Duration::from_millis(500);
/// Frames of grease that go up when the network has changed, about 2,000 bytes: until the new path is
/// known to be the client's, the server may send three times what it got (RFC 9000, 9.3), and what
/// waits should fit.
const MOVED_GREASE: usize = 18;

/// Who wants the answer to a request.
pub(super) enum Origin {
    /// The application.
    Application(oneshot::Sender<Result<ResponseBody, RequestError>>),
    /// The outbox: the name of a message's receiver.
    Name(String),
    /// The watch on presence.
    Watch,
    /// The check after a change of the network or of who looks.
    Check,
    /// The keep-alive.
    KeepAlive(Question),
    /// Nobody.
    Nobody,
}

impl Origin {
    /// Whether somebody waits for the answer, so that a server that doesn't give it is missed.
    fn waits(&self) -> bool {
        !matches!(self, Self::Nobody)
    }
}

/// How a link ended.
pub(crate) enum Ended {
    /// The server asks the client to go elsewhere; the link still works.
    GoAway(GoAway),
    /// The server has said nothing for a while, though something is due; the link may still work.
    Silent,
    /// After [`Ended::Silent`]: it does.
    Alive,
    /// No handle is left to which the connection would be of use.
    Abandoned,
    /// The connection is gone or of no more use.
    Lost(ConnectError),
}

/// What a task beside the session stream came to.
enum Done {
    Uplink(ConversationId, uplink::Ended),
    Downlink(Result<(), ConnectError>),
    /// An uplink that was broken off may be opened again.
    Again(ConversationId),
}

/// A connection on which a hello was said.
pub(crate) struct Link {
    core: Arc<Core>,
    connection: Connection,
    pub(super) writer: FrameWriter,
    pub(super) reader: FrameReader,
    session: Session,
    own: Option<AccountId>,
    wakes: broadcast::Receiver<Wake>,
    uplinks: BTreeMap<ConversationId, mpsc::Sender<Order>>,
    starved: Arc<Starved>,
    tasks: JoinSet<Done>,
    requests: HashMap<u32, Origin>,
    /// Requests that wait until fewer are unanswered.
    queued: VecDeque<(RequestBody, Origin)>,
    pulse: Pulse,
    line: Line,
    /// A keep-alive is unanswered.
    is_asking: bool,
    limits: Limits,
    active: bool,
    is_welcome: bool,
    went_away: bool,
}

impl Link {
    pub(super) fn new(
        core: Arc<Core>,
        connection: Connection,
        writer: FrameWriter,
        reader: FrameReader,
    ) -> Self {
        let sent = connection.stats().udp_tx.datagrams;
        Self {
            wakes: core.wakes.subscribe(),
            pulse: Pulse::new(core.settings.idle_timeout),
            line: Line::new(Instant::now(), sent),
            is_asking: false,
            limits: Limits::default(),
            active: core.active.load(Ordering::Relaxed),
            core,
            connection,
            writer,
            reader,
            session: Session::new(None),
            own: None,
            uplinks: BTreeMap::new(),
            starved: Arc::new(Starved::new()),
            tasks: JoinSet::new(),
            requests: HashMap::new(),
            queued: VecDeque::new(),
            is_welcome: false,
            went_away: false,
        }
    }

    /// Opens uplinks for all that waits, before the server has answered the hello.
    pub(super) async fn speak_early(&mut self) -> Result<(), StoreError> {
        let waiting = self.core.store.quickly(conversations::with_something_to_say).await?;
        for conversation in waiting {
            self.look(conversation);
        }
        Ok(())
    }

    /// The server didn't take the early data. Returns when nothing is left that speaks on the
    /// connection: what follows begins with its first stream again.
    pub(super) async fn silence(&mut self) {
        self.tasks.shutdown().await;
    }

    /// The server took the hello.
    pub(super) fn welcomed(&mut self, welcome: &Welcome, session: Session) {
        self.session = session;
        self.own = Some(welcome.account);
        self.limits = welcome.limits;
        lock(&self.core.learner).connected();
        self.reader.lift_limit();
        self.core.notify(ClientEvent::MailboxProgress(welcome.mailbox));
    }

    /// Works until the link ends or the server asks to go elsewhere; after the latter it may be
    /// called again.
    pub(crate) async fn run(&mut self, commands: &mut mpsc::Receiver<Command>) -> Ended {
        match self.drive(commands).await {
            Ok(ended) => ended,
            Err(error) => {
                match &error {
                    ConnectError::Protocol(code, what) => {
                        tracing::warn!(%code, what, "the server broke the protocol");
                        close(&self.connection, *code);
                    }
                    _ => close(&self.connection, Code::NoError),
                }
                Ended::Lost(self.reason(error))
            }
        }
    }

    /// Leaves: the connection is closed in good order.
    pub(crate) fn leave(self) {
        close(&self.connection, Code::NoError);
    }

    /// The reason for which the connection was closed says more than what one stream saw of it.
    fn reason(&self, seen: ConnectError) -> ConnectError {
        match (self.connection.close_reason(), seen) {
            (_, seen @ (ConnectError::Protocol(..) | ConnectError::Store(_))) => seen,
            (Some(quinn::ConnectionError::LocallyClosed) | None, seen) => seen,
            (Some(reason), _) => reason.into(),
        }
    }

    async fn drive(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<Ended, ConnectError> {
        if !std::mem::replace(&mut self.is_welcome, true) {
            self.watch_again();
            self.look_for_all().await?;
        }
        loop {
            self.send_requests();
            self.writer.flush().await?;
            let look_at = self.next_look();
            tokio::select! {
                biased;
                frame = self.reader.next() => {
                    let Some(frame) = frame? else {
                        return Err(ConnectError::Closed(Code::NoError));
                    };
                    if let Some(ended) = self.receive(frame).await? {
                        return Ok(ended);
                    }
                }
                streams = self.connection.accept_bi() => {
                    let (send, recv) = streams?;
                    if let Some(own) = self.own {
                        let run = downlink::run(self.core.clone(), own, send, recv);
                        self.tasks.spawn(async move { Done::Downlink(run.await) });
                    }
                }
                stream = self.connection.accept_uni() => self.refuse_stream(stream?).await?,
                Some(done) = self.tasks.join_next() => self.done(done).await?,
                wake = self.wakes.recv() => match wake {
                    Ok(Wake::Conversation(conversation)) => self.look(conversation),
                    Ok(Wake::Names) => self.look_up_names().await?,
                    Err(_) => self.look_for_all().await?,
                },
                command = commands.recv(), if self.queued.is_empty() => match command {
                    Some(command) => self.obey(command),
                    None => return Ok(Ended::Abandoned),
                },
                () = at(look_at) => self.look_at_line(),
                beat = self.pulse.beat(&self.connection) => match beat {
                    Beat::Silent => return Ok(Ended::Silent),
                    Beat::Alive => return Ok(Ended::Alive),
                    Beat::Dead => return Err(ConnectError::TimedOut),
                },
            }
        }
    }

    /// After how much silence the client has to say something.
    fn keep_alive_every(&self, now: Instant) -> Option<Duration> {
        let idle_for_ms = match (self.active, self.limits.inactive_idle_for_ms) {
            (true, _) | (false, 0) => self.limits.idle_for_ms,
            (false, inactive_idle_for_ms) => inactive_idle_for_ms,
        };
        let idle_for = Duration::from_millis(u64::from(idle_for_ms));
        lock(&self.core.learner).every(now, Mode { active: self.active, idle_for })
    }

    /// When to see whether the client has been silent for too long. While an answer is due, the
    /// pulse looks after the connection.
    fn next_look(&self) -> Option<Instant> {
        let every = self.keep_alive_every(Instant::now()).filter(|_| !self.is_asking)?;
        Some(self.line.next_look(self.core.signs.last(), every))
    }

    fn look_at_line(&mut self) {
        let now = Instant::now();
        let Some(every) = self.keep_alive_every(now) else { return };
        let sent = self.connection.stats().udp_tx.datagrams;
        let silence = self.line.look(now, self.core.signs.last(), every, sent);
        if let Some(silence) = silence {
            self.is_asking = true;
            let question = lock(&self.core.learner).asks(silence);
            self.queued.push_back((RequestBody::Address, Origin::KeepAlive(question)));
        }
    }

    /// Streams of one direction are for extensions; the greeting is the exception.
    async fn refuse_stream(&self, mut stream: quinn::RecvStream) -> Result<(), ConnectError> {
        // The greeting is of no interest to a client that signed in with a ticket.
        let is_greeting = stream.id().index() == 0;
        let code = if is_greeting { Code::NoError } else { Code::UnknownStream };
        let _ = stream.stop(VarInt::from_u32(u32::from(code.value())));
        Ok(())
    }

    async fn receive(&mut self, frame: Frame) -> Result<Option<Ended>, ConnectError> {
        let input = self.session.receive(frame).map_err(|code| {
            ConnectError::Protocol(code, "an unexpected frame on the session stream".into())
        })?;
        match input {
            ClientInput::Response(response) => {
                let origin = self.requests.remove(&response.id).unwrap_or(Origin::Nobody);
                if origin.waits() {
                    self.pulse.unanswered.dec();
                }
                self.answer(origin, response.body).await?;
            }
            ClientInput::Event(event) => self.tell(event),
            ClientInput::GoAway(go_away) => {
                self.went_away = true;
                return Ok(Some(Ended::GoAway(go_away)));
            }
            ClientInput::Welcome(_) | ClientInput::Rejected(..) | ClientInput::Ignored => {}
        }
        Ok(None)
    }

    fn tell(&self, event: Event) {
        self.core.notify(match event {
            Event::Presence(presence) => ClientEvent::Presence {
                account: presence.account,
                state: presence.state,
                last_seen_ms: presence.last_seen_ms,
            },
            Event::Typing { conversation, account, active } => {
                ClientEvent::Typing { conversation, account, active }
            }
            Event::CaughtUp(mailbox) => ClientEvent::CaughtUp(mailbox),
            Event::DevicesChanged => ClientEvent::DevicesChanged,
            Event::Unknown(_) => return,
        });
    }

    async fn answer(&mut self, origin: Origin, body: ResponseBody) -> Result<(), ConnectError> {
        match (origin, body) {
            (Origin::Application(answer), ResponseBody::Error { code, retry_after_ms, .. }) => {
                // An application that has given up needs no answer; so below.
                let _ = answer.send(Err(RequestError::Refused { code, retry_after_ms }));
            }
            (Origin::Application(answer), body) => {
                let _ = answer.send(Ok(body));
            }
            (Origin::Name(name), ResponseBody::Account(found)) => {
                let direct = self.own.and_then(|own| ConversationId::direct(own, found.account));
                let Some(conversation) = direct else {
                    return self.name_failed(name, Code::UnknownConversation).await;
                };
                let account = found.account;
                self.core
                    .store
                    .durably(move |db| outbox::name_found(db, &name, account, conversation))
                    .await?;
                self.look(conversation);
            }
            (Origin::Name(name), ResponseBody::Error { code, retry_after_ms: 0, .. }) => {
                self.name_failed(name, code).await?;
            }
            (Origin::Watch, ResponseBody::Presence(all)) => {
                for presence in all {
                    self.tell(Event::Presence(presence));
                }
            }
            (Origin::KeepAlive(question), body) => {
                self.is_asking = false;
                let address = match body {
                    ResponseBody::Address(address) => Some(address),
                    // A server that doesn't know the question lives, too.
                    _ => None,
                };
                lock(&self.core.learner).answered(Instant::now(), question, address);
            }
            (Origin::Name(_) | Origin::Watch | Origin::Check | Origin::Nobody, _) => {}
        }
        Ok(())
    }

    async fn name_failed(&mut self, name: String, code: Code) -> Result<(), ConnectError> {
        let failed =
            self.core.store.durably(move |db| outbox::name_not_found(db, &name, code)).await?;
        for local in failed {
            self.core.notify(ClientEvent::Failed { local, code });
        }
        self.core.ticks_moved();
        Ok(())
    }

    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Request(body, answer) => {
                self.queued.push_back((body, Origin::Application(answer)));
            }
            Command::SetActive(active) => {
                self.active = active;
                // Who begins to look wants to know soon that the connection is dead.
                self.queued.push_back((RequestBody::SetActive(active), Origin::Check));
            }
            Command::Watch(accounts) => {
                self.queued.push_back((RequestBody::Watch(accounts), Origin::Watch));
            }
            Command::Unwatch(accounts) => {
                self.queued.push_back((RequestBody::Unwatch(accounts), Origin::Nobody));
            }
            Command::Typing(conversation, active) => {
                self.order(conversation, Order::Typing(active));
            }
            Command::NetworkChanged => {
                self.core.sessions.hope(true);
                self.queued.push_front((RequestBody::Ping, Origin::Check));
                for _ in 0..MOVED_GREASE {
                    let id = grease::id(self.core.rng().random());
                    let body = Bytes::from_static(&[0; limits::GREASE_BYTES]);
                    self.writer.push(&Frame::Extension(Extension { id, body }));
                }
                for orders in self.uplinks.values() {
                    // One that has so many orders waiting is about to end or has just begun.
                    let _ = orders.try_send(Order::Again);
                }
            }
        }
    }

    fn send_requests(&mut self) {
        while let Some((body, origin)) = self.queued.pop_front() {
            match self.session.request(body.clone()) {
                Some(request) => {
                    if origin.waits() {
                        self.pulse.unanswered.inc();
                    }
                    self.requests.insert(request.id, origin);
                    self.writer.push(&Frame::Request(request));
                }
                None => {
                    self.queued.push_front((body, origin));
                    return;
                }
            }
        }
    }

    fn watch_again(&mut self) {
        let watched: Vec<_> = lock(&self.core.watched).iter().copied().collect();
        for some in watched.chunks(limits::WATCH_LIST) {
            self.queued.push_back((RequestBody::Watch(some.to_vec()), Origin::Watch));
        }
    }

    async fn look_for_all(&mut self) -> Result<(), ConnectError> {
        self.speak_early().await?;
        self.look_up_names().await
    }

    async fn look_up_names(&mut self) -> Result<(), ConnectError> {
        let names = self.core.store.quickly(outbox::names_to_look_up).await?;
        let asked = |origin: &Origin, name: &str| matches!(origin, Origin::Name(n) if n == name);
        for name in names {
            let is_asked = self.requests.values().any(|origin| asked(origin, &name))
                || self.queued.iter().any(|(_, origin)| asked(origin, &name));
            if !is_asked && self.queued.len() < LOOKUPS {
                self.queued.push_back((RequestBody::Lookup(name.clone()), Origin::Name(name)));
            }
        }
        Ok(())
    }

    fn look(&mut self, conversation: ConversationId) {
        self.order(conversation, Order::Look);
    }

    /// Gives an order to a conversation's uplink, and opens it if there is none.
    fn order(&mut self, conversation: ConversationId, order: Order) {
        if let Some(orders) = self.uplinks.get(&conversation) {
            // A full queue has a look in it; typing may be lost.
            let _ = orders.try_send(order);
            return;
        }
        if self.went_away {
            return;
        }
        let (orders, receiver) = mpsc::channel(ORDERS);
        let _ = orders.try_send(order);
        self.uplinks.insert(conversation, orders);
        let run = uplink::run(
            self.core.clone(),
            self.connection.clone(),
            conversation,
            self.limits.unanswered_sends,
            receiver,
            self.starved.clone(),
            self.pulse.unanswered.clone(),
        );
        self.tasks.spawn(async move { Done::Uplink(conversation, run.await) });
    }

    async fn done(
        &mut self,
        done: Result<Done, tokio::task::JoinError>,
    ) -> Result<(), ConnectError> {
        match done {
            Ok(Done::Downlink(result)) => result,
            Ok(Done::Uplink(conversation, ended)) => self.uplink_ended(conversation, ended).await,
            Ok(Done::Again(conversation)) => {
                self.uplinks.remove(&conversation);
                self.look_again(conversation).await
            }
            Err(error) => {
                tracing::error!(%error, "a task of the connection died");
                Err(ConnectError::Closed(Code::Internal))
            }
        }
    }

    async fn uplink_ended(
        &mut self,
        conversation: ConversationId,
        ended: uplink::Ended,
    ) -> Result<(), ConnectError> {
        match ended {
            uplink::Ended::Broken(error) => return Err(error),
            uplink::Ended::Idle | uplink::Ended::Reset(Code::StreamIdle) => {}
            uplink::Ended::Reset(Code::UnknownConversation) => {
                let code = Code::UnknownConversation;
                let failed = self
                    .core
                    .store
                    .durably(move |db| outbox::fail_all(db, conversation, code))
                    .await?;
                for local in failed {
                    self.core.notify(ClientEvent::Failed { local, code });
                }
                self.core.ticks_moved();
                self.uplinks.remove(&conversation);
                return Ok(());
            }
            uplink::Ended::Reset(code) => {
                tracing::debug!(%code, %conversation, "an uplink was broken off");
                // The dead uplink's place is kept, so that nothing opens another one meanwhile.
                self.tasks.spawn(async move {
                    tokio::time::sleep(RESET_PAUSE).await;
                    Done::Again(conversation)
                });
                return Ok(());
            }
        }
        self.uplinks.remove(&conversation);
        self.look_again(conversation).await
    }

    /// An order that came while the uplink was ending isn't lost: the store knows.
    async fn look_again(&mut self, conversation: ConversationId) -> Result<(), ConnectError> {
        let has_more = self
            .core
            .store
            .quickly(move |db| outbox::has_something_to_say(db, conversation))
            .await?;
        if has_more {
            self.look(conversation);
        }
        Ok(())
    }
}

/// Waits until a moment; for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
