//! `tern-netsim profiles`: the paths that have names.

use tern_netsim::{
    link::{LinkSettings, Loss},
    profile::Profile,
};

use crate::failure::{Failure, print_json, print_text, say};

/// List the named paths, or show one as a file to start from.
///
/// `tern-netsim profiles lte >path.toml` writes a file for `--file`, to be changed as you like.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show this one, as TOML.
    name: Option<String>,
    /// Print JSON: an array of profiles, or the one.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let Some(name) = &args.name else {
        let profiles = Profile::all();
        if args.json {
            return print_json(&profiles);
        }
        say!("{:15} {:>31}  {:>31}", "", "down", "up");
        for profile in profiles {
            let (down, up) = (&profile.path.down, &profile.path.up);
            say!("{:15} {:>31}  {:>31}", profile.name, brief(down), brief(up));
            say!("{:15}   {}", "", profile.about);
        }
        say!("\n`tern-netsim profiles NAME` shows one with its source, as a file to start from.");
        return Ok(());
    };
    let profile = find(name)?;
    if args.json {
        return print_json(&profile);
    }
    say!("# {}: {}", profile.name, profile.about);
    if !profile.source.is_empty() {
        say!("# Source: {}.", profile.source);
    }
    print_text(&format!("\n{}", toml::to_string(&profile.path).map_err(Failure::ran)?))
}

/// The profile of that name.
pub(crate) fn find(name: &str) -> Result<Profile, Failure> {
    Profile::named(name).ok_or_else(|| {
        let names: Vec<_> = Profile::all().iter().map(|profile| profile.name).collect();
        Failure::Asked(format!("no profile is called {name}; there are {}", names.join(", ")))
    })
}

/// Rate, delay and loss in few characters.
fn brief(settings: &LinkSettings) -> String {
    let rate = match settings.rate_kbit_s {
        Some(rate) => format!("{rate} kbit/s, "),
        None => String::new(),
    };
    let loss = match settings.loss {
        Loss::Independent { probability } | Loss::Bursts { probability, .. } => {
            format!(", {}%", (probability * 1e3).round() / 10.0)
        }
        Loss::GilbertElliott { .. } => ", bursts".to_owned(),
        _ => String::new(),
    };
    let jitter = match settings.jitter_ms {
        0.0 => String::new(),
        jitter_ms => format!("+{jitter_ms}"),
    };
    format!("{rate}{}{jitter} ms{loss}", settings.delay_ms)
}
