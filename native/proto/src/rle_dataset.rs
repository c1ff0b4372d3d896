//! A data set with native pixel data into the RLE transfer syntax (PS3.5 section A.4.2): bytes to bytes.
//!
//! Only what is plain is done here. A data set that is anything else, or wrong, is left to the codecs, which
//! know all cases and have the words for what is wrong.

use std::ops::Range;

use crate::convert::convert_elements;
use crate::element::{Elements, write_head};
use crate::pixel_data::{Edit, edit};
use crate::rle::{FrameLayout, SEGMENTS_MAX, encode};
use crate::tag::Tag;
use crate::transfer_syntax::{Encoding, TransferSyntax};
use crate::vr::Vr;

/// Bytes of an item's or a delimiter's header.
const ITEM_HEAD_BYTES: usize = 8;
/// LIMIT: frames smaller than their own heads; more are left to a codec, whose memory is limited.
const TINY_FRAMES_MAX: usize = 1024;
/// What stands before the segments of a frame, in its item and in the table.
const FRAME_HEAD_BYTES: usize = 64 + ITEM_HEAD_BYTES + 4;

/// What the elements say about the pixels.
struct Image {
    samples: u16,
    by_plane: u16,
    frames: usize,
    rows: u16,
    columns: u16,
    bits_allocated: u16,
    bits_stored: u16,
    high_bit: u16,
    subsampled: bool,
}

/// Puts the data set in the RLE transfer syntax into an empty buffer; `None`: not one for this encoder, and what is
/// in the buffer means nothing.
pub fn to_rle(dataset: &[u8], syntax: TransferSyntax, out: &mut Vec<u8>) -> Option<()> {
    if !syntax.is_uncompressed() || syntax.is_big_endian() {
        return None;
    }
    let (image, pixels) = describe(dataset, syntax.encoding())?;
    let layout = image.layout()?;
    let native = dataset.get(pixels.value.clone())?;
    let (frame_bytes, frames) = (layout.frame_bytes(), image.frames);
    let grows = frame_bytes < FRAME_HEAD_BYTES && frames > TINY_FRAMES_MAX;
    if grows || native.len() < frame_bytes.checked_mul(frames)? {
        return None;
    }
    let explicit = |elements: &[u8]| {
        if syntax.is_explicit() {
            return Some(elements.to_vec());
        }
        convert_elements(elements, syntax.encoding(), Encoding::EXPLICIT_LE).ok()
    };
    let head = explicit(dataset.get(..pixels.element.start)?)?;
    let tail = explicit(dataset.get(pixels.element.end..)?)?;
    let mut edits: Vec<Edit> = vec![
        (Tag::EXTENDED_OFFSET_TABLE, Vr::Ov, None),
        (Tag::EXTENDED_OFFSET_TABLE_LENGTHS, Vr::Ov, None),
    ];
    if image.samples > 1 && image.by_plane == 1 {
        edits.push((Tag::PLANAR_CONFIGURATION, Vr::Us, Some(vec![0, 0])));
    }
    let head = edit(&head, &edits).ok()?;
    // Rows without runs grow by their heads.
    out.reserve(head.len() + native.len() + native.len() / 64 + tail.len() + 1024);
    out.extend_from_slice(&head);
    write_frames(native, layout, frames, out)?;
    out.extend_from_slice(&tail);
    Some(())
}

struct Pixels {
    element: Range<usize>,
    value: Range<usize>,
}

