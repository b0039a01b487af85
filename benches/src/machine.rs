//! On what the figures were measured. Without it they mean nothing.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::Instant,
};

use serde::Serialize;

use crate::{
    error::{Context, Result},
    samples::Samples,
    server::ServerSettings,
};

/// Syncs of the disk that are timed.
const SYNCS: usize = 200;
/// Bytes written before each.
const SYNC_BYTES: usize = 256;

/// The machine, the disk and the programs of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// Processor.
    pub cpu: String,
    /// Cores that server and load generator share.
    pub cores: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Operating system and kernel.
    pub kernel: String,
    /// File system of the server's data, and the device that it is on.
    pub disk: String,
    /// Median of `fdatasync` after 256 bytes, in milliseconds.
    pub fdatasync_p50_ms: f64,
    /// 99th percentile of it, in milliseconds.
    pub fdatasync_p99_ms: f64,
    /// What the server says it is.
    pub server: String,
    /// This program.
    pub generator: String,
    /// Settings of the server that were given, beside the raised limits.
    pub set: Vec<String>,
    /// Whether this program was built without optimisation, which makes every figure worthless.
    pub is_debug_build: bool,
}

impl Machine {
    /// Looks at the machine and times its disk.
    pub fn look(settings: &ServerSettings) -> Result<Self> {
        let version = std::process::Command::new(&settings.binary).arg("--version").output();
        let version = version.context(format!("can't run {}", settings.binary.display()))?;
        let syncs = time_syncs(&settings.dir)?.sort();
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field("/proc/meminfo", "MemTotal")
                .split(' ')
                .next()
                .and_then(|kib| kib.parse().ok())
                .map_or(0, |kib: u64| kib / 1024),
            kernel: format!(
                "{} {}",
                std::env::consts::OS,
                fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim()
            ),
            disk: disk(&settings.dir),
            fdatasync_p50_ms: syncs.quantile_ms(0.5),
            fdatasync_p99_ms: syncs.quantile_ms(0.99),
            server: String::from_utf8_lossy(&version.stdout).trim().to_owned(),
            generator: concat!("tern-bench ", env!("CARGO_PKG_VERSION")).to_owned(),
            set: settings.set.clone(),
            is_debug_build: cfg!(debug_assertions),
        })
    }

    /// What is wrong with this machine for measuring.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.is_debug_build {
            warnings.push("a debug build: these figures say nothing".into());
        }
        if self.disk.starts_with("tmpfs") || self.disk.starts_with("ramfs") {
            warnings.push("the data is in memory, so fsync costs nothing here; see --dir".into());
        }
        warnings
    }
}

fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim());
    value.unwrap_or("unknown").to_owned()
}

/// The file system of a folder: the mount with the longest path that leads there.
fn disk(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (device, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
            dir.starts_with(place).then(|| (place.len(), format!("{kind} on {device}")))
        })
        .max_by_key(|&(length, _)| length)
        .map_or_else(|| "unknown".into(), |(_, disk)| disk)
}

fn time_syncs(dir: &Path) -> Result<Samples> {
    let mut samples = Samples::default();
    let folder = tempfile::tempdir_in(dir).context(format!("can't write to {}", dir.display()))?;
    let mut file = File::create(folder.path().join("probe")).context("can't make a file")?;
    for _ in 0..SYNCS {
        file.write_all(&[7; SYNC_BYTES]).context("can't write a file")?;
        let started = Instant::now();
        file.sync_data().context("can't sync a file")?;
        samples.add(started.elapsed());
    }
    Ok(samples)
}
