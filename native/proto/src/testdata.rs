//! Encoders for test data: they write what they are told, also what is wrong.

use crate::element::{UNDEFINED_LENGTH, write_head};
use crate::tag::Tag;
use crate::transfer_syntax::Encoding;
use crate::vr::Vr;

/// Appends an element as it stands, value bytes given in the encoding's byte order.
pub fn put(out: &mut Vec<u8>, tag: Tag, vr: Vr, value: &[u8], encoding: Encoding) {
    write_head(out, tag, vr, value.len() as u32, encoding);
    out.extend_from_slice(value);
}

/// Appends the header of an element, item or delimiter alone.
pub fn head(out: &mut Vec<u8>, tag: Tag, vr: Vr, length: u32, encoding: Encoding) {
    write_head(out, tag, vr, length, encoding);
}

/// Appends a sequence of undefined length holding one item of undefined length with these elements.
pub fn sequence(out: &mut Vec<u8>, tag: Tag, content: &[u8], encoding: Encoding) {
    head(out, tag, Vr::Sq, UNDEFINED_LENGTH, encoding);
    head(out, Tag::ITEM, Vr::Un, UNDEFINED_LENGTH, encoding);
    out.extend_from_slice(content);
    head(out, Tag::ITEM_DELIMITATION, Vr::Un, 0, encoding);
    head(out, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, encoding);
}

/// A small secondary capture object with a nested sequence, without pixel data.
pub fn object(encoding: Encoding) -> Vec<u8> {
    let mut out = Vec::new();
    let us = |n: u16| {
        if encoding.big_endian {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        }
    };
    put(
        &mut out,
        Tag::SPECIFIC_CHARACTER_SET,
        Vr::Cs,
        b"ISO_IR 100",
        encoding,
    );
    put(
        &mut out,
        Tag::SOP_CLASS_UID,
        Vr::Ui,
        b"1.2.840.10008.5.1.4.1.1.7\0",
        encoding,
    );
    put(
        &mut out,
        Tag::SOP_INSTANCE_UID,
        Vr::Ui,
        b"1.2.3.4\0",
        encoding,
    );
    put(&mut out, Tag::STUDY_DATE, Vr::Da, b"20240101", encoding);
    let mut inner = Vec::new();
    put(
        &mut inner,
        Tag::REFERENCED_SOP_CLASS_UID,
        Vr::Ui,
        b"1.2.840.10008.3.1.2.3.1\0",
        encoding,
    );
    put(
        &mut inner,
        Tag::REFERENCED_SOP_INSTANCE_UID,
        Vr::Ui,
        b"1.2.9\0",
        encoding,
    );
    sequence(&mut out, Tag::REFERENCED_STUDY_SEQUENCE, &inner, encoding);
    let mut items = Vec::new();
    head(&mut items, Tag::ITEM, Vr::Un, 0, encoding);
    head(&mut items, Tag::ITEM, Vr::Un, inner.len() as u32, encoding);
    items.extend_from_slice(&inner);
    put(
        &mut out,
        Tag::REFERENCED_PATIENT_SEQUENCE,
        Vr::Sq,
        &items,
        encoding,
    );
    put(
        &mut out,
        Tag::PATIENT_NAME,
        Vr::Pn,
        b"M\xFCller^Hans ",
        encoding,
    );
    put(&mut out, Tag::PATIENT_ID, Vr::Lo, b"P1", encoding);
    put(
        &mut out,
        Tag::STUDY_INSTANCE_UID,
        Vr::Ui,
        b"1.2.3\0",
        encoding,
    );
    put(
        &mut out,
        Tag::SERIES_INSTANCE_UID,
        Vr::Ui,
        b"1.2.3.1\0",
        encoding,
    );
    put(&mut out, Tag::ROWS, Vr::Us, &us(512), encoding);
    put(&mut out, Tag::COLUMNS, Vr::Us, &us(256), encoding);
    out
}

/// [`object`] with native pixel data of so many bytes.
pub fn object_with_pixels(encoding: Encoding, bytes: usize) -> Vec<u8> {
    let mut out = object(encoding);
    put(
        &mut out,
        Tag::PIXEL_DATA,
        Vr::Ow,
        &vec![0x5A; bytes],
        encoding,
    );
    out
}
