//! The driver: keeps a connection to the server for as long as the client runs.
//!
//! [`supervise`] connects, runs a [`link::Link`] until it ends, and decides what follows: another
//! attempt after a wait, a move to another node, or the end.

mod attempts;
pub(crate) mod connect;
mod downlink;
mod given_up;
mod io;
mod keep_alive;
pub(crate) mod link;
mod pulse;
mod turn;
mod uplink;

use std::{sync::Arc, time::Duration};

use rand::Rng;
use tern_protocol::{
    code::Code,
    frame::{GoAway, RequestBody, ResponseBody},
    id::{AccountId, ConversationId},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::{
    attempts::Attempts,
    connect::{Purpose, connect},
    given_up::GivenUp,
    link::{Ended, Link},
};
pub(crate) use self::{
    keep_alive::{Learner, Signs},
    turn::AddressTurn,
};
use crate::{
    backoff::Backoff,
    core::Core,
    error::{ConnectError, RequestError},
    event::{ClientEvent, ConnectionState},
    store,
};

/// Commands that wait for the driver at most.
pub(crate) const COMMANDS: usize = 64;
/// A connection that lasted so long was a success: the next attempt comes at once. A shorter one
/// counts as a failure, so that a server that drops every connection isn't hammered.
const LASTING: Duration = Duration::from_secs(10);

/// What the application wants of the driver.
pub(crate) enum Command {
    Request(RequestBody, oneshot::Sender<Result<ResponseBody, RequestError>>),
    SetActive(bool),
    Watch(Vec<AccountId>),
    Unwatch(Vec<AccountId>),
    Typing(ConversationId, bool),
    NetworkChanged,
}

/// How long to wait after an attempt beside a silent connection that failed at once.
const RACE_PAUSE: Duration = Duration::from_secs(1);

/// Keeps connected until it makes no sense any more. Dropping the future leaves: QUIC closes a connection
/// that nobody holds, and no step of the store is ever half done.
pub(crate) async fn supervise(core: Arc<Core>, commands: mpsc::Receiver<Command>) {
    let backoff = Backoff::new();
    let given_up = GivenUp::by_predecessor(Instant::now());
    Supervisor { core, commands, backoff, given_up }.run().await;
}

struct Supervisor {
    core: Arc<Core>,
    commands: mpsc::Receiver<Command>,
    backoff: Backoff,
    given_up: GivenUp,
}

/// How the service of a link ended.
enum Served {
    Moved(Box<Link>),
    Lost(ConnectError, Option<String>),
    Stopped,
}

impl Supervisor {
    async fn run(mut self) {
        let mut target = None;
        // Left over from a move to another connection that succeeded.
        let mut link = None;
        loop {
            let ended = match link.take() {
                Some(link) => Box::pin(self.serve(link)).await,
                None => {
                    self.core.notify(ClientEvent::Connection(ConnectionState::Connecting));
                    match self.connect(target.take()).await {
                        Some(Ok(new)) => Served::Moved(Box::new(new)),
                        Some(Err(error)) => Served::Lost(error, None),
                        None => Served::Stopped,
                    }
                }
            };
            match ended {
                Served::Moved(new) => link = Some(*new),
                Served::Stopped => return,
                Served::Lost(error, elsewhere) => {
                    target = elsewhere;
                    if matches!(error, ConnectError::Closed(Code::DeviceRemoved)) {
                        self.forget_ticket().await;
                    }
                    let by_own_attempt = matches!(error, ConnectError::Closed(Code::Replaced))
                        && self.given_up.explain(Instant::now());
                    if error.is_final() && !by_own_attempt {
                        let state = ConnectionState::Stopped { error };
                        self.core.notify(ClientEvent::Connection(state));
                        return;
                    }
                    match self.wait(error).await {
                        Pause::Abandoned => return,
                        pause => self.core.sessions.hope(pause == Pause::Changed),
                    }
                }
            }
        }
    }

    async fn forget_ticket(&self) {
        if let Err(error) = self.core.store.durably(store::identity::forget_ticket).await {
            tracing::error!(%error, "the ticket of a removed device isn't forgotten");
        }
    }

    async fn wait(&mut self, error: ConnectError) -> Pause {
        let retry_after_ms = match &error {
            ConnectError::Rejected { retry_after_ms, .. } => *retry_after_ms,
            _ => 0,
        };
        let wait = self.backoff.wait(retry_after_ms, &mut *self.core.rng());
        self.core.notify(ClientEvent::Connection(ConnectionState::Waiting {
            retry_in_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            error,
        }));
        pause(wait, &mut self.commands).await
    }

    /// Connects and signs in; begins anew when the network changes meanwhile. `None`: no handle is
    /// left to which the connection would be of use.
    async fn connect(&mut self, target: Option<String>) -> Option<Result<Link, ConnectError>> {
        // What the application wants meanwhile, for the connection that comes of it.
        let mut held = Vec::new();
        loop {
            let mut attempts = Attempts::new(&self.core, target.as_deref());
            let result = loop {
                tokio::select! {
                    biased;
                    result = attempts.next() => break Some(result),
                    command = self.commands.recv(), if held.len() < COMMANDS => match command {
                        None => return None,
                        Some(Command::NetworkChanged) => break None,
                        Some(other) => held.push(other),
                    },
                }
            };
            let began = attempts.began();
            drop(attempts);
            let succeeded = usize::from(matches!(result, Some(Ok(_))));
            self.given_up.add(began.saturating_sub(succeeded), Instant::now());
            match result {
                Some(Ok(mut link)) => {
                    held.into_iter().for_each(|command| link.obey(command));
                    return Some(Ok(link));
                }
                Some(Err(error)) => {
                    held.into_iter().for_each(refuse);
                    return Some(Err(error));
                }
                None => self.core.sessions.hope(true),
            }
        }
    }

    /// Serves a link to its end. If the server asks to go elsewhere, or says nothing, a new
    /// connection is opened first.
    async fn serve(&mut self, mut link: Link) -> Served {
        self.core.notify(ClientEvent::Connection(ConnectionState::Connected));
        // If this connection falls silent, what is tried beside it has no more reason to hope than any.
        self.core.sessions.hope(false);
        let since = Instant::now();
        loop {
            let ended = link.run(&mut self.commands).await;
            if since.elapsed() >= LASTING {
                self.backoff.reset();
            }
            match ended {
                Ended::Abandoned => return Served::Stopped,
                Ended::Lost(error) => return Served::Lost(error, None),
                Ended::GoAway(go_away) => return self.go_away(link, &go_away).await,
                Ended::Silent => match self.race(&mut link).await {
                    Some(served) => return served,
                    None => tracing::debug!("the connection has come back to life"),
                },
                // It wasn't silent any more when it was looked at.
                Ended::Alive => {}
            }
        }
    }

    async fn go_away(&mut self, mut link: Link, go_away: &GoAway) -> Served {
        let target = Some(go_away.target.clone()).filter(|target| !target.is_empty());
        let (core, to) = (self.core.clone(), target.clone());
        let mut moving = std::pin::pin!(async {
            let wait = spread(&mut *core.rng(), go_away.within_ms);
            tokio::time::sleep(wait).await;
            connect(&core, to.as_deref(), Purpose::SignIn).await
        });
        let moved = loop {
            tokio::select! {
                biased;
                moved = &mut moving => break moved,
                ended = link.run(&mut self.commands) => match ended {
                    Ended::Abandoned => return Served::Stopped,
                    Ended::Silent | Ended::Alive => {}
                    // The old connection has ended before the new one was ready, maybe because the
                    // server has seen the new one already. The move goes on.
                    Ended::Lost(_) | Ended::GoAway(_) => break moving.await,
                },
            }
        };
        // The old connection is left, and what it had under way and unanswered is sent again by
        // the new one.
        link.leave();
        match moved {
            Ok(new) => Served::Moved(Box::new(new)),
            Err(error) => {
                self.given_up.add(1, Instant::now());
                Served::Lost(error, target)
            }
        }
    }

    /// The server has said nothing for a while: new connections are tried beside the old one, again
    /// and again, and the one that answers first stays. `None`: that is the old one.
    async fn race(&mut self, link: &mut Link) -> Option<Served> {
        loop {
            let core = self.core.clone();
            let mut attempts = Attempts::elsewhere(&core);
            let mut raced = Box::pin(async {
                let raced = attempts.next().await;
                if raced.as_ref().is_err_and(|error| !error.is_final()) {
                    // Without a network an attempt may fail at once.
                    tokio::time::sleep(RACE_PAUSE).await;
                }
                raced
            });
            let served = tokio::select! {
                biased;
                result = &mut raced => match result {
                    Ok(new) => Some(Some(Served::Moved(Box::new(new)))),
                    Err(error) if error.is_final() => Some(Some(Served::Lost(error, None))),
                    Err(_) => None,
                },
                ended = link.run(&mut self.commands) => match ended {
                    Ended::Abandoned => Some(Some(Served::Stopped)),
                    Ended::Alive => Some(None),
                    Ended::GoAway(_) | Ended::Silent => None,
                    // Perhaps because the server has seen the new one already.
                    Ended::Lost(_) => Some(Some(match raced.as_mut().await {
                        Ok(new) => Served::Moved(Box::new(new)),
                        Err(error) => Served::Lost(error, None),
                    })),
                },
            };
            drop(raced);
            let succeeded = usize::from(matches!(served, Some(Some(Served::Moved(_)))));
            self.given_up.add(attempts.began().saturating_sub(succeeded), Instant::now());
            if let Some(served) = served {
                return served;
            }
        }
    }
}

/// When to start the move: some time in the first half of what the server gave, [TERN-5.5-2].
fn spread(rng: &mut impl Rng, within_ms: u64) -> Duration {
    // A server that gives much time still wants to be rid of its clients.
    let half_ms = (within_ms / 2).min(60_000);
    Duration::from_millis(rng.random_range(0..=half_ms))
}

/// Waits for the next attempt; a change of the network ends the wait.
async fn pause(wait: Duration, commands: &mut mpsc::Receiver<Command>) -> Pause {
    tokio::time::timeout(wait, until_change(commands)).await.unwrap_or(Pause::Over)
}

/// Waits until the network changes. Requests are answered that there is no connection.
async fn until_change(commands: &mut mpsc::Receiver<Command>) -> Pause {
    loop {
        match commands.recv().await {
            None => return Pause::Abandoned,
            Some(Command::NetworkChanged) => return Pause::Changed,
            Some(other) => refuse(other),
        }
    }
}

/// There is no connection to carry a command out on.
fn refuse(command: Command) {
    // What the application wants of presence and activity is kept in the core and told to the next
    // connection; typing is of no interest later.
    if let Command::Request(_, answer) = command {
        // An application that has given up needs no answer.
        let _ = answer.send(Err(RequestError::ConnectionLost));
    }
}

/// How a pause ended.
#[derive(PartialEq, Eq)]
enum Pause {
    Over,
    /// The network has changed, so an attempt has reason to hope.
    Changed,
    /// No handle is left to which the connection would be of use.
    Abandoned,
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn moves_are_spread_over_the_first_half_of_what_the_server_gave() {
        let mut rng = StdRng::seed_from_u64(1);
        for within_ms in [0, 1_000, 10_000] {
            let mut waits: Vec<_> = (0..1_000).map(|_| spread(&mut rng, within_ms)).collect();
            waits.sort_unstable();
            let half = Duration::from_millis(within_ms) / 2;
            assert!(waits[999] <= half, "{within_ms}");
            // Evenly: a quarter of the clients in each quarter of the time.
            assert!(waits[250].abs_diff(half / 4) <= half / 10, "{within_ms}");
            assert!(waits[750].abs_diff(half * 3 / 4) <= half / 10, "{within_ms}");
        }
        assert!(spread(&mut rng, u64::MAX) <= Duration::from_secs(60));
    }
}
