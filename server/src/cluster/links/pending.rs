//! The requests to one node: what waits to be sent, and what waits for its answer. No I/O, no clock.

use std::collections::{BTreeMap, VecDeque};

use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use super::{
    AskError, Request, Response,
    codec::{ITEMS, Reached},
};

/// An answer that doesn't fit what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit;

/// How the requests to a node ended, for the counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) not_sent: u64,
    pub(super) unknown: u64,
}

/// The requests to one node. Their number is bounded by the permits that they hold.
#[derive(Debug, Default)]
pub(super) struct Pending {
    last_id: u64,
    queued: VecDeque<Queued>,
    /// All without an answer, queued ones included. All have as long, so the first is the first to run out of time.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Queued {
    id: u64,
    request: Request,
    weight: usize,
}

#[derive(Debug)]
struct Waiting {
    kind: Kind,
    reply: oneshot::Sender<Result<Response, AskError>>,
    deadline: Instant,
    was_sent: bool,
    /// Given back when the request is over.
    _permit: OwnedSemaphorePermit,
}

/// What a request is to be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Append,
    Read,
    Done,
    Snapshot,
    Members,
}

impl Pending {
    /// Gives a request its place in the queue.
    pub(super) fn begin(
        &mut self,
        request: Request,
        weight: usize,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> oneshot::Receiver<Result<Response, AskError>> {
        let (reply, answer) = oneshot::channel();
        self.last_id += 1;
        let id = self.last_id;
        let kind = Kind::of(&request);
        let waiting = Waiting { kind, reply, deadline, was_sent: false, _permit: permit };
        self.waiting.insert(id, waiting);
        self.queued.push_back(Queued { id, request, weight });
        answer
    }

    /// Takes what is to be sent next, about so many bytes of it, and its weight. It counts as sent from here on.
    pub(super) fn take(&mut self, batch_bytes: usize) -> (Vec<(u64, Option<Request>)>, usize) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < batch_bytes
            && batch.len() < ITEMS
            && let Some(Queued { id, request, weight }) = self.queued.pop_front()
        {
            if let Some(waiting) = self.waiting.get_mut(&id) {
                waiting.was_sent = true;
            }
            bytes += weight;
            batch.push((id, Some(request)));
        }
        (batch, bytes)
    }

    /// An answer has come. Says whether anybody still waited for it.
    pub(super) fn answer(&mut self, id: u64, reached: Reached) -> Result<bool, Unfit> {
        if id == 0 || id > self.last_id {
            return Err(Unfit);
        }
        // One that isn't there has run out of time.
        let Some(waiting) = self.waiting.get(&id) else { return Ok(false) };
        if !waiting.was_sent {
            return Err(Unfit);
        }
        let result = match reached {
            Reached::Response(response) => Ok(waiting.kind.fit(response).ok_or(Unfit)?),
            Reached::Refused(refusal) => Err(AskError::Refused(refusal)),
            Reached::Unknown => Err(AskError::Unknown),
        };
        if let Some(waiting) = self.waiting.remove(&id) {
            // Who asked may have gone.
            let _ = waiting.reply.send(result);
        }
        Ok(true)
    }

    /// When the first request runs out of time.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, waiting)| waiting.deadline)
    }

    /// Gives up what has run out of time.
    pub(super) fn expire(&mut self, now: Instant) -> Given {
        let mut given = Given::default();
        while let Some(entry) = self.waiting.first_entry()
            && entry.get().deadline <= now
        {
            let (id, waiting) = entry.remove_entry();
            if !waiting.was_sent {
                self.queued.retain(|queued| queued.id != id);
            }
            waiting.give_up(&mut given);
        }
        given
    }

    /// The connection is gone: what was sent may have been done. What wasn't waits for the next one.
    pub(super) fn lost(&mut self) -> Given {
        self.give_up(|waiting| waiting.was_sent)
    }

    /// There is no connection to be had: what wasn't sent won't be.
    pub(super) fn unreachable(&mut self) -> Given {
        self.queued.clear();
        self.give_up(|waiting| !waiting.was_sent)
    }

    fn give_up(&mut self, which: impl Fn(&Waiting) -> bool) -> Given {
        let mut given = Given::default();
        let all = std::mem::take(&mut self.waiting);
        for (id, waiting) in all {
            if which(&waiting) {
                waiting.give_up(&mut given);
            } else {
                self.waiting.insert(id, waiting);
            }
        }
        given
    }
}

