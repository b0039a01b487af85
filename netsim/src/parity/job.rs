//! What is done, whatever the time.

use std::{future::Future, net::SocketAddr, time::Duration};

use serde::Serialize;
use tern_client::{AccountId, Client, ClientEvent, ConnectionState, Events};
use tokio::time::{Instant, timeout};

use super::ParityError;
use crate::sim::Credentials;

/// Questions and answers.
const TURNS: usize = 10;
/// Messages that are sent at once.
const MESSAGES: usize = 200;
/// Bytes of each.
const BYTES: usize = 2_000;
/// How long anything may take, in seconds. It's an error if it takes longer, and ends the job.
const PATIENCE_S: u64 = 120;

/// How long each part of the job took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Times {
    /// Ten messages and ten answers, one after the other.
    pub turns_ms: f64,
    /// 200 messages of 2,000 bytes, sent at once: until the last one is given to the other application.
    pub burst_ms: f64,
    /// From the first packet of a new process, which knows its account, to the sent tick of its first message.
    pub start_ms: f64,
}

impl Times {
    /// The names and values of the parts.
    pub fn parts(&self) -> [(&'static str, f64); 3] {
        [
            ("10 questions and answers", self.turns_ms),
            ("200 messages at once", self.burst_ms),
            ("cold start to the sent tick", self.start_ms),
        ]
    }

    pub(super) fn median(all: &[Self]) -> Self {
        let middle = |value: fn(&Self) -> f64| {
            let mut values: Vec<f64> = all.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        Self {
            turns_ms: middle(|times| times.turns_ms),
            burst_ms: middle(|times| times.burst_ms),
            start_ms: middle(|times| times.start_ms),
        }
    }
}

/// Where the job is done.
pub(super) trait Stage {
    /// Starts the client of phone 0 or 1, not connected.
    fn start(
        &mut self,
        phone: usize,
    ) -> impl Future<Output = Result<(Client, Events), ParityError>>;
    /// Where that phone finds the server.
    fn server(&self, phone: usize) -> SocketAddr;
    /// What clients trust.
    fn credentials(&self) -> &Credentials;
}

/// A client in use.
struct User {
    client: Client,
    events: Events,
    account: AccountId,
}

impl User {
    async fn new(stage: &mut impl Stage, phone: usize) -> Result<Self, ParityError> {
        let (client, events) = stage.start(phone).await?;
        let registration =
            stage.credentials().registration(stage.server(phone), ["asks", "answers"][phone % 2]);
        let account = client.register(registration).await?.account;
        client.connect();
        let mut user = Self { client, events, account };
        user.wait(|event| matches!(event, ClientEvent::Connection(ConnectionState::Connected)))
            .await?;
        Ok(user)
    }

    /// Takes events until one is what is waited for; messages are confirmed.
    async fn wait(&mut self, is_it: impl Fn(&ClientEvent) -> bool) -> Result<(), ParityError> {
        loop {
            let next = timeout(Duration::from_secs(PATIENCE_S), self.events.next());
            let event = next.await.map_err(|_| ParityError::Late(PATIENCE_S))?;
            let event = event.ok_or(ParityError::Gone)?;
            if let ClientEvent::Message(message) = &event {
                self.client.confirm([message.local]).await?;
            }
            if is_it(&event) {
                return Ok(());
            }
        }
    }

    async fn wait_for_message(&mut self) -> Result<(), ParityError> {
        self.wait(|event| matches!(event, ClientEvent::Message(_))).await
    }
}

/// Does the job.
pub(super) async fn run(stage: &mut impl Stage) -> Result<Times, ParityError> {
    let mut one = User::new(stage, 0).await?;
    let mut other = User::new(stage, 1).await?;
    // The first message makes the conversation, and streams.
    turn(&mut one, &mut other).await?;

    let started = Instant::now();
    for _ in 0..TURNS {
        turn(&mut one, &mut other).await?;
    }
    let turns_ms = ms(started);

    let text = vec![b'.'; BYTES];
    let started = Instant::now();
    let account = other.account;
    let send = async {
        for _ in 0..MESSAGES {
            one.client.send(account, &text).await?;
        }
        Ok::<_, ParityError>(())
    };
    let receive = async {
        for _ in 0..MESSAGES {
            other.wait_for_message().await?;
        }
        Ok(ms(started))
    };
    let ((), burst_ms) = tokio::try_join!(send, receive)?;

    one.client.shutdown().await;
    drop(one);
    let (client, events) = stage.start(0).await?;
    let mut one = User { client, events, account: other.account };
    let started = Instant::now();
    one.client.connect();
    one.client.send(other.account, b"back").await?;
    one.wait(|event| matches!(event, ClientEvent::Sent { .. })).await?;
    let start_ms = ms(started);
    one.client.shutdown().await;
    other.client.shutdown().await;
    Ok(Times { turns_ms, burst_ms, start_ms })
}

/// A question and an answer.
async fn turn(one: &mut User, other: &mut User) -> Result<(), ParityError> {
    one.client.send(other.account, b"question").await?;
    other.wait_for_message().await?;
    other.client.send(one.account, b"answer").await?;
    one.wait_for_message().await
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
