//! Small data sets as owned values: identifiers, responses, file meta information, edits.
//!
//! Elements are kept sorted by tag, values in little endian whatever they came in. Group lengths are
//! dropped on decoding, since an edit would make them wrong. Encapsulated pixel data is not taken: objects
//! with pixels are scanned and streamed, never decoded into this. Encodes sequences with defined lengths.

use crate::element::{ElementError, Elements, Items, RawElement, write_head};
use crate::header::trim;
use crate::inflate::inflate_all;
use crate::tag::Tag;
use crate::transfer_syntax::{Encoding, TransferSyntax};
use crate::uid::{Uid, UidError};
use crate::vr::Vr;

/// Bounds of what [`Dataset::decode`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatasetLimits {
    /// Sequences inside sequences.
    pub depth_max: usize,
    /// Elements and items at all levels together.
    pub elements_max: usize,
    /// Bytes after inflating.
    pub bytes_max: usize,
}

impl Default for DatasetLimits {
    fn default() -> Self {
        Self {
            depth_max: 64,
            elements_max: 100_000,
            bytes_max: 64 << 20,
        }
    }
}

/// Why bytes are no data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatasetError {
    /// The structure is broken.
    #[error(transparent)]
    Element(#[from] ElementError),
    /// See [`DatasetLimits::depth_max`].
    #[error("sequences nested deeper than {0}")]
    TooDeep(usize),
    /// See [`DatasetLimits::elements_max`].
    #[error("more than {0} elements")]
    TooManyElements(usize),
    /// See [`DatasetLimits::bytes_max`].
    #[error("more than {0} bytes")]
    TooLarge(usize),
    /// Fragments instead of a value.
    #[error("element {0} is encapsulated")]
    Encapsulated(Tag),
    /// The deflate stream is damaged.
    #[error("the deflated data cannot be read")]
    Deflate,
}

/// What an element holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Bytes as on the wire, numbers little endian, padding included.
    Bytes(Vec<u8>),
    /// Items of a sequence.
    Items(Vec<Dataset>),
}

/// One element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The tag.
    pub tag: Tag,
    /// The VR.
    pub vr: Vr,
    /// The value.
    pub value: Value,
}

impl Element {
    /// The value's bytes without trailing padding; empty for sequences.
    pub fn bytes(&self) -> &[u8] {
        match &self.value {
            Value::Bytes(bytes) if self.vr.is_text() || self.vr == Vr::Un => trim(bytes),
            Value::Bytes(bytes) => bytes,
            Value::Items(_) => &[],
        }
    }

    /// The items; none when it is no sequence.
    pub fn items(&self) -> &[Dataset] {
        match &self.value {
            Value::Items(items) => items,
            Value::Bytes(_) => &[],
        }
    }
}

/// Elements sorted by tag, each tag once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dataset {
    elements: Vec<Element>,
}

impl Dataset {
    /// A data set without elements.
    pub const fn new() -> Self {
        Self {
            elements: Vec::new(),
        }
    }

