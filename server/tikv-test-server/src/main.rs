//! `tikv-test-server`: the test server as a process, to be used by hand and to be killed by tests.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command speaks through its standard streams"
)]

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use tern_tikv_test_server::{Options, TestServer, Tls};

/// A PD and a TiKV for tests, in one process.
///
/// Prints `pd on IP:PORT` once clients can connect; that address is the endpoint to give to a client. Serves until
/// it is interrupted, terminated or killed, none of which loses anything that was answered, if there is a folder.
#[derive(Debug, Parser)]
#[command(
    name = "tikv-test-server",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        tikv-test-server                                  in memory, at any free ports\n  \
        tikv-test-server --listen 127.0.0.1:2379 --data /tmp/tikv\n                                                    \
        what it holds survives its end, and so do its ports\n  \
        tikv-test-server --chaos 0.1 --seed 7             a tenth of all calls goes wrong somehow\n\n\
        It has no replicas and no security but TLS: nothing that matters belongs in it.\n\
        Exit codes: 0 it was told to end; 1 it couldn't start; 2 its options are wrong."
)]
struct Args {
    /// Where PD listens; the stores listen at the same address, at ports of their own. Port 0: the ports that
    /// the folder remembers, or free ones.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How many stores it plays. In a folder it is always the same number.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..1000))]
    stores: u64,
    /// The folder that holds what must survive. Without it everything is in memory.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Waits for the disk with every change, so that a power failure loses nothing either.
    #[arg(long, requires = "data")]
    sync: bool,
    /// The share of calls that go wrong, from 0 to 1: wrong leaders, splits, delays, lost and late requests and
    /// replies, resets.
    #[arg(long, value_name = "INTENSITY", default_value_t = 0.0, value_parser = share)]
    chaos: f64,
    /// Chooses which calls go wrong, and how. The same seed chooses the same.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The certificate of the authority that clients' certificates must be from, in PEM. Turns TLS on.
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key"])]
    ca: Option<PathBuf>,
    /// The server's certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "ca")]
    cert: Option<PathBuf>,
    /// The private key of the server's certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "ca")]
    key: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("tikv-test-server: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let tls = match (&args.ca, &args.cert, &args.key) {
        (Some(ca), Some(cert), Some(key)) => {
            Some(Tls { ca: read(ca)?, certificate: read(cert)?, key: read(key)? })
        }
        _ => None,
    };
    let server = TestServer::start(Options {
        listen: args.listen,
        stores: args.stores,
        folder: args.data.clone(),
        sync: args.sync,
        tls,
        ..Options::default()
    })
    .map_err(|error| error.to_string())?;
    server.chaos(args.seed, args.chaos);
    println!("pd on {}", server.pd_address());
    // Who reads the line may be waiting behind a pipe.
    io::stdout().flush().map_err(|error| error.to_string())?;
    wait().map_err(|error| error.to_string())
}

/// Waits until the process is told to end.
fn wait() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminated = signal(SignalKind::terminate())?;
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted,
                _ = terminated.recv() => Ok(()),
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("it must be a number from 0 to 1".to_owned()),
    }
}
