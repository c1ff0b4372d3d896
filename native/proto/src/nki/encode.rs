//! From words to an NKI stream.
//!
//! Blocks whose differences all take one byte are written at once; others word by word.

use super::nibbles::{NibbleRun, classes};
use super::{LONG_HEADER, Mode, NkiError, SHORT_HEADER, checksum};

/// Words looked at together.
pub(super) const BLOCK: usize = 16;
/// Longest run of equal words that one code holds.
const RUN_MAX: usize = 255;
/// Shortest run of equal words that modes 3 and 4 write as a run.
const NIBBLE_RUN_MIN: usize = 5;
/// Shortest run of equal words that modes 1 and 2 write as a run.
const RUN_MIN: usize = 2;
/// Marks a word that stands as it is.
const ABSOLUTE: u8 = 0x7F;
/// Marks a run of equal words.
const RUN: u8 = 0x80;

/// The NKI stream of pixel data, its length made even.
///
/// Incompressible data grows by at most half, and the header.
///
/// Errors: `OddLength`, `WordCount`.
///
/// ```
/// use pyserver_proto::nki::{Mode, decode, encode};
/// let stream = encode(Mode::N4, &[1, 0, 1, 0, 2, 0])?;
/// assert_eq!(decode(&stream, u64::MAX)?, [1, 0, 1, 0, 2, 0]);
/// # Ok::<(), pyserver_proto::nki::NkiError>(())
/// ```
pub fn encode(mode: Mode, pixels: &[u8]) -> Result<Vec<u8>, NkiError> {
    if pixels.len() % 2 != 0 {
        return Err(NkiError::OddLength(pixels.len()));
    }
    let pairs = pixels.chunks_exact(2);
    let words: Vec<i16> = pairs
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    let count = u32::try_from(words.len()).map_err(|_| NkiError::WordCount(words.len()))?;
    let Some(&first) = words.first() else {
        return Err(NkiError::WordCount(0));
    };
    let header = if mode.has_checksum() {
        LONG_HEADER
    } else {
        SHORT_HEADER
    };
    // A block is written whole even where fewer words are left.
    let mut out = Output {
        bytes: vec![0; header + words.len() * 3 + 2 * BLOCK],
        at: header,
    };
    out.put(first.to_le_bytes(), 2);
    if mode.has_nibbles() {
        encode_nibbles(&words, &mut out);
    } else {
        encode_bytes(&words, &mut out);
    }
    if out.at % 2 != 0 {
        out.put([0], 1);
    }
    let Output { mut bytes, at } = out;
    bytes.truncate(at);
    let (head, payload) = bytes.split_at_mut(header);
    let mut fields = vec![count, mode.number()];
    if mode.has_checksum() {
        let payload_sum = if mode == Mode::N2 {
            checksum(payload)
        } else {
            0
        };
        fields.extend([payload.len() as u32, checksum(pixels), payload_sum]);
    }
    for (slot, field) in head.chunks_exact_mut(4).zip(fields) {
        slot.copy_from_slice(&field.to_le_bytes());
    }
    Ok(bytes)
}

/// A buffer large enough for every stream, and where its next byte goes.
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
    pub(super) at: usize,
}

impl Output {
    /// Writes `N` bytes of which `used` count.
    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N], used: usize) {
        if let Some(slot) = self.bytes.get_mut(self.at..self.at + N) {
            slot.copy_from_slice(&bytes);
        }
        self.at += used;
    }
}

/// The differences from word `at` on, and what a block says about them.
struct Block {
    differences: [i16; BLOCK],
}

impl Block {
    /// `None` near the end.
    #[inline]
    fn load(words: &[i16], at: usize) -> Option<Self> {
        let before = words.get(at - 1..at - 1 + BLOCK)?;
        // One word more than is looked at: the last word of all is never in a block.
        let after = words.get(at..=at + BLOCK)?;
        let mut differences = [0; BLOCK];
        for ((d, after), before) in differences.iter_mut().zip(after).zip(before) {
            // Saturation keeps every difference that does not fit in the class of the largest.
            *d = after.saturating_sub(*before);
        }
        Some(Self { differences })
    }

    /// Whether every difference lies in -`reach`..64.
    #[inline]
    fn all_small(&self, reach: i16) -> bool {
        let outside = |d: &i16| u16::from(d.wrapping_add(reach) as u16 >= 64 + reach as u16);
        self.differences.iter().fold(0, |any, d| any | outside(d)) == 0
    }

