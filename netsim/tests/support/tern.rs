//! The command `tern`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
};

use serde_json::Value;

use super::{DEADLINE, Process, binaries::binaries, lines, server::Server};

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    /// Exit status 0 is what was expected; answers what was printed.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// The one JSON object that was printed.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.good()).expect("one JSON object")
    }

    /// The JSON objects that were printed, one a line.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).expect("a JSON object a line");
        self.out.lines().map(parse).collect()
    }
}

/// A command that runs.
pub(crate) struct Running {
    pub(crate) process: Process,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// The next JSON object that it prints for which `is` holds.
    #[track_caller]
    pub(crate) fn until(&mut self, mut is: impl FnMut(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        loop {
            let line = self.lines.recv_timeout(DEADLINE).unwrap_or_else(|error| {
                panic!("what was waited for wasn't printed ({error}); what was: {seen:#?}")
            });
            let value = serde_json::from_str(&line).expect("a JSON object a line");
            if is(&value) {
                return value;
            }
            seen.push(line);
        }
    }
}

/// A device's home, and the command that acts in it.
pub(crate) struct Tern {
    home: PathBuf,
}

impl Tern {
    pub(crate) fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// A new account.
    pub(crate) fn register(server: &Server, home: &Path, name: &str) -> Self {
        let tern = Self::new(home);
        tern.try_register(server, name, &[]).good();
        tern
    }

    /// Tries to make an account, with further arguments.
    pub(crate) fn try_register(&self, server: &Server, name: &str, more: &[&str]) -> Outcome {
        let address = server.address().to_string();
        let ca = server.ca();
        let ca = ca.to_str().unwrap();
        let mut args = vec!["--server", &address, "--ca", ca, "register", name];
        args.extend(more);
        self.run(&args)
    }

    /// Starts a command and goes on beside it.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines(child.stdout.take().unwrap());
        Running { process: Process::new(child), lines }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&binaries().tern);
        command.arg("--home").arg(&self.home).args(args).env_remove("TERN_LOG");
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        let output = self.command(args).output().unwrap();
        Outcome {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
