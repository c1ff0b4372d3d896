//! Query keys as people write them, to and from identifiers: `PatientName=A*` or `0010,0010=A*`.

use pyserver_proto::charset::CharacterSet;
use pyserver_proto::dataset::{Dataset, Element, Value};
use pyserver_proto::dict;
use pyserver_proto::tag::Tag;
use pyserver_proto::vr::Vr;

/// A key and its values; several values of one key are a list (UIDs) or a multiple value.
pub type Pair = (String, Vec<String>);

/// A key that names no element.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no DICOM keyword (PatientName) and no tag (0010,0010)")]
pub struct UnknownKey(pub String);

/// An identifier of a level with these keys. Values are sent as UTF-8 when they need it.
pub fn build(level: &str, keys: &[Pair]) -> Result<Dataset, UnknownKey> {
    let mut identifier = Dataset::new();
    for (key, values) in keys {
        let tag = tag_of(key)?;
        let text = values.join("\\");
        match dict::vr(tag) {
            Vr::Sq => identifier.put_items(tag, Vec::new()),
            Vr::Us => match text.trim().parse() {
                Ok(number) => identifier.put_u16(tag, number),
                Err(_) => identifier.put_bytes(tag, Vr::Us, b""),
            },
            _ => identifier.put_text(tag, &text),
        }
        if !text.is_ascii() {
            identifier.put_text(Tag::SPECIFIC_CHARACTER_SET, "ISO_IR 192");
        }
    }
    identifier.put_text(Tag::QUERY_RETRIEVE_LEVEL, &level.to_ascii_uppercase());
    Ok(identifier)
}

/// The keys and values of an answer, decoded with its own character set.
pub fn pairs(identifier: &Dataset) -> Vec<Pair> {
    let charset = identifier
        .bytes(Tag::SPECIFIC_CHARACTER_SET)
        .unwrap_or_default();
    let charset = CharacterSet::parse(charset);
    identifier
        .iter()
        .map(|element| (name_of(element.tag), values(element, &charset)))
        .collect()
}

fn tag_of(key: &str) -> Result<Tag, UnknownKey> {
    dict::tag_by_keyword(key)
        .or_else(|| key.parse().ok())
        .ok_or_else(|| UnknownKey(key.to_owned()))
}

fn name_of(tag: Tag) -> String {
    match dict::keyword(tag) {
        Some(keyword) if !keyword.is_empty() => keyword.to_owned(),
        _ => tag.to_string(),
    }
}

fn values(element: &Element, charset: &CharacterSet) -> Vec<String> {
    match (&element.value, element.vr) {
        (Value::Items(_), _) => Vec::new(),
        (Value::Bytes(bytes), Vr::Us) => bytes
            .chunks_exact(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]).to_string())
            .collect(),
        (Value::Bytes(_), vr) => {
            let text = charset.decode(element.bytes(), vr);
            match vr {
                Vr::Lt | Vr::St | Vr::Ut => vec![text.into_owned()],
                _ => text.split('\\').map(str::to_owned).collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_way_through_an_identifier() {
        let keys = vec![
            ("PatientName".to_owned(), vec!["Müller^Hans".to_owned()]),
            (
                "0020,000D".to_owned(),
                vec!["1.2".to_owned(), "1.3".to_owned()],
            ),
        ];
        let identifier = build("study", &keys).unwrap();
        let back = pairs(&identifier);
        let value = |key: &str| back.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        assert_eq!(value("QueryRetrieveLevel"), Some(vec!["STUDY".to_owned()]));
        assert_eq!(
            value("StudyInstanceUID"),
            Some(vec!["1.2".to_owned(), "1.3".to_owned()])
        );
        assert_eq!(value("PatientName"), Some(vec!["Müller^Hans".to_owned()]));
        assert_eq!(
            value("SpecificCharacterSet"),
            Some(vec!["ISO_IR 192".to_owned()])
        );
    }

    #[test]
    fn a_key_that_is_none_is_named() {
        let keys = [("PatientNam".to_owned(), Vec::new())];
        assert_eq!(
            build("study", &keys),
            Err(UnknownKey("PatientNam".to_owned()))
        );
    }
}
