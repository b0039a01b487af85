//! What each thing that a device does costs in calls to a TiKV cluster, counted. ARCHITECTURE.md has the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]
#![expect(clippy::print_stdout, reason = "a test says what it counted")]

#[path = "common/mod.rs"]
mod common;

use tern_tikv_test_server::{Counts, Method};

use crate::common::World;

/// How often each is done. What the server does beside it, now and then, isn't in the cheapest of them.
const REPEATS: usize = 6;

/// Calls of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    time_stamps: u64,
    gets: u64,
    scans: u64,
    prewrites: u64,
    commits: u64,
    request_bytes: u64,
}

impl Cost {
    fn of(counts: &Counts) -> Self {
        let calls = |methods: &[Method]| methods.iter().map(|&method| counts.calls(method)).sum();
        Self {
            time_stamps: counts.timestamps(),
            gets: calls(&[Method::KvGet, Method::KvBatchGet]),
            scans: calls(&[Method::KvScan]),
            prewrites: calls(&[Method::KvPrewrite]),
            commits: calls(&[Method::KvCommit]),
            request_bytes: counts.iter().map(|(_, count)| count.request_bytes).sum(),
        }
    }
}

struct Costs<'a> {
    world: &'a World,
    wrong: Vec<String>,
}

impl Costs<'_> {
    /// Does something some times, and holds the cheapest to what is expected: time-stamps, gets, scans, prewrites,
    /// commits, and at most so many bytes of requests.
    async fn of(&mut self, what: &str, most: [u64; 6], mut act: impl AsyncFnMut()) {
        let mut costs = Vec::new();
        for _ in 0..REPEATS {
            let before = self.world.asked_of_tikv();
            act().await;
            costs.push(Cost::of(&self.world.asked_of_tikv().since(&before)));
        }
        let least = costs.iter().min().unwrap();
        println!("| {what} | {least:?} |");
        let Cost { time_stamps, gets, scans, prewrites, commits, request_bytes } = *least;
        let calls = [time_stamps, gets, scans, prewrites, commits];
        if calls != most[..5] || request_bytes > most[5] {
            self.wrong.push(format!("{what}: {least:?}, and {most:?} is said"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_devices_do_costs_what_is_said() {
    let world = World::on_tikv().await;
    let [mut ann, mut bob] = world.two().await;
    let mut costs = Costs { world: &world, wrong: Vec::new() };
    let mut up = ann.uplink(&bob).await;
    up.send("hello").await;
    let mut down = bob.downlink().await;
    down.hears("hello").await;

    costs.of("ping", [0, 0, 0, 0, 0, 0], async || ann.ping().await).await;
    let away = bob.leave(&world).await;
    costs
        .of("append to a device that is away and marked", [1, 1, 0, 1, 0, 600], async || {
            up.send("while he is away").await;
        })
        .await;
    let mut away = Some(away);
    let mut number = 0;
    costs
        .of("sign-in by ticket, with one conversation waiting", [3, 2, 1, 0, 0, 300], async || {
            let client = away.take().unwrap().back(&world).await;
            number += 1;
            away = Some(client.away());
        })
        .await;
    bob = away.take().unwrap().back(&world).await;
    // They stay, since to leave costs something as well.
    let mut registered = Vec::new();
    costs
        .of("registration", [8, 6, 2, 1, 0, 1_300], async || {
            number += 1;
            registered.push(world.register(&format!("number{number}")).await);
        })
        .await;
    let mut mark = bob.uplink(&ann).await;
    let mut read = 0;
    costs
        .of("read mark", [1, 1, 0, 1, 0, 400], async || {
            read += 1;
            assert_eq!(mark.read(read).await, read);
        })
        .await;
    assert!(costs.wrong.is_empty(), "{:#?}", costs.wrong);
}
