//! Attempts to connect, side by side where the first ones are not heard.
//!
//! QUIC repeats the packets of a handshake ever more rarely, RFC 9002 (6.2.1): after four losses in a row, a
//! phone in a bad network waits for five seconds. A new attempt begins with a fresh flight, so while the server
//! says nothing, another one is made every [`AFTER`]; the first one that signs in wins.

use std::{future::Future, pin::Pin, sync::Arc, task::Poll, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    connect::{Heard, Purpose, connect_heard},
    link::Link,
};
use crate::{core::Core, error::ConnectError};

/// A server from which nothing has come for so long may not have been reached. As long as an established
/// connection is trusted; the round trips of the worst networks are shorter.
const AFTER: Duration = Duration::from_secs(3);
/// Attempts at once. More would be a burden to a server that is only slow.
pub(super) const AT_ONCE: usize = 3;

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Link, ConnectError>> + Send + 'a>>;

/// Attempts to connect to one address.
pub(super) struct Attempts<'a> {
    core: &'a Arc<Core>,
    address: Option<&'a str>,
    /// The oldest first, each with how many places it is ahead of the address in use.
    under_way: Vec<(Heard, usize, Connecting<'a>)>,
    began: usize,
    /// How many places the first attempt is ahead.
    ahead: usize,
    next_at: Instant,
}

impl<'a> Attempts<'a> {
    /// No attempt yet; the first one begins with [`Attempts::next`].
    pub(super) fn new(core: &'a Arc<Core>, address: Option<&'a str>) -> Self {
        let (under_way, next_at) = (Vec::new(), Instant::now());
        Self { core, address, under_way, began: 0, ahead: 0, next_at }
    }

    /// No attempt yet; if the server has several addresses, the one in use, which is silent, isn't the first.
    pub(super) fn elsewhere(core: &'a Arc<Core>) -> Self {
        Self { ahead: 1, ..Self::new(core, None) }
    }

    /// What comes of them: the first link, the first error that nothing helps against, or that of the first attempt.
    /// Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Link, ConnectError> {
        loop {
            tokio::select! {
                biased;
                (index, result) = first(&mut self.under_way), if !self.under_way.is_empty() => {
                    match result {
                        // The first attempt has had all the time that there is.
                        Err(error) if index > 0 && !error.is_final() => {
                            drop(self.under_way.remove(index));
                        }
                        Err(error) if !error.is_final() => {
                            let (_, ahead, _) = self.under_way.remove(index);
                            if self.address.is_none() && self.began < self.core.turn.count() {
                                // Another node may not be as it is.
                                self.begin();
                            } else {
                                self.core.turn.failed(ahead);
                                return Err(error);
                            }
                        }
                        result => return result,
                    }
                }
                () = sleep_until(self.next_at), if self.under_way.len() < AT_ONCE => {
                    self.next_at = Instant::now() + AFTER;
                    if !self.under_way.iter().any(|(heard, ..)| heard.anything()) {
                        self.begin();
                    }
                }
            }
        }
    }

    fn begin(&mut self) {
        if self.began > 0 {
            tracing::debug!(number = self.began + 1, "the server says nothing, so another attempt");
        }
        let ahead = self.ahead + self.began;
        self.began += 1;
        let heard = Heard::default();
        let connecting =
            connect_heard(self.core, self.address, ahead, Purpose::SignIn, heard.clone());
        self.under_way.push((heard, ahead, Box::pin(connecting)));
    }

    /// How many there were so far.
    pub(super) fn began(&self) -> usize {
        self.began
    }
}

/// Waits for the first that ends.
async fn first(
    under_way: &mut [(Heard, usize, Connecting<'_>)],
) -> (usize, Result<Link, ConnectError>) {
    std::future::poll_fn(|context| {
        for (index, (.., connecting)) in under_way.iter_mut().enumerate() {
            if let Poll::Ready(result) = connecting.as_mut().poll(context) {
                return Poll::Ready((index, result));
            }
        }
        Poll::Pending
    })
    .await
}
