//! Unique identifiers (PS3.5 chapter 9): small inline strings of at most 64 bytes.
//!
//! A `Uid` is text that fits, not necessarily a legal identifier: peers send all kinds of things and an
//! archive may be told to take them. Whether it is legal is asked with [`Uid::is_valid`]; leading zeros in
//! a component are the one fault that is reported apart, since it is common and harmless.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Longest identifier the standard allows.
pub const UID_BYTES_MAX: usize = 64;

/// Our implementation class UID, sent on every association and written into every file.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.190075158810436368428153786673937976918";
/// Our implementation version name, at most 16 characters.
pub const IMPLEMENTATION_VERSION_NAME: &str = "PYSERVER_010";

/// The DICOM application context name (PS3.7 annex A).
pub const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
/// Verification SOP class.
pub const VERIFICATION: &str = "1.2.840.10008.1.1";
/// Storage Commitment Push Model SOP class.
pub const STORAGE_COMMITMENT: &str = "1.2.840.10008.1.20.1";
/// Patient Root Query/Retrieve, FIND.
pub const PATIENT_ROOT_FIND: &str = "1.2.840.10008.5.1.4.1.2.1.1";
/// Patient Root Query/Retrieve, MOVE.
pub const PATIENT_ROOT_MOVE: &str = "1.2.840.10008.5.1.4.1.2.1.2";
/// Patient Root Query/Retrieve, GET.
pub const PATIENT_ROOT_GET: &str = "1.2.840.10008.5.1.4.1.2.1.3";
/// Study Root Query/Retrieve, FIND.
pub const STUDY_ROOT_FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
/// Study Root Query/Retrieve, MOVE.
pub const STUDY_ROOT_MOVE: &str = "1.2.840.10008.5.1.4.1.2.2.2";
/// Study Root Query/Retrieve, GET.
pub const STUDY_ROOT_GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";
/// Patient/Study Only Query/Retrieve, FIND (retired, still in use).
pub const PATIENT_STUDY_ONLY_FIND: &str = "1.2.840.10008.5.1.4.1.2.3.1";
/// Patient/Study Only Query/Retrieve, MOVE (retired, still in use).
pub const PATIENT_STUDY_ONLY_MOVE: &str = "1.2.840.10008.5.1.4.1.2.3.2";
/// Patient/Study Only Query/Retrieve, GET (retired, still in use).
pub const PATIENT_STUDY_ONLY_GET: &str = "1.2.840.10008.5.1.4.1.2.3.3";
/// Modality Worklist, FIND.
pub const MODALITY_WORKLIST_FIND: &str = "1.2.840.10008.5.1.4.31";

/// An identifier of at most 64 bytes, without trailing padding, copied by value.
#[derive(Clone, Copy)]
pub struct Uid {
    length: u8,
    bytes: [u8; UID_BYTES_MAX],
}

/// The value cannot be held: longer than 64 bytes, or not printable ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UidError {
    /// More than 64 bytes.
    #[error("a UID has at most 64 characters, this one has {0}")]
    TooLong(usize),
    /// Control characters or bytes beyond ASCII.
    #[error("a UID holds digits and periods only")]
    NotText,
}

impl Uid {
    /// The identifier without a character.
    pub const EMPTY: Self = Self {
        length: 0,
        bytes: [0; UID_BYTES_MAX],
    };

    /// Takes a value as it stands in an element: trailing NUL and space padding goes, all else stays.
    pub fn from_value(value: &[u8]) -> Result<Self, UidError> {
        let end = value
            .iter()
            .rposition(|&b| b != 0 && b != b' ')
            .map_or(0, |last| last + 1);
        let value = value.get(..end).unwrap_or_default();
        if value.len() > UID_BYTES_MAX {
            return Err(UidError::TooLong(value.len()));
        }
        if !value.iter().all(|b| (0x20..0x7F).contains(b)) {
            return Err(UidError::NotText);
        }
        let mut bytes = [0; UID_BYTES_MAX];
        for (to, from) in bytes.iter_mut().zip(value) {
            *to = *from;
        }
        Ok(Self {
            length: value.len() as u8,
            bytes,
        })
    }

