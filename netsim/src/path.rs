//! Both directions of a path, and what else happens to it: outages and new addresses.

use std::{error::Error, fmt, path::Path};

use serde::{Deserialize, Serialize};

use crate::link::{LinkError, LinkSettings, MAX_DELAY_MS, TraceError};

/// What a path between a client and a server is like. In TOML: the tables `[down]` and `[up]` of
/// [`LinkSettings`], and if need be `[black_hole]` and `[rebind]`. What isn't set is perfect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PathSettings {
    /// From the server to the client.
    pub down: LinkSettings,
    /// From the client to the server.
    pub up: LinkSettings,
    /// Times when nothing gets through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub black_hole: Option<BlackHole>,
    /// Changes of the client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebind: Option<Rebind>,
}

/// Times when nothing gets through in either direction, from the run's start on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlackHole {
    /// How long packets pass before each outage, in milliseconds, 0 to [`MAX_DELAY_MS`].
    pub on_ms: f64,
    /// How long each outage lasts, in milliseconds, above 0 to [`MAX_DELAY_MS`].
    pub off_ms: f64,
    /// How many outages; without an end when it isn't set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// Changes of the address that the server sees, as a NAT makes them that has forgotten a flow.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebind {
    /// When the first happens, in milliseconds since the run's start, 0 to [`MAX_DELAY_MS`].
    pub first_ms: f64,
    /// How long after it the next ones follow, in milliseconds, 1 to [`MAX_DELAY_MS`]; none does when it isn't set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<f64>,
    /// Whether the IP address changes, too, and not only the port.
    #[serde(default)]
    pub address: bool,
}

impl BlackHole {
    /// Whether nothing gets through at a time, in milliseconds since the run's start.
    pub fn swallows(&self, at_ms: f64) -> bool {
        let lap_ms = self.on_ms + self.off_ms;
        let lap = (at_ms / lap_ms).floor();
        at_ms - lap * lap_ms >= self.on_ms && self.times.is_none_or(|times| lap < f64::from(times))
    }
}

impl PathSettings {
    /// The same in both directions.
    pub fn symmetric(settings: LinkSettings) -> Self {
        Self { down: settings.clone(), up: settings, ..Self::default() }
    }

    /// Reads settings from TOML. Traces that they name aren't read; see [`PathSettings::load_traces`].
    ///
    /// # Errors
    ///
    /// [`PathError`] if it isn't TOML, has an unknown field, or one that is out of bounds.
    pub fn parse(toml: &str) -> Result<Self, PathError> {
        toml::from_str(toml).map_err(|error| PathError::NotToml(error.to_string()))
    }

    /// Reads the traces that the settings name. Relative paths count from `folder`.
    ///
    /// # Errors
    ///
    /// [`PathError::Trace`] with the direction.
    pub fn load_traces(&mut self, folder: &Path) -> Result<(), PathError> {
        let named = |direction| move |error| PathError::Trace { direction, error };
        self.down.load_trace(folder).map_err(named("down"))?;
        self.up.load_trace(folder).map_err(named("up"))
    }

    /// Whether all numbers are within their bounds, and the traces are there.
    ///
    /// # Errors
    ///
    /// [`PathError`] names the field that isn't.
    pub fn check(&self) -> Result<(), PathError> {
        let named = |direction| move |error| PathError::Link { direction, error };
        self.down.check().map_err(named("down"))?;
        self.up.check().map_err(named("up"))?;
        if let Some(hole) = &self.black_hole {
            within("black_hole.on_ms", hole.on_ms, 0.0)?;
            within("black_hole.off_ms", hole.off_ms, f64::MIN_POSITIVE)?;
        }
        if let Some(rebind) = &self.rebind {
            within("rebind.first_ms", rebind.first_ms, 0.0)?;
            within("rebind.every_ms", rebind.every_ms.unwrap_or(1.0), 1.0)?;
        }
        Ok(())
    }
}

fn within(field: &'static str, ms: f64, least_ms: f64) -> Result<(), PathError> {
    if ms >= least_ms && ms <= MAX_DELAY_MS {
        return Ok(());
    }
    Err(PathError::OutOfRange { field, ms })
}

/// Why settings make no path.
#[derive(Debug)]
#[non_exhaustive]
pub enum PathError {
    /// They aren't TOML, or not that of a path; the text shows the place.
    NotToml(String),
    /// A direction can't be like that.
    Link {
        /// `down` or `up`.
        direction: &'static str,
        /// Why.
        error: LinkError,
    },
    /// A direction's trace can't be read.
    Trace {
        /// `down` or `up`.
        direction: &'static str,
        /// Why.
        error: TraceError,
    },
    /// A time is negative, too long or not a number.
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it was, in milliseconds.
        ms: f64,
    },
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotToml(text) => f.write_str(text.trim_end()),
            Self::Link { direction, error } => write!(f, "{direction}: {error}"),
            Self::Trace { direction, error } => write!(f, "{direction}: trace: {error}"),
            Self::OutOfRange { field, ms } => {
                write!(f, "{field} is {ms}, which is no time up to {MAX_DELAY_MS} ms")
            }
        }
    }
}

impl Error for PathError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_black_hole_opens_and_closes() {
        let hole = BlackHole { on_ms: 5_000.0, off_ms: 2_000.0, times: None };
        let swallowed = [0.0, 4_999.0, 5_000.0, 6_999.0, 7_000.0, 11_999.0, 12_000.0, 14_000.0]
            .map(|at_ms| hole.swallows(at_ms));
        assert_eq!(swallowed, [false, false, true, true, false, false, true, false]);
        let once = BlackHole { times: Some(1), ..hole };
        assert!(once.swallows(6_000.0) && !once.swallows(13_000.0));
        let never_on = BlackHole { on_ms: 0.0, ..hole };
        assert!(never_on.swallows(0.0) && never_on.swallows(2_000.0));
    }

    #[test]
    fn a_path_is_read_from_toml() {
        let path = PathSettings::parse(
            "[down]\ndelay_ms = 5\n[up]\nloss = 0.1\n[black_hole]\non_ms = 1\noff_ms = 2\n\
             [rebind]\nfirst_ms = 1000\n",
        )
        .unwrap();
        assert_eq!(path.down.delay_ms, 5.0);
        assert_eq!(path.rebind, Some(Rebind { first_ms: 1_000.0, every_ms: None, address: false }));
        path.check().unwrap();
        assert_eq!(PathSettings::parse(&toml::to_string(&path).unwrap()).unwrap(), path);
        let error = PathSettings::parse("[dwon]\n").unwrap_err().to_string();
        assert!(error.contains("dwon"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (toml, said) in [
            ("[down]\ncorrupt = 2", "down: corrupt is 2"),
            ("[up]\ndelay_ms = nan", "up: delay_ms is NaN"),
            ("[up]\ntrace = 'x'", "up: the file that trace names"),
            ("[black_hole]\non_ms = -1\noff_ms = 1", "black_hole.on_ms"),
            ("[black_hole]\non_ms = 1\noff_ms = 0", "black_hole.off_ms"),
            ("[rebind]\nfirst_ms = inf", "rebind.first_ms"),
            ("[rebind]\nfirst_ms = 1\nevery_ms = 0.5", "rebind.every_ms"),
        ] {
            let error = PathSettings::parse(toml).unwrap().check().unwrap_err().to_string();
            assert!(error.starts_with(said), "{toml}: {error}");
        }
        let mut path = PathSettings::parse("[up]\ntrace = 'nowhere'").unwrap();
        let error = path.load_traces(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.starts_with("up: trace: can't read /nonexistent/nowhere"), "{error}");
    }
}
