//! `tern-netsim parity`: the simulator beside real time.

use clap::ValueEnum;
use tern_netsim::{
    parity::{self, Parity},
    report::{TextTable, number},
};

use crate::{
    failure::{Failure, print_json, print_text},
    progress,
};

/// Do the same job in virtual time and in real time, and show both: does the simulator tell the truth?
///
/// Two real phones and a real server in both, on the same links: simulated ones, and UDP sockets with the proxy
/// in between. It takes about a minute for each repeat.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tern-netsim parity\n  tern-netsim parity --only deterministic --repeat 5\n\n\
                        Exit codes: 0 measured; 1 something failed; 2 the options are wrong."
)]
pub(crate) struct Args {
    /// How often in real time; the median is shown.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    repeat: u16,
    /// Leave out the other links.
    #[arg(long, value_name = "WHICH")]
    only: Option<Which>,
    /// What chance is decided by.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Print a line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Links without jitter and loss.
    Deterministic,
    /// Links with jitter or loss.
    Chance,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut cases = parity::cases();
    cases.retain(|case| match args.only {
        None => true,
        Some(which) => case.is_by_chance() == (which == Which::Chance),
    });
    let bar = progress::runs(cases.len());
    let mut all = Vec::new();
    for case in &cases {
        let parity = parity::parity(case, usize::from(args.repeat), args.seed);
        all.push(parity.map_err(|error| Failure::Ran(format!("{}: {error}", case.name)))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if args.json { print_json(&all) } else { print_text(&text(&all)) }
}

fn text(all: &[Parity]) -> String {
    let mut table = TextTable::default();
    table.row(["links", "", "simulated, ms", "real, ms", "difference"]);
    for parity in all {
        let parts = parity.simulated.parts().into_iter().zip(parity.real.parts());
        for (index, ((part, simulated), (_, real))) in parts.enumerate() {
            let links = match (index, parity.by_chance) {
                (0, false) => parity.case.clone(),
                (0, true) => format!("{} (by chance)", parity.case),
                _ => String::new(),
            };
            let difference = format!("{:+.1}%", (real / simulated - 1.0) * 100.0);
            table.row([links, part.to_owned(), number(simulated), number(real), difference]);
        }
    }
    table.finish(0)
}
