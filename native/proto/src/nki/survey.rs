//! What an encoder has to know of all differences before it writes.
//!
//! Words are looked at sixty-four together and without branches, so that the compiler can use vector
//! instructions; whoever writes then goes from one bit to the next.

use super::bits::{Bits, GROUP};

/// Words whose bits are gathered together.
const OCTET: usize = 8;

/// The differences of all words to the ones before.
pub(super) struct Survey {
    /// Low bytes of the differences, with room for a group behind the last; the first word's means
    /// nothing.
    pub(super) codes: Vec<u8>,
    /// Where the difference does not fit one byte.
    pub(super) wide: Bits,
    /// Where it is zero. The last word's is not: that is in no run.
    pub(super) zero: Bits,
    /// Where it does not fit four bits, and behind the last word.
    pub(super) coarse: Bits,
}

impl Survey {
    /// Looks at little endian words, the first of which stands for itself. Differences of one byte lie in
    /// -`reach`..64.
    pub(super) fn new(pixels: &[u8], reach: i16) -> Self {
        let groups = pixels.len().div_ceil(GROUP * 2);
        let mut codes = vec![0; (groups + 1) * GROUP];
        let [mut wide, mut zero, mut coarse] = [(); 3].map(|()| Vec::with_capacity(groups));
        let pieces = pixels.chunks(GROUP * 2);
        for (n, (piece, codes)) in pieces.zip(codes.chunks_exact_mut(GROUP)).enumerate() {
            let begin = n * GROUP * 2;
            let inner = pixels.get(begin.wrapping_sub(2)..begin + GROUP * 2);
            let classes = if let Some(bytes) = inner.and_then(|bytes| bytes.first_chunk()) {
                classify(bytes, codes, reach)
            } else {
                let mut bytes = [0; GROUP * 2 + 2];
                // The first word of all is compared with itself.
                let before = begin.saturating_sub(2);
                bytes[..2].copy_from_slice(&pixels[before..before + 2]);
                bytes[2..2 + piece.len()].copy_from_slice(piece);
                classify(&bytes, codes, reach)
            };
            let present = u64::MAX >> (GROUP - piece.len() / 2);
            wide.push(gather(&classes, WIDE) & present);
            zero.push(gather(&classes, ZERO) & present);
            coarse.push(gather(&classes, COARSE) | !present);
        }
        if let Some(end) = zero.last_mut() {
            *end &= !(1 << ((pixels.len() / 2 - 1) % GROUP));
        }
        Self {
            codes,
            wide: Bits::new(wide),
            zero: Bits::new(zero),
            coarse: Bits::new(coarse),
        }
    }
}

const WIDE: u32 = 0;
const ZERO: u32 = 1;
const COARSE: u32 = 2;

/// The low bytes of a group of differences, and their classes as bits.
#[inline]
fn classify(bytes: &[u8; GROUP * 2 + 2], codes: &mut [u8], reach: i16) -> [u8; GROUP] {
    let word = |pair: &[u8]| i16::from_le_bytes([pair[0], pair[1]]);
    let befores = bytes[..GROUP * 2].chunks_exact(2).map(word);
    let words = bytes[2..].chunks_exact(2).map(word);
    let mut classes = [0; GROUP];
    for (((class, code), word), before) in classes.iter_mut().zip(codes).zip(words).zip(befores) {
        // Saturation keeps every difference that does not fit in the class of the largest.
        let d = word.saturating_sub(before);
        *code = d as u8;
        let wide = u16::from(d.wrapping_add(reach) as u16 >= 64 + reach as u16);
        let zero = u16::from(d == 0);
        let coarse = u16::from(d.wrapping_add(8) as u16 >= 16);
        *class = (wide << WIDE | zero << ZERO | coarse << COARSE) as u8;
    }
    classes
}

/// One bit of each class as a number.
#[inline]
fn gather(classes: &[u8; GROUP], bit: u32) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut bits = 0;
    for octet in classes.chunks_exact(OCTET).rev() {
        let mut bytes = [0; OCTET];
        bytes.copy_from_slice(octet);
        let ones = u64::from_le_bytes(bytes) >> bit & ONES;
        // Each factor moves the bit of one byte to its place in the highest byte.
        bits = bits << OCTET | ones.wrapping_mul(0x0102_0408_1020_4080) >> 56;
    }
    bits
}
