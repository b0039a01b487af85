//! What the tests with real processes share.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::print_stdout, reason = "a test says where what happened is")]

pub(crate) mod binaries;
pub(crate) mod devices;
pub(crate) mod load;
pub(crate) mod planted;
pub(crate) mod server;
pub(crate) mod tern;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, ExitStatus},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long anything may take that isn't a matter of load. Only a bug takes so long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A process that doesn't outlive the test, however the test ends.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn new(child: Child) -> Self {
        Self(child)
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Kills with SIGKILL and waits until the process is gone and its locks with it.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal, as the command `kill` names it.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let status = std::process::Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("there is a command kill").success());
    }

    /// Waits for the end; panics if it doesn't come.
    pub(crate) fn wait(&mut self, what: &str) -> ExitStatus {
        poll(what, || self.0.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks again and again until there is an answer; panics if none comes within the deadline.
pub(crate) fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines that a process prints, read by a thread that ends with it.
pub(crate) fn lines(out: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // When nobody waits for lines any more, they are still read, so that the process can go on.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// The end of a text file, for reports.
pub(crate) fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