    /// Number of top-level elements.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The elements in tag order.
    pub fn iter(&self) -> std::slice::Iter<'_, Element> {
        self.elements.iter()
    }

    /// An element.
    pub fn get(&self, tag: Tag) -> Option<&Element> {
        self.position(tag).ok().and_then(|at| self.elements.get(at))
    }

    /// An element, to change its value.
    pub fn get_mut(&mut self, tag: Tag) -> Option<&mut Element> {
        self.position(tag)
            .ok()
            .and_then(|at| self.elements.get_mut(at))
    }

    /// A value without trailing padding; `None` when absent.
    pub fn bytes(&self, tag: Tag) -> Option<&[u8]> {
        self.get(tag).map(Element::bytes)
    }

    /// A value that must be ASCII or UTF-8, without trailing padding.
    pub fn text(&self, tag: Tag) -> Option<&str> {
        self.bytes(tag)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// A UID; `None` when absent or empty.
    pub fn uid(&self, tag: Tag) -> Option<Result<Uid, UidError>> {
        let uid = Uid::from_value(self.bytes(tag)?);
        Some(uid).filter(|uid| !matches!(uid, Ok(uid) if uid.is_empty()))
    }

    /// The first number of a US value.
    pub fn u16(&self, tag: Tag) -> Option<u16> {
        self.bytes(tag)?
            .first_chunk::<2>()
            .map(|bytes| u16::from_le_bytes(*bytes))
    }

    /// The items of a sequence; none when absent.
    pub fn items(&self, tag: Tag) -> &[Dataset] {
        self.get(tag).map_or(&[], Element::items)
    }

    /// Sets an element, replacing one with the same tag.
    pub fn put(&mut self, element: Element) {
        match self.position(element.tag) {
            Ok(at) => {
                if let Some(place) = self.elements.get_mut(at) {
                    *place = element;
                }
            }
            Err(at) => self.elements.insert(at, element),
        }
    }

    /// Sets a value given as bytes (numbers little endian); padding is added when encoding.
    pub fn put_bytes(&mut self, tag: Tag, vr: Vr, value: &[u8]) {
        self.put(Element {
            tag,
            vr,
            value: Value::Bytes(value.to_vec()),
        });
    }

    /// Sets a value given as text, with the dictionary's VR.
    pub fn put_text(&mut self, tag: Tag, text: &str) {
        self.put_bytes(tag, crate::dict::vr(tag), text.as_bytes());
    }

    /// Sets a US value.
    pub fn put_u16(&mut self, tag: Tag, number: u16) {
        self.put_bytes(tag, Vr::Us, &number.to_le_bytes());
    }

    /// Sets a sequence.
    pub fn put_items(&mut self, tag: Tag, items: Vec<Dataset>) {
        self.put(Element {
            tag,
            vr: Vr::Sq,
            value: Value::Items(items),
        });
    }

    /// Takes an element out.
    pub fn remove(&mut self, tag: Tag) -> Option<Element> {
        self.position(tag).ok().map(|at| self.elements.remove(at))
    }

    fn position(&self, tag: Tag) -> Result<usize, usize> {
        self.elements
            .binary_search_by_key(&tag, |element| element.tag)
    }
}

impl<'a> IntoIterator for &'a Dataset {
    type Item = &'a Element;
    type IntoIter = std::slice::Iter<'a, Element>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Dataset {
    /// Decodes a whole data set. Of two elements with one tag the first counts.
    pub fn decode(
        bytes: &[u8],
        syntax: TransferSyntax,
        limits: &DatasetLimits,
    ) -> Result<Self, DatasetError> {
        let mut decoder = Decoder { limits, count: 0 };
        if syntax.is_deflated() {
            let inflated = inflate_all(bytes, limits.bytes_max)?;
            return decoder.elements(Elements::new(&inflated, syntax.encoding()), 0);
        }
        if bytes.len() > limits.bytes_max {
            return Err(DatasetError::TooLarge(limits.bytes_max));
        }
        decoder.elements(Elements::new(bytes, syntax.encoding()), 0)
    }

    /// Appends the data set encoded in `syntax`; an encapsulated syntax gives explicit little endian.
    pub fn encode(&self, syntax: TransferSyntax, out: &mut Vec<u8>) {
        if syntax.is_deflated() {
            let mut plain = Vec::new();
            self.encode_elements(Encoding::EXPLICIT_LE, &mut plain);
            let mut packed = miniz_oxide::deflate::compress_to_vec(&plain, 6);
            if packed.len() % 2 == 1 {
                packed.push(0);
            }
            out.extend_from_slice(&packed);
            return;
        }
        self.encode_elements(syntax.encoding(), out);
    }

