//! In which network something is measured.

use crate::{
    link::{LinkSettings, Loss},
    profile::Profile,
    scenario::Phones,
};

/// The links of each phone, and how much they can bear.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What it is called: a profile's name or a round trip.
    pub name: String,
    /// The link away from each phone.
    pub up: LinkSettings,
    /// The link to each phone.
    pub down: LinkSettings,
    /// How many messages a second the lossy load has, over ten conversations of one phone. The other loads have
    /// no more.
    pub messages_per_s: f64,
}

/// Messages a second on the links of profiles, many of which would be full with more.
const PROFILE_MESSAGES_PER_S: f64 = 5.0;
/// A message needs some 1,300 bytes on air with its receipts and acknowledgements, so slower links than
/// this bear less than [`PROFILE_MESSAGES_PER_S`], in kbit/s.
const SLOW_KBIT_S: f64 = 100.0;
/// Messages a second on those.
const SLOW_MESSAGES_PER_S: f64 = 1.0;

impl Case {
    /// Half the round trip each way, and a loss of each link, with 50 messages a second.
    pub fn rtt(rtt_ms: f64, loss: f64) -> Self {
        let link = LinkSettings {
            delay_ms: rtt_ms / 2.0,
            loss: Loss::Independent { probability: loss },
            ..LinkSettings::default()
        };
        Self {
            name: format!("{rtt_ms} ms, {}%", loss * 100.0),
            up: link.clone(),
            down: link,
            messages_per_s: 50.0,
        }
    }

    /// The links of a profile. `None` if it has no delay to measure by, or is about what happens at certain
    /// times: those are [scenarios](crate::scenario::BUNDLED).
    pub fn profile(profile: &Profile) -> Option<Self> {
        let path = &profile.path;
        let happens = path.rebind.is_some() || path.black_hole.is_some();
        let least_kbit_s = path.up.rate_kbit_s.into_iter().chain(path.down.rate_kbit_s);
        let is_slow = least_kbit_s.fold(f64::INFINITY, f64::min) < SLOW_KBIT_S;
        let case = Self {
            name: profile.name.to_owned(),
            up: path.up.clone(),
            down: path.down.clone(),
            messages_per_s: if is_slow { SLOW_MESSAGES_PER_S } else { PROFILE_MESSAGES_PER_S },
        };
        (!happens && case.rtt_ms() > 0.0).then_some(case)
    }

    /// The cases of all profiles that have one.
    pub fn profiles() -> Vec<Self> {
        Profile::all().iter().filter_map(Self::profile).collect()
    }

    /// A round trip of a small packet on idle links, in milliseconds: both delays, with half of each jitter.
    pub fn rtt_ms(&self) -> f64 {
        [&self.up, &self.down].iter().map(|link| link.delay_ms + link.jitter_ms / 2.0).sum()
    }

    /// Whether chance decides about packets: there is jitter or loss.
    pub fn is_by_chance(&self) -> bool {
        [&self.up, &self.down].iter().any(|link| link.jitter_ms > 0.0 || link.can_lose())
    }

    /// So many phones with these links.
    pub(super) fn phones(&self, count: usize) -> Phones {
        let (up, down) = (Some(self.up.clone()), Some(self.down.clone()));
        Phones { count, up, down, ..Phones::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_without_a_case_have_no_delay_or_events() {
        let without: Vec<_> = Profile::all()
            .into_iter()
            .filter(|profile| Case::profile(profile).is_none())
            .map(|profile| profile.name)
            .collect();
        assert_eq!(without, ["none", "black-hole", "rebind-port", "rebind-address"]);
    }

    #[test]
    fn a_round_trip_has_both_delays() {
        assert_eq!(Case::rtt(100.0, 0.02).rtt_ms(), 100.0);
        let lte = Case::profile(&Profile::named("lte").unwrap()).unwrap();
        assert_eq!((lte.rtt_ms(), lte.messages_per_s), (57.5, 5.0));
        let rural = Case::profile(&Profile::named("2g-rural").unwrap()).unwrap();
        assert_eq!(rural.messages_per_s, 1.0);
    }
}
