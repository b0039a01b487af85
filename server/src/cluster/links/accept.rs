//! The side that is connected to: hears requests and notes of other nodes, and answers.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};

use super::{
    Code, Handler, LinkSettings, Refusal, Reply, VERSION,
    batches::{BatchReader, BatchWriter, Stop},
    codec::{Batch, Heard, Hello, ITEMS, Reached, weight_of_answer},
    tls,
};
use crate::{
    cluster::{NodeId, View, Views},
    metrics::Metrics,
};

/// What all accepted connections share.
pub(super) struct Acceptor {
    pub(super) views: Views,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) settings: LinkSettings,
    pub(super) metrics: Arc<Metrics>,
    /// Connections that may be in a handshake.
    pub(super) handshakes: Arc<Semaphore>,
    pub(super) guests: Mutex<BTreeMap<NodeId, Guest>>,
}

/// The present connection of a node.
pub(super) struct Guest {
    connection: quinn::Connection,
    /// Held by the connection that is heard, so that a newer one begins when the older one has ended.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Acceptor {
    /// Accepts and serves connections until the end point is closed.
    pub(super) async fn run(self: Arc<Self>, endpoint: quinn::Endpoint) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => self.admit(incoming, &mut connections),
                    None => return,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    fn admit(self: &Arc<Self>, incoming: quinn::Incoming, connections: &mut JoinSet<()>) {
        let Ok(permit) = self.handshakes.clone().try_acquire_owned() else {
            self.metrics.peer_connections_refused.inc();
            return incoming.refuse();
        };
        let acceptor = self.clone();
        connections.spawn(async move {
            let greeted = async {
                let connection = incoming.await.map_err(|error| {
                    tracing::debug!(%error, "a connection came to nothing");
                    Stop::Lost
                })?;
                let greeted = acceptor.greet(&connection).await;
                let greeted = greeted.inspect_err(|stop| close(&connection, stop));
                greeted.map(|(from, control, requests)| (connection, from, control, requests))
            };
            let greeted = match timeout(acceptor.settings.hello_timeout(), greeted).await {
                Ok(greeted) => greeted,
                Err(_) => Err(Stop::Close(Code::Timeout)),
            };
            drop(permit);
            match greeted {
                Ok((connection, from, control, requests)) => {
                    acceptor.serve(connection, from, control, requests).await;
                }
                Err(stop) => {
                    acceptor.metrics.peer_connections_refused.inc();
                    tracing::warn!(why = %stop, "a connection of a node was refused");
                }
            }
        });
    }

    /// Hears who connects, and judges it.
    async fn greet(
        &self,
        connection: &quinn::Connection,
    ) -> Result<(NodeId, BatchWriter, BatchReader), Stop> {
        let (send, receive) = connection.accept_bi().await.map_err(|_| Stop::Lost)?;
        let (mut control, mut requests) =
            (BatchWriter::new(send), BatchReader::of_control(receive));
        let Batch::Hello(hello) = requests.next().await? else {
            return Err(Stop::Close(Code::Unexpected));
        };
        if !tls::has_name(connection, &hello.name) {
            return Err(Stop::Close(Code::WrongName));
        }
        self.judge(connection, &hello).await?;
        requests.allow_whole_batches();
        control.write(&Batch::Welcome(hello.version.min(VERSION)), 0).await?;
        Ok((hello.node, control, requests))
    }

    async fn judge(&self, connection: &quinn::Connection, hello: &Hello) -> Result<(), Stop> {
        let mut view = self.views.now();
        if hello.to != view.me() {
            return Err(Stop::Close(Code::WrongNode));
        }
        // It may be so new that this node hasn't read of it.
        loop {
            if let Some(node) = view.node(hello.node) {
                let is_it = *node.name == *hello.name && hello.node != view.me();
                return if is_it { Ok(()) } else { Err(Stop::Close(Code::UnknownNode)) };
            }
            let next = tokio::time::timeout(
                self.settings.hello_timeout() / 2,
                self.views.beyond(view.version()),
            );
            tokio::select! {
                biased;
                _ = connection.closed() => return Err(Stop::Lost),
                next = next => match next {
                    Ok(next) => view = next,
                    Err(_) => return Err(Stop::Close(Code::UnknownNode)),
                }
            }
        }
    }

    /// Hears a node until its connection is over.
    async fn serve(
        &self,
        connection: quinn::Connection,
        from: NodeId,
        control: BatchWriter,
        requests: BatchReader,
    ) {
        let turn = self.take_place(from, &connection);
        let turn = turn.lock().await;
        self.metrics.peer_connections.inc();
        let answers = Arc::new(Answers::default());
        let stop = tokio::select! {
            biased;
            _ = connection.closed() => Stop::Lost,
            () = self.gone(from) => Stop::Close(Code::UnknownNode),
            stop = answers.write(control, self.settings.batch_bytes as usize) => stop,
            stop = self.read_notes(&connection, from) => stop,
            stop = self.read_requests(requests, from, &answers) => stop,
        };
        close(&connection, &stop);
        self.metrics.peer_connections.dec();
        if stop != Stop::Lost {
            self.metrics.peer_connections_refused.inc();
            tracing::warn!(node = %from, why = %stop, "a connection of a node was closed");
        }
        drop(turn);
        let mut guests = self.guests();
        let is_present = |guest: &Guest| guest.connection.stable_id() == connection.stable_id();
        if guests.get(&from).is_some_and(is_present) {
            guests.remove(&from);
        }
    }

