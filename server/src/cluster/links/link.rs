//! What is said to one node, on the side that says it: the state that [`Peers`](super::Peers) and the connection share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::{Instant, sleep_until, timeout},
};

use super::{
    AskError, Code, LinkSettings, Note, Request, Response, Told,
    batches::{BatchReader, BatchWriter, Stop},
    codec::{Batch, Reached, weight_of_request},
    outbox::Outbox,
    pending::{Given, Pending},
};
use crate::{metrics::Metrics, signal::Signal};

/// A link to one node.
#[derive(Debug)]
pub(super) struct Link {
    settings: LinkSettings,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// One for each request without an answer.
    permits: Arc<Semaphore>,
    has_requests: Notify,
    has_notes: Notify,
    has_deadlines: Notify,
    has_room: Signal,
}

#[derive(Debug)]
struct State {
    pending: Pending,
    outbox: Outbox,
    /// Whether there is a connection, or the first one is being tried, so that requests wait for it.
    is_reachable: bool,
    connection: Option<quinn::Connection>,
}

impl Link {
    pub(super) fn new(settings: LinkSettings, metrics: Arc<Metrics>) -> Self {
        Self {
            settings,
            metrics,
            state: Mutex::new(State {
                pending: Pending::default(),
                outbox: Outbox::new(settings.note_bytes as usize, settings.notes as usize),
                is_reachable: true,
                connection: None,
            }),
            permits: Arc::new(Semaphore::new(settings.requests as usize)),
            has_requests: Notify::new(),
            has_notes: Notify::new(),
            has_deadlines: Notify::new(),
            has_room: Signal::default(),
        }
    }

    /// See [`Peers::begin`](super::Peers::begin).
    pub(super) async fn begin(
        &self,
        request: Request,
    ) -> Result<oneshot::Receiver<Result<Response, AskError>>, AskError> {
        let Some(weight) = weight_of_request(&request) else { return Err(AskError::TooLarge) };
        let deadline = Instant::now() + self.settings.request_timeout();
        if !self.state().is_reachable {
            self.count(Given { not_sent: 1, unknown: 0 });
            return Err(AskError::NotSent);
        }
        let permit = self.permits.clone().acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout_at(deadline, permit).await else {
            self.count(Given { not_sent: 1, unknown: 0 });
            return Err(AskError::NotSent);
        };
        let mut state = self.state();
        if !state.is_reachable {
            drop(state);
            self.count(Given { not_sent: 1, unknown: 0 });
            return Err(AskError::NotSent);
        }
        // In the order in which they come here, so that the first is the first to run out of time.
        let deadline = Instant::now() + self.settings.request_timeout();
        let answer = state.pending.begin(request, weight, permit, deadline);
        drop(state);
        self.has_requests.notify_one();
        self.has_deadlines.notify_one();
        Ok(answer)
    }

    /// See [`Peers::tell`](super::Peers::tell).
    pub(super) fn tell(&self, note: Note) -> Told {
        let (dropped, is_up) = {
            let mut state = self.state();
            (state.outbox.push(note), state.outbox.is_up())
        };
        self.metrics.peer_notes_dropped.inc_by(dropped as u64);
        self.has_notes.notify_one();
        match (is_up, dropped) {
            (false, _) => Told::NoLink,
            (true, 0) => Told::Sent,
            (true, _) => Told::InPlaceOfOthers,
        }
    }

    /// See [`Peers::resync_all`](super::Peers::resync_all).
    pub(super) fn owe_resync(&self) {
        self.state().outbox.owe_resync();
        self.has_notes.notify_one();
    }

    /// See [`Peers::room`](super::Peers::room).
    pub(super) async fn room(&self, within: Duration) -> bool {
        let wait = async {
            loop {
                let count = self.has_room.count();
                if self.state().outbox.has_room() {
                    return;
                }
                self.has_room.beyond(count).await;
            }
        };
        timeout(within, wait).await.is_ok()
    }

    /// There is none to be had for now: requests needn't wait.
    pub(super) fn unreachable(&self) {
        let mut state = self.state();
        state.is_reachable = false;
        let given = state.pending.unreachable();
        drop(state);
        self.count(given);
    }

