//! Specific Character Set (PS3.5 section 6.1, PS3.3 section C.12.1.1.2).

use std::borrow::Cow;

use crate::vr::Vr;

/// The character sets of a data set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CharacterSet {
    /// The value of (0008,0005), trimmed.
    name: Vec<u8>,
}

impl CharacterSet {
    /// Reads a value of Specific Character Set; never fails, unknown names decode as Latin-1.
    pub fn parse(value: &[u8]) -> Self {
        Self {
            name: crate::header::trim(value).to_vec(),
        }
    }

    /// The value as it is written into (0008,0005).
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Bytes to text. Never fails: what cannot be decoded becomes U+FFFD.
    pub fn decode<'a>(&self, bytes: &'a [u8], vr: Vr) -> Cow<'a, str> {
        if bytes.is_ascii() || !vr.uses_charset() || self.name == b"ISO_IR 192" {
            return String::from_utf8_lossy(bytes);
        }
        encoding_rs::mem::decode_latin1(bytes)
    }
}
