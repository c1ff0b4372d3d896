//! From words to an NKI stream.
//!
//! Stretches between runs are found in the bits of a [`Survey`]; codes inside a stretch are written many
//! together, without branches.

use super::bits::Bits;
use super::survey::Survey;
use super::{ABSOLUTE, LONG_HEADER, Mode, NIBBLES, NkiError, RUN, SHORT_HEADER, checksum};

/// Codes written together.
const BLOCK: usize = 16;
/// Longest run of equal words that one code holds.
const RUN_MAX: usize = 255;
/// Differences of four bits after which they are written at once.
const FULL: usize = 254;
/// Fewest differences that are written in four bits.
const WORTH: usize = 6;

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
    if !pixels.len().is_multiple_of(2) {
        return Err(NkiError::OddLength(pixels.len()));
    }
    let words = pixels.len() / 2;
    let count = u32::try_from(words).map_err(|_| NkiError::WordCount(words))?;
    if words == 0 {
        return Err(NkiError::WordCount(0));
    }
    let header = if mode.has_checksum() {
        LONG_HEADER
    } else {
        SHORT_HEADER
    };
    let survey = Survey::new(pixels, if mode.has_nibbles() { 63 } else { 64 });
    // Two bytes for the first word and one to make the length even; three for each wide difference, at
    // most one for each other.
    let payload_max = 3 + words + 2 * survey.wide.count();
    // A block is written whole even where less of it counts.
    let mut writer = Writer {
        pixels,
        bytes: vec![0; header + payload_max + BLOCK],
        at: header,
    };
    writer.put([pixels[0], pixels[1]], 2);
    if mode.has_nibbles() {
        writer.nibbles(&survey);
    } else {
        writer.bytes(&survey);
    }
    if !(writer.at - header).is_multiple_of(2) {
        writer.put([0], 1);
    }
    let Writer { mut bytes, at, .. } = writer;
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

struct Writer<'a> {
    pixels: &'a [u8],
    /// Large enough for every stream.
    bytes: Vec<u8>,
    /// Where the next byte goes.
    at: usize,
}

