//! Scenarios as options name them.

use std::str::FromStr;

use tern_netsim::scenario::Scenario;

use crate::failure::Failure;

/// What is said of such an option everywhere.
pub(crate) const HELP: &str = "SCENARIO is a bundled one (`tern-netsim scenarios`) or a file that ends in .toml. \
    Values may be changed behind commas by their keys in the scenario's TOML: \
    lossy,seconds=10,phones.profile=lte,client.keep_alive_s=30,events.0.handover.gap_s=20";

/// A scenario, and how it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    /// What was given.
    pub(crate) text: String,
    /// What that is.
    pub(crate) scenario: Scenario,
}

impl FromStr for Chosen {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let scenario =
            Scenario::named(text).map_err(|error| Failure::Asked(format!("{text}: {error}")))?;
        Ok(Self { text: text.to_owned(), scenario })
    }
}

impl Chosen {
    /// The command that repeats a run of it.
    pub(crate) fn command(&self, seed: u64) -> String {
        let plain = |sign: char| sign.is_ascii_alphanumeric() || "-_./,=:".contains(sign);
        let text = match self.text.chars().all(plain) {
            true => self.text.clone(),
            false => format!("'{}'", self.text.replace('\'', r"'\''")),
        };
        format!("tern-netsim run {text} --seed {seed}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_given_to_a_shell() {
        let chosen: Chosen = "lossy,phones.up={loss=0.1}".parse().unwrap();
        assert_eq!(chosen.command(3), "tern-netsim run 'lossy,phones.up={loss=0.1}' --seed 3");
        let chosen: Chosen = "lossy,seconds=9".parse().unwrap();
        assert_eq!(chosen.command(0), "tern-netsim run lossy,seconds=9 --seed 0");
    }
}
