//! What may follow what in a data set (PS3.5 chapter 7, section A.4).
//!
//! One function for each place a header can stand: at the top level, inside an item, between items, between
//! fragments. Faults that other software is known to produce and to survive are warnings, all else ends the
//! scan.

use super::{Action, BULK_MAX, Frame, Grammar, Holds, Then};
use crate::element::{ElementHead, UNDEFINED_LENGTH, un_content_encoding};
use crate::header::ElementRef;
use crate::scan::{BulkValue, PixelInfo, ScanError, ScanErrorKind, ScanWarning};
use crate::tag::Tag;
use crate::transfer_syntax::Encoding;
use crate::vr::Vr;

impl Grammar {
    pub(super) fn top_element(
        &mut self,
        head: &ElementHead,
        value_at: u64,
    ) -> Result<Action, ScanError> {
        let tag = head.tag;
        if tag.is_delimiter() {
            return Err(self.error(ScanErrorKind::Unexpected(tag)));
        }
        self.check_group(tag)?;
        if self.position == 0 && !self.base.explicit && looks_explicit(head.length) {
            return Err(self.error(ScanErrorKind::LooksExplicit(tag)));
        }
        if self.last_tag.is_some_and(|last| last > tag) {
            self.sorted = false;
            self.warn(ScanWarning::OutOfOrder(tag));
        }
        self.last_tag = Some(tag);
        self.note(head);
        if tag.is_pixel_data() {
            return self.pixel_data(head, value_at);
        }
        if !head.is_undefined() && head.vr != Vr::Sq && head.length > self.limits.value_bytes_max {
            return Ok(self.bulk_value(head, value_at));
        }
        let offset = (self.kept + u64::from(head.bytes)) as u32;
        let length = if head.is_undefined() { 0 } else { head.length };
        let index = self.elements.len();
        let action = self.content(head, value_at)?;
        self.elements.push(ElementRef {
            tag,
            vr: head.vr,
            head_bytes: head.bytes,
            offset,
            length,
        });
        if head.is_undefined() {
            self.open = Some(index);
        }
        Ok(action)
    }

    pub(super) fn nested_element(
        &mut self,
        head: &ElementHead,
        value_at: u64,
    ) -> Result<Action, ScanError> {
        if head.tag == Tag::ITEM_DELIMITATION {
            return self.delimiter(head);
        }
        if head.tag.is_delimiter() {
            return Err(self.error(ScanErrorKind::Unexpected(head.tag)));
        }
        self.note(head);
        if head.is_undefined() && head.tag == Tag::PIXEL_DATA {
            self.open_frame(Holds::Fragments, head, value_at);
            return Ok(keep_head(head, Then::Next));
        }
        self.content(head, value_at)
    }

    /// The value of an element that is kept.
    fn content(&mut self, head: &ElementHead, value_at: u64) -> Result<Action, ScanError> {
        let explicit = self
            .frames
            .last()
            .map_or(self.base, |frame| frame.encoding)
            .explicit;
        let sequence = head.is_sequence() || (head.is_undefined() && !explicit);
        if !sequence {
            if head.is_undefined() {
                return Err(self.error(ScanErrorKind::UndefinedLength(head.tag, head.vr)));
            }
            return Ok(keep_head(head, Then::keep(head.length)));
        }
        // Sequences and items alternate on the stack.
        if self.frames.len() / 2 >= self.limits.depth_max {
            return Err(self.error(ScanErrorKind::TooDeep(self.limits.depth_max)));
        }
        if head.length > 0 {
            self.open_frame(Holds::Items, head, value_at);
            if let Some(frame) = self
                .frames
                .last_mut()
                .filter(|_| head.vr == Vr::Un && explicit)
            {
                frame.probe = true;
                frame.encoding = Encoding::IMPLICIT_LE;
            }
        }
        Ok(keep_head(head, Then::Next))
    }

    pub(super) fn item(&mut self, head: &ElementHead, value_at: u64) -> Result<Action, ScanError> {
        match head.tag {
            Tag::ITEM => {
                if head.length > 0 {
                    self.open_frame(Holds::Elements, head, value_at);
                }
                Ok(keep_head(head, Then::Next))
            }
            Tag::SEQUENCE_DELIMITATION => self.delimiter(head),
            tag => Err(self.error(ScanErrorKind::Unexpected(tag))),
        }
    }

    pub(super) fn fragment(
        &mut self,
        head: &ElementHead,
        value_at: u64,
    ) -> Result<Action, ScanError> {
        let top = self.frames.len() == 1;
        match head.tag {
            Tag::ITEM if head.is_undefined() => {
                Err(self.error(ScanErrorKind::UndefinedLength(head.tag, Vr::Un)))
            }
            Tag::ITEM if !top => Ok(keep_head(head, Then::keep(head.length))),
            Tag::ITEM => {
                let room = self.limits.fragments_max;
                if let Some(pixel) = &mut self.pixel {
                    pixel.fragment_count += 1;
                    if pixel.fragments.len() < room {
                        pixel.fragments.push((value_at, head.length));
                    }
                }
                Ok(pass_head(head, Then::pass(head.length)))
            }
            Tag::SEQUENCE_DELIMITATION => {
                self.frames.pop();
                if !top {
                    return Ok(keep_head(head, Then::Next));
                }
                if let Some(pixel) = &mut self.pixel {
                    pixel.end_offset = value_at;
                }
                Ok(pass_head(head, Then::Next))
            }
            tag => Err(self.error(ScanErrorKind::Unexpected(tag))),
        }
    }

