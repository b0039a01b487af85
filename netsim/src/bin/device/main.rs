//! `tern-netsim-device`: a device under load, to be killed at any moment.
//!
//! `tern-netsim-device HOME JOURNAL RUN PEER…` opens a registered home and sends to the accounts PEER,
//! marks as read, and writes all that it asks for, is given and is told to the journal. RUN is a number
//! that no other run of any device has; it seeds the choices and makes the texts unique.
//!
//! It obeys lines on standard input, and says how it stands as JSON objects on standard output:
//! `network` (the network has changed), `settle` (send nothing more; from then on say how far everything
//! is, whenever that changes), `finish` (record the store, leave).

mod orders;
mod standing;

use std::{env, error::Error, path::PathBuf, process::ExitCode, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tern_client::{AccountId, Client, ClientEvent, ConnectionState, Settings};
use tern_netsim::{app::App, journal::Writer};
use tokio::time::{Instant, sleep_until};

use crate::orders::{Order, orders};

/// The longest pause between two messages, unless `TERN_DEVICE_PAUSE_MS` says another.
const PAUSE_MS: u64 = 120;
/// How often to look how everything stands, while it settles.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::new("info,tern_client=debug");
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match Box::pin(run()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the device gives up");
            ExitCode::FAILURE
        }
    }
}

struct Args {
    home: PathBuf,
    journal: PathBuf,
    run: u64,
    peers: Vec<AccountId>,
}

fn args() -> Result<Args, Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let mut next = || args.next().ok_or("usage: tern-netsim-device HOME JOURNAL RUN PEER…");
    let (home, journal, run) = (next()?.into(), next()?.into(), next()?.parse()?);
    let peers = args.map(|peer| peer.parse()).collect::<Result<_, _>>()?;
    Ok(Args { home, journal, run, peers })
}

async fn run() -> Result<(), Box<dyn Error>> {
    let args = args()?;
    let journal = Writer::open(&args.journal)?;
    let (client, mut events) = Client::open(&args.home, Settings::default()).await?;
    let mut rng = StdRng::seed_from_u64(args.run);
    let mut app = App::start(client.clone(), journal, args.run, args.peers).await?;
    client.connect();
    let mut orders = orders();
    let mut is_settling = false;
    let mut next = Instant::now();
    let pause_ms = match env::var("TERN_DEVICE_PAUSE_MS") {
        Ok(pause_ms) => pause_ms.parse::<u64>()?.max(1),
        Err(_) => PAUSE_MS,
    };
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Network) => client.network_changed().await,
                Some(Order::Settle) => {
                    is_settling = true;
                    app.read_all().await?;
                }
                Some(Order::Finish) => break,
                // Whoever gives the orders is gone.
                None => return Ok(()),
            },
            event = events.next() => match event {
                Some(ClientEvent::Connection(ConnectionState::Stopped { error })) => {
                    return Err(error.into());
                }
                Some(ClientEvent::Connection(state)) => tracing::info!(?state, "connection"),
                Some(event) => {
                    let reads = is_settling || rng.random_bool(0.3);
                    app.take(event, reads).await?;
                }
                None => return Err("the client is gone".into()),
            },
            () = sleep_until(next) => {
                next = Instant::now();
                if is_settling {
                    standing::say(&client).await?;
                    next += LOOK_EVERY;
                } else {
                    app.send(&mut rng).await?;
                    next += Duration::from_millis(rng.random_range(0..pause_ms));
                }
            }
        }
    }
    client.shutdown().await;
    app.record_store().await?;
    Ok(())
}
