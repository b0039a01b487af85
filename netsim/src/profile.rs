//! Paths that have names: networks that others have measured or test with.
//!
//! Delays are one way. Where a source leaves something open, the profile's text says what was assumed.

use serde::Serialize;

use crate::{
    link::{LinkSettings, Loss},
    path::{BlackHole, PathSettings, Rebind},
};

/// A path with a name. In JSON the settings of the path are beside the name.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Profile {
    /// What to call it by: lower case, with hyphens.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Where its figures come from.
    pub source: &'static str,
    /// What it is like.
    #[serde(flatten)]
    pub path: PathSettings,
}

impl Profile {
    /// The profile of that name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|profile| profile.name.eq_ignore_ascii_case(name))
    }

    /// All of them: the perfect one, everyday ones from good to bad, the interop runner's cases, hard cases.
    pub fn all() -> Vec<Self> {
        [everyday(), interop(), hard()].concat()
    }
}

const ATC: &str = "facebook/augmented-traffic-control, utils/profiles";
const FIREFOX: &str = "rates and smallest latency: Firefox, network monitor, throttling; jitter, loss and \
                       queue: assumed";
const INTEROP: &str = "quic-interop-runner, testcases_quic.py";
const UBER: &str =
    "Uber engineering, \"Employing QUIC Protocol\": RTT p50/75/95/99 = 350/425/725/2,300 ms";

fn everyday() -> Vec<Profile> {
    vec![
        Profile {
            name: "none",
            about: "A perfect network: no delay, no limit, no loss.",
            source: "",
            path: PathSettings::default(),
        },
        Profile {
            name: "wifi",
            about: "A home's Wi-Fi with now and then a lost packet.",
            source: FIREFOX,
            path: PathSettings {
                down: LinkSettings { delay_ms: 1.0, jitter_ms: 4.0, ..fast(30_000.0, 0.001) },
                up: LinkSettings { delay_ms: 1.0, jitter_ms: 4.0, ..fast(15_000.0, 0.001) },
                ..PathSettings::default()
            },
        },
        Profile {
            name: "lte",
            about: "4G on the move, with the deep buffers of its base stations.",
            source: FIREFOX,
            path: PathSettings {
                down: LinkSettings { delay_ms: 20.0, jitter_ms: 15.0, ..fast(4_000.0, 0.002) },
                up: LinkSettings { delay_ms: 20.0, jitter_ms: 20.0, ..fast(3_000.0, 0.002) },
                ..PathSettings::default()
            },
        },
        Profile {
            name: "3g",
            about: "3G: slow, but without loss.",
            source: ATC,
            path: PathSettings {
                down: cellular(780.0, 100.0, 0.0),
                up: cellular(330.0, 100.0, 0.0),
                ..PathSettings::default()
            },
        },
        Profile {
            name: "edge-lossy",
            about: "EDGE at the edge of its reach.",
            source: ATC,
            path: PathSettings {
                down: cellular(240.0, 400.0, 0.01),
                up: cellular(200.0, 440.0, 0.01),
                ..PathSettings::default()
            },
        },
        Profile {
            name: "2g-rural",
            about: "2G in developing rural areas: a round trip takes more than a second.",
            source: ATC,
            path: PathSettings {
                down: cellular(20.0, 650.0, 0.02),
                up: cellular(18.0, 650.0, 0.02),
                ..PathSettings::default()
            },
        },
    ]
}

fn interop() -> Vec<Profile> {
    let case = |name, about, path| Profile { name, about, source: INTEROP, path };
    let lossy = |probability| {
        let loss = Loss::Bursts { probability, at_most: 3 };
        PathSettings::symmetric(LinkSettings { loss, ..interop_link() })
    };
    let rebinding = |address| PathSettings {
        rebind: Some(Rebind { first_ms: 1_000.0, every_ms: Some(5_000.0), address }),
        ..PathSettings::symmetric(interop_link())
    };
    vec![
        case(
            "interop",
            "The link under all cases of the interop runner: 10 Mbit/s, 30 ms round trip, a short queue.",
            PathSettings::symmetric(interop_link()),
        ),
        case(
            "long-rtt",
            "A round trip of 1.5 s.",
            PathSettings::symmetric(LinkSettings { delay_ms: 750.0, ..interop_link() }),
        ),
        case(
            "black-hole",
            "Nothing gets through for 2 s, after 5 s, once.",
            PathSettings {
                black_hole: Some(BlackHole { on_ms: 5_000.0, off_ms: 2_000.0, times: Some(1) }),
                ..PathSettings::symmetric(interop_link())
            },
        ),
        case(
            "handshake-loss",
            "30% loss, never more than three packets in a row: meant for handshakes.",
            lossy(0.3),
        ),
        case(
            "transfer-loss",
            "2% loss, never more than three packets in a row: meant for transfers.",
            lossy(0.02),
        ),
        case(
            "rebind-port",
            "The client's port changes after 1 s, and then every 5 s.",
            rebinding(false),
        ),
        case(
            "rebind-address",
            "The client's address changes after 1 s, and then every 5 s.",
            rebinding(true),
        ),
    ]
}

