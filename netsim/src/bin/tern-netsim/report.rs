//! `tern-netsim report`: a page about scenarios.

use std::path::PathBuf;

use tern_netsim::{
    figures::Case,
    report::{Held, runs_page},
    scenario::BUNDLED,
};

use crate::{
    chosen::{self, Chosen},
    failure::{Failure, print_text, write_file},
    figures,
    seeds::run_all_seeds,
};

/// Run scenarios, and write one page of HTML about them: plots, figures, and the commands that repeat the runs.
///
/// The page needs nothing but itself, and shows itself light or dark.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 every promise was kept; 1 one was broken, or not everything arrived; 2 it can't \
                  be run as it was asked for.",
    after_long_help = chosen::HELP
)]
pub(crate) struct Args {
    /// The file to write.
    #[arg(value_name = "OUT.html")]
    out: PathBuf,
    /// Which scenarios; all bundled ones if none is named. Values to change behind commas.
    scenarios: Vec<String>,
    /// How many seeds: 1, 2 and so on. The first one is plotted.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    seeds: u32,
    /// Also measure what Tern is held to in every profile, as `tern-netsim figures --profile all` does, with so many
    /// seeds.
    #[arg(long, value_name = "SEEDS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    figures: Option<u64>,
    /// Show beside these figures what another system achieves: what its script in netsim/peers told with --json.
    #[arg(long, value_name = "FILE.json", requires = "figures")]
    beside: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let names = match args.scenarios.is_empty() {
        true => BUNDLED.iter().map(|bundled| bundled.name.to_owned()).collect(),
        false => args.scenarios.clone(),
    };
    let chosen = names.iter().map(|name| name.parse()).collect::<Result<Vec<Chosen>, _>>()?;
    // Better to know it before than after the runs.
    write_file(&args.out, "")?;
    let peer = args.beside.as_deref().map(figures::read_peer).transpose()?;
    let held = match args.figures {
        Some(seeds) => {
            Some(Held { profiles: figures::in_profiles(&Case::profiles(), seeds)?, peer })
        }
        None => None,
    };
    let reports = run_all_seeds(chosen, args.seeds)?;
    write_file(&args.out, &runs_page("Tern under bad networks", &reports, held.as_ref()))?;
    let mut text = String::new();
    for report in &reports {
        let verdict = if report.is_good() { "every promise kept" } else { "BROKEN" };
        text += &format!("{:24} {verdict}\n", report.name);
    }
    print_text(&format!("{text}written to {}\n", args.out.display()))?;
    if reports.iter().all(|report| report.is_good()) { Ok(()) } else { Err(Failure::Broken) }
}
