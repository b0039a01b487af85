//! `tern-netsim emulate`: commands with a bad network between them.

use std::{
    env, io,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tern_netsim::emulate::{EmulateError, Emulation, Report, SERVER, Side};
use tokio::{signal::unix, time::Instant};

use crate::{
    failure::Failure,
    path_options::PathOptions,
    proxy::{counts_table, rest_table},
};

/// How often to look whether the command has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a command may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(2);

/// Run a command, and perhaps a server, with a bad network between them. Needs root.
///
/// The command runs where 10.77.0.1 is, the server where 10.77.0.2 is, and each reaches only the other; any
/// program of IPv4 will do. What became of the packets is told on standard error at the end, so that standard
/// output is the command's. Ends with the command's exit code, or 128 and its signal's number.
///
/// More commands can join from another terminal: `ip netns exec NAME COMMAND`, with the names that -v shows.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tern-netsim emulate --down delay_ms=50 --up delay_ms=50 -- ping -c 3 10.77.0.2\n  \
    tern-netsim emulate --profile lte --server 'iperf3 -s -1' -- iperf3 -c 10.77.0.2 -R\n  \
    tern-netsim emulate --profile 3g                             (a shell)")]
pub(crate) struct Args {
    #[command(flatten)]
    path: PathOptions,
    /// A shell command that is started first, where 10.77.0.2 is, and killed at the end.
    #[arg(long, value_name = "COMMAND")]
    server: Option<String>,
    /// How many seconds the server is given before the command starts.
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    wait: f64,
    /// Tell the namespaces' names.
    #[arg(short, long)]
    verbose: bool,
    /// Tell the counts as a line of JSON, on standard error too.
    #[arg(long)]
    json: bool,
    /// The command and its arguments; your shell if there is none.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let wait = Duration::try_from_secs_f64(args.wait)
        .map_err(|error| Failure::Asked(format!("--wait: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::ran)?.block_on(async {
        // Before anything is made that a signal must not leave behind.
        let mut signals = Signals::new().map_err(Failure::ran)?;
        let emulation = Emulation::start(args.path.settings()?, args.path.seed).map_err(failure)?;
        if args.verbose {
            let (client, server) =
                (emulation.namespace(Side::Client), emulation.namespace(Side::Server));
            eprintln!("tern-netsim: client in {client}, server ({SERVER}) in {server}");
        }
        if let Some(server) = &args.server {
            let mut shell = Command::new("sh");
            shell.args(["-c", server]);
            emulation
                .spawn(Side::Server, shell)
                .map_err(|error| Failure::Asked(format!("--server: {error}")))?;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = signals.any() => return Ok(()),
            }
        }
        let command = command(args);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = emulation
            .spawn(Side::Client, command)
            .map_err(|error| Failure::Asked(format!("{program}: {error}")))?;
        let status = finish(child, &mut signals).await.map_err(Failure::ran)?;
        print(&emulation.report(), args.json)?;
        drop(emulation);
        passed_on(status)
    })
}

fn command(args: &Args) -> Command {
    let Some((program, rest)) = args.command.split_first() else {
        return Command::new(env::var_os("SHELL").unwrap_or_else(|| "sh".into()));
    };
    let mut command = Command::new(program);
    command.args(rest);
    command
}

/// Until the command ends. Signals are passed on to it; it is killed if it doesn't end soon after one.
async fn finish(mut child: Child, signals: &mut Signals) -> io::Result<ExitStatus> {
    let mut asked = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if asked.is_some_and(|asked: Instant| asked.elapsed() > GRACE) {
            child.kill()?;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            signal = signals.any() => {
                kill_process(Pid::from_child(&child), signal)?;
                asked.get_or_insert_with(Instant::now);
            }
        }
    }
}

/// The signals that end a command.
struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(unix::SignalKind::interrupt())?,
            terminate: unix::signal(unix::SignalKind::terminate())?,
            hang_up: unix::signal(unix::SignalKind::hangup())?,
        })
    }

    async fn any(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}

fn passed_on(status: ExitStatus) -> Result<(), Failure> {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    match u8::try_from(code) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::Command(code)),
        Err(_) => Err(Failure::Command(1)),
    }
}

/// Nothing here has run yet, whatever is missing.
fn failure(error: EmulateError) -> Failure {
    Failure::Asked(format!("emulate: {error}"))
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        eprintln!("{}", serde_json::to_string(report).map_err(Failure::ran)?);
        return Ok(());
    }
    let table = counts_table(&[("down", report.down), ("up", report.up)]);
    let rest = rest_table(report.black_hole, report.overload, report.unsent, &report.lateness);
    eprint!("{table}{rest}");
    Ok(())
}
