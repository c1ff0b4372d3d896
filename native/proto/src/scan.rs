//! The streaming header scanner: one pass over a data set as it arrives, whatever pieces it comes in.
//!
//! It keeps the elements that describe an object and counts past those that carry its bulk (pixel data and
//! other long values), so its cost is that of the header, not of the object. It checks what must hold for
//! a stored object to be readable by others: elements whole, items and delimiters where they belong,
//! lengths inside their sequence, nesting and sizes within limits. Byte values are not judged, except that
//! elements identifying the object may not come twice. Parts of PS3.5: 7 (elements, sequences), A.4
//! (fragments), A.5 (deflate).

use crate::header::Header;
use crate::inflate::Inflater;
use crate::tag::Tag;
use crate::transfer_syntax::TransferSyntax;
use crate::vr::Vr;
use crate::walk::Walker;

/// Bounds of what is accepted; each has a safe default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanLimits {
    /// Sequences inside sequences; real objects use fewer than ten.
    pub depth_max: usize,
    /// Elements and items at all levels together, fragments not counted.
    pub elements_max: u64,
    /// Bytes of all elements that are kept.
    pub header_bytes_max: u64,
    /// Longest top-level value that is kept; longer ones are counted past like pixel data.
    pub value_bytes_max: u32,
    /// Inflated bytes per deflated byte, beyond [`ScanLimits::deflate_free_bytes`].
    pub deflate_ratio_max: u64,
    /// Inflated bytes that are always allowed.
    pub deflate_free_bytes: u64,
    /// Fragments whose place is remembered; further ones are only counted.
    pub fragments_max: usize,
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self {
            depth_max: 64,
            elements_max: 1_000_000,
            header_bytes_max: 64 << 20,
            value_bytes_max: 64 << 10,
            deflate_ratio_max: 100,
            deflate_free_bytes: 64 << 20,
            fragments_max: 65_536,
        }
    }
}

/// How far the scan has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanProgress {
    /// Elements before the pixel data are still coming.
    InHeader,
    /// The pixel data element has begun; see [`HeaderScanner::header_complete`].
    HeaderComplete,
}

/// Why a data set cannot be taken, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the data set: {kind}")]
pub struct ScanError {
    /// Bytes of the (inflated) data set before the fault.
    pub offset: u64,
    /// What is wrong.
    pub kind: ScanErrorKind,
}

impl ScanError {
    /// The C-STORE status: Cannot Understand (PS3.4 table B.2-1).
    pub const fn status(&self) -> u16 {
        0xC000
    }
}

/// What can be wrong with a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanErrorKind {
    /// No element at all.
    #[error("the data set is empty")]
    Empty,
    /// The stream ended inside an element, a sequence or the pixel data.
    #[error("the data set ends inside {0}")]
    Truncated(Tag),
    /// An explicit header without VR.
    #[error("element {0} has no VR; wrong transfer syntax?")]
    BadVr(Tag),
    /// The first implicit element looks explicit.
    #[error("element {0} has a VR in an implicit VR transfer syntax")]
    LooksExplicit(Tag),
    /// The data set begins as a file does.
    #[error("the data set begins with a Part 10 preamble")]
    FileInside,
    /// A delimiter, an item or an element where another thing must stand.
    #[error("unexpected {0}")]
    Unexpected(Tag),
    /// An element, item or sequence that is longer than what holds it.
    #[error("{0} is longer than the sequence or item around it")]
    Overrun(Tag),
    /// Undefined length on a VR that cannot have it.
    #[error("element {0} of VR {1} has undefined length")]
    UndefinedLength(Tag, Vr),
    /// Groups 0000 and 0002 belong to messages and files.
    #[error("element {0} does not belong into a data set")]
    ForbiddenGroup(Tag),
    /// An identifying element came with two values, or the pixel data twice.
    #[error("element {0} comes twice")]
    Duplicate(Tag),
    /// See [`ScanLimits::depth_max`].
    #[error("sequences nested deeper than {0}")]
    TooDeep(usize),
    /// See [`ScanLimits::elements_max`].
    #[error("more than {0} elements")]
    TooManyElements(u64),
    /// See [`ScanLimits::header_bytes_max`].
    #[error("more than {0} bytes before and after the pixel data")]
    HeaderTooLarge(u64),
    /// The deflate stream is damaged.
    #[error("the deflated data cannot be read")]
    Deflate,
    /// See [`ScanLimits::deflate_ratio_max`].
    #[error("the deflated data grows more than {0} times")]
    DeflateRatio(u64),
}

/// Tolerated faults, the first few of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanWarning {
    /// A tag smaller than the one before.
    #[error("element {0} is out of order")]
    OutOfOrder(Tag),
    /// The same tag again; the first one counts.
    #[error("element {0} comes twice")]
    Duplicate(Tag),
    /// A value of odd length.
    #[error("element {0} has an odd length")]
    OddLength(Tag),
    /// Two capital letters that are no known VR; taken as UN.
    #[error("element {0} has an unknown VR")]
    UnknownVr(Tag),
    /// VRs inside UN, where the standard wants implicit VR.
    #[error("element {0} of VR UN has explicit content")]
    ExplicitInUn(Tag),
    /// Pixel data without fragments in a syntax for fragments.
    #[error("pixel data is not encapsulated, the transfer syntax is")]
    NativePixels,
    /// Fragments in a syntax without them.
    #[error("pixel data is encapsulated, the transfer syntax is not")]
    EncapsulatedPixels,
    /// Group FFFF or an even group below 0008 other than the forbidden ones.
    #[error("element {0} has a reserved group number")]
    ReservedGroup(Tag),
    /// Bytes after the deflate stream.
    #[error("{0} bytes follow the deflated data")]
    AfterDeflate(u64),
}

