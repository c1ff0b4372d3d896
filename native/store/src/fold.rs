//! Folding of text for the search table, and moving text between character sets.
//!
//! Folded text only finds candidates; whether a row matches is decided on its real value. Folding goes
//! character by character, so that the fold of a start is the start of the fold.

use pyserver_proto::charset::{CharacterSet, fold_case};
use pyserver_proto::vr::Vr;

/// Whether these bytes mean the same in every character set: ASCII without escape sequences.
pub fn is_plain(value: &[u8]) -> bool {
    value.is_ascii() && !value.contains(&0x1B)
}

/// Folds case.
pub fn fold(text: &str) -> String {
    fold_case(text).into_owned()
}

/// The texts under which a name is searched: each component group without empty components at its end,
/// folded.
pub fn name_groups(name: &str) -> Vec<String> {
    let mut groups: Vec<String> = Vec::new();
    for group in name.split('=') {
        let group = fold(name_core(group));
        if !group.is_empty() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// A name or its start without empty components at its end.
pub fn name_core(name: &str) -> &str {
    name.trim_end_matches(['^', ' '])
}

/// Stored bytes as text.
pub fn decode(value: &[u8], charset: &[u8], vr: Vr) -> String {
    CharacterSet::parse(charset).decode(value, vr).into_owned()
}

/// Moves text from one character set to another; bytes that mean the same everywhere, or that the other
/// set cannot say, stay.
pub fn recode(value: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    if is_plain(value) {
        return value.to_vec();
    }
    let (from, to) = (CharacterSet::parse(from), CharacterSet::parse(to));
    let moved = from.transcode(value, Vr::Lo, &to);
    moved.map_or_else(|| value.to_vec(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_group() {
        assert_eq!(name_groups("Doe^John^^"), ["doe^john"]);
        assert_eq!(name_groups("Yamada^Tarou=山田^太郎=やまだ^たろう").len(), 3);
        assert_eq!(name_groups("=X="), ["x"]);
        assert!(name_groups(" ").is_empty());
    }
}
