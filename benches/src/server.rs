//! The server under test: a real `tern-server` process with a data folder of its own.

use std::{
    fs::File,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    error::{BenchError, Context, Result},
    process,
};

/// How long a server may take until it listens, and until it stops.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of the server's log that are shown when it fails.
const LOG_LINES: usize = 10;

/// Limits that would otherwise be measured instead of the server: a load generator is one address
/// and types faster than anybody.
pub const RAISED_LIMITS: &[&str] = &[
    "limits.messages_per_device_per_second=1000000",
    "limits.messages_per_device_burst=1000000",
    "limits.sign_ins_per_address_per_second=1000000",
    "limits.sign_ins_per_address_burst=1000000",
    "limits.registrations_per_address_per_hour=10000000",
    "limits.registrations_per_address_burst=1000000",
    "limits.connections_per_address=10000000",
    "listen.connections=1000000",
];

/// How the server is started.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The program.
    pub binary: PathBuf,
    /// The folder in which each server gets a data folder; it decides which disk is measured.
    pub dir: PathBuf,
    /// Further settings, `SECTION.NAME=VALUE`, over [`RAISED_LIMITS`].
    pub set: Vec<String>,
}

/// A running server. It is killed when dropped, and its data is deleted.
pub struct ServerProcess {
    child: Child,
    pid: u32,
    address: SocketAddr,
    ca_pem: String,
    settings: ServerSettings,
    folder: Folder,
}

impl ServerProcess {
    /// Starts a server with empty data and waits until it listens.
    pub async fn start(settings: &ServerSettings) -> Result<Self> {
        let folder = TempDir::with_prefix_in("tern-bench-", &settings.dir)
            .context(format!("can't make a folder in {}", settings.dir.display()))?;
        Self::start_in(settings.clone(), Folder { dir: folder, is_shown: false }).await
    }

    async fn start_in(settings: ServerSettings, mut folder: Folder) -> Result<Self> {
        let data = folder.dir.path().join("data");
        let log = File::options().create(true).append(true).open(folder.log());
        let log = log.context("can't make the server's log")?;
        let mut command = Command::new(&settings.binary);
        command.args(["--listen", "127.0.0.1:0", "--admin", "off", "--log", "warn"]);
        command.arg("--data").arg(&data);
        let given = |raised: &str| {
            let key = raised.split('=').next().unwrap_or(raised);
            settings.set.iter().any(|set| set.split('=').next().map(str::trim) == Some(key))
        };
        let raised = RAISED_LIMITS.iter().filter(|raised| !given(raised)).copied();
        for set in raised.chain(settings.set.iter().map(String::as_str)) {
            command.args(["--set", set]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context(format!("can't start {}", settings.binary.display()))?;
        let mut failed = || {
            folder.is_shown = true;
            let log = tail(&folder.log());
            BenchError::new(format!("the server didn't start; its last words:\n{log}"))
        };
        let (Some(stdout), Some(pid)) = (child.stdout.take(), child.id()) else {
            return Err(failed());
        };
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.ok().and_then(|line| line.ok()?);
        let address = line
            .and_then(|line| line.strip_prefix("listening on ")?.parse().ok())
            .ok_or_else(failed)?;
        // What else it says isn't of interest, but a full pipe would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let ca_pem = std::fs::read_to_string(data.join("ca.pem"))
            .context("can't read the server's ca.pem")?;
        Ok(Self { child, pid, address, ca_pem, settings, folder })
    }

    /// Stops the server in the way of an operator and starts it again with the same data.
    pub async fn restart(mut self) -> Result<Self> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).context("can't stop the server")?;
        }
        let stopped = timeout(PATIENCE, self.child.wait()).await;
        stopped.context("the server doesn't stop")?.context("the server doesn't stop")?;
        Self::start_in(self.settings, self.folder).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its clients trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// CPU time used up to now.
    pub fn cpu_time(&self) -> Result<Duration> {
        process::cpu_time(self.pid)
    }

    /// Memory in use, in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        process::rss_kib(self.pid)
    }
}

/// The folder of a server, deleted when dropped. What the server logged, which are warnings and errors
/// alone, is shown before.
struct Folder {
    dir: TempDir,
    is_shown: bool,
}

impl Folder {
    fn log(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let log = tail(&self.log());
        if !self.is_shown && !log.is_empty() {
            // Nobody may be listening.
            let _ = writeln!(io::stderr(), "the server's last words:\n{log}");
        }
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Finds `tern-server` beside this program.
pub fn find_binary() -> Result<PathBuf> {
    let own = std::env::current_exe().context("can't find this program's folder")?;
    let binary = own.with_file_name("tern-server");
    if binary.is_file() {
        return Ok(binary);
    }
    Err(BenchError::new(format!(
        "there is no {}; build it with `cargo build --release -p tern-server`, or say where it is \
         with --server-binary",
        binary.display()
    )))
}
