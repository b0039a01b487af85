//! The Tern server's command: reads the configuration, opens the store, serves until it is told to
//! stop.

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use tern_server::{
    across,
    admin::{Admin, Desk, InviteMaker},
    backend::{self, Backend, Upkeep},
    clock::Clock,
    config::{self, Config, Flags, LogFormat, RegistrationPolicy},
    random::Random,
    server::{Outside, Server},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How often the store's health is looked at.
const HEALTH_EVERY: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let flags = Flags::parse();
    match start(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(io::stderr(), &format!("tern-server: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line at once. Whoever reads our output may be gone; that must not stop the server.
fn say(mut to: impl Write, line: &str) {
    let _ = writeln!(to, "{line}");
    let _ = to.flush();
}

fn start(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let config = config::load(flags, std::env::vars_os())?;
    if flags.print_config {
        say(io::stdout(), config.to_commented_toml().trim_end());
        return Ok(());
    }
    if flags.check_config {
        say(io::stdout(), "the configuration is good");
        return Ok(());
    }
    log_to_stderr(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config))
}

fn log_to_stderr(config: &Config) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_new(&config.log.filter)
        .map_err(|error| format!("log.filter = {:?}: {error}", config.log.filter))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match config.log.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

async fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (clock, random) = (Clock::system(), Random::system());
    let Backend { store, health, upkeep } = backend::open(&config, &random).await?;
    let cluster = across::Outside::open(&config, clock)?;
    let outside =
        Outside { store: store.clone(), clock, random: random.clone(), endpoint: None, cluster };
    let server = Server::start(config.clone(), outside).await?;

    let upkeep = upkeep.map(|upkeep| tokio::spawn(keep_up(upkeep, server.does_for_all())));

    let serving = Arc::new(AtomicBool::new(true));
    let (stop_admin, admin_stopped) = tokio::sync::oneshot::channel::<()>();
    let mut admin_address = None;
    let admin = if config.admin.enabled {
        let (healthy, ready, serves) = (health.clone(), serving.clone(), server.serves());
        let desk = Desk {
            metrics: server.metrics().clone(),
            healthy: Box::new(move || healthy()),
            ready: Box::new(move || match ready.load(Ordering::Relaxed) {
                true if serves() => Ok(()),
                true => Err("suspended: the node can't renew its record in the store".to_owned()),
                false => Err("draining".to_owned()),
            }),
            invites: (config.registration.policy == RegistrationPolicy::Invite).then(|| {
                InviteMaker {
                    store: store.clone(),
                    random,
                    clock,
                    valid_for_ms: config.registration.invite_valid_for_ms,
                }
            }),
        };
        let admin = Admin::bind(&config.admin, desk).await?;
        admin_address = Some(admin.address());
        Some(tokio::spawn(admin.serve(async { drop(admin_stopped.await) })))
    } else {
        None
    };

    say(io::stdout(), &format!("listening on {}", server.address()));
    if let Some(address) = admin_address {
        say(io::stdout(), &format!("admin on {address}"));
    }
    say(io::stdout(), &next_commands(&config, &server));

    let mut look = tokio::time::interval(HEALTH_EVERY);
    let mut fenced = std::pin::pin!(server.fenced());
    let end = loop {
        tokio::select! {
            _ = hang_up.recv() => server.reload(),
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            () = &mut fenced => {
                // Its messages are in the store, and its devices find another node; started anew, it is a new node.
                break Err("the other nodes hold this one for dead".to_owned());
            }
            _ = look.tick() => {
                if let Err(error) = health() {
                    // Nothing can be promised any more: end at once, and let whoever supervises the
                    // process start it again, which reads back what is durable.
                    break Err(format!("the store has failed: {error}"));
                }
            }
        }
    };
    if let Some(upkeep) = upkeep {
        upkeep.abort();
    }
    if let Err(error) = end {
        return Err(error.into());
    }
    tracing::info!(within_ms = config.drain.within_ms, "stopping");
    serving.store(false, Ordering::Relaxed);
    server.stop().await;
    drop(stop_admin);
    if let Some(admin) = admin {
        admin.await?;
    }
    // The last handle: returns when what was committed is on the disk.
    drop((store, health));
    tracing::info!("stopped");
    Ok(())
}

/// Does what the store needs, on one node at a time.
async fn keep_up(upkeep: Upkeep, is_our_turn: impl Fn() -> bool) {
    loop {
        tokio::time::sleep(upkeep.every()).await;
        if is_our_turn()
            && let Err(error) = upkeep.run().await
        {
            tracing::warn!(%error, "old versions stay in the store for now");
        }
    }
}

/// What somebody who has just started a server types next.
fn next_commands(config: &Config, server: &Server) -> String {
    let mut address = server.address();
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let ca = match &config.tls.cert_file {
        Some(_) => "YOUR-CA.pem".to_owned(),
        None => config.in_data_dir("ca.pem").display().to_string(),
    };
    let registration = match config.registration.policy {
        RegistrationPolicy::Closed => {
            return "\nRegistration is closed: only devices that are registered can sign in."
                .into();
        }
        RegistrationPolicy::Open => "",
        RegistrationPolicy::Invite => " --invite TOKEN",
        RegistrationPolicy::Token => " --token JWT",
    };
    let tern = "cargo run --release -p tern-client --";
    format!(
        "\nIn two other terminals, register ann and bob and let them talk:\n\n  \
         {tern} --home ann --server {address} --ca {ca} register ann{registration}\n  \
         {tern} --home bob --server {address} --ca {ca} register bob{registration}\n  \
         {tern} --home ann chat bob\n  \
         {tern} --home bob chat ann\n"
    )
}
