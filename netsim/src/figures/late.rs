//! Late because others were lost.

use serde::Serialize;

use super::{Case, gap::good};
use crate::{
    run::{Options, RunError, percentile, run},
    scenario::{ClientVariant, Load, Pattern, Scenario},
};

/// Delays of messages on lossy links, over all seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Late {
    /// Median, in milliseconds.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The share that arrived later than the median and 50 ms.
    pub late: f64,
    /// The same of the seed with the most.
    pub worst_late: f64,
    /// Messages.
    pub messages: usize,
}

/// As many messages a second as the case says, for a minute, in ten conversations of one phone with ten others.
///
/// # Errors
///
/// [`RunError`] if a run fails; a broken promise is one here.
pub fn late(case: &Case, client: &ClientVariant, seeds: u64) -> Result<Late, RunError> {
    let mut all = Vec::new();
    let mut worst_late: f64 = 0.0;
    for seed in 0..seeds {
        let scenario = Scenario {
            about: String::new(),
            seconds: 60.0,
            settle_s: 120.0,
            phones: case.phones(11),
            load: Load {
                pattern: Pattern::Hub,
                messages_per_s: case.messages_per_s,
                ..Load::default()
            },
            client: client.clone(),
            events: Vec::new(),
        };
        let outcome = good(run(&scenario, Options { seed, ..Options::default() })?)?;
        worst_late = worst_late.max(outcome.late(50.0));
        all.extend(outcome.arrivals_ms());
    }
    all.sort_by(f64::total_cmp);
    let p50_ms = percentile(&all, 0.5);
    let late = all.iter().filter(|ms| **ms > p50_ms + 50.0).count();
    Ok(Late {
        p50_ms,
        p90_ms: percentile(&all, 0.9),
        p99_ms: percentile(&all, 0.99),
        late: late as f64 / all.len().max(1) as f64,
        worst_late,
        messages: all.len(),
    })
}
