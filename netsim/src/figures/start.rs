//! From the start of an application, or of its network, to the sent tick.

use serde::Serialize;

use super::{Case, gap::good};
use crate::{
    run::{Options, RunError, percentile, run},
    scenario::{EventLine, ForSome, Load, Scenario},
};

/// How long it takes until a waiting message has its sent tick, in round trips; medians and worst cases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Starts {
    /// From the start of a process, which knows its ticket, but no TLS session.
    pub cold_rtts: f64,
    /// The worst.
    pub cold_worst_rtts: f64,
    /// From the return of the network, long after the connection has died: a TLS session is resumed, and the
    /// message is in the first flight.
    pub resumed_rtts: f64,
    /// The worst.
    pub resumed_worst_rtts: f64,
}

/// When the application or the network comes back, in seconds.
const BACK_S: f64 = 70.0;
/// How long it was away: longer than any time-out.
const AWAY_S: f64 = 60.0;

/// Starts over several seeds.
///
/// # Errors
///
/// [`RunError`] if a run fails; a broken promise is one here.
pub fn starts(case: &Case, seeds: u64) -> Result<Starts, RunError> {
    let (mut cold, mut resumed) = (Vec::new(), Vec::new());
    for seed in 0..seeds {
        let away = || ForSome { phones: vec!["p0".into()], for_s: AWAY_S };
        let line = EventLine { at_s: BACK_S - AWAY_S, ..EventLine::default() };
        cold.push(sent_rtts(case, seed, EventLine { kill_client: Some(away()), ..line.clone() })?);
        resumed.push(sent_rtts(case, seed, EventLine { dead_interface: Some(away()), ..line })?);
    }
    cold.sort_by(f64::total_cmp);
    resumed.sort_by(f64::total_cmp);
    Ok(Starts {
        cold_rtts: percentile(&cold, 0.5),
        cold_worst_rtts: percentile(&cold, 1.0),
        resumed_rtts: percentile(&resumed, 0.5),
        resumed_worst_rtts: percentile(&resumed, 1.0),
    })
}

/// From the moment of coming back until the first message that then waits or is sent is accepted.
fn sent_rtts(case: &Case, seed: u64, event: EventLine) -> Result<f64, RunError> {
    let scenario = Scenario {
        about: String::new(),
        seconds: BACK_S + 10.0,
        settle_s: 120.0,
        phones: case.phones(2),
        // One of the messages is sent in the very moment.
        load: Load { messages_per_s: 1.0, both_ways: false, ..Load::default() },
        client: Default::default(),
        events: vec![event],
    };
    let outcome = good(run(&scenario, Options { seed, ..Options::default() })?)?;
    let back_ms = BACK_S * 1_000.0;
    let accepted = outcome.delays.iter().filter_map(|delay| {
        let accepted_ms = delay.sent_ms + delay.accepted_after_ms?;
        (accepted_ms > back_ms).then_some(accepted_ms - back_ms)
    });
    Ok(accepted.fold(f64::INFINITY, f64::min) / case.rtt_ms())
}
