//! Reads a `FileNameSyntax` string with `%` tokens, once, when the configuration is loaded.
//!
//! Nothing in such a string is an error: what is not a token is text, as in Conquest.

use pyserver_proto::dict::tag_by_keyword;
use pyserver_proto::tag::Tag;

use crate::filename::{ElementPath, Piece, Token};

/// Token names, a longer one before its own beginning.
const TOKENS: [(&str, Token); 19] = [
    ("name", Token::Name),
    ("id", Token::Id),
    ("modality", Token::Modality),
    ("studyid", Token::StudyId),
    ("studyuid", Token::StudyUid),
    ("studydesc", Token::StudyDesc),
    ("studydate", Token::StudyDate),
    ("seriesid", Token::SeriesId),
    ("seriesuid", Token::SeriesUid),
    ("series", Token::Series),
    ("sopuid", Token::SopUid),
    ("imagenum", Token::ImageNum),
    ("imageid", Token::ImageId),
    ("image", Token::Image),
    ("time", Token::Time),
    ("counter", Token::Counter),
    ("calledae", Token::CalledAe),
    ("callingae", Token::CallingAe),
    ("date", Token::Date),
];

/// The parts of a `%` string.
pub(crate) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        if c != '%' {
            literal.extend_from_slice(rest.get(..c.len_utf8()).unwrap_or_default().as_bytes());
            rest = after;
            continue;
        }
        // An unknown token stays as text, without its %.
        let Some((piece, remaining)) = piece(after) else {
            rest = after;
            continue;
        };
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(piece);
        rest = remaining;
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    pieces
}

fn piece(text: &str) -> Option<(Piece, &str)> {
    for (name, token) in TOKENS {
        if let Some(rest) = text.strip_prefix(name) {
            let (range, rest) = range(rest);
            return Some((Piece::Token(token, range), rest));
        }
    }
    let text = text.strip_prefix('V').or_else(|| text.strip_prefix('v'))?;
    let (path, rest) = path(text)?;
    let (range, rest) = range(rest);
    Some((Piece::Element(path, range), rest))
}

fn path(text: &str) -> Option<(ElementPath, &str)> {
    let (anywhere, text) = match text.strip_prefix('*') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut rest = text.strip_prefix('/').unwrap_or(text);
    let mut steps = Vec::new();
    loop {
        let (tag, after) = tag(rest)?;
        let Some((item, after_item)) = item_number(after) else {
            return Some((
                ElementPath {
                    anywhere,
                    steps,
                    tag,
                },
                after,
            ));
        };
        steps.push((tag, item));
        rest = after_item;
    }
}

fn tag(text: &str) -> Option<(Tag, &str)> {
    if let (Some(group), Some(","), Some(element)) = (text.get(..4), text.get(4..5), text.get(5..9))
        && let (Ok(group), Ok(element)) = (
            u16::from_str_radix(group, 16),
            u16::from_str_radix(element, 16),
        )
    {
        return Some((Tag::new(group, element), text.get(9..).unwrap_or_default()));
    }
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    let word = text.get(..end)?;
    let tag = tag_by_keyword(word)?;
    Some((tag, text.get(end..).unwrap_or_default()))
}

/// `.N/` after a sequence's tag.
fn item_number(text: &str) -> Option<(usize, &str)> {
    let text = text.strip_prefix('.')?;
    let end = text.find('/')?;
    let item = text.get(..end)?.parse().ok()?;
    Some((item, text.get(end + 1..)?))
}

/// `[a,b]` after a token. One that asks for nothing sensible is read and ignored.
fn range(text: &str) -> (Option<(usize, usize)>, &str) {
    let Some(inside) = text.strip_prefix('[') else {
        return (None, text);
    };
    let Some(end) = inside.find(']') else {
        return (None, text);
    };
    let body = inside.get(..end).unwrap_or_default();
    if body.is_empty() || !body.chars().all(|c| c.is_ascii_digit() || c == ',') {
        return (None, text);
    }
    let mut numbers = body.split(',').map(|number| number.parse::<usize>().ok());
    let first = numbers.next().flatten();
    let last = numbers.next().flatten();
    let rest = inside.get(end + 1..).unwrap_or_default();
    match (first, last) {
        (Some(first), Some(last)) if last >= first => (Some((first, last)), rest),
        _ => (None, rest),
    }
}
