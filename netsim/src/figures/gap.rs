//! Back from a gap.

use serde::Serialize;

use super::Case;
use crate::{
    run::{Options, Outcome, RunError, percentile, run},
    scenario::{EventLine, Handover, Load, Scenario},
};

/// How soon waiting messages arrive after a gap, in round trips of a phone to the server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gap {
    /// How long there was no network, in seconds.
    pub gap_s: f64,
    /// From the phone that was away, at the 95th percentile over all waiting messages of all seeds.
    pub up_rtts: f64,
    /// To the phone that was away, likewise.
    pub down_rtts: f64,
    /// The worst, in either direction.
    pub worst_rtts: f64,
    /// Messages that waited.
    pub messages: usize,
}

/// How long a change of network without a gap stalls, in round trips.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Handovers {
    /// What a message took longer than without a handover, the worst of each handover, at the median.
    pub median_rtts: f64,
    /// The same at the 95th percentile.
    pub p95_rtts: f64,
    /// The worst.
    pub worst_rtts: f64,
    /// Handovers.
    pub handovers: usize,
}

/// When the gap begins, in seconds. It isn't in step with the messages.
const GAP_AT_S: f64 = 10.0;

/// A phone has no network for `gap_s` seconds and comes back with another address; both directions have
/// a message every second, or as many as the case bears.
///
/// # Errors
///
/// [`RunError`] if a run fails; a broken promise is one here.
pub fn gaps(case: &Case, gap_s: f64, seeds: u64) -> Result<Gap, RunError> {
    let rtt_ms = case.rtt_ms();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for seed in 0..seeds {
        // Gaps that begin at various moments between two messages.
        let at_s = GAP_AT_S + seed as f64 * 0.037 % 1.0;
        let scenario = scenario(
            case,
            at_s + gap_s + 20.0,
            EventLine {
                at_s,
                handover: Some(Handover {
                    phones: vec!["p0".into()],
                    gap_s,
                    ..Handover::default()
                }),
                ..EventLine::default()
            },
        );
        let outcome = good(run(&scenario, Options { seed, ..Options::default() })?)?;
        let back_ms = (at_s + gap_s) * 1_000.0;
        for delay in &outcome.delays {
            // What was under way when the gap began may have got through.
            let arrived_ms = delay.sent_ms + delay.arrived_after_ms.unwrap_or(f64::INFINITY);
            if delay.sent_ms < back_ms && arrived_ms > back_ms {
                let rtts = (arrived_ms - back_ms) / rtt_ms;
                if delay.from == 0 { up.push(rtts) } else { down.push(rtts) }
            }
        }
    }
    up.sort_by(f64::total_cmp);
    down.sort_by(f64::total_cmp);
    Ok(Gap {
        gap_s,
        up_rtts: percentile(&up, 0.95),
        down_rtts: percentile(&down, 0.95),
        worst_rtts: percentile(&up, 1.0).max(percentile(&down, 1.0)),
        messages: up.len() + down.len(),
    })
}

/// A phone changes its network ten times, every two seconds or ten round trips, whichever is longer; each direction has ten messages a second, or
/// as many as the case bears. A handover in whose second nobody writes isn't counted.
///
/// # Errors
///
/// [`RunError`] if a run fails; a broken promise is one here.
pub fn handovers(case: &Case, seeds: u64) -> Result<Handovers, RunError> {
    let rtt_ms = case.rtt_ms();
    let every_s = (rtt_ms / 100.0).max(2.0);
    let mut stalls = Vec::new();
    for seed in 0..seeds {
        let at_s = 5.0 + seed as f64 * 0.0137 % 0.1;
        let mut scenario = scenario(
            case,
            at_s + every_s * 10.0 + 5.0,
            EventLine {
                at_s,
                every_s: Some(every_s),
                until_s: Some(at_s + every_s * 9.5),
                handover: Some(Handover { phones: vec!["p0".into()], ..Handover::default() }),
                ..EventLine::default()
            },
        );
        scenario.load.messages_per_s = case.messages_per_s.min(20.0);
        let outcome = good(run(&scenario, Options { seed, ..Options::default() })?)?;
        let usual_ms = percentile(&outcome.arrivals_ms(), 0.5);
        for handover in 0..10 {
            let from_ms = (at_s + f64::from(handover) * every_s) * 1_000.0;
            let longest = outcome
                .delays
                .iter()
                .filter(|delay| {
                    let arrived_ms = delay.sent_ms + delay.arrived_after_ms.unwrap_or(f64::MAX);
                    arrived_ms >= from_ms && delay.sent_ms < from_ms + 1_000.0
                })
                .filter_map(|delay| delay.arrived_after_ms)
                .max_by(f64::total_cmp);
            stalls.extend(longest.map(|ms| (ms - usual_ms).max(0.0) / rtt_ms));
        }
    }
    stalls.sort_by(f64::total_cmp);
    Ok(Handovers {
        median_rtts: percentile(&stalls, 0.5),
        p95_rtts: percentile(&stalls, 0.95),
        worst_rtts: percentile(&stalls, 1.0),
        handovers: stalls.len(),
    })
}

fn scenario(case: &Case, seconds: f64, event: EventLine) -> Scenario {
    Scenario {
        about: String::new(),
        seconds,
        settle_s: 120.0,
        phones: case.phones(2),
        load: Load { messages_per_s: case.messages_per_s.min(2.0), ..Load::default() },
        client: Default::default(),
        events: vec![event],
    }
}

pub(super) fn good(outcome: Outcome) -> Result<Outcome, RunError> {
    match outcome.violations.first().or(outcome.unsettled.as_ref()) {
        Some(what) => Err(RunError::Broken { seed: outcome.seed, what: what.clone() }),
        None => Ok(outcome),
    }
}