impl Writer<'_> {
    /// Modes 1 and 2.
    fn bytes(&mut self, survey: &Survey) {
        let words = self.pixels.len() / 2;
        let pairs = survey.zero.pairs();
        let runs = Bits::new(pairs.map(|zero| (zero & zero >> 1) as u64).collect());
        let mut word = 1;
        while word < words {
            let begin = runs.next(word, words);
            self.singles::<64>(survey, word, begin);
            word = begin;
            if word < words {
                word = self.run(survey, word);
            }
        }
    }

    /// Modes 3 and 4.
    fn nibbles(&mut self, survey: &Survey) {
        let words = self.pixels.len() / 2;
        let runs = survey.zero.pairs().map(|zero| {
            let pairs = zero & zero >> 1;
            (pairs & pairs >> 2 & zero >> 4) as u64
        });
        let runs = Bits::new(runs.collect());
        let stops = runs.groups().zip(survey.coarse.groups());
        let stops = Bits::new(stops.map(|(run, coarse)| run | coarse).collect());
        let events = stops.pairs().zip(runs.groups()).map(|(stops, run)| {
            let pairs = !(stops | stops >> 1);
            let worth = pairs & pairs >> 2 & pairs >> 4;
            worth as u64 | run
        });
        let events = Bits::new(events.collect());
        let mut word = 1;
        while word < words {
            let begin = events.next(word, words);
            self.singles::<63>(survey, word, begin);
            word = begin;
            if word == words {
                break;
            }
            let end = stops.next(word, words);
            if end == word {
                word = self.run(survey, word);
            } else {
                self.halves(&survey.codes, word, end, words);
                word = end;
            }
        }
    }

    /// A run of equal words from `word` on; the word behind it.
    #[inline]
    fn run(&mut self, survey: &Survey, word: usize) -> usize {
        let end = survey.zero.next_clear(word, word + RUN_MAX);
        self.put([RUN, (end - word) as u8], 2);
        end
    }

    /// Words with a code of their own each.
    #[inline]
    fn singles<const REACH: i16>(&mut self, survey: &Survey, mut word: usize, end: usize) {
        while word < end {
            let left = end - word;
            let narrow = survey.wide.window(word).trailing_zeros() as usize;
            let take = narrow.min(left);
            if narrow >= BLOCK || narrow >= left {
                self.copy(&survey.codes, word, take);
                word += take;
                continue;
            }
            let take = left.min(BLOCK);
            self.mixed::<REACH>(word, take);
            word += take;
        }
    }

    /// Codes of one byte each.
    #[inline]
    fn copy(&mut self, codes: &[u8], word: usize, count: usize) {
        let mut done = 0;
        while done < count {
            let code = codes.get(word + done..).and_then(|rest| rest.first_chunk());
            self.put::<BLOCK>(*code.unwrap_or(&[0; BLOCK]), BLOCK.min(count - done));
            done += BLOCK;
        }
    }

    /// Codes of one to three bytes, at most a block of them, without branches.
    #[inline]
    fn mixed<const REACH: i16>(&mut self, word: usize, count: usize) {
        let from = self.pixels.get(2 * word - 2..).unwrap_or_default();
        let (codes, lengths) = if let Some(bytes) = from.first_chunk() {
            codes::<REACH>(bytes)
        } else {
            let mut bytes = [0; BLOCK * 2 + 2];
            bytes[..from.len()].copy_from_slice(from);
            codes::<REACH>(&bytes)
        };
        let mut at = self.at;
        for (code, length) in codes.iter().zip(lengths).take(count) {
            if let Some(slot) = self.bytes.get_mut(at..at + 4) {
                slot.copy_from_slice(&code.to_le_bytes());
            }
            at += usize::from(length);
        }
        self.at = at;
    }

    /// Differences of four bits.
    fn halves(&mut self, codes: &[u8], mut word: usize, end: usize, words: usize) {
        while end - word >= FULL {
            self.pack(codes, word, FULL);
            word += FULL;
        }
        let left = end - word;
        if left < WORTH || end == words {
            return self.copy(codes, word, left);
        }
        // Of an odd number the first stays.
        let odd = left % 2;
        self.put([codes[word]], odd);
        self.pack(codes, word + odd, left - odd);
    }

    /// An even number of differences, two to a byte.
    #[inline]
    fn pack(&mut self, codes: &[u8], word: usize, count: usize) {
        self.put([NIBBLES, count as u8], 2);
        let mut done = 0;
        while done < count {
            let both = codes
                .get(word + done..)
                .and_then(|rest| rest.first_chunk::<{ 2 * BLOCK }>());
            let both = both.unwrap_or(&[0; 2 * BLOCK]);
            let mut packed = [0; BLOCK];
            for (byte, pair) in packed.iter_mut().zip(both.chunks_exact(2)) {
                *byte = pair[0] << 4 | pair[1] & 0xF;
            }
            self.put(packed, BLOCK.min((count - done) / 2));
            done += 2 * BLOCK;
        }
    }

    /// Writes `N` bytes of which `used` count.
    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N], used: usize) {
        if let Some(slot) = self.bytes.get_mut(self.at..self.at + N) {
            slot.copy_from_slice(&bytes);
        }
        self.at += used;
    }
}

/// Codes of one to three bytes for a block of words that are in no run, and their lengths.
#[inline]
fn codes<const REACH: i16>(bytes: &[u8; BLOCK * 2 + 2]) -> ([u32; BLOCK], [u8; BLOCK]) {
    let word = |pair: &[u8]| i16::from_le_bytes([pair[0], pair[1]]);
    let befores = bytes[..BLOCK * 2].chunks_exact(2).map(word);
    let words = bytes[2..].chunks_exact(2).map(word);
    let (mut codes, mut lengths) = ([0; BLOCK], [0; BLOCK]);
    let slots = codes.iter_mut().zip(&mut lengths);
    for ((code, length), (word, before)) in slots.zip(words.zip(befores)) {
        let d = word.saturating_sub(before);
        let is_small = d.wrapping_add(REACH) as u16 <= 63 + REACH as u16;
        let is_middle = d.wrapping_add(0x3F00) as u16 <= 0x7DFF;
        let two = d.swap_bytes() as u16 ^ 0x40;
        let short = if is_small { d as u16 } else { two };
        let three = u16::from(ABSOLUTE) | word as u16 & 0xFF00;
        let start = if is_middle { short } else { three };
        *code = u32::from(start) | u32::from(word as u16) << 16;
        *length = 3 - u8::from(is_middle) - u8::from(is_small);
    }
    (codes, lengths)
}
