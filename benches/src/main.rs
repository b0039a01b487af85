//! `tern-bench`: puts load on a real server and says what it makes of it.

mod args;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use tern_benches::{
    Report,
    error::{BenchError, Context, Result},
    html,
    machine::Machine,
    outcome::Repeated,
    progress::Progress,
    runs::Common,
    server::{ServerSettings, find_binary},
    text,
};

use args::{Args, Run};

fn main() -> ExitCode {
    let args = Args::parse();
    let progress = if args.quiet { Progress::Quiet } else { Progress::to_stderr() };
    match start(&args, progress) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be listening, and the exit code says it as well.
            let _ = writeln!(io::stderr(), "tern-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args, progress: Progress) -> Result<()> {
    let binary = match &args.server_binary {
        Some(binary) => binary.clone(),
        None => find_binary()?,
    };
    let server = ServerSettings {
        binary,
        dir: args.dir.clone().unwrap_or_else(std::env::temp_dir),
        set: args.set.clone(),
    };
    let common = Common { server, sockets: args.sockets, payload_bytes: args.payload, progress };
    let machine = Machine::look(&common.server)?;
    let warnings = machine.warnings();
    let mut report = Report { machine, warnings, runs: Vec::new() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("can't start threads")?;
    for run in args.run.parts() {
        let mut outcomes = Vec::new();
        for _ in 0..args.repeat {
            outcomes.push(runtime.block_on(Box::pin(measure(&common, &run)))?);
        }
        report.runs.extend(Repeated::of(&outcomes));
    }
    let text = if args.json {
        serde_json::to_string_pretty(&report).context("can't write JSON")?
    } else {
        text::report(&report)
    };
    writeln!(io::stdout(), "{}", text.trim_end()).context("can't write the report")?;
    if let Some(path) = &args.report {
        let written = std::fs::write(path, html::page(&report));
        written.map_err(|error| BenchError::new(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

async fn measure(common: &Common, run: &Run) -> Result<tern_benches::outcome::Outcome> {
    use tern_benches::runs::{drain, idle, latency, sign_ins, throughput};
    match run {
        Run::Throughput(args) => throughput::run(common, &args.settings()).await,
        Run::Latency(args) => latency::run(common, &args.settings()).await,
        Run::Drain(args) => drain::run(common, &args.settings()).await,
        Run::Idle(args) => idle::run(common, &args.settings()).await,
        Run::SignIns(args) => sign_ins::run(common, &args.settings()).await,
        Run::All => Err(BenchError::new("`all` is made of the others")),
    }
}
