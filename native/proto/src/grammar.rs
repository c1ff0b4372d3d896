//! What may follow what in a data set: the rules behind the header scanner.
//!
//! [`Grammar::step`] sees one element header at a time and answers whether it is kept and how many value
//! bytes follow. Open sequences and items are a stack of ends; whatever comes must end before the nearest
//! of them. Faults that other software is known to produce and to survive are warnings, all else ends the
//! scan (PS3.5 chapter 7, section A.4).

use crate::dict;
use crate::element::{
    ElementHead, HeadRead, UNDEFINED_LENGTH, read_head_with, un_content_encoding,
};
use crate::header::ElementRef;
use crate::scan::{BulkValue, PixelInfo, ScanError, ScanErrorKind, ScanLimits, ScanWarning};
use crate::tag::Tag;
use crate::transfer_syntax::{Encoding, TransferSyntax};
use crate::vr::Vr;

/// Warnings remembered; more say nothing new.
const WARNINGS_MAX: usize = 16;
/// Tags that [`Grammar::take_plain`] takes: no reserved group, no pixel data, nothing after it.
const PLAIN_TAGS: std::ops::Range<u32> = 0x0008_0000..0x7FE0_0000;
/// Room made for top-level elements at the start; most objects have fewer.
const ELEMENTS_USUAL: usize = 128;
/// Bulk values remembered; objects have one or two.
const BULK_MAX: usize = 1024;

/// What follows an element header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The next header.
    Next,
    /// So many bytes to keep, then the next header.
    Keep(u64),
    /// So many bytes to count, then the next header.
    Pass(u64),
}

impl Then {
    fn keep(bytes: u32) -> Self {
        if bytes == 0 {
            Self::Next
        } else {
            Self::Keep(u64::from(bytes))
        }
    }

    fn pass(bytes: u32) -> Self {
        if bytes == 0 {
            Self::Next
        } else {
            Self::Pass(u64::from(bytes))
        }
    }

    /// Of `available` bytes those that belong to the value, and what is left of it.
    pub(crate) fn split(self, available: usize) -> (usize, Self) {
        let (wanted, rest): (u64, fn(u64) -> Self) = match self {
            Self::Next => return (0, Self::Next),
            Self::Keep(wanted) => (wanted, Self::Keep),
            Self::Pass(wanted) => (wanted, Self::Pass),
        };
        let taken = wanted.min(available as u64);
        (
            taken as usize,
            if taken == wanted {
                Self::Next
            } else {
                rest(wanted - taken)
            },
        )
    }
}

/// Answer to a complete element header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Action {
    /// 8 or 12.
    pub head_bytes: usize,
    /// Whether the header stays in the kept bytes.
    pub keep_head: bool,
    pub then: Then,
}

/// Answer of [`Grammar::step`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// At least so many bytes of the header are needed.
    Need(usize),
    Done(Action),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Items,
    Elements,
    Fragments,
}

/// An open sequence, item or encapsulated pixel data element.
#[derive(Debug, Clone, Copy)]
struct Frame {
    holds: Holds,
    /// Where it ends; `None` when a delimiter does.
    end: Option<u64>,
    /// Nearest end of this frame and all around it.
    limit: u64,
    encoding: Encoding,
    /// The first element is still to tell the encoding (UN of undefined length).
    probe: bool,
    /// The element or item that opened it.
    tag: Tag,
}

/// The state between two element headers.
#[derive(Debug)]
pub(crate) struct Grammar {
    limits: ScanLimits,
    syntax_is_encapsulated: bool,
    base: Encoding,
    frames: Vec<Frame>,
    finder: dict::Finder,
    /// Bytes of the data set before the next header.
    pub position: u64,
    /// Bytes to keep before the next header.
    kept: u64,
    /// Elements and items at all levels.
    count: u64,
    /// The top-level sequence of undefined length that is open, as an index into `elements`.
    open: Option<usize>,
    /// Last top-level tag.
    pub last_tag: Option<Tag>,
    sorted: bool,
    pub elements: Vec<ElementRef>,
    pub pixel: Option<PixelInfo>,
    pub bulk: Vec<BulkValue>,
    pub warnings: Vec<ScanWarning>,
}

