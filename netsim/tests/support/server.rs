//! A server process.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{DEADLINE, Process, binaries::binaries, lines, tail};

/// The real server on a data folder and a port that stay the same over restarts.
pub(crate) struct Server {
    folder: PathBuf,
    address: SocketAddr,
    flags: Vec<String>,
    process: Option<Process>,
    /// What it printed, line by line.
    lines: mpsc::Receiver<String>,
}

impl Server {
    /// A server that isn't started yet, with flags.
    pub(crate) fn stopped(folder: &Path, flags: &[String]) -> Self {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Self::new(folder, free_port(), &flags)
    }

    /// Whether the process has ended by itself, and what it said at its end.
    pub(crate) fn has_ended(&mut self) -> Option<String> {
        let ended = self.process().child().try_wait().unwrap();
        ended.map(|status| format!("{status}; it logged:\n{}", tail(&self.log())))
    }

    /// Starts a server in a folder, with flags.
    pub(crate) fn start_with(folder: &Path, flags: &[&str]) -> Self {
        let mut server = Self::new(folder, free_port(), flags);
        server.restart();
        server.until_ready();
        server
    }

    fn new(folder: &Path, port: u16, flags: &[&str]) -> Self {
        Self {
            folder: folder.to_owned(),
            address: (Ipv4Addr::LOCALHOST, port).into(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            process: None,
            lines: mpsc::channel().1,
        }
    }

    /// Starts a server that picks its port, with flags. A restart picks another one.
    pub(crate) fn start_anywhere(folder: &Path, flags: &[&str]) -> Self {
        let mut server = Self::new(folder, 0, flags);
        server.restart();
        let line = server.line();
        let address = line.strip_prefix("listening on ").and_then(|address| address.parse().ok());
        server.address = address.unwrap_or_else(|| panic!("{line}"));
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file that clients trust.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.join("data/ca.pem")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server was started")
    }

    /// Starts the process again, and doesn't wait.
    pub(crate) fn restart(&mut self) {
        assert!(
            self.process.as_mut().is_none_or(|process| process
                .child()
                .try_wait()
                .unwrap()
                .is_some())
        );
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(&binaries().server);
        command
            .args(["--listen", &self.address.to_string()])
            .arg("--data")
            .arg(self.folder.join("data"))
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        without_settings(&mut command);
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let lines = lines(out);
        (self.process, self.lines) = (Some(Process::new(child)), lines);
    }

    /// A server that ended by itself has a bug.
    pub(crate) fn must_run(&mut self) {
        if let Some(status) = self.process().child().try_wait().unwrap() {
            panic!("the server ended: {status}; it logged:\n{}", tail(&self.log()));
        }
    }

    /// Waits until it listens.
    pub(crate) fn until_ready(&mut self) {
        let line = self.line();
        assert_eq!(line, format!("listening on {}", self.address));
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        self.lines.recv_timeout(DEADLINE).unwrap_or_else(|error| {
            let status = self.process().child().try_wait();
            let log = tail(&self.log());
            panic!("the server printed nothing ({error}, {status:?}); it logged:\n{log}")
        })
    }
}

/// Keeps settings in the test's own environment from a server.
pub(crate) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TERN_") {
            command.env_remove(name);
        }
    }
}

/// A port that stays free while nobody listens on it, because the system gives it to nobody: below
/// those that it picks itself.
pub(crate) fn free_port() -> u16 {
    let mut rng = StdRng::from_os_rng();
    loop {
        let port = rng.random_range(10_000..30_000);
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
