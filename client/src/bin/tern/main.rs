//! `tern`: chat from the command line.
//!
//! Everything that a command knows is in the home folder; each run opens it, does one thing and leaves.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may panic"))]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command speaks through its standard output and error"
)]

mod args;
mod chat;
mod devices;
mod failure;
mod listen;
mod output;
mod register;
mod send;
mod status;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tern_client::{Client, Events, Settings};

use crate::{
    args::{Args, Command, Wait},
    failure::Failure,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    output::log(args.verbose);
    match Box::pin(run(args)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tern: {failure}");
            failure.exit_code()
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    if let Command::Completions { shell } = args.command {
        clap_complete::generate(shell, &mut Args::command(), "tern", &mut std::io::stdout());
        return Ok(());
    }
    let (client, events) = open(&args).await?;
    let result = match &args.command {
        Command::Register(register) => register::run(&client, &args.server, register).await,
        Command::Send(send) => send::run(&client, events, send).await,
        Command::Listen(listen) => listen::run(&client, events, listen).await,
        Command::Chat { name } => chat::run(&client, events, name).await,
        Command::Devices(devices) => devices::run(&client, events, devices).await,
        Command::Status { json } => status::run(&client, events, *json).await,
        Command::Completions { .. } => Ok(()),
    };
    client.shutdown().await;
    result
}

/// Opens the home; for all commands but `register`, a server given on the command line is where the
/// known one has moved to.
async fn open(args: &Args) -> Result<(Client, Events), Failure> {
    let settings = Settings {
        software: concat!("tern ", env!("CARGO_PKG_VERSION")).into(),
        // A server may hold receipts back from a device at which nobody is looking.
        active: match &args.command {
            Command::Chat { .. } | Command::Listen(_) => true,
            Command::Send(send) => send.wait != Wait::Sent,
            _ => false,
        },
        ..Settings::default()
    };
    let (client, events) = Client::open(args.home()?, settings).await?;
    if !matches!(args.command, Command::Register(_)) {
        if client.identity().await?.is_none() {
            return Err(Failure::NotRegistered);
        }
        let server = &args.server;
        if server.server.is_some() || server.ca.is_some() || server.server_name.is_some() {
            let ca_pem = server.read_ca()?;
            client.move_server(server.server.clone(), server.server_name.clone(), ca_pem).await?;
        }
    }
    Ok((client, events))
}
