//! A run of a scenario: the world is made, loaded, disturbed, healed, and judged.

mod device;
mod error;
mod memory;
mod mischief;
mod news;
mod outcome;
mod tape;
mod watch;
mod world;

use std::time::Duration;

pub use self::{
    error::RunError,
    memory::Peak,
    outcome::{ConnectionChange, Delay, Happened, Outcome, PhoneTraffic, Seen, percentile},
    watch::Watch,
};
use crate::{
    fault::Fault,
    scenario::Scenario,
    sim::{in_virtual_time, within},
};

/// What a run takes at most before the load and after everything has arrived, in virtual time: to connect, to rest,
/// and for phones and server to leave one after the other.
const AROUND: Duration = Duration::from_secs(3_600);
/// What a virtual second takes at most in real time. With a thousand phones and without optimisation it is some
/// seconds.
const STANDING: Duration = Duration::from_secs(120);

/// What a run is told beside its scenario.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Everything that happens by chance follows from it.
    pub seed: u64,
    /// A fault that the judgement must find.
    pub plant: Option<Fault>,
}

/// Runs a scenario in virtual time, on a thread of its own.
///
/// ```
/// use tern_netsim::run::{Options, run};
///
/// let scenario = r#"
///     seconds = 5
///     [phones]
///     up = { delay_ms = 50 }
///     down = { delay_ms = 50 }
/// "#.parse()?;
/// let outcome = run(&scenario, Options { seed: 7, ..Options::default() })?;
/// assert!(outcome.is_good(), "{:?}", outcome.violations);
/// // Two links of 50 ms each, and a server that waits for its disk.
/// assert!(outcome.arrivals_ms().iter().all(|ms| (100.0..110.0).contains(ms)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`RunError`] if the world can't be made or a part of it fails. A broken promise is no error: it
/// is in the [`Outcome`].
pub fn run(scenario: &Scenario, options: Options) -> Result<Outcome, RunError> {
    run_watched(scenario, options, &Watch::default())
}

/// As [`run`], and another thread can see on the watch how far it is.
///
/// # Errors
///
/// As [`run`].
pub fn run_watched(
    scenario: &Scenario,
    options: Options,
    watch: &Watch,
) -> Result<Outcome, RunError> {
    scenario.check().map_err(RunError::Scenario)?;
    // What the load and the arrival of everything may take, and as much as a run needs before and after.
    let most = Duration::from_secs_f64(scenario.seconds + scenario.settle_s) + AROUND;
    let world = || within(most, STANDING, world::run(scenario, options, watch));
    in_virtual_time(world).map_err(RunError::Io)?.map_err(RunError::Stuck)?
}
