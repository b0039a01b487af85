//! What the cache of routes costs, and how often it has the answer.
//!
//! ```text
//! cargo bench -p tern-server --bench routes -- [--devices 100000] [--questions 2000000] [--disk-routes 20000]
//!     [--seed 1]
//! ```
//!
//! - Hits in memory, as a caller sees them: with the `await`, in a random order, on one thread.
//! - Hits on the disk, one after the other. The files are as warm as the kernel keeps them, so that is the cost of
//!   the way there, not of the disk.
//! - The part of the questions that the cache answers itself when devices are asked for by Zipf's
//!   law with exponent 1 (the device of rank r is asked for with a probability in proportion to 1/r), and a miss puts the
//!   route: after as many questions to warm up.

use std::{
    error::Error,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tern_protocol::id::DeviceId;
use tern_server::{
    clock::Clock,
    cluster::NodeId,
    route::{
        Route,
        cache::{DiskSettings, RouteCache, RouteCacheSettings},
    },
};

type Failure = Box<dyn Error + Send + Sync>;

struct Options {
    devices: u64,
    questions: u64,
    disk_routes: u64,
    seed: u64,
}

fn options() -> Result<Options, Failure> {
    let mut options =
        Options { devices: 100_000, questions: 2_000_000, disk_routes: 20_000, seed: 1 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--devices" => options.devices = value()?.parse()?,
            "--questions" => options.questions = value()?.parse()?,
            "--disk-routes" => options.disk_routes = value()?.parse()?,
            "--seed" => options.seed = value()?.parse()?,
            // Cargo passes this to every benchmark.
            "--bench" => {}
            _ => return Err(format!("the argument {name} is not known").into()),
        }
    }
    if options.devices < 1_000 || options.questions == 0 || options.disk_routes == 0 {
        return Err(
            "--devices must be 1000 or more, --questions and --disk-routes 1 or more".into()
        );
    }
    Ok(options)
}

fn main() -> Result<(), Failure> {
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let options = options()?;
    let dir = std::env::temp_dir().join(format!("tern-routes-bench-{}", std::process::id()));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(run(&options, &dir));
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    outcome
}

#[expect(clippy::print_stdout, reason = "a benchmark speaks to its user")]
async fn run(options: &Options, dir: &Path) -> Result<(), Failure> {
    let memory_alone = settings(options.devices, None)?;
    let before = memory_kib();
    let cache = RouteCache::open(memory_alone, Clock::system()).await?;
    let took = fill(&cache, options.devices);
    let kib = memory_kib().saturating_sub(before);
    println!(
        "put        {:>7.0} ns, {} bytes a route",
        nanoseconds(took, options.devices),
        kib * 1024 / options.devices
    );
    println!("memory hit {:>7.0} ns without a disk", memory_hits(options, &cache).await);
    drop(cache);

    let cache = RouteCache::open(settings(options.devices, Some(dir))?, Clock::system()).await?;
    let took = fill(&cache, options.devices);
    println!("put        {:>7.0} ns with a disk", nanoseconds(took, options.devices));
    println!("memory hit {:>7.0} ns with a disk", memory_hits(options, &cache).await);
    cache.close().await;

    disk_hits(options, dir).await?;
    zipf(options).await
}

fn settings(memory_routes: u64, dir: Option<&Path>) -> Result<RouteCacheSettings, Failure> {
    let mut settings = RouteCacheSettings::default();
    settings.memory_routes = usize::try_from(memory_routes)?;
    let dir = dir.map(|dir| dir.join(memory_routes.to_string()));
    settings.disk = dir.map(|dir| DiskSettings { dir, bytes: 1 << 30 });
    settings.close_within_ms = 60_000;
    Ok(settings)
}

