//! The describing part of a data set: its top-level elements without the bulk values, as received.
//!
//! A header is bytes plus an index of the top level; values are borrowed, nothing is decoded before it is
//! asked for. It is what the index is filled from, what the header store keeps (see [`Header::bytes`] and
//! [`Header::parse`]) and what file names are made of. It never changes the bytes.

use std::borrow::Cow;

use crate::charset::CharacterSet;
use crate::dict;
use crate::element::{Elements, Items, RawElement, RawItem};
use crate::path::{Path, Step};
use crate::scan::{HeaderScanner, ScanError, ScanLimits};
use crate::tag::Tag;
use crate::transfer_syntax::{Encoding, TransferSyntax};
use crate::uid::{Uid, UidError};
use crate::value::value_text;
use crate::vr::Vr;

/// Deepest level that [`Header::search`] looks into.
const SEARCH_DEPTH_MAX: usize = 64;

/// Place of one top-level element in the header's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementRef {
    /// The tag.
    pub tag: Tag,
    /// The VR; from the dictionary in implicit encoding.
    pub vr: Vr,
    /// Size of the element header that stands before `offset`: 8 or 12.
    pub head_bytes: u8,
    /// Where the value starts.
    pub offset: u32,
    /// Bytes of the value, without a sequence delimiter.
    pub length: u32,
}

impl ElementRef {
    fn value<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes
            .get(self.offset as usize..)?
            .get(..self.length as usize)
    }

    /// The value without trailing padding; `None` while its bytes are incomplete.
    pub(crate) fn trimmed<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.value(bytes).map(|value| {
            if known_vr(self.tag, self.vr).is_text() {
                trim(value)
            } else {
                value
            }
        })
    }
}

/// The top-level elements of a data set, pixel data and other long values left out.
#[derive(Debug, Clone)]
pub struct Header {
    bytes: Vec<u8>,
    syntax: TransferSyntax,
    /// Sorted by tag; of equal tags the first one met comes first.
    elements: Vec<ElementRef>,
}

impl Header {
    pub(crate) fn from_parts(
        bytes: Vec<u8>,
        syntax: TransferSyntax,
        elements: Vec<ElementRef>,
    ) -> Self {
        Self {
            bytes,
            syntax,
            elements,
        }
    }

    /// Reads bytes that [`Header::bytes`] gave (a data set, already inflated if `syntax` is deflated).
    pub fn parse(bytes: &[u8], syntax: TransferSyntax) -> Result<Self, ScanError> {
        let plain = if syntax.is_deflated() {
            TransferSyntax::ExplicitLittleEndian
        } else {
            syntax
        };
        let limits = ScanLimits {
            value_bytes_max: u32::MAX,
            ..ScanLimits::default()
        };
        let mut scanner = HeaderScanner::new(plain, limits);
        scanner.push(bytes)?;
        Ok(Self {
            syntax,
            ..scanner.finish()?.header
        })
    }

    /// The elements as in the (inflated) stream; a data set of its own.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements as in the (inflated) stream, taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The transfer syntax of the data set.
    pub fn syntax(&self) -> TransferSyntax {
        self.syntax
    }

    /// Bytes and places, for splicing; who changes one keeps the other true.
    pub(crate) fn parts_mut(&mut self) -> (&mut Vec<u8>, &mut Vec<ElementRef>) {
        (&mut self.bytes, &mut self.elements)
    }

    /// Byte order and VR presence of [`Header::bytes`].
    pub fn encoding(&self) -> Encoding {
        self.syntax.encoding()
    }

    /// The top-level elements, sorted by tag.
    pub fn elements(&self) -> &[ElementRef] {
        &self.elements
    }

    /// Place of a top-level element.
    pub fn element(&self, tag: Tag) -> Option<&ElementRef> {
        let at = self.elements.partition_point(|element| element.tag < tag);
        self.elements.get(at).filter(|element| element.tag == tag)
    }

    /// A top-level value with its padding.
    pub fn raw(&self, tag: Tag) -> Option<&[u8]> {
        self.element(tag)?.value(&self.bytes)
    }

    /// A top-level value; text without trailing spaces and NULs, still in the data set's character set.
    pub fn get(&self, tag: Tag) -> Option<&[u8]> {
        self.element(tag)?.trimmed(&self.bytes)
    }

