//! The walk over elements, items and fragments in memory (PS3.5 sections 7.1 and 7.5).
//!
//! [`Elements`] walks a slice whose values are all present; where a sequence of undefined length ends it
//! knows by walking it, without recursion. Values are borrowed; nothing is allocated but a note of the
//! encoding outside, for UN inside UN.

use crate::dict;
use crate::element::{ElementHead, HeadRead, read_head, read_head_with, un_content_encoding};
use crate::tag::Tag;
use crate::transfer_syntax::Encoding;
use crate::vr::Vr;

/// Deepest nesting that is followed; far beyond any limit a scanner is given.
const WALK_DEPTH_MAX: usize = 1024;

/// What is wrong with bytes in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// The slice ends inside an element.
    #[error("the data ends inside an element")]
    Truncated,
    /// The VR is not two capital letters.
    #[error("element {0} has a VR that is none")]
    BadVr(Tag),
    /// A delimiter, an item or another element where it does not belong.
    #[error("unexpected {0}")]
    Unexpected(Tag),
    /// Undefined length on a VR that cannot have it.
    #[error("element {0} of VR {1} has undefined length")]
    UndefinedLength(Tag, Vr),
    /// A value that implicit encoding, which has no VRs, would turn into a sequence that it is not.
    #[error("element {0} without its VR would be read as a sequence")]
    NoSequence(Tag),
    /// Nested deeper than is followed.
    #[error("sequences nested too deep")]
    TooDeep,
}

/// One element in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawElement<'a> {
    /// Its header.
    pub head: ElementHead,
    /// Where the header starts in the slice walked.
    pub offset: usize,
    /// The value; of an undefined-length element everything up to its delimiter, which is left out.
    pub value: &'a [u8],
    /// How the content of the value is encoded; differs from outside for UN of undefined length.
    pub encoding: Encoding,
}

impl RawElement<'_> {
    /// Where the next element's header starts.
    pub fn end(&self) -> usize {
        let delimiter = if self.head.is_undefined() { 8 } else { 0 };
        self.offset + usize::from(self.head.bytes) + self.value.len() + delimiter
    }
}

/// Walks the elements of one level of a slice. Ends after an error.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    bytes: &'a [u8],
    offset: usize,
    encoding: Encoding,
    finder: dict::Finder,
}

impl<'a> Elements<'a> {
    /// Walks `bytes`, which hold whole elements.
    pub fn new(bytes: &'a [u8], encoding: Encoding) -> Self {
        Self {
            bytes,
            offset: 0,
            encoding,
            finder: dict::Finder::default(),
        }
    }

    fn read(&mut self) -> Result<RawElement<'a>, ElementError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let head = match read_head_with(rest, self.encoding, |tag| self.finder.vr(tag)) {
            HeadRead::Head(head) => head,
            HeadRead::Need(_) => return Err(ElementError::Truncated),
            HeadRead::BadVr(tag, _) => return Err(ElementError::BadVr(tag)),
        };
        if head.tag.is_delimiter() {
            return Err(ElementError::Unexpected(head.tag));
        }
        let body = rest.get(usize::from(head.bytes)..).unwrap_or_default();
        let offset = self.offset;
        if !head.is_undefined() {
            let value = body
                .get(..head.length as usize)
                .ok_or(ElementError::Truncated)?;
            self.offset += usize::from(head.bytes) + value.len();
            return Ok(RawElement {
                head,
                offset,
                value,
                encoding: self.encoding,
            });
        }
        // As in the scanner: pixel data of undefined length has fragments, whatever its VR.
        let fragments = head.tag == Tag::PIXEL_DATA;
        let sequence = head.is_sequence() || !self.encoding.explicit;
        if !fragments && !sequence {
            return Err(ElementError::UndefinedLength(head.tag, head.vr));
        }
        let (length, encoding) = if fragments {
            (fragments_bytes(body, self.encoding)?, self.encoding)
        } else {
            sequence_bytes(
                body,
                self.encoding,
                head.vr == Vr::Un && self.encoding.explicit,
            )?
        };
        self.offset += usize::from(head.bytes) + length + 8;
        let value = body.get(..length).unwrap_or_default();
        Ok(RawElement {
            head,
            offset,
            value,
            encoding,
        })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<RawElement<'a>, ElementError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.bytes.len() {
            return None;
        }
        let element = self.read();
        if element.is_err() {
            self.offset = self.bytes.len();
        }
        Some(element)
    }
}

