//! Random schedules of faults, each from a seed.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

/// The promise: who isn't in the store any more, which is when another node may hold it for dead, doesn't serve.
async fn nobody_serves_who_may_be_held_for_dead(map: &MapStore, all: &[(NodeId, Views)]) {
    for (id, views) in all {
        let is_serving = views.is_serving();
        assert!(!is_serving || is_recorded(map, *id).await, "{id} serves and is dead");
        assert!(!is_serving || views.now().standing() == Standing::Serving);
    }
}

fn mode(rng: &mut StdRng) -> Mode {
    match rng.random_range(0..8) {
        0 | 1 => Mode::Away,
        2 => Mode::Silent,
        3 => Mode::UnknownDone,
        4 => Mode::UnknownNotDone,
        5 => Mode::Late(Duration::from_millis(rng.random_range(1..4_000))),
        _ => Mode::Fine,
    }
}

async fn run(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let random = Random::seeded(seed);
    let map = Arc::new(MapStore::default());
    let mut processes: Vec<Process> = Vec::new();
    // Those that are gone as well.
    let mut all: Vec<(NodeId, Views)> = Vec::new();
    for step in 0..120 {
        let index = rng.random_range(0..processes.len().max(1));
        match rng.random_range(0..20) {
            0..=2 if processes.len() < 5 => {
                let name = format!("node{step}");
                let process = Process::start(&map, &name, &random).await;
                all.push((process.id, process.views.clone()));
                processes.push(process);
            }
            3 if !processes.is_empty() => drop(processes.swap_remove(index).kill()),
            4 if !processes.is_empty() => {
                let process = processes.swap_remove(index);
                if rng.random_bool(0.5) {
                    process.membership.drain().await;
                }
                process.membership.leave().await;
            }
            5 => {
                // For all alike.
                let mode = mode(&mut rng);
                processes.iter().for_each(|process| process.store.set(mode));
            }
            6..=9 => processes.iter().for_each(|process| process.store.set(Mode::Fine)),
            _ => {
                if let Some(process) = processes.get(index) {
                    process.store.set(mode(&mut rng));
                }
            }
        }
        for _ in 0..rng.random_range(1..60) {
            sleep(Duration::from_millis(rng.random_range(1..40))).await;
            nobody_serves_who_may_be_held_for_dead(&map, &all).await;
        }
    }
    processes.iter().for_each(|process| process.store.set(Mode::Fine));
    // What was late arrives, what is dead is found, what may serve does.
    sleep(Duration::from_secs(4) + LEASE * 4).await;
    nobody_serves_who_may_be_held_for_dead(&map, &all).await;
    let mut members = Vec::new();
    for process in &processes {
        match process.views.now().standing() {
            Standing::Serving => members.push(process.id),
            standing => assert_eq!(standing, Standing::Fenced, "{} is well again", process.id),
        }
    }
    members.sort_unstable();
    for process in processes.iter().filter(|process| members.contains(&process.id)) {
        assert_eq!(process.sees(), members, "all see those that are there");
    }
    if !members.is_empty() {
        // Where nobody is, nobody declares anybody dead.
        assert_eq!(map.len(), members.len(), "and no others are recorded");
    }
}

/// Says which seed it was.
struct Says(u64);

impl Drop for Says {
    #[expect(clippy::print_stderr, reason = "a failure must name its seed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}", self.0);
        }
    }
}

#[test]
fn whatever_happens_nobody_serves_who_may_be_held_for_dead() {
    for seed in 0..200 {
        let says = Says(seed);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap().block_on(run(seed));
        drop(says);
    }
}
