//! Element headers and the walk over elements in memory (PS3.5 section 7.1).
//!
//! One decoder of the 8 or 12 header bytes serves the streaming scanner, the data set decoder and the
//! converter. [`Elements`] walks a slice whose values are all present; it knows where a sequence of
//! undefined length ends by walking it, without recursion. Nothing here allocates.

use crate::dict;
use crate::tag::Tag;
use crate::transfer_syntax::Encoding;
use crate::vr::Vr;

/// The length that means "until the delimiter".
pub const UNDEFINED_LENGTH: u32 = 0xFFFF_FFFF;

/// Deepest nesting that the in-memory walk follows; far beyond any limit a scanner is given.
const WALK_DEPTH_MAX: usize = 1024;

/// What stands before a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementHead {
    /// The tag.
    pub tag: Tag,
    /// The VR as written, or as the dictionary says in implicit encoding; UN for unknown letters.
    pub vr: Vr,
    /// The value length as written; [`UNDEFINED_LENGTH`] where a delimiter ends the value.
    pub length: u32,
    /// Bytes of the header itself: 8 or 12.
    pub bytes: u8,
    /// Whether the VR letters are unknown to this build.
    pub unknown_vr: bool,
}

impl ElementHead {
    /// Whether a delimiter ends the value.
    pub const fn is_undefined(&self) -> bool {
        self.length == UNDEFINED_LENGTH
    }

    /// Whether the value is a sequence of items: SQ, or UN of undefined length (PS3.5 section 6.2.2).
    pub const fn is_sequence(&self) -> bool {
        matches!(self.vr, Vr::Sq) || (matches!(self.vr, Vr::Un) && self.is_undefined())
    }
}

/// Answer of [`read_head`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadRead {
    /// The header is complete.
    Head(ElementHead),
    /// At least this many bytes are needed to say more.
    Need(usize),
    /// An explicit header whose VR is not two capital letters.
    BadVr(Tag, [u8; 2]),
}

/// Decodes an element header; implicit VRs come from the dictionary.
pub fn read_head(bytes: &[u8], encoding: Encoding) -> HeadRead {
    read_head_with(bytes, encoding, dict::vr)
}

/// Decodes an element header; `implicit_vr` is asked for the VR where none is written.
#[inline]
pub fn read_head_with(
    bytes: &[u8],
    encoding: Encoding,
    implicit_vr: impl FnOnce(Tag) -> Vr,
) -> HeadRead {
    let Some(&[t0, t1, t2, t3, b4, b5, b6, b7]) = bytes.first_chunk::<8>() else {
        return HeadRead::Need(8);
    };
    let word = |bytes: [u8; 2]| {
        if encoding.big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    };
    let long = |bytes: [u8; 4]| {
        if encoding.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    };
    let tag = Tag::new(word([t0, t1]), word([t2, t3]));
    let short_head = |vr, length| {
        HeadRead::Head(ElementHead {
            tag,
            vr,
            length,
            bytes: 8,
            unknown_vr: false,
        })
    };
    if tag.is_delimiter() {
        return short_head(Vr::Un, long([b4, b5, b6, b7]));
    }
    if !encoding.explicit {
        return short_head(implicit_vr(tag), long([b4, b5, b6, b7]));
    }
    let known = Vr::from_bytes([b4, b5]);
    match known {
        Some(vr) if !vr.has_long_length() => return short_head(vr, u32::from(word([b6, b7]))),
        None if !(b4.is_ascii_uppercase() && b5.is_ascii_uppercase()) => {
            return HeadRead::BadVr(tag, [b4, b5]);
        }
        // Later editions of the standard give new VRs the long form, whose reserved bytes are zero.
        None if [b6, b7] != [0, 0] => {
            let length = u32::from(word([b6, b7]));
            return HeadRead::Head(ElementHead {
                tag,
                vr: Vr::Un,
                length,
                bytes: 8,
                unknown_vr: true,
            });
        }
        _ => {}
    }
    match bytes.first_chunk::<12>() {
        None => HeadRead::Need(12),
        Some(&[.., l0, l1, l2, l3]) => HeadRead::Head(ElementHead {
            tag,
            vr: known.unwrap_or(Vr::Un),
            length: long([l0, l1, l2, l3]),
            bytes: 12,
            unknown_vr: known.is_none(),
        }),
    }
}

/// Appends an element header. A length that the short form cannot hold turns the VR into UN
/// (PS3.5 section 6.2.2, note 2).
pub fn write_head(out: &mut Vec<u8>, tag: Tag, vr: Vr, length: u32, encoding: Encoding) {
    write_tag(out, tag, encoding);
    if encoding.explicit && !tag.is_delimiter() {
        let vr = if !vr.has_long_length() && length > 0xFFFF {
            Vr::Un
        } else {
            vr
        };
        out.extend_from_slice(vr.as_str().as_bytes());
        if !vr.has_long_length() {
            let length = length as u16;
            out.extend_from_slice(&if encoding.big_endian {
                length.to_be_bytes()
            } else {
                length.to_le_bytes()
            });
            return;
        }
        out.extend_from_slice(&[0, 0]);
    }
    write_u32(out, length, encoding);
}

/// Appends a tag.
pub fn write_tag(out: &mut Vec<u8>, tag: Tag, encoding: Encoding) {
    let (group, element) = (tag.group(), tag.element());
    for half in [group, element] {
        out.extend_from_slice(&if encoding.big_endian {
            half.to_be_bytes()
        } else {
            half.to_le_bytes()
        });
    }
}

/// Appends a 32-bit number.
pub fn write_u32(out: &mut Vec<u8>, number: u32, encoding: Encoding) {
    out.extend_from_slice(&if encoding.big_endian {
        number.to_be_bytes()
    } else {
        number.to_le_bytes()
    });
}

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
        let fragments = matches!(head.vr, Vr::Ob | Vr::Ow) && head.tag.is_pixel_data();
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

/// Encoding of the content of a UN element of undefined length, judged by its first element's header:
/// the standard says implicit little endian, some writers leave the VRs in.
pub fn un_content_encoding(first_head: &[u8]) -> Encoding {
    match first_head.get(4..6) {
        Some(&[a, b]) if Vr::from_bytes([a, b]).is_some() => Encoding::EXPLICIT_LE,
        _ => Encoding::IMPLICIT_LE,
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
        let in_sequence = self.depth % 2 == 0;
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
                if let Some(&(depth, encoding)) = self.outer.last() {
                    if depth == self.depth {
                        self.encoding = encoding;
                        self.probe = false;
                        self.outer.pop();
                    }
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
            (false, tag) if tag.is_pixel_data() => {
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
        if let HeadRead::Head(head) = read_head(rest, encoding) {
            if head.tag == Tag::ITEM_DELIMITATION {
                return Ok(elements.offset);
            }
        }
        if rest.is_empty() {
            return Err(ElementError::Truncated);
        }
        elements.read()?;
    }
}
