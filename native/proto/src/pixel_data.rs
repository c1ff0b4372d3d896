//! Pixel data in a whole data set in memory: where it is, its fragments, and elements put beside it.
//!
//! Everything here reads and writes explicit VR little endian, the form that every encapsulated data
//! set has (PS3.5 section A.4); [`crate::convert`] brings the others into it.

use std::ops::Range;

use crate::element::{ElementError, Elements, Items, RawElement, write_head};
use crate::tag::Tag;
use crate::transfer_syntax::Encoding;
use crate::vr::Vr;

/// Where Conquest keeps NKI streams in place of the pixel data.
pub const NKI_DATA: Tag = Tag::new(0x7FDF, 0x0010);

/// The pixel data element of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PixelData {
    /// Pixel Data, Float or Double Float Pixel Data, or [`NKI_DATA`].
    pub tag: Tag,
    /// Its VR as written.
    pub vr: Vr,
    /// The element, header and delimiter included.
    pub element: Range<usize>,
    /// Its value.
    pub value: Range<usize>,
    /// The items of encapsulated pixel data, the basic offset table first; `None` for native data.
    pub items: Option<Vec<Range<usize>>>,
}

/// Finds the pixel data at the top level of a data set; `None` when it has none.
///
/// Pixel Data is preferred to an NKI stream, as in Conquest.
///
/// Errors: a malformed element before it, or malformed fragments.
pub fn find(dataset: &[u8]) -> Result<Option<PixelData>, ElementError> {
    let mut found = None;
    for element in Elements::new(dataset, Encoding::EXPLICIT_LE) {
        let element = element?;
        let tag = element.head.tag;
        if tag.is_pixel_data() || (tag == NKI_DATA && found.is_none()) {
            found = Some(describe(dataset, &element)?);
        }
        if tag.is_pixel_data() {
            break;
        }
    }
    Ok(found)
}

fn describe(dataset: &[u8], element: &RawElement<'_>) -> Result<PixelData, ElementError> {
    let head = &element.head;
    let begin = element.offset + usize::from(head.bytes);
    let value = begin..begin + element.value.len();
    let delimiter = if head.is_undefined() { 8 } else { 0 };
    let items = head.is_undefined().then(|| {
        let mut at = value.start;
        Items::new(element)
            .map(|item| {
                let length = item?.bytes.len();
                let item = at + 8..at + 8 + length;
                at = item.end;
                Ok(item)
            })
            .collect()
    });
    Ok(PixelData {
        tag: head.tag,
        vr: head.vr,
        element: element.offset..(value.end + delimiter).min(dataset.len()),
        value,
        items: items.transpose()?,
    })
}

/// A new value for an element; `None` removes it.
pub type Edit = (Tag, Vr, Option<Vec<u8>>);

/// Elements with some of them set or removed, in the order of their tags. Group lengths are left out,
/// since they would be wrong.
///
/// Values are padded to even length as their VR wants it (PS3.5 section 6.2).
///
/// Errors: a malformed element.
pub fn edit(elements: &[u8], edits: &[Edit]) -> Result<Vec<u8>, ElementError> {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|(tag, ..)| *tag);
    let mut edits = edits.into_iter().peekable();
    let mut out = Vec::with_capacity(elements.len() + 256);
    let mut walk = Elements::new(elements, Encoding::EXPLICIT_LE).peekable();
    while let Some(element) = walk.next() {
        let element = element?;
        let tag = element.head.tag;
        let next = match walk.peek() {
            Some(Ok(next)) => next.offset,
            Some(Err(error)) => return Err(*error),
            None => elements.len(),
        };
        while let Some(edit) = edits.next_if(|(edited, ..)| *edited < tag) {
            put(&mut out, edit);
        }
        match edits.next_if(|(edited, ..)| *edited == tag) {
            Some(edit) => put(&mut out, edit),
            None if tag.is_group_length() => {}
            None => {
                out.extend_from_slice(elements.get(element.offset..next).unwrap_or_default());
            }
        }
    }
    for edit in edits {
        put(&mut out, edit);
    }
    Ok(out)
}

