//! What is wrong with a configuration, said so that it can be mended.

use std::{fmt, path::PathBuf};

/// The configuration can't be used. Its display has a line for each problem.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The configuration file can't be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration file isn't TOML.
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// Settings are wrong. At least one.
    Settings(Vec<Problem>),
}

/// One setting that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting, `section.name`.
    pub key: String,
    /// Its value as it was given, if it has one.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: String,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl ConfigError {
    pub(super) fn of(problem: Problem) -> Self {
        Self::Settings(vec![problem])
    }

    pub(super) fn unless_none(problems: Vec<Problem>) -> Result<(), Self> {
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Self::Settings(problems)),
        }
    }

    /// The settings that are wrong; empty when the file is.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Settings(problems) => problems,
            _ => &[],
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " ({}): {}", self.source, self.reason)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, source } => {
                write!(f, "the configuration file {} can't be read: {source}", file.display())
            }
            Self::Syntax { file, reason } => write!(
                f,
                "the configuration file {} isn't TOML: {}",
                file.display(),
                reason.trim_end()
            ),
            Self::Settings(problems) => {
                f.write_str("the configuration can't be used:")?;
                for problem in problems {
                    write!(f, "\n  {problem}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}
