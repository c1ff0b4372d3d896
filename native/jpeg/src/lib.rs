//! Progressive JPEG: spectral selection (T.81 processes 6 and 8, 1.2.840.10008.1.2.4.53) and full
//! progression (processes 10 and 12, .4.55), of 8 and of 12 bits.
//!
//! Writing only: these are the two forms of JPEG that imagecodecs does not write. `scans.c` speaks to
//! libjpeg-turbo; the `unsafe` of this crate is the one call of it, and what it needs is checked before.

use std::ffi::{CStr, c_char, c_int};
use std::{ptr, slice};

use thiserror::Error;
// Linked, and called from C only.
use turbojpeg_sys as _;

/// `JPEG_MAX_DIMENSION` of libjpeg.
pub const SIDE_MAX: u32 = 65_500;
/// `JMSG_LENGTH_MAX` of libjpeg.
const MESSAGE_BYTES: usize = 200;
const SAMPLE_MAX_12: u16 = 0x0FFF;

/// How coefficients are spread over scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// Bands of frequencies, each with all its bits.
    SpectralSelection,
    /// Bands of frequencies, the upper bits before the lower ones.
    FullProgression,
}

/// What the samples of a pixel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Grey,
    /// Coded as YCbCr.
    Rgb,
    YCbCr,
}

impl Colour {
    fn components(self) -> u32 {
        if self == Self::Grey { 1 } else { 3 }
    }
}

/// Bits of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// In one byte.
    Eight,
    /// In two bytes, little endian.
    Twelve,
}

/// One frame of native samples, by pixel.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub samples: &'a [u8],
    pub rows: u32,
    pub columns: u32,
    pub colour: Colour,
    pub precision: Precision,
}

/// Why a frame cannot be encoded.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum JpegError {
    #[error("an image of {rows} rows and {columns} columns: JPEG takes 1 to {SIDE_MAX} of each")]
    Size { rows: u32, columns: u32 },
    #[error("{found} bytes are no frame of {expected} bytes")]
    Length { found: usize, expected: u64 },
    #[error("a sample of {found} has more than 12 bits")]
    Sample { found: u16 },
    #[error("quality {0} is not within 1 to 100")]
    Quality(u8),
    #[error("libjpeg-turbo: {0}")]
    Library(String),
}

/// The codestream of a frame, its colours without subsampling.
pub fn encode(frame: &Frame<'_>, process: Process, quality: u8) -> Result<Vec<u8>, JpegError> {
    check(frame, quality)?;
    let raw = RawFrame {
        samples: frame.samples.as_ptr(),
        rows: frame.rows,
        columns: frame.columns,
        components: frame.colour.components(),
        precision: match frame.precision {
            Precision::Eight => 8,
            Precision::Twelve => 12,
        },
        quality: c_int::from(quality),
        from_rgb: c_int::from(frame.colour == Colour::Rgb),
        full_progression: c_int::from(process == Process::FullProgression),
    };
    let mut out = RawCodestream {
        bytes: ptr::null_mut(),
        length: 0,
        message: [0; MESSAGE_BYTES],
    };
    // SAFETY: `check` has seen that `samples` has the bytes that the numbers beside it say, and the C
    // side reads no more and keeps no pointer. On success `bytes` holds `length` bytes that are ours
    // to free, once; on failure `message` ends with a zero byte, as it does from the start.
    unsafe {
        if pyserver_jpeg_encode(&raw const raw, &raw mut out) != 0 {
            let message = CStr::from_ptr(out.message.as_ptr());
            return Err(JpegError::Library(message.to_string_lossy().into_owned()));
        }
        let stream = slice::from_raw_parts(out.bytes, out.length).to_vec();
        pyserver_jpeg_free(out.bytes);
        Ok(stream)
    }
}

fn check(frame: &Frame<'_>, quality: u8) -> Result<(), JpegError> {
    let &Frame { rows, columns, .. } = frame;
    let sides = 1..=SIDE_MAX;
    if !sides.contains(&rows) || !sides.contains(&columns) {
        return Err(JpegError::Size { rows, columns });
    }
    if !(1..=100).contains(&quality) {
        return Err(JpegError::Quality(quality));
    }
    let width = u64::from(frame.precision == Precision::Twelve) + 1;
    let samples = u64::from(rows) * u64::from(columns) * u64::from(frame.colour.components());
    let found = frame.samples.len();
    if found as u64 != samples * width {
        let expected = samples * width;
        return Err(JpegError::Length { found, expected });
    }
    if frame.precision == Precision::Twelve {
        let (pairs, _) = frame.samples.as_chunks::<2>();
        let largest = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).max();
        if let Some(found) = largest.filter(|&sample| sample > SAMPLE_MAX_12) {
            return Err(JpegError::Sample { found });
        }
    }
    Ok(())
}

/// `struct frame` of scans.c.
#[repr(C)]
struct RawFrame {
    samples: *const u8,
    rows: u32,
    columns: u32,
    components: u32,
    precision: u32,
    quality: c_int,
    from_rgb: c_int,
    full_progression: c_int,
}

/// `struct codestream` of scans.c.
#[repr(C)]
struct RawCodestream {
    bytes: *mut u8,
    length: usize,
    message: [c_char; MESSAGE_BYTES],
}

unsafe extern "C" {
    fn pyserver_jpeg_encode(frame: *const RawFrame, out: *mut RawCodestream) -> c_int;
    fn pyserver_jpeg_free(bytes: *mut u8);
}