/// Length of the items before the sequence delimiter, and how they are encoded.
fn sequence_bytes(
    body: &[u8],
    outside: Encoding,
    is_un: bool,
) -> Result<(usize, Encoding), ElementError> {
    let mut walk = SequenceWalk {
        encoding: if is_un {
            Encoding::IMPLICIT_LE
        } else {
            outside
        },
        probe: is_un,
        first: None,
        depth: 0,
        outer: Vec::new(),
    };
    let mut at = 0;
    loop {
        let rest = body.get(at..).unwrap_or_default();
        match walk.step(rest)? {
            Some(bytes) => at += bytes,
            None => return Ok((at, walk.first.unwrap_or(walk.encoding))),
        }
    }
}

/// State of [`sequence_bytes`]: only sequences and items of undefined length are entered, so that even
/// depths are sequences and odd depths items.
struct SequenceWalk {
    encoding: Encoding,
    /// The next element tells how the content of a UN is encoded.
    probe: bool,
    /// What that probe told at the outermost level.
    first: Option<Encoding>,
    depth: usize,
    /// Encodings to return to, with the depth of the UN sequence that changed it.
    outer: Vec<(usize, Encoding)>,
}

impl SequenceWalk {
    /// Bytes to go on by; `None` at the delimiter that ends the outermost sequence.
    fn step(&mut self, rest: &[u8]) -> Result<Option<usize>, ElementError> {
        let in_sequence = self.depth.is_multiple_of(2);
        if !in_sequence {
            self.settle_encoding(rest);
        }
        let head = match read_head(rest, self.encoding) {
            HeadRead::Head(head) => head,
            HeadRead::Need(_) => return Err(ElementError::Truncated),
            HeadRead::BadVr(tag, _) => return Err(ElementError::BadVr(tag)),
        };
        match (in_sequence, head.tag) {
            (true, Tag::SEQUENCE_DELIMITATION) if self.depth == 0 => return Ok(None),
            (true, Tag::SEQUENCE_DELIMITATION) => {
                if let Some(&(depth, encoding)) = self.outer.last()
                    && depth == self.depth
                {
                    self.encoding = encoding;
                    self.probe = false;
                    self.outer.pop();
                }
                self.depth -= 1;
            }
            (false, Tag::ITEM_DELIMITATION) => self.depth -= 1,
            (true, Tag::ITEM) if head.is_undefined() => self.depth += 1,
            (true, Tag::ITEM) => {
                if head.length > 0 {
                    self.settle_encoding(rest.get(8..).unwrap_or_default());
                }
                return skip(rest, head).map(Some);
            }
            (true, tag) => return Err(ElementError::Unexpected(tag)),
            (false, tag) if tag.is_delimiter() => return Err(ElementError::Unexpected(tag)),
            (false, _) if !head.is_undefined() => return skip(rest, head).map(Some),
            (false, Tag::PIXEL_DATA) => {
                let body = rest.get(usize::from(head.bytes)..).unwrap_or_default();
                let length = fragments_bytes(body, self.encoding)?;
                return Ok(Some(usize::from(head.bytes) + length + 8));
            }
            (false, tag) => {
                if !head.is_sequence() && self.encoding.explicit {
                    return Err(ElementError::UndefinedLength(tag, head.vr));
                }
                self.depth += 1;
                if self.depth > WALK_DEPTH_MAX {
                    return Err(ElementError::TooDeep);
                }
                if head.vr == Vr::Un && self.encoding.explicit {
                    self.outer.push((self.depth, self.encoding));
                    self.encoding = Encoding::IMPLICIT_LE;
                    self.probe = true;
                }
            }
        }
        Ok(Some(usize::from(head.bytes)))
    }

