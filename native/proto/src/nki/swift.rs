//! The middle of an NKI stream, where every code and its words have room: nothing need be checked.
//!
//! Differences are added up side by side. Eight one-byte codes, or sixteen of four bits, are made
//! positive by adding a constant; one multiplication then gives all sums, which fit their lanes, and the
//! constants are taken off again with the word before added. The words behind the last code that counts
//! are written too, and overwritten by what follows.

use super::{ABSOLUTE, NIBBLES, RUN};

/// One-byte codes looked at together.
const GROUP: usize = 8;
/// Differences of four bits looked at together.
const HALVES: usize = 16;
/// Equal words written together.
const EQUALS: usize = 16;
/// Payload that the longest code may take, and a group behind it.
const PAYLOAD_ROOM: usize = 2 + 255 / 2 + 2 * GROUP;
/// Bytes of the words of the longest code, and of a block behind them.
const OUT_ROOM: usize = (255 + EQUALS) * 2;

const TOPS: u64 = 0x8080_8080_8080_8080;

/// A stream on its way to words.
pub(super) struct Swift<'p, 'o> {
    /// What is left of the payload.
    pub(super) payload: &'p [u8],
    /// Where the words that are left go.
    pub(super) out: &'o mut [u8],
    /// The word before.
    pub(super) last: u16,
}

/// Decodes until there may be no room, or the next code is malformed.
pub(super) fn decode_swiftly<const NIBBLE_RUNS: bool>(swift: &mut Swift<'_, '_>) {
    while let Some(bits) = swift.next_bits() {
        let codes = leading_codes::<NIBBLE_RUNS>(bits);
        swift.small(bits, codes);
        if codes == GROUP {
            continue;
        }
        // Codes of other kinds come in clusters.
        while let Some(bits) = swift.next_bits() {
            let [code, low, lowest, ..] = bits.to_le_bytes();
            match code {
                ABSOLUTE => swift.word(u16::from_be_bytes([low, lowest]), 3),
                RUN if low > 0 => swift.equal(usize::from(low)),
                RUN => return,
                NIBBLES if NIBBLE_RUNS => {
                    if low == 0 || low % 2 != 0 {
                        return;
                    }
                    swift.halves(usize::from(low));
                }
                0x40..0xC0 => {
                    let d = u16::from_be_bytes([code ^ 0x40, low]);
                    swift.word(swift.last.wrapping_add(d), 2);
                }
                _ => break,
            }
        }
    }
}

/// How many of eight bytes, from the lowest on, are one-byte codes.
#[inline]
fn leading_codes<const NIBBLE_RUNS: bool>(bits: u64) -> usize {
    // A one-byte code repeats its sign in bit 6.
    let mut others = (bits ^ bits << 1) & TOPS;
    if NIBBLE_RUNS {
        // Zero bytes of `turned`, exact up to the first of them.
        let turned = bits ^ u64::from_le_bytes([NIBBLES; GROUP]);
        others |= turned.wrapping_sub(TOPS >> 7) & !turned & TOPS;
    }
    others.trailing_zeros() as usize / GROUP
}

impl Swift<'_, '_> {
    /// The next eight bytes of payload; `None` where there is no room any more.
    #[inline]
    fn next_bits(&self) -> Option<u64> {
        if self.payload.len() < PAYLOAD_ROOM || self.out.len() < OUT_ROOM {
            return None;
        }
        let bytes = self.payload.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }

    #[inline]
    fn advance(&mut self, payload: usize, words: usize) {
        self.payload = self.payload.get(payload..).unwrap_or_default();
        let out = std::mem::take(&mut self.out);
        self.out = out.get_mut(words * 2..).unwrap_or_default();
    }

    #[inline]
    fn write<const N: usize>(&mut self, word: usize, bytes: [u8; N]) {
        if let Some(slot) = self.out.get_mut(word * 2..word * 2 + N) {
            slot.copy_from_slice(&bytes);
        }
    }

