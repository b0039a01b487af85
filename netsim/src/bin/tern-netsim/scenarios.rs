//! `tern-netsim scenarios`: those that come with the program.

use tern_netsim::scenario::{BUNDLED, Scenario, bundled};

use crate::failure::{Failure, print_json};

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
        print!("{}", scenario.toml);
        return Ok(());
    }
    if args.json {
        let all = BUNDLED.iter().map(|bundled| {
            Ok(serde_json::json!({ "name": bundled.name, "scenario": parsed(bundled.toml)? }))
        });
        return print_json(&all.collect::<Result<Vec<_>, Failure>>()?);
    }
    for bundled in BUNDLED {
        let scenario = parsed(bundled.toml)?;
        let phones = scenario.phones.count;
        println!("{:24} {phones:>3} phones, {:>4} s", bundled.name, scenario.seconds);
        println!("    {}", scenario.about);
    }
    println!(
        "\n`tern-netsim run NAME` runs one; `tern-netsim scenarios NAME` shows one as a file to start from."
    );
    Ok(())
}

fn parsed(toml: &str) -> Result<Scenario, Failure> {
    toml.parse().map_err(Failure::ran)
}
