//! Attribute matching (PS3.4 section C.2.2.2): what a key says about a stored value.
//!
//! Single values are compared case-sensitively, numbers by value, dates and times by the period they name.
//! Wildcards work on every kind of text; person names ignore case there. Rules that belong to a column
//! (ignore case, several values) come with each comparison. All matchers run in time proportional to key
//! times value at worst, whatever the key.

use crate::charset::{CharacterSet, fold_char};
use crate::header::trim;
use crate::query::Key;
use crate::range::{DateRange, DateTimeRange, TimeRange};
use crate::uid::Uid;
use crate::vr::Vr;

/// What a stored value must be like.
#[derive(Debug, Clone, PartialEq)]
pub enum Matcher {
    /// Anything, also nothing: the key only asks for the value.
    Universal,
    /// No value at all: the key is malformed.
    Nothing,
    /// One value.
    Single(Single),
    /// Text with `*` and `?`.
    Wildcard(Pattern),
    /// One of these UIDs; sorted, at least one.
    UidList(Vec<Uid>),
    /// A date or a range of dates.
    DateRange(DateRange),
    /// A time or a range of times.
    TimeRange(TimeRange),
    /// A point in time or a range of them (VR DT).
    DateTimeRange(DateTimeRange),
    /// One of several values, or all of them as one string.
    Multi(Single, Vec<Matcher>),
    /// Keys that an item must match; compared by whoever has the items.
    Sequence(Vec<Key>),
}

/// How single values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Character by character.
    Exact,
    /// As `Exact`, trailing empty components aside; a key without `=` also matches one component group.
    PersonName,
    /// By value where both sides are numbers.
    Number,
}

/// One value to be equal to.
#[derive(Debug, Clone, PartialEq)]
pub struct Single {
    /// The value without trailing spaces.
    pub text: Box<str>,
    /// How to compare.
    pub compare: Compare,
    /// The value as a number, for [`Compare::Number`].
    pub number: Option<f64>,
}

/// A wildcard pattern; `*` stands for any characters, `?` for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The pattern, runs of `*` made one.
    pub text: Box<str>,
    /// Whether case is ignored whatever the column says (person names).
    pub ignore_case: bool,
    /// The characters, lower case.
    folded: Box<[char]>,
    /// The characters before the first wildcard, for searching an ordered index.
    literal_bytes: usize,
    /// Characters that a value must have at least.
    least: usize,
}

/// What the column says about comparing.
#[derive(Debug, Clone, Copy)]
pub struct MatchRules<'a> {
    /// Character set of the stored value.
    pub charset: &'a CharacterSet,
    /// VR of the stored value.
    pub vr: Vr,
    /// Case is ignored (Conquest's DT_ISTR).
    pub ignore_case: bool,
    /// Any of several stored values may match (Conquest's DT_MSTR).
    pub multi_valued: bool,
}

impl Matcher {
    /// Reads a key's value, decoded, by its VR.
    pub fn parse(vr: Vr, value: &str) -> Self {
        let value = value.trim_end_matches([' ', '\0']);
        if value.is_empty() || is_only_stars(value) {
            return Self::Universal;
        }
        if vr == Vr::Ui {
            return Self::parse_uids(value);
        }
        if !(vr.is_multi_valued() && value.contains('\\')) {
            return Self::parse_one(vr, value);
        }
        let values = value.split('\\').map(|value| value.trim_end_matches(' '));
        let values: Vec<Self> = values
            .filter(|value| !value.is_empty())
            .map(|value| Self::parse_one(vr, value))
            .collect();
        Self::Multi(Single::new(vr, value), values)
    }

    /// Whether the key asks for a value without restricting it.
    pub fn is_universal(&self) -> bool {
        matches!(self, Self::Universal)
    }

