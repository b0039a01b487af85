//! The crash test: a server and its clients are killed with SIGKILL again and again under load, and then
//! every message must be where it should be, once, in order, and no receipt may have lied.
//!
//! The seed is printed; `TERN_SEED` sets it. It fixes what is done to whom, and when in terms of the progress
//! that the run makes; what the operating system makes of it differs from run to run.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]
#![expect(clippy::print_stdout, reason = "a test says what it counted")]

mod support;

#[path = "crash/devices.rs"]
mod devices;
#[path = "crash/world.rs"]
mod world;

use std::time::Instant;

use rand::{Rng, SeedableRng, rngs::StdRng};
use tern_netsim::checker::{Event, History, Kind, Progress, check};

use crate::world::World;

/// How often the server is killed, and at least how often clients are.
const KILLS: usize = 20;

fn seed() -> u64 {
    let seed = std::env::var("TERN_SEED").ok().map(|seed| seed.parse().expect("a number"));
    seed.unwrap_or_else(|| StdRng::from_os_rng().random())
}

#[test]
fn nothing_is_lost_repeated_or_lied_about_when_everybody_is_killed() {
    let seed = seed();
    println!("TERN_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let started = Instant::now();
    let mut world = World::start();
    println!("{:?}: everybody is registered", started.elapsed());
    while world.server_kills < KILLS || world.client_kills < KILLS {
        world.let_it_run(&mut rng);
        match rng.random_range(0..10) {
            0..5 => world.kill_server(&mut rng),
            5..9 => world.kill_clients(&mut rng),
            _ => {
                world.kill_clients(&mut rng);
                world.kill_server(&mut rng);
            }
        }
    }
    println!("{:?}: killed, {}", started.elapsed(), world.counts());
    world.settle();
    println!("{:?}: settled, {}", started.elapsed(), world.counts());
    let history = world.finish();
    let verdict = check(&history, Progress::Settled);
    println!("{:?}: {verdict}", started.elapsed());
    assert!(verdict.is_good(), "TERN_SEED={seed}: {verdict}");
    assert!(verdict.messages > 100, "there was hardly any load: {verdict}");

    for (kind, planted) in plant(&history, &mut rng) {
        let verdict = check(&planted, Progress::Settled);
        let kinds: Vec<_> = verdict.violations.iter().map(|violation| violation.kind).collect();
        assert!(!kinds.is_empty(), "a planted fault wasn't noticed: {kind}");
        assert!(kinds.iter().all(|&found| found == kind), "planted {kind}, found: {verdict}");
    }
}

/// The history with a fault in it, one history for each kind.
fn plant(history: &History, rng: &mut StdRng) -> Vec<(Kind, History)> {
    let given = positions(history, |event| matches!(event, Event::Given(_)));
    let at = given[rng.random_range(0..given.len())];
    let plant = |kind, plant: &mut dyn FnMut(&mut History)| {
        let mut planted = history.clone();
        plant(&mut planted);
        (kind, planted)
    };
    let Event::Given(entry) = &history.records[at].event else { unreachable!() };
    vec![
        // One device's application never got one message.
        plant(Kind::Lost, &mut |history| {
            let device = history.records[at].device;
            history.records.retain(|record| match &record.event {
                Event::Given(given) => record.device != device || given.text != entry.text,
                _ => true,
            });
        }),
        plant(Kind::Repeated, &mut |history| {
            let again = history.records[at].clone();
            history.records.insert(at + 1, again);
        }),
        plant(Kind::Unexpected, &mut |history| {
            if let Event::Given(entry) = &mut history.records[at].event {
                entry.text.push('!');
            }
        }),
        plant(Kind::FalseReceipt, &mut |history| {
            let receipts = positions(history, |event| matches!(event, Event::Receipt { .. }));
            if let Event::Receipt { delivered, .. } = &mut history.records[receipts[0]].event {
                *delivered = u64::MAX;
            }
        }),
    ]
}

fn positions(history: &History, is: impl Fn(&Event) -> bool) -> Vec<usize> {
    let records = history.records.iter().enumerate();
    records.filter(|(_, record)| is(&record.event)).map(|(at, _)| at).collect()
}
