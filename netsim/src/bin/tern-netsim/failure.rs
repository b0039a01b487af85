//! Why a command didn't do what it was asked for.

use std::{
    error::Error,
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

/// Why it failed, and which exit code that is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed while it ran: exit code 1.
    Ran(String),
    /// It can't be done as it was asked for: exit code 2, as for options that clap refuses.
    Asked(String),
    /// A command that it ran has failed, and said so itself: that one's exit code.
    Command(u8),
    /// A promise was broken, which has been said: exit code 1.
    Broken,
}

impl Failure {
    /// A failure while it ran.
    pub(crate) fn ran(error: impl Error) -> Self {
        Self::Ran(error.to_string())
    }

    /// Something wrong in what was asked for.
    pub(crate) fn asked(error: impl Error) -> Self {
        Self::Asked(error.to_string())
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Ran(_) | Self::Broken => ExitCode::from(1),
            Self::Asked(_) => ExitCode::from(2),
            Self::Command(code) => ExitCode::from(*code),
        }
    }

    /// What to tell the user.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Ran(text) | Self::Asked(text) => Some(text),
            Self::Broken => Some("a promise was broken"),
            Self::Command(_) => None,
        }
    }
}

/// Prints a line as `println!` does, but by [`print_text`]; to be used where a [`Failure`] may be returned.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::failure::print_text(&(format!($($text)*) + "\n"))?
    };
}
pub(crate) use say;

/// Prints something as one line of JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print_text(&(serde_json::to_string(value).map_err(Failure::ran)? + "\n"))
}

/// Prints a text. A reader that has seen enough and gone, as `head` does, is no failure.
pub(crate) fn print_text(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::ran(error)),
        _ => Ok(()),
    }
}

/// Writes a file that was asked for.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::Ran(format!("{}: {error}", path.display())))
}
