//! Runs in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use tern_netsim::{
    run::{Options, percentile, run},
    scenario::{Scenario, bundled},
};

#[test]
fn the_same_seed_gives_the_same_run() {
    let mut scenario: Scenario = bundled("lossy").unwrap().toml.parse().unwrap();
    if let Ok(n) = std::env::var("SECS") { scenario.seconds = n.parse().unwrap(); }
    let started = std::time::Instant::now();
    let outcome = run(&scenario, Options { seed: 1, ..Options::default() }).unwrap();
    eprintln!("took {:?}", started.elapsed());
    for from in 0..11 { for c in 0..10 {
        let mut v: Vec<f64> = outcome.delays.iter().filter(|d| d.from == from && d.conversation == c).map(|d| d.arrived_after_ms.unwrap()).collect();
        if v.is_empty() { continue }
        v.sort_by(f64::total_cmp);
        eprintln!("from {from} conv {c}: {} p50 {:.0} p90 {:.0} max {:.0}", v.len(), percentile(&v, 0.5), percentile(&v, 0.9), percentile(&v, 1.0));
    }}
    let all = outcome.arrivals_ms();
    eprintln!("{} of {} p50 {} p90 {} p99 {} max {} late {} hash {} {:?} {:?}", all.len(), outcome.delays.len(), percentile(&all, 0.5), percentile(&all, 0.9), percentile(&all, 0.99), percentile(&all, 1.0), outcome.late(50.0), outcome.trace_hash, outcome.violations, outcome.unsettled);
}
