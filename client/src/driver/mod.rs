//! The driver: keeps a connection to the server for as long as the client runs.
//!
//! [`supervise`] connects, runs a [`link::Link`] until it ends, and decides what follows: another
//! attempt after a wait, a move to another node, or the end.

pub(crate) mod connect;
mod downlink;
mod io;
mod keep_alive;
pub(crate) mod link;
mod uplink;

use std::{sync::Arc, time::Duration};

use rand::Rng;
use tern_protocol::{
    code::Code,
    frame::{RequestBody, ResponseBody},
    id::{AccountId, ConversationId},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::{
    connect::{Purpose, connect},
    link::{Ended, Link},
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

/// How long an attempt that was given up may come to life at the server: the time that it has for a hello,
/// and as long again for packets under way.
const LATE_ATTEMPT: Duration = Duration::from_secs(20);

/// Keeps connected until it makes no sense any more. Dropping the future leaves: QUIC closes a connection
/// that nobody holds, and no step of the store is ever half done.
pub(crate) async fn supervise(core: Arc<Core>, mut commands: mpsc::Receiver<Command>) {
    let mut backoff = Backoff::new();
    let mut target = None;
    // Left over from a move to another node that succeeded.
    let mut link = None;
    // When an attempt was last given up: the server may still read it, take it for the newest, and
    // let it replace the one after it.
    let mut given_up: Option<Instant> = None;
    loop {
        let ended = match link.take() {
            Some(link) => Box::pin(serve(&core, link, &mut commands, &mut backoff)).await,
            None => {
                core.notify(ClientEvent::Connection(ConnectionState::Connecting));
                match connect(&core, target.take().as_deref(), Purpose::SignIn).await {
                    Ok(new) => {
                        link = Some(new);
                        continue;
                    }
                    Err(error) => {
                        given_up = Some(Instant::now());
                        Served::Lost(error, None)
                    }
                }
            }
        };
        match ended {
            Served::Moved(new) => link = Some(*new),
            Served::Stopped => return,
            Served::Lost(error, elsewhere) => {
                target = elsewhere;
                if matches!(error, ConnectError::Closed(Code::DeviceRemoved))
                    && let Err(error) = core.store.durably(store::identity::forget_ticket).await
                {
                    tracing::error!(%error, "the ticket of a removed device isn't forgotten");
                }
                let by_own_attempt = matches!(error, ConnectError::Closed(Code::Replaced))
                    && given_up.take().is_some_and(|at| at.elapsed() < LATE_ATTEMPT);
                if error.is_final() && !by_own_attempt {
                    core.notify(ClientEvent::Connection(ConnectionState::Stopped { error }));
                    return;
                }
                let retry_after_ms = match &error {
                    ConnectError::Rejected { retry_after_ms, .. } => *retry_after_ms,
                    _ => 0,
                };
                let wait = backoff.wait(retry_after_ms, &mut *core.rng());
                core.notify(ClientEvent::Connection(ConnectionState::Waiting {
                    retry_in_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    error,
                }));
                if pause(wait, &mut commands).await == Pause::Abandoned {
                    return;
                }
            }
        }
    }
}

/// How the service of a link ended.
enum Served {
    Moved(Box<Link>),
    Lost(ConnectError, Option<String>),
    Stopped,
}

/// Serves a link to its end; if the server asks to go elsewhere, opens the new connection first.
async fn serve(
    core: &Arc<Core>,
    mut link: Link,
    commands: &mut mpsc::Receiver<Command>,
    backoff: &mut Backoff,
) -> Served {
    core.notify(ClientEvent::Connection(ConnectionState::Connected));
    let since = Instant::now();
    let ended = link.run(commands).await;
    if since.elapsed() >= LASTING {
        backoff.reset();
    }
    match ended {
        Ended::Abandoned => Served::Stopped,
        Ended::Lost(error) => Served::Lost(error, None),
        Ended::GoAway(go_away) => {
            let target = Some(go_away.target.clone()).filter(|target| !target.is_empty());
            let mut moving = std::pin::pin!(async {
                let wait = spread(&mut *core.rng(), go_away.within_ms);
                tokio::time::sleep(wait).await;
                connect(core, target.as_deref(), Purpose::SignIn).await
            });
            let moved = tokio::select! {
                biased;
                moved = &mut moving => Some(moved),
                ended = link.run(commands) => match ended {
                    Ended::Abandoned => return Served::Stopped,
                    // The old connection has ended before the new one was ready, maybe because the
                    // server has seen the new one already. The move goes on.
                    Ended::Lost(_) | Ended::GoAway(_) => None,
                },
            };
            let moved = match moved {
                Some(moved) => moved,
                None => moving.await,
            };
            // The old connection is left, and what it had under way and unanswered is sent again by
            // the new one.
            link.leave();
            match moved {
                Ok(new) => Served::Moved(Box::new(new)),
                Err(error) => Served::Lost(error, target.clone()),
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

/// Waits for the next attempt. Requests are answered that there is no connection; a change of the
/// network ends the wait.
async fn pause(wait: Duration, commands: &mut mpsc::Receiver<Command>) -> Pause {
    let until = Instant::now() + wait;
    loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(until) => return Pause::Over,
            command = commands.recv() => match command {
                None => return Pause::Abandoned,
                Some(Command::NetworkChanged) => return Pause::Over,
                Some(Command::Request(_, answer)) => {
                    let _ = answer.send(Err(RequestError::ConnectionLost));
                }
                // What the application wants of presence and activity is kept in the core and told to
                // the next connection; typing is of no interest later.
                Some(_) => {}
            },
        }
    }
}

/// How a pause ended.
#[derive(PartialEq, Eq)]
enum Pause {
    Over,
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
