//! The ledger: of which connection the route is that the disk should have.
//!
//! foyer writes behind, drops what it has no room to write, and after a restart it reads back whatever lies on the
//! disk, also copies that were overwritten or removed. So the disk isn't believed: what it returns is served only if it
//! has the epoch that the ledger has for the device. A copy that was overwritten has a lower one, and a device whose route was
//! removed isn't in the ledger.
//!
//! A ledger belongs to one run of the server. It is written to a file when the cache was closed well, and a start that
//! doesn't find that file begins with nothing.

use std::{collections::HashMap, mem};

use tern_protocol::id::DeviceId;

/// Begins every file of a ledger; the last byte is the version of its layout and of that of the routes.
const MAGIC: [u8; 8] = *b"TernRte1";
/// Magic, bytes of the disk cache, and the lengths of the two generations.
const HEAD_BYTES: usize = 32;
const ENTRY_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;

/// The newest epoch of each device that has a route on the disk. About 30 bytes each.
///
/// It has two generations. When the young one is full it becomes the old one, and the old one is forgotten: so at
/// most twice a generation is held, and what was put within the last generation is always there. That must be as much as
/// the disk holds, since a route of it that isn't in the ledger isn't served.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ledger {
    young: HashMap<DeviceId, u64>,
    /// May have devices that are in `young` as well; there they are newer.
    old: HashMap<DeviceId, u64>,
    generation: usize,
}