    /// A top-level value as bytes of text: [`Header::get`] for text VRs, decimal numbers joined by `\` for
    /// binary ones (`512`), `gggg,eeee` for AT. `None` for sequences and absent elements.
    pub fn text_bytes(&self, tag: Tag) -> Option<Cow<'_, [u8]>> {
        ValueRef::top(self, self.element(tag)?)?.text_bytes()
    }

    /// A top-level value as text, decoded by the data set's character set; binary VRs as in
    /// [`Header::text_bytes`].
    pub fn text(&self, tag: Tag) -> Option<Cow<'_, str>> {
        let value = ValueRef::top(self, self.element(tag)?)?;
        value.text(&self.charset())
    }

    /// A top-level UID; `None` when absent or empty.
    pub fn uid(&self, tag: Tag) -> Option<Result<Uid, UidError>> {
        let uid = Uid::from_value(self.get(tag)?);
        Some(uid).filter(|uid| !matches!(uid, Ok(uid) if uid.is_empty()))
    }

    /// The first number of a top-level US or SS value.
    pub fn u16(&self, tag: Tag) -> Option<u16> {
        let bytes = *self.raw(tag)?.first_chunk::<2>()?;
        let big_endian = self.encoding().big_endian;
        Some(if big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    }

    /// The data set's Specific Character Set.
    pub fn charset(&self) -> CharacterSet {
        CharacterSet::parse(self.get(Tag::SPECIFIC_CHARACTER_SET).unwrap_or_default())
    }

    /// The items of a top-level sequence; none when it is absent or no sequence.
    pub fn items(&self, tag: Tag) -> impl Iterator<Item = RawItem<'_>> {
        let element = self
            .element(tag)
            .and_then(|element| self.raw_element(element));
        sequence_items(element)
    }

    /// The value at the end of a path such as `0008,1110.0/0008,1155`; see [`Path`].
    pub fn path(&self, path: &Path) -> Option<ValueRef<'_>> {
        let (first, rest) = path.steps().split_first()?;
        let mut element = self.raw_element(self.element(first.tag)?)?;
        let mut from = *first;
        for step in rest {
            element = descend(element, from, *step)?;
            from = *step;
        }
        Some(ValueRef { element })
    }

    /// The first element with this tag at any depth, the top level first, then sequences in order.
    pub fn search(&self, tag: Tag) -> Option<ValueRef<'_>> {
        if let Some(element) = self.element(tag) {
            return ValueRef::top(self, element);
        }
        let sequences = self
            .elements
            .iter()
            .filter(|element| element.vr == Vr::Sq || element.vr == Vr::Un);
        sequences
            .filter_map(|element| self.raw_element(element))
            .find_map(|element| search_items(element, tag, SEARCH_DEPTH_MAX))
            .map(|element| ValueRef { element })
    }

    fn raw_element(&self, element: &ElementRef) -> Option<RawElement<'_>> {
        let start = (element.offset as usize).checked_sub(usize::from(element.head_bytes))?;
        Elements::new(self.bytes.get(start..)?, self.encoding())
            .next()?
            .ok()
    }
}

/// A value found in a header.
#[derive(Debug, Clone, Copy)]
pub struct ValueRef<'a> {
    element: RawElement<'a>,
}

impl<'a> ValueRef<'a> {
    fn top(header: &'a Header, element: &ElementRef) -> Option<Self> {
        header.raw_element(element).map(|element| Self { element })
    }

    /// Its tag.
    pub fn tag(&self) -> Tag {
        self.element.head.tag
    }

    /// Its VR; for text that was sent as UN, the dictionary's.
    pub fn vr(&self) -> Vr {
        known_vr(self.element.head.tag, self.element.head.vr)
    }

    /// The value with its padding.
    pub fn raw(&self) -> &'a [u8] {
        self.element.value
    }

    /// As [`Header::text_bytes`].
    pub fn text_bytes(&self) -> Option<Cow<'a, [u8]>> {
        value_text(
            self.vr(),
            self.element.value,
            self.element.encoding.big_endian,
        )
    }

    /// As [`Header::text`].
    pub fn text(&self, charset: &CharacterSet) -> Option<Cow<'a, str>> {
        match self.text_bytes()? {
            Cow::Borrowed(bytes) => Some(charset.decode(bytes, self.vr())),
            Cow::Owned(bytes) => Some(Cow::Owned(charset.decode(&bytes, self.vr()).into_owned())),
        }
    }
}

/// Gateways send known text elements as UN (PS3.5 6.2.2 note 3); they mean what the dictionary says.
pub(crate) fn known_vr(tag: Tag, vr: Vr) -> Vr {
    match vr {
        Vr::Un => Some(dict::vr(tag)).filter(|vr| vr.is_text()).unwrap_or(vr),
        vr => vr,
    }
}

fn descend(element: RawElement<'_>, from: Step, to: Step) -> Option<RawElement<'_>> {
    let item = sequence_items(Some(element)).nth(from.item)?;
    item.elements()
        .map_while(Result::ok)
        .find(|element| element.head.tag == to.tag)
}

fn search_items(element: RawElement<'_>, tag: Tag, depth: usize) -> Option<RawElement<'_>> {
    if depth == 0 {
        return None;
    }
    for item in sequence_items(Some(element)) {
        for inner in item.elements().map_while(Result::ok) {
            if inner.head.tag == tag {
                return Some(inner);
            }
            if let Some(found) = search_items(inner, tag, depth - 1) {
                return Some(found);
            }
        }
    }
    None
}

fn sequence_items(element: Option<RawElement<'_>>) -> impl Iterator<Item = RawItem<'_>> {
    let sequence =
        element.filter(|element| element.head.is_sequence() && element.head.tag != Tag::PIXEL_DATA);
    sequence
        .into_iter()
        .flat_map(|element| Items::new(&element).map_while(Result::ok))
}

/// Cuts trailing spaces and NULs.
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let end = value
        .iter()
        .rposition(|&b| b != 0 && b != b' ')
        .map_or(0, |last| last + 1);
    value.get(..end).unwrap_or_default()
}
