//! An object that rules read and change: its header in memory, its bulk values where they are.
//!
//! Reading borrows from the scanned header. A change is spliced into the header's bytes and leaves every
//! other byte alone; pixel data and other bulk values are never looked at. [`Instance::pieces`] says how
//! the changed data set is put together again: header bytes and stretches of the data set as received.

use std::borrow::Cow;
use std::ops::Range;

use crate::charset::CharacterSet;
use crate::dict;
use crate::edit_path::{EditPath, edit_elements, encoded_element};
use crate::element::{ElementError, Elements, read_head};
use crate::header::{ElementRef, Header, ValueRef};
use crate::path::Path;
use crate::scan::Scanned;
use crate::tag::Tag;
use crate::transfer_syntax::TransferSyntax;
use crate::uid::Uid;
use crate::vr::Vr;

/// Longest value that is text to a rule (manual, `%V`); longer ones read `(too long)`.
pub const TEXT_BYTES_MAX: usize = 255;

/// A value left out of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bulk {
    tag: Tag,
    /// Its whole element in the data set as received.
    source: Range<u64>,
    /// Where it stands between the header's bytes.
    position: usize,
}

/// One stretch of a data set that is put together again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of [`Instance::header`].
    Header(Range<usize>),
    /// Bytes of the data set as received.
    Source(Range<u64>),
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<'a> {
    /// No such element.
    Nothing,
    /// A sequence.
    Sequence,
    /// Bulk data, or more than [`TEXT_BYTES_MAX`] bytes.
    Long,
    /// Text; numbers in decimal, several values joined by `\`.
    Text(Cow<'a, str>),
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The elements around cannot be walked.
    #[error("the object cannot be changed: {0}")]
    Element(#[from] ElementError),
    /// A step leads through something that is not a sequence.
    #[error("{0} is no sequence")]
    NoSequence(Tag),
    /// The text has characters that the object's character set lacks.
    #[error("{0} holds characters that the object's character set (0008,0005) lacks")]
    Charset(Tag),
    /// The file meta information is made by the program that writes the file.
    #[error("{0} belongs to the file, not to the object")]
    FileMeta(Tag),
}

/// An object that can be read and changed.
#[derive(Debug, Clone)]
pub struct Instance {
    header: Header,
    bulk: Vec<Bulk>,
    changed: bool,
}

impl Instance {
    /// The object that a scan found.
    pub fn new(scanned: Scanned) -> Self {
        let pixel = scanned.pixel.map(|pixel| Bulk {
            tag: pixel.tag,
            source: pixel.element_offset..pixel.end_offset,
            position: pixel.header_position as usize,
        });
        let others = scanned.bulk.into_iter().map(|bulk| Bulk {
            tag: bulk.tag,
            source: bulk.element_offset..bulk.value_offset + bulk.length,
            position: bulk.header_position as usize,
        });
        let mut bulk: Vec<Bulk> = others.chain(pixel).collect();
        bulk.sort_by_key(|bulk| (bulk.position, bulk.source.start));
        Self {
            header: scanned.header,
            bulk,
            changed: false,
        }
    }

    /// The describing elements as they are now.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Transfer syntax of the data set.
    pub fn syntax(&self) -> TransferSyntax {
        self.header.syntax()
    }

    /// Whether anything was changed.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// The element that a path leads to. Group 0002 is answered from the object (manual, `%V0002,0010`).
    pub fn get(&self, path: &Path) -> Found<'_> {
        if let [step] = path.steps() {
            if step.tag.group() == 0x0002 {
                return self.meta(step.tag);
            }
            if self.bulk.iter().any(|bulk| bulk.tag == step.tag) {
                return Found::Long;
            }
        }
        self.found(self.header.path(path))
    }

    /// The first element with this tag at any depth.
    pub fn search(&self, tag: Tag) -> Found<'_> {
        self.found(self.header.search(tag))
    }

    fn found<'a>(&'a self, value: Option<ValueRef<'a>>) -> Found<'a> {
        let Some(value) = value else {
            return Found::Nothing;
        };
        if value.vr() == Vr::Sq {
            return Found::Sequence;
        }
        match value.text_bytes() {
            Some(bytes) if bytes.len() > TEXT_BYTES_MAX => return Found::Long,
            Some(_) => {}
            None => return words(&value, self.header.encoding().big_endian),
        }
        let text = value.text(&self.header.charset());
        text.map_or(Found::Long, Found::Text)
    }

    fn meta(&self, tag: Tag) -> Found<'_> {
        let uid = |tag| match self.header.text(tag) {
            Some(text) => Found::Text(text),
            None => Found::Nothing,
        };
        match tag {
            Tag::MEDIA_STORAGE_SOP_CLASS_UID => uid(Tag::SOP_CLASS_UID),
            Tag::MEDIA_STORAGE_SOP_INSTANCE_UID => uid(Tag::SOP_INSTANCE_UID),
            Tag::TRANSFER_SYNTAX_UID => {
                Found::Text(Cow::Owned(self.syntax().uid().as_str().to_owned()))
            }
            _ => Found::Nothing,
        }
    }

    /// Sets the element that a path leads to; sequences and items on the way are made. Numbers are read
    /// from the text, several joined by `\`; an empty text empties the element.
    pub fn set(&mut self, path: &EditPath, text: &str) -> Result<(), EditError> {
        let last = path.last();
        let charset = self.header.charset();
        let vr = self.vr_of(path);
        let encoded = charset.encode(text, vr);
        if encoded.complete {
            return self.edit(path, Some(&encoded.bytes));
        }
        // Without a character set, bytes beyond ASCII are read as Latin-1, and go back as such.
        let plain = CharacterSet::latin1().encode(text, Vr::Lo);
        if charset != CharacterSet::default() || !plain.complete {
            return Err(EditError::Charset(last));
        }
        self.edit(path, Some(&plain.bytes))
    }

    /// Removes the element that a path leads to; nothing happens when there is none.
    pub fn delete(&mut self, path: &EditPath) -> Result<(), EditError> {
        self.edit(path, None)
    }

    fn vr_of(&self, path: &EditPath) -> Vr {
        match self.header.element(path.last()) {
            Some(element) if path.is_top() && element.vr != Vr::Un => element.vr,
            _ => dict::vr(path.last()),
        }
    }

    fn edit(&mut self, path: &EditPath, value: Option<&[u8]>) -> Result<(), EditError> {
        let tag = path.first();
        if tag.group() <= 0x0002 {
            return Err(EditError::FileMeta(tag));
        }
        if path.is_top() {
            self.bulk.retain(|bulk| bulk.tag != tag);
        }
        let encoding = self.header.encoding();
        let old = self.header.element(tag).map_or_else(
            || {
                let at = self.place_for(tag);
                at..at
            },
            |element| self.extent(element),
        );
        let before = self.header.bytes().get(old.clone()).unwrap_or_default();
        let new = if path.is_top() {
            value.map_or_else(Vec::new, |value| {
                encoded_element(tag, self.vr_of(path), value, encoding)
            })
        } else {
            edit_elements(before, encoding, path.steps(), value)?
        };
        if new != before {
            self.splice(tag, old, &new);
        }
        if path.is_top() {
            self.drop_repeats(tag, value.is_some());
        }
        self.changed = true;
        Ok(())
    }

    /// Removes elements that come again: what a rule replaced or removed is not to stay in a second one.
    fn drop_repeats(&mut self, tag: Tag, keep_first: bool) {
        loop {
            let elements = self.header.elements();
            let first = elements.partition_point(|element| element.tag < tag);
            let repeat = elements.get(first + usize::from(keep_first));
            let Some(repeat) = repeat.filter(|element| element.tag == tag) else {
                return;
            };
            let extent = self.extent(repeat);
            self.splice(tag, extent, &[]);
        }
    }

    /// Bytes of a whole element in the header.
    fn extent(&self, element: &ElementRef) -> Range<usize> {
        let start = (element.offset as usize).saturating_sub(usize::from(element.head_bytes));
        let rest = self.header.bytes().get(start..).unwrap_or_default();
        let undefined = matches!(
            read_head(rest, self.header.encoding()),
            crate::element::HeadRead::Head(head) if head.is_undefined()
        );
        let end = element.offset as usize + element.length as usize;
        start..end + if undefined { 8 } else { 0 }
    }

    /// Where a new element belongs: before the first one with a larger tag.
    fn place_for(&self, tag: Tag) -> usize {
        let elements = self.header.elements();
        let at = elements.partition_point(|element| element.tag < tag);
        elements
            .get(at)
            .map_or(self.header.bytes().len(), |element| {
                self.extent(element).start
            })
    }

    /// Puts `new` in place of `old`; later elements and bulk values move.
    fn splice(&mut self, tag: Tag, old: Range<usize>, new: &[u8]) {
        let shift = new.len() as i64 - old.len() as i64;
        let moved = |at: usize| (at as i64 + shift) as usize;
        for bulk in &mut self.bulk {
            let behind = bulk.position > old.start || (old.is_empty() && bulk.tag > tag);
            if bulk.position >= old.end && behind {
                bulk.position = moved(bulk.position);
            }
        }
        let encoding = self.header.encoding();
        let (bytes, elements) = self.header.parts_mut();
        bytes.splice(old.clone(), new.iter().copied());
        elements.retain(|element| {
            !(old.start < element.offset as usize && (element.offset as usize) <= old.end)
        });
        for element in elements.iter_mut() {
            if element.offset as usize > old.start {
                element.offset = moved(element.offset as usize) as u32;
            }
        }
        if let Some(Ok(element)) = Elements::new(new, encoding).next() {
            let at = elements.partition_point(|element| element.tag < tag);
            elements.insert(
                at,
                ElementRef {
                    tag,
                    vr: element.head.vr,
                    head_bytes: element.head.bytes,
                    offset: (old.start + usize::from(element.head.bytes)) as u32,
                    length: element.value.len() as u32,
                },
            );
        }
    }

    /// Puts another header in place of this one; bulk values keep their order among the elements.
    pub(crate) fn replace_header(&mut self, bytes: &[u8]) -> Result<(), EditError> {
        let header = Header::parse(bytes, self.syntax())
            .map_err(|_| EditError::Element(ElementError::Truncated))?;
        self.header = header;
        for at in 0..self.bulk.len() {
            let tag = self.bulk.get(at).map_or(Tag(0), |bulk| bulk.tag);
            let position = self.place_for(tag);
            if let Some(bulk) = self.bulk.get_mut(at) {
                bulk.position = position;
            }
        }
        self.changed = true;
        Ok(())
    }

    /// Removes every bulk value for which `unwanted` says so.
    pub(crate) fn drop_bulk(&mut self, unwanted: impl Fn(Tag) -> bool) {
        self.bulk.retain(|bulk| !unwanted(bulk.tag));
    }

    /// A UID of the header; empty when it is absent or none.
    pub fn uid(&self, tag: Tag) -> Uid {
        let found = self.header.uid(tag).and_then(Result::ok);
        found.unwrap_or_default()
    }

    /// The data set as it is now, stretch by stretch.
    pub fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(2 * self.bulk.len() + 1);
        let mut at = 0;
        for bulk in &self.bulk {
            if bulk.position > at {
                pieces.push(Piece::Header(at..bulk.position));
                at = bulk.position;
            }
            pieces.push(Piece::Source(bulk.source.clone()));
        }
        let end = self.header.bytes().len();
        if end > at {
            pieces.push(Piece::Header(at..end));
        }
        pieces
    }

    /// The object's character set.
    pub fn charset(&self) -> CharacterSet {
        self.header.charset()
    }
}

/// Short values of 16-bit words read as numbers; other bytes are no text.
fn words<'a>(value: &ValueRef<'a>, big_endian: bool) -> Found<'a> {
    if !matches!(value.vr(), Vr::Ow | Vr::Ob) || value.raw().len() > TEXT_BYTES_MAX {
        return Found::Long;
    }
    let text = crate::value::value_text(Vr::Us, value.raw(), big_endian);
    let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    text.map_or(Found::Long, |text| Found::Text(Cow::Owned(text)))
}

#[cfg(test)]
#[path = "instance_tests.rs"]
mod tests;
