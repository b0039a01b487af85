//! What makes a command fail, and with which exit status.

use std::{fmt, io, path::PathBuf, process::ExitCode};

use tern_client::{
    Code, ConnectError, OpenError, RegisterError, RequestError, SendError, StoreError,
};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    NoHome,
    NotRegistered,
    ServerNeeded,
    File(PathBuf, io::Error),
    Output(io::Error),
    Open(OpenError),
    Register(RegisterError),
    Connect(ConnectError),
    Send(SendError),
    Request(RequestError),
    Store(StoreError),
    NoSuchAccount(String),
    NotAnId(String),
    /// The message will never be accepted.
    Failed(Option<Code>),
    /// What was waited for didn't come in time; the text says what.
    TimedOut(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::TimedOut(_) => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHome => f.write_str("there is no home folder; name one with --home DIR"),
            Self::NotRegistered => f.write_str(
                "this home has no account yet; make one:\n  \
                 tern --server HOST:PORT --ca FILE register NAME",
            ),
            Self::ServerNeeded => f.write_str(
                "register needs to know the server: --server HOST:PORT and --ca FILE \
                 (the server's ca.pem)",
            ),
            Self::File(path, error) => write!(f, "can't read {}: {error}", path.display()),
            Self::Output(error) => write!(f, "can't write: {error}"),
            Self::Open(error) => error.fmt(f),
            Self::Register(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
            Self::Request(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::NoSuchAccount(name) => write!(f, "there is no account {name:?} on this server"),
            Self::NotAnId(id) => {
                write!(f, "{id:?} isn't a device id: 16 hex digits, as `tern devices` prints them")
            }
            Self::Failed(Some(Code::UnknownName)) => {
                f.write_str("the message failed: there is no such account on this server")
            }
            Self::Failed(Some(code)) => write!(f, "the message failed: {}", code.meaning()),
            Self::Failed(None) => {
                f.write_str("the message failed: the server deleted it before anybody fetched it")
            }
            Self::TimedOut(what) => f.write_str(what),
        }
    }
}

macro_rules! from {
    ($($variant:ident($error:ty))*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from! {
    Open(OpenError)
    Register(RegisterError)
    Connect(ConnectError)
    Send(SendError)
    Request(RequestError)
    Store(StoreError)
    Output(io::Error)
}
