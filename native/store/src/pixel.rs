//! Where an object's pixel data is in its stored data set, packed for the image's row.
//!
//! ```text
//! kind u8: 0 none, 1 native, 2 encapsulated, 3 encapsulated with more items than are listed
//! tag element u16 (of group 7FE0), value offset varint; native: length varint
//! encapsulated: number of items varint, then per listed item its length varint (items are contiguous)
//! ```
//! Offsets count from the start of the stored data set. An empty record says that nothing is known (the data
//! set was converted on the way in, or is deflated).

use pyserver_proto::scan::PixelInfo;

/// Items listed. LIMIT: three bytes each in every image row; readers walk the file beyond them.
const ITEMS_LISTED_MAX: usize = 256;

/// Packs what the scanner found; `shift` is how far edits moved the pixel data.
pub(crate) fn pack(pixel: Option<&PixelInfo>, shift: i64) -> Vec<u8> {
    let Some(pixel) = pixel else {
        return vec![0];
    };
    let value_offset = pixel.value_offset.saturating_add_signed(shift);
    let mut out = Vec::with_capacity(16);
    let listed = pixel.fragments.len().min(ITEMS_LISTED_MAX);
    out.push(match pixel.length {
        Some(_) => 1,
        None if pixel.fragment_count as usize > listed => 3,
        None => 2,
    });
    out.extend_from_slice(&pixel.tag.element().to_be_bytes());
    put_varint(&mut out, value_offset);
    if let Some(length) = pixel.length {
        put_varint(&mut out, length);
        return out;
    }
    put_varint(&mut out, pixel.fragment_count);
    for (_, length) in pixel.fragments.iter().take(listed) {
        put_varint(&mut out, u64::from(*length));
    }
    out
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyserver_proto::tag::Tag;
    use pyserver_proto::vr::Vr;

    fn info(length: Option<u64>, fragments: Vec<(u64, u32)>) -> PixelInfo {
        PixelInfo {
            tag: Tag::PIXEL_DATA,
            vr: Vr::Ow,
            element_offset: 988,
            value_offset: 1000,
            length,
            end_offset: 2000,
            fragment_count: fragments.len() as u64,
            fragments,
            header_position: 988,
        }
    }

    #[test]
    fn records_are_small_and_bounded() {
        assert_eq!(pack(None, 0), [0]);
        let native = pack(Some(&info(Some(300), Vec::new())), 24);
        assert_eq!(native, [1, 0, 0x10, 0x80, 0x08, 0xAC, 0x02]);
        let few = pack(Some(&info(None, vec![(1008, 0), (1016, 5)])), 0);
        assert_eq!(few, [2, 0, 0x10, 0xE8, 0x07, 2, 0, 5]);
        let many = pack(Some(&info(None, vec![(0, 1); 1000])), 0);
        assert_eq!(many.first(), Some(&3));
        assert!(many.len() < 300);
    }
}
