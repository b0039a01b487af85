//! `tern-netsim`: Tern, and any other program, under bad networks.
//!
//! Each subcommand is a file beside this one; adding one takes its module, its variant and its line in
//! [`run`].
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may panic"))]
#![expect(clippy::print_stderr, reason = "a command speaks through its standard error too")]

mod chosen;
mod compare;
#[cfg(target_os = "linux")]
mod emulate;
mod failure;
mod figures;
mod fuzz;
mod parity;
mod path_options;
mod profiles;
mod progress;
mod proxy;
mod report;
mod scenarios;
mod seeds;
mod simulate;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Programs under bad networks: described, and made.
#[derive(Debug, Parser)]
#[command(
    name = "tern-netsim",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done; 1 it failed while it ran, or a promise was broken; 2 it can't be done as it was asked for: wrong \
                  options, settings or files, or a right is missing. `emulate` ends with the exit code of \
                  the command that it ran.\n\n\
                  Begin with `tern-netsim scenarios` and `tern-netsim profiles`, and `tern-netsim COMMAND --help`."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, and it is read once")]
enum Command {
    Compare(compare::Args),
    #[cfg(target_os = "linux")]
    Emulate(emulate::Args),
    Figures(figures::Args),
    Fuzz(fuzz::Args),
    Parity(parity::Args),
    Profiles(profiles::Args),
    Proxy(proxy::Args),
    Report(report::Args),
    Run(simulate::Args),
    Scenarios(scenarios::Args),
    Trace(trace::Args),
}

fn main() -> ExitCode {
    // What server and clients say, for who looks for a fault: RUST_LOG=tern_client=debug, for instance.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .init();
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                eprintln!("tern-netsim: {text}");
            }
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Compare(args) => compare::run(&args),
        #[cfg(target_os = "linux")]
        Command::Emulate(args) => emulate::run(&args),
        Command::Figures(args) => figures::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Parity(args) => parity::run(&args),
        Command::Profiles(args) => profiles::run(&args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Run(args) => simulate::run(&args),
        Command::Scenarios(args) => scenarios::run(&args),
        Command::Trace(args) => trace::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_options_fit_together() {
        super::Args::command().debug_assert();
    }
}
