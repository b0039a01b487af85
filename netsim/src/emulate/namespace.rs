//! Network namespaces, and running things in them.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::Path,
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::EmulateError;

/// Where `ip netns` keeps the names.
const FOLDER: &str = "/run/netns";
const PREFIX: &str = "tern-";
/// The number of the next one in this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A network namespace with a name. Dropped, it goes, with what runs in it.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// One that nobody else uses: its name is `tern-SIDE-PID-N`.
    pub(super) fn create(side: &str) -> Result<Self, EmulateError> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{side}-{}-{number}", process::id());
        ip(&["netns", "add", &name])?;
        match File::open(Path::new(FOLDER).join(&name)) {
            Ok(file) => Ok(Self { name, file }),
            Err(error) => {
                remove(&name);
                Err(EmulateError::Namespace(error))
            }
        }
    }

    /// Removes those whose process was killed before it could.
    pub(super) fn remove_abandoned() {
        // Without the folder there are none.
        for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let Some(pid) = owner(name) else { continue };
            if !Path::new("/proc").join(pid.to_string()).exists() {
                remove(name);
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Runs something on a thread within the namespace; sockets, devices and processes that it makes stay there.
    pub(super) fn within<T: Send>(
        &self,
        run: impl FnOnce() -> Result<T, EmulateError> + Send,
    ) -> Result<T, EmulateError> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|error| EmulateError::Namespace(error.into()))?;
                run()
            });
            let panicked = |_| EmulateError::Thread(io::Error::other("a thread has panicked"));
            inside.join().map_err(panicked)?
        })
    }

    pub(super) fn spawn(&self, mut command: Command) -> io::Result<Child> {
        // A process is in the namespace of the thread that started it.
        self.within(|| Ok(command.spawn())).map_err(io::Error::other)?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// The process that made a namespace of that name.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let side = parts.next()?;
    let pid = parts.next()?.parse().ok()?;
    let number: Option<u64> = parts.next()?.parse().ok();
    (matches!(side, "a" | "b") && number.is_some() && parts.next().is_none()).then_some(pid)
}

/// Removes a namespace and kills what runs in it. Failing is no matter: it may be gone already.
fn remove(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).stderr(Stdio::null()).output();
    let pids = pids.map(|output| output.stdout).unwrap_or_default();
    for pid in String::from_utf8_lossy(&pids).lines() {
        if let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    if let Err(error) = ip(&["netns", "del", name]) {
        tracing::debug!(%error, "a namespace stays");
    }
}

/// Runs the command `ip`, in the namespace of the calling thread.
pub(super) fn ip(args: &[&str]) -> Result<(), EmulateError> {
    let output =
        Command::new("ip").args(args).stdin(Stdio::null()).output().map_err(EmulateError::NoIp)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(EmulateError::Ip { command: args.join(" "), said })
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_own_names_are_taken_for_abandoned() {
        assert_eq!(owner("tern-a-17-0"), Some(17));
        assert_eq!(owner("tern-b-17-3"), Some(17));
        for foreign in
            ["tern", "tern-a", "tern-a-17", "tern-c-17-0", "tern-a-x-0", "tern-a-1-0-0", "a-1-0"]
        {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }
}
