//! The entries of the SOP index that are in no run yet.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use parking_lot::RwLock;

use crate::schema::ImageKey;

/// What is in memory, for the writer and all readers.
#[derive(Default)]
pub(crate) struct SopMemory {
    /// Entries that are in no run yet.
    pub current: RwLock<Entries>,
    /// Entries of the youngest run, for readers whose transaction is older than that run.
    pub previous: RwLock<Entries>,
}

impl SopMemory {
    /// The run that covers the memory is committed.
    pub fn forget(&self) {
        // Both are held, so that no reader finds an entry in neither.
        let mut previous = self.previous.write();
        *previous = std::mem::take(&mut *self.current.write());
    }
}

/// Hash, image and series.
pub(crate) type Entry = (u64, u64, u32);

/// One generation of entries.
#[derive(Default)]
pub(crate) struct Entries {
    by_hash: HashMap<u64, (u64, u32), BuildHasherDefault<Unhashed>>,
    /// Further images with a hash that is there: mostly those that were deleted and came again.
    more: BTreeMap<(u64, u64), u32>,
}

impl Entries {
    /// Takes an entry.
    pub fn insert(&mut self, hash: u64, image: u64, series: u32) {
        let before = self.by_hash.insert(hash, (image, series));
        if let Some((before, series)) = before.filter(|(before, _)| *before != image) {
            self.more.insert((hash, before), series);
            self.more.remove(&(hash, image));
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_hash.len() + self.more.len()
    }

    /// The images with this hash, in no order.
    pub fn images(&self, hash: u64) -> impl Iterator<Item = ImageKey> {
        let one = self.by_hash.get(&hash).copied();
        let more = self.more.range((hash, 0)..=(hash, u64::MAX));
        let more = more.map(|((_, image), series)| (*image, *series));
        one.into_iter()
            .chain(more)
            .map(|(image, series)| ImageKey { series, image })
    }

    /// All hashes, in no order.
    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        self.by_hash.keys().copied()
    }

    /// All entries in the order of runs.
    pub fn sorted(&self) -> Vec<Entry> {
        let one = self.by_hash.iter();
        let one = one.map(|(hash, (image, series))| (*hash, *image, *series));
        let more = self.more.iter();
        let more = more.map(|((hash, image), series)| (*hash, *image, *series));
        let mut entries: Vec<Entry> = one.chain(more).collect();
        entries.sort_unstable();
        entries
    }
}

/// Keys that are hashes already, of a keyed function, need no other.
#[derive(Default)]
struct Unhashed(u64);

impl Hasher for Unhashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_images_of_a_hash_are_kept(
            entries in proptest::collection::vec((0_u64..6, 0_u64..40), 0..60)
        ) {
            let mut memory = Entries::default();
            let mut model = BTreeMap::new();
            for (hash, image) in entries {
                memory.insert(hash, image, image as u32);
                model.insert((hash, image), image as u32);
            }
            let expected: Vec<Entry> = model.iter().map(|((h, i), s)| (*h, *i, *s)).collect();
            prop_assert_eq!(memory.sorted(), expected);
            for hash in 0..6 {
                let mut found: Vec<u64> = memory.images(hash).map(|key| key.image).collect();
                found.sort_unstable();
                found.dedup();
                let expected = model.keys().filter(|key| key.0 == hash).map(|key| key.1);
                prop_assert_eq!(found, expected.collect::<Vec<_>>());
            }
        }
    }
}
