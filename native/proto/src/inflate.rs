//! Streaming raw deflate (PS3.5 section A.5) with a bound on growth.
//!
//! Output is handed on in pieces of one window; nothing is collected, so a bomb costs processor time up to
//! the limit and no memory.

use std::fmt;

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use crate::dataset::DatasetError;
use crate::scan::{ScanError, ScanErrorKind, ScanLimits};

/// Bytes inflated before they are handed on.
const WINDOW_BYTES: usize = 32 << 10;

/// Inflates a stream of pieces.
pub(crate) struct Inflater {
    state: Box<InflateState>,
    window: Vec<u8>,
    ratio_max: u64,
    free_bytes: u64,
    taken: u64,
    given: u64,
    done: bool,
    trailing: u64,
}

impl Inflater {
    pub(crate) fn new(limits: &ScanLimits) -> Self {
        Self {
            state: InflateState::new_boxed(DataFormat::Raw),
            window: vec![0; WINDOW_BYTES],
            ratio_max: limits.deflate_ratio_max,
            free_bytes: limits.deflate_free_bytes,
            taken: 0,
            given: 0,
            done: false,
            trailing: 0,
        }
    }

    /// Inflates `data` and hands every piece of output to `take`.
    pub(crate) fn push<E: From<ScanError>>(
        &mut self,
        mut data: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            if self.done {
                self.trailing += data.len() as u64;
                return Ok(());
            }
            let result = inflate(&mut self.state, data, &mut self.window, MZFlush::None);
            self.taken += result.bytes_consumed as u64;
            data = data.get(result.bytes_consumed..).unwrap_or_default();
            if result.bytes_written > 0 {
                self.given += result.bytes_written as u64;
                let allowed = self
                    .free_bytes
                    .saturating_add(self.ratio_max.saturating_mul(self.taken));
                if self.given > allowed {
                    return Err(self
                        .error(ScanErrorKind::DeflateRatio(self.ratio_max))
                        .into());
                }
                take(self.window.get(..result.bytes_written).unwrap_or_default())?;
            }
            match result.status {
                Ok(MZStatus::StreamEnd) => self.done = true,
                Ok(_) if result.bytes_written == 0 && data.is_empty() => return Ok(()),
                Err(MZError::Buf) if result.bytes_written == 0 => return Ok(()),
                Ok(_) | Err(MZError::Buf) => {}
                Err(_) => return Err(self.error(ScanErrorKind::Deflate).into()),
            }
        }
    }

    /// Bytes that followed the stream; an error when it did not end.
    pub(crate) fn finish(&self, offset: u64) -> Result<u64, ScanError> {
        if self.done {
            return Ok(self.trailing);
        }
        let kind = if self.taken == 0 {
            ScanErrorKind::Empty
        } else {
            ScanErrorKind::Deflate
        };
        Err(ScanError { offset, kind })
    }

    fn error(&self, kind: ScanErrorKind) -> ScanError {
        ScanError {
            offset: self.given,
            kind,
        }
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inflater({} in, {} out)", self.taken, self.given)
    }
}

/// Inflates a whole data set of at most `bytes_max` bytes.
pub(crate) fn inflate_all(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, DatasetError> {
    use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};
    decompress_to_vec_with_limit(bytes, bytes_max).map_err(|error| match error.status {
        TINFLStatus::HasMoreOutput => DatasetError::TooLarge(bytes_max),
        _ => DatasetError::Deflate,
    })
}
