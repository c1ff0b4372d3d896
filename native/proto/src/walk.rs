//! The piecewise side of the header scanner: what to keep, what to pass, what a piece cut in two.
//!
//! Elements that lie whole in a piece of input are kept by one copy per run, not one per element. What the
//! end of a piece cuts is remembered as up to 12 bytes of an element header, or as a count of value bytes
//! to keep or to pass. What may follow what is decided in `grammar`.

use crate::grammar::{Action, Grammar, Step, Then};
use crate::header::ElementRef;
use crate::scan::{BulkValue, PixelInfo, ScanError, ScanErrorKind, ScanLimits, ScanWarning};
use crate::tag::Tag;
use crate::transfer_syntax::TransferSyntax;

/// Longest element header.
const HEAD_BYTES_MAX: usize = 12;

/// Walks a data set that comes in pieces.
#[derive(Debug)]
pub(crate) struct Walker {
    grammar: Grammar,
    /// What is left of the value that the last piece began.
    pending: Then,
    /// An element header cut by the end of a piece.
    cut: [u8; HEAD_BYTES_MAX],
    cut_bytes: usize,
    bytes: Vec<u8>,
}

/// What the walker hands over at the end.
#[derive(Debug)]
pub(crate) struct Walked {
    pub bytes: Vec<u8>,
    pub elements: Vec<ElementRef>,
    pub pixel: Option<PixelInfo>,
    pub bulk: Vec<BulkValue>,
    pub warnings: Vec<ScanWarning>,
}

impl Walker {
    pub(crate) fn new(syntax: &TransferSyntax, limits: ScanLimits) -> Self {
        Self {
            grammar: Grammar::new(syntax, limits),
            pending: Then::Next,
            cut: [0; HEAD_BYTES_MAX],
            cut_bytes: 0,
            bytes: Vec::new(),
        }
    }

    /// Bytes of the data set before the next header.
    pub(crate) fn position(&self) -> u64 {
        self.grammar.position
    }

    pub(crate) fn pixel_seen(&self) -> bool {
        self.grammar.pixel.is_some()
    }

    /// A top-level value kept so far and already complete.
    pub(crate) fn value(&self, tag: Tag) -> Option<&[u8]> {
        let element = self
            .grammar
            .elements
            .iter()
            .find(|element| element.tag == tag)?;
        element.trimmed(&self.bytes)
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, data: &[u8]) -> Result<(), ScanError> {
        let mut at = self.resume(data);
        if self.cut_bytes > 0 {
            match self.complete_cut(data, at)? {
                Some(next) => at = next,
                None => return Ok(()),
            }
        }
        // Start of the bytes to keep that have not been copied yet.
        let mut run = at;
        loop {
            at += self.grammar.take_plain(data.get(at..).unwrap_or_default());
            let rest = data.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let Step::Done(action) = self.grammar.step(rest)? else {
                self.keep(data, run, at);
                self.cut_off(rest);
                return Ok(());
            };
            let value_at = at + action.head_bytes;
            if !action.keep_head {
                self.keep(data, run, at);
                run = value_at;
            }
            at = value_at + self.begin(&action, data.len() - value_at);
            if matches!(action.then, Then::Pass(_)) {
                run = at;
            }
        }
        self.keep(data, run, at);
        Ok(())
    }

    /// Begins a value of which `available` bytes are here; gives how many of them belong to it.
    fn begin(&mut self, action: &Action, available: usize) -> usize {
        let (taken, left) = action.then.split(available);
        self.pending = left;
        taken
    }

    /// Goes on with the value that an earlier piece began; gives where the next header starts.
    fn resume(&mut self, data: &[u8]) -> usize {
        let (taken, left) = self.pending.split(data.len());
        if matches!(self.pending, Then::Keep(_)) {
            self.keep(data, 0, taken);
        }
        self.pending = left;
        taken
    }

    /// Completes a header that the last piece cut. Gives where the next one starts, `None` if that is
    /// in another piece.
    fn complete_cut(&mut self, data: &[u8], mut at: usize) -> Result<Option<usize>, ScanError> {
        let mut wanted = 8;
        loop {
            while self.cut_bytes < wanted {
                let (Some(&byte), Some(slot)) = (data.get(at), self.cut.get_mut(self.cut_bytes))
                else {
                    return Ok(None);
                };
                *slot = byte;
                self.cut_bytes += 1;
                at += 1;
            }
            let head = self.cut;
            match self.grammar.step(head.get(..wanted).unwrap_or_default())? {
                Step::Need(more) => wanted = more,
                Step::Done(action) => {
                    self.cut_bytes = 0;
                    if action.keep_head {
                        self.keep(&head, 0, action.head_bytes);
                    }
                    self.pending = action.then;
                    let taken = self.resume(data.get(at..).unwrap_or_default());
                    return Ok((self.pending == Then::Next).then_some(at + taken));
                }
            }
        }
    }

    fn cut_off(&mut self, rest: &[u8]) {
        for (slot, byte) in self.cut.iter_mut().zip(rest) {
            *slot = *byte;
        }
        self.cut_bytes = rest.len();
    }

    fn keep(&mut self, data: &[u8], from: usize, to: usize) {
        self.bytes
            .extend_from_slice(data.get(from..to).unwrap_or_default());
    }

    /// Ends the data set.
    pub(crate) fn finish(self) -> Result<Walked, ScanError> {
        let mut grammar = self.grammar;
        if self.cut_bytes > 0 || self.pending != Then::Next {
            let missing = match self.pending {
                Then::Next => 0,
                Then::Keep(bytes) | Then::Pass(bytes) => bytes,
            };
            let kind = ScanErrorKind::Truncated(grammar.last_tag.unwrap_or(Tag(0)));
            let offset = grammar.position + self.cut_bytes as u64 - missing;
            return Err(ScanError { offset, kind });
        }
        grammar.finish()?;
        check_duplicates(&mut grammar, &self.bytes)?;
        Ok(Walked {
            bytes: self.bytes,
            elements: grammar.elements,
            pixel: grammar.pixel,
            bulk: grammar.bulk,
            warnings: grammar.warnings,
        })
    }
}

/// Two values for what identifies an object would let two readers see two objects.
fn check_duplicates(grammar: &mut Grammar, bytes: &[u8]) -> Result<(), ScanError> {
    let mut twice = Vec::new();
    for pair in grammar.elements.windows(2) {
        let [first, second] = pair else { continue };
        if first.tag != second.tag {
            continue;
        }
        // Under two VRs the same bytes are two values in another byte order.
        let same = first.vr == second.vr && first.trimmed(bytes) == second.trimmed(bytes);
        if is_identifying(first.tag) && !same {
            return Err(grammar.error(ScanErrorKind::Duplicate(first.tag)));
        }
        twice.push(first.tag);
    }
    for tag in twice {
        grammar.warn(ScanWarning::Duplicate(tag));
    }
    Ok(())
}

/// Elements of which two values would mean two objects.
fn is_identifying(tag: Tag) -> bool {
    matches!(
        tag,
        Tag::SOP_CLASS_UID
            | Tag::SOP_INSTANCE_UID
            | Tag::PATIENT_ID
            | Tag::STUDY_INSTANCE_UID
            | Tag::SERIES_INSTANCE_UID
    )
}
