//! Conversion between the uncompressed transfer syntaxes (PS3.5 sections 7.1, A.1 to A.3, chapter 6.2.2).
//!
//! Element headers are rewritten, lengths of sequences and items recomputed (what had a defined length keeps
//! one), numbers swapped for big endian. VRs that implicit encoding does not tell come from the dictionary;
//! unknown elements become UN, their bytes untouched. Group lengths are left out, since they would be wrong.
//! [`DatasetConverter`] streams: only sequences are held back until they are complete. Encapsulated pixel
//! data is never converted.

use crate::dataset::swap_words;
use crate::dict;
use crate::element::{
    ElementError, ElementHead, Elements, HeadRead, Items, RawElement, UNDEFINED_LENGTH, read_head,
    write_head, write_u32,
};
use crate::grammar::{Grammar, Step, Then};
use crate::inflate::Inflater;
use crate::scan::{ScanError, ScanErrorKind, ScanLimits};
use crate::tag::Tag;
use crate::transfer_syntax::{Encoding, TransferSyntax};
use crate::vr::Vr;

/// Longest top-level value that is converted in one piece.
const HELD_VALUE_MAX: u64 = 4096;
/// Deepest nesting that is converted.
const DEPTH_MAX: usize = 128;

/// Why a data set cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// One of the two needs a codec.
    #[error("no conversion between these transfer syntaxes without a codec")]
    Unsupported,
    /// The pixel data is in fragments though the transfer syntax has none.
    #[error("the pixel data is encapsulated")]
    Encapsulated,
    /// The data set is malformed.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A sequence is malformed.
    #[error(transparent)]
    Element(#[from] ElementError),
}

/// Whether [`DatasetConverter`] converts between these.
pub const fn is_convertible(from: TransferSyntax, to: TransferSyntax) -> bool {
    (from.is_uncompressed() || from.is_deflated()) && to.is_uncompressed()
}

/// Converts whole elements, such as [`crate::header::Header::bytes`].
pub fn convert_elements(
    bytes: &[u8],
    from: Encoding,
    to: Encoding,
) -> Result<Vec<u8>, ElementError> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8);
    let mut rewriter = Rewriter { to, signed: false };
    for element in Elements::new(bytes, from) {
        let element = element?;
        if element.head.tag == Tag::PIXEL_REPRESENTATION {
            rewriter.signed = is_one(element.value);
            break;
        }
    }
    rewriter.elements(Elements::new(bytes, from), &mut out, 0)?;
    Ok(out)
}

/// Rewrites elements for one target encoding.
#[derive(Debug, Clone, Copy)]
struct Rewriter {
    to: Encoding,
    /// Whether Pixel Representation is 1: what may be US or SS is SS.
    signed: bool,
}

impl Rewriter {
    fn elements(
        self,
        elements: Elements<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), ElementError> {
        for element in elements {
            let element = element?;
            if !is_left_out(element.head.tag) {
                self.element(&element, out, depth)?;
            }
        }
        Ok(())
    }

    fn element(
        self,
        element: &RawElement<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), ElementError> {
        let head = &element.head;
        if head.is_undefined() && head.tag == Tag::PIXEL_DATA {
            return Err(ElementError::UndefinedLength(head.tag, head.vr));
        }
        if head.vr == Vr::Sq || head.is_undefined() {
            return self.sequence(element, out, depth);
        }
        if self.becomes_sequence(head, element.encoding) {
            return self.un_sequence(element, out, depth);
        }
        let vr = self.vr(head, element.encoding);
        write_head(out, head.tag, vr, head.length, self.to);
        let start = out.len();
        out.extend_from_slice(element.value);
        if element.encoding.big_endian != self.to.big_endian {
            swap_words(out.get_mut(start..).unwrap_or_default(), vr.word_bytes());
        }
        Ok(())
    }

    /// The VR to write, where implicit encoding leaves it open or the short header cannot hold the length.
    fn vr(self, head: &ElementHead, from: Encoding) -> Vr {
        if self.to.explicit && !head.vr.has_long_length() && head.length > 0xFFFF {
            return Vr::Un;
        }
        let signed = self.signed && !from.explicit && head.vr == Vr::Us;
        if signed && dict::is_us_or_ss(head.tag) {
            Vr::Ss
        } else {
            head.vr
        }
    }

    /// Whether a value that is no sequence would be read as one, because its VR gets lost and the
    /// dictionary's is SQ.
    fn becomes_sequence(self, head: &ElementHead, from: Encoding) -> bool {
        from.explicit && !self.to.explicit && dict::vr(head.tag) == Vr::Sq
    }

