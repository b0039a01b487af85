//! `tern-netsim proxy`: a bad network between a client and a server, in real time.

use std::{io, net::SocketAddr, time::Duration};

use tern_netsim::{
    lateness::LatenessSummary,
    link::{Counts, Tally},
    path::{PathSettings, Rebind},
    proxy::{DEFAULT_MAX_FLOWS, Proxy, ProxySettings, Report},
};

use crate::{
    failure::{Failure, print_json, print_text, say},
    path_options::PathOptions,
};

/// Carry UDP between clients and a server, as badly as a path does.
///
/// Any client of QUIC can be sent through it; it only needs the proxy's address instead of the server's. Each
/// client address has a path of its own.
///
/// Prints "proxy on IP:PORT" when it is ready, and what became of the packets at the end, which is Ctrl-C,
/// SIGTERM, or the end of --for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tern-netsim proxy --to 127.0.0.1:4433 --profile lte\n  \
    tern-netsim proxy --to 127.0.0.1:4433 --profile lte --down 'loss={p=0.04,r=0.25}' --rebind-every 10\n  \
    tern-netsim proxy --to 127.0.0.1:4433 --down trace=FILE.down --up trace=FILE.up,delay_ms=20")]
pub(crate) struct Args {
    /// Where clients send to.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The server.
    #[arg(long, value_name = "ADDR")]
    to: SocketAddr,
    #[command(flatten)]
    path: PathOptions,
    /// Give each client a new port that the server sees, once, after so many seconds.
    #[arg(long, value_name = "S", help_heading = "The path")]
    rebind_after: Option<f64>,
    /// The same every so many seconds, the first time after --rebind-after if that is given.
    #[arg(long, value_name = "S", help_heading = "The path")]
    rebind_every: Option<f64>,
    /// Change the address, too: 127.0.0.1 to 127.0.0.254 in turn. Only towards a server on 127.0.0.0/8.
    #[arg(long, help_heading = "The path")]
    rebind_address: bool,
    /// How many clients are served; for one more, the one that has been quiet for longest is forgotten.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_FLOWS)]
    max_flows: usize,
    /// End after so many seconds.
    #[arg(long = "for", value_name = "S")]
    for_s: Option<f64>,
    /// Print lines of JSON: {"proxy": "IP:PORT"} and at the end the counts.
    #[arg(long)]
    json: bool,
}

impl Args {
    fn path(&self) -> Result<PathSettings, Failure> {
        let mut path = self.path.settings()?;
        if let Some(first_s) = self.rebind_after.or(self.rebind_every) {
            let every_ms = self.rebind_every.map(|s| s * 1e3);
            path.rebind = Some(Rebind { first_ms: first_s * 1e3, every_ms, address: false });
        }
        match &mut path.rebind {
            Some(rebind) => rebind.address |= self.rebind_address,
            None if self.rebind_address => {
                let text = "--rebind-address needs --rebind-after or --rebind-every";
                return Err(Failure::Asked(text.to_owned()));
            }
            None => {}
        }
        Ok(path)
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let path = args.path()?;
    let until = args.for_s.map(Duration::try_from_secs_f64).transpose();
    let until = until.map_err(|error| Failure::Asked(format!("--for: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::ran)?.block_on(async {
        let proxy = Proxy::start(ProxySettings {
            listen: args.listen,
            to: args.to,
            path,
            seed: args.path.seed,
            max_flows: args.max_flows,
        })
        .await
        .map_err(Failure::asked)?;
        if args.json {
            print_json(&serde_json::json!({ "proxy": proxy.address() }))?;
        } else {
            say!("proxy on {}", proxy.address());
        }
        end(until).await.map_err(Failure::ran)?;
        let report = proxy.stop();
        if args.json { print_json(&report) } else { print(&report) }
    })
}

/// Until Ctrl-C, SIGTERM, or the end of a time.
async fn end(after: Option<Duration>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let time = async {
        match after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
        () = time => Ok(()),
    }
}

fn print(report: &Report) -> Result<(), Failure> {
    let mut text = counts_table(&[("down", report.down), ("up", report.up)]);
    let Report { flows, evicted, rebinds, .. } = report;
    text += &format!("clients {flows}, forgotten {evicted}, new addresses {rebinds}\n");
    text += &rest_table(report.black_hole, report.overload, report.unsent, &report.lateness);
    print_text(&text)
}

/// What became of packets otherwise, and how late they were.
pub(crate) fn rest_table(
    black_hole: Tally,
    overload: Tally,
    unsent: Tally,
    lateness: &LatenessSummary,
) -> String {
    let mut text = String::new();
    for (name, tally) in [
        ("swallowed by the black hole", black_hole),
        ("dropped because too much was on its way", overload),
        ("refused by the operating system", unsent),
    ] {
        if tally.packets > 0 {
            text += &format!("{name}: {} packets, {} bytes\n", tally.packets, tally.bytes);
        }
    }
    let LatenessSummary { p50_us, p99_us, most_us, .. } = lateness;
    text + &format!(
        "handed on late by {p50_us} µs (half), {p99_us} µs (99%), {most_us} µs (the latest)\n"
    )
}

/// A table of what links have done.
pub(crate) fn counts_table(links: &[(&str, Counts)]) -> String {
    let mut text = format!(
        "{:6} {:>9} {:>12} {:>9} {:>12} {:>7} {:>10} {:>7} {:>7} {:>9} {:>9}\n",
        "",
        "entered",
        "bytes",
        "delivered",
        "bytes",
        "lost",
        "queue full",
        "too big",
        "twice",
        "corrupted",
        "reordered"
    );
    for (name, counts) in links {
        text += &format!(
            "{name:6} {:>9} {:>12} {:>9} {:>12} {:>7} {:>10} {:>7} {:>7} {:>9} {:>9}\n",
            counts.entered.packets,
            counts.entered.bytes,
            counts.delivered.packets,
            counts.delivered.bytes,
            counts.lost.packets,
            counts.queue_full.packets,
            counts.too_big.packets,
            counts.duplicated,
            counts.corrupted,
            counts.reordered
        );
    }
    text
}
