//! Walks every UID of an object, sequences included, and writes the changed ones.
//!
//! What is left alone: SOP classes and other UIDs that the standard registers, and UIDs that name neither
//! object nor patient but a coding scheme or a device's maker. `native/store` knows what they change to.

use crate::edit_path::{put_item, whole_bytes};
use crate::element::{ElementError, Elements, Items, RawElement, UNDEFINED_LENGTH, write_head};
use crate::header::{known_vr, trim};
use crate::instance::{EditError, Instance};
use crate::tag::Tag;
use crate::transfer_syntax::Encoding;
use crate::vr::Vr;

/// Deepest nesting that is followed.
const DEPTH_MAX: usize = 128;
/// The root of everything that the standard registers.
const REGISTERED: &str = "1.2.840.10008.";

/// Instance Creator, Coding Scheme, Context Group Extension Creator, Context, Mapping Resource.
const NO_IDENTITY: [u32; 5] = [
    0x0008_0014,
    0x0008_010C,
    0x0008_010D,
    0x0008_0117,
    0x0008_0118,
];

/// What a UID becomes; `None` leaves it.
type Change<'a> = dyn FnMut(Tag, &str) -> Option<String> + 'a;

impl Instance {
    /// Every UID that stands for an object, a study, a frame of reference and the like: tag and value.
    pub fn uids(&self) -> Result<Vec<(Tag, String)>, EditError> {
        let mut found = Vec::new();
        let mut note = |tag, uid: &str| {
            found.push((tag, uid.to_owned()));
            None
        };
        let header = self.header();
        let elements = Elements::new(header.bytes(), header.encoding());
        rewrite(elements, &mut Vec::new(), 0, &mut note)?;
        Ok(found)
    }

    /// Changes UIDs; the number of values changed.
    pub fn change_uids(&mut self, change: &mut Change<'_>) -> Result<usize, EditError> {
        let mut changed = 0;
        let mut count = |tag, uid: &str| {
            let new = change(tag, uid);
            changed += usize::from(new.is_some());
            new
        };
        let header = self.header();
        let mut out = Vec::with_capacity(header.bytes().len() + 256);
        let elements = Elements::new(header.bytes(), header.encoding());
        rewrite(elements, &mut out, 0, &mut count)?;
        if changed > 0 {
            self.replace_header(&out)?;
        }
        Ok(changed)
    }
}

fn rewrite(
    elements: Elements<'_>,
    out: &mut Vec<u8>,
    depth: usize,
    change: &mut Change<'_>,
) -> Result<(), EditError> {
    if depth > DEPTH_MAX {
        return Err(ElementError::TooDeep.into());
    }
    for element in elements {
        let element = element?;
        let tag = element.head.tag;
        if element.head.is_sequence() && tag != Tag::PIXEL_DATA {
            rewrite_sequence(&element, out, depth, change)?;
        } else if known_vr(tag, element.head.vr) == Vr::Ui && !is_left_alone(tag) {
            rewrite_uids(&element, out, change);
        } else {
            copy(&element, out);
        }
    }
    Ok(())
}

fn rewrite_sequence(
    element: &RawElement<'_>,
    out: &mut Vec<u8>,
    depth: usize,
    change: &mut Change<'_>,
) -> Result<(), EditError> {
    let mut content = Vec::with_capacity(element.value.len() + 64);
    for item in Items::new(element) {
        let item = item?;
        let mut inner = Vec::with_capacity(item.bytes.len() + 64);
        rewrite(item.elements(), &mut inner, depth + 1, change)?;
        put_item(&mut content, &inner, item.undefined, element.encoding);
    }
    // A UN sequence is always of undefined length: only its content is encoded otherwise than around it.
    let outside = outer_encoding(element);
    let length = if element.head.is_undefined() {
        UNDEFINED_LENGTH
    } else {
        content.len() as u32
    };
    write_head(out, element.head.tag, element.head.vr, length, outside);
    out.extend(content);
    if element.head.is_undefined() {
        write_head(out, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, outside);
    }
    Ok(())
}

/// Explicit headers of sequences have 12 bytes, implicit ones 8.
fn outer_encoding(element: &RawElement<'_>) -> Encoding {
    Encoding {
        explicit: element.head.bytes == 12,
        big_endian: element.encoding.big_endian,
    }
}

fn rewrite_uids(element: &RawElement<'_>, out: &mut Vec<u8>, change: &mut Change<'_>) {
    let tag = element.head.tag;
    let Ok(text) = std::str::from_utf8(trim(element.value)) else {
        return copy(element, out);
    };
    let mut changed = false;
    let values: Vec<String> = text
        .split('\\')
        .map(|uid| {
            let uid = uid.trim_matches([' ', '\0']);
            if uid.is_empty() || uid.starts_with(REGISTERED) {
                return uid.to_owned();
            }
            change(tag, uid).map_or_else(
                || uid.to_owned(),
                |new| {
                    changed = true;
                    new
                },
            )
        })
        .collect();
    if !changed {
        return copy(element, out);
    }
    let mut value = values.join("\\").into_bytes();
    if value.len() % 2 == 1 {
        value.push(0);
    }
    // UI has the short form, UN the long one; implicit headers look like the short form.
    let encoding = element.encoding;
    write_head(out, tag, element.head.vr, value.len() as u32, encoding);
    out.extend(value);
}

fn is_left_alone(tag: Tag) -> bool {
    NO_IDENTITY.contains(&tag.0)
        || tag == Tag::TRANSFER_SYNTAX_UID
        || crate::dict::keyword(tag)
            .is_some_and(|keyword| keyword.contains("Class") || keyword == "TransferSyntaxUID")
}

fn copy(element: &RawElement<'_>, out: &mut Vec<u8>) {
    let (head, encoding) = (&element.head, element.encoding);
    let start = out.len();
    let outside = if head.is_undefined() {
        outer_encoding(element)
    } else {
        encoding
    };
    write_head(out, head.tag, head.vr, head.length, outside);
    out.extend_from_slice(element.value);
    if head.is_undefined() {
        write_head(out, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, outside);
    }
    // An unknown VR in the short form becomes UN, which has the long one.
    debug_assert!(head.unknown_vr || out.len() - start == whole_bytes(element));
}
