//! Element headers (PS3.5 section 7.1): the 8 or 12 bytes before a value, read and written.
//!
//! One decoder serves the streaming scanner, the walk over elements in memory, the data set decoder and the
//! converter. Unknown VRs are taken as UN; what is no VR at all is refused.

use crate::dict;
use crate::tag::Tag;
use crate::transfer_syntax::Encoding;
use crate::vr::Vr;

pub use crate::elements::{ElementError, Elements, Items, RawElement, RawItem};

/// The length that means "until the delimiter".
pub const UNDEFINED_LENGTH: u32 = 0xFFFF_FFFF;

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

/// Encoding of the content of a UN element of undefined length, judged by its first element's header:
/// the standard says implicit little endian, some writers leave the VRs in.
pub fn un_content_encoding(first_head: &[u8]) -> Encoding {
    match first_head.get(4..6) {
        Some(&[a, b]) if Vr::from_bytes([a, b]).is_some() => Encoding::EXPLICIT_LE,
        _ => Encoding::IMPLICIT_LE,
    }
}
