//! What can be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::failure::Failure;

/// Chat over a Tern server.
#[derive(Debug, Parser)]
#[command(
    name = "tern",
    version,
    after_help = "\
Begin:
  tern --server 127.0.0.1:4433 --ca data/ca.pem register ann
  tern chat bob

In scripts:
  tern send bob \"the build is green\" --wait delivered
  tern listen --json --count 1 --timeout 60

Two accounts on one machine need two homes:
  tern --home ~/.tern-ann ...
  tern --home ~/.tern-bob ..."
)]
pub(crate) struct Args {
    /// Folder with this device's identity and messages [default: ~/.tern]
    #[arg(long, global = true, env = "TERN_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Say more on standard error (-v, -vv); TERN_LOG takes a filter instead
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the server is; needed for `register` alone, later only if it has moved.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// The server's address, or those of several nodes, separated by commas; remembered by `register`
    #[arg(long, global = true, value_name = "HOST:PORT[,...]")]
    pub(crate) server: Option<String>,
    /// The certificate authority to trust, in PEM: the server's ca.pem; remembered by `register`
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The name in the server's certificate, if it isn't the host of --server
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
}

impl ServerArgs {
    /// The text of the certificate authority's file, if one was given.
    pub(crate) fn read_ca(&self) -> Result<Option<String>, Failure> {
        self.ca
            .as_ref()
            .map(|path| {
                std::fs::read_to_string(path).map_err(|error| Failure::File(path.clone(), error))
            })
            .transpose()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an account on a server, or join one as a further device
    Register(Register),
    /// Send a message
    Send(Send),
    /// Print what comes in, until stopped
    Listen(Listen),
    /// Talk with somebody
    Chat {
        /// With whom
        name: String,
    },
    /// List, link or remove the devices of this account
    Devices(Devices),
    /// Say who this device is, whether the server answers, and what waits
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print a script that completes this command in a shell
    #[command(after_help = "For bash: source <(tern completions bash)")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tern --server chat.example:4433 --ca ca.pem register ann
  tern --server chat.example:4433 --ca ca.pem register ann --invite 7kq…
  tern --home ~/.tern-laptop --server chat.example:4433 --ca ca.pem register ann --link 9xf…
      (with the token that `tern devices link` printed on the first device)")]
pub(crate) struct Register {
    /// The account's name: 1 to 32 of a-z 0-9 . _ -
    pub(crate) name: String,
    /// An invite, where the server wants one
    #[arg(long, value_name = "TOKEN", group = "entitlement")]
    pub(crate) invite: Option<String>,
    /// A JSON Web Token of the operator's user database
    #[arg(long, value_name = "JWT", group = "entitlement")]
    pub(crate) token: Option<String>,
    /// Join the account NAME as a further device
    #[arg(long, value_name = "TOKEN", group = "entitlement")]
    pub(crate) link: Option<String>,
    /// What to call this device
    #[arg(long, value_name = "TEXT", default_value = "tern")]
    pub(crate) label: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The message is stored first and sent then: if the server can't be reached, it goes out with the next
command that connects.

Exit status: 0 the tick is there, 3 it isn't within the timeout (the message stays in the outbox),
1 the message failed.")]
pub(crate) struct Send {
    /// To whom
    pub(crate) name: String,
    /// What to say
    pub(crate) text: String,
    /// Which tick to wait for
    #[arg(long, value_enum, default_value_t = Wait::Sent)]
    pub(crate) wait: Wait,
    /// How long to wait for it
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    pub(crate) timeout: f64,
}

/// The ticks that can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// Durable on the server
    Sent,
    /// Stored by a device of the other account
    Delivered,
    /// Read by the other user
    Read,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each message is printed once; one that was printed at the very moment the command was killed may come
again, with the same conversation and seq.

Exit status: 0 stopped or N messages printed, 3 fewer than N within the timeout.")]
pub(crate) struct Listen {
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave after N messages
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Leave after so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<f64>,
    /// Mark what is printed as read
    #[arg(long)]
    pub(crate) read: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Devices {
    /// Print one JSON object
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Option<DevicesCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DevicesCommand {
    /// Print a token with which one further device can join
    Link,
    /// Remove a device: it is signed out, and what waits for it is dropped
    Remove {
        /// Its id, as `tern devices` prints it
        id: String,
    },
}

impl Args {
    /// The home folder: as said, or in the user's own.
    pub(crate) fn home(&self) -> Result<PathBuf, Failure> {
        match &self.home {
            Some(home) => Ok(home.clone()),
            None => {
                let home = std::env::home_dir().ok_or(Failure::NoHome)?;
                Ok(home.join(".tern"))
            }
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds, such as 2 or 0.5".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_contract_can_be_typed() {
        for line in [
            "tern --home d --server 127.0.0.1:1 --ca f register ann",
            "tern --home d --server 127.0.0.1:1 --ca f register ann --invite x --label phone",
            "tern --home d --server 127.0.0.1:1 --ca f register ann --token a.b.c",
            "tern --home d --server 127.0.0.1:1 --ca f register ann --link x",
            "tern --home d send bob hi",
            "tern --home d send bob hi --wait delivered --timeout 2.5",
            "tern --home d listen",
            "tern --home d listen --json --count 3 --timeout 60 --read",
            "tern --home d chat bob",
            "tern --home d devices --json",
            "tern --home d devices link",
            "tern --home d devices remove 00000000000000ab",
            "tern --home d status --json",
            "tern completions bash",
            "tern send bob hi --home d",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "tern",
            "tern send bob",
            "tern send bob hi --wait seen",
            "tern send bob hi --timeout -1",
            "tern send bob hi --timeout nan",
            "tern listen --count x",
            "tern register ann --invite x --link y",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
