//! Progress of runs, for somebody who watches standard error in a terminal.

use std::{sync::mpsc, thread, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use tern_netsim::{
    run::{Options, Outcome, RunError, Watch, run_watched},
    scenario::Scenario,
};

/// How often the bar moves.
const EVERY: Duration = Duration::from_millis(100);

/// Runs a scenario; a bar shows how much of its virtual time has passed.
pub(crate) fn run_shown(scenario: &Scenario, options: Options) -> Result<Outcome, RunError> {
    let watch = Watch::default();
    let bar =
        bar(scenario.seconds.ceil() as u64, "{wide_bar} {pos}/{len} virtual seconds {elapsed}");
    thread::scope(|scope| {
        let (end, ended) = mpsc::channel::<()>();
        scope.spawn(|| {
            let ended = ended;
            while ended.recv_timeout(EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                bar.set_position(watch.passed().as_secs());
            }
        });
        let outcome = run_watched(scenario, options, &watch);
        drop(end);
        bar.finish_and_clear();
        outcome
    })
}

/// A bar of so many runs or figures.
pub(crate) fn runs(count: usize) -> ProgressBar {
    bar(count as u64, "{wide_bar} {pos}/{len} runs {elapsed}")
}

/// A bar of so many profiles.
pub(crate) fn profiles(count: usize) -> ProgressBar {
    bar(count as u64, "{wide_bar} {pos}/{len} profiles {elapsed}")
}

/// Hidden unless standard error is a terminal, which indicatif sees to.
fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
