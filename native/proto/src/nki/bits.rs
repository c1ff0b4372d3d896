//! One bit for each word of an image.

/// Bits in one number.
pub(super) const GROUP: usize = u64::BITS as usize;

/// One bit for each word, in groups; behind the last group all are clear.
pub(super) struct Bits {
    groups: Vec<u64>,
}

impl Bits {
    /// From groups, the first word's bit lowest in the first.
    pub(super) const fn new(groups: Vec<u64>) -> Self {
        Self { groups }
    }

    /// The groups themselves.
    pub(super) fn groups(&self) -> impl Iterator<Item = u64> + '_ {
        self.groups.iter().copied()
    }

    /// How many are set.
    pub(super) fn count(&self) -> usize {
        let ones = |bits: &u64| bits.count_ones() as usize;
        self.groups.iter().map(ones).sum()
    }

    /// Each group with the one behind it above it: up to 64 bits ahead can be looked at.
    pub(super) fn pairs(&self) -> impl Iterator<Item = u128> + '_ {
        let behind = self.groups.iter().skip(1).chain([&0]);
        let pairs = self.groups.iter().zip(behind);
        pairs.map(|(group, behind)| u128::from(*behind) << GROUP | u128::from(*group))
    }

    /// The bits from word `at` on.
    #[inline]
    pub(super) fn window(&self, at: usize) -> u64 {
        let group = |n: usize| u128::from(self.groups.get(n).copied().unwrap_or(0));
        let pair = group(at / GROUP + 1) << GROUP | group(at / GROUP);
        (pair >> (at % GROUP)) as u64
    }

    /// The first word from `at` on whose bit is set, or `end`.
    #[inline]
    pub(super) fn next(&self, at: usize, end: usize) -> usize {
        self.find(at, end, 0)
    }

    /// The first word from `at` on whose bit is clear, or `end`.
    #[inline]
    pub(super) fn next_clear(&self, at: usize, end: usize) -> usize {
        self.find(at, end, u64::MAX)
    }

    #[inline]
    fn find(&self, at: usize, end: usize, turned: u64) -> usize {
        let mut begin = at - at % GROUP;
        let mut hidden = u64::MAX << (at % GROUP);
        for group in self.groups.get(at / GROUP..).unwrap_or_default() {
            let found = (group ^ turned) & hidden;
            if found != 0 {
                return end.min(begin + found.trailing_zeros() as usize);
            }
            begin += GROUP;
            if begin >= end {
                break;
            }
            hidden = u64::MAX;
        }
        end
    }
}