fn hard() -> Vec<Profile> {
    let field = |probability| {
        PathSettings::symmetric(LinkSettings {
            delay_ms: 150.0,
            jitter_ms: 50.0,
            loss: Loss::Independent { probability },
            ..LinkSettings::default()
        })
    };
    vec![
        Profile {
            name: "field",
            about: "The middle of what phones in the field see: RTT 300 to 400 ms, 3.5% loss. The tail of \
                    the round trips isn't in it; loss counts for each direction.",
            source: UBER,
            path: field(0.035),
        },
        Profile {
            name: "field-congested",
            about: "The same with the loss of congested times, 7%.",
            source: UBER,
            path: field(0.07),
        },
        Profile {
            name: "mosh",
            about: "RTT 100 ms; every second round trip is lost (29.3% in each direction).",
            source: "Winstein and Balakrishnan, \"Mosh\", USENIX ATC 2012",
            path: PathSettings::symmetric(LinkSettings {
                delay_ms: 50.0,
                // 1 - √½ in each direction loses half of all round trips.
                loss: Loss::Independent { probability: 0.292_893_218_813_452_5 },
                ..LinkSettings::default()
            }),
        },
        Profile {
            name: "in-flight",
            about: "An aeroplane's link by satellite: loss in bursts. Rate and delay are assumed.",
            source: "burst loss: the middle of what was fitted to in-flight links (p 0.01–0.08, r 0.08–0.5, \
                     h 0–0.1, k 0.98–1)",
            path: PathSettings::symmetric(LinkSettings {
                delay_ms: 300.0,
                jitter_ms: 20.0,
                rate_kbit_s: Some(2_000.0),
                loss: Loss::GilbertElliott { p: 0.04, r: 0.25, h: 0.05, k: 0.99 },
                ..LinkSettings::default()
            }),
        },
    ]
}

fn cellular(rate_kbit_s: f64, delay_ms: f64, probability: f64) -> LinkSettings {
    let loss = if probability > 0.0 { Loss::Independent { probability } } else { Loss::None };
    LinkSettings { rate_kbit_s: Some(rate_kbit_s), delay_ms, loss, ..LinkSettings::default() }
}

fn fast(rate_kbit_s: f64, probability: f64) -> LinkSettings {
    cellular(rate_kbit_s, 0.0, probability)
}

fn interop_link() -> LinkSettings {
    LinkSettings {
        delay_ms: 15.0,
        rate_kbit_s: Some(10_000.0),
        queue_packets: Some(25),
        ..LinkSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_possible_and_has_a_name_of_its_own() {
        let profiles = Profile::all();
        for profile in &profiles {
            profile.path.check().unwrap();
            assert!(profile.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
            assert!(profile.about.ends_with('.'), "{}", profile.name);
            assert_eq!(Profile::named(profile.name).as_ref(), Some(profile));
            assert_eq!(profile.source.is_empty(), profile.name == "none");
        }
        assert!(profiles.iter().any(|profile| profile.path == PathSettings::default()));
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(Profile::named("LTE").unwrap().name, "lte");
        assert!(Profile::named("5g").is_none());
    }

    #[test]
    fn a_profile_can_be_written_as_a_file_of_a_path() {
        for profile in Profile::all() {
            let toml = toml::to_string(&profile.path).unwrap();
            assert_eq!(PathSettings::parse(&toml).unwrap(), profile.path, "{toml}");
        }
    }
}
