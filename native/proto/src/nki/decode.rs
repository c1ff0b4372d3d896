//! From an NKI stream to words.
//!
//! Far from the end nothing need be checked (`swift`); what is left, and what is malformed, is decoded a
//! code at a time.

use super::swift::{Swift, decode_swiftly};
use super::{ABSOLUTE, LONG_HEADER, Mode, NIBBLES, NkiError, RUN, SHORT_HEADER, checksum};

/// Words that one byte of payload can stand for at most: a run of 255 takes two bytes.
const WORDS_PER_BYTE_MAX: u64 = 128;
/// The mode that keeps 13 bits of a word.
const MODE_13_BITS: u32 = 5;

/// The pixel data of an NKI stream of mode 1 to 5, at most `bytes_max` bytes of it.
///
/// What follows the payload is ignored, and a wrong checksum of the payload too as long as that of
/// the words is right, as in Conquest.
///
/// Errors: everything of [`NkiError`] but `OddLength` and `WordCount`; a stream that claims more words than its
/// bytes can stand for is `Truncated` before memory is taken.
pub fn decode(stream: &[u8], bytes_max: u64) -> Result<Vec<u8>, NkiError> {
    let field = |n: usize| {
        let bytes = stream.get(n * 4..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let short = NkiError::Header(stream.len());
    let words = field(0).ok_or(short)?;
    let number = field(1).ok_or(short)?;
    let mode = Mode::from_number(number);
    let payload = match mode {
        Some(Mode::N1 | Mode::N3) => stream.get(SHORT_HEADER..).ok_or(short)?,
        None if number != MODE_13_BITS => return Err(NkiError::UnknownMode(number)),
        _ => {
            let rest = stream.get(LONG_HEADER..).ok_or(short)?;
            let length = field(2).map_or(usize::MAX, |length| length as usize);
            rest.get(..length).unwrap_or(rest)
        }
    };
    let bytes = u64::from(words) * 2;
    if bytes > bytes_max {
        return Err(NkiError::TooLarge {
            bytes,
            limit: bytes_max,
        });
    }
    let words = words as usize;
    if words == 0 || words as u64 > payload.len() as u64 * WORDS_PER_BYTE_MAX {
        return Err(NkiError::Truncated { word: 0, words });
    }
    let mut decoder = Decoder {
        payload,
        out: vec![0; words * 2],
        word: 0,
        words,
        last: 0,
    };
    match mode {
        Some(mode) if mode.has_nibbles() => decoder.differences::<true>()?,
        Some(_) => decoder.differences::<false>()?,
        None => decoder.thirteen_bits()?,
    }
    let out = decoder.out;
    if mode.is_some_and(Mode::has_checksum) {
        let found = checksum(&out);
        let expected = field(3).ok_or(short)?;
        if found != expected {
            return Err(NkiError::Checksum { found, expected });
        }
    }
    Ok(out)
}

struct Decoder<'a> {
    /// What is left of it.
    payload: &'a [u8],
    out: Vec<u8>,
    /// Words decoded.
    word: usize,
    /// Words there are.
    words: usize,
    last: u16,
}

impl Decoder<'_> {
    fn truncated(&self) -> NkiError {
        let Self { word, words, .. } = *self;
        NkiError::Truncated { word, words }
    }

    #[inline]
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], NkiError> {
        let (bytes, rest) = self
            .payload
            .split_first_chunk()
            .ok_or_else(|| self.truncated())?;
        self.payload = rest;
        Ok(*bytes)
    }

    #[inline]
    fn put(&mut self, word: u16) {
        let at = self.word * 2;
        if let Some(slot) = self.out.get_mut(at..at + 2) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        self.word += 1;
        self.last = word;
    }

    fn check_run(&self, run: usize) -> Result<(), NkiError> {
        let Self { word, words, .. } = *self;
        if run == 0 {
            return Err(NkiError::Run { word, run });
        }
        if run > words - word {
            return Err(NkiError::RunTooLong { word, words, run });
        }
        Ok(())
    }

    fn repeat(&mut self, run: usize) -> Result<(), NkiError> {
        self.check_run(run)?;
        let bytes = self.last.to_le_bytes();
        let at = self.word * 2;
        for slot in self.out[at..at + run * 2].chunks_exact_mut(2) {
            slot.copy_from_slice(&bytes);
        }
        self.word += run;
        Ok(())
    }

    fn differences<const NIBBLE_RUNS: bool>(&mut self) -> Result<(), NkiError> {
        let first = self.bytes()?;
        self.put(u16::from_le_bytes(first));
        let mut swift = Swift {
            payload: self.payload,
            out: &mut self.out[self.word * 2..],
            last: self.last,
        };
        decode_swiftly::<NIBBLE_RUNS>(&mut swift);
        let Swift { payload, out, last } = swift;
        let words_left = out.len() / 2;
        (self.payload, self.last) = (payload, last);
        self.word = self.words - words_left;
        while self.word < self.words {
            let [byte] = self.bytes()?;
            match byte {
                ABSOLUTE => {
                    let word = self.bytes()?;
                    self.put(u16::from_be_bytes(word));
                }
                RUN => {
                    let [run] = self.bytes()?;
                    self.repeat(usize::from(run))?;
                }
                NIBBLES if NIBBLE_RUNS => self.nibbles()?,
                0x40..0xC0 => {
                    let [low] = self.bytes()?;
                    let d = u16::from_be_bytes([byte ^ 0x40, low]);
                    self.put(self.last.wrapping_add(d));
                }
                _ => self.put(self.last.wrapping_add(byte as i8 as u16)),
            }
        }
        Ok(())
    }

    fn nibbles(&mut self) -> Result<(), NkiError> {
        let [count] = self.bytes()?;
        let run = usize::from(count);
        self.check_run(run)?;
        if run % 2 != 0 {
            let word = self.word;
            return Err(NkiError::Run { word, run });
        }
        let (pairs, rest) = self
            .payload
            .split_at_checked(run / 2)
            .ok_or_else(|| self.truncated())?;
        self.payload = rest;
        let at = self.word * 2;
        let mut last = self.last;
        let slots = self.out[at..at + run * 2].chunks_exact_mut(4);
        for (slot, pair) in slots.zip(pairs) {
            // Shifting right as signed copies the sign of the four bits.
            let high = last.wrapping_add((*pair as i8 >> 4) as u16);
            last = high.wrapping_add(((pair << 4) as i8 >> 4) as u16);
            let both = u32::from(last) << 16 | u32::from(high);
            slot.copy_from_slice(&both.to_le_bytes());
        }
        self.last = last;
        self.word += run;
        Ok(())
    }

    fn thirteen_bits(&mut self) -> Result<(), NkiError> {
        let [high, low] = self.bytes()?;
        self.put(u16::from_be_bytes([high & 0x1F, low]));
        while self.word < self.words {
            let [byte] = self.bytes()?;
            match byte {
                0x00..0x20 => {
                    let [low] = self.bytes()?;
                    self.put(u16::from_be_bytes([byte, low]));
                }
                0x20..0xE0 => {
                    let d = u16::from(byte).wrapping_sub(0x80);
                    self.put(self.last.wrapping_add(d) & 0x1FFF);
                }
                _ => self.repeat(usize::from(byte - 0xDF))?,
            }
        }
        Ok(())
    }
}
