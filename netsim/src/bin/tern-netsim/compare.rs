//! `tern-netsim compare`: two scenarios side by side.

use std::path::PathBuf;

use serde::Serialize;
use tern_netsim::report::{Comparison, comparison_page};

use crate::{
    chosen::{self, Chosen},
    failure::{Failure, print_json, print_text, write_file},
    seeds::run_seeds,
};

/// Run two scenarios with the same seeds, and show their figures side by side.
///
/// The ratios are those of runs with the same seed: their median, and the least and the greatest.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 every promise was kept; 1 one was broken, or not everything arrived; 2 it can't \
                  be run as it was asked for.\n\n\
                  Example: what it is worth that the phone tells the client of a new network\n  \
                  tern-netsim compare motorway motorway,client.is_told_of_networks=false",
    after_long_help = chosen::HELP
)]
pub(crate) struct Args {
    /// A scenario; values to change behind commas.
    a: String,
    /// The other one.
    b: String,
    /// How many seeds: 1, 2 and so on.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    seeds: u32,
    /// Print a line of JSON.
    #[arg(long)]
    json: bool,
    /// Write a page of HTML with plots.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

#[derive(Serialize)]
struct Printed<'a> {
    seeds: u32,
    is_good: bool,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let chosen: [Chosen; 2] = [args.a.parse()?, args.b.parse()?];
    let [a, b] = run_seeds(chosen, args.seeds)?;
    let comparison = Comparison::of((&a.name, &a.findings()), (&b.name, &b.findings()));
    if let Some(path) = &args.report {
        write_file(path, &comparison_page(&comparison, &a, &b))?;
    }
    let is_good = a.is_good() && b.is_good();
    if args.json {
        print_json(&Printed { seeds: args.seeds, is_good, comparison: &comparison })?;
    } else {
        print_text(&comparison.text())?;
    }
    if is_good { Ok(()) } else { Err(Failure::Broken) }
}
