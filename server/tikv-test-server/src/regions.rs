//! Regions: which range of keys is whose, and who may be asked for it.
//!
//! Every region has a peer on every store, and one of them leads. The data is the same for all, so a leader
//! moves by saying so.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    codec,
    proto::{errorpb, metapb},
};

/// One range of keys and its leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Its name; never used again for another range's region.
    pub id: u64,
    /// First key, inclusive; plain, not as PD encodes it.
    pub start: Bytes,
    /// End, exclusive; empty: no end.
    pub end: Bytes,
    /// Counts changes of membership.
    pub conf_ver: u64,
    /// Counts splits and merges.
    pub version: u64,
    /// The store of the peer that leads.
    pub leader: u64,
}

impl Region {
    /// Whether a key is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key < &self.end[..])
    }

    /// Its message, with `stores` peers.
    pub(crate) fn message(&self, stores: u64) -> metapb::Region {
        metapb::Region {
            id: self.id,
            start_key: codec::encode_border(&self.start),
            end_key: codec::encode_border(&self.end),
            region_epoch: Some(metapb::RegionEpoch {
                conf_ver: self.conf_ver,
                version: self.version,
            }),
            peers: (1..=stores).map(|store| self.peer(store)).collect(),
            ..Default::default()
        }
    }

    /// Its peer on a store. Stores are numbered from 1; the number of a peer follows from region and store.
    pub(crate) fn peer(&self, store_id: u64) -> metapb::Peer {
        metapb::Peer { id: self.id * 1000 + store_id, store_id, ..Default::default() }
    }
}

/// All regions: together they cover every key, each once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regions {
    /// By start.
    by_start: BTreeMap<Bytes, Region>,
    next_id: u64,
    stores: u64,
}

/// Why regions weren't changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionChangeError {
    /// A region begins at this key already; the empty key begins the first one.
    NothingToSplit,
    /// There is no region behind it to merge with.
    NothingToMerge,
    /// There is no store of this number.
    NoSuchStore(u64),
}

impl std::fmt::Display for RegionChangeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NothingToSplit => write!(f, "a region begins at this key already"),
            Self::NothingToMerge => write!(f, "there is no region behind it to merge with"),
            Self::NoSuchStore(store) => write!(f, "there is no store {store}"),
        }
    }
}

impl std::error::Error for RegionChangeError {}

impl Regions {
    /// One region for everything, led by store 1 of `stores`.
    pub fn new(stores: u64) -> Self {
        let first = Region {
            id: 2,
            start: Bytes::new(),
            end: Bytes::new(),
            conf_ver: 1,
            version: 1,
            leader: 1,
        };
        Self { by_start: BTreeMap::from([(Bytes::new(), first)]), next_id: 3, stores }
    }

