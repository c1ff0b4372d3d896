//! A command set's frame: implicit little endian elements (PS3.7 6.3.1), read in place.
//!
//! The bytes are kept as they came and searched; a command set has about eight elements. Decoding
//! checks that every element ends inside the set. Group length, order and unknown groups are not
//! judged: peers differ, and nothing depends on them. The first of two equal elements counts.

use super::{NO_DATA_SET, command_field, element};
use crate::status::Status;
use crate::tag::Tag;
use crate::uid::Uid;

/// Tag and four byte length of an implicit little endian element.
const ELEMENT_HEADER_BYTES: usize = 8;

/// A decoded command set.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandSet {
    bytes: Vec<u8>,
}

/// A command set whose frame is broken; the association cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandSetError {
    /// No element at all.
    #[error("empty command set")]
    Empty,
    /// The set ends inside an element's header.
    #[error("command set ends inside an element header at byte {offset}")]
    Truncated {
        /// Offset of the header in the command set.
        offset: usize,
    },
    /// A value runs past the end of the set, or has undefined length.
    #[error("command element {tag} at byte {offset} has {length} bytes, {left} remain")]
    ValueLength {
        /// Offset of the element in the command set.
        offset: usize,
        /// Its tag.
        tag: Tag,
        /// Its length field.
        length: u32,
        /// Bytes that are left.
        left: usize,
    },
}

impl CommandSet {
    /// Checks the frame and keeps a copy of the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandSetError> {
        if bytes.is_empty() {
            return Err(CommandSetError::Empty);
        }
        let mut offset = 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            let header = split_header(rest).ok_or(CommandSetError::Truncated { offset })?;
            let (tag, length, after) = header;
            let left = after.len();
            rest = after
                .get(length as usize..)
                .ok_or(CommandSetError::ValueLength {
                    offset,
                    tag,
                    length,
                    left,
                })?;
            offset = bytes.len() - rest.len();
        }
        Ok(Self {
            bytes: bytes.to_vec(),
        })
    }

    /// The set as it came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Elements in the order of the set: tag and value with its padding.
    pub fn elements(&self) -> impl Iterator<Item = (Tag, &[u8])> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (tag, length, after) = split_header(rest)?;
            let (value, after) = after.split_at_checked(length as usize)?;
            rest = after;
            Some((tag, value))
        })
    }

    /// The value of an element, with its padding.
    pub fn get(&self, tag: Tag) -> Option<&[u8]> {
        self.elements()
            .find_map(|(t, value)| (t == tag).then_some(value))
    }

    /// A US value; `None` if absent or not of two bytes.
    pub fn u16(&self, tag: Tag) -> Option<u16> {
        Some(u16::from_le_bytes(self.get(tag)?.try_into().ok()?))
    }

    /// A UI value; `None` if absent, empty or no text of at most 64 characters.
    pub fn uid(&self, tag: Tag) -> Option<Uid> {
        Uid::from_value(self.get(tag)?)
            .ok()
            .filter(|uid| !uid.is_empty())
    }

    /// A text value without its padding; `None` if absent or not printable ASCII.
    pub fn text(&self, tag: Tag) -> Option<&str> {
        let text = std::str::from_utf8(self.get(tag)?)
            .ok()?
            .trim_matches([' ', '\0']);
        text.bytes()
            .all(|b| (0x20..0x7f).contains(&b))
            .then_some(text)
    }

    /// Command field.
    pub fn command_field(&self) -> Option<u16> {
        self.u16(element::COMMAND_FIELD)
    }

    /// True for the command field of a response.
    pub fn is_response(&self) -> bool {
        self.command_field()
            .is_some_and(|field| field & command_field::RESPONSE != 0)
    }

    /// Message id of a request.
    pub fn message_id(&self) -> Option<u16> {
        self.u16(element::MESSAGE_ID)
    }

    /// Message id that a response or a C-CANCEL refers to.
    pub fn message_id_being_responded_to(&self) -> Option<u16> {
        self.u16(element::MESSAGE_ID_BEING_RESPONDED_TO)
    }

    /// Status of a response.
    pub fn status(&self) -> Option<Status> {
        self.u16(element::STATUS).map(Status)
    }

    /// True if a data set follows; false also when the command set does not say.
    pub fn has_dataset(&self) -> bool {
        self.u16(element::COMMAND_DATA_SET_TYPE)
            .is_some_and(|kind| kind != NO_DATA_SET)
    }
}

impl std::fmt::Debug for CommandSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.elements()).finish()
    }
}

/// Tag, length and the bytes behind the header.
fn split_header(bytes: &[u8]) -> Option<(Tag, u32, &[u8])> {
    let (&[g1, g2, e1, e2, a, b, c, d], after) =
        bytes.split_first_chunk::<ELEMENT_HEADER_BYTES>()?;
    let tag = Tag::new(u16::from_le_bytes([g1, g2]), u16::from_le_bytes([e1, e2]));
    Some((tag, u32::from_le_bytes([a, b, c, d]), after))
}

/// Writes a command set: elements by rising tag, the group length first.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Where the first element after the group length begins.
    start: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        let mut writer = Self { out, start: 0 };
        writer.put(element::GROUP_LENGTH, &[0; 4]);
        writer.start = writer.out.len();
        writer
    }

    pub(super) fn u16(&mut self, tag: Tag, value: u16) {
        self.put(tag, &value.to_le_bytes());
    }

    pub(super) fn uid(&mut self, tag: Tag, uid: Option<&Uid>) {
        if let Some(uid) = uid {
            self.padded(tag, uid.as_bytes(), 0);
        }
    }

    pub(super) fn text(&mut self, tag: Tag, text: &str) {
        self.padded(tag, text.as_bytes(), b' ');
    }

    pub(super) fn tags(&mut self, tag: Tag, tags: &[Tag]) {
        self.put(tag, &[]);
        for tag in tags {
            self.out.extend(tag.group().to_le_bytes());
            self.out.extend(tag.element().to_le_bytes());
        }
        self.patch(self.out.len() - 4 * tags.len());
    }

    /// Writes the group length.
    pub(super) fn finish(self) {
        let length = (self.out.len() - self.start) as u32;
        if let Some(field) = self.out.get_mut(self.start - 4..self.start) {
            field.copy_from_slice(&length.to_le_bytes());
        }
    }

    fn padded(&mut self, tag: Tag, value: &[u8], pad: u8) {
        self.put(tag, value);
        if !value.len().is_multiple_of(2) {
            self.out.push(pad);
            self.patch(self.out.len() - value.len() - 1);
        }
    }

    fn put(&mut self, tag: Tag, value: &[u8]) {
        self.out.extend(tag.group().to_le_bytes());
        self.out.extend(tag.element().to_le_bytes());
        self.out.extend((value.len() as u32).to_le_bytes());
        self.out.extend_from_slice(value);
    }

    /// Writes the length of a value that starts at `value` and ends where `out` ends.
    fn patch(&mut self, value: usize) {
        let length = (self.out.len() - value) as u32;
        if let Some(field) = self.out.get_mut(value - 4..value) {
            field.copy_from_slice(&length.to_le_bytes());
        }
    }
}
