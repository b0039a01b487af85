//! Random worlds: from a seed come topology, links, load and faults, and then the run itself.

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    link::{LinkSettings, Loss},
    profile::Profile,
    run::{Options, Outcome, RunError, run},
    scenario::{
        Change, EventLine, ForSome, ForTime, Handover, Load, Pattern, Phones, Scenario, SlowDisk,
        UnknownCommits, Who,
    },
};

/// The random world of a seed.
pub fn scenario(seed: u64) -> Scenario {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let count = dice.random_range(2..=5);
    let pattern = [Pattern::Pairs, Pattern::Hub, Pattern::Mesh].choose(&mut dice).copied();
    let seconds = f64::from(dice.random_range(10..=60));
    let mut scenario = Scenario {
        about: format!("The random world of seed {seed}."),
        seconds,
        settle_s: 300.0,
        phones: phones(&mut dice, count),
        load: Load {
            pattern: pattern.unwrap_or(Pattern::Mesh),
            messages_per_s: f64::from(dice.random_range(1..=80)) / 8.0,
            both_ways: dice.random_bool(0.9),
            bytes: if dice.random_bool(0.8) {
                dice.random_range(20..400)
            } else {
                dice.random_range(400..8_000)
            },
            read: dice.random_range(0.0..=1.0),
        },
        client: Default::default(),
        events: Vec::new(),
    };
    for _ in 0..dice.random_range(0..=10) {
        let at_s = millis(dice.random_range(0.0..seconds));
        let mut line = EventLine { at_s, ..EventLine::default() };
        if dice.random_bool(0.15) {
            line.every_s = Some(millis(dice.random_range(1.0..20.0)));
        }
        happen(&mut dice, count, &mut line);
        scenario.events.push(line);
    }
    scenario
}

/// Whole milliseconds, so that a scenario reads well.
fn millis(seconds: f64) -> f64 {
    (seconds * 1_000.0).round() / 1_000.0
}

fn phones(dice: &mut ChaCha8Rng, count: usize) -> Phones {
    let mut phones = Phones { count, ..Phones::default() };
    if dice.random_bool(0.4) {
        phones.profile = Profile::all().choose(dice).map(|profile| profile.name.to_owned());
    } else {
        (phones.up, phones.down) = (Some(link(dice)), Some(link(dice)));
    }
    if dice.random_bool(0.3) {
        phones.router_forgets_after_s = Some(millis(dice.random_range(5.0..60.0)));
    }
    phones.inactive = dice.random_range(0..=count / 2);
    phones
}

fn link(dice: &mut ChaCha8Rng) -> LinkSettings {
    let mut link =
        LinkSettings { delay_ms: dice.random_range(0..300).into(), ..LinkSettings::default() };
    let mut sometimes = |part: f64| dice.random_bool(part);
    let (jitter, rate, lossy, reorders, doubles, corrupts) = (
        sometimes(0.5),
        sometimes(0.3),
        sometimes(0.6),
        sometimes(0.2),
        sometimes(0.2),
        sometimes(0.2),
    );
    if jitter {
        link.jitter_ms = dice.random_range(0..100).into();
    }
    if rate {
        link.rate_kbit_s = Some(dice.random_range(20..10_000).into());
        link.queue_packets = Some(dice.random_range(5..200));
    }
    if lossy {
        link.loss = match dice.random_range(0..3) {
            0 => Loss::Independent { probability: dice.random_range(0.0..0.2) },
            1 => Loss::GilbertElliott {
                p: dice.random_range(0.01..0.08),
                r: dice.random_range(0.1..0.5),
                h: dice.random_range(0.0..0.1),
                k: dice.random_range(0.98..1.0),
            },
            _ => Loss::Bursts { probability: dice.random_range(0.0..0.3), at_most: 3 },
        };
    }
    if reorders {
        link.reorder = dice.random_range(0.0..0.2);
        link.reorder_by_ms = dice.random_range(1..100).into();
    }
    if doubles {
        link.duplicate = dice.random_range(0.0..0.1);
    }
    if corrupts {
        link.corrupt = dice.random_range(0.0..0.02);
    }
    link
}

fn some(dice: &mut ChaCha8Rng, count: usize) -> Vec<String> {
    if dice.random_bool(0.2) {
        return Vec::new();
    }
    vec![format!("p{}", dice.random_range(0..count))]
}

fn happen(dice: &mut ChaCha8Rng, count: usize, line: &mut EventLine) {
    let phones = some(dice, count);
    // Short ones are common, long ones outlast the time-outs.
    let for_s = millis(match dice.random_range(0..3) {
        0 => dice.random_range(0.0..2.0),
        1 => dice.random_range(0.0..15.0),
        _ => dice.random_range(0.0..60.0),
    });
    match dice.random_range(0..11) {
        0 | 1 => {
            line.handover = Some(Handover {
                phones,
                gap_s: if dice.random_bool(0.5) { for_s } else { 0.0 },
                overlap_s: millis(dice.random_range(0.0..2.0)),
                back_after_s: dice.random_bool(0.3).then(|| millis(dice.random_range(0.1..20.0))),
                profile: if dice.random_bool(0.3) {
                    Profile::all().choose(dice).map(|profile| profile.name.to_owned())
                } else {
                    None
                },
            });
        }
        2 => line.rebind = Some(Who { phones }),
        3 => line.black_hole = Some(ForSome { phones, for_s }),
        4 => line.dead_interface = Some(ForSome { phones, for_s }),
        5 => {
            line.change = Some(Change {
                phones,
                profile: None,
                up: Some(link(dice)),
                down: Some(link(dice)),
            });
        }
        6 | 7 => line.kill_client = Some(ForSome { phones, for_s: for_s.min(20.0) }),
        8 => line.kill_server = Some(ForTime { for_s: for_s.min(20.0) }),
        9 => line.restart_server = Some(ForTime { for_s: for_s.min(20.0) }),
        _ => {
            if dice.random_bool(0.5) {
                let sync_ms = f64::from(dice.random_range(1..500));
                line.slow_disk = Some(SlowDisk { for_s, sync_ms });
            } else {
                let share = f64::from(dice.random_range(0..30)) / 100.0;
                line.unknown_commits = Some(UnknownCommits { for_s, share });
            }
        }
    }
}

/// Runs the random world of a seed.
///
/// # Errors
///
/// [`RunError`] if a part of the world fails, which is a fault that was found as much as a broken promise is.
pub fn try_seed(seed: u64) -> Result<Outcome, RunError> {
    run(&scenario(seed), Options { seed, ..Options::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_makes_a_scenario_that_can_be_written_and_read() {
        for seed in 0..500 {
            let scenario = scenario(seed);
            scenario.check().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let text = toml::to_string(&scenario).unwrap();
            assert_eq!(text.parse::<Scenario>().unwrap(), scenario, "seed {seed}");
        }
    }
}
