//! Folding of text for the search table, and moving text between character sets.
//!
//! Folded text only finds candidates; whether a row matches is decided on its real value.

use pyserver_proto::charset::CharacterSet;
use pyserver_proto::vr::Vr;

/// Whether these bytes mean the same in every character set: ASCII without escape sequences.
pub fn is_plain(value: &[u8]) -> bool {
    value.is_ascii() && !value.contains(&0x1B)
}

/// Decodes by character set and folds case, so that one key finds all spellings.
pub fn fold(value: &[u8], charset: &[u8]) -> Vec<u8> {
    if is_plain(value) {
        return value.to_ascii_lowercase();
    }
    let text = CharacterSet::parse(charset).decode(value, Vr::Pn);
    text.to_lowercase().into_bytes()
}

/// Moves text from one character set to another; bytes that mean the same everywhere stay.
pub fn recode(value: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    if is_plain(value) || to != b"ISO_IR 192" {
        return value.to_vec();
    }
    let text = CharacterSet::parse(from).decode(value, Vr::Lo);
    text.into_owned().into_bytes()
}