    /// Whether a difference of zero follows another.
    #[inline]
    fn has_equal_pair(&self) -> bool {
        let pairs = self.differences.iter().zip(&self.differences[1..]);
        pairs.fold(0, |any, (a, b)| any | u16::from((a | b) == 0)) != 0
    }

    /// The differences in one byte each.
    #[inline]
    fn bytes(&self) -> [u8; BLOCK] {
        self.differences.map(|d| d as u8)
    }
}

/// Length of the run of words equal to the one before `at`, without the last word of all.
#[inline]
fn equal_words(words: &[i16], at: usize) -> usize {
    let (Some(before), Some(rest)) = (words.get(at - 1), words.get(at..)) else {
        return 0;
    };
    let open = rest.split_last().map_or(rest, |(_, open)| open);
    let open = open.get(..RUN_MAX).unwrap_or(open);
    open.iter().take_while(|word| *word == before).count()
}

/// A code of one to three bytes for a difference that is no run.
#[inline]
fn code(word: i16, before: i16, reach: i16) -> ([u8; 4], usize) {
    let d = word.saturating_sub(before);
    let low = d as u8;
    let high = (d >> 8) as u8;
    if (-reach..64).contains(&d) {
        ([low, 0, 0, 0], 1)
    } else if (-0x3F00..0x3F00).contains(&d) {
        ([high ^ 0x40, low, 0, 0], 2)
    } else {
        let [high, low] = word.to_be_bytes();
        ([ABSOLUTE, high, low, 0], 3)
    }
}

fn encode_bytes(words: &[i16], out: &mut Output) {
    let mut at = 1;
    while at < words.len() {
        if let Some(block) = Block::load(words, at)
            && block.all_small(64)
            && !block.has_equal_pair()
        {
            // A zero at the end of the block may begin a run.
            let whole = BLOCK - usize::from(block.differences[BLOCK - 1] == 0);
            out.put(block.bytes(), whole);
            at += whole;
            continue;
        }
        let until = words.len().min(at + BLOCK);
        while at < until {
            let (word, before) = (words[at], words[at - 1]);
            let run = if word == before {
                equal_words(words, at)
            } else {
                0
            };
            if run >= RUN_MIN {
                out.put([RUN, run as u8], 2);
                at += run;
            } else {
                let (bytes, used) = code(word, before, 64);
                out.put(bytes, used);
                at += 1;
            }
        }
    }
}

fn encode_nibbles(words: &[i16], out: &mut Output) {
    let mut run = NibbleRun::begin(out.at);
    let mut at = 1;
    while at < words.len() {
        if let Some(block) = Block::load(words, at)
            && block.all_small(63)
        {
            let codes = block.bytes();
            let (zeros, fits) = classes(&codes);
            let pairs = zeros & (zeros >> 1);
            let is_run = pairs & (pairs >> 2) & (zeros >> 4);
            // Zeros at the end of the block may belong to a run.
            let ends_open = zeros >> (BLOCK - 1) != 0;
            if is_run == 0 && !ends_open && run.take_block(fits, out.at) {
                out.put(codes, BLOCK);
                at += BLOCK;
                continue;
            }
        }
        let until = words.len().min(at + BLOCK);
        while at < until {
            at += encode_next(words, at, out, &mut run);
        }
    }
}

/// Writes one code, or a few bytes of zero; says how many words they stand for.
#[inline]
fn encode_next(words: &[i16], at: usize, out: &mut Output, run: &mut NibbleRun) -> usize {
    let (word, before) = (words[at], words[at - 1]);
    if word == before {
        let equal = equal_words(words, at);
        if equal >= NIBBLE_RUN_MIN {
            run.end(out);
            out.put([RUN, equal as u8], 2);
            run.restart(out.at);
            return equal;
        }
        // The last word of all is in no run, and stands for itself.
        let zeros = equal.max(1);
        for _ in 0..zeros {
            out.put([0], 1);
            run.grow(out);
        }
        return zeros;
    }
    let d = word.saturating_sub(before);
    if (-8..8).contains(&d) {
        out.put([d as u8], 1);
        run.grow(out);
        return 1;
    }
    run.end(out);
    let (bytes, used) = code(word, before, 63);
    out.put(bytes, used);
    run.restart(out.at);
    1
}
