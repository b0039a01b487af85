//! Send to delivery at a fixed rate: open loop. A message is due at a moment that doesn't depend on
//! how the ones before it fared, and its latency counts from that moment; so a stall of the server, or
//! of the load generator, shows in full.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use tern_netsim::report::Curve;
use tern_protocol::frame::Deliver;
use tokio::{sync::mpsc, task::JoinSet};

use super::{Common, Pair, Usage, micros_each, pairs, random_bytes, until};
use crate::{
    error::{BenchError, Context, Result},
    outcome::Outcome,
    samples::Samples,
    uplink::Uplink,
};

/// Sends without an answer, per pair: more than ever happens unless the server stalls.
const WINDOW: u16 = 64;
/// Bytes at the start of an envelope that say when the message was due.
const STAMP_BYTES: usize = 8;

/// How the run is set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Messages per second, over all pairs.
    pub rate_per_s: u64,
    /// Pairs of devices.
    pub pairs: usize,
    /// How long is measured.
    pub duration: Duration,
    /// How long it runs before.
    pub warm_up: Duration,
}

/// Runs it.
pub async fn run(common: &Common, settings: &Settings) -> Result<Outcome> {
    let Settings { rate_per_s, pairs: count, duration, warm_up } = settings;
    let mut outcome = Outcome::new(
        "latency",
        format!(
            "{rate_per_s} messages/s over {count} pairs, {} bytes, {duration:.0?}",
            common.payload_bytes
        ),
    );
    let (server, network) = common.start().await?;
    let clock = Clock { zero: Instant::now(), first_ns: Arc::default() };
    let delivered = Arc::new(Recorder::new(&clock));
    let accepted = Arc::new(Recorder::new(&clock));
    let pairs = pairs(common, &network, *count, |_| {
        let delivered = delivered.clone();
        Arc::new(move |deliver: &Deliver| {
            if let Some(due_ns) = stamp(&deliver.envelope.0) {
                delivered.record(due_ns);
            }
        })
    })
    .await?;
    let mut senders = JoinSet::new();
    let mut due = Vec::new();
    for pair in &pairs {
        let uplink = pair.sender.uplink(pair.receiver.account(), WINDOW).await?;
        let (tell, told) = mpsc::unbounded_channel();
        due.push(tell);
        let rest = random_bytes(common.payload_bytes.saturating_sub(STAMP_BYTES));
        senders.spawn(send(uplink, told, rest, accepted.clone()));
    }
    let warm_up_sends = warm_up.as_millis() as u64 * rate_per_s / 1_000;
    let sends = duration.as_millis() as u64 * rate_per_s / 1_000;
    let pacer = {
        let (clock, rate_per_s) = (clock.clone(), *rate_per_s);
        std::thread::spawn(move || pace(&clock, rate_per_s, warm_up_sends, sends, &due))
    };
    common.progress.wait("warming up", *warm_up).await;
    let before = Usage::now(&server)?;
    common.progress.wait("measuring latency", *duration).await;
    let spent = Usage::now(&server)?.since(&before);
    while let Some(ended) = senders.join_next().await {
        ended.context("a task failed")??;
    }
    pacer.join().map_err(|_| BenchError::new("the pacer failed"))?;
    let all = || delivered.lock().len() as u64 >= sends;
    until("the last delivery", all, || pairs.iter().try_for_each(Pair::check)).await?;

    let delivered = delivered.lock().clone().sort();
    for (key, label, share) in [
        ("p50_ms", "send to delivery, p50", 0.5),
        ("p90_ms", "send to delivery, p90", 0.9),
        ("p99_ms", "send to delivery, p99", 0.99),
        ("p999_ms", "send to delivery, p99.9", 0.999),
        ("max_ms", "send to delivery, worst", 1.0),
    ] {
        outcome.figure(key, label, "ms", delivered.quantile_ms(share));
    }
    let accepted = accepted.lock().clone().sort();
    outcome.figure("sent_p50_ms", "send to sent tick, p50", "ms", accepted.quantile_ms(0.5));
    outcome.figure("sent_p99_ms", "send to sent tick, p99", "ms", accepted.quantile_ms(0.99));
    outcome.figure(
        "server_cpu_us",
        "server CPU per message",
        "µs",
        micros_each(spent.server, sends),
    );
    let own_cpu_us = micros_each(spent.own, sends);
    outcome.figure("generator_cpu_us", "load generator CPU per message", "µs", own_cpu_us);
    spent.note_others(&mut outcome);
    outcome.curves.push(Curve { label: "send to delivery".into(), points: delivered.curve() });
    outcome.curves.push(Curve { label: "send to sent tick".into(), points: accepted.curve() });
    Ok(outcome)
}

/// Nanoseconds since the run began; what was due before `first_ns` was the warm-up.
#[derive(Clone)]
struct Clock {
    zero: Instant,
    first_ns: Arc<AtomicU64>,
}

struct Recorder {
    clock: Clock,
    samples: Mutex<Samples>,
}

impl Recorder {
    fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), samples: Mutex::default() }
    }

    fn record(&self, due_ns: u64) {
        if due_ns >= self.clock.first_ns.load(Relaxed) {
            let took = self.clock.zero.elapsed().saturating_sub(Duration::from_nanos(due_ns));
            self.lock().add(took);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Samples> {
        // A list of numbers is whole between two calls.
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says to each pair in turn when its next message is due. A thread of its own, since tokio's timers
/// have a grain of a millisecond.
fn pace(
    clock: &Clock,
    rate_per_s: u64,
    warm_up: u64,
    sends: u64,
    pairs: &[mpsc::UnboundedSender<u64>],
) {
    let start = clock.zero.elapsed();
    let due = |number: u64| start + Duration::from_nanos(number * 1_000_000_000 / rate_per_s);
    clock.first_ns.store(due(warm_up).as_nanos() as u64, Relaxed);
    for number in 0..warm_up + sends {
        let due = due(number);
        std::thread::sleep(due.saturating_sub(clock.zero.elapsed()));
        // An error means that the run was given up.
        let _ = pairs[number as usize % pairs.len()].send(due.as_nanos() as u64);
    }
}

async fn send(
    mut uplink: Uplink,
    mut due: mpsc::UnboundedReceiver<u64>,
    rest: Bytes,
    recorder: Arc<Recorder>,
) -> Result<()> {
    let mut accepted = Vec::new();
    let mut ended = false;
    while !ended || !uplink.is_idle() {
        tokio::select! {
            biased;
            answered = uplink.answers(&mut accepted), if !uplink.is_idle() => {
                answered?;
                // The id of a message is the moment at which it is due: no two are due at once.
                accepted.drain(..).for_each(|due_ns| recorder.record(due_ns));
                uplink.push().await?;
            }
            next = due.recv(), if !ended => match next {
                Some(due_ns) => {
                    let mut envelope = BytesMut::with_capacity(STAMP_BYTES + rest.len());
                    envelope.put_u64_le(due_ns);
                    envelope.extend_from_slice(&rest);
                    uplink.queue(due_ns, envelope.freeze());
                    uplink.push().await?;
                }
                None => ended = true,
            },
        }
    }
    uplink.finish();
    Ok(())
}

fn stamp(envelope: &[u8]) -> Option<u64> {
    envelope.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
