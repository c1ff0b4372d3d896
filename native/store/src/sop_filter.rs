//! Which SOP instances are surely new: a Bloom filter over the hashes of `sop_index`.
//!
//! An image that is new must be looked for in every run before that is known; with millions of images this is
//! most of what entering a row costs. The filter answers with one access to memory. It belongs to the writer and
//! is made by reading all runs, a part with each commit; one that has become too small serves on until the next
//! one is ready.
//!
//! Split block: each hash sets one bit in each of the eight words of one block of 64 bytes. At twelve bits for
//! an entry about one new image in a hundred is looked for in vain.

/// Words of a block, which fills a cache line.
const WORDS: usize = 8;
/// Bits for each entry.
const BITS: u64 = 12;
/// Entries that the smallest filter is made for.
const ROOM_MIN: u64 = 1 << 18;
/// LIMIT: 64 MB, and what the next one takes meanwhile. Beyond some 44 million images the filter is merely wrong more often.
const BLOCKS_MAX: u64 = 1 << 20;

/// The filter.
pub(crate) struct SopFilter {
    blocks: Vec<[u64; WORDS]>,
    /// Entries put in.
    entries: u64,
    /// Entries it is made for.
    room: u64,
}

impl SopFilter {
    /// An empty one, with room for half as many entries more than there are.
    pub fn new(entries: u64) -> Self {
        let room = (entries + entries / 2).max(ROOM_MIN);
        let blocks = (room * BITS / (WORDS as u64 * 64) + 1).min(BLOCKS_MAX);
        let full = blocks == BLOCKS_MAX;
        Self {
            blocks: vec![[0; WORDS]; blocks as usize],
            entries: 0,
            room: if full { u64::MAX } else { room },
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

/// The filter in force and the next one.
#[derive(Default)]
pub(crate) struct SopFilters {
    ready: Option<SopFilter>,
    /// With the key of the last chunk that it has taken in.
    next: Option<(SopFilter, Vec<u8>)>,
}

impl SopFilters {
    /// Puts an entry in.
    pub fn insert(&mut self, hash: u64) {
        let next = self.next.as_mut().map(|(filter, _)| filter);
        for filter in self.ready.iter_mut().chain(next) {
            filter.insert(hash);
        }
    }

    /// False: the hash was never put in. Without a filter nobody knows.
    pub fn may_contain(&self, hash: u64) -> bool {
        let ready = self.ready.as_ref();
        ready.is_none_or(|filter| filter.may_contain(hash))
    }

    /// Whether one is to be made.
    pub fn wants_another(&self) -> bool {
        self.next.is_none() && self.ready.as_ref().is_none_or(SopFilter::is_full)
    }

    /// Takes a new one, which holds what is in no chunk.
    pub fn begin(&mut self, filter: SopFilter) {
        self.next = Some((filter, Vec::new()));
    }

    /// The one that is being made, and how far it has come.
    pub fn in_the_making(&mut self) -> Option<(&mut SopFilter, &mut Vec<u8>)> {
        self.next.as_mut().map(|(filter, after)| (filter, after))
    }

    /// The next one has taken in everything there is. Some of it came more than once, so it is told how much it is.
    pub fn end(&mut self, entries: u64) {
        if let Some((mut filter, _)) = self.next.take() {
            filter.entries = entries;
            self.ready = Some(filter);
        }
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
