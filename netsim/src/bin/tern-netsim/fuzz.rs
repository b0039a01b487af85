//! `tern-netsim fuzz`: random worlds until one breaks.

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tern_netsim::{fuzz, run::Outcome};

use crate::failure::{Failure, print_json, say};

/// Run random scenarios: topology, links, load and faults come from a seed, and so does the run.
///
/// A seed that breaks a promise, or whose world never comes to rest, is printed with the command that repeats
/// it, to the packet.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tern-netsim fuzz --seeds 1000\n  tern-netsim fuzz --fresh --seeds 300 \
                        --corpus netsim/seeds.txt\n  tern-netsim fuzz --seed 4711\n\n\
                        Exit codes: 0 every promise was kept; 1 one was broken; 2 the options are wrong."
)]
pub(crate) struct Args {
    /// How many seeds to try.
    #[arg(long, default_value_t = 100, value_name = "N")]
    seeds: u64,
    /// The first seed; the others follow it.
    #[arg(long, default_value_t = 0, value_name = "SEED", conflicts_with = "fresh")]
    first: u64,
    /// Begin with a seed that comes from the clock, so that each time others are tried.
    #[arg(long)]
    fresh: bool,
    /// Run this one seed alone, show its scenario and what came of it.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "first", "fresh", "corpus"])]
    seed: Option<u64>,
    /// Also try the seeds in this file, one a line; text behind `#` is a comment.
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Runs at a time; as many as there are cores, unless told otherwise.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Stop at the first seed that breaks a promise.
    #[arg(long)]
    stop: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// With the JSON: the hash of each seed's packets.
    #[arg(long, requires = "json")]
    each: bool,
}

/// What is wrong with a seed.
#[derive(Debug, Serialize)]
struct Broken {
    seed: u64,
    what: Vec<String>,
}

#[derive(Serialize)]
struct Summary<'a> {
    seeds: u64,
    messages: usize,
    virtual_hours: f64,
    took_s: f64,
    broken: &'a [Broken],
    /// A hash over the trace hashes of all seeds in their order.
    traces: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    each: Option<&'a BTreeMap<u64, String>>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(seed) = args.seed {
        return one(seed, args.json);
    }
    let first = if args.fresh { clock() } else { args.first };
    let mut seeds: Vec<u64> = match &args.corpus {
        Some(path) => corpus(path)?,
        None => Vec::new(),
    };
    seeds.extend((0..args.seeds).map(|number| first.wrapping_add(number)));
    let jobs = args.jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, usize::from);
    let began = Instant::now();
    let found = all(&seeds, jobs, args.stop);
    let mut broken = found.broken;
    broken.sort_by_key(|broken| broken.seed);
    let summary = Summary {
        seeds: found.traces.len() as u64,
        messages: found.messages,
        virtual_hours: found.virtual_s / 3_600.0,
        took_s: began.elapsed().as_secs_f64(),
        traces: digest(&found.traces),
        each: args.each.then_some(&found.traces),
        broken: &broken,
    };
    if args.json {
        print_json(&summary)?;
    } else {
        say!(
            "{} seeds from {first} on, {} messages, {:.1} virtual hours in {:.1} s; traces {}",
            summary.seeds,
            summary.messages,
            summary.virtual_hours,
            summary.took_s,
            summary.traces
        );
    }
    match broken.first() {
        None => Ok(()),
        Some(smallest) => Err(Failure::Ran(format!(
            "{} seeds broke a promise; the smallest is {}: {}\nrepeat it: tern-netsim fuzz --seed {}",
            broken.len(),
            smallest.seed,
            smallest.what.join("; "),
            smallest.seed
        ))),
    }
}

/// A seed from the clock, small enough to be typed.
fn clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() % 100_000_000) * 1_000
}

fn corpus(path: &PathBuf) -> Result<Vec<u64>, Failure> {
    let wrong = |what: String| Failure::Asked(format!("{}: {what}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mut seeds = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or("").trim();
        if !line.is_empty() {
            seeds.push(line.parse().map_err(|_| wrong(format!("line {number} is no seed")))?);
        }
    }
    Ok(seeds)
}

#[derive(Default)]
struct Found {
    broken: Vec<Broken>,
    traces: BTreeMap<u64, String>,
    messages: usize,
    virtual_s: f64,
}

fn all(seeds: &[u64], jobs: usize, stop: bool) -> Found {
    let bar = ProgressBar::new(seeds.len() as u64);
    if let Ok(style) =
        ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left {msg}")
    {
        bar.set_style(style);
    }
    let (next, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let found = Mutex::new(Found::default());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&seed) = usize::try_from(number).ok().and_then(|n| seeds.get(n))
                    else {
                        return;
                    };
                    let (outcome, what) = judge(seed);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(outcome) = outcome {
                        found.messages += outcome.messages;
                        found.virtual_s += outcome.settled_ms / 1_000.0;
                        found.traces.insert(seed, outcome.trace_hash);
                    }
                    if !what.is_empty() {
                        bar.suspend(|| eprintln!("seed {seed}: {}", what.join("; ")));
                        found.broken.push(Broken { seed, what });
                        bar.set_message(format!("({} broken)", found.broken.len()));
                        if stop {
                            ended.store(true, Ordering::Relaxed);
                        }
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn judge(seed: u64) -> (Option<Outcome>, Vec<String>) {
    match fuzz::try_seed(seed) {
        Ok(outcome) => {
            let unsettled = outcome.unsettled.iter().map(|what| format!("not settled: {what}"));
            let what = outcome.violations.iter().cloned().chain(unsettled).collect();
            (Some(outcome), what)
        }
        Err(error) => (None, vec![error.to_string()]),
    }
}

fn digest(traces: &BTreeMap<u64, String>) -> String {
    // FNV-1a: whoever wants to fool this comparison fools nobody but themselves.
    let hash = traces
        .values()
        .flat_map(|trace| trace.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{hash:016x}")
}

fn one(seed: u64, json: bool) -> Result<(), Failure> {
    if !json {
        // Before the run, which may find a world that never comes to rest.
        say!("{}", toml::to_string(&fuzz::scenario(seed)).map_err(Failure::ran)?);
    }
    let outcome = fuzz::try_seed(seed).map_err(Failure::ran)?;
    if json {
        print_json(&outcome)?;
    } else {
        for happened in &outcome.events {
            let whose = happened.phone.map_or(String::new(), |phone| format!("p{phone} "));
            say!("{:>9.3} s  {whose}{}", happened.at_ms / 1_000.0, happened.what);
        }
        say!(
            "{} messages, {} deliveries, {} receipts; trace {}",
            outcome.messages,
            outcome.deliveries,
            outcome.receipts,
            outcome.trace_hash
        );
    }
    if outcome.is_good() {
        return Ok(());
    }
    let unsettled = outcome.unsettled.map(|what| format!("not settled: {what}"));
    let what: Vec<_> = outcome.violations.into_iter().chain(unsettled).collect();
    Err(Failure::Ran(what.join("\n")))
}
