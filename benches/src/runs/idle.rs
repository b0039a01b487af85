//! Memory of the server per connection: idle, after each device has sent and got a message, and after
//! the streams of these messages were closed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{Common, counting, each, random_bytes, register, until};
use crate::{
    device::Proof, error::Result, live::Live, network::Resume, outcome::Outcome,
    server::ServerProcess,
};

/// How the run is set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connections; an even number, since each device writes to another.
    pub connections: usize,
    /// How long the server is left alone before its memory is read.
    pub settle: Duration,
    /// How much longer than the server's time for idle streams is waited for their end.
    pub wait_for_streams: bool,
}

/// Runs it.
pub async fn run(common: &Common, settings: &Settings) -> Result<Outcome> {
    let connections = settings.connections.next_multiple_of(2);
    let bytes = common.payload_bytes;
    let mut outcome = Outcome::new(
        "idle",
        format!("{connections} connections, then one message of {bytes} bytes from and to each"),
    );
    let (server, network) = common.start().await?;
    let members = register(common, &network, connections).await?;
    let devices: Vec<_> = members
        .into_iter()
        .map(|member| {
            member.signed_in.close();
            member.device
        })
        .collect();
    network.wait_idle().await;
    // What the registrations have left in the server's allocator would hide what connections need.
    let server = server.restart().await?;
    let network = common.network(&server)?;
    common.progress.wait("letting the server settle", settings.settle).await;
    let before = server.rss_kib()?;

    let got = Arc::new(AtomicU64::new(0));
    let step =
        common.progress.step(&format!("signing {connections} devices in"), connections as u64);
    let lives = each(devices, &step, |mut device| {
        let (network, got) = (network.clone(), got.clone());
        async move {
            let config = network.config(Resume::Never)?;
            let signed_in = device.sign_in(&network, config, Proof::Signature).await?;
            Ok(Live::start(signed_in, counting(&got)))
        }
    })
    .await?;
    drop(step);
    common.progress.wait("letting the server settle", settings.settle).await;
    let per_connection = |server: &ServerProcess| -> Result<f64> {
        Ok(server.rss_kib()?.saturating_sub(before) as f64 / connections as f64)
    };
    let cpu_before = server.cpu_time()?;
    common.progress.wait("watching idle connections", settings.settle).await;
    let cpu = server.cpu_time()? - cpu_before;
    outcome.figure("before_kib", "server before", "KiB", before as f64);
    outcome.figure("idle_kib", "idle", "KiB/connection", per_connection(&server)?);
    let cores = cpu.as_secs_f64() / settings.settle.as_secs_f64();
    outcome.figure("idle_cores", "server CPU while idle", "cores", cores);

    let lives = Arc::new(lives);
    let payload = random_bytes(bytes);
    let step = common.progress.step("sending a message each", connections as u64);
    let uplinks = each(0..connections, &step, |index| {
        let (lives, payload) = (lives.clone(), payload.clone());
        async move {
            let peer = lives[index ^ 1].account();
            let mut uplink = lives[index].uplink(peer, 1).await?;
            uplink.queue(index as u64 + 1, payload);
            uplink.push().await?;
            let mut accepted = Vec::new();
            while !uplink.is_idle() {
                uplink.answers(&mut accepted).await?;
            }
            Ok(uplink)
        }
    })
    .await?;
    drop(step);
    let all = || got.load(Relaxed) >= connections as u64;
    until("the last delivery", all, || lives.iter().try_for_each(Live::check)).await?;
    common.progress.wait("letting the server settle", settings.settle).await;
    outcome.figure(
        "streams_open_kib",
        "after a message each, streams open",
        "KiB/connection",
        per_connection(&server)?,
    );
    if settings.wait_for_streams {
        for mut uplink in uplinks {
            uplink.finish();
        }
        let idle = lives.first().map_or(0, |live| live.welcome().limits.stream_idle_for_ms);
        let wait = Duration::from_millis(u64::from(idle)) + settings.settle;
        common.progress.wait("waiting for idle streams to be closed", wait).await;
        outcome.figure(
            "streams_closed_kib",
            "after a message each, streams closed",
            "KiB/connection",
            per_connection(&server)?,
        );
    }
    lives.iter().try_for_each(Live::check)?;
    Ok(outcome)
}
