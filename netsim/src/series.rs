//! Many runs at once, one for each core.

use std::{
    num::NonZero,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    run::{Options, Outcome, RunError, run},
    scenario::Scenario,
};

/// A run that has ended.
#[derive(Debug)]
pub struct Ran {
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took in real time.
    pub took: Duration,
}

impl Ran {
    /// How many virtual seconds passed in a real one, from the begin of the load on.
    pub fn speed(&self) -> f64 {
        self.outcome.settled_ms / 1_000.0 / self.took.as_secs_f64().max(1e-9)
    }
}

/// Runs all of them, as many at a time as there are cores, and gives the results in the same order.
/// `done` hears of each that ends, on the thread that ran it.
///
/// # Errors
///
/// Each result has its own: what [`run`] says.
pub fn run_all(
    runs: &[(&Scenario, Options)],
    done: impl Fn() + Sync,
) -> Vec<Result<Ran, RunError>> {
    on_all_cores(runs, |(scenario, options)| {
        let started = Instant::now();
        let ran = run(scenario, *options).map(|outcome| Ran { outcome, took: started.elapsed() });
        done();
        ran
    })
}

/// Does something with each item, as many at a time as there are cores; the results have the order of
/// the items.
pub fn on_all_cores<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::default()).collect();
    thread::scope(|scope| {
        for _ in 0..cores.min(items.len()) {
            scope.spawn(|| {
                while let Some((item, result)) = {
                    let index = next.fetch_add(1, Relaxed);
                    items.get(index).zip(results.get(index))
                } {
                    let worked = work(item);
                    *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(worked);
                }
            });
        }
    });
    // Work that panics takes the scope with it, so each place is taken.
    let take =
        |result: Mutex<Option<_>>| result.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().filter_map(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_runs_and_the_same_as_alone() {
        let scenario: Scenario = "seconds = 2".parse().unwrap();
        let options = |seed| Options { seed, ..Options::default() };
        let runs = [(&scenario, options(1)), (&scenario, options(2)), (&scenario, options(3))];
        let all = run_all(&runs, || {});
        for ((_, options), ran) in runs.iter().zip(&all) {
            let outcome = &ran.as_ref().unwrap().outcome;
            assert_eq!(outcome.seed, options.seed);
            assert_eq!(outcome.trace_hash, run(&scenario, *options).unwrap().trace_hash);
        }
    }
}