impl Ledger {
    /// An empty ledger with so many routes a generation.
    pub(super) fn new(generation: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation: generation.max(1) }
    }

    /// The epoch of the route that was put last and not removed.
    pub(super) fn epoch(&self, device: DeviceId) -> Option<u64> {
        self.young.get(&device).or_else(|| self.old.get(&device)).copied()
    }

    pub(super) fn set(&mut self, device: DeviceId, epoch: u64) {
        if self.young.len() >= self.generation && !self.young.contains_key(&device) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(device, epoch);
    }

    /// Says whether it was there.
    pub(super) fn remove(&mut self, device: DeviceId) -> bool {
        // It may be in both.
        let (young, old) = (self.young.remove(&device), self.old.remove(&device));
        young.is_some() || old.is_some()
    }

    pub(super) fn clear(&mut self) {
        self.young = HashMap::new();
        self.old = HashMap::new();
    }

    /// The ledger as a file, good for a disk cache of this size alone: one of another size lays its routes out
    /// otherwise.
    pub(super) fn encode(&self, disk_bytes: u64) -> Vec<u8> {
        let entries = self.young.len() + self.old.len();
        let mut file = Vec::with_capacity(HEAD_BYTES + entries * ENTRY_BYTES + CHECKSUM_BYTES);
        file.extend(MAGIC);
        for number in [disk_bytes, self.young.len() as u64, self.old.len() as u64] {
            file.extend(number.to_le_bytes());
        }
        for (device, epoch) in self.young.iter().chain(&self.old) {
            file.extend(device.get().to_le_bytes());
            file.extend(epoch.to_le_bytes());
        }
        file.extend(crc32fast::hash(&file).to_le_bytes());
        file
    }

    /// Reads what [`Ledger::encode`] wrote; else says what is wrong with it.
    pub(super) fn decode(
        file: &[u8],
        disk_bytes: u64,
        generation: usize,
    ) -> Result<Self, &'static str> {
        let (content, checksum) =
            file.split_last_chunk::<CHECKSUM_BYTES>().ok_or("its ledger is cut off")?;
        if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
            return Err("its ledger is damaged");
        }
        let mut numbers = content.chunks_exact(8).map(|bytes| {
            let mut number = [0; 8];
            number.copy_from_slice(bytes);
            u64::from_le_bytes(number)
        });
        let mut next = || numbers.next().ok_or("its ledger is cut off");
        if next()?.to_le_bytes() != MAGIC {
            return Err("it is of another version");
        }
        if next()? != disk_bytes {
            return Err("it was made for another size");
        }
        let lengths = [next()?, next()?];
        let entries = lengths[0].checked_add(lengths[1]);
        let bytes = entries.and_then(|entries| entries.checked_mul(ENTRY_BYTES as u64));
        if bytes != Some((content.len() - HEAD_BYTES) as u64) {
            return Err("its ledger is cut off");
        }
        let mut ledger = Self::new(generation);
        for (length, into) in lengths.into_iter().zip([&mut ledger.young, &mut ledger.old]) {
            for _ in 0..length {
                let device = DeviceId::new(next()?).ok_or("its ledger has a device id of 0")?;
                into.insert(device, next()?);
            }
        }
        Ok(ledger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: u64) -> DeviceId {
        DeviceId::new(id).unwrap()
    }

    #[test]
    fn the_last_put_counts_whichever_generation_it_is_in() {
        let mut ledger = Ledger::new(2);
        for id in 1..=3 {
            ledger.set(device(id), id);
        }
        // 1 and 2 are in the old generation now, and 1 comes into the young one again.
        ledger.set(device(1), 10);
        assert_eq!(ledger.epoch(device(1)), Some(10));
        assert_eq!(ledger.epoch(device(2)), Some(2));
        assert!(ledger.remove(device(1)));
        assert_eq!(ledger.epoch(device(1)), None, "the old generation still has it");
        assert!(!ledger.remove(device(1)));
    }

    #[test]
    fn a_generation_is_always_there_and_two_are_the_most() {
        let mut ledger = Ledger::new(100);
        for id in 1..=10_000 {
            ledger.set(device(id), 1);
            assert!(ledger.young.len() + ledger.old.len() <= 200);
            for id in id.saturating_sub(99).max(1)..=id {
                assert_eq!(ledger.epoch(device(id)), Some(1));
            }
        }
        // What is there already takes no room.
        let full = Ledger { young: ledger.young.clone(), old: ledger.old.clone(), ..ledger };
        let mut again = Ledger { young: full.young.clone(), old: full.old.clone(), ..full };
        for id in full.young.keys() {
            again.set(*id, 1);
        }
        assert_eq!(again, full);
    }

    #[test]
    fn a_file_brings_back_the_ledger() {
        let mut ledger = Ledger::new(3);
        assert_eq!(Ledger::decode(&ledger.encode(7), 7, 3).unwrap(), ledger);
        for id in 1..=5 {
            ledger.set(device(id), u64::MAX - id);
        }
        ledger.set(device(2), 9);
        let file = ledger.encode(7);
        assert_eq!(Ledger::decode(&file, 7, 3).unwrap(), ledger);
        assert_eq!(Ledger::decode(&file, 8, 3).unwrap_err(), "it was made for another size");
    }

    #[test]
    fn no_damage_of_the_file_passes() {
        let mut ledger = Ledger::new(3);
        ledger.set(device(1), 1);
        ledger.set(device(2), 2);
        let file = ledger.encode(7);
        for length in 0..file.len() {
            Ledger::decode(&file[..length], 7, 3).unwrap_err();
        }
        for bit in 0..file.len() * 8 {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            Ledger::decode(&damaged, 7, 3).unwrap_err();
        }
        // A file with a right checksum that this version never writes.
        for (at, byte) in [(7, b'2'), (16, 9), (24, 9), (HEAD_BYTES, 0), (HEAD_BYTES + 16, 0)] {
            let mut foreign = file[..file.len() - CHECKSUM_BYTES].to_vec();
            foreign[at..][..8].fill(0);
            foreign[at] = byte;
            foreign.extend(crc32fast::hash(&foreign).to_le_bytes());
            Ledger::decode(&foreign, 7, 3).unwrap_err();
        }
        for content in [&b""[..], b"TernRte1", &[0; 31]] {
            let mut foreign = content.to_vec();
            foreign.extend(crc32fast::hash(&foreign).to_le_bytes());
            Ledger::decode(&foreign, 7, 3).unwrap_err();
        }
    }
}
