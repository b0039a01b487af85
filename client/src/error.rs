//! One error for each kind of operation. Each says what went wrong and what to do.

use std::{fmt, io, sync::Arc};

use quinn::ConnectionError;
use tern_protocol::code::Code;

use crate::{content::ContentError, home::HomeError, network::ServerError, store::StoreError};

/// Why a client can't be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The home can't be used.
    Home(HomeError),
    /// The store in it can't be used.
    Store(StoreError),
    /// The store names a server that can't be tried.
    Server(ServerError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Server(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<HomeError> for OpenError {
    fn from(error: HomeError) -> Self {
        Self::Home(error)
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ServerError> for OpenError {
    fn from(error: ServerError) -> Self {
        Self::Server(error)
    }
}

/// Why a connection couldn't be made, or ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectError {
    /// This home belongs to no account yet.
    NotRegistered,
    /// The server's address, name or certificate authority can't be used.
    Server(Arc<ServerError>),
    /// The host's name has no address, or no socket can be had.
    Network(Arc<io::Error>),
    /// QUIC or TLS failed, or the connection was lost.
    Quic(ConnectionError),
    /// It took too long.
    TimedOut,
    /// The server refused the hello.
    Rejected {
        /// Why.
        code: Code,
        /// The server's words.
        text: String,
        /// When to try again, in milliseconds; 0: not unchanged.
        retry_after_ms: u64,
    },
    /// An end closed the connection with this code.
    Closed(Code),
    /// The server broke the protocol.
    Protocol(Code, String),
    /// The local store failed.
    Store(StoreError),
}

impl ConnectError {
    /// Whether trying again can't help.
    pub fn is_final(&self) -> bool {
        match self {
            Self::NotRegistered | Self::Server(_) | Self::Store(_) => true,
            Self::Rejected { retry_after_ms, .. } => *retry_after_ms == 0,
            Self::Closed(code) => matches!(code, Code::Replaced | Code::DeviceRemoved),
            Self::Network(_) | Self::Quic(_) | Self::TimedOut | Self::Protocol(..) => false,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRegistered => {
                f.write_str("this home has no account yet: register a name first")
            }
            Self::Server(error) => error.fmt(f),
            Self::Network(error) => write!(f, "the network can't be used: {error}"),
            Self::Quic(ConnectionError::TransportError(error)) => write!(
                f,
                "the server can't be trusted or doesn't speak Tern: {error}; check address and ca.pem"
            ),
            Self::Quic(ConnectionError::TimedOut) | Self::TimedOut => {
                f.write_str("the server doesn't answer; check the address, and that it runs")
            }
            Self::Quic(error) => write!(f, "the connection was lost: {error}"),
            Self::Rejected { code: Code::UnknownDevice, .. } => {
                Self::Closed(Code::DeviceRemoved).fmt(f)
            }
            Self::Rejected { code, text, .. } if text.is_empty() || text == code.meaning() => {
                write!(f, "the server refused: {}", code.meaning())
            }
            Self::Rejected { code, text, .. } => {
                write!(f, "the server refused: {} ({text})", code.meaning())
            }
            Self::Closed(Code::Replaced) => f.write_str(
                "this device is connected from somewhere else; use one program per device",
            ),
            Self::Closed(Code::DeviceRemoved) => {
                f.write_str("this device was removed from its account; link it anew in a new home")
            }
            Self::Closed(code) => write!(f, "the connection was closed: {code}"),
            Self::Protocol(code, what) => {
                write!(f, "the server broke the protocol: {what} ({code})")
            }
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<StoreError> for ConnectError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ConnectionError> for ConnectError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let code = u16::try_from(close.error_code.into_inner()).unwrap_or(u16::MAX);
                Self::Closed(Code::from(code))
            }
            ConnectionError::LocallyClosed => Self::Closed(Code::NoError),
            other => Self::Quic(other),
        }
    }
}

/// The code with which a stream was reset or stopped.
pub(crate) fn stream_code(code: quinn::VarInt) -> Code {
    Code::from(u16::try_from(code.into_inner()).unwrap_or(u16::MAX))
}

/// Why a registration failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegisterError {
    /// This home has an account already.
    AlreadyRegistered {
        /// The account's name.
        name: String,
    },
    /// The name breaks the rule for names.
    NameInvalid(String),
    /// A label or token is too long, in bytes.
    TooLong {
        /// Which.
        what: &'static str,
        /// How long it may be.
        limit_bytes: usize,
    },
    /// The server can't be reached or refused.
    Connect(ConnectError),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRegistered { name } => write!(
                f,
                "this home is a device of {name} already; use another home for another account"
            ),
            Self::NameInvalid(name) => write!(
                f,
                "{name:?} can't be a name: use 1 to 32 of a-z 0-9 . _ -, the first and last a letter \
                 or digit"
            ),
            Self::TooLong { what, limit_bytes } => {
                write!(f, "the {what} may be {limit_bytes} bytes long")
            }
            Self::Connect(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RegisterError {}

impl From<ConnectError> for RegisterError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<StoreError> for RegisterError {
    fn from(error: StoreError) -> Self {
        Self::Connect(error.into())
    }
}

/// Why a message can't be stored for sending.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// This home belongs to no account yet.
    NotRegistered,
    /// The name breaks the rule for names.
    NameInvalid(String),
    /// One can't write to oneself.
    Oneself,
    /// The content can't be sent.
    Content(ContentError),
    /// The local store failed.
    Store(StoreError),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRegistered => ConnectError::NotRegistered.fmt(f),
            Self::NameInvalid(name) => RegisterError::NameInvalid(name.clone()).fmt(f),
            Self::Oneself => f.write_str("a message needs another account to go to"),
            Self::Content(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SendError {}

impl From<StoreError> for SendError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ContentError> for SendError {
    fn from(error: ContentError) -> Self {
        Self::Content(error)
    }
}

/// Why a request to the server got no answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RequestError {
    /// The server refused it.
    Refused {
        /// Why.
        code: Code,
        /// When to try again, in milliseconds; 0: not unchanged.
        retry_after_ms: u64,
    },
    /// The connection was lost before the answer came: it may have been carried out or not.
    ConnectionLost,
    /// The client isn't running.
    Stopped,
    /// The local store failed.
    Store(StoreError),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, .. } => write!(f, "the server refused: {}", code.meaning()),
            Self::ConnectionLost => {
                f.write_str("the connection was lost before the answer; try again")
            }
            Self::Stopped => f.write_str("the client isn't connected to a server any more"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<StoreError> for RequestError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
