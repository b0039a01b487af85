//! Why a run can't be made or finished.

use std::{fmt, io};

use tern_client::StoreError;

use crate::{
    app::AppError,
    link::LinkError,
    scenario::ScenarioError,
    sim::{PhoneError, ServerError, Stuck},
};

/// A run can't be made or finished. That a promise was broken isn't one of the reasons.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// Files, threads.
    Io(io::Error),
    /// The scenario isn't one.
    Scenario(ScenarioError),
    /// A link can't be as it is said to be.
    Link(LinkError),
    /// The server doesn't start.
    Server(ServerError),
    /// A phone doesn't start or can't register.
    Phone(PhoneError),
    /// A phone's store fails.
    Store(StoreError),
    /// An application fails.
    App(AppError),
    /// An application panicked.
    Panicked,
    /// The world never comes to rest.
    Stuck(Stuck),
    /// A promise was broken where the run was to measure something.
    Broken {
        /// The run's seed.
        seed: u64,
        /// What was broken.
        what: String,
    },
    /// The phones don't get connected at the begin, when the network is good.
    NeverConnected,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Scenario(error) => error.fmt(f),
            Self::Link(error) => error.fmt(f),
            Self::Server(error) => error.fmt(f),
            Self::Phone(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::App(error) => write!(f, "an application: {error}"),
            Self::Panicked => f.write_str("an application panicked"),
            Self::Stuck(stuck) => stuck.fmt(f),
            Self::Broken { seed, what } => write!(f, "with seed {seed}, {what}"),
            Self::NeverConnected => f.write_str("the phones don't connect in a good network"),
        }
    }
}

impl std::error::Error for RunError {}

impl From<LinkError> for RunError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<ServerError> for RunError {
    fn from(error: ServerError) -> Self {
        Self::Server(error)
    }
}
