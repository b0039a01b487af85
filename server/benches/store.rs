//! Paced appends into an embedded store that holds millions of messages already.
//!
//! ```text
//! cargo bench -p tern-server --bench store -- [--rate 5000] [--seconds 60] [--warm-up-seconds 20]
//!     [--prefill 2000000] [--conversations 10000] [--seed 1]
//!     [--step-keys N] [--layer-bytes N] [--log-bytes N] [--debug]
//!     [--delete-age-seconds 40] [--dir DIR] [--keep] [--json]
//! ```
//!
//! Appends start at fixed moments whatever the store does (an open loop), and each latency
//! counts from the moment when the append should have started, so a stall shows in every
//! append that it delayed. An append is a message of 300 bytes and a mark of 80 bytes in
//! one transaction, with the slot required to be free, in a random conversation. Meanwhile
//! ranges of the oldest messages of a conversation are deleted as fast as messages are
//! appended: first those of the prefill, or, with `--delete-age-seconds`, only those that
//! were appended this long ago. The seconds of the warm-up run the same load and aren't
//! counted: they begin in the backlog that the prefill leaves.

use std::{
    collections::VecDeque,
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tern_server::store::{
    Condition, Mutation, Scan, Store, Transaction,
    embedded::{EmbeddedSettings, EmbeddedStore},
};
use tokio::sync::mpsc;

type Failure = Box<dyn Error + Send + Sync>;

const MESSAGE_BYTES: usize = 300;
const MARK_BYTES: usize = 80;
/// Messages that one range delete removes, about.
const DELETE_MESSAGES: u64 = 50;

struct Options {
    rate: u64,
    seconds: u64,
    warm_up_seconds: u64,
    prefill: u64,
    conversations: u64,
    delete_age_seconds: Option<u64>,
    dir: Option<PathBuf>,
    keep: bool,
    json: bool,
    seed: u64,
    settings: EmbeddedSettings,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options {
        rate: 5_000,
        seconds: 60,
        warm_up_seconds: 20,
        prefill: 2_000_000,
        conversations: 10_000,
        delete_age_seconds: None,
        dir: None,
        keep: false,
        json: false,
        seed: 1,
        settings: EmbeddedSettings::default(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--rate" => options.rate = value()?.parse()?,
            "--seconds" => options.seconds = value()?.parse()?,
            "--warm-up-seconds" => options.warm_up_seconds = value()?.parse()?,
            "--prefill" => options.prefill = value()?.parse()?,
            "--conversations" => options.conversations = value()?.parse()?,
            "--delete-age-seconds" => options.delete_age_seconds = Some(value()?.parse()?),
            "--dir" => options.dir = Some(value()?.into()),
            "--seed" => options.seed = value()?.parse()?,
            "--keep" => options.keep = true,
            "--step-keys" => options.settings.step_keys = value()?.parse()?,
            "--layer-bytes" => options.settings.layer_bytes = value()?.parse()?,
            "--log-bytes" => options.settings.log_bytes = value()?.parse()?,
            "--json" => options.json = true,
            "--debug" => {
                let level = tracing_subscriber::filter::LevelFilter::DEBUG;
                tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
            }
            // Cargo passes this to every benchmark.
            "--bench" => {}
            _ => return Err(format!("the argument {name} is not known").into()),
        }
    }
    if options.rate == 0 || options.seconds == 0 || options.conversations == 0 {
        return Err("--rate, --seconds and --conversations must be 1 or more".into());
    }
    Ok(options)
}

fn main() -> Result<(), Failure> {
    let options = options()?;
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let dir = options.dir.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("tern-store-bench-{}", std::process::id()))
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(run(&options, &dir));
    if !options.keep && options.dir.is_none() {
        std::fs::remove_dir_all(&dir)?;
    }
    outcome
}

/// The state that the appender would keep: the next free and the oldest number of each
/// conversation.
struct Conversations {
    next: Vec<u64>,
    oldest: Vec<u64>,
    random: u64,
}

