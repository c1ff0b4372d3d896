//! NKI, Conquest's private lossless compression of pixel data: bytes to bytes.
//!
//! Pixel data of any depth is taken as one array of 16-bit little endian words. A stream is a header,
//! little endian, and a payload of differences between consecutive words:
//!
//! | offset | modes 1 and 3 | modes 2, 4 and 5 |
//! |---|---|---|
//! | 0 | number of words | number of words |
//! | 4 | mode | mode |
//! | 8 | payload | payload length in bytes |
//! | 12 | | checksum of the words (modes 2 and 4) |
//! | 16 | | checksum of the payload (mode 2) |
//! | 20 | | payload |
//!
//! The first word stands as it is. Each following one is its difference `d` to the word before, both
//! taken as signed:
//!
//! | bytes | meaning | modes |
//! |---|---|---|
//! | `00`–`3F`, `C1`–`FF` | `d` in one byte | 1–4 |
//! | `C0` | `d` = -64 | 1, 2 |
//! | `C0 kk` + `kk`/2 bytes | `kk` differences of four bits, the high one first | 3, 4 |
//! | `40`–`7E` or `81`–`BF`, `ll` | `d` in two bytes, the first with bit 6 turned | 1–4 |
//! | `7F hh ll` | the word itself | 1–4 |
//! | `80 nn` | `nn` differences of zero | 1–4 |
//!
//! Mode 5 keeps only 13 bits of a word; it is read here and never written. Streams are those that
//! Conquest 1.5.0e writes, byte for byte (golden vectors `storage/nki`). Where it reads beyond a
//! damaged stream, an error is returned.

mod bits;
mod decode;
mod encode;
mod survey;
mod swift;

pub use decode::decode;
pub use encode::encode;

/// Header bytes of modes 1 and 3.
const SHORT_HEADER: usize = 8;
/// Header bytes of modes 2, 4 and 5.
const LONG_HEADER: usize = 20;
/// Marks a word that stands as it is.
const ABSOLUTE: u8 = 0x7F;
/// Marks a run of equal words.
const RUN: u8 = 0x80;
/// Marks differences of four bits.
const NIBBLES: u8 = 0xC0;

/// The lossless modes, those that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `n1`: differences.
    N1,
    /// `n2`: `n1` with checksums.
    N2,
    /// `n3`: differences, small ones in four bits.
    N3,
    /// `n4`: `n3` with checksums.
    N4,
}

impl Mode {
    /// The mode of a digit; `None` for the digits that cannot be written.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::N1,
            2 => Self::N2,
            3 => Self::N3,
            4 => Self::N4,
            _ => return None,
        })
    }

    /// Its digit.
    pub const fn number(self) -> u32 {
        match self {
            Self::N1 => 1,
            Self::N2 => 2,
            Self::N3 => 3,
            Self::N4 => 4,
        }
    }

    const fn has_nibbles(self) -> bool {
        matches!(self, Self::N3 | Self::N4)
    }

    const fn has_checksum(self) -> bool {
        matches!(self, Self::N2 | Self::N4)
    }
}

/// Why pixel data cannot be encoded, or a stream not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NkiError {
    /// Words have two bytes.
    #[error("{0} bytes of pixel data are no whole number of 16-bit words")]
    OddLength(usize),
    /// The header counts words in 32 bits, and there is at least one.
    #[error("{0} words of pixel data do not fit an NKI stream")]
    WordCount(usize),
    /// Shorter than its header.
    #[error("an NKI stream of {0} bytes has no room for its header")]
    Header(usize),
    /// No mode that was ever written.
    #[error("NKI mode {0} is unknown")]
    UnknownMode(u32),
    /// More than the caller takes.
    #[error("the NKI stream holds {bytes} bytes of pixel data, more than the limit of {limit}")]
    TooLarge {
        /// What the header says.
        bytes: u64,
        /// What was allowed.
        limit: u64,
    },
    /// The payload ends before the last word.
    #[error("the NKI stream ends at word {word} of {words}")]
    Truncated {
        /// Words decoded.
        word: usize,
        /// Words that the header says.
        words: usize,
    },
    /// A run leads past the last word.
    #[error("a run of {run} in the NKI stream at word {word} leads past the end at {words}")]
    RunTooLong {
        /// Words before the run.
        word: usize,
        /// Words that the header says.
        words: usize,
        /// Length of the run.
        run: usize,
    },
    /// A run of no words, or an odd number of differences in half bytes.
    #[error("a run of {run} in the NKI stream at word {word} is malformed")]
    Run {
        /// Words before the run.
        word: usize,
        /// Length of the run.
        run: usize,
    },
    /// The words are not those that were encoded.
    #[error("checksum of the decoded NKI stream is {found:08X}, its header says {expected:08X}")]
    Checksum {
        /// Of the decoded words.
        found: u32,
        /// In the header.
        expected: u32,
    },
}

/// Conquest's checksum: CRC-32 that starts at zero and is not inverted at its end.
///
/// ```
/// assert_eq!(pyserver_proto::nki::checksum(b"123456789"), 0x2DFD_2D88);
/// ```
pub fn checksum(bytes: &[u8]) -> u32 {
    // The library inverts both the start value and the result.
    let mut hasher = crc32fast::Hasher::new_with_initial(u32::MAX);
    hasher.update(bytes);
    !hasher.finalize()
}

#[cfg(test)]
#[path = "nki/nki_tests.rs"]
mod tests;
