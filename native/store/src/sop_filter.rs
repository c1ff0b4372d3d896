//! Which SOP instances are surely new: a Bloom filter over the hashes of `sop_index`, for work that enters many.
//!
//! An image that is new must be looked for in every run before that is known; with millions of images this is
//! most of what entering a row costs. The filter answers with one access to memory. It belongs to the writer,
//! is made by reading all runs once, as soon as that pays, and goes when nobody has used it for a while.
//!
//! Split block: each hash sets one bit in each of the eight words of one block of 64 bytes. At twelve bits for
//! an entry about one new image in a hundred is looked for in vain.

use std::time::{Duration, Instant};

/// Words of a block, which fills a cache line.
const WORDS: usize = 8;
/// Bits for each entry.
const BITS: u64 = 12;
/// Entries that the smallest filter is made for.
const ROOM_MIN: u64 = 1 << 18;
/// LIMIT: 64 MB. Beyond some 44 million images the filter is merely wrong more often.
const BLOCKS_MAX: u64 = 1 << 20;
/// How long a filter is kept without use.
const KEPT: Duration = Duration::from_secs(60);

/// The filter.
pub(crate) struct SopFilter {
    blocks: Vec<[u64; WORDS]>,
    /// Entries put in.
    entries: u64,
    /// Entries it is made for.
    room: u64,
    used: Instant,
}

impl SopFilter {
    /// An empty one, with room for twice as many entries as there are.
    pub fn new(entries: u64) -> Self {
        let room = (entries * 2).max(ROOM_MIN);
        let blocks = (room * BITS / (WORDS as u64 * 64) + 1).min(BLOCKS_MAX);
        let full = blocks == BLOCKS_MAX;
        Self {
            blocks: vec![[0; WORDS]; blocks as usize],
            entries: 0,
            room: if full { u64::MAX } else { room },
            used: Instant::now(),
        }
    }

    /// Puts an entry in.
    pub fn insert(&mut self, hash: u64) {
        let (at, bits) = self.place(hash);
        if let Some(block) = self.blocks.get_mut(at) {
            for (word, bit) in block.iter_mut().zip(bits) {
                *word |= bit;
            }
        }
        self.entries += 1;
    }

    /// False: the hash was never put in.
    pub fn may_contain(&self, hash: u64) -> bool {
        let (at, bits) = self.place(hash);
        self.blocks
            .get(at)
            .is_none_or(|block| block.iter().zip(bits).all(|(word, bit)| word & bit != 0))
    }

    /// Whether it has more entries than it is made for.
    pub fn is_full(&self) -> bool {
        self.entries > self.room
    }

    /// Somebody has use for it.
    pub fn touch(&mut self) {
        self.used = Instant::now();
    }

    /// Whether nobody has had for a while.
    pub fn is_idle(&self) -> bool {
        self.used.elapsed() > KEPT
    }

    /// The block of a hash, and its bit in each word.
    fn place(&self, hash: u64) -> (usize, [u64; WORDS]) {
        // The upper half of the product is the hash scaled to the number of blocks.
        let at = (u128::from(hash) * self.blocks.len() as u128) >> 64;
        let mut rest = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let bits = std::array::from_fn(|_| {
            rest = rest.rotate_right(6);
            1 << (rest & 63)
        });
        (at as usize, bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(number: u64) -> u64 {
        let hash = blake3::hash(&number.to_be_bytes());
        hash.as_bytes()
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    #[test]
    fn few_new_ones_are_taken_for_known_when_it_is_full() {
        let mut filter = SopFilter::new(0);
        for number in 0..ROOM_MIN {
            filter.insert(hash(number));
        }
        assert!(!filter.is_full());
        assert!((0..ROOM_MIN).all(|number| filter.may_contain(hash(number))));
        let wrong = (ROOM_MIN..2 * ROOM_MIN).filter(|n| filter.may_contain(hash(*n)));
        let wrong = wrong.count() as u64;
        assert!(wrong < ROOM_MIN / 50, "{wrong} of {ROOM_MIN}");
        filter.insert(hash(ROOM_MIN));
        assert!(filter.is_full());
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_never_denied(hashes in proptest::collection::vec(any::<u64>(), 0..200)) {
            let mut filter = SopFilter::new(0);
            for hash in &hashes {
                filter.insert(*hash);
            }
            prop_assert!(hashes.iter().all(|hash| filter.may_contain(*hash)));
        }
    }
}
