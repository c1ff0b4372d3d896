//! The state of a walk over a data set: where it stands, what is open, what was found.
//!
//! [`Grammar::step`] sees one element header at a time and answers whether it is kept and how many value
//! bytes follow. Open sequences and items are a stack of ends; whatever comes must end before the nearest
//! of them. What may follow what is decided in `rules`.

mod rules;

use crate::dict;
use crate::element::{ElementHead, HeadRead, read_head_with};
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