    /// All, in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Region> {
        self.by_start.values()
    }

    /// How many stores there are; they are numbered from 1.
    pub fn stores(&self) -> u64 {
        self.stores
    }

    /// The one that a key is in.
    ///
    /// # Panics
    ///
    /// Never: the first region begins at the beginning.
    #[expect(
        clippy::expect_used,
        reason = "the first region begins at the empty key and is never taken away"
    )]
    pub fn of_key(&self, key: &[u8]) -> &Region {
        let until = (Bound::Unbounded, Bound::Included(key));
        let (_, region) =
            self.by_start.range::<[u8], _>(until).next_back().expect("regions cover every key");
        region
    }

    /// The one of a name.
    pub fn of_id(&self, id: u64) -> Option<&Region> {
        self.iter().find(|region| region.id == id)
    }

    /// Begins a new region at `key`; what was behind it is the new region's. Returns the new region's name.
    ///
    /// # Errors
    ///
    /// [`RegionChangeError::NothingToSplit`].
    pub fn split(&mut self, key: &[u8]) -> Result<u64, RegionChangeError> {
        let left = self.of_key(key).clone();
        if left.start == key {
            return Err(RegionChangeError::NothingToSplit);
        }
        let key = Bytes::copy_from_slice(key);
        let id = self.next_id;
        self.next_id += 1;
        let version = left.version + 1;
        let right = Region { id, start: key.clone(), version, ..left.clone() };
        let left = Region { end: key.clone(), version, ..left };
        self.by_start.insert(left.start.clone(), left);
        self.by_start.insert(key, right);
        Ok(id)
    }

    /// Joins the region of `key` with the one behind it, whose name ends.
    ///
    /// # Errors
    ///
    /// [`RegionChangeError::NothingToMerge`].
    pub fn merge(&mut self, key: &[u8]) -> Result<(), RegionChangeError> {
        let left = self.of_key(key).clone();
        if left.end.is_empty() {
            return Err(RegionChangeError::NothingToMerge);
        }
        let Some(right) = self.by_start.remove(&left.end) else {
            return Err(RegionChangeError::NothingToMerge);
        };
        let version = left.version.max(right.version) + 1;
        self.by_start.insert(left.start.clone(), Region { end: right.end, version, ..left });
        Ok(())
    }

    /// Makes a store lead the region of `key`.
    ///
    /// # Errors
    ///
    /// [`RegionChangeError::NoSuchStore`].
    pub fn move_leader(&mut self, key: &[u8], store_id: u64) -> Result<(), RegionChangeError> {
        if store_id == 0 || store_id > self.stores {
            return Err(RegionChangeError::NoSuchStore(store_id));
        }
        self.change(key, |region| region.leader = store_id);
        Ok(())
    }

    /// Counts a change of membership of the region of `key`: who knows it as it was is refused.
    pub fn touch(&mut self, key: &[u8]) {
        self.change(key, |region| region.conf_ver += 1);
    }

    fn change(&mut self, key: &[u8], change: impl FnOnce(&mut Region)) {
        let start = self.of_key(key).start.clone();
        if let Some(region) = self.by_start.get_mut(&start) {
            change(region);
        }
    }

    /// The region that a command is for, if the store that was asked leads it and who asks knows it as it is.
    pub(crate) fn admit(
        &self,
        asked: &Asked,
        store_id: u64,
    ) -> Result<&Region, Box<errorpb::Error>> {
        let refuse =
            |message: &str| errorpb::Error { message: message.to_owned(), ..Default::default() };
        if asked.store_id != 0 && asked.store_id != store_id {
            return Err(Box::new(errorpb::Error {
                store_not_match: Some(errorpb::StoreNotMatch {
                    request_store_id: asked.store_id,
                    actual_store_id: store_id,
                }),
                ..refuse("store not match")
            }));
        }
        let Some(region) = self.of_id(asked.region_id) else {
            return Err(Box::new(errorpb::Error {
                region_not_found: Some(errorpb::RegionNotFound { region_id: asked.region_id }),
                ..refuse("region not found")
            }));
        };
        if region.leader != store_id {
            return Err(Box::new(self.not_leader(region)));
        }
        if (asked.conf_ver, asked.version) != (region.conf_ver, region.version) {
            return Err(Box::new(self.epoch_not_match(region)));
        }
        Ok(region)
    }

    /// The answer of a store that doesn't lead a region.
    pub(crate) fn not_leader(&self, region: &Region) -> errorpb::Error {
        errorpb::Error {
            message: "not leader".to_owned(),
            not_leader: Some(errorpb::NotLeader {
                region_id: region.id,
                leader: Some(region.peer(region.leader)),
            }),
            ..Default::default()
        }
    }

    /// The answer to who knows a region as it was: how it is, and its neighbour behind it.
    pub(crate) fn epoch_not_match(&self, region: &Region) -> errorpb::Error {
        let behind = (!region.end.is_empty()).then(|| self.of_key(&region.end));
        errorpb::Error {
            message: "epoch not match".to_owned(),
            epoch_not_match: Some(errorpb::EpochNotMatch {
                current_regions: std::iter::once(region)
                    .chain(behind)
                    .map(|r| r.message(self.stores))
                    .collect(),
            }),
            ..Default::default()
        }
    }

    /// The answer to who asks a region for a key that isn't in it.
    pub(crate) fn key_not_in_region(region: &Region, key: &Bytes) -> errorpb::Error {
        errorpb::Error {
            message: "key not in region".to_owned(),
            key_not_in_region: Some(errorpb::KeyNotInRegion {
                key: key.clone(),
                region_id: region.id,
                start_key: codec::encode_border(&region.start),
                end_key: codec::encode_border(&region.end),
            }),
            ..Default::default()
        }
    }
}

/// Which region a client believes it speaks with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) region_id: u64,
    pub(crate) conf_ver: u64,
    pub(crate) version: u64,
    /// 0: not said.
    pub(crate) store_id: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn borders(regions: &Regions) -> Vec<(&[u8], &[u8])> {
        regions.iter().map(|r| (&r.start[..], &r.end[..])).collect()
    }

    fn asked(region: &Region) -> Asked {
        Asked {
            region_id: region.id,
            conf_ver: region.conf_ver,
            version: region.version,
            store_id: region.leader,
        }
    }

    #[test]
    fn split_and_merge_cover_everything() {
        let mut regions = Regions::new(3);
        regions.split(b"m").unwrap();
        regions.split(b"d").unwrap();
        assert_eq!(borders(&regions), [(&b""[..], &b"d"[..]), (b"d", b"m"), (b"m", b"")]);
        assert_eq!(regions.split(b"m"), Err(RegionChangeError::NothingToSplit));
        assert_eq!(regions.of_key(b"d").start, "d");
        assert_eq!(regions.of_key(b"czz").start, "");
        regions.merge(b"a").unwrap();
        assert_eq!(borders(&regions), [(&b""[..], &b"m"[..]), (b"m", b"")]);
        assert_eq!(regions.merge(b"z"), Err(RegionChangeError::NothingToMerge));
    }

    #[test]
    fn who_knows_a_region_as_it_was_is_refused() {
        let mut regions = Regions::new(3);
        let before = asked(regions.of_key(b""));
        assert!(regions.admit(&before, 1).is_ok());
        regions.split(b"m").unwrap();
        let error = regions.admit(&before, 1).unwrap_err();
        assert_eq!(error.epoch_not_match.unwrap().current_regions.len(), 2);
        let right = asked(regions.of_key(b"m"));
        regions.merge(b"").unwrap();
        assert!(regions.admit(&right, 1).unwrap_err().region_not_found.is_some());
    }

    #[test]
    fn the_wrong_store_names_the_right_one() {
        let mut regions = Regions::new(3);
        let before = asked(regions.of_key(b""));
        regions.move_leader(b"", 2).unwrap();
        let leader = regions.admit(&before, 1).unwrap_err().not_leader.unwrap().leader.unwrap();
        assert_eq!(leader.store_id, 2);
        assert!(regions.admit(&before, 2).unwrap_err().store_not_match.is_some());
        assert!(regions.admit(&Asked { store_id: 2, ..before }, 2).is_ok());
        assert_eq!(regions.move_leader(b"", 4), Err(RegionChangeError::NoSuchStore(4)));
    }
}
