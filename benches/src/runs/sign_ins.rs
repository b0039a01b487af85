//! Sign-ins per second: in full, with a ticket on a resumed TLS session, and in 0-RTT data.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tern_netsim::report::Curve;
use tokio::{task::JoinSet, time::sleep};

use super::{Common, Spent, Usage, micros_each, register};
use crate::{
    device::{Device, Proof},
    error::{Context, Result},
    network::{Network, Resume},
    outcome::Outcome,
    progress::Progress,
    samples::Samples,
    server::ServerProcess,
};

/// How long a device stays after it has signed in.
const STAY: Duration = Duration::from_millis(100);

/// How the run is set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Devices that sign in, leave and sign in again.
    pub devices: usize,
    /// How long each way of signing in is measured.
    pub duration: Duration,
}

/// One way of signing in, and the names of its figures.
struct Way {
    proof: Proof,
    resume: Resume,
    label: &'static str,
    keys: [&'static str; 3],
    labels: [&'static str; 3],
}

const WAYS: [Way; 3] = [
    Way {
        proof: Proof::Signature,
        resume: Resume::Never,
        label: "full handshake and signature",
        keys: ["full_per_s", "full_cpu_us", "full_p50_ms"],
        labels: ["full handshake, signature", "server CPU of it", "time of it, p50"],
    },
    Way {
        proof: Proof::Ticket,
        resume: Resume::Session,
        label: "resumed TLS session and ticket",
        keys: ["ticket_per_s", "ticket_cpu_us", "ticket_p50_ms"],
        labels: ["resumed TLS, ticket", "server CPU of it", "time of it, p50"],
    },
    Way {
        proof: Proof::Ticket,
        resume: Resume::EarlyData,
        label: "ticket in 0-RTT data",
        keys: ["early_per_s", "early_cpu_us", "early_p50_ms"],
        labels: ["ticket in 0-RTT data", "server CPU of it", "time of it, p50"],
    },
];

/// Runs it.
pub async fn run(common: &Common, settings: &Settings) -> Result<Outcome> {
    let Settings { devices, duration } = settings;
    let mut outcome = Outcome::new(
        "sign-ins",
        format!("{devices} devices, each again and again for {duration:.0?}"),
    );
    let (server, network) = common.start().await?;
    let mut signing = Vec::new();
    for member in register(common, &network, *devices).await? {
        member.signed_in.close();
        signing.push(member.device);
    }
    for way in &WAYS {
        let measured =
            measure(&server, &network, common.progress, &mut signing, way, *duration).await?;
        let Measured { sign_ins, early, spent, samples } = measured;
        let sorted = samples.sort();
        let [per_s, cpu_us, p50_ms] = way.keys;
        let [label, cpu_label, p50_label] = way.labels;
        outcome.figure(per_s, label, "sign-ins/s", sign_ins as f64 / spent.seconds);
        outcome.figure(cpu_us, cpu_label, "µs", micros_each(spent.server, sign_ins));
        outcome.figure(p50_ms, p50_label, "ms", sorted.quantile_ms(0.5));
        outcome.curves.push(Curve { label: way.label.into(), points: sorted.curve() });
        if way.resume == Resume::EarlyData {
            let share = early as f64 / sign_ins as f64;
            outcome.figure("early_share", "of them really in 0-RTT data", "%", 100.0 * share);
            spent.note_others(&mut outcome);
        }
    }
    Ok(outcome)
}

struct Measured {
    sign_ins: u64,
    early: u64,
    spent: Spent,
    samples: Samples,
}

#[derive(Default)]
struct Counted {
    sign_ins: AtomicU64,
    early: AtomicU64,
    stop: AtomicBool,
    samples: Mutex<Samples>,
}

async fn measure(
    server: &ServerProcess,
    network: &Arc<Network>,
    progress: Progress,
    devices: &mut Vec<Device>,
    way: &'static Way,
    duration: Duration,
) -> Result<Measured> {
    let counted = Arc::new(Counted::default());
    let mut tasks = JoinSet::new();
    for device in devices.drain(..) {
        tasks.spawn(again_and_again(device, network.clone(), way, counted.clone()));
    }
    // Each device's first sign-in isn't of its kind yet, and the beginning is a burst.
    progress.wait("warming up", duration / 5).await;
    let moment = || -> Result<_> {
        let [sign_ins, early] = [&counted.sign_ins, &counted.early].map(|n| n.load(Relaxed));
        Ok((Usage::now(server)?, sign_ins, early))
    };
    let before = moment()?;
    progress.wait(&format!("measuring sign-ins: {}", way.label), duration).await;
    let after = moment()?;
    counted.stop.store(true, Relaxed);
    while let Some(ended) = tasks.join_next().await {
        devices.push(ended.context("a task failed")??);
    }
    let samples = counted.samples.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Measured {
        sign_ins: after.1 - before.1,
        early: after.2 - before.2,
        spent: after.0.since(&before.0),
        samples,
    })
}

async fn again_and_again(
    mut device: Device,
    network: Arc<Network>,
    way: &Way,
    counted: Arc<Counted>,
) -> Result<Device> {
    let config = network.config(way.resume)?;
    let mut samples = Samples::default();
    while !counted.stop.load(Relaxed) {
        let started = Instant::now();
        let signed_in = device.sign_in(&network, config.clone(), way.proof).await?;
        samples.add(started.elapsed());
        counted.sign_ins.fetch_add(1, Relaxed);
        if signed_in.was_early() {
            counted.early.fetch_add(1, Relaxed);
        }
        // A phone stays, and gets the TLS sessions for its next connections a moment after the
        // handshake. One that leaves at once would have none.
        sleep(STAY).await;
        signed_in.close();
    }
    counted.samples.lock().unwrap_or_else(PoisonError::into_inner).merge(&samples);
    Ok(device)
}
