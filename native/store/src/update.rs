//! What an existing row keeps and takes when another object of it arrives.
//!
//! The last value wins, absent and empty values never overwrite. Beyond that: a study's modalities and a
//! series' SOP classes are collected, `NO NAME` never replaces a name, sex `O` never replaces `M` or `F`, and a
//! birth date of 1 January never replaces a better one of the same year.

use std::borrow::Cow;

use pyserver_proto::tag::Tag;

use crate::extract::{RowValues, Warning, printable};
use crate::layout::{CHARSET, Layout, StoredColumn};
use crate::row::{Choice, ColumnIter, column, put_column};
use crate::schema::Level;

/// Longest list of SOP classes kept in a series. LIMIT: about 60 classes.
const SOP_CLASSES_MAX: usize = 2048;

/// The rules for one row.
pub(crate) struct UpdateRule<'a> {
    columns: &'a [StoredColumn],
    level: Level,
    rows: &'a RowValues,
}

impl<'a> UpdateRule<'a> {
    pub fn new(layout: &'a Layout, level: Level, rows: &'a RowValues) -> Self {
        Self {
            columns: layout.stored(level),
            level,
            rows,
        }
    }

    /// The old columns in the character set of the new object, so that one row has one character set.
    pub fn recoded<'o>(&self, old: &'o [u8]) -> Cow<'o, [u8]> {
        let was = column(old, CHARSET).unwrap_or_default();
        let is = self.rows.charset.as_slice();
        if was == is || is.is_empty() || was.is_empty() {
            return Cow::Borrowed(old);
        }
        let mut out = Vec::with_capacity(old.len());
        for (position, value) in ColumnIter::new(old).enumerate() {
            match value {
                Some(text) if position != CHARSET => {
                    put_column(&mut out, Some(&crate::fold::recode(text, was, is)));
                }
                other => put_column(&mut out, other),
            }
        }
        Cow::Owned(out)
    }

    /// Old, new, or both, for two values that differ.
    pub fn choose(&self, position: usize, was: &[u8], is: &[u8]) -> Choice {
        let tag = self.columns.get(position).map(|c| c.tag);
        match (self.level, tag) {
            (Level::Study, Some(Tag::MODALITIES_IN_STUDY)) => {
                let width = self
                    .columns
                    .get(position)
                    .map_or(64, |c| usize::from(c.width));
                with_member(was, is, width)
            }
            (Level::Series, Some(Tag::SOP_CLASSES_IN_STUDY)) => {
                with_member(was, is, SOP_CLASSES_MAX)
            }
            (_, Some(Tag::PATIENT_NAME)) if self.rows.name_is_default && !was.is_empty() => {
                Choice::Old
            }
            (_, Some(Tag::PATIENT_SEX)) if is == b"O" && matches!(was, b"M" | b"F") => Choice::Old,
            (_, Some(Tag::PATIENT_BIRTH_DATE)) if is_placeholder(was, is) => Choice::Old,
            _ => Choice::New,
        }
    }
}

/// The list with a new member in front; unchanged when it is there or does not fit.
fn with_member(list: &[u8], member: &[u8], width: usize) -> Choice {
    let known = list.split(|&b| b == b'\\').any(|m| m == member);
    let length = list.len() + 1 + member.len();
    if known || length > width {
        return Choice::Old;
    }
    if list.is_empty() {
        return Choice::New;
    }
    let mut both = Vec::with_capacity(length);
    both.extend_from_slice(member);
    both.push(b'\\');
    both.extend_from_slice(list);
    Choice::Both(both)
}

/// 1 January of the same year stands for "only the year is known".
fn is_placeholder(was: &[u8], is: &[u8]) -> bool {
    is.len() == 8 && was.len() == 8 && is.ends_with(b"0101") && was.get(..4) == is.get(..4)
}

/// Reports what patient and study rows say about the patient where it was replaced by something else.
pub(crate) fn inconsistencies(
    layout: &Layout,
    level: Level,
    old: &[u8],
    new: &[u8],
    warnings: &mut Vec<Warning>,
) {
    if level > Level::Study {
        return;
    }
    let values = ColumnIter::new(old).zip(ColumnIter::new(new));
    for (column, (was, is)) in layout.stored(level).iter().zip(values) {
        let (Some(was), Some(is)) = (was, is) else {
            continue;
        };
        if was != is && !was.is_empty() && column.tag.group() == 0x0010 {
            warnings.push(Warning::Inconsistent {
                level,
                column: column.name.clone(),
                old: printable(was),
                new: printable(is),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(choice: Choice, was: &[u8], is: &[u8]) -> String {
        let bytes = match choice {
            Choice::New => is.to_vec(),
            Choice::Old => was.to_vec(),
            Choice::Both(both) => both,
        };
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn members_are_collected_in_front_and_once() {
        let add = |list: &str, member: &str, width| {
            let (list, member) = (list.as_bytes(), member.as_bytes());
            text(with_member(list, member, width), list, member)
        };
        assert_eq!(add("RTSTRUCT\\CT", "PT", 64), "PT\\RTSTRUCT\\CT");
        assert_eq!(add("RTSTRUCT", "CT", 64), "CT\\RTSTRUCT");
        assert_eq!(add("PT\\CT", "CT", 64), "PT\\CT");
        assert_eq!(add("", "CT", 64), "CT");
        assert_eq!(add("ABCD", "EF", 6), "ABCD");
    }

    #[test]
    fn new_year_is_a_placeholder_in_its_own_year_only() {
        assert!(is_placeholder(b"19600304", b"19600101"));
        assert!(!is_placeholder(b"19600304", b"19610101"));
        assert!(!is_placeholder(b"19600304", b"19600507"));
        assert!(!is_placeholder(b"", b"19600101"));
    }
}