impl Conversations {
    fn pick(&mut self) -> usize {
        // xorshift64*: any sequence that repeats with the seed will do.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let number = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or(0) % self.next.len()
    }

    fn append(&mut self, conversation: usize) -> Transaction {
        let number = self.next[conversation];
        self.next[conversation] += 1;
        let key = key(b'm', conversation, number);
        Transaction {
            conditions: vec![Condition::Absent(key.clone())],
            mutations: vec![
                Mutation::Put(key, vec![b'x'; MESSAGE_BYTES].into()),
                Mutation::Put(key_of_mark(conversation), vec![b'y'; MARK_BYTES].into()),
            ],
        }
    }
}

fn key(kind: u8, conversation: usize, number: u64) -> Bytes {
    // Conversation ids are random in the product, so neighbours in time aren't neighbours
    // in the tree.
    let id = (conversation as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = vec![kind];
    key.extend(id.to_be_bytes());
    key.extend((conversation as u64).to_be_bytes());
    key.extend(number.to_be_bytes());
    key.into()
}

fn key_of_mark(conversation: usize) -> Bytes {
    key(b'k', conversation, 0)
}

#[derive(Default)]
struct Report {
    latencies_us: Vec<u64>,
    /// The worst of each second, with the second.
    worst_us: Vec<u64>,
    deletes_us: Vec<u64>,
}

async fn run(options: &Options, dir: &Path) -> Result<(), Failure> {
    let began = Instant::now();
    let store = Arc::new(EmbeddedStore::open(dir, options.settings.clone())?);
    say(options, &format!("opened in {:?}", began.elapsed()));
    let count = usize::try_from(options.conversations)?;
    let mut state = Conversations {
        next: vec![0; count],
        oldest: vec![0; count],
        random: options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
    };
    prefill(options, &store, &mut state).await?;
    let before = disk_bytes(dir)?;
    let report = paced(options, &store, &mut state, dir).await?;
    let after = disk_bytes(dir)?;

    let began = Instant::now();
    let scan =
        Scan { from: key(b'm', 0, 0), to: Bytes::from_static(b"n"), limit: 10_000, reverse: false };
    let found = store.scan(scan).await?.len();
    let scan_took = began.elapsed();

    drop(store);
    let began = Instant::now();
    drop(EmbeddedStore::open(dir, options.settings.clone())?);
    let reopen = began.elapsed();
    let emptied = emptied(options, dir).await?;
    print(options, report, Disk { before, after, emptied }, (found, scan_took), reopen);
    Ok(())
}

/// Deletes every message, goes on with the load for as long as the warm-up, each message being
/// deleted at once, and tells how much disk is still taken then.
async fn emptied(options: &Options, dir: &Path) -> Result<u64, Failure> {
    let store = EmbeddedStore::open(dir, options.settings.clone())?;
    let all = Mutation::DeleteRange(key(b'm', 0, 0), Bytes::from_static(b"n"));
    store.commit(Transaction { conditions: vec![], mutations: vec![all] }).await?;
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < Duration::from_secs(options.warm_up_seconds) {
        let conversation = usize::try_from(number % options.conversations)?;
        let message = key(b'm', conversation, u64::MAX - number);
        let mutations = vec![
            Mutation::Put(message.clone(), vec![b'x'; MESSAGE_BYTES].into()),
            Mutation::Put(key_of_mark(conversation), vec![b'y'; MARK_BYTES].into()),
        ];
        let append = Transaction { conditions: vec![], mutations };
        let delete = Transaction { conditions: vec![], mutations: vec![Mutation::Delete(message)] };
        tokio::try_join!(store.commit(append), store.commit(delete))?;
        number += 1;
    }
    drop(store);
    // The next start finds what the checkpoints left.
    drop(EmbeddedStore::open(dir, options.settings.clone())?);
    disk_bytes(dir)
}

/// Bytes that the store's files take.
struct Disk {
    /// After the prefill.
    before: u64,
    /// After the measured load.
    after: u64,
    /// After everything was deleted.
    emptied: u64,
}

async fn prefill(
    options: &Options,
    store: &Arc<EmbeddedStore>,
    state: &mut Conversations,
) -> Result<(), Failure> {
    let began = Instant::now();
    let mut done = 0;
    let mut running = VecDeque::new();
    while done < options.prefill {
        let mut group = Transaction::default();
        for _ in 0..500.min(options.prefill - done) {
            let conversation = state.pick();
            group.mutations.extend(state.append(conversation).mutations);
            done += 1;
        }
        let store = Arc::clone(store);
        running.push_back(tokio::spawn(async move { store.commit(group).await }));
        if running.len() > 8
            && let Some(oldest) = running.pop_front()
        {
            oldest.await??;
        }
        if done % 250_000 < 500 {
            say(options, &format!("prefill {done} after {:?}", began.elapsed()));
        }
    }
    for task in running {
        task.await??;
    }
    Ok(())
}

async fn paced(
    options: &Options,
    store: &Arc<EmbeddedStore>,
    state: &mut Conversations,
    dir: &Path,
) -> Result<Report, Failure> {
    let mut report = Report::default();
    let (sender, mut results) = mpsc::unbounded_channel();
    let (delete_sender, mut deletes) = mpsc::unbounded_channel();
    let total = options.rate * (options.warm_up_seconds + options.seconds);
    let start = Instant::now();
    let counted = start + Duration::from_secs(options.warm_up_seconds);
    let mut sent = 0;
    let mut deleted = 0;
    let mut aged: VecDeque<(u64, usize)> = VecDeque::new();
    let mut second = 0;
    while sent < total {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let elapsed = start.elapsed();
        let due = u64::try_from(elapsed.as_micros())? * options.rate / 1_000_000;
        while sent < due.min(total) {
            let conversation = state.pick();
            let transaction = state.append(conversation);
            aged.push_back((elapsed.as_secs(), conversation));
            let intended = start + Duration::from_micros(sent * 1_000_000 / options.rate);
            let (store, sender) = (Arc::clone(store), sender.clone());
            tokio::spawn(async move {
                let outcome = store.commit(transaction).await;
                let _ = sender.send((intended, intended.elapsed(), outcome));
            });
            sent += 1;
        }
        // Deletes follow the appends.
        while deleted + DELETE_MESSAGES <= sent {
            let conversation = match options.delete_age_seconds {
                None => state.pick(),
                Some(age) => match aged.front() {
                    Some(&(at, conversation)) if at + age <= elapsed.as_secs() => {
                        aged.pop_front();
                        conversation
                    }
                    _ => break,
                },
            };
            let oldest = state.oldest[conversation];
            let end = match options.delete_age_seconds {
                // Old messages, whole ranges of them.
                None => state.next[conversation].min(oldest + DELETE_MESSAGES),
                Some(_) => oldest + 1,
            };
            state.oldest[conversation] = end;
            deleted += (end - oldest).max(1);
            let range = Mutation::DeleteRange(
                key(b'm', conversation, oldest),
                key(b'm', conversation, end),
            );
            let (store, sender) = (Arc::clone(store), delete_sender.clone());
            tokio::spawn(async move {
                let began = Instant::now();
                let transaction = Transaction { conditions: vec![], mutations: vec![range] };
                let outcome = store.commit(transaction).await;
                let _ = sender.send((began.elapsed(), outcome));
            });
        }
        if elapsed.as_secs() >= second + 5 {
            second = elapsed.as_secs();
            let worst = report.worst_us.iter().max().copied().unwrap_or(0);
            let megabytes = disk_bytes(dir)? >> 20;
            say(
                options,
                &format!(
                    "{second} s: {sent} sent, {deleted} deleted, worst so far {worst} us, disk {megabytes} MiB"
                ),
            );
        }
        while let Ok(result) = results.try_recv() {
            note(&mut report, counted, result)?;
        }
    }
    drop((sender, delete_sender));
    while let Some(result) = results.recv().await {
        note(&mut report, counted, result)?;
    }
    while let Some((took, outcome)) = deletes.recv().await {
        outcome?;
        report.deletes_us.push(u64::try_from(took.as_micros())?);
    }
    Ok(report)
}

type Outcome = (Instant, Duration, Result<(), tern_server::store::CommitError>);

fn note(
    report: &mut Report,
    counted: Instant,
    (intended, took, outcome): Outcome,
) -> Result<(), Failure> {
    outcome?;
    let Some(since) = intended.checked_duration_since(counted) else { return Ok(()) };
    let took_us = u64::try_from(took.as_micros())?;
    report.latencies_us.push(took_us);
    let second = usize::try_from(since.as_secs())?;
    if report.worst_us.len() <= second {
        report.worst_us.resize(second + 1, 0);
    }
    report.worst_us[second] = report.worst_us[second].max(took_us);
    Ok(())
}

fn disk_bytes(dir: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in dir.read_dir()? {
        // A log file may go while the directory is read.
        bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}

/// Progress goes to standard error, so that `--json` stays clean.
#[expect(clippy::print_stderr, reason = "a benchmark speaks to its user")]
fn say(_options: &Options, line: &str) {
    eprintln!("{line}");
}

#[expect(clippy::print_stdout, reason = "a benchmark speaks to its user")]
fn print(
    options: &Options,
    mut report: Report,
    disk: Disk,
    (found, scan_took): (usize, Duration),
    reopen: Duration,
) {
    let Disk { before, after, emptied } = disk;
    report.latencies_us.sort_unstable();
    report.deletes_us.sort_unstable();
    let at = |sorted: &[u64], part: f64| {
        let index = (sorted.len() as f64 * part) as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    let commits = &report.latencies_us;
    let [p50, p99, p999, worst] = [0.5, 0.99, 0.999, 1.0].map(|part| at(commits, part));
    let [delete_p50, delete_p999, delete_worst] =
        [0.5, 0.999, 1.0].map(|part| at(&report.deletes_us, part));
    let peak = peak_memory_kib();
    if options.json {
        println!(
            "{{\"rate\":{},\"seconds\":{},\"prefill\":{},\"conversations\":{},\"appends\":{},\
             \"p50_us\":{p50},\"p99_us\":{p99},\"p999_us\":{p999},\"worst_us\":{worst},\
             \"deletes\":{},\"delete_p50_us\":{delete_p50},\"delete_p999_us\":{delete_p999},\
             \"delete_worst_us\":{delete_worst},\"disk_before_bytes\":{before},\
             \"disk_after_bytes\":{after},\"disk_emptied_bytes\":{emptied},\"scan_pairs\":{found},\"scan_us\":{},\
             \"reopen_us\":{},\"peak_memory_kib\":{peak},\"seed\":{}}}",
            options.rate,
            options.seconds,
            options.prefill,
            options.conversations,
            commits.len(),
            report.deletes_us.len(),
            scan_took.as_micros(),
            reopen.as_micros(),
            options.seed,
        );
        return;
    }
    println!(
        "{} appends at {}/s over {} messages, latency from the intended start:",
        commits.len(),
        options.rate,
        options.prefill
    );
    println!("  commit  p50 {p50} us, p99 {p99} us, p99.9 {p999} us, worst {worst} us");
    println!(
        "  delete  p50 {delete_p50} us, p99.9 {delete_p999} us, worst {delete_worst} us ({} ranges)",
        report.deletes_us.len()
    );
    println!(
        "  disk    {} MiB before, {} MiB after, {} MiB when all is deleted",
        before >> 20,
        after >> 20,
        emptied >> 20
    );
    println!("  scan    {found} pairs in {scan_took:?}");
    println!("  reopen  {reopen:?}");
    println!("  memory  {} MiB at most", peak >> 10);
    println!(
        "  worst of each second, ms: {:?}",
        report.worst_us.iter().map(|us| us / 1000).collect::<Vec<_>>()
    );
}

/// The most memory that the process had, where the system tells; else 0.
fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
