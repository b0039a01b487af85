//! Phones in pockets: how long they may sleep, and whether they are still found.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use tern_netsim::{
    run::{Options, Outcome, PhoneTraffic, run},
    scenario::Scenario,
};

/// After so much of the scenario the keep-alive has settled.
const SETTLED_MS: f64 = 600_000.0;

fn outcome(name: &str, seed: u64) -> Outcome {
    let scenario = Scenario::named(name).unwrap();
    let outcome = run(&scenario, Options { seed, ..Options::default() }).unwrap();
    assert!(outcome.is_good(), "{name} seed {seed}: {:?}", outcome.violations);
    outcome
}

/// The phones in pockets, and the share of the time for which their radios were awake.
fn in_pockets(outcome: &Outcome) -> impl Iterator<Item = (&PhoneTraffic, f64)> {
    outcome.phones[1..].iter().map(|phone| (phone, phone.radio_on_s / 1_800.0))
}

/// The worst delay of a message to a phone that has settled.
fn worst_ms(outcome: &Outcome) -> f64 {
    let settled = outcome.delays.iter().filter(|delay| delay.sent_ms > SETTLED_MS);
    settled.map(|delay| delay.arrived_after_ms.unwrap()).fold(0.0, f64::max)
}

#[test]
fn a_phone_in_a_pocket_sleeps_and_is_found_behind_a_router_that_forgets() {
    for seed in 1..=3 {
        let fixed = outcome("pocket,client.keep_alive_s=10", seed);
        assert!(in_pockets(&fixed).all(|(_, awake)| awake > 0.99));
        let settled = outcome("pocket", seed);
        for (phone, awake) in in_pockets(&settled) {
            assert!(awake < 0.3, "seed {seed}: {phone:?}");
            // One silence that was too long, and perhaps one that was tried again a quarter of an hour later.
            assert!((1..=2).contains(&phone.forgotten), "seed {seed}: {phone:?}");
        }
        assert!(worst_ms(&settled) < 1_000.0, "seed {seed}: {:?}", settled.delays);
    }
}

#[test]
fn a_router_that_forgets_soon_is_followed() {
    let settled = outcome("pocket,phones.router_forgets_after_s=20", 1);
    for (phone, awake) in in_pockets(&settled) {
        assert!(phone.forgotten <= 3, "{phone:?}");
        assert!(awake < 0.85, "{phone:?}");
    }
    assert!(worst_ms(&settled) < 1_000.0, "{:?}", settled.delays);
}

#[test]
fn a_patient_router_lets_the_radio_sleep() {
    let settled = outcome("pocket,phones.router_forgets_after_s=300", 1);
    for (phone, awake) in in_pockets(&settled) {
        assert_eq!(phone.forgotten, 0, "{phone:?}");
        assert!(awake < 0.2, "{phone:?}");
    }
    assert!(worst_ms(&settled) < 1_000.0, "{:?}", settled.delays);
}
