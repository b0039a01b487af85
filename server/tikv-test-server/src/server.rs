//! The handle that a test holds.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Counts, Options, Planted, Rule, RuleId, StartError,
    core::Core,
    counters::Counters,
    faults::Faults,
    mvcc::{Columns, KeyError, Timestamp},
    persist::LogError,
    planted::{PlantError, plant},
    regions::{Region, RegionChangeError, Regions},
    running::{Addresses, Running},
};

/// A server, and what can be done to it. Dropped, it stops as if it were killed.
///
/// It runs on threads of its own, so it serves also while a test's runtime waits or its time stands still. No
/// method of the handle is async; [`TestServer::stop`] and [`TestServer::start_again`] wait for threads, for
/// milliseconds.
#[derive(Debug)]
pub struct TestServer {
    options: Options,
    addresses: Option<Addresses>,
    running: Option<Running>,
    faults: Arc<Mutex<Faults>>,
    counters: Arc<Counters>,
}

/// Whose listener and connections a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// PD's.
    Pd,
    /// A store's; stores are numbered from 1.
    Store(u64),
}

/// Why a fault wasn't made.
#[derive(Debug)]
#[non_exhaustive]
pub enum FaultError {
    /// The server is stopped.
    Stopped,
    /// There is nothing of that name.
    NoSuchEndpoint(Endpoint),
    /// The regions can't be changed so.
    Regions(RegionChangeError),
    /// A planted transaction met others' locks or values.
    Refused(Vec<KeyError>),
    /// The log can't be written.
    Log(LogError),
}