    fn settle_encoding(&mut self, first_head: &[u8]) {
        if !self.probe {
            return;
        }
        self.probe = false;
        self.encoding = un_content_encoding(first_head);
        if self.outer.is_empty() {
            self.first = Some(self.encoding);
        }
    }
}

/// Header and value of an element of defined length, checked to be there.
fn skip(rest: &[u8], head: ElementHead) -> Result<usize, ElementError> {
    let bytes = usize::from(head.bytes) + head.length as usize;
    if bytes > rest.len() {
        Err(ElementError::Truncated)
    } else {
        Ok(bytes)
    }
}

/// Length of the fragments before the sequence delimiter.
fn fragments_bytes(body: &[u8], encoding: Encoding) -> Result<usize, ElementError> {
    let mut at = 0;
    loop {
        let rest = body.get(at..).unwrap_or_default();
        match read_head(rest, encoding) {
            HeadRead::Head(head) if head.tag == Tag::SEQUENCE_DELIMITATION => return Ok(at),
            HeadRead::Head(head) if head.tag == Tag::ITEM => at += skip(rest, head)?,
            HeadRead::Head(head) => return Err(ElementError::Unexpected(head.tag)),
            HeadRead::Need(_) => return Err(ElementError::Truncated),
            HeadRead::BadVr(tag, _) => return Err(ElementError::Unexpected(tag)),
        }
    }
}

/// One item of a sequence in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawItem<'a> {
    /// Its elements, without the delimiter.
    pub bytes: &'a [u8],
    /// How they are encoded.
    pub encoding: Encoding,
    /// Whether a delimiter ended it.
    pub undefined: bool,
}

impl<'a> RawItem<'a> {
    /// Walks the elements of the item.
    pub fn elements(&self) -> Elements<'a> {
        Elements::new(self.bytes, self.encoding)
    }
}

/// Walks the items of a sequence value, or the fragments of encapsulated pixel data. Ends after an error.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    bytes: &'a [u8],
    offset: usize,
    encoding: Encoding,
}

impl<'a> Items<'a> {
    /// Walks the items of `element`'s value.
    pub fn new(element: &RawElement<'a>) -> Self {
        Self {
            bytes: element.value,
            offset: 0,
            encoding: element.encoding,
        }
    }

    fn read(&mut self) -> Result<RawItem<'a>, ElementError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let head = match read_head(rest, self.encoding) {
            HeadRead::Head(head) => head,
            HeadRead::Need(_) => return Err(ElementError::Truncated),
            HeadRead::BadVr(tag, _) => return Err(ElementError::Unexpected(tag)),
        };
        if head.tag != Tag::ITEM {
            return Err(ElementError::Unexpected(head.tag));
        }
        let body = rest.get(8..).unwrap_or_default();
        let (length, delimiter) = if head.is_undefined() {
            (item_bytes(body, self.encoding)?, 8)
        } else {
            (head.length as usize, 0)
        };
        let bytes = body.get(..length).ok_or(ElementError::Truncated)?;
        self.offset += 8 + length + delimiter;
        Ok(RawItem {
            bytes,
            encoding: self.encoding,
            undefined: head.is_undefined(),
        })
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<RawItem<'a>, ElementError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.bytes.len() {
            return None;
        }
        let item = self.read();
        if item.is_err() {
            self.offset = self.bytes.len();
        }
        Some(item)
    }
}

/// Length of the elements before the item delimiter.
fn item_bytes(body: &[u8], encoding: Encoding) -> Result<usize, ElementError> {
    let mut elements = Elements::new(body, encoding);
    loop {
        let rest = body.get(elements.offset..).unwrap_or_default();
        if let HeadRead::Head(head) = read_head(rest, encoding)
            && head.tag == Tag::ITEM_DELIMITATION
        {
            return Ok(elements.offset);
        }
        if rest.is_empty() {
            return Err(ElementError::Truncated);
        }
        elements.read()?;
    }
}

#[cfg(test)]
#[path = "elements_tests.rs"]
mod tests;
