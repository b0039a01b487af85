//! The crash test: a server and its clients are killed with SIGKILL again and again under load, and then
//! every message must be where it should be, once, in order, and no receipt may have lied.
//!
//! The seed is printed; `TERN_SEED` sets it. It fixes what is done to whom, and when in terms of the progress
//! that the run makes; what the operating system makes of it differs from run to run.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]
#![expect(clippy::print_stdout, reason = "a test says what it counted")]

mod support;

#[path = "crash/world.rs"]
mod world;

use std::time::Instant;

use rand::{Rng, SeedableRng, rngs::StdRng};
use tern_netsim::checker::{Progress, check};

use crate::{support::planted, world::World};

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
    while world.server_kills < KILLS || world.load.kills < KILLS {
        world.let_it_run(&mut rng);
        match rng.random_range(0..10) {
            0..5 => world.kill_server(&mut rng),
            5..9 => world.load.kill_some(&mut rng),
            _ => {
                world.load.kill_some(&mut rng);
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

    planted::faults_are_noticed(&history, &mut rng);
}
