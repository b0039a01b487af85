//! Which devices were lately told something by way of another node.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tern_protocol::id::DeviceId;
use tokio::time::Instant;

use crate::cluster::NodeId;

/// How long it is remembered at least. Within it a node says that it doesn't have a device, or its link breaks.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Devices of one node in one such time; of more, the older ones are forgotten sooner.
const DEVICES: usize = 250_000;

/// The devices of each node, in two generations. No I/O.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<NodeId, Generations>);

#[derive(Debug)]
struct Generations {
    young: BTreeSet<DeviceId>,
    old: BTreeSet<DeviceId>,
    since: Instant,
}

impl Told {
    /// A device was told something by way of a node.
    pub(super) fn insert(&mut self, node: NodeId, device: DeviceId, now: Instant) {
        let generations = self.0.entry(node).or_insert_with(|| Generations {
            young: BTreeSet::new(),
            old: BTreeSet::new(),
            since: now,
        });
        if now >= generations.since + REMEMBERED || generations.young.len() >= DEVICES {
            generations.old = std::mem::take(&mut generations.young);
            generations.since = now;
        }
        generations.young.insert(device);
    }

    /// Takes those of a node.
    pub(super) fn take(&mut self, node: NodeId) -> BTreeSet<DeviceId> {
        let Some(generations) = self.0.remove(&node) else { return BTreeSet::new() };
        let mut all = generations.old;
        all.extend(generations.young);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: impl IntoIterator<Item = u64>) -> BTreeSet<DeviceId> {
        ids.into_iter().map(|id| DeviceId::new(id).unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_told_is_remembered_for_its_time_and_not_for_ever() {
        let (a, b) = (NodeId::new(1).unwrap(), NodeId::new(2).unwrap());
        let mut told = Told::default();
        let start = Instant::now();
        let tell = |told: &mut Told, node, id, after_s| {
            told.insert(node, DeviceId::new(id).unwrap(), start + Duration::from_secs(after_s));
        };
        tell(&mut told, a, 1, 0);
        tell(&mut told, a, 2, 9);
        tell(&mut told, b, 7, 9);
        tell(&mut told, a, 3, 18);
        assert_eq!(told.take(a), ids([1, 2, 3]), "those of less than ten seconds ago, and more");
        assert!(told.take(a).is_empty());
        tell(&mut told, a, 1, 20);
        tell(&mut told, a, 2, 31);
        tell(&mut told, a, 3, 42);
        assert_eq!(told.take(a), ids([2, 3]));
        assert_eq!(told.take(b), ids([7]));
    }
}
