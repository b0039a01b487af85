//! Faults are planted into runs of the real server and the real client, and each must be found and named.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use tern_netsim::{
    fault::Fault,
    run::{Options, Outcome},
    scenario::Scenario,
    series::run_all,
};

/// A world in which each of the faults has something to do: the server and a phone are killed now and then, and a
/// phone is gone for so long that it must be shown as gone.
const WORLD: &str = r#"
    seconds = 120
    settle_s = 60
    [phones]
    count = 4
    up = { delay_ms = 40 }
    down = { delay_ms = 40 }
    [load]
    messages_per_s = 4
    [[events]]
    at_s = 3.2
    every_s = 9
    until_s = 42
    kill_server = { for_s = 0.5 }
    [[events]]
    at_s = 10
    every_s = 12
    until_s = 40
    kill_client = { phones = ["p1"], for_s = 4 }
    [[events]]
    at_s = 45
    black_hole = { phones = ["p3"], for_s = 70 }
"#;

fn runs(plants: &[Option<Fault>]) -> Vec<Outcome> {
    let scenario: Scenario = WORLD.parse().unwrap();
    let options = |&plant| Options { seed: 1, plant };
    let runs: Vec<_> = plants.iter().map(|plant| (&scenario, options(plant))).collect();
    run_all(&runs, || {}).into_iter().map(|ran| ran.unwrap().outcome).collect()
}

#[test]
fn each_planted_fault_is_found_and_named_and_without_it_the_run_is_good() {
    let plants: Vec<_> = Fault::all().iter().map(|fault| Some(*fault)).chain([None]).collect();
    for (plant, outcome) in plants.iter().zip(runs(&plants)) {
        let (kinds, violations) = (&outcome.kinds, &outcome.violations);
        let Some(fault) = plant else {
            assert!(outcome.is_good(), "{violations:?} {:?}", outcome.unsettled);
            continue;
        };
        let first = violations.first();
        let told = format!("{fault}: {kinds:?} {first:?} {:?}", outcome.unsettled);
        match fault {
            // What these do breaks further promises.
            Fault::DiskSyncsNothing
            | Fault::DiskDropsMessages
            | Fault::DiskTearsCommits
            | Fault::DiskSwapsMessages
            | Fault::PhoneTicksDelivered
            | Fault::PhoneIsSetBack => assert!(kinds.contains(&fault.kind()), "{told}"),
            _ => assert_eq!(kinds[..], [fault.kind()], "{told}"),
        }
        let named = fault.kind().to_string() + ":";
        assert!(violations.iter().any(|what| what.starts_with(&named)), "{fault}: {violations:?}");
    }
}
