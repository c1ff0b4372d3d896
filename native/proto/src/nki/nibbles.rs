//! Runs of small differences in modes 3 and 4: two to a byte.

use super::encode::{BLOCK, Output};

/// Marks differences of four bits.
pub(super) const NIBBLES: u8 = 0xC0;
/// Differences after which a run is written at once.
const FULL: usize = 254;
/// Shortest run that is written in four bits.
const WORTH: usize = 6;

/// One-byte codes at the end of the output that fit four bits each.
pub(super) struct NibbleRun {
    begin: usize,
}

impl NibbleRun {
    pub(super) const fn begin(at: usize) -> Self {
        Self { begin: at }
    }

    /// The codes up to `at` belong to no run.
    #[inline]
    pub(super) fn restart(&mut self, at: usize) {
        self.begin = at;
    }

    /// A code that fits has been written.
    #[inline]
    pub(super) fn grow(&mut self, out: &mut Output) {
        if out.at - self.begin == FULL {
            self.end(out);
            self.begin = out.at;
        }
    }

    /// Rewrites the run in four bits when it is worth it. Of an odd number of codes the first stays.
    #[inline]
    pub(super) fn end(&self, out: &mut Output) {
        let codes = out.at - self.begin;
        if codes >= WORTH {
            pack(codes & !1, out);
        }
    }

    /// Takes a block of one-byte codes that is about to be written at `at`, if none of them ends a run
    /// that would have to be rewritten; `fits` has a bit for each that fits four bits. False: nothing
    /// was taken.
    #[inline]
    pub(super) fn take_block(&mut self, fits: u32, at: usize) -> bool {
        let open = at - self.begin;
        if open + BLOCK >= FULL {
            return false;
        }
        let leading = fits.trailing_ones() as usize;
        if leading == BLOCK {
            return true;
        }
        let pairs = fits & (fits >> 1);
        let worth = pairs & (pairs >> 2) & (pairs >> 4);
        let trailing = (fits << (u32::BITS as usize - BLOCK)).leading_ones() as usize;
        let ended = worth & ((1 << (BLOCK - trailing)) - 1);
        if open + leading >= WORTH || ended != 0 {
            return false;
        }
        self.begin = at + BLOCK - trailing;
        true
    }
}

/// Rewrites the last `codes` one-byte codes, an even number, in four bits each.
///
/// Eight codes at a time, in place: what is written never reaches what is still to be read, and the
/// output has room for a block beyond its end.
fn pack(codes: usize, out: &mut Output) {
    let from = out.at - codes;
    for eight in 0..codes.div_ceil(8) {
        let source = from + 8 * eight;
        let target = from + 2 + 4 * eight;
        let Some(bytes) = out.bytes.get(source..).and_then(|rest| rest.first_chunk()) else {
            break;
        };
        let word = u64::from_le_bytes(*bytes);
        let high = (word & EVEN_NIBBLES) << 4;
        let low = (word >> 8) & EVEN_NIBBLES;
        let pairs = high | low;
        let halves = (pairs | (pairs >> 8)) & 0x0000_FFFF_0000_FFFF;
        let packed = (halves | (halves >> 16)) as u32;
        if let Some(slot) = out.bytes.get_mut(target..target + 4) {
            slot.copy_from_slice(&packed.to_le_bytes());
        }
    }
    out.bytes[from] = NIBBLES;
    out.bytes[from + 1] = codes as u8;
    out.at = from + 2 + codes / 2;
}

const EVEN_NIBBLES: u64 = 0x000F_000F_000F_000F;
const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;

/// A bit for each byte of a block that is zero, and one for each that fits four bits.
#[inline]
pub(super) fn classes(codes: &[u8; BLOCK]) -> (u32, u32) {
    let (mut zeros, mut fits) = (0, 0);
    for (half, bytes) in codes.chunks_exact(8).enumerate() {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        let word = u64::from_le_bytes(word);
        let nonzero = (((word & !TOPS) + !TOPS) | word) & TOPS;
        // Eight added to each byte: those that fit four bits are then below sixteen.
        let moved = ((word & !TOPS) + 8 * ONES) ^ (word & TOPS);
        let high = moved & (0xF0 * ONES);
        let outside = (high | high << 1 | high << 2 | high << 3) & TOPS;
        zeros |= gather(!nonzero & TOPS) << (8 * half);
        fits |= gather(!outside & TOPS) << (8 * half);
    }
    (zeros, fits)
}

/// The top bits of eight bytes as a number.
#[inline]
const fn gather(tops: u64) -> u32 {
    ((tops >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
}
