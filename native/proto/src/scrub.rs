//! `scrub`: removes elements by VR, group, tag or privacy, or keeps only those (manual, section 7.5).
//!
//! The list looks at top-level elements, as in Conquest; a kept sequence is kept whole.

use crate::dict;
use crate::element::Elements;
use crate::instance::{EditError, Instance};
use crate::tag::Tag;
use crate::vr::Vr;

/// One word of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Private,
    Vr(Vr),
    Group(u16),
    Element(Tag),
}

/// What to remove, or what to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrub {
    keep: bool,
    words: Vec<Word>,
}

/// The list is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScrubError {
    /// Neither `+` nor `-` in front.
    #[error("scrub is written -LIST to remove or +LIST to keep")]
    Sign,
    /// A word that is neither.
    #[error("'{0}' is no VR, group (gggg), element (ggggeeee) or Private")]
    Word(String),
}

impl std::str::FromStr for Scrub {
    type Err = ScrubError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let keep = match text.as_bytes().first() {
            Some(b'+') => true,
            Some(b'-') => false,
            _ => return Err(ScrubError::Sign),
        };
        let list = text.get(1..).unwrap_or_default();
        let words: Vec<Word> = list.split(',').map(word).collect::<Result<_, _>>()?;
        Ok(Self { keep, words })
    }
}

fn word(text: &str) -> Result<Word, ScrubError> {
    let text = text.trim();
    let fail = || ScrubError::Word(text.to_owned());
    if text.eq_ignore_ascii_case("private") {
        return Ok(Word::Private);
    }
    if let &[a, b] = text.to_ascii_uppercase().as_bytes() {
        return Vr::from_bytes([a, b]).map(Word::Vr).ok_or_else(fail);
    }
    let number = u32::from_str_radix(text, 16).map_err(|_| fail())?;
    match text.len() {
        4 => Ok(Word::Group(number as u16)),
        8 => Ok(Word::Element(Tag(number))),
        _ => Err(fail()),
    }
}

impl Scrub {
    /// Whether an element goes. A private element has no VR that the dictionary knows: a list of VRs to
    /// remove takes it along, a list of VRs to keep does not keep it.
    fn takes(&self, tag: Tag, vr: Vr) -> bool {
        let named = self.words.iter().any(|word| match *word {
            Word::Private => tag.is_private(),
            Word::Vr(wanted) => {
                if tag.is_private() {
                    !self.keep
                } else {
                    vr == wanted || dict::vr(tag) == wanted
                }
            }
            Word::Group(group) => tag.group() == group,
            Word::Element(element) => tag == element,
        });
        named != self.keep
    }
}

impl Instance {
    /// Removes what the list says.
    pub fn scrub(&mut self, scrub: &Scrub) -> Result<(), EditError> {
        let header = self.header();
        let bytes = header.bytes();
        let mut out = Vec::with_capacity(bytes.len());
        for element in Elements::new(bytes, header.encoding()) {
            let element = element?;
            if !scrub.takes(element.head.tag, element.head.vr) {
                let end = element.offset + crate::edit_path::whole_bytes(&element);
                out.extend_from_slice(bytes.get(element.offset..end).unwrap_or_default());
            }
        }
        self.drop_bulk(|tag| scrub.takes(tag, dict::vr(tag)));
        self.replace_header(&out)
    }
}
