//! Scenarios: a world, its load and what happens to it, as a small TOML file.
//!
//! ```
//! let scenario: tern_netsim::scenario::Scenario = r#"
//!     about = "Two phones; one goes through a tunnel and comes out in another cell."
//!     seconds = 30
//!
//!     [phones]
//!     count = 2
//!     up = { delay_ms = 50, loss = { probability = 0.02 } }
//!     down = { delay_ms = 50, loss = { probability = 0.02 } }
//!
//!     [load]
//!     pattern = "pairs"
//!     messages_per_s = 5
//!
//!     [[events]]
//!     at_s = 10
//!     handover = { phones = ["p0"], gap_s = 5 }
//! "#.parse()?;
//! assert_eq!(scenario.phones.count, 2);
//! # Ok::<(), tern_netsim::scenario::ScenarioError>(())
//! ```
//!
//! Phones are called `p0`, `p1` and so on. Times count from the moment when all phones are registered and
//! connected and the load begins.

mod bundled;
mod error;
mod timeline;
mod variant;

use std::{fs, path::Path, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    bundled::{BUNDLED, Bundled, bundled},
    error::ScenarioError,
    timeline::{Step, Timeline},
};
use crate::{link::LinkSettings, profile::Profile, sim::Access};

/// Phones of a scenario at most: what the address space of a run has room for is far more, but its
/// time isn't.
pub const MAX_PHONES: usize = 1_000;
/// The longest load, in seconds: a day.
pub const MAX_SECONDS: f64 = 86_400.0;
/// The most messages per second over all conversations.
pub const MAX_MESSAGES_PER_S: f64 = 10_000.0;
/// The longest text of a message, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 60_000;
/// Lines of the list of events at most, and steps that they come to.
pub const MAX_EVENTS: usize = 10_000;

/// A world, its load, and what happens to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a sentence or two.
    #[serde(default)]
    pub about: String,
    /// How long the load lasts, in seconds, up to [`MAX_SECONDS`].
    pub seconds: f64,
    /// How long everything may take to arrive after the load has ended and the network is good again.
    #[serde(default = "settle_s")]
    pub settle_s: f64,
    /// The phones.
    #[serde(default)]
    pub phones: Phones,
    /// What they send.
    #[serde(default)]
    pub load: Load,
    /// What their clients are told.
    #[serde(default)]
    pub client: ClientVariant,
    /// What happens.
    #[serde(default)]
    pub events: Vec<EventLine>,
}

fn settle_s() -> f64 {
    300.0
}

/// The phones of a scenario and their paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phones {
    /// How many, 1 to [`MAX_PHONES`].
    pub count: usize,
    /// A named profile for the paths of all of them.
    pub profile: Option<String>,
    /// The link away from each phone, instead of the profile's.
    pub up: Option<LinkSettings>,
    /// The link to each phone, instead of the profile's.
    pub down: Option<LinkSettings>,
    /// After how many silent seconds the router in front of a phone forgets its port; without it, when it
    /// is told to alone.
    pub router_forgets_after_s: Option<f64>,
    /// How many phones have no user that looks: their clients are inactive. The last ones.
    pub inactive: usize,
}

impl Default for Phones {
    fn default() -> Self {
        Self {
            count: 2,
            profile: None,
            up: None,
            down: None,
            router_forgets_after_s: None,
            inactive: 0,
        }
    }
}

/// Who writes to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// p0 with p1, p2 with p3 and so on.
    Pairs,
    /// p0 with each of the others.
    Hub,
    /// Everybody with everybody.
    Mesh,
}

/// What the phones send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// Who writes to whom.
    pub pattern: Pattern,
    /// Messages per second, over all conversations, evenly spread.
    pub messages_per_s: f64,
    /// Whether both sides of a conversation write, in turn, or the one with the lower number alone.
    pub both_ways: bool,
    /// Bytes of a message's text.
    pub bytes: usize,
    /// The share of messages that are marked as read as they come, 0 to 1; the rest is at the end.
    pub read: f64,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            pattern: Pattern::Pairs,
            messages_per_s: 2.0,
            both_ways: true,
            bytes: 200,
            read: 0.3,
        }
    }
}