    /// A known sequence that was sent as UN holds its items in implicit encoding (PS3.5 section 6.2.2,
    /// note 2). Any other VR and any other content cannot be said without VRs.
    fn un_sequence(
        self,
        element: &RawElement<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), ElementError> {
        let implicit = RawElement {
            encoding: Encoding::IMPLICIT_LE,
            ..*element
        };
        if element.head.vr == Vr::Un && self.sequence(&implicit, out, depth).is_ok() {
            return Ok(());
        }
        Err(ElementError::NoSequence(element.head.tag))
    }

    /// UN of undefined length becomes SQ, which says the same with VRs.
    fn sequence(
        self,
        element: &RawElement<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), ElementError> {
        if depth >= DEPTH_MAX {
            return Err(ElementError::TooDeep);
        }
        let undefined = element.head.is_undefined();
        write_head(out, element.head.tag, Vr::Sq, UNDEFINED_LENGTH, self.to);
        let start = out.len();
        for item in Items::new(element) {
            let item = item?;
            write_head(out, Tag::ITEM, Vr::Un, UNDEFINED_LENGTH, self.to);
            let start = out.len();
            self.elements(item.elements(), out, depth + 1)?;
            self.end(item.undefined, Tag::ITEM_DELIMITATION, start, out);
        }
        self.end(undefined, Tag::SEQUENCE_DELIMITATION, start, out);
        Ok(())
    }

    /// Ends what began at `start`, by a delimiter or by its length.
    fn end(self, undefined: bool, delimiter: Tag, start: usize, out: &mut Vec<u8>) {
        if undefined {
            write_head(out, delimiter, Vr::Un, 0, self.to);
            return;
        }
        let mut length = Vec::with_capacity(4);
        write_u32(&mut length, out.len().saturating_sub(start) as u32, self.to);
        if let Some(field) = start
            .checked_sub(4)
            .and_then(|field| out.get_mut(field..start))
        {
            field.copy_from_slice(&length);
        }
    }
}

fn is_left_out(tag: Tag) -> bool {
    // 0008,0001 is the length to the end, in the same way retired and wrong afterwards.
    tag.is_group_length() || tag == Tag::new(0x0008, 0x0001)
}

/// Whether a US value is 1, in either byte order.
fn is_one(value: &[u8]) -> bool {
    matches!(value, [1, 0] | [0, 1])
}

/// Swaps the words of a value that comes in pieces.
#[derive(Debug, Clone, Copy)]
pub struct PixelSwap {
    word_bytes: usize,
    carry: [u8; 8],
    carried: usize,
}

impl PixelSwap {
    /// For words of 1, 2, 4 or 8 bytes; with 1 nothing changes.
    pub fn new(word_bytes: usize) -> Self {
        Self {
            word_bytes: word_bytes.clamp(1, 8),
            carry: [0; 8],
            carried: 0,
        }
    }

    /// Appends the next piece, swapped as far as its words are complete.
    pub fn push(&mut self, mut data: &[u8], out: &mut Vec<u8>) {
        while self.carried > 0 {
            let (Some((first, rest)), Some(slot)) =
                (data.split_first(), self.carry.get_mut(self.carried))
            else {
                return;
            };
            *slot = *first;
            data = rest;
            self.carried += 1;
            if self.carried == self.word_bytes {
                out.extend(self.carry.iter().take(self.word_bytes).rev());
                self.carried = 0;
            }
        }
        let whole = data.len() - data.len() % self.word_bytes;
        let (words, rest) = data.split_at(whole);
        let start = out.len();
        out.extend_from_slice(words);
        swap_words(out.get_mut(start..).unwrap_or_default(), self.word_bytes);
        for (slot, byte) in self.carry.iter_mut().zip(rest) {
            *slot = *byte;
        }
        self.carried = rest.len();
    }

    /// Appends the bytes of an incomplete last word as they are.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend(self.carry.iter().take(self.carried));
        self.carried = 0;
    }
}

/// Converts a data set that comes in pieces.
#[derive(Debug)]
pub struct DatasetConverter {
    inflater: Option<Inflater>,
    stream: Stream,
}

impl DatasetConverter {
    /// Starts before the first byte of a data set. The limits are those of a header scan.
    pub fn new(
        from: TransferSyntax,
        to: TransferSyntax,
        limits: ScanLimits,
    ) -> Result<Self, ConvertError> {
        if !is_convertible(from, to) {
            return Err(ConvertError::Unsupported);
        }
        let stream = Stream {
            from: from.encoding(),
            rewriter: Rewriter {
                to: to.encoding(),
                signed: false,
            },
            grammar: Grammar::new(&from, limits),
            held: Vec::new(),
            walked: 0,
            value: None,
        };
        Ok(Self {
            inflater: from.is_deflated().then(|| Inflater::new(&limits)),
            stream,
        })
    }

