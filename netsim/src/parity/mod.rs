//! The same job in real time and in virtual time: does the simulator tell the truth?
//!
//! Two phones and a server, real ones in both: once on a simulated network in virtual time, once over UDP
//! sockets through [`proxy`](crate::proxy) in real time, with the same [`Link`](crate::link::Link)s. The
//! server's disk is the simulator's in both, with syncs of 2 ms, so that the machine's disk isn't measured.
//!
//! Where the links leave nothing to chance both take equally long, but for what a simulation leaves
//! out: in real time, computing takes time, and the proxy hands on each packet a little late.

mod job;
mod real;
mod simulated;

use std::{fmt, io};

use serde::Serialize;
use tern_client::{OpenError, RegisterError, SendError, StoreError};

pub use self::job::Times;
use crate::{
    figures::Case,
    profile::Profile,
    proxy::ProxyError,
    sim::{PhoneError, ServerError},
};

/// What both did, on the links of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parity {
    /// The case's name.
    pub case: String,
    /// Whether chance decides about packets, so that one run in real time tells little.
    pub by_chance: bool,
    /// In virtual time.
    pub simulated: Times,
    /// In real time, the median of the repeats.
    pub real: Times,
}

/// The links on which both are compared: deterministic ones first.
pub fn cases() -> Vec<Case> {
    let profiles = ["interop", "3g", "long-rtt", "lte", "transfer-loss"];
    let profiles = profiles.iter().filter_map(|name| Case::profile(&Profile::named(name)?));
    [Case::rtt(100.0, 0.0)].into_iter().chain(profiles).collect()
}

/// Does the job in virtual time once, and in real time so often, one after the other.
///
/// # Errors
///
/// [`ParityError`] if one of them fails.
pub fn parity(case: &Case, repeats: usize, seed: u64) -> Result<Parity, ParityError> {
    let simulated = simulated::run(case, seed)?;
    let real: Result<Vec<_>, _> =
        (0..repeats.max(1) as u64).map(|repeat| real::run(case, seed + repeat)).collect();
    let (case, by_chance) = (case.name.clone(), case.is_by_chance());
    Ok(Parity { case, by_chance, simulated, real: Times::median(&real?) })
}

/// The job can't be done.
#[derive(Debug)]
#[non_exhaustive]
pub enum ParityError {
    /// A socket, a file or the runtime.
    Io(io::Error),
    /// The simulated server.
    SimServer(ServerError),
    /// The real server.
    Server(String),
    /// The proxy.
    Proxy(ProxyError),
    /// A simulated phone.
    Phone(PhoneError),
    /// A client can't be opened.
    Open(OpenError),
    /// A client can't be registered.
    Register(RegisterError),
    /// A client doesn't take a message.
    Send(SendError),
    /// A client's store failed.
    Store(StoreError),
    /// What was due hasn't come within this many seconds.
    Late(u64),
    /// The client has gone.
    Gone,
}

impl fmt::Display for ParityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::SimServer(error) => error.fmt(f),
            Self::Server(error) => write!(f, "the server doesn't start: {error}"),
            Self::Proxy(error) => write!(f, "the proxy doesn't start: {error}"),
            Self::Phone(error) => error.fmt(f),
            Self::Open(error) => write!(f, "a phone doesn't start: {error}"),
            Self::Register(error) => write!(f, "a phone can't register: {error}"),
            Self::Send(error) => write!(f, "a message isn't taken: {error}"),
            Self::Store(error) => error.fmt(f),
            Self::Late(seconds) => write!(f, "a message hasn't come within {seconds} s"),
            Self::Gone => f.write_str("a client has ended by itself"),
        }
    }
}

impl std::error::Error for ParityError {}

macro_rules! from {
    ($($error:ty => $variant:ident),* $(,)?) => {$(
        impl From<$error> for ParityError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from!(
    io::Error => Io,
    ServerError => SimServer,
    ProxyError => Proxy,
    PhoneError => Phone,
    OpenError => Open,
    RegisterError => Register,
    SendError => Send,
    StoreError => Store,
);