impl std::fmt::Display for FaultError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped => write!(f, "the server is stopped"),
            Self::NoSuchEndpoint(endpoint) => write!(f, "there is no {endpoint:?}"),
            Self::Regions(error) => write!(f, "{error}"),
            Self::Refused(errors) => write!(f, "the transaction met others: {errors:?}"),
            Self::Log(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for FaultError {}

impl From<RegionChangeError> for FaultError {
    fn from(error: RegionChangeError) -> Self {
        Self::Regions(error)
    }
}

impl From<LogError> for FaultError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl TestServer {
    /// Starts a server; when it returns, clients can connect.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the options, their folder or their addresses can't be used.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let mut server = Self {
            options,
            addresses: None,
            running: None,
            faults: Arc::default(),
            counters: Arc::default(),
        };
        server.start_again()?;
        Ok(server)
    }

    /// Starts a stopped server, at the same addresses, with the same rules and counters and what its folder
    /// says; without a folder, empty. What was refused or frozen isn't any more.
    ///
    /// # Errors
    ///
    /// [`StartError::Running`] if it isn't stopped, and those of [`TestServer::start`].
    pub fn start_again(&mut self) -> Result<(), StartError> {
        if self.running.is_some() {
            return Err(StartError::Running);
        }
        let running =
            Running::start(&self.options, &self.faults, &self.counters, &mut self.addresses)?;
        self.running = Some(running);
        Ok(())
    }

    /// Stops, as if the process were killed: connections break off, calls under way aren't answered, and late
    /// ones never come. The addresses stay the server's.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Where PD listens: the endpoint that a client is given.
    pub fn pd_address(&self) -> SocketAddr {
        // Never empty once started, and only then is there a handle.
        self.addresses.as_ref().map_or(self.options.listen, |addresses| addresses.all[0])
    }

    /// Where the stores listen, from the first on.
    pub fn store_addresses(&self) -> Vec<SocketAddr> {
        self.addresses.as_ref().map_or_else(Vec::new, |addresses| addresses.all[1..].to_vec())
    }

    /// What calls have cost since the start or the last reset.
    pub fn counts(&self) -> Counts {
        self.counters.snapshot()
    }

    /// Sets all counts to 0.
    pub fn reset_counts(&self) {
        self.counters.reset();
    }

    /// Puts a rule in force, after those that are.
    pub fn fault(&self, rule: Rule) -> RuleId {
        self.faults().add(rule)
    }

    /// Takes a rule out of force. Not there any more: nothing happens.
    pub fn remove_fault(&self, id: RuleId) {
        self.faults().remove(id);
    }

    /// Takes all rules and chaos out of force. Refusals, frozen connections and the oracle's silence are apart.
    pub fn clear_faults(&self) {
        self.faults().clear();
    }

    /// Seeds the choices of [`Rule::probability`]. Without it the seed is 0.
    pub fn seed_faults(&self, seed: u64) {
        self.faults().set_seed(seed);
    }

    /// From now on anything happens to a share of all calls, from 0 (none) to 1 (all): every [`Effect`] but
    /// entries too large, mostly those that cost a client little time. Up to 0.2 or so a client that tries again
    /// gets on.
    ///
    /// [`Effect`]: crate::Effect
    pub fn chaos(&self, seed: u64, intensity: f64) {
        self.faults().set_chaos(seed, intensity);
    }

    /// How often each effect has struck, by its name.
    pub fn struck(&self) -> BTreeMap<&'static str, u64> {
        self.faults().struck()
    }

    /// Begins a new region at a key.
    ///
    /// # Errors
    ///
    /// [`FaultError::Regions`] if one begins there already; [`FaultError::Stopped`]; [`FaultError::Log`].
    pub fn split(&self, key: &[u8]) -> Result<(), FaultError> {
        self.change_regions(|regions| regions.split(key).map(|_| ()))
    }

    /// Joins the region of a key with the one behind it.
    ///
    /// # Errors
    ///
    /// [`FaultError::Regions`] if there is none behind it; [`FaultError::Stopped`]; [`FaultError::Log`].
    pub fn merge(&self, key: &[u8]) -> Result<(), FaultError> {
        self.change_regions(|regions| regions.merge(key))
    }

    /// Makes a store lead the region of a key; clients find out by `NotLeader`.
    ///
    /// # Errors
    ///
    /// [`FaultError::Regions`] if there is no such store; [`FaultError::Stopped`]; [`FaultError::Log`].
    pub fn move_leader(&self, key: &[u8], store: u64) -> Result<(), FaultError> {
        self.change_regions(|regions| regions.move_leader(key, store))
    }

    /// Changes the epoch of the region of a key; clients find out by `EpochNotMatch`.
    ///
    /// # Errors
    ///
    /// [`FaultError::Stopped`]; [`FaultError::Log`].
    pub fn touch_region(&self, key: &[u8]) -> Result<(), FaultError> {
        self.change_regions(|regions| {
            regions.touch(key);
            Ok(())
        })
    }

    /// The regions, in the order of their keys; none if the server is stopped.
    pub fn regions(&self) -> Vec<Region> {
        self.with_core(|core| core.regions().iter().cloned().collect()).unwrap_or_default()
    }

    /// Refuses prewrites whose keys and values are larger than so many bytes together. Until the next start.
    ///
    /// # Errors
    ///
    /// [`FaultError::Stopped`].
    pub fn limit_raft_entries(&self, limit: Option<usize>) -> Result<(), FaultError> {
        self.with_core(|core| core.set_raft_entry_limit(limit))
    }

    /// Leaves the locks of a client that died, and returns its transaction's start.
    ///
    /// # Errors
    ///
    /// [`FaultError::Refused`] if other locks or newer values are in the way; [`FaultError::Stopped`];
    /// [`FaultError::Log`].
    pub fn plant(&self, planted: &Planted) -> Result<Timestamp, FaultError> {
        self.with_core(|core| plant(core, planted))?.map_err(|error| match error {
            PlantError::Log(error) => FaultError::Log(error),
            PlantError::Refused(errors) => FaultError::Refused(errors),
        })
    }

    /// Sets the oracle's clock ahead, so that locks expire without waiting. Until the next start; timestamps
    /// given out since stay above those before.
    ///
    /// # Errors
    ///
    /// [`FaultError::Stopped`].
    pub fn advance_clock(&self, by: Duration) -> Result<(), FaultError> {
        self.with_core(|core| core.advance_clock(by))
    }

    /// Gives no timestamps from now on, or gives those that were asked for and goes on. Streams stay open.
    ///
    /// # Errors
    ///
    /// [`FaultError::Stopped`].
    pub fn silence_oracle(&self, silent: bool) -> Result<(), FaultError> {
        let running = self.running.as_ref().ok_or(FaultError::Stopped)?;
        running.shared.silence.send_replace(silent);
        Ok(())
    }

    /// Refuses new connections, or accepts them again. Open ones stay: [`TestServer::disconnect`] ends them.
    ///
    /// # Errors
    ///
    /// [`FaultError::Stopped`]; [`FaultError::NoSuchEndpoint`].
    pub fn refuse_connects(&self, endpoint: Endpoint, refuse: bool) -> Result<(), FaultError> {
        self.gate(endpoint)?.refuse(refuse);
        Ok(())
    }

    /// Lets no byte pass any more, on open and on new connections, or lets them go on where they stood: a cable
    /// that is pulled, and plugged in again.
    ///
    /// # Errors
    ///
    /// [`FaultError::Stopped`]; [`FaultError::NoSuchEndpoint`].
    pub fn freeze(&self, endpoint: Endpoint, freeze: bool) -> Result<(), FaultError> {
        self.gate(endpoint)?.freeze(freeze);
        Ok(())
    }

    /// Resets open connections.
    ///
    /// # Errors
    ///
    /// [`FaultError::Stopped`]; [`FaultError::NoSuchEndpoint`].
    pub fn disconnect(&self, endpoint: Endpoint) -> Result<(), FaultError> {
        self.gate(endpoint)?.disconnect();
        Ok(())
    }

    /// A copy of the data, to look at locks and versions.
    ///
    /// # Errors
    ///
    /// [`FaultError::Stopped`].
    pub fn columns(&self) -> Result<Columns, FaultError> {
        self.with_core(|core| core.engine().columns().clone())
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_core<T>(&self, act: impl FnOnce(&mut Core) -> T) -> Result<T, FaultError> {
        let running = self.running.as_ref().ok_or(FaultError::Stopped)?;
        Ok(act(&mut running.shared.core()))
    }

    fn change_regions(
        &self,
        change: impl FnOnce(&mut Regions) -> Result<(), RegionChangeError>,
    ) -> Result<(), FaultError> {
        Ok(self.with_core(|core| core.change_regions(change))???)
    }

    fn gate(&self, endpoint: Endpoint) -> Result<&crate::network::Gate, FaultError> {
        let running = self.running.as_ref().ok_or(FaultError::Stopped)?;
        let index = match endpoint {
            Endpoint::Pd => 0,
            Endpoint::Store(0) => return Err(FaultError::NoSuchEndpoint(endpoint)),
            Endpoint::Store(number) => usize::try_from(number).unwrap_or(usize::MAX),
        };
        let gate = running.shared.gates.get(index).ok_or(FaultError::NoSuchEndpoint(endpoint))?;
        Ok(gate)
    }
}
