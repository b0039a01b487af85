//! The clients: processes of their own, each a device.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use tern_client::{AccountId, DeviceId};
use tern_netsim::standing::Standing;

use super::{Process, tail};

/// A registered device and, while it runs, its process.
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) account: AccountId,
    pub(crate) device: DeviceId,
    folder: PathBuf,
    journal: PathBuf,
    peers: Vec<AccountId>,
    process: Option<Process>,
    standing: Arc<Mutex<Option<Standing>>>,
}

impl Device {
    pub(crate) fn new(
        folder: &Path,
        name: &str,
        (account, device): (AccountId, DeviceId),
        peers: Vec<AccountId>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            account,
            device,
            journal: folder.join("journal"),
            folder: folder.to_owned(),
            peers,
            process: None,
            standing: Arc::default(),
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// Starts the process; `run` is a number that no other start has.
    pub(crate) fn start(&mut self, run: u64) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tern-netsim-device"))
            .arg(self.folder.join(&self.name))
            .arg(&self.journal)
            .arg(run.to_string())
            .args(self.peers.iter().map(AccountId::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        self.process = Some(Process::new(child));
        let standing = Arc::new(Mutex::default());
        self.standing = standing.clone();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                *standing.lock().unwrap() = serde_json::from_str(&line).ok();
            }
        });
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// A device that ended by itself has met something that it can't live with.
    pub(crate) fn must_run(&mut self) {
        if let Some(process) = &mut self.process
            && let Some(status) = process.child().try_wait().unwrap()
        {
            panic!("{} ended: {status}\n{}", self.name, tail(&self.log()));
        }
    }

    pub(crate) fn order(&mut self, order: &str) {
        if let Some(process) = &mut self.process {
            let mut orders = process.child().stdin.as_ref().unwrap();
            // A device that has died is found by `must_run`.
            let _ = writeln!(orders, "{order}");
        }
    }

    /// Tells the device to record its store, and waits for its end.
    pub(crate) fn finish(&mut self) {
        self.order("finish");
        let mut process = self.process.take().expect("it runs");
        let status = process.wait("a device's end");
        assert!(status.success(), "{} ended: {status}\n{}", self.name, tail(&self.log()));
    }

    /// How it said last that it stands.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.standing.lock().unwrap().clone()
    }

    pub(crate) fn said(&self) -> String {
        tail(&self.log())
    }
}
