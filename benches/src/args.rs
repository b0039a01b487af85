//! The command line of `tern-bench`.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, builder::RangedU64ValueParser};
use tern_benches::runs::{drain, idle, latency, sign_ins, throughput};

/// Puts load on a real Tern server and says what it makes of it.
///
/// Each run starts a `tern-server` of its own: empty data in a temporary folder, fsync on, limits
/// raised that would otherwise be measured. Many devices connect to it from this one process. They
/// speak the whole protocol but keep nothing on disk, so that the server is measured and not a
/// client's SQLite. Server and load share the machine: with two cores, about half of what you see
/// is the price of the load. Look at ratios, repeat, and let nothing else run.
#[derive(Debug, Parser)]
#[command(name = "tern-bench", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to measure.
    #[command(subcommand)]
    pub(crate) run: Run,

    /// The server's program [default: tern-server beside this program].
    #[arg(long, global = true, value_name = "PATH", env = "TERN_SERVER")]
    pub(crate) server_binary: Option<PathBuf>,

    /// Folder for the servers' data: it decides which disk is measured [default: the system's
    /// folder for temporary files].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// A setting of the server, over the raised limits; may be repeated.
    #[arg(long, global = true, value_name = "SECTION.NAME=VALUE")]
    pub(crate) set: Vec<String>,

    /// How often to run; the report gives median, least and greatest.
    #[arg(long, global = true, default_value_t = 1, value_parser = at_least_one())]
    pub(crate) repeat: u32,

    /// Bytes of an envelope.
    #[arg(long, global = true, default_value_t = 200, value_name = "BYTES", value_parser = RangedU64ValueParser::<usize>::new().range(8..=65536))]
    pub(crate) payload: usize,

    /// UDP sockets of the load generator; connections share them.
    #[arg(long, global = true, default_value_t = 4, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub(crate) sockets: usize,

    /// Print the report as JSON instead of a table.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Write the report as a self-contained HTML file with plots as well.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Show no progress on standard error.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo build --release -p tern-server -p tern-benches
  target/release/tern-bench throughput
  target/release/tern-bench latency --rate 5000 --seconds 30
  target/release/tern-bench idle --set tls.resumption_sessions=0
  target/release/tern-bench all --repeat 3 --report report.html";

fn at_least_one() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..)
}

fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1_000_000)
}

/// What is measured.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Run {
    /// Messages that the server takes and delivers when everybody sends as fast as answers come.
    Throughput(Throughput),
    /// Time from send to delivery at a fixed rate that doesn't wait for anybody.
    Latency(Latency),
    /// Time from connect to "caught up" with a full mailbox.
    Drain(Drain),
    /// The server's memory for connections on which nothing happens.
    Idle(Idle),
    /// Sign-ins per second: full handshake and signature, resumed with a ticket, 0-RTT.
    SignIns(SignIns),
    /// All of them, as the README has them.
    All,
}

impl Run {
    /// The runs that this one is made of.
    pub(crate) fn parts(&self) -> Vec<Run> {
        match self {
            Self::All => ["throughput", "latency", "drain", "idle", "sign-ins"]
                .iter()
                .filter_map(|run| Args::try_parse_from(["tern-bench", run]).ok())
                .map(|args| args.run)
                .collect(),
            run => vec![run.clone()],
        }
    }
}

/// See [`throughput`].
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Throughput {
    /// Pairs of devices; one sends, the other gets.
    #[arg(long, default_value_t = 16, value_parser = count())]
    pairs: usize,
    /// Sends without an answer, per pair; the server allows 64 unless it is set otherwise.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=128))]
    window: u16,
    /// How long to measure.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// How long to run before.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    warm_up: f64,
}

impl Throughput {
    pub(crate) fn settings(&self) -> throughput::Settings {
        throughput::Settings {
            pairs: self.pairs,
            window: self.window,
            duration: Duration::from_secs_f64(self.seconds),
            warm_up: Duration::from_secs_f64(self.warm_up),
        }
    }
}

/// See [`latency`].
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Latency {
    /// Messages per second, over all pairs.
    #[arg(long, default_value_t = 1_000, value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000))]
    rate: u64,
    /// Pairs of devices.
    #[arg(long, default_value_t = 100, value_parser = count())]
    pairs: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 20.0, value_parser = seconds)]
    seconds: f64,
    /// How long to run before.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    warm_up: f64,
}

impl Latency {
    pub(crate) fn settings(&self) -> latency::Settings {
        latency::Settings {
            rate_per_s: self.rate,
            pairs: self.pairs,
            duration: Duration::from_secs_f64(self.seconds),
            warm_up: Duration::from_secs_f64(self.warm_up),
        }
    }
}

/// See [`drain`].
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Drain {
    /// Messages in the mailbox.
    #[arg(long, default_value_t = 10_000, value_parser = RangedU64ValueParser::<u64>::new().range(1..=100_000_000))]
    messages: u64,
    /// Conversations that they are in, each with a sender of its own.
    #[arg(long, default_value_t = 10, value_parser = count())]
    conversations: usize,
    /// Start the server again before the device comes, so that nothing is in its memory.
    #[arg(long)]
    restart: bool,
}

impl Drain {
    pub(crate) fn settings(&self) -> drain::Settings {
        drain::Settings {
            messages: self.messages,
            conversations: self.conversations,
            restart: self.restart,
        }
    }
}

/// See [`idle`].
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Idle {
    /// Connections.
    #[arg(long, default_value_t = 5_000, value_parser = count())]
    connections: usize,
    /// How long to leave the server alone before its memory is read.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    settle: f64,
    /// Don't wait until the server has closed the streams of the messages.
    #[arg(long)]
    skip_stream_end: bool,
}

impl Idle {
    pub(crate) fn settings(&self) -> idle::Settings {
        idle::Settings {
            connections: self.connections,
            settle: Duration::from_secs_f64(self.settle),
            wait_for_streams: !self.skip_stream_end,
        }
    }
}

/// See [`sign_ins`].
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SignIns {
    /// Devices that sign in, leave and sign in again.
    #[arg(long, default_value_t = 256, value_parser = count())]
    devices: usize,
    /// How long to measure each way of signing in.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
}

impl SignIns {
    pub(crate) fn settings(&self) -> sign_ins::Settings {
        sign_ins::Settings {
            devices: self.devices,
            duration: Duration::from_secs_f64(self.seconds),
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.05..=86_400.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("it is a number of seconds from 0.05 to 86400".into())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_all_is_everything() {
        Args::command().debug_assert();
        assert_eq!(Run::All.parts().len(), 5);
    }
}
