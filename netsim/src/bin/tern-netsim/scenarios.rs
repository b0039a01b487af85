//! `tern-netsim scenarios`: those that come with the program.

use tern_netsim::scenario::{BUNDLED, Scenario, bundled};

use crate::failure::{Failure, print_json, print_text};

/// List the bundled scenarios, or show one as a file to start from.
///
/// `tern-netsim scenarios subway >mine.toml` writes a file for `tern-netsim run mine.toml`, to be
/// changed as you like.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show this one, as TOML.
    name: Option<String>,
    /// Print JSON: an array of names and scenarios, or the one.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(name) = &args.name {
        let scenario = bundled(name).ok_or_else(|| {
            let names: Vec<_> = BUNDLED.iter().map(|bundled| bundled.name).collect();
            Failure::Asked(format!("no scenario is called {name}; there are {}", names.join(", ")))
        })?;
        if args.json {
            return print_json(&parsed(scenario.toml)?);
        }
        return print_text(scenario.toml);
    }
    if args.json {
        let all = BUNDLED.iter().map(|bundled| {
            Ok(serde_json::json!({ "name": bundled.name, "scenario": parsed(bundled.toml)? }))
        });
        return print_json(&all.collect::<Result<Vec<_>, Failure>>()?);
    }
    let mut text = String::new();
    for bundled in BUNDLED {
        let Scenario { about, phones, seconds, .. } = parsed(bundled.toml)?;
        text += &format!(
            "{:24} {:>3} phones, {seconds:>4} s\n    {about}\n",
            bundled.name, phones.count
        );
    }
    text += "\n`tern-netsim run NAME` runs one; `tern-netsim scenarios NAME` shows one as a file to start \
             from.\n";
    print_text(&text)
}

fn parsed(toml: &str) -> Result<Scenario, Failure> {
    toml.parse().map_err(Failure::ran)
}