fn put(out: &mut Vec<u8>, (tag, vr, value): &Edit) {
    let Some(value) = value else {
        return;
    };
    let padding = value.len() % 2;
    let length = (value.len() + padding) as u32;
    write_head(out, *tag, *vr, length, Encoding::EXPLICIT_LE);
    out.extend_from_slice(value);
    let pad = if matches!(vr, Vr::Ui | Vr::Ob | Vr::Un) {
        0
    } else {
        b' '
    };
    out.resize(out.len() + padding, pad);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROWS: Tag = Tag::new(0x0028, 0x0010);
    const RATIO: Tag = Tag::new(0x0028, 0x2112);

    fn element(tag: Tag, vr: Vr, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, &(tag, vr, Some(value.to_vec())));
        out
    }

    fn encapsulated(items: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        write_head(
            &mut out,
            Tag::PIXEL_DATA,
            Vr::Ob,
            u32::MAX,
            Encoding::EXPLICIT_LE,
        );
        for item in items {
            write_head(
                &mut out,
                Tag::ITEM,
                Vr::Un,
                item.len() as u32,
                Encoding::EXPLICIT_LE,
            );
            out.extend_from_slice(item);
        }
        write_head(
            &mut out,
            Tag::SEQUENCE_DELIMITATION,
            Vr::Un,
            0,
            Encoding::EXPLICIT_LE,
        );
        out
    }

    #[test]
    fn native_data_and_fragments_are_found_with_their_bounds() {
        let head = element(ROWS, Vr::Us, &[2, 0]);
        let tail = element(Tag::new(0xFFFC, 0xFFFC), Vr::Ob, &[0, 0]);
        let native = [
            head.clone(),
            element(Tag::PIXEL_DATA, Vr::Ow, b"abcd"),
            tail.clone(),
        ]
        .concat();
        let found = find(&native).unwrap().unwrap();
        assert_eq!(&native[found.value.clone()], b"abcd");
        assert_eq!(native[found.element.end..], tail);
        assert_eq!((found.items, found.vr), (None, Vr::Ow));

        let bytes = [head, encapsulated(&[b"", b"abcd", b"ef"]), tail.clone()].concat();
        let found = find(&bytes).unwrap().unwrap();
        let items = found.items.unwrap();
        let texts: Vec<&[u8]> = items.iter().map(|item| &bytes[item.clone()]).collect();
        assert_eq!(texts, [b"".as_slice(), b"abcd", b"ef"]);
        assert_eq!(bytes[found.element.end..], tail);
    }

    #[test]
    fn an_nki_stream_is_found_where_there_is_no_pixel_data() {
        let nki = element(NKI_DATA, Vr::Un, b"stream");
        assert_eq!(find(&nki).unwrap().unwrap().tag, NKI_DATA);
        let both = [nki, element(Tag::PIXEL_DATA, Vr::Ow, b"ab")].concat();
        assert_eq!(find(&both).unwrap().unwrap().tag, Tag::PIXEL_DATA);
        assert_eq!(find(&element(ROWS, Vr::Us, &[2, 0])).unwrap(), None);
        assert!(find(&both[..both.len() - 1]).is_err());
    }

    #[test]
    fn edits_replace_add_and_remove() {
        let group_length = element(Tag::new(0x0028, 0), Vr::Ul, &[9, 0, 0, 0]);
        let elements = [group_length, element(ROWS, Vr::Us, &[2, 0])].concat();
        let ratio = (RATIO, Vr::Ds, Some(b"10.25".to_vec()));
        let edited = edit(&elements, &[ratio, (ROWS, Vr::Us, None)]).unwrap();
        assert_eq!(edited, element(RATIO, Vr::Ds, b"10.25 "));
        let rows = (ROWS, Vr::Us, Some(vec![3, 0]));
        assert_eq!(
            edit(&elements, &[rows]).unwrap(),
            element(ROWS, Vr::Us, &[3, 0])
        );
        assert!(edit(&elements[..5], &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some(found)) = find(&bytes) {
                prop_assert!(found.value.end <= found.element.end);
                prop_assert!(found.element.end <= bytes.len());
            }
            if let Ok(edited) = edit(&bytes, &[]) {
                prop_assert!(edited.len() <= bytes.len());
            }
        }
    }
}