/// Device ids are random in the product; these are spread the same way.
fn device(rank: u64) -> DeviceId {
    let id = (rank + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    DeviceId::new(id.max(1)).unwrap_or_else(|| unreachable!("it is 1 or more"))
}

fn route(rank: u64) -> Route {
    let node = NodeId::new(rank % 5 + 1).unwrap_or_else(|| unreachable!("it is 1 or more"));
    Route { node, epoch: 1 }
}

fn fill(cache: &RouteCache, devices: u64) -> Duration {
    let began = Instant::now();
    for rank in 0..devices {
        cache.put(device(rank), route(rank));
    }
    began.elapsed()
}

fn nanoseconds(took: Duration, operations: u64) -> f64 {
    took.as_secs_f64() * 1e9 / operations as f64
}

/// Nanoseconds for each hit. All of those that memory still has are asked for.
async fn memory_hits(options: &Options, cache: &RouteCache) -> f64 {
    let mut random = StdRng::seed_from_u64(options.seed);
    // Half of them, since what is put last evicts some of what was put first.
    let from = options.devices / 2;
    let ranks: Vec<u64> =
        (0..1 << 16).map(|_| random.random_range(from..options.devices)).collect();
    let before = cache.counts().memory_hits;
    let began = Instant::now();
    for question in 0..options.questions {
        let rank = ranks[question as usize % ranks.len()];
        black_box(cache.get(black_box(device(rank))).await);
    }
    let took = began.elapsed();
    let hits = cache.counts().memory_hits - before;
    assert!(hits * 100 >= options.questions * 99, "only {hits} of the questions were hits");
    nanoseconds(took, options.questions)
}

#[expect(clippy::print_stdout, reason = "a benchmark speaks to its user")]
async fn disk_hits(options: &Options, dir: &Path) -> Result<(), Failure> {
    let small = settings(1, Some(dir))?;
    let cache = RouteCache::open(small.clone(), Clock::system()).await?;
    for rank in 0..options.disk_routes {
        cache.put(device(rank), route(rank));
        // At the pace of the disk, so that nothing is dropped.
        if rank % 64 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let began = Instant::now();
    cache.close().await;
    let closed = began.elapsed();
    let before = memory_kib();
    let began = Instant::now();
    let cache = RouteCache::open(small, Clock::system()).await?;
    println!(
        "close      {closed:>10.1?}, open {:.1?} with {} routes, {} bytes of memory a route",
        began.elapsed(),
        options.disk_routes,
        memory_kib().saturating_sub(before) * 1024 / options.disk_routes
    );
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut took_ns = Vec::new();
    for _ in 0..options.disk_routes {
        let device = device(random.random_range(0..options.disk_routes));
        let began = Instant::now();
        black_box(cache.get(device).await);
        took_ns.push(began.elapsed().as_nanos());
    }
    took_ns.sort_unstable();
    let at =
        |part: usize| took_ns[(took_ns.len() * part / 1_000).min(took_ns.len() - 1)] as f64 / 1e3;
    println!("disk hit   p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us", at(500), at(990), at(999));
    println!("           {:?}", cache.counts());
    cache.close().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark speaks to its user")]
async fn zipf(options: &Options) -> Result<(), Failure> {
    // How probable a rank or a higher one is.
    let mut cumulative = Vec::new();
    let mut sum = 0.0;
    for rank in 1..=options.devices {
        sum += 1.0 / rank as f64;
        cumulative.push(sum);
    }
    for percent in [0.1, 1.0, 5.0, 10.0, 25.0, 50.0] {
        let routes = (options.devices as f64 * percent / 100.0) as u64;
        let cache = RouteCache::open(settings(routes, None)?, Clock::system()).await?;
        let mut random = StdRng::seed_from_u64(options.seed);
        let mut hits = 0;
        for question in 0..options.questions * 2 {
            let at = random.random_range(0.0..sum);
            let rank = cumulative.partition_point(|upto| *upto < at) as u64;
            match cache.get(device(rank)).await {
                Some(_) => hits += u64::from(question >= options.questions),
                None => cache.put(device(rank), route(rank)),
            }
        }
        // The best that a cache of this size can do is to hold the most popular.
        let best = cumulative[routes as usize - 1] / sum;
        println!(
            "zipf 1.0   {percent:>4} % of {} devices in memory: {:.1} % hits, at best {:.1} %",
            options.devices,
            hits as f64 * 100.0 / options.questions as f64,
            best * 100.0
        );
    }
    Ok(())
}

/// The memory that the process has, where the system tells; else 0.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
