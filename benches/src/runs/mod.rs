//! The runs. Each starts a server of its own with empty data and gives figures.

pub mod drain;
pub mod idle;
pub mod latency;
pub mod sign_ins;
pub mod throughput;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rand::{RngCore, SeedableRng, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    device::{Device, SignedIn},
    error::{BenchError, Context, Result},
    live::{Live, OnDelivery},
    network::Network,
    outcome::Outcome,
    process,
    progress::{Progress, Step},
    server::{ServerProcess, ServerSettings},
};

/// Registrations and sign-ins that are in progress at once while a run is prepared.
const AT_ONCE: usize = 64;
/// How long the last messages may take to arrive after a run.
const LAST_MESSAGES: Duration = Duration::from_secs(60);
/// Between two looks whether something has happened.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What all runs need.
#[derive(Debug, Clone)]
pub struct Common {
    /// How the server is started.
    pub server: ServerSettings,
    /// Sockets of the load generator.
    pub sockets: usize,
    /// Bytes of an envelope.
    pub payload_bytes: usize,
    /// Where progress is shown.
    pub progress: Progress,
}

impl Common {
    /// Starts a server and opens the sockets.
    async fn start(&self) -> Result<(ServerProcess, Arc<Network>)> {
        let server = ServerProcess::start(&self.server).await?;
        let network = self.network(&server)?;
        Ok((server, network))
    }

    fn network(&self, server: &ServerProcess) -> Result<Arc<Network>> {
        Network::new(server.address(), server.ca_pem(), self.sockets).map(Arc::new)
    }
}

/// A device and its connection.
struct Member {
    device: Device,
    signed_in: SignedIn,
}

/// Registers `count` devices, each with an account of its own; they stay connected.
async fn register(common: &Common, network: &Arc<Network>, count: usize) -> Result<Vec<Member>> {
    let step = common.progress.step(&format!("registering {count} devices"), count as u64);
    each(0..count, &step, |number| {
        let network = network.clone();
        async move {
            let (device, signed_in) = Device::register(&network, number).await?;
            Ok(Member { device, signed_in })
        }
    })
    .await
}

/// Does something for each input, many at a time; the results are in the order of the inputs.
async fn each<I, T, F>(
    inputs: impl IntoIterator<Item = I>,
    step: &Step,
    make: impl Fn(I) -> F,
) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut results = Vec::new();
    let mut tasks = JoinSet::new();
    let mut inputs = inputs.into_iter().enumerate();
    loop {
        while tasks.len() < AT_ONCE
            && let Some((index, input)) = inputs.next()
        {
            let done = make(input);
            tasks.spawn(async move { (index, done.await) });
        }
        let Some(ended) = tasks.join_next().await else { break };
        let (index, result) = ended.context("a task failed")?;
        results.push((index, result?));
        step.advance();
    }
    results.sort_by_key(|&(index, _)| index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Two devices that talk: one sends, the other gets.
struct Pair {
    sender: Live,
    receiver: Live,
}

impl Pair {
    fn check(&self) -> Result<()> {
        self.sender.check()?;
        self.receiver.check()
    }
}

/// Registers pairs. `on_delivery` makes what a receiver does with each message.
async fn pairs(
    common: &Common,
    network: &Arc<Network>,
    count: usize,
    mut on_delivery: impl FnMut(usize) -> OnDelivery,
) -> Result<Vec<Pair>> {
    let mut members = register(common, network, 2 * count).await?.into_iter();
    let mut pairs = Vec::new();
    while let (Some(sender), Some(receiver)) = (members.next(), members.next()) {
        let receiver = Live::start(receiver.signed_in, on_delivery(pairs.len()));
        let sender = Live::start(sender.signed_in, nothing());
        pairs.push(Pair { sender, receiver });
    }
    Ok(pairs)
}

/// Does nothing with a message.
fn nothing() -> OnDelivery {
    Arc::new(|_| {})
}

/// Counts messages.
fn counting(count: &Arc<AtomicU64>) -> OnDelivery {
    let count = count.clone();
    Arc::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    })
}

/// Waits until a condition holds, and fails with what `check` says or after a minute.
async fn until(
    what: &str,
    mut done: impl FnMut() -> bool,
    mut check: impl FnMut() -> Result<()>,
) -> Result<()> {
    let end = Instant::now() + LAST_MESSAGES;
    while !done() {
        check()?;
        if Instant::now() > end {
            return Err(BenchError::new(format!("{what} took longer than a minute")));
        }
        sleep(LOOK_EVERY).await;
    }
    check()
}

/// What was used up to a moment.
struct Usage {
    at: Instant,
    server: Duration,
    own: Duration,
    machine: Duration,
}

impl Usage {
    fn now(server: &ServerProcess) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            server: server.cpu_time()?,
            own: process::cpu_time(std::process::id())?,
            machine: process::machine_cpu_time()?,
        })
    }

    fn since(&self, before: &Self) -> Spent {
        let server = self.server.saturating_sub(before.server);
        let own = self.own.saturating_sub(before.own);
        let others = self.machine.saturating_sub(before.machine).saturating_sub(server + own);
        Spent { seconds: (self.at - before.at).as_secs_f64(), server, own, others }
    }
}

/// What was used between two moments.
struct Spent {
    seconds: f64,
    /// By the server.
    server: Duration,
    /// By the load generator.
    own: Duration,
    /// By everything else on the machine. It distorts the figures, so it stands beside them.
    others: Duration,
}

impl Spent {
    fn note_others(&self, outcome: &mut Outcome) {
        let cores = self.others.as_secs_f64() / self.seconds;
        outcome.figure("others_cores", "CPU of everything else", "cores", cores);
    }
}

/// Random bytes: envelopes are encrypted, so nothing can be saved by compressing them.
fn random_bytes(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    StdRng::from_os_rng().fill_bytes(&mut bytes);
    bytes.into()
}

/// Duration per piece, in microseconds.
fn micros_each(total: Duration, count: u64) -> f64 {
    total.as_secs_f64() * 1e6 / count as f64
}
