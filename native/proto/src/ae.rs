//! Application entity titles (PS3.5, VR AE): at most sixteen characters, padded with spaces on the
//! wire.
//!
//! A title read from a peer is made harmless here once: anything that is not a printable ASCII
//! character, and the backslash, becomes `_`, so that a title may stand in a log line or a
//! comparison. `is_valid` remembers whether that was necessary. Whether a title is *known* is the
//! server's question, not this module's.

use std::fmt;

/// Longest title (PS3.5 6.2) and width of the two fields in an A-ASSOCIATE PDU.
pub const AE_BYTES_MAX: usize = 16;

/// One AE title without its padding; always printable ASCII.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AeTitle {
    bytes: [u8; AE_BYTES_MAX],
    len: u8,
    /// True if the wire held bytes that no title may have.
    altered: bool,
}

/// Why a text is not an AE title.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AeTitleError {
    /// Nothing is left without the padding.
    #[error("an AE title needs at least one character other than a space")]
    Empty,
    /// More than sixteen characters.
    #[error("an AE title has at most {AE_BYTES_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// A control character, a backslash or something outside ASCII.
    #[error("an AE title is made of printable ASCII characters without backslash")]
    BadCharacter,
}

impl AeTitle {
    /// A title from text; leading and trailing spaces do not count.
    pub fn new(text: &str) -> Result<Self, AeTitleError> {
        Self::from_value(text.as_bytes())
    }

    /// A title from an attribute value (a command set's move destination), which may have any
    /// length.
    pub fn from_value(value: &[u8]) -> Result<Self, AeTitleError> {
        let text = trim(value);
        if text.is_empty() {
            return Err(AeTitleError::Empty);
        }
        if text.len() > AE_BYTES_MAX {
            return Err(AeTitleError::TooLong(text.len()));
        }
        let title = Self::from_wire(text);
        if title.altered {
            Err(AeTitleError::BadCharacter)
        } else {
            Ok(title)
        }
    }

    /// A title from a sixteen byte field; never fails, see `is_valid`. Bytes past the sixteenth are
    /// dropped.
    pub fn from_wire(field: &[u8]) -> Self {
        let mut title = Self {
            bytes: [b' '; AE_BYTES_MAX],
            len: 0,
            altered: false,
        };
        let text = trim(field);
        title.altered = text.len() > AE_BYTES_MAX;
        for (to, &from) in title.bytes.iter_mut().zip(text) {
            let fits = (0x20..0x7f).contains(&from) && from != b'\\';
            title.altered |= !fits;
            *to = if fits { from } else { b'_' };
            title.len += 1;
        }
        title
    }

    /// The title without padding; empty if the peer sent only padding.
    pub fn as_str(&self) -> &str {
        let used = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        std::str::from_utf8(used).unwrap_or_default()
    }

    /// The title as an A-ASSOCIATE field, padded with spaces.
    pub fn to_wire(self) -> [u8; AE_BYTES_MAX] {
        self.bytes
    }

    /// False for a title that is empty or was made harmless.
    pub fn is_valid(&self) -> bool {
        self.len > 0 && !self.altered
    }
}

/// Removes the padding that the field has seen: spaces on both sides, NUL from careless writers.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | 0, rest @ ..] | [rest @ .., b' ' | 0] = value {
        value = rest;
    }
    value
}

impl fmt::Display for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AeTitle({:?})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_removed_and_put_back() {
        let title = AeTitle::from_wire(b"  STORE SCP\0\0\0\0\0");
        assert_eq!(title.as_str(), "STORE SCP");
        assert_eq!(&title.to_wire(), b"STORE SCP       ");
        assert!(title.is_valid());
    }

    #[test]
    fn hostile_titles_are_harmless() {
        for (field, shown) in [
            (&[b' '; 16][..], ""),
            (&[0; 16], ""),
            (b"A\\B\n\t\x1b[31m      ", "A_B___[31m"),
            (&[0xff; 16], "________________"),
            (b"\x1b]0;x\x07\r\nFAKE LO", "_]0;x___FAKE LO"),
        ] {
            let title = AeTitle::from_wire(field);
            assert_eq!(title.as_str(), shown);
            assert!(!title.is_valid());
        }
    }

    #[test]
    fn values_are_refused_rather_than_altered() {
        assert_eq!(AeTitle::new("  "), Err(AeTitleError::Empty));
        assert_eq!(
            AeTitle::from_value(&[b'A'; 1000]),
            Err(AeTitleError::TooLong(1000))
        );
        assert_eq!(AeTitle::new("A\\B"), Err(AeTitleError::BadCharacter));
        assert_eq!(
            AeTitle::new("PACS ").map(|t| t.as_str().to_owned()),
            Ok("PACS".to_owned())
        );
    }
}