/// A top-level element that the header leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkValue {
    /// The tag.
    pub tag: Tag,
    /// The VR; from the dictionary in implicit encoding.
    pub vr: Vr,
    /// Where its header starts in the (inflated) data set.
    pub element_offset: u64,
    /// Where its value starts.
    pub value_offset: u64,
    /// Length of the value.
    pub length: u64,
    /// Bytes of the kept header before it: where it would stand in [`Header::bytes`].
    pub header_position: u32,
}

/// The pixel data element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PixelInfo {
    /// 7FE0,0010, or the float or double float form.
    pub tag: Tag,
    /// The VR; from the dictionary in implicit encoding.
    pub vr: Vr,
    /// Where the element's header starts in the (inflated) data set.
    pub element_offset: u64,
    /// Where its value starts: the pixels, or the item of the offset table.
    pub value_offset: u64,
    /// Length of the value; `None` when encapsulated.
    pub length: Option<u64>,
    /// Where the element ends, sequence delimiter included.
    pub end_offset: u64,
    /// Offset of the value and length of each item; the first is the basic offset table.
    /// At most [`ScanLimits::fragments_max`].
    pub fragments: Vec<(u64, u32)>,
    /// Number of items, also of those not listed.
    pub fragment_count: u64,
    /// Bytes of the kept header before it: where it would stand in [`Header::bytes`].
    pub header_position: u32,
}

/// What a scan found.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// Every top-level element but the bulk values.
    pub header: Header,
    /// Bytes of the data set as pushed (deflated ones if it is deflated).
    pub dataset_bytes: u64,
    /// Bytes of the data set after inflating; the same as `dataset_bytes` otherwise.
    pub inflated_bytes: u64,
    /// The pixel data, if any.
    pub pixel: Option<PixelInfo>,
    /// Other long values left out of the header, in the order met.
    pub bulk: Vec<BulkValue>,
    /// Tolerated faults, at most 16.
    pub warnings: Vec<ScanWarning>,
}

/// Takes a data set piece by piece.
#[derive(Debug)]
pub struct HeaderScanner {
    syntax: TransferSyntax,
    walker: Walker,
    inflater: Option<Inflater>,
    pushed: u64,
    failed: Option<ScanError>,
}

impl HeaderScanner {
    /// Starts before the first byte of a data set.
    pub fn new(syntax: TransferSyntax, limits: ScanLimits) -> Self {
        Self {
            syntax,
            walker: Walker::new(&syntax, limits),
            inflater: syntax.is_deflated().then(|| Inflater::new(&limits)),
            pushed: 0,
            failed: None,
        }
    }

    /// Takes the next bytes. After an error every further call gives the same error.
    pub fn push(&mut self, data: &[u8]) -> Result<ScanProgress, ScanError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.pushed += data.len() as u64;
        let walker = &mut self.walker;
        let result = match &mut self.inflater {
            None => walker.push(data),
            Some(inflater) => inflater.push(data, |inflated| walker.push(inflated)),
        };
        if let Err(error) = result {
            self.failed = Some(error);
            return Err(error);
        }
        Ok(if self.header_complete() {
            ScanProgress::HeaderComplete
        } else {
            ScanProgress::InHeader
        })
    }

    /// Whether the pixel data element has begun, so that all describing elements are known
    /// (trailing ones, such as digital signatures, excepted).
    pub fn header_complete(&self) -> bool {
        self.walker.pixel_seen()
    }

    /// A top-level value of the elements kept so far, without trailing padding.
    pub fn value(&self, tag: Tag) -> Option<&[u8]> {
        self.walker.value(tag)
    }

    /// Ends the data set: everything begun must be finished.
    pub fn finish(self) -> Result<Scanned, ScanError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let trailing = match &self.inflater {
            Some(inflater) => inflater.finish(self.walker.position())?,
            None => 0,
        };
        let inflated_bytes = self.walker.position();
        let mut walked = self.walker.finish()?;
        // PS3.5 section A.5: a deflated stream of odd length is padded with one byte.
        if trailing > 1 {
            walked.warnings.push(ScanWarning::AfterDeflate(trailing));
        }
        let dataset_bytes = self.pushed;
        let header = Header::from_parts(walked.bytes, self.syntax, walked.elements);
        let (pixel, bulk, warnings) = (walked.pixel, walked.bulk, walked.warnings);
        Ok(Scanned {
            header,
            dataset_bytes,
            inflated_bytes,
            pixel,
            bulk,
            warnings,
        })
    }
}

/// Scans a data set that is in memory as a whole.
pub fn scan(
    dataset: &[u8],
    syntax: TransferSyntax,
    limits: ScanLimits,
) -> Result<Scanned, ScanError> {
    let mut scanner = HeaderScanner::new(syntax, limits);
    scanner.push(dataset)?;
    scanner.finish()
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