fn describe(dataset: &[u8], encoding: Encoding) -> Option<(Image, Pixels)> {
    let mut image = Image {
        samples: 1,
        by_plane: 0,
        frames: 1,
        rows: 0,
        columns: 0,
        bits_allocated: 0,
        bits_stored: 0,
        high_bit: 0,
        subsampled: false,
    };
    for element in Elements::new(dataset, encoding) {
        let element = element.ok()?;
        let value = element.value;
        let number = || value.first_chunk().map(|bytes| u16::from_le_bytes(*bytes));
        match element.head.tag {
            Tag::SAMPLES_PER_PIXEL => image.samples = number()?,
            Tag::PHOTOMETRIC_INTERPRETATION => {
                image.subsampled = value.trim_ascii() == b"YBR_FULL_422";
            }
            Tag::PLANAR_CONFIGURATION => image.by_plane = number()?,
            Tag::NUMBER_OF_FRAMES => {
                image.frames = std::str::from_utf8(value)
                    .ok()?
                    .trim_matches([' ', '\0'])
                    .parse()
                    .ok()?;
            }
            Tag::ROWS => image.rows = number()?,
            Tag::COLUMNS => image.columns = number()?,
            Tag::BITS_ALLOCATED => image.bits_allocated = number()?,
            Tag::BITS_STORED => image.bits_stored = number()?,
            Tag::HIGH_BIT => image.high_bit = number()?,
            Tag::PIXEL_DATA if !element.head.is_undefined() => {
                let begin = element.offset + usize::from(element.head.bytes);
                let value = begin..begin + value.len();
                let element = element.offset..value.end;
                return Some((image, Pixels { element, value }));
            }
            tag if tag.is_pixel_data() => return None,
            _ => {}
        }
    }
    None
}

impl Image {
    fn layout(&self) -> Option<FrameLayout> {
        let sample_bytes = match self.bits_allocated {
            8 => 1,
            16 => 2,
            32 => 4,
            _ => return None,
        };
        let stored = 1..=self.bits_allocated;
        let plain = matches!(self.samples, 1 | 3)
            && !self.subsampled
            && self.by_plane <= 1
            && self.frames > 0
            && self.rows > 0
            && self.columns > 0
            && stored.contains(&self.bits_stored)
            && (self.bits_stored - 1..self.bits_allocated).contains(&self.high_bit);
        let layout = FrameLayout {
            rows: usize::from(self.rows),
            columns: usize::from(self.columns),
            samples: usize::from(self.samples),
            sample_bytes,
            by_plane: self.samples > 1 && self.by_plane == 1,
        };
        (plain && layout.samples * sample_bytes <= SEGMENTS_MAX).then_some(layout)
    }
}