/// Settings of the clients; what isn't set is the product's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientVariant {
    /// A packet after so much silence, in seconds, on every network and whether a user looks or not; 0: never.
    pub keep_alive_s: Option<f64>,
    /// Bytes under way without an acknowledgement.
    pub send_window_bytes: Option<u64>,
    /// Congestion window at the start, in bytes.
    pub initial_window_bytes: Option<u64>,
    /// Whether the client hears of a new network from the phone. Yes, unless it is switched off to see what
    /// happens without.
    pub is_told_of_networks: Option<bool>,
    /// Whether all streams of a connection travel in one, to see what a stream per conversation gains. The
    /// server plays along. No product can do it.
    pub single_stream: Option<bool>,
}

/// Something that happens: a time and one of the actions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventLine {
    /// When, in seconds from the begin of the load.
    pub at_s: f64,
    /// How often again, in seconds.
    pub every_s: Option<f64>,
    /// Until when it repeats; the load's end if it isn't said.
    pub until_s: Option<f64>,
    /// Phones change to another network, with another address.
    pub handover: Option<Handover>,
    /// The routers before phones give them other ports, and nobody is told.
    pub rebind: Option<Who>,
    /// Packets from and to phones vanish for a time, and nobody is told.
    pub black_hole: Option<ForSome>,
    /// Phones have no network for a time, know it, and come back with the same address.
    pub dead_interface: Option<ForSome>,
    /// The links of phones become others.
    pub change: Option<Change>,
    /// Clients are killed, and started again after a time.
    pub kill_client: Option<ForSome>,
    /// The server is killed, and started again after a time.
    pub kill_server: Option<ForTime>,
    /// The server is stopped in good order, and started again after a time.
    pub restart_server: Option<ForTime>,
    /// The server's disk is slow for a time.
    pub slow_disk: Option<SlowDisk>,
    /// Some of the server's commits have an unknown outcome for a time.
    pub unknown_commits: Option<UnknownCommits>,
}

/// Some phones, or all if none is named.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Who {
    /// Their names.
    pub phones: Vec<String>,
}

/// Some phones, or all if none is named, for a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForSome {
    /// Their names.
    #[serde(default)]
    pub phones: Vec<String>,
    /// How long, in seconds.
    pub for_s: f64,
}

/// For a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForTime {
    /// How long, in seconds.
    pub for_s: f64,
}

/// A change to another network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Handover {
    /// Who changes; all if none is named.
    pub phones: Vec<String>,
    /// How long there is no network in between, in seconds.
    pub gap_s: f64,
    /// How long the old network still brings packets after the change, in seconds.
    pub overlap_s: f64,
    /// After how many seconds it goes back to the old network.
    pub back_after_s: Option<f64>,
    /// The profile of the new network; that of the old one if it isn't said.
    pub profile: Option<String>,
}

/// Other links.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// Whose; all if none is named.
    pub phones: Vec<String>,
    /// To a profile.
    pub profile: Option<String>,
    /// The link away from the phones, instead of the profile's.
    pub up: Option<LinkSettings>,
    /// The link to the phones, instead of the profile's.
    pub down: Option<LinkSettings>,
}

/// A slow disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowDisk {
    /// How long, in seconds.
    pub for_s: f64,
    /// How long each sync takes, in milliseconds.
    pub sync_ms: f64,
}

/// A disk whose answers get lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnknownCommits {
    /// How long, in seconds.
    pub for_s: f64,
    /// The share of commits, 0 to 1; half of them have happened.
    pub share: f64,
}

impl FromStr for Scenario {
    type Err = ScenarioError;

    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(ScenarioError::Toml)?;
        scenario.check()?;
        Ok(scenario)
    }
}