    /// A word whose code took so many bytes.
    #[inline]
    fn word(&mut self, word: u16, code_bytes: usize) {
        self.write(0, word.to_le_bytes());
        self.last = word;
        self.advance(code_bytes, 1);
    }

    /// The first `count` of eight one-byte codes.
    #[inline]
    fn small(&mut self, bits: u64, count: usize) {
        const LANES: u64 = 0x00FF_00FF_00FF_00FF;
        // 64 added to each code, which lies in -64..64.
        let positive = (bits ^ 0x4040_4040_4040_4040) & !TOPS;
        let second = positive >> 8 & LANES;
        let pairs = (positive & LANES) + second;
        let after_second = pairs.wrapping_mul(0x0001_0001_0001_0001);
        let after_first = after_second - second;
        let mut words = [0; GROUP];
        for (lane, pair) in words.chunks_exact_mut(2).enumerate() {
            let added = 128 * lane as u16;
            let first = (after_first >> (16 * lane)) as u16;
            let second = (after_second >> (16 * lane)) as u16;
            pair[0] = self.last.wrapping_add(first).wrapping_sub(added + 64);
            pair[1] = self.last.wrapping_add(second).wrapping_sub(added + 128);
        }
        let mut bytes = [0; GROUP * 2];
        for (pair, word) in bytes.chunks_exact_mut(2).zip(words) {
            pair.copy_from_slice(&word.to_le_bytes());
        }
        self.write(0, bytes);
        if count == GROUP {
            // Not read back from what was written: the next group waits for it.
            let sum = (after_second >> (16 * 3)) as u16;
            self.last = self.last.wrapping_add(sum).wrapping_sub(64 * GROUP as u16);
        } else if count > 0 {
            self.last = words[(count - 1) % GROUP];
        }
        self.advance(count, count);
    }

    /// A run of equal words.
    #[inline]
    fn equal(&mut self, run: usize) {
        let mut bytes = [0; EQUALS * 2];
        for pair in bytes.chunks_exact_mut(2) {
            pair.copy_from_slice(&self.last.to_le_bytes());
        }
        let mut word = 0;
        while word < run {
            self.write(word, bytes);
            word += EQUALS;
        }
        self.advance(2, run);
    }

    /// A run of differences of four bits.
    #[inline]
    fn halves(&mut self, run: usize) {
        const HALF: u64 = 0x0F0F_0F0F_0F0F_0F0F;
        let mut word = 0;
        while word < run {
            let from = 2 + word / 2;
            let Some(bytes) = self.payload.get(from..).and_then(|rest| rest.first_chunk()) else {
                return;
            };
            // 8 added to each difference, which lies in -8..8.
            let positive = u64::from_le_bytes(*bytes) ^ 0x8888_8888_8888_8888;
            let second = positive & HALF;
            let pairs = (positive >> 4 & HALF) + second;
            let after_second = pairs.wrapping_mul(0x0101_0101_0101_0101);
            let after_first = after_second - second;
            let mut out = [0; HALVES * 2];
            let sums = after_first
                .to_le_bytes()
                .into_iter()
                .zip(after_second.to_le_bytes());
            for ((lane, slots), (first, second)) in out.chunks_exact_mut(4).enumerate().zip(sums) {
                let added = 16 * lane as u16;
                let first = self
                    .last
                    .wrapping_add(u16::from(first))
                    .wrapping_sub(added + 8);
                let second = self
                    .last
                    .wrapping_add(u16::from(second))
                    .wrapping_sub(added + 16);
                slots[..2].copy_from_slice(&first.to_le_bytes());
                slots[2..].copy_from_slice(&second.to_le_bytes());
            }
            self.write(word, out);
            word += HALVES;
            if word <= run {
                let sum = (after_second >> (8 * 7)) as u16;
                self.last = self.last.wrapping_add(sum).wrapping_sub(8 * HALVES as u16);
            } else {
                let behind = (run % HALVES) * 2;
                self.last = u16::from_le_bytes([out[behind - 2], out[behind - 1]]);
            }
        }
        self.advance(2 + run / 2, run);
    }
}