impl Grammar {
    pub(crate) fn new(syntax: &TransferSyntax, limits: ScanLimits) -> Self {
        Self {
            limits: ScanLimits {
                // Offsets into the kept bytes are 32 bit.
                header_bytes_max: limits.header_bytes_max.min(u64::from(u32::MAX)),
                ..limits
            },
            syntax_is_encapsulated: syntax.is_encapsulated(),
            base: syntax.encoding(),
            frames: Vec::new(),
            finder: dict::Finder::default(),
            position: 0,
            kept: 0,
            count: 0,
            open: None,
            last_tag: None,
            sorted: true,
            elements: Vec::with_capacity(ELEMENTS_USUAL),
            pixel: None,
            bulk: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Reads the header at the start of `rest`; when it is complete the position is behind its value
    /// (or at the first item or element of a sequence or item).
    pub(crate) fn step(&mut self, rest: &[u8]) -> Result<Step, ScanError> {
        self.close_ended();
        if rest.len() < 8 {
            return Ok(Step::Need(8));
        }
        self.settle_encoding(rest);
        let (holds, limit, encoding) = match self.frames.last() {
            None => (Holds::Elements, u64::MAX, self.base),
            Some(frame) => (frame.holds, frame.limit, frame.encoding),
        };
        let finder = &mut self.finder;
        let head = match read_head_with(rest, encoding, |tag| finder.vr(tag)) {
            HeadRead::Head(head) => head,
            HeadRead::Need(bytes) => return Ok(Step::Need(bytes)),
            HeadRead::BadVr(tag, _) => return Err(self.error(self.bad_vr(tag, holds))),
        };
        // Delimiters have no value, whatever their length field says.
        let has_value = !head.is_undefined() && (!head.tag.is_delimiter() || head.tag == Tag::ITEM);
        let value_bytes = if has_value { u64::from(head.length) } else { 0 };
        let value_at = self.position + u64::from(head.bytes);
        if value_at + value_bytes > limit {
            return Err(self.error(ScanErrorKind::Overrun(head.tag)));
        }
        let top = self.frames.is_empty();
        let action = match holds {
            Holds::Elements if top => self.top_element(&head, value_at)?,
            Holds::Elements => self.nested_element(&head, value_at)?,
            Holds::Items => self.item(&head, value_at)?,
            Holds::Fragments => self.fragment(&head, value_at)?,
        };
        self.account(&head, holds, &action, value_at)?;
        Ok(Step::Done(action))
    }

    /// Takes the unremarkable elements at the start of `data` in one go: top level, in order, whole, short,
    /// no sequence and no pixel data. Gives the bytes they take, all of which are kept. Everything else,
    /// the first element included, is left to [`Grammar::step`].
    pub(crate) fn take_plain(&mut self, data: &[u8]) -> usize {
        let (Some(mut last), true) = (self.last_tag, self.frames.is_empty()) else {
            return 0;
        };
        let room = self.limits.header_bytes_max.saturating_sub(self.kept);
        let end = usize::try_from(room).unwrap_or(usize::MAX).min(data.len());
        let kept = self.kept as usize;
        let finder = &mut self.finder;
        let mut at = 0;
        while self.count < self.limits.elements_max {
            let rest = data.get(at..).unwrap_or_default();
            let head = match read_head_with(rest, self.base, |tag| finder.vr(tag)) {
                HeadRead::Head(head) if !head.unknown_vr && head.vr != Vr::Sq => head,
                _ => break,
            };
            let value_at = at + usize::from(head.bytes);
            let next = value_at.saturating_add(head.length as usize);
            let in_order = head.tag > last && PLAIN_TAGS.contains(&head.tag.0);
            let short = head.length % 2 == 0 && head.length <= self.limits.value_bytes_max;
            if !(in_order && short && next <= end) {
                break;
            }
            self.elements.push(ElementRef {
                tag: head.tag,
                vr: head.vr,
                head_bytes: head.bytes,
                offset: (kept + value_at) as u32,
                length: head.length,
            });
            self.count += 1;
            last = head.tag;
            at = next;
        }
        self.last_tag = Some(last);
        self.kept += at as u64;
        self.position += at as u64;
        at
    }

    /// Moves the position and keeps the sums within the limits.
    fn account(
        &mut self,
        head: &ElementHead,
        holds: Holds,
        action: &Action,
        value_at: u64,
    ) -> Result<(), ScanError> {
        if holds != Holds::Fragments {
            self.count += 1;
            if self.count > self.limits.elements_max {
                return Err(self.error(ScanErrorKind::TooManyElements(self.limits.elements_max)));
            }
        }
        let (kept, passed) = match action.then {
            Then::Next => (0, 0),
            Then::Keep(bytes) => (bytes, 0),
            Then::Pass(bytes) => (0, bytes),
        };
        if action.keep_head {
            self.kept += u64::from(head.bytes) + kept;
            if self.kept > self.limits.header_bytes_max {
                return Err(self.error(ScanErrorKind::HeaderTooLarge(self.limits.header_bytes_max)));
            }
        }
        self.position = value_at + kept + passed;
        Ok(())
    }

    /// Whether no sequence, item or encapsulated pixel data is open.
    pub(crate) fn is_at_top(&mut self) -> bool {
        self.close_ended();
        self.frames.is_empty()
    }

    /// Ends the data set.
    pub(crate) fn finish(&mut self) -> Result<(), ScanError> {
        self.close_ended();
        if self.position == 0 {
            return Err(self.error(ScanErrorKind::Empty));
        }
        if let Some(frame) = self.frames.last() {
            return Err(self.error(ScanErrorKind::Truncated(frame.tag)));
        }
        if !self.sorted {
            // Stable: of two elements with one tag the first stays first.
            self.elements.sort_by_key(|element| element.tag);
        }
        Ok(())
    }

    pub(crate) fn error(&self, kind: ScanErrorKind) -> ScanError {
        ScanError {
            offset: self.position,
            kind,
        }
    }

    pub(crate) fn warn(&mut self, warning: ScanWarning) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }

    fn bad_vr(&self, tag: Tag, holds: Holds) -> ScanErrorKind {
        match holds {
            Holds::Elements if tag.0 == 0 && self.position == 0 => ScanErrorKind::FileInside,
            Holds::Elements => ScanErrorKind::BadVr(tag),
            Holds::Items | Holds::Fragments => ScanErrorKind::Unexpected(tag),
        }
    }
}

impl Grammar {
    fn top_element(&mut self, head: &ElementHead, value_at: u64) -> Result<Action, ScanError> {
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

    fn nested_element(&mut self, head: &ElementHead, value_at: u64) -> Result<Action, ScanError> {
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

    fn item(&mut self, head: &ElementHead, value_at: u64) -> Result<Action, ScanError> {
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

    fn fragment(&mut self, head: &ElementHead, value_at: u64) -> Result<Action, ScanError> {
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
    fn close_ended(&mut self) {
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
    fn settle_encoding(&mut self, rest: &[u8]) {
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
