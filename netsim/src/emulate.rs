//! A bad network for any program, TCP too: two network namespaces with a path between them, in user space.
//!
//! The client's namespace `tern-a-PID-N` has the address [`CLIENT`], the server's `tern-b-PID-N` has [`SERVER`], and
//! nothing else is reachable from either. Each has a TUN device; what leaves one goes through a
//! [`Link`] and comes out of the other. So nothing is asked of the kernel but TUN and
//! namespaces, and it meets the same links as the simulator and the proxy do.
//!
//! Sizes are those of IP packets. A flipped bit meets the receiving kernel's checksums, so to TCP it is a loss.
//! Changes of the client's address are the proxy's business and refused here.
//!
//! Namespaces and devices go when the [`Emulation`] is dropped, with whatever still runs in them. After a
//! SIGKILL they stay, and the next emulation removes them.

mod core;
mod device;
mod namespace;

use std::{
    error::Error,
    fmt, io,
    net::Ipv4Addr,
    process::{Child, Command},
    sync::Arc,
    thread::{self, JoinHandle},
};

use serde::Serialize;

use self::{
    core::{Core, Shared},
    device::Device,
    namespace::Namespace,
};
use crate::{
    lateness::LatenessSummary,
    link::{Counts, Link, Tally},
    path::{PathError, PathSettings},
};

/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The server's address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// How much may be on its way, in bytes, in both directions: 64 MiB.
pub const MAX_IN_FLIGHT_BYTES: usize = 64 << 20;

/// One end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where [`CLIENT`] is.
    Client,
    /// Where [`SERVER`] is.
    Server,
}

/// What has become of all packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// From the server to the client.
    pub down: Counts,
    /// From the client to the server.
    pub up: Counts,
    /// Swallowed by an outage, in both directions; they aren't among the ones above.
    pub black_hole: Tally,
    /// Dropped because too much was on its way, although the link would have delivered them.
    pub overload: Tally,
    /// Refused by the kernel as they were to be handed on.
    pub unsent: Tally,
    /// How late packets were handed on.
    pub lateness: LatenessSummary,
}

/// Two namespaces with a path between them. Dropped, it takes them away.
#[derive(Debug)]
pub struct Emulation {
    client: Namespace,
    server: Namespace,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Emulation {
    /// Makes the namespaces and begins to carry packets. `seed` decides what chance decides.
    ///
    /// # Errors
    ///
    /// [`EmulateError`] says what is missing: root's rights, TUN, the command `ip`, or sensible settings.
    pub fn start(path: PathSettings, seed: u64) -> Result<Self, EmulateError> {
        path.check().map_err(EmulateError::Path)?;
        if path.rebind.is_some() {
            return Err(EmulateError::Rebind);
        }
        if !rustix::process::geteuid().is_root() {
            return Err(EmulateError::NotRoot);
        }
        let link = |direction, settings, seed| {
            Link::new(settings, seed)
                .map_err(|error| EmulateError::Path(PathError::Link { direction, error }))
        };
        let seed = seed.rotate_left(32);
        let down = link("down", path.down, seed)?;
        let up = link("up", path.up, seed ^ 1)?;

        Namespace::remove_abandoned();
        let client = Namespace::create("a")?;
        let server = Namespace::create("b")?;
        let client_device = Arc::new(Device::open(&client, CLIENT)?);
        let server_device = Arc::new(Device::open(&server, SERVER)?);
        let core = Core::new(down, up, path.black_hole);
        let shared = Arc::new(Shared::new(core, client_device, server_device));
        let mut emulation = Self { client, server, shared, threads: Vec::new() };
        emulation.start_thread("netsim-sender", core::send)?;
        emulation.start_thread("netsim-client", |shared| core::receive(shared, Side::Client))?;
        emulation.start_thread("netsim-server", |shared| core::receive(shared, Side::Server))?;
        Ok(emulation)
    }

    fn start_thread(&mut self, name: &str, run: fn(&Shared)) -> Result<(), EmulateError> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
        self.threads.push(thread.map_err(EmulateError::Thread)?);
        Ok(())
    }

    /// The name of a side's namespace, for `ip netns exec NAME COMMAND` from another terminal.
    pub fn namespace(&self, side: Side) -> &str {
        self.side(side).name()
    }

    fn side(&self, side: Side) -> &Namespace {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// Starts a command on one side. It is killed when the emulation ends.
    ///
    /// # Errors
    ///
    /// The system's, mostly that there is no such program.
    pub fn spawn(&self, side: Side, command: Command) -> io::Result<Child> {
        self.side(side).spawn(command)
    }

    /// Runs something on a thread of its own on one side. Sockets that it makes stay on that side, wherever they
    /// are used.
    ///
    /// # Errors
    ///
    /// [`EmulateError`] if the namespace can't be entered, or if `run` panics.
    pub fn within<T: Send>(
        &self,
        side: Side,
        run: impl FnOnce() -> T + Send,
    ) -> Result<T, EmulateError> {
        self.side(side).within(|| Ok(run()))
    }

    /// What has happened so far.
    pub fn report(&self) -> Report {
        self.shared.lock().report()
    }
}

impl Drop for Emulation {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // They have nothing to say, and a panic in one was already printed.
            let _ = thread.join();
        }
    }
}

/// Why there is no emulation.
#[derive(Debug)]
#[non_exhaustive]
pub enum EmulateError {
    /// The path can't be like that.
    Path(PathError),
    /// The settings change the client's address, which only the proxy does.
    Rebind,
    /// The process isn't root's.
    NotRoot,
    /// The command `ip` couldn't be run.
    NoIp(io::Error),
    /// The command `ip` ended with an error.
    Ip {
        /// Its arguments.
        command: String,
        /// What it said.
        said: String,
    },
    /// A namespace can't be entered.
    Namespace(io::Error),
    /// There is no TUN device.
    Tun(io::Error),
    /// There is no thread.
    Thread(io::Error),
}

impl fmt::Display for EmulateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(error) => error.fmt(f),
            Self::Rebind => {
                f.write_str("the path changes the client's address, which only the proxy can do")
            }
            Self::NotRoot => f.write_str("needs root, to make network namespaces and TUN devices"),
            Self::NoIp(error) => write!(f, "can't run `ip` (of the package iproute2): {error}"),
            Self::Ip { command, said } => write!(f, "`ip {command}` failed: {said}"),
            Self::Namespace(error) => write!(f, "can't enter a network namespace: {error}"),
            Self::Tun(error) => write!(f, "can't make a TUN device (/dev/net/tun): {error}"),
            Self::Thread(error) => write!(f, "can't start a thread: {error}"),
        }
    }
}

impl Error for EmulateError {}