    /// The link is over: the node is gone, or this one stops.
    pub(super) fn end(&self, code: Code) {
        let connection = self.state().connection.take();
        if let Some(connection) = connection {
            connection.close(code.var_int(), code.to_string().as_bytes());
        }
        self.lost();
        self.unreachable();
        self.permits.close();
    }

    /// Closes the present connection, for tests of what happens then.
    #[cfg(test)]
    pub(super) fn break_connection(&self) -> bool {
        let connection = self.state().connection.take();
        connection.map(|connection| connection.close(77_u32.into(), b"")).is_some()
    }

    /// Gives up what runs out of time, for ever.
    pub(super) async fn watch_time(&self) {
        loop {
            let deadline = self.state().pending.next_deadline();
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => {
                    self.has_deadlines.notified().await;
                    continue;
                }
            }
            let given = self.state().pending.expire(Instant::now());
            self.count(given);
        }
    }

    /// Speaks over a connection on which the welcome has come, until it is over. Says why.
    pub(super) async fn speak(
        &self,
        connection: quinn::Connection,
        control: BatchWriter,
        answers: BatchReader,
        notes: BatchWriter,
        linked: impl FnOnce(),
    ) -> Stop {
        {
            let mut state = self.state();
            state.is_reachable = true;
            state.outbox.connected();
            state.connection = Some(connection.clone());
        }
        linked();
        self.metrics.peer_links.inc();
        let stop = tokio::select! {
            biased;
            _ = connection.closed() => Stop::Lost,
            stop = self.read_answers(answers) => stop,
            stop = self.write_requests(control) => stop,
            stop = self.write_notes(notes) => stop,
        };
        connection.close(stop.code().var_int(), stop.code().to_string().as_bytes());
        self.metrics.peer_links.dec();
        self.lost();
        stop
    }

    async fn read_answers(&self, mut answers: BatchReader) -> Stop {
        loop {
            let batch = match answers.next().await {
                Ok(Batch::Answers(batch)) => batch,
                Ok(_) => return Stop::Close(Code::Unexpected),
                Err(stop) => return stop,
            };
            let mut state = self.state();
            for (id, reached) in batch {
                let count = match &reached {
                    Reached::Response(_) => &self.metrics.peer_requests_answered,
                    Reached::Refused(_) => &self.metrics.peer_requests_refused,
                    Reached::Unknown => &self.metrics.peer_requests_unknown,
                };
                match state.pending.answer(id, reached) {
                    Ok(true) => drop(count.inc()),
                    Ok(false) => {}
                    Err(_) => return Stop::Close(Code::Unexpected),
                }
            }
        }
    }

    async fn write_requests(&self, mut control: BatchWriter) -> Stop {
        loop {
            let (batch, weight) = self.state().pending.take(self.settings.batch_bytes as usize);
            if batch.is_empty() {
                self.has_requests.notified().await;
                continue;
            }
            if let Err(stop) = control.write(&Batch::Requests(batch), weight).await {
                return stop;
            }
        }
    }

    async fn write_notes(&self, mut notes: BatchWriter) -> Stop {
        loop {
            let (batch, weight, has_room) = {
                let mut state = self.state();
                let (batch, weight) = state.outbox.take(self.settings.batch_bytes as usize);
                (batch, weight, state.outbox.has_room())
            };
            if has_room {
                self.has_room.raise();
            }
            if batch.is_empty() {
                self.has_notes.notified().await;
                continue;
            }
            let resyncs =
                batch.iter().filter(|heard| matches!(heard, super::codec::Heard::Resync)).count();
            self.metrics.peer_resyncs_sent.inc_by(resyncs as u64);
            self.metrics.peer_notes_sent.inc_by((batch.len() - resyncs) as u64);
            if let Err(stop) = notes.write(&Batch::Notes(batch), weight).await {
                return stop;
            }
        }
    }

    /// The connection is over.
    fn lost(&self) {
        let mut state = self.state();
        state.connection = None;
        let given = state.pending.lost();
        let dropped = state.outbox.lost();
        drop(state);
        self.count(given);
        self.metrics.peer_notes_dropped.inc_by(dropped as u64);
        // Nobody needs room in a link without a connection.
        self.has_room.raise();
    }

    fn count(&self, given: Given) {
        self.metrics.peer_requests_not_sent.inc_by(given.not_sent);
        self.metrics.peer_requests_unknown.inc_by(given.unknown);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic can't leave it worse than a connection that broke.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