/// The Pixel Data element: a basic offset table, then a fragment for each frame.
fn write_frames(
    native: &[u8],
    layout: FrameLayout,
    frames: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    let explicit = Encoding::EXPLICIT_LE;
    write_head(out, Tag::PIXEL_DATA, Vr::Ob, u32::MAX, explicit);
    let table_bytes = u32::try_from(frames.checked_mul(4)?).ok()?;
    write_head(out, Tag::ITEM, Vr::Un, table_bytes, explicit);
    let table = out.len();
    let first = table + table_bytes as usize;
    out.resize(first, 0);
    for (number, frame) in native
        .chunks_exact(layout.frame_bytes())
        .take(frames)
        .enumerate()
    {
        let item = out.len();
        // More than an offset can say is for the extended offset table, which the codecs write.
        let offset = u32::try_from(item - first).ok()?;
        out.get_mut(table + 4 * number..)?
            .first_chunk_mut()
            .map(|place| *place = offset.to_le_bytes())?;
        write_head(out, Tag::ITEM, Vr::Un, 0, explicit);
        encode(frame, layout, out).then_some(())?;
        let length = u32::try_from(out.len() - item - ITEM_HEAD_BYTES).ok()?;
        out.get_mut(item + 4..)?
            .first_chunk_mut()
            .map(|place| *place = length.to_le_bytes())?;
    }
    write_head(out, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, explicit);
    Some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use super::*;
    use crate::pixel_data::find;
    use crate::testdata::put;

    const PADDING: Tag = Tag::new(0xFFFC, 0xFFFC);

    fn image(encoding: Encoding, frames: &[u8], planar: u8, pixels: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut us = |tag, value: u8| put(&mut out, tag, Vr::Us, &[value, 0], encoding);
        us(Tag::new(0x0008, 0), 9);
        us(Tag::SAMPLES_PER_PIXEL, 3);
        us(Tag::PLANAR_CONFIGURATION, planar);
        us(Tag::ROWS, 1);
        us(Tag::COLUMNS, 4);
        us(Tag::BITS_ALLOCATED, 8);
        us(Tag::BITS_STORED, 8);
        us(Tag::HIGH_BIT, 7);
        put(&mut out, Tag::NUMBER_OF_FRAMES, Vr::Is, frames, encoding);
        put(&mut out, Tag::PIXEL_DATA, Vr::Ow, pixels, encoding);
        put(&mut out, PADDING, Vr::Ob, &[0, 0], encoding);
        out
    }

    fn streams(dataset: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let found = find(dataset).unwrap().unwrap();
        let items = found.items.unwrap();
        assert_eq!(
            dataset[found.element.end..],
            *b"\xfc\xff\xfc\xffOB\0\0\x02\0\0\0\0\0"
        );
        let mut bytes = items.into_iter().map(|item| dataset[item].to_vec());
        (bytes.next().unwrap(), bytes.collect())
    }

    fn rle_of(dataset: &[u8], syntax: TransferSyntax) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        to_rle(dataset, syntax, &mut out).map(|()| out)
    }

    #[test]
    fn frames_become_fragments_behind_their_offsets() {
        let pixels: Vec<u8> = (0..24).collect();
        for syntax in [
            TransferSyntax::ImplicitLittleEndian,
            TransferSyntax::ExplicitLittleEndian,
        ] {
            let encoding = syntax.encoding();
            let (by_pixel, by_plane) = (
                image(encoding, b"2 ", 0, &pixels),
                image(encoding, b"2 ", 1, &pixels),
            );
            let coded = rle_of(&by_pixel, syntax).unwrap();
            let (table, frames) = streams(&coded);
            let second = 8 + frames[0].len() as u32;
            assert_eq!(table, [[0; 4], second.to_le_bytes()].concat());
            assert_eq!(frames.len(), 2);
            assert_eq!(frames[1][64..70], [3, 12, 15, 18, 21, 0]);
            let coded = rle_of(&by_plane, syntax).unwrap();
            assert_eq!(streams(&coded).1[1][64..70], [3, 12, 13, 14, 15, 0]);
            // Group lengths go, and the planes are by pixel when decoded.
            let planar = [0x28, 0, 6, 0, b'U', b'S', 2, 0, 0, 0];
            assert_eq!(coded[..10], [0x28, 0, 2, 0, b'U', b'S', 2, 0, 3, 0]);
            assert_eq!(coded[10..20], planar);
        }
    }

    #[test]
    fn what_is_not_plain_is_left() {
        let syntax = TransferSyntax::ExplicitLittleEndian;
        let encoding = syntax.encoding();
        let whole = image(encoding, b"1 ", 0, &[1; 12]);
        assert!(rle_of(&whole, syntax).is_some());
        assert!(rle_of(&whole, TransferSyntax::ExplicitBigEndian).is_none());
        assert!(rle_of(&whole[..whole.len() - 16], syntax).is_none());
        assert!(rle_of(&image(encoding, b"2 ", 0, &[1; 12]), syntax).is_none());
        assert!(rle_of(&image(encoding, b"0 ", 0, &[1; 12]), syntax).is_none());
        assert!(rle_of(&image(encoding, b"1 ", 2, &[1; 12]), syntax).is_none());
        let tiny = |frames: usize| {
            let text = format!("{frames} ");
            image(encoding, text.as_bytes(), 0, &vec![1; 12 * frames])
        };
        assert!(rle_of(&tiny(TINY_FRAMES_MAX), syntax).is_some());
        assert!(rle_of(&tiny(TINY_FRAMES_MAX + 1), syntax).is_none());
        let done = rle_of(&whole, syntax).unwrap();
        assert!(rle_of(&done, syntax).is_none());
    }
}