impl Scenario {
    /// Reads a scenario from a file; traces that it names count from the file's folder.
    ///
    /// # Errors
    ///
    /// [`ScenarioError`] names the field and says what it may be.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ScenarioError::File { path: path.to_owned(), source })?;
        let mut scenario: Self = text.parse()?;
        let folder = path.parent().unwrap_or(Path::new("."));
        scenario.load_traces(folder)?;
        Ok(scenario)
    }

    fn load_traces(&mut self, folder: &Path) -> Result<(), ScenarioError> {
        let changes = self.events.iter_mut().filter_map(|line| line.change.as_mut());
        let links = changes
            .flat_map(|change| [&mut change.up, &mut change.down])
            .chain([&mut self.phones.up, &mut self.phones.down]);
        for link in links.flatten() {
            link.load_trace(folder).map_err(ScenarioError::Trace)?;
        }
        Ok(())
    }

    /// Whether every value is within its bounds and every name is known.
    ///
    /// # Errors
    ///
    /// [`ScenarioError`] names the first field that isn't.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let within = |field: &'static str, value: f64, from: f64, to: f64| {
            if value >= from && value <= to {
                Ok(())
            } else {
                Err(ScenarioError::Bounds { field, from, to })
            }
        };
        within("seconds", self.seconds, 0.0, MAX_SECONDS)?;
        within("settle_s", self.settle_s, 1.0, MAX_SECONDS)?;
        within("phones.count", self.phones.count as f64, 1.0, MAX_PHONES as f64)?;
        within("phones.inactive", self.phones.inactive as f64, 0.0, self.phones.count as f64)?;
        if let Some(after) = self.phones.router_forgets_after_s {
            within("phones.router_forgets_after_s", after, 0.1, MAX_SECONDS)?;
        }
        within("load.messages_per_s", self.load.messages_per_s, 0.0, MAX_MESSAGES_PER_S)?;
        within("load.bytes", self.load.bytes as f64, 0.0, MAX_MESSAGE_BYTES as f64)?;
        within("load.read", self.load.read, 0.0, 1.0)?;
        if let Some(keep_alive) = self.client.keep_alive_s {
            within("client.keep_alive_s", keep_alive, 0.0, 3_600.0)?;
        }
        if self.events.len() > MAX_EVENTS {
            return Err(ScenarioError::TooManyEvents);
        }
        self.path()?;
        Timeline::of(self).map(drop)
    }

    /// The path of each phone at the begin.
    ///
    /// # Errors
    ///
    /// If the profile isn't known or a link is out of bounds.
    pub fn path(&self) -> Result<Access, ScenarioError> {
        let phones = &self.phones;
        let (up, down) = links(phones.profile.as_deref(), &phones.up, &phones.down)?;
        let forgets = phones.router_forgets_after_s.unwrap_or(MAX_SECONDS);
        Ok(Access { up, down, router_forgets_after: Some(Duration::from_secs_f64(forgets)) })
    }

    /// The conversations, by the numbers of the two phones.
    pub fn conversations(&self) -> Vec<(usize, usize)> {
        let count = self.phones.count;
        match self.load.pattern {
            Pattern::Pairs => (0..count / 2).map(|pair| (2 * pair, 2 * pair + 1)).collect(),
            Pattern::Hub => (1..count).map(|other| (0, other)).collect(),
            Pattern::Mesh => {
                (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other))).collect()
            }
        }
    }
}

/// The links that a profile and what replaces it come to.
fn links(
    name: Option<&str>,
    up: &Option<LinkSettings>,
    down: &Option<LinkSettings>,
) -> Result<(LinkSettings, LinkSettings), ScenarioError> {
    let (mut up_link, mut down_link) = Default::default();
    if let Some(name) = name {
        let profile =
            Profile::named(name).ok_or_else(|| ScenarioError::UnknownProfile(name.to_owned()))?;
        (up_link, down_link) = (profile.path.up, profile.path.down);
    }
    if let Some(up) = up {
        up_link = up.clone();
    }
    if let Some(down) = down {
        down_link = down.clone();
    }
    up_link.check().map_err(ScenarioError::Link)?;
    down_link.check().map_err(ScenarioError::Link)?;
    Ok((up_link, down_link))
}
