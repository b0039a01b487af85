//! A mailbox that filled while its device was away: from the start of the connection to caughtUp.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use rand::{RngCore, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};

use super::{Common, Member, counting, nothing, random_bytes, register};
use crate::{
    device::Proof,
    error::{BenchError, Context, Result},
    live::Live,
    network::Resume,
    outcome::Outcome,
    uplink::Uplink,
};

/// Sends without an answer while the mailbox is filled, per sender.
const WINDOW: u16 = 32;
/// How long a mailbox may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the run is set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Messages in the mailbox.
    pub messages: u64,
    /// Conversations that they are in.
    pub conversations: usize,
    /// Whether the server is started again before the device comes, so that nothing is in its memory.
    pub restart: bool,
}

/// Runs it.
pub async fn run(common: &Common, settings: &Settings) -> Result<Outcome> {
    let Settings { messages, conversations, restart } = settings;
    let cold = if *restart { ", server restarted" } else { "" };
    let bytes = common.payload_bytes;
    let mut outcome = Outcome::new(
        "drain",
        format!("{messages} messages of {bytes} bytes in {conversations} conversations{cold}"),
    );
    let (mut server, mut network) = common.start().await?;
    let mut members = register(common, &network, conversations + 1).await?;
    let Some(Member { mut device, signed_in }) = members.pop() else {
        return Err(BenchError::new("nobody is there"));
    };
    signed_in.close();
    let payload = random_bytes(bytes);
    let step = common.progress.step("filling the mailbox", *messages);
    let filling_since = Instant::now();
    let mut senders = JoinSet::new();
    for (index, member) in members.into_iter().enumerate() {
        let live = Live::start(member.signed_in, nothing());
        let uplink = live.uplink(device.account()?, WINDOW).await?;
        let share = share(*messages, *conversations as u64, index as u64);
        let (payload, step) = (payload.clone(), step.clone());
        senders.spawn(async move {
            fill(uplink, index as u64, share, payload, || step.advance()).await?;
            live.check()
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended.context("a task failed")??;
    }
    let filled_in = filling_since.elapsed();
    drop(step);
    if *restart {
        server = server.restart().await?;
        network = common.network(&server)?;
    }

    let delivered = Arc::new(AtomicU64::new(0));
    let cpu_before = server.cpu_time()?;
    let connecting_since = Instant::now();
    let config = network.config(Resume::Never)?;
    let signed_in = device.sign_in(&network, config, Proof::Signature).await?;
    let counted = signed_in.welcome().mailbox;
    let mut live = Live::start(signed_in, counting(&delivered));
    let caught_up = tokio::time::timeout(PATIENCE, live.caught_up()).await;
    let (_, caught_up_at) = caught_up.context("the mailbox isn't drained")??;
    let cpu = server.cpu_time()? - cpu_before;
    live.check()?;
    let delivered = delivered.load(Relaxed);
    if delivered != *messages || counted.positions != *messages {
        return Err(BenchError::new(format!(
            "of {messages} messages {} were counted and {delivered} came",
            counted.positions
        )));
    }
    let took = caught_up_at - connecting_since;
    let per_s = *messages as f64;
    outcome.figure("drain_s", "connect to caught up", "s", took.as_secs_f64());
    outcome.figure("drained_per_s", "drained", "messages/s", per_s / took.as_secs_f64());
    outcome.figure("filled_per_s", "accepted while offline", "messages/s", {
        per_s / filled_in.as_secs_f64()
    });
    outcome.figure("server_cpu_ms", "server CPU of the drain", "ms", cpu.as_secs_f64() * 1e3);
    Ok(outcome)
}

/// What is left for this one when `total` is dealt out evenly.
fn share(total: u64, parts: u64, index: u64) -> u64 {
    total / parts + u64::from(index < total % parts)
}

async fn fill(
    mut uplink: Uplink,
    seed: u64,
    messages: u64,
    payload: Bytes,
    progress: impl Fn(),
) -> Result<()> {
    let mut ids = StdRng::seed_from_u64(seed);
    for _ in 0..messages {
        uplink.queue(ids.next_u64(), payload.clone());
    }
    let mut accepted = Vec::new();
    while !uplink.is_idle() {
        uplink.push().await?;
        uplink.answers(&mut accepted).await?;
        accepted.drain(..).for_each(|_| progress());
    }
    uplink.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for (total, parts) in [(10, 3), (9, 3), (2, 5)] {
            let shares: Vec<u64> = (0..parts).map(|index| share(total, parts, index)).collect();
            assert_eq!(shares.iter().sum::<u64>(), total);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}
