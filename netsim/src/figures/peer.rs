//! What another system achieves on the same links, as its script in `netsim/peers` tells with `--json`.

use serde::{Deserialize, Serialize};

/// Figures of another system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name and version.
    #[serde(rename = "broker")]
    pub name: String,
    /// What was measured on each path.
    #[serde(rename = "results")]
    pub paths: Vec<PeerPath>,
}

/// Figures on one path. Fields of the script that aren't here are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerPath {
    /// The path's name.
    pub path: String,
    /// Messages that never arrived.
    pub missing: u64,
    /// The share of messages that arrived later than the median and 50 ms; none if nothing arrived.
    pub late: Option<f64>,
    /// How long connecting takes; none if that wasn't measured.
    pub connects: Option<Connects>,
}

/// How long connecting takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connects {
    /// From a new connection's start until its first message is accepted.
    pub published: Times,
    /// From a new connection's start until a message that waits for a known session arrives.
    pub waiting: Times,
}

/// Of several tries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// The median, in milliseconds.
    pub p50_ms: f64,
}

impl Peer {
    /// What was measured on the path of that name.
    pub fn path(&self, name: &str) -> Option<&PeerPath> {
        self.paths.iter().find(|path| path.path == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_tells_is_understood() {
        let told = r#"{"broker": "mosquitto version 2", "congestion": "cubic", "results": [
            {"path": "lte", "messages": 3, "missing": 0, "p50_ms": 61.8, "late": 0.0067, "runs": [],
             "connects": {"subscribed": {"p50_ms": 260, "worst_ms": 300}, "published": {"p50_ms": 261,
             "worst_ms": 300}, "at_once": {"p50_ms": 197, "worst_ms": 200}, "waiting": {"p50_ms": 194,
             "worst_ms": 200}}},
            {"path": "mosh", "messages": 0, "missing": 300, "late": null}]}"#;
        let peer: Peer = serde_json::from_str(told).unwrap();
        let lte = peer.path("lte").unwrap();
        assert_eq!(lte.connects.as_ref().unwrap().waiting.p50_ms, 194.0);
        assert_eq!(peer.path("mosh").unwrap().late, None);
        assert_eq!(peer.path("wifi"), None);
    }
}
