//! What a stream per conversation gains over one stream for all: measured, not claimed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use tern_netsim::{
    link::Loss,
    run::{Options, Outcome, percentile, run},
    scenario::{Scenario, bundled},
};

/// The load of each run, in seconds: enough for a hundred lost packets.
const SECONDS: f64 = 8.0;
/// Every mode has the same seeds, so the same packets are lost as long as they are the same.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;
/// A message is late if it takes so much longer than the median, in milliseconds.
const LATE_MS: f64 = 50.0;

/// Runs the bundled scenario, shortened, and checks that every promise was kept.
fn lossy(loss: f64, is_single: bool, seed: u64) -> Outcome {
    let lossy = bundled("lossy").expect("it is bundled").toml;
    let mut scenario: Scenario = lossy.parse().unwrap();
    scenario.seconds = SECONDS;
    scenario.client.single_stream = Some(is_single);
    for link in [&mut scenario.phones.up, &mut scenario.phones.down] {
        link.as_mut().expect("lossy sets both links").loss =
            Loss::Independent { probability: loss };
    }
    let outcome = run(&scenario, Options { seed, ..Options::default() }).unwrap();
    assert!(outcome.is_good(), "seed {seed}: {:?} {:?}", outcome.violations, outcome.unsettled);
    assert_eq!(outcome.arrivals_ms().len(), outcome.delays.len(), "seed {seed}");
    outcome
}

/// The delays of all runs in that mode, sorted.
fn delays_ms(loss: f64, is_single: bool) -> Vec<f64> {
    let mut all: Vec<_> =
        SEEDS.flat_map(|seed| lossy(loss, is_single, seed).arrivals_ms()).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// The share of messages that are late.
fn late(sorted_ms: &[f64]) -> f64 {
    let bound = percentile(sorted_ms, 0.5) + LATE_MS;
    let late = sorted_ms.iter().filter(|ms| **ms > bound).count();
    late as f64 / sorted_ms.len() as f64
}

#[test]
fn with_loss_one_stream_makes_more_messages_late() {
    let (apart, together) = (delays_ms(0.02, false), delays_ms(0.02, true));
    let shares = (late(&apart), late(&together));
    // It is about twice as many.
    assert!(shares.1 > 1.3 * shares.0, "late apart and together: {shares:?}");
}

#[test]
fn without_loss_one_stream_is_as_fast() {
    let (apart, together) = (lossy(0.0, false, 1), lossy(0.0, true, 1));
    // They did differ.
    assert_ne!(apart.trace_hash, together.trace_hash);
    for part in [0.5, 0.99] {
        let ms =
            (percentile(&apart.arrivals_ms(), part), percentile(&together.arrivals_ms(), part));
        assert!((ms.0 - ms.1).abs() <= 2.0, "{part} of the messages, in milliseconds: {ms:?}");
    }
}

#[test]
fn one_stream_keeps_the_promises_when_clients_and_servers_die() {
    let scenario: Scenario = r#"
        seconds = 20
        client = { single_stream = true }
        [phones]
        count = 4
        up = { delay_ms = 30, loss = { probability = 0.02 } }
        down = { delay_ms = 30, loss = { probability = 0.02 } }
        [load]
        pattern = "mesh"
        messages_per_s = 10
        [[events]]
        at_s = 3
        kill_client = { phones = ["p1"], for_s = 2 }
        [[events]]
        at_s = 8
        handover = { phones = ["p0"], gap_s = 1 }
        [[events]]
        at_s = 11
        restart_server = { for_s = 1 }
        [[events]]
        at_s = 15
        kill_server = { for_s = 1 }
    "#
    .parse()
    .unwrap();
    for seed in SEEDS {
        let outcome = run(&scenario, Options { seed, ..Options::default() }).unwrap();
        assert!(outcome.is_good(), "seed {seed}: {:?} {:?}", outcome.violations, outcome.unsettled);
    }
}
