//! Changes at the end of a path: one element set or removed, the sequences around it written again.
//!
//! `0008,1110.2/0008,1155` is an element of the third item; an item number that the sequence lacks, or
//! `.*`, appends one item (manual, `set xxxx,yyyy.*/xxxx,yyyy`). What is not on the path stays byte for
//! byte, also whether lengths are defined or a delimiter ends them.

use crate::dict;
use crate::element::{Elements, Items, RawElement, UNDEFINED_LENGTH, write_head};
use crate::instance::EditError;
use crate::path::ParsePathError;
use crate::tag::Tag;
use crate::transfer_syntax::Encoding;
use crate::vr::Vr;

/// Longest path; deeper sequences exist in no object that anyone writes by hand.
const STEPS_MAX: usize = 16;

/// Which item of a sequence the next step looks into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// This one; appended when the sequence is shorter.
    At(usize),
    /// A new one at the end.
    Append,
}

/// One element of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EditStep {
    /// The element.
    pub tag: Tag,
    /// The item that the rest of the path is about.
    pub item: Item,
}

/// A path of at least one step to what is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditPath {
    steps: Vec<EditStep>,
    first: Tag,
    last: Tag,
}

impl EditPath {
    /// The steps, the top-level element first.
    pub fn steps(&self) -> &[EditStep] {
        &self.steps
    }

    /// The top-level element.
    pub fn first(&self) -> Tag {
        self.first
    }

    /// The element that is changed.
    pub fn last(&self) -> Tag {
        self.last
    }

    /// Whether the element is a top-level one.
    pub fn is_top(&self) -> bool {
        self.steps.len() == 1
    }
}

impl std::str::FromStr for EditPath {
    type Err = ParsePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_prefix('/').unwrap_or(text);
        let steps: Vec<EditStep> = text.split('/').map(parse_step).collect::<Result<_, _>>()?;
        match (steps.first(), steps.last()) {
            (Some(first), Some(last)) if steps.len() <= STEPS_MAX => Ok(Self {
                first: first.tag,
                last: last.tag,
                steps,
            }),
            _ => Err(ParsePathError),
        }
    }
}

fn parse_step(text: &str) -> Result<EditStep, ParsePathError> {
    let (name, item) = match text.split_once('.') {
        Some((name, "*")) => (name, Item::Append),
        Some((name, number)) => (name, Item::At(number.parse().map_err(|_| ParsePathError)?)),
        None => (text, Item::At(0)),
    };
    let tag = match name.parse() {
        Ok(tag) => Some(tag),
        Err(_) => dict::tag_by_keyword(name),
    };
    tag.map(|tag| EditStep { tag, item }).ok_or(ParsePathError)
}

/// The elements of one level with the change made; `None` as value removes the element.
pub(crate) fn edit_elements(
    bytes: &[u8],
    encoding: Encoding,
    steps: &[EditStep],
    value: Option<&[u8]>,
) -> Result<Vec<u8>, EditError> {
    let Some((step, rest)) = steps.split_first() else {
        return Ok(bytes.to_vec());
    };
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let mut copied = 0;
    let mut old = None;
    for element in Elements::new(bytes, encoding) {
        let element = element?;
        if element.head.tag < step.tag {
            copied = element.offset + whole_bytes(&element);
        } else if element.head.tag == step.tag {
            copied = element.offset;
            old = Some(element);
            break;
        }
    }
    out.extend_from_slice(bytes.get(..copied).unwrap_or_default());
    match (rest.is_empty(), value) {
        (true, Some(value)) => {
            let vr = old.map_or(Vr::Un, |element| element.head.vr);
            let vr = if vr == Vr::Un { dict::vr(step.tag) } else { vr };
            out.extend(encoded_element(step.tag, vr, value, encoding));
        }
        (true, None) => {}
        (false, _) => edit_sequence(&mut out, old.as_ref(), encoding, *step, rest, value)?,
    }
    let mut after = copied + old.as_ref().map_or(0, whole_bytes);
    if rest.is_empty() && old.is_some() {
        // What is replaced or removed is not to stay in an element that comes again.
        for element in Elements::new(bytes, encoding) {
            let element = element?;
            if element.head.tag == step.tag && element.offset >= after {
                out.extend_from_slice(bytes.get(after..element.offset).unwrap_or_default());
                after = element.offset + whole_bytes(&element);
            }
        }
    }
    out.extend_from_slice(bytes.get(after..).unwrap_or_default());
    Ok(out)
}