impl Waiting {
    fn give_up(self, given: &mut Given) {
        let error = if self.was_sent {
            given.unknown += 1;
            AskError::Unknown
        } else {
            given.not_sent += 1;
            AskError::NotSent
        };
        // Who asked may have gone.
        let _ = self.reply.send(Err(error));
    }
}

impl Kind {
    fn of(request: &Request) -> Self {
        match request {
            Request::Append { .. } => Self::Append,
            Request::Read { .. } => Self::Read,
            Request::Ack { .. } | Request::Age { .. } => Self::Done,
            Request::Snapshot { .. } => Self::Snapshot,
            Request::Members { .. } => Self::Members,
        }
    }

    /// The response, if it is one to such a request. That nothing is there has one form for all kinds.
    fn fit(self, response: Response) -> Option<Response> {
        match (self, response) {
            (Self::Append, response @ Response::Append(_))
            | (Self::Read, response @ Response::Read(_))
            | (Self::Done, response @ Response::Done)
            | (Self::Snapshot, response @ Response::Snapshot(_))
            | (Self::Members, response @ Response::Members(_)) => Some(response),
            (Self::Members, Response::Snapshot(None)) => Some(Response::Members(None)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tern_protocol::id::ConversationId;
    use tokio::sync::Semaphore;

    use super::*;

    fn members() -> Request {
        Request::Members { conversation: ConversationId::new([1; 16]) }
    }

    fn begin(
        pending: &mut Pending,
        permits: &Arc<Semaphore>,
        deadline: Instant,
    ) -> oneshot::Receiver<Result<Response, AskError>> {
        let permit = permits.clone().try_acquire_owned().unwrap();
        pending.begin(members(), 100, permit, deadline)
    }

    #[tokio::test]
    async fn what_was_sent_is_unknown_and_the_rest_was_not_sent() {
        let permits = Arc::new(Semaphore::new(3));
        let mut pending = Pending::default();
        let later = Instant::now() + Duration::from_secs(1);
        let mut answers: Vec<_> = (0..3).map(|_| begin(&mut pending, &permits, later)).collect();
        let (batch, weight) = pending.take(150);
        assert_eq!((batch.len(), weight), (2, 200));
        assert_eq!(pending.answer(1, Reached::Response(Response::Snapshot(None))), Ok(true));
        assert_eq!(answers[0].try_recv().unwrap(), Ok(Response::Members(None)));
        assert_eq!(pending.lost(), Given { not_sent: 0, unknown: 1 });
        assert_eq!(answers[1].try_recv().unwrap(), Err(AskError::Unknown));
        assert!(answers[2].try_recv().is_err(), "it waits for the next connection");
        assert_eq!(pending.unreachable(), Given { not_sent: 1, unknown: 0 });
        assert_eq!(answers[2].try_recv().unwrap(), Err(AskError::NotSent));
        assert_eq!(permits.available_permits(), 3);
        assert_eq!(pending.take(1_000).0.len(), 0);
    }

    #[tokio::test]
    async fn time_runs_out_in_order_and_late_answers_are_nobodys() {
        let permits = Arc::new(Semaphore::new(9));
        let mut pending = Pending::default();
        let now = Instant::now();
        let mut sent = begin(&mut pending, &permits, now + Duration::from_secs(1));
        pending.take(1);
        let mut queued = begin(&mut pending, &permits, now + Duration::from_secs(2));
        assert_eq!(pending.next_deadline(), Some(now + Duration::from_secs(1)));
        assert_eq!(pending.expire(now), Given::default());
        assert_eq!(pending.expire(now + Duration::from_secs(3)), Given { not_sent: 1, unknown: 1 });
        assert_eq!(sent.try_recv().unwrap(), Err(AskError::Unknown));
        assert_eq!(queued.try_recv().unwrap(), Err(AskError::NotSent));
        assert_eq!(pending.answer(1, Reached::Unknown), Ok(false));
        assert_eq!(pending.answer(3, Reached::Unknown), Err(Unfit), "nobody asked that");
        assert!(pending.take(1_000).0.is_empty());
    }

    #[tokio::test]
    async fn an_answer_must_fit_its_request() {
        let permits = Arc::new(Semaphore::new(9));
        let mut pending = Pending::default();
        let _answer = begin(&mut pending, &permits, Instant::now());
        assert_eq!(pending.answer(1, Reached::Unknown), Err(Unfit), "it wasn't sent");
        pending.take(1);
        assert_eq!(pending.answer(1, Reached::Response(Response::Done)), Err(Unfit));
    }
}
