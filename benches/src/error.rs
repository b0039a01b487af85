//! Why a run failed: a sentence, and what it comes from.

use std::{error::Error, fmt};

/// The cause of a failure, whatever it is.
type Cause = Box<dyn Error + Send + Sync>;

/// A run can't go on. No figure comes out of a run that failed.
#[derive(Debug)]
pub struct BenchError {
    what: String,
    source: Option<Cause>,
}

/// What a fallible step of a run gives.
pub type Result<T> = std::result::Result<T, BenchError>;

impl BenchError {
    /// A failure that has no deeper cause, or has it in its text.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let mut next = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(source) = next {
            write!(f, ": {source}")?;
            next = source.source();
        }
        Ok(())
    }
}

// Its text has the whole chain already.
impl Error for BenchError {}

/// Says what was tried when a step fails.
pub trait Context<T> {
    /// Puts `what` in front of the failure.
    fn context(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Cause>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|error| BenchError { what: what.into(), source: Some(error.into()) })
    }
}