/// Writes a sequence with the change made in one of its items.
fn edit_sequence(
    out: &mut Vec<u8>,
    old: Option<&RawElement<'_>>,
    encoding: Encoding,
    step: EditStep,
    rest: &[EditStep],
    value: Option<&[u8]>,
) -> Result<(), EditError> {
    let Some(old) = old else {
        if value.is_some() {
            let content = new_item(rest, encoding, value)?;
            write_head(out, step.tag, Vr::Sq, content.len() as u32, encoding);
            out.extend(content);
        }
        return Ok(());
    };
    if !(old.head.is_sequence() || (old.head.vr == Vr::Un && old.value.is_empty()))
        || old.head.tag == Tag::PIXEL_DATA
    {
        return Err(EditError::NoSequence(step.tag));
    }
    let mut content = Vec::with_capacity(old.value.len() + 64);
    let mut done = false;
    for (number, item) in Items::new(old).enumerate() {
        let item = item?;
        if step.item == Item::At(number) {
            let edited = edit_elements(item.bytes, item.encoding, rest, value)?;
            put_item(&mut content, &edited, item.undefined, old.encoding);
            done = true;
        } else {
            put_item(&mut content, item.bytes, item.undefined, old.encoding);
        }
    }
    if !done && value.is_some() {
        content.extend(new_item(rest, old.encoding, value)?);
    }
    if old.head.is_undefined() {
        write_head(out, step.tag, old.head.vr, UNDEFINED_LENGTH, encoding);
        out.extend(content);
        write_head(out, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, encoding);
    } else {
        write_head(out, step.tag, Vr::Sq, content.len() as u32, encoding);
        out.extend(content);
    }
    Ok(())
}

fn new_item(
    rest: &[EditStep],
    encoding: Encoding,
    value: Option<&[u8]>,
) -> Result<Vec<u8>, EditError> {
    let mut out = Vec::new();
    let content = edit_elements(&[], encoding, rest, value)?;
    put_item(&mut out, &content, false, encoding);
    Ok(out)
}

/// Writes an item around its elements.
pub(crate) fn put_item(out: &mut Vec<u8>, content: &[u8], undefined: bool, encoding: Encoding) {
    let length = if undefined {
        UNDEFINED_LENGTH
    } else {
        content.len() as u32
    };
    write_head(out, Tag::ITEM, Vr::Un, length, encoding);
    out.extend_from_slice(content);
    if undefined {
        write_head(out, Tag::ITEM_DELIMITATION, Vr::Un, 0, encoding);
    }
}

/// Header, value and, where one ends it, the delimiter.
pub(crate) fn whole_bytes(element: &RawElement<'_>) -> usize {
    let delimiter = if element.head.is_undefined() { 8 } else { 0 };
    usize::from(element.head.bytes) + element.value.len() + delimiter
}

/// An element whose value is given as text: padded, or turned into numbers (as C's `atoi` reads them:
/// what is no number is 0).
pub(crate) fn encoded_element(tag: Tag, vr: Vr, text: &[u8], encoding: Encoding) -> Vec<u8> {
    let mut value = Vec::with_capacity(text.len() + 1);
    if vr.word_bytes() > 1 && !matches!(vr, Vr::Ow | Vr::Of | Vr::Od | Vr::Ol | Vr::Ov) {
        for number in text.split(|&byte| byte == b'\\').filter(|n| !n.is_empty()) {
            put_number(&mut value, vr, number, encoding.big_endian);
        }
    } else if vr != Vr::Sq {
        value.extend_from_slice(text);
        if value.len() % 2 == 1 {
            value.push(if vr.is_text() { vr.padding() } else { b' ' });
        }
    }
    let mut out = Vec::with_capacity(value.len() + 12);
    write_head(&mut out, tag, vr, value.len() as u32, encoding);
    out.extend(value);
    out
}

fn put_number(out: &mut Vec<u8>, vr: Vr, text: &[u8], big_endian: bool) {
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    let whole = || leading_integer(text);
    let start = out.len();
    match vr {
        Vr::Us | Vr::Ss => out.extend((whole() as u16).to_le_bytes()),
        Vr::Ul | Vr::Sl => out.extend((whole() as u32).to_le_bytes()),
        Vr::Uv | Vr::Sv => out.extend((whole() as u64).to_le_bytes()),
        Vr::Fl => out.extend(text.parse::<f32>().unwrap_or_default().to_le_bytes()),
        Vr::Fd => out.extend(text.parse::<f64>().unwrap_or_default().to_le_bytes()),
        Vr::At => {
            let tag: Tag = text.parse().unwrap_or(Tag(0));
            out.extend(tag.group().to_le_bytes());
            out.extend(tag.element().to_le_bytes());
        }
        _ => {}
    }
    if big_endian {
        let word = if vr == Vr::At { 2 } else { vr.word_bytes() };
        let written = out.get_mut(start..).unwrap_or_default();
        written.chunks_mut(word).for_each(<[u8]>::reverse);
    }
}

/// The integer that a text begins with; 0 when there is none.
fn leading_integer(text: &str) -> i128 {
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] => (-1, text.get(1..).unwrap_or_default()),
        [b'+', ..] => (1, text.get(1..).unwrap_or_default()),
        _ => (1, text),
    };
    let end = digits
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(digits.len());
    let number: i128 = digits
        .get(..end.min(30))
        .unwrap_or_default()
        .parse()
        .unwrap_or(0);
    sign * number
}