    fn parse_one(vr: Vr, value: &str) -> Self {
        if value.contains(['*', '?']) {
            if is_only_stars(value) {
                return Self::Universal;
            }
            return Self::Wildcard(Pattern::new(value, vr == Vr::Pn));
        }
        match vr {
            Vr::Da => DateRange::parse(value).map(Self::DateRange),
            Vr::Tm => TimeRange::parse(value).map(Self::TimeRange),
            Vr::Dt => DateTimeRange::parse(value).map(Self::DateTimeRange),
            _ => Some(Self::Single(Single::new(vr, value))),
        }
        // A malformed range is no reason to refuse the query, but nothing is in it.
        .unwrap_or(Self::Nothing)
    }

    fn parse_uids(value: &str) -> Self {
        if value.contains(['*', '?']) {
            return Self::Wildcard(Pattern::new(value, false));
        }
        let values = value
            .split('\\')
            .map(str::trim)
            .filter(|value| !value.is_empty());
        let mut uids: Vec<Uid> = values.filter_map(|value| value.parse().ok()).collect();
        if uids.is_empty() {
            return Self::Nothing;
        }
        uids.sort_unstable();
        uids.dedup();
        Self::UidList(uids)
    }

    /// Whether a stored value matches. An absent or empty one matches universal keys only. Sequences are
    /// not compared here and match.
    pub fn matches(&self, stored: &[u8], rules: &MatchRules<'_>) -> bool {
        match self {
            Self::Universal | Self::Sequence(_) => return true,
            Self::Nothing => return false,
            Self::UidList(uids) if !rules.multi_valued => return contains(uids, trim(stored)),
            _ => {}
        }
        let stored = trim(stored);
        if stored.is_empty() {
            return false;
        }
        self.matches_text(&rules.charset.decode(stored, rules.vr), rules)
    }

    /// As [`Matcher::matches`] for a value that is decoded already.
    pub fn matches_text(&self, stored: &str, rules: &MatchRules<'_>) -> bool {
        let stored = stored.trim_end_matches([' ', '\0']);
        self.matches_value(stored, rules)
            || (rules.multi_valued
                && stored.contains('\\')
                && stored
                    .split('\\')
                    .any(|value| self.matches_value(value.trim(), rules)))
    }

    fn matches_value(&self, stored: &str, rules: &MatchRules<'_>) -> bool {
        match self {
            Self::Universal | Self::Sequence(_) => true,
            Self::Nothing => false,
            _ if stored.is_empty() => false,
            Self::Single(single) => single.matches(stored, rules.ignore_case),
            Self::Wildcard(pattern) => pattern.matches(stored, rules.ignore_case),
            Self::UidList(uids) => contains(uids, stored.as_bytes()),
            Self::DateRange(range) => range.matches(stored),
            Self::TimeRange(range) => range.matches(stored),
            Self::DateTimeRange(range) => range.matches(stored),
            Self::Multi(whole, values) => {
                whole.matches(stored, rules.ignore_case)
                    || values
                        .iter()
                        .any(|value| value.matches_value(stored, rules))
            }
        }
    }
}

fn is_only_stars(value: &str) -> bool {
    value.contains('*') && value.bytes().all(|byte| matches!(byte, b'*' | b' '))
}

fn contains(uids: &[Uid], stored: &[u8]) -> bool {
    uids.binary_search_by(|uid| uid.as_bytes().cmp(stored))
        .is_ok()
}

impl Single {
    fn new(vr: Vr, value: &str) -> Self {
        let compare = match vr {
            Vr::Pn => Compare::PersonName,
            Vr::Is
            | Vr::Ds
            | Vr::Us
            | Vr::Ss
            | Vr::Ul
            | Vr::Sl
            | Vr::Uv
            | Vr::Sv
            | Vr::Fl
            | Vr::Fd => Compare::Number,
            _ => Compare::Exact,
        };
        let number = if compare == Compare::Number {
            parse_number(value)
        } else {
            None
        };
        Self {
            text: value.into(),
            compare,
            number,
        }
    }

