//! The variable part of a row: one value per stored column, each either absent or bytes.
//!
//! A value is written as a length plus one (seven bits per byte) and its bytes; zero says that the column
//! was never written, SQL's NULL, which is not the same as an empty value. Which columns there are is not
//! in the row: the layout number in the row's head says it.

use crate::bytes::{Reader, put_varint};

/// Appends one column.
#[inline]
pub fn put_column(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => out.push(0),
        Some(value) => {
            put_varint(out, value.len() + 1);
            out.extend_from_slice(value);
        }
    }
}

/// Walks the columns of a row in stored order; ends early on damaged bytes.
#[derive(Clone)]
pub struct ColumnIter<'a> {
    reader: Reader<'a>,
}

impl<'a> ColumnIter<'a> {
    /// Over the columns part of a row.
    pub const fn new(columns: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(columns),
        }
    }
}

impl<'a> Iterator for ColumnIter<'a> {
    type Item = Option<&'a [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.varint()? {
            0 => Some(None),
            length => self.reader.take(length - 1).map(Some),
        }
    }
}

/// One column by position.
pub fn column(columns: &[u8], position: usize) -> Option<&[u8]> {
    ColumnIter::new(columns).nth(position).flatten()
}

/// What becomes of a column that has a value on both sides.
pub enum Choice {
    /// The new value replaces the old one.
    New,
    /// The old value stays.
    Old,
    /// Both become this.
    Both(Vec<u8>),
}

/// Decides about the column at a position that has an old and a new value.
pub type Rule<'r> = &'r mut dyn FnMut(usize, &[u8], &[u8]) -> Choice;

/// New values over old ones: an absent or empty new value never overwrites. `rule` decides where both
/// sides have a value that differs. Answers whether anything differs from `old`.
pub fn merge(old: &[u8], new: &[u8], rule: Rule<'_>, out: &mut Vec<u8>) -> bool {
    let mut changed = false;
    let (mut olds, mut news) = (ColumnIter::new(old), ColumnIter::new(new));
    for position in 0.. {
        let (was, is) = (olds.next(), news.next());
        if was.is_none() && is.is_none() {
            break;
        }
        let both;
        let value = match (was.flatten(), is.flatten()) {
            (Some(was), Some(is)) if is.is_empty() || was == is => Some(was),
            (Some(was), Some(is)) => match rule(position, was, is) {
                Choice::New => Some(is),
                Choice::Old => Some(was),
                Choice::Both(value) => {
                    both = value;
                    Some(both.as_slice())
                }
            },
            (was, None) => was,
            (None, is) => is,
        };
        changed |= value != was.flatten();
        put_column(out, value);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = Vec::new();
        for value in values {
            put_column(&mut out, *value);
        }
        out
    }

    #[test]
    fn absent_and_empty_values_do_not_overwrite() {
        let old = block(&[Some(b"a"), Some(b"b"), None, Some(b"")]);
        let new = block(&[None, Some(b""), Some(b"c"), Some(b"d")]);
        let mut out = Vec::new();
        assert!(merge(&old, &new, &mut |_, _, _| Choice::New, &mut out));
        assert_eq!(
            out,
            block(&[Some(b"a"), Some(b"b"), Some(b"c"), Some(b"d")])
        );
        let mut same = Vec::new();
        assert!(!merge(&out, &new, &mut |_, _, _| Choice::New, &mut same));
        assert_eq!(same, out);
    }

    #[test]
    fn a_rule_may_keep_the_old_value() {
        let (old, new) = (block(&[Some(b"M")]), block(&[Some(b"O")]));
        let mut out = Vec::new();
        assert!(!merge(&old, &new, &mut |_, _, _| Choice::Old, &mut out));
        assert_eq!(out, old);
        let mut out = Vec::new();
        let both = &mut |_, _: &[u8], _: &[u8]| Choice::Both(b"OM".to_vec());
        assert!(merge(&old, &new, both, &mut out));
        assert_eq!(out, block(&[Some(b"OM")]));
    }

    proptest! {
        #[test]
        fn columns_come_back(values in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)), 0..12)) {
            let mut out = Vec::new();
            for value in &values {
                put_column(&mut out, value.as_deref());
            }
            let back: Vec<_> = ColumnIter::new(&out).map(|v| v.map(<[u8]>::to_vec)).collect();
            prop_assert_eq!(back, values);
        }

        #[test]
        fn damaged_rows_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(ColumnIter::new(&bytes).count() <= bytes.len());
        }
    }
}