    /// Makes a connection the present one of a node; an older one is closed.
    fn take_place(
        &self,
        from: NodeId,
        connection: &quinn::Connection,
    ) -> Arc<tokio::sync::Mutex<()>> {
        let mut guests = self.guests();
        let turn = match guests.get(&from) {
            Some(older) => {
                close(&older.connection, &Stop::Close(Code::Replaced));
                older.turn.clone()
            }
            None => Arc::default(),
        };
        guests.insert(from, Guest { connection: connection.clone(), turn: turn.clone() });
        turn
    }

    /// Waits until a node isn't in the view any more.
    async fn gone(&self, from: NodeId) {
        let mut view: Arc<View> = self.views.now();
        while view.node(from).is_some() {
            view = self.views.beyond(view.version()).await;
        }
    }

    async fn read_requests(
        &self,
        mut requests: BatchReader,
        from: NodeId,
        answers: &Arc<Answers>,
    ) -> Stop {
        let permits = Arc::new(Semaphore::new(self.settings.requests as usize));
        let mut last = 0;
        loop {
            let batch = match requests.next().await {
                Ok(Batch::Requests(batch)) => batch,
                Ok(_) => return Stop::Close(Code::Unexpected),
                Err(stop) => return stop,
            };
            for (id, request) in batch {
                if id <= last {
                    return Stop::Close(Code::Unexpected);
                }
                last = id;
                // Until there is room nothing more is read, so the other node asks no more.
                let Ok(permit) = permits.clone().acquire_owned().await else {
                    return Stop::Lost;
                };
                self.metrics.peer_requests_served.inc();
                let reply = Reply::new(id, permit, answers.clone());
                match request {
                    Some(request) => self.handler.request(from, request, reply).await,
                    None => reply.send(Err(Refusal::Unsupported)),
                }
            }
        }
    }

    async fn read_notes(&self, connection: &quinn::Connection, from: NodeId) -> Stop {
        let Ok(stream) = connection.accept_uni().await else { return Stop::Lost };
        let mut notes = BatchReader::new(stream);
        let mut has_begun = false;
        loop {
            let batch = match notes.next().await {
                Ok(Batch::Notes(batch)) => batch,
                Ok(_) => return Stop::Close(Code::Unexpected),
                Err(stop) => return stop,
            };
            for heard in batch {
                match heard {
                    Heard::Resync => {
                        has_begun = true;
                        self.metrics.peer_resyncs_received.inc();
                        self.handler.resync(from);
                    }
                    Heard::Note(_) if !has_begun => return Stop::Close(Code::Unexpected),
                    Heard::Note(note) => {
                        self.metrics.peer_notes_received.inc();
                        self.handler.note(from, note);
                    }
                }
            }
        }
    }

    fn guests(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Guest>> {
        // Each entry stands alone.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close(connection: &quinn::Connection, stop: &Stop) {
    connection.close(stop.code().var_int(), stop.code().to_string().as_bytes());
}

/// The answers to one connection. Their number is bounded by the permits that they hold.
#[derive(Debug, Default)]
pub(super) struct Answers {
    queue: Mutex<VecDeque<(u64, Reached, OwnedSemaphorePermit)>>,
    has_some: Notify,
}

impl Answers {
    /// Adds an answer.
    pub(super) fn push(&self, id: u64, reached: Reached, permit: OwnedSemaphorePermit) {
        self.queue().push_back((id, reached, permit));
        self.has_some.notify_one();
    }

    /// Writes what there is, for as long as the connection lasts.
    async fn write(&self, mut control: BatchWriter, batch_bytes: usize) -> Stop {
        loop {
            let (mut batch, mut permits, mut bytes) = (Vec::new(), Vec::new(), 0);
            {
                let mut queue = self.queue();
                while bytes < batch_bytes
                    && batch.len() < ITEMS
                    && let Some((id, reached, permit)) = queue.pop_front()
                {
                    bytes += weight_of_answer(&reached);
                    batch.push((id, reached));
                    permits.push(permit);
                }
            }
            if batch.is_empty() {
                self.has_some.notified().await;
                continue;
            }
            if let Err(stop) = control.write(&Batch::Answers(batch), bytes).await {
                return stop;
            }
            drop(permits);
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<(u64, Reached, OwnedSemaphorePermit)>> {
        // Each entry stands alone.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