    /// Takes the next bytes and appends what they become.
    pub fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), ConvertError> {
        let stream = &mut self.stream;
        match &mut self.inflater {
            None => stream.push(data, out),
            Some(inflater) => inflater.push(data, |inflated| stream.push(inflated, out)),
        }
    }

    /// Ends the data set.
    pub fn finish(mut self) -> Result<(), ConvertError> {
        if let Some(inflater) = &self.inflater {
            inflater.finish(self.stream.grammar.position)?;
        }
        if self.stream.value.is_some() || !self.stream.held.is_empty() {
            let tag = self.stream.grammar.last_tag.unwrap_or(Tag(0));
            return Err(self
                .stream
                .grammar
                .error(ScanErrorKind::Truncated(tag))
                .into());
        }
        Ok(self.stream.grammar.finish()?)
    }
}

/// The conversion itself, after inflating.
#[derive(Debug)]
struct Stream {
    from: Encoding,
    rewriter: Rewriter,
    grammar: Grammar,
    /// Bytes from the beginning of a top-level element that is not complete.
    held: Vec<u8>,
    /// Bytes of that element up to the next header inside it, or to its end.
    walked: usize,
    /// A long value on its way.
    value: Option<LongValue>,
}

/// A value that is passed on in pieces.
#[derive(Debug)]
struct LongValue {
    left: u64,
    swap: PixelSwap,
}

impl Stream {
    fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), ConvertError> {
        let data = self.pass(data, out);
        if data.is_empty() {
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(data);
        let used = self.elements(&held, out)?;
        held.drain(..used);
        self.held = held;
        Ok(())
    }

    /// Passes on bytes of the value that is on its way; gives the bytes after it.
    fn pass<'d>(&mut self, data: &'d [u8], out: &mut Vec<u8>) -> &'d [u8] {
        let Some(value) = &mut self.value else {
            return data;
        };
        let (bytes, rest) = data.split_at(value.left.min(data.len() as u64) as usize);
        value.swap.push(bytes, out);
        value.left -= bytes.len() as u64;
        if value.left == 0 {
            value.swap.finish(out);
            self.value = None;
        }
        rest
    }

    /// Converts the elements at the start of `data` that are complete or long; gives the bytes used.
    fn elements(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<usize, ConvertError> {
        let mut start = 0;
        while let Some(rest) = data.get(start + self.walked..) {
            if self.walked > 0 && self.grammar.is_at_top() {
                let element = data.get(start..start + self.walked).unwrap_or_default();
                self.complete(element, out)?;
                start += self.walked;
                self.walked = 0;
                continue;
            }
            if rest.is_empty() {
                break;
            }
            let Step::Done(action) = self.grammar.step(rest)? else {
                break;
            };
            let value_bytes = match action.then {
                Then::Next => 0,
                Then::Keep(bytes) | Then::Pass(bytes) => bytes,
            };
            if self
                .grammar
                .pixel
                .as_ref()
                .is_some_and(|pixel| pixel.length.is_none())
            {
                return Err(ConvertError::Encapsulated);
            }
            if self.walked == 0 && value_bytes > HELD_VALUE_MAX {
                self.begin_long(rest, value_bytes, out)?;
                let value = rest.get(action.head_bytes..).unwrap_or_default();
                let after = self.pass(value, out);
                start = data.len() - after.len();
            } else {
                self.walked += action.head_bytes + value_bytes as usize;
            }
        }
        Ok(start)
    }

    /// Converts a top-level element that is complete.
    fn complete(&mut self, element: &[u8], out: &mut Vec<u8>) -> Result<(), ElementError> {
        for element in Elements::new(element, self.from) {
            let element = element?;
            if element.head.tag == Tag::PIXEL_REPRESENTATION {
                self.rewriter.signed = is_one(element.value);
            }
            if !is_left_out(element.head.tag) {
                self.rewriter.element(&element, out, 0)?;
            }
        }
        Ok(())
    }

    /// Writes the header of a long value and prepares to pass the value on. A long UN that is known to be
    /// a sequence is believed to be one.
    fn begin_long(
        &mut self,
        head: &[u8],
        left: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), ElementError> {
        let HeadRead::Head(head) = read_head(head, self.from) else {
            return Ok(());
        };
        if head.vr != Vr::Un && self.rewriter.becomes_sequence(&head, self.from) {
            return Err(ElementError::NoSequence(head.tag));
        }
        let vr = self.rewriter.vr(&head, self.from);
        write_head(out, head.tag, vr, head.length, self.rewriter.to);
        let swapped = self.from.big_endian != self.rewriter.to.big_endian;
        let swap = PixelSwap::new(if swapped { vr.word_bytes() } else { 1 });
        self.value = Some(LongValue { left, swap });
        Ok(())
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