    fn pixel_data(&mut self, head: &ElementHead, value_at: u64) -> Result<Action, ScanError> {
        if self.pixel.is_some() {
            return Err(self.error(ScanErrorKind::Duplicate(head.tag)));
        }
        if head.is_undefined() && head.tag != Tag::PIXEL_DATA {
            return Err(self.error(ScanErrorKind::UndefinedLength(head.tag, head.vr)));
        }
        let length = (!head.is_undefined()).then_some(u64::from(head.length));
        self.pixel = Some(PixelInfo {
            tag: head.tag,
            vr: head.vr,
            element_offset: self.position,
            value_offset: value_at,
            length,
            end_offset: value_at + length.unwrap_or(0),
            fragments: Vec::new(),
            fragment_count: 0,
            header_position: self.kept as u32,
        });
        if length.is_some() {
            if self.syntax_is_encapsulated {
                self.warn(ScanWarning::NativePixels);
            }
            return Ok(pass_head(head, Then::pass(head.length)));
        }
        if !self.syntax_is_encapsulated {
            self.warn(ScanWarning::EncapsulatedPixels);
        }
        self.open_frame(Holds::Fragments, head, value_at);
        Ok(pass_head(head, Then::Next))
    }

    fn bulk_value(&mut self, head: &ElementHead, value_at: u64) -> Action {
        if self.bulk.len() < BULK_MAX {
            self.bulk.push(BulkValue {
                tag: head.tag,
                vr: head.vr,
                element_offset: self.position,
                value_offset: value_at,
                length: u64::from(head.length),
                header_position: self.kept as u32,
            });
        }
        pass_head(head, Then::pass(head.length))
    }

    /// Closes the frame at the top, which must be one that a delimiter ends.
    fn delimiter(&mut self, head: &ElementHead) -> Result<Action, ScanError> {
        match self.frames.last() {
            Some(frame) if frame.end.is_none() => self.close(),
            _ => return Err(self.error(ScanErrorKind::Unexpected(head.tag))),
        }
        Ok(keep_head(head, Then::Next))
    }

    fn open_frame(&mut self, holds: Holds, head: &ElementHead, value_at: u64) {
        let (limit, encoding, probe) = self
            .frames
            .last()
            .map_or((u64::MAX, self.base, false), |out| {
                (out.limit, out.encoding, out.probe)
            });
        let end = (!head.is_undefined()).then(|| value_at + u64::from(head.length));
        let limit = end.unwrap_or(limit);
        let probe = probe && holds == Holds::Elements;
        self.frames.push(Frame {
            holds,
            end,
            limit,
            encoding,
            probe,
            tag: head.tag,
        });
    }

    /// Closes frames whose defined end is here.
    pub(super) fn close_ended(&mut self) {
        while self
            .frames
            .last()
            .is_some_and(|frame| frame.end == Some(self.position))
        {
            self.close();
        }
    }

    fn close(&mut self) {
        self.frames.pop();
        if !self.frames.is_empty() {
            return;
        }
        let kept = self.kept as u32;
        if let Some(element) = self
            .open
            .take()
            .and_then(|index| self.elements.get_mut(index))
        {
            element.length = kept.saturating_sub(element.offset);
        }
    }

    /// Lets the first element inside a UN sequence say how the content is encoded.
    pub(super) fn settle_encoding(&mut self, rest: &[u8]) {
        let [.., sequence, item] = self.frames.as_mut_slice() else {
            return;
        };
        if !item.probe || item.holds != Holds::Elements {
            return;
        }
        let encoding = un_content_encoding(rest);
        (item.probe, sequence.probe) = (false, false);
        (item.encoding, sequence.encoding) = (encoding, encoding);
        let tag = sequence.tag;
        if encoding.explicit {
            self.warn(ScanWarning::ExplicitInUn(tag));
        }
    }

    fn check_group(&mut self, tag: Tag) -> Result<(), ScanError> {
        match tag.group() {
            0x0000 if self.position == 0 && tag.0 == 0 => {
                Err(self.error(ScanErrorKind::FileInside))
            }
            0x0000 | 0x0002 => Err(self.error(ScanErrorKind::ForbiddenGroup(tag))),
            0x0001 | 0x0003..=0x0007 | 0xFFFF => {
                self.warn(ScanWarning::ReservedGroup(tag));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, head: &ElementHead) {
        if head.unknown_vr {
            self.warn(ScanWarning::UnknownVr(head.tag));
        }
        if head.length % 2 == 1 && head.length != UNDEFINED_LENGTH {
            self.warn(ScanWarning::OddLength(head.tag));
        }
    }
}

fn keep_head(head: &ElementHead, then: Then) -> Action {
    Action {
        head_bytes: usize::from(head.bytes),
        keep_head: true,
        then,
    }
}

fn pass_head(head: &ElementHead, then: Then) -> Action {
    Action {
        head_bytes: usize::from(head.bytes),
        keep_head: false,
        then,
    }
}

/// Whether an implicit length field holds VR letters: such a length is at least 16 KiB in a first element.
fn looks_explicit(length: u32) -> bool {
    let [a, b, ..] = length.to_le_bytes();
    Vr::from_bytes([a, b]).is_some()
}
