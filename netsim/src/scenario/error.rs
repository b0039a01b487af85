//! Why a scenario can't be used.

use std::{fmt, io, path::PathBuf};

use crate::link::{LinkError, TraceError};

/// A scenario can't be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file can't be read.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It isn't TOML, or has fields that aren't known.
    Toml(toml::de::Error),
    /// A value is out of bounds.
    Bounds {
        /// Which.
        field: &'static str,
        /// The least that it may be.
        from: f64,
        /// The most.
        to: f64,
    },
    /// There are more events, or more steps in them, than a run may have.
    TooManyEvents,
    /// A line of the events has no action, or several.
    Actions {
        /// Which line, from 1.
        line: usize,
    },
    /// There is neither a bundled scenario nor a file of this name.
    Unknown(String),
    /// A change of a value that isn't one, or has no place in the scenario.
    Change(String),
    /// There is no such profile.
    UnknownProfile(String),
    /// There is no such phone.
    UnknownPhone(String),
    /// A link can't be as it is said to be.
    Link(LinkError),
    /// A trace can't be read.
    Trace(TraceError),
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, source } => write!(f, "can't read {}: {source}", path.display()),
            Self::Toml(error) => write!(f, "not a scenario: {error}"),
            Self::Bounds { field, from, to } => write!(f, "{field} must be {from} to {to}"),
            Self::TooManyEvents => {
                write!(f, "more than {} events or steps", super::MAX_EVENTS)
            }
            Self::Actions { line } => write!(f, "event {line} must have one action"),
            Self::Unknown(name) => {
                let names = super::variant::names();
                write!(f, "no scenario is called {name:?}, and no file; there are {names}")
            }
            Self::Change(text) => {
                write!(
                    f,
                    "{text:?} must be key=value with a key of the scenario, such as load.bytes=20"
                )
            }
            Self::UnknownProfile(name) => {
                write!(f, "there is no profile {name:?}; `tern-netsim profiles` lists them")
            }
            Self::UnknownPhone(name) => write!(f, "there is no phone {name:?}; they are p0, p1 …"),
            Self::Link(error) => error.fmt(f),
            Self::Trace(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ScenarioError {}
