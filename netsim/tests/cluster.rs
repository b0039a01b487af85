//! Three nodes, a store and many phones, to all of which everything happens that may: nodes and the store are
//! killed, nodes freeze and are cut off from each other, phones are killed; and then every message must be where it
//! should be, once, in order, and no receipt may have lied.
//!
//! The seed is printed; `TERN_SEED` sets it. `TERN_MINUTES` and `TERN_PHONES` make the run longer and larger; the time
//! until each phone is chatting again after a node's death is printed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]
#![expect(clippy::print_stdout, reason = "a test says what it counted")]

mod support;

#[path = "cluster/relay.rs"]
mod relay;
#[path = "cluster/world.rs"]
mod world;

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tern_netsim::checker::{Progress, check};

use crate::{support::planted, world::World};

/// What is done to the world in a short run.
const ACTS: usize = 24;

fn number<T: std::str::FromStr>(name: &str) -> Option<T>
where
    T::Err: std::fmt::Debug,
{
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn nothing_is_lost_repeated_or_lied_about_when_nodes_die() {
    let seed = number("TERN_SEED").unwrap_or_else(|| StdRng::from_os_rng().random());
    println!("TERN_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let minutes = number::<u64>("TERN_MINUTES").map(|minutes| Duration::from_secs(60 * minutes));
    let started = Instant::now();
    let mut world = World::start(seed, number("TERN_PHONES").unwrap_or(8));
    println!("{:?}: everybody is registered", started.elapsed());
    let begun = Instant::now();
    let mut acts = 0;
    while minutes.map_or(acts < ACTS, |minutes| begun.elapsed() < minutes) {
        world.let_it_run(&mut rng);
        world.act(&mut rng);
        acts += 1;
        if acts % 100 == 0 {
            println!("{:?}: {}", started.elapsed(), world.counts());
        }
    }
    println!("{:?}: {acts} acts, {}", started.elapsed(), world.counts());
    world.settle();
    println!("{:?}: settled, {}", started.elapsed(), world.counts());
    let history = world.finish();
    let verdict = check(&history, Progress::Settled);
    println!("{:?}: {verdict}", started.elapsed());
    assert!(verdict.is_good(), "TERN_SEED={seed}: {verdict}");
    assert!(verdict.messages > 100, "there was hardly any load: {verdict}");
    planted::faults_are_noticed(&history, &mut rng);
}
