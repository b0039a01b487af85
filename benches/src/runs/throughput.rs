//! Accepted messages per second with fsync on: closed loop, a window of unanswered sends per pair.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use rand::{RngCore, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use super::{Common, Pair, Usage, counting, micros_each, pairs, random_bytes, until};
use crate::{
    error::{Context, Result},
    outcome::Outcome,
    server::ServerProcess,
    uplink::Uplink,
};

/// How the run is set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Pairs of devices.
    pub pairs: usize,
    /// Sends without an answer, per pair.
    pub window: u16,
    /// How long is measured.
    pub duration: Duration,
    /// How long it runs before.
    pub warm_up: Duration,
}

/// Runs it.
pub async fn run(common: &Common, settings: &Settings) -> Result<Outcome> {
    let Settings { pairs: count, window, duration, warm_up } = settings;
    let payload = random_bytes(common.payload_bytes);
    let mut outcome = Outcome::new(
        "throughput",
        format!("{count} pairs, window {window}, {} bytes, {:.0?}", common.payload_bytes, duration),
    );
    let (server, network) = common.start().await?;
    let counted = Arc::new(Counted::default());
    let pairs = pairs(common, &network, *count, |_| counting(&counted.delivered)).await?;
    let mut senders = JoinSet::new();
    for (index, pair) in pairs.iter().enumerate() {
        let uplink = pair.sender.uplink(pair.receiver.account(), *window).await?;
        let (counted, payload) = (counted.clone(), payload.clone());
        senders.spawn(send(uplink, index as u64, *window, payload, counted));
    }
    common.progress.wait("warming up", *warm_up).await;
    let before = Moment::now(&server, &counted)?;
    common.progress.wait("measuring throughput", *duration).await;
    let after = Moment::now(&server, &counted)?;
    counted.stop.store(true, Relaxed);
    while let Some(ended) = senders.join_next().await {
        ended.context("a task failed")??;
    }
    // Whatever was accepted must arrive, or the figures are of a server that loses messages.
    let all_delivered = || counted.delivered.load(Relaxed) >= counted.accepted.load(Relaxed);
    until("the last delivery", all_delivered, || pairs.iter().try_for_each(Pair::check)).await?;

    let spent = after.usage.since(&before.usage);
    let seconds = spent.seconds;
    let accepted = after.accepted - before.accepted;
    let delivered = after.delivered - before.delivered;
    outcome.figure("accepted_per_s", "accepted", "messages/s", accepted as f64 / seconds);
    outcome.figure("delivered_per_s", "delivered", "messages/s", delivered as f64 / seconds);
    let each = micros_each(spent.server, accepted);
    outcome.figure("server_cpu_us", "server CPU per message", "µs", each);
    let cores = |cpu: Duration| cpu.as_secs_f64() / seconds;
    outcome.figure("server_cores", "server CPU", "cores", cores(spent.server));
    outcome.figure("generator_cores", "load generator CPU", "cores", cores(spent.own));
    spent.note_others(&mut outcome);
    let refusals = counted.refusals.load(Relaxed);
    if refusals > 0 {
        outcome.notes.push(format!("{refusals} sends were refused for now and sent again"));
    }
    Ok(outcome)
}

#[derive(Default)]
struct Counted {
    accepted: AtomicU64,
    delivered: Arc<AtomicU64>,
    refusals: AtomicU64,
    stop: AtomicBool,
}

struct Moment {
    usage: Usage,
    accepted: u64,
    delivered: u64,
}

impl Moment {
    fn now(server: &ServerProcess, counted: &Counted) -> Result<Self> {
        Ok(Self {
            usage: Usage::now(server)?,
            accepted: counted.accepted.load(Relaxed),
            delivered: counted.delivered.load(Relaxed),
        })
    }
}

/// Keeps the window full until it is time to stop, then waits for the last answers.
async fn send(
    mut uplink: Uplink,
    seed: u64,
    window: u16,
    payload: Bytes,
    counted: Arc<Counted>,
) -> Result<()> {
    let mut ids = StdRng::seed_from_u64(seed);
    for _ in 0..window {
        uplink.queue(ids.next_u64(), payload.clone());
    }
    let mut accepted = Vec::new();
    while !uplink.is_idle() {
        uplink.push().await?;
        uplink.answers(&mut accepted).await?;
        counted.accepted.fetch_add(accepted.len() as u64, Relaxed);
        for _ in accepted.drain(..) {
            if !counted.stop.load(Relaxed) {
                uplink.queue(ids.next_u64(), payload.clone());
            }
        }
    }
    counted.refusals.fetch_add(uplink.refusals(), Relaxed);
    uplink.finish();
    Ok(())
}
