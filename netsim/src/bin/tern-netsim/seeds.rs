//! Several scenarios with several seeds, on all cores.

use tern_netsim::{report::RunReport, run::Options, series::run_all};

use crate::{chosen::Chosen, failure::Failure, progress};

/// Runs each of the scenarios with the seeds 1 to `seeds`.
pub(crate) fn run_seeds<const N: usize>(
    chosen: [Chosen; N],
    seeds: u32,
) -> Result<[RunReport; N], Failure> {
    let reports = run_all_seeds(chosen.to_vec(), seeds)?;
    reports.try_into().map_err(|_| Failure::Ran("a run has got lost".to_owned()))
}

/// The same for any number of scenarios.
pub(crate) fn run_all_seeds(chosen: Vec<Chosen>, seeds: u32) -> Result<Vec<RunReport>, Failure> {
    let seeds = 1..=u64::from(seeds);
    let runs: Vec<_> = chosen
        .iter()
        .flat_map(|chosen| seeds.clone().map(move |seed| (chosen, seed)))
        .map(|(chosen, seed)| (&chosen.scenario, Options { seed, ..Options::default() }))
        .collect();
    let bar = progress::runs(runs.len());
    let ran = run_all(&runs, || bar.inc(1));
    bar.finish_and_clear();
    drop(runs);
    let mut ran = ran.into_iter();
    let reports = chosen.into_iter().map(|chosen| {
        let outcomes = ran.by_ref().take(seeds.clone().count()).zip(seeds.clone());
        let outcomes = outcomes.map(|(ran, seed)| match ran {
            Ok(ran) => Ok(ran.outcome),
            Err(error) => Err(Failure::Ran(format!("{}: {error}", chosen.command(seed)))),
        });
        let outcomes = outcomes.collect::<Result<_, Failure>>()?;
        let command = chosen.command(*seeds.start());
        Ok(RunReport { name: chosen.text, command, scenario: chosen.scenario, outcomes })
    });
    reports.collect()
}