    /// Whether a stored value, without trailing spaces, is this one.
    pub fn matches(&self, stored: &str, ignore_case: bool) -> bool {
        let equal = |a: &str, b: &str| {
            if ignore_case {
                equal_folded(a, b)
            } else {
                a == b
            }
        };
        if equal(&self.text, stored) {
            return true;
        }
        match self.compare {
            Compare::Exact => false,
            Compare::Number => self.number.is_some() && self.number == parse_number(stored),
            Compare::PersonName => {
                let key = name_core(&self.text);
                equal(key, name_core(stored))
                    || (!self.text.contains('=')
                        && stored.split('=').any(|group| equal(key, name_core(group))))
            }
        }
    }
}

fn parse_number(text: &str) -> Option<f64> {
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

/// A name without the empty components at its end.
fn name_core(name: &str) -> &str {
    name.trim_end_matches(['^', '=', ' '])
}

fn equal_folded(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    a.chars().map(fold_char).eq(b.chars().map(fold_char))
}

impl Pattern {
    fn new(text: &str, ignore_case: bool) -> Self {
        let mut clean = String::with_capacity(text.len());
        for c in text.chars() {
            if !(c == '*' && clean.ends_with('*')) {
                clean.push(c);
            }
        }
        let folded = clean.chars().map(fold_char).collect();
        let literal_bytes = clean.find(['*', '?']).unwrap_or(clean.len());
        let least = clean.chars().filter(|c| *c != '*').count();
        Self {
            text: clean.into(),
            ignore_case,
            folded,
            literal_bytes,
            least,
        }
    }

    /// The characters before the first wildcard, for searching an ordered index; as written.
    pub fn literal_prefix(&self) -> &str {
        self.text.get(..self.literal_bytes).unwrap_or_default()
    }

    /// Whether a stored value fits.
    pub fn matches(&self, stored: &str, ignore_case: bool) -> bool {
        let ignore_case = ignore_case || self.ignore_case;
        if self.fits(stored, ignore_case) {
            return true;
        }
        // A name is matched as a whole or by one of its component groups.
        self.ignore_case
            && !self.text.contains('=')
            && stored.contains('=')
            && stored.split('=').any(|group| self.fits(group, ignore_case))
    }

    fn fits(&self, stored: &str, ignore_case: bool) -> bool {
        // Keys may be far longer than any value; looking at all of one for each row would cost too much.
        if stored.len() < self.least {
            return false;
        }
        if self.text.is_ascii() && stored.is_ascii() {
            let (pattern, stored) = (self.text.as_bytes(), stored.as_bytes());
            return if ignore_case {
                glob(pattern, stored, b'*', b'?', u8::eq_ignore_ascii_case)
            } else {
                glob(pattern, stored, b'*', b'?', u8::eq)
            };
        }
        if ignore_case {
            let stored: Vec<char> = stored.chars().map(fold_char).collect();
            return glob(&self.folded, &stored, '*', '?', char::eq);
        }
        let pattern: Vec<char> = self.text.chars().collect();
        let stored: Vec<char> = stored.chars().collect();
        glob(&pattern, &stored, '*', '?', char::eq)
    }
}

/// Matches by going back to the last star only, which suffices: pattern times text steps at worst.
fn glob<T: PartialEq + Copy>(
    pattern: &[T],
    text: &[T],
    star: T,
    one: T,
    equal: impl Fn(&T, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on after the last star, and the text position it has swallowed up to.
    let mut back: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some(w) if *w == star => {
                back = Some((p + 1, t));
                p += 1;
            }
            Some(w) if *w == one || equal(w, c) => {
                p += 1;
                t += 1;
            }
            _ => match &mut back {
                None => return false,
                Some((after, swallowed)) => {
                    *swallowed += 1;
                    (p, t) = (*after, *swallowed);
                }
            },
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|w| *w == star)
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
