//! Values as text: what the index, file names and query matching compare.

use std::borrow::Cow;
use std::fmt::Display;

use crate::header::trim;
use crate::tag::Tag;
use crate::vr::Vr;

/// A value as bytes of text: text VRs without trailing padding and otherwise untouched, numbers in decimal
/// joined by `\`, AT as `gggg,eeee`. `None` for sequences and for values that are bytes.
pub fn value_text(vr: Vr, value: &[u8], big_endian: bool) -> Option<Cow<'_, [u8]>> {
    if vr.is_text() || vr == Vr::Un {
        return Some(Cow::Borrowed(trim(value)));
    }
    let text = match vr {
        Vr::Us => numbers(value, |b| {
            if big_endian {
                u16::from_be_bytes(b)
            } else {
                u16::from_le_bytes(b)
            }
        }),
        Vr::Ss => numbers(value, |b| {
            if big_endian {
                i16::from_be_bytes(b)
            } else {
                i16::from_le_bytes(b)
            }
        }),
        Vr::Ul => numbers(value, |b| {
            if big_endian {
                u32::from_be_bytes(b)
            } else {
                u32::from_le_bytes(b)
            }
        }),
        Vr::Sl => numbers(value, |b| {
            if big_endian {
                i32::from_be_bytes(b)
            } else {
                i32::from_le_bytes(b)
            }
        }),
        Vr::Uv => numbers(value, |b| {
            if big_endian {
                u64::from_be_bytes(b)
            } else {
                u64::from_le_bytes(b)
            }
        }),
        Vr::Sv => numbers(value, |b| {
            if big_endian {
                i64::from_be_bytes(b)
            } else {
                i64::from_le_bytes(b)
            }
        }),
        Vr::Fl => numbers(value, |b| {
            if big_endian {
                f32::from_be_bytes(b)
            } else {
                f32::from_le_bytes(b)
            }
        }),
        Vr::Fd => numbers(value, |b| {
            if big_endian {
                f64::from_be_bytes(b)
            } else {
                f64::from_le_bytes(b)
            }
        }),
        Vr::At => numbers(value, |[a, b, c, d]| {
            if big_endian {
                Tag::new(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            } else {
                Tag::new(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
            }
        }),
        _ => return None,
    };
    Some(Cow::Owned(text.into_bytes()))
}

fn numbers<const N: usize, T: Display>(value: &[u8], read: impl Fn([u8; N]) -> T) -> String {
    let mut text = String::new();
    for chunk in value.chunks_exact(N) {
        let Some(chunk) = chunk.first_chunk::<N>() else {
            continue;
        };
        if !text.is_empty() {
            text.push('\\');
        }
        text.push_str(&read(*chunk).to_string());
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use super::*;

    #[test]
    fn numbers_become_text() {
        assert_eq!(
            value_text(Vr::Us, &[0, 2, 1, 0], false).unwrap(),
            b"512\\1".as_slice()
        );
        assert_eq!(
            value_text(Vr::Us, &[2, 0], true).unwrap(),
            b"512".as_slice()
        );
        assert_eq!(
            value_text(Vr::Ss, &[0xFF, 0xFF], false).unwrap(),
            b"-1".as_slice()
        );
        assert_eq!(
            value_text(Vr::At, &[0x08, 0, 0x18, 0], false).unwrap(),
            b"0008,0018".as_slice()
        );
        assert_eq!(value_text(Vr::Us, &[1], false).unwrap(), b"".as_slice());
        assert_eq!(value_text(Vr::Lo, b"ab ", false).unwrap(), b"ab".as_slice());
        assert_eq!(value_text(Vr::Sq, b"", false), None);
    }
}