    /// A compile-time constant; fails to compile when it does not fit.
    pub const fn from_static(text: &'static str) -> Self {
        let source = text.as_bytes();
        assert!(
            source.len() <= UID_BYTES_MAX,
            "a UID has at most 64 characters"
        );
        let mut bytes = [0; UID_BYTES_MAX];
        let mut i = 0;
        while i < source.len() {
            assert!(source[i] >= 0x20 && source[i] < 0x7F, "a UID is ASCII");
            bytes[i] = source[i];
            i += 1;
        }
        Self {
            length: source.len() as u8,
            bytes,
        }
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The identifier as bytes, without padding.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// Number of characters.
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether there is no character at all.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether it is a legal identifier, leading zeros in components tolerated.
    pub fn is_valid(&self) -> bool {
        is_valid_uid(self.as_bytes())
    }

    /// Whether a component starts with a superfluous zero (PS3.5 section 9.1 forbids it).
    pub fn has_leading_zero(&self) -> bool {
        self.as_bytes()
            .split(|&b| b == b'.')
            .any(|part| part.len() > 1 && part.starts_with(b"0"))
    }
}

/// Whether these bytes are a legal identifier: 1 to 64 characters, non-empty numeric components joined by
/// periods. Leading zeros are tolerated; see [`Uid::has_leading_zero`].
pub fn is_valid_uid(value: &[u8]) -> bool {
    (1..=UID_BYTES_MAX).contains(&value.len())
        && value
            .split(|&b| b == b'.')
            .all(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit))
}

impl AsRef<str> for Uid {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl TryFrom<&str> for Uid {
    type Error = UidError;

    fn try_from(text: &str) -> Result<Self, UidError> {
        Self::from_value(text.as_bytes())
    }
}

impl TryFrom<&[u8]> for Uid {
    type Error = UidError;

    fn try_from(value: &[u8]) -> Result<Self, UidError> {
        Self::from_value(value)
    }
}

impl std::str::FromStr for Uid {
    type Err = UidError;

    fn from_str(text: &str) -> Result<Self, UidError> {
        Self::from_value(text.as_bytes())
    }
}

impl Default for Uid {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl PartialEq for Uid {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Uid {}

impl PartialEq<str> for Uid {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Uid {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialOrd for Uid {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Uid {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

// Hashes as `str` does, so that a map keyed by `Uid` can be asked with a `&str`.
impl Hash for Uid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Uid {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uid({})", self.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padding_goes_and_the_rest_stays() {
        assert_eq!(Uid::from_value(b"1.2.3\0").unwrap(), "1.2.3");
        assert_eq!(Uid::from_value(b"1.2.3 \0 ").unwrap(), "1.2.3");
        assert_eq!(Uid::from_value(b" 1.2").unwrap(), " 1.2");
        assert_eq!(Uid::from_value(b"\0\0").unwrap(), Uid::EMPTY);
        assert_eq!(Uid::from_value(b"1.2\x003"), Err(UidError::NotText));
        assert_eq!(Uid::from_value(&[b'1'; 65]), Err(UidError::TooLong(65)));
        assert!(Uid::from_value(&[b'1'; 64]).unwrap().is_valid());
    }

    #[test]
    fn validity_and_leading_zeros() {
        let table: [(&str, bool, bool); 9] = [
            ("1.2.840.10008.1.1", true, false),
            ("1.02.3", true, true),
            ("1.0.3", true, false),
            ("", false, false),
            ("1..2", false, false),
            (".1", false, false),
            ("1.2.", false, false),
            ("1.a", false, false),
            ("../x", false, false),
        ];
        for (text, valid, zero) in table {
            let uid: Uid = text.parse().unwrap();
            assert_eq!(
                (uid.is_valid(), uid.has_leading_zero()),
                (valid, zero),
                "{text}"
            );
        }
    }

    #[test]
    fn our_own_are_legal() {
        assert!(Uid::from_static(IMPLEMENTATION_CLASS_UID).is_valid());
        assert!(IMPLEMENTATION_VERSION_NAME.len() <= 16);
    }

    proptest! {
        #[test]
        fn any_bytes(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(uid) = Uid::from_value(&value) {
                prop_assert!(value.starts_with(uid.as_bytes()));
                prop_assert_eq!(uid.as_str().parse::<Uid>(), Ok(uid));
            }
        }
    }
}