    fn encode_elements(&self, encoding: Encoding, out: &mut Vec<u8>) {
        for element in &self.elements {
            match &element.value {
                Value::Bytes(bytes) => encode_bytes(element, bytes, encoding, out),
                Value::Items(items) => {
                    write_head(out, element.tag, Vr::Sq, 0, encoding);
                    let start = out.len();
                    for item in items {
                        write_head(out, Tag::ITEM, Vr::Un, 0, encoding);
                        let start = out.len();
                        item.encode_elements(encoding, out);
                        set_length(out, start, encoding);
                    }
                    set_length(out, start, encoding);
                }
            }
        }
    }
}

fn encode_bytes(element: &Element, bytes: &[u8], encoding: Encoding, out: &mut Vec<u8>) {
    let length = bytes.len() + bytes.len() % 2;
    write_head(out, element.tag, element.vr, length as u32, encoding);
    let start = out.len();
    out.extend_from_slice(bytes);
    if bytes.len() % 2 == 1 {
        out.push(element.vr.padding());
    }
    if encoding.big_endian {
        swap_words(
            out.get_mut(start..).unwrap_or_default(),
            element.vr.word_bytes(),
        );
    }
}

/// Writes the length of what follows `start` into the four bytes before it.
fn set_length(out: &mut [u8], start: usize, encoding: Encoding) {
    let length = out.len().saturating_sub(start) as u32;
    let bytes = if encoding.big_endian {
        length.to_be_bytes()
    } else {
        length.to_le_bytes()
    };
    let field = start
        .checked_sub(4)
        .and_then(|field| out.get_mut(field..start));
    if let Some(field) = field {
        field.copy_from_slice(&bytes);
    }
}

/// Reverses the bytes of each number; an incomplete last one stays as it is.
pub(crate) fn swap_words(bytes: &mut [u8], word_bytes: usize) {
    if word_bytes > 1 {
        bytes.chunks_exact_mut(word_bytes).for_each(<[u8]>::reverse);
    }
}

struct Decoder<'l> {
    limits: &'l DatasetLimits,
    count: usize,
}

impl Decoder<'_> {
    fn elements(&mut self, elements: Elements<'_>, depth: usize) -> Result<Dataset, DatasetError> {
        let mut decoded: Vec<Element> = Vec::new();
        for raw in elements {
            let raw = raw?;
            self.count()?;
            if !raw.head.tag.is_group_length() {
                decoded.push(self.element(&raw, depth)?);
            }
        }
        // Stable, so that the first of equal tags stays first and is the one kept.
        decoded.sort_by_key(|element| element.tag);
        decoded.dedup_by_key(|element| element.tag);
        Ok(Dataset { elements: decoded })
    }

    fn element(&mut self, raw: &RawElement<'_>, depth: usize) -> Result<Element, DatasetError> {
        let (tag, vr) = (raw.head.tag, raw.head.vr);
        if raw.head.is_undefined() && tag == Tag::PIXEL_DATA {
            return Err(DatasetError::Encapsulated(tag));
        }
        if !(vr == Vr::Sq || raw.head.is_undefined()) {
            let mut bytes = raw.value.to_vec();
            if raw.encoding.big_endian {
                swap_words(&mut bytes, vr.word_bytes());
            }
            return Ok(Element {
                tag,
                vr,
                value: Value::Bytes(bytes),
            });
        }
        if depth >= self.limits.depth_max {
            return Err(DatasetError::TooDeep(self.limits.depth_max));
        }
        let mut items = Vec::new();
        for item in Items::new(raw) {
            self.count()?;
            items.push(self.elements(item?.elements(), depth + 1)?);
        }
        Ok(Element {
            tag,
            vr: Vr::Sq,
            value: Value::Items(items),
        })
    }

    fn count(&mut self) -> Result<(), DatasetError> {
        self.count += 1;
        if self.count > self.limits.elements_max {
            return Err(DatasetError::TooManyElements(self.limits.elements_max));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
