//! The worklist: scheduled procedure steps, one entry each, by element.
//!
//! Entries are in the database where there is one, so that other programs may fill its table `DICOMWorkList`,
//! else in the index, also under the NULL driver. There an entry names its elements, so that another
//! `dicom.sql` reads it as well. Text is UTF-8 in the index; in a database that keeps bytes it is in the
//! character set that answers have, as Conquest writes it.

use std::collections::HashMap;
use std::sync::Arc;

use pyserver_proto::charset::CharacterSet;
use pyserver_proto::dict;
use pyserver_proto::tag::Tag;

use crate::archive::Archive;
use crate::bytes::{Reader, put_var_bytes};
use crate::calendar::unix_time;
use crate::columns::{Column, Columns};
use crate::driver::{Cell, Condition, Driver, Row, RowPages, TextForm};
use crate::error::StoreError;
use crate::index::{Index, ReadTxn, WriteTxn};
use crate::index_error::IndexError;
use crate::lmdb::from_key;

/// Entries of the index looked at under one read transaction.
const PAGE_ENTRIES: usize = 1024;

/// One entry. An element without a value here is SQL's NULL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// In the order of the columns.
    values: Vec<(Tag, String)>,
}

impl Entry {
    /// The value of an element.
    pub fn get(&self, tag: Tag) -> Option<&str> {
        let found = self.values.iter().find(|(known, _)| *known == tag);
        found.map(|(_, text)| text.as_str())
    }

    /// Gives an element a value.
    pub fn put(&mut self, tag: Tag, text: impl Into<String>) {
        let text = text.into();
        match self.values.iter_mut().find(|(known, _)| *known == tag) {
            Some((_, value)) => *value = text,
            None => self.values.push((tag, text)),
        }
    }

    /// All values.
    pub fn values(&self) -> &[(Tag, String)] {
        &self.values
    }
}

/// What an entry must be like: texts that elements must have.
pub type Exact = Vec<(Tag, String)>;

/// Columns of the worklist that hold values.
pub fn value_columns(columns: &Columns) -> impl Iterator<Item = &Column> {
    let columns = columns.worklist().iter();
    columns.filter(|column| !column.is_sequence_mark())
}

/// Entries that come a page at a time.
pub struct Entries<'a> {
    archive: &'a Archive,
    source: Source,
}

enum Source {
    /// Where the next page begins.
    Index { after: u32, exact: Exact },
    Database {
        pages: Box<dyn RowPages>,
        form: RowForm,
    },
}

impl Archive {
    /// The entries that fit, perhaps with others that do not: a database narrows by `conditions`, the index
    /// by the exact ones among them.
    pub fn worklist(&self, conditions: &[(Tag, Condition)]) -> Result<Entries<'_>, StoreError> {
        self.flush()?;
        let source = match self.driver() {
            None => Source::Index {
                after: 0,
                exact: conditions.iter().filter_map(exact).collect(),
            },
            Some(driver) => {
                let form = self.row_form(driver.text_form());
                let conditions = conditions
                    .iter()
                    .filter_map(|(tag, condition)| Some((form.place(*tag)?, condition.clone())));
                Source::Database {
                    pages: driver.worklist(form.columns.len(), &conditions.collect::<Vec<_>>())?,
                    form,
                }
            }
        };
        Ok(Entries {
            archive: self,
            source,
        })
    }

    /// The entries with exactly these values.
    pub fn worklist_entries(&self, exact: &Exact) -> Result<Vec<Entry>, StoreError> {
        let one_of = |text: &String| Condition::AnyOf(vec![text.clone()]);
        let conditions: Vec<_> = exact
            .iter()
            .map(|(tag, text)| (*tag, one_of(text)))
            .collect();
        let mut entries = self.worklist(&conditions)?;
        let mut found = Vec::new();
        loop {
            let (page, more) = entries.page()?;
            found.extend(page.into_iter().filter(|entry| fits(entry, exact)));
            if !more {
                return Ok(found);
            }
        }
    }

    /// Takes out the entries with the values of one of `removed`, then adds entries: all or nothing. Answers
    /// how many went.
    pub fn change_worklist(
        &self,
        removed: Vec<Exact>,
        added: Vec<Entry>,
    ) -> Result<u64, StoreError> {
        if let Some(driver) = self.driver() {
            return self.change_database(driver, &removed, &added);
        }
        let widths = widths(self.index().columns());
        self.shared.committer.change(move |txn| {
            let gone = txn.remove_worklist(&removed)?;
            for entry in &added {
                txn.add_worklist(&cut(entry, &widths), unix_time() as u32)?;
            }
            Ok(gone)
        })
    }

    fn change_database(
        &self,
        driver: &Arc<dyn Driver>,
        removed: &[Exact],
        added: &[Entry],
    ) -> Result<u64, StoreError> {
        let form = self.row_form(driver.text_form());
        let mut keys = Vec::with_capacity(removed.len());
        for exact in removed {
            let cell =
                |(tag, text): &(Tag, String)| Some((form.place(*tag)?, form.cell(*tag, text)));
            let key: Vec<_> = exact.iter().filter_map(cell).collect();
            // What names an element without a column fits no entry.
            if key.len() == exact.len() {
                keys.push(key);
            }
        }
        let now = unix_time();
        let rows: Vec<Row> = added.iter().map(|entry| form.row(entry, now)).collect();
        Ok(driver.change_worklist(&keys, &rows)?)
    }

    fn row_form(&self, text: TextForm) -> RowForm {
        let columns = value_columns(self.index().columns());
        RowForm {
            columns: columns
                .map(|column| (column.tag, usize::from(column.length)))
                .collect(),
            charset: CharacterSet::parse(self.config().worklist_charset.as_bytes()),
            is_raw: text == TextForm::Raw,
        }
    }
}

impl Entries<'_> {
    /// The next entries, perhaps none, and whether there may be more.
    pub fn page(&mut self) -> Result<(Vec<Entry>, bool), StoreError> {
        match &mut self.source {
            Source::Index { after, exact } => {
                let txn = self.archive.index().read()?;
                let (page, last) = txn.worklist_page(*after, exact)?;
                *after = last.unwrap_or(*after);
                Ok((page, last.is_some()))
            }
            Source::Database { pages, form } => {
                let rows = pages.next_page()?;
                let more = !rows.is_empty();
                Ok((rows.into_iter().map(|row| form.entry(row)).collect(), more))
            }
        }
    }
}

/// How the rows of a database hold entries.
struct RowForm {
    /// Elements and widths.
    columns: Vec<(Tag, usize)>,
    /// Of bytes.
    charset: CharacterSet,
    is_raw: bool,
}

impl RowForm {
    fn place(&self, tag: Tag) -> Option<usize> {
        self.columns.iter().position(|(known, _)| *known == tag)
    }

    /// A value as it is written: bytes where the database has bytes, in UTF-8 if the character set lacks a
    /// character.
    fn cell(&self, tag: Tag, text: &str) -> Cell {
        if !self.is_raw {
            return Cell::Text(text.to_owned());
        }
        let encoded = self.charset.encode(text, dict::vr(tag));
        Cell::Raw(if encoded.complete {
            encoded.bytes.into_owned()
        } else {
            text.as_bytes().to_vec()
        })
    }

    fn row(&self, entry: &Entry, now: u64) -> Row {
        let mut row: Row = self
            .columns
            .iter()
            .map(|(tag, width)| match entry.get(*tag) {
                None => Cell::Null,
                Some(text) => self.cell(*tag, shortened(text, *width)),
            })
            .collect();
        row.push(Cell::Number(now as i64));
        row
    }

    fn entry(&self, row: Row) -> Entry {
        let mut entry = Entry::default();
        for ((tag, _), cell) in self.columns.iter().zip(row) {
            let text = match cell {
                Cell::Null => continue,
                Cell::Text(text) => text,
                Cell::Number(number) => number.to_string(),
                Cell::Raw(bytes) => String::from_utf8(bytes).unwrap_or_else(|error| {
                    let decoded = self.charset.decode(error.as_bytes(), dict::vr(*tag));
                    decoded.into_owned()
                }),
            };
            entry.values.push((*tag, text.trim_end().to_owned()));
        }
        entry
    }
}

/// A condition that only one text fulfils.
fn exact((tag, condition): &(Tag, Condition)) -> Option<(Tag, String)> {
    match condition {
        Condition::AnyOf(texts) => match texts.as_slice() {
            [text] => Some((*tag, text.clone())),
            _ => None,
        },
        _ => None,
    }
}

fn fits(entry: &Entry, exact: &Exact) -> bool {
    exact
        .iter()
        .all(|(tag, text)| entry.get(*tag) == Some(text))
}

fn widths(columns: &Columns) -> Vec<(Tag, usize)> {
    let columns = value_columns(columns);
    columns
        .map(|column| (column.tag, usize::from(column.length)))
        .collect()
}

/// The entry with what the columns have room for.
fn cut(entry: &Entry, widths: &[(Tag, usize)]) -> Entry {
    let mut cut = Entry::default();
    for (tag, width) in widths {
        if let Some(text) = entry.get(*tag) {
            cut.values.push((*tag, shortened(text, *width).to_owned()));
        }
    }
    cut
}

/// At most so many characters.
fn shortened(text: &str, width: usize) -> &str {
    let end = text.char_indices().nth(width).map(|(at, _)| at);
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// What is to be removed, by the first of its values: a file may name as many entries as there are.
struct Removed<'a> {
    all: bool,
    by_first: HashMap<(Tag, &'a str), Vec<&'a Exact>>,
}

impl<'a> Removed<'a> {
    fn new(removed: &'a [Exact]) -> Self {
        let mut by_first: HashMap<_, Vec<_>> = HashMap::new();
        for exact in removed {
            if let Some((tag, text)) = exact.first() {
                by_first
                    .entry((*tag, text.as_str()))
                    .or_default()
                    .push(exact);
            }
        }
        Self {
            all: removed.iter().any(Vec::is_empty),
            by_first,
        }
    }

    fn has(&self, entry: &Entry) -> bool {
        self.all
            || entry.values.iter().any(|(tag, text)| {
                let named = self.by_first.get(&(*tag, text.as_str()));
                named.is_some_and(|named| named.iter().any(|exact| fits(entry, exact)))
            })
    }
}

impl WriteTxn<'_> {
    /// Adds an entry; answers its number.
    fn add_worklist(&mut self, entry: &Entry, now: u32) -> Result<u32, IndexError> {
        self.counters.worklist += 1;
        let number = self.counters.worklist;
        let mut record = Vec::with_capacity(256);
        record.extend_from_slice(&now.to_be_bytes());
        for (tag, text) in &entry.values {
            record.extend_from_slice(&tag.group().to_be_bytes());
            record.extend_from_slice(&tag.element().to_be_bytes());
            put_var_bytes(&mut record, text.as_bytes());
        }
        let table = self.index.tables.worklist;
        table.put(&mut self.txn, &number.to_be_bytes(), &record)?;
        Ok(number)
    }

    /// Removes the entries that fit one of these; answers how many.
    fn remove_worklist(&mut self, removed: &[Exact]) -> Result<u64, IndexError> {
        let table = self.index.tables.worklist;
        let removed = Removed::new(removed);
        let mut keys = Vec::new();
        for item in table.iter(&self.txn)? {
            let (key, record) = item?;
            let (_, entry) = decode(record)?;
            if removed.has(&entry) {
                keys.push(key.to_vec());
            }
        }
        for key in &keys {
            table.delete(&mut self.txn, key)?;
        }
        Ok(keys.len() as u64)
    }
}

impl ReadTxn<'_> {
    /// Entries behind a number that fit, out of the next so many; and the last number looked at, if there
    /// may be more.
    fn worklist_page(
        &self,
        after: u32,
        exact: &Exact,
    ) -> Result<(Vec<Entry>, Option<u32>), IndexError> {
        let table = self.index.tables.worklist;
        let first = after.saturating_add(1).to_be_bytes();
        let records = table.range(&self.txn, &from_key(&first))?;
        let mut found = Vec::new();
        let mut last = None;
        for item in records.take(PAGE_ENTRIES) {
            let (key, record) = item?;
            let number = key.try_into().map(u32::from_be_bytes);
            last = Some(number.map_err(|_| IndexError::Corrupt("worklist key"))?);
            if exact.iter().all(|(tag, text)| has(record, *tag, text)) {
                found.push(decode(record)?.1);
            }
        }
        Ok((found, last))
    }

    /// All entries with the time that each was added.
    pub(crate) fn worklist_with_times(&self) -> Result<Vec<(u32, Entry)>, IndexError> {
        let records = self.index.tables.worklist.iter(&self.txn)?;
        records.map(|item| decode(item?.1)).collect()
    }
}

/// Whether a record gives an element this text, without taking it apart.
fn has(record: &[u8], tag: Tag, text: &str) -> bool {
    let mut reader = Reader::new(record);
    let _time = reader.u32();
    while let (Some(group), Some(element)) = (reader.u16(), reader.u16()) {
        let value = reader.var_bytes().unwrap_or_default();
        if Tag::new(group, element) == tag {
            return value == text.as_bytes();
        }
    }
    false
}

/// The time that an entry was added, and the entry.
fn decode(record: &[u8]) -> Result<(u32, Entry), IndexError> {
    let mut reader = Reader::new(record);
    let mut entry = Entry::default();
    let mut read = || {
        let time = reader.u32()?;
        while !reader.rest().is_empty() {
            let tag = Tag::new(reader.u16()?, reader.u16()?);
            let text = std::str::from_utf8(reader.var_bytes()?).ok()?;
            entry.values.push((tag, text.to_owned()));
        }
        Some(time)
    };
    let time = read().ok_or(IndexError::Corrupt("worklist entry"))?;
    Ok((time, entry))
}

impl Index {
    /// How many entries there are.
    pub fn worklist_count(&self) -> Result<u64, IndexError> {
        let txn = self.read()?;
        Ok(self.tables.worklist.len(&txn.txn)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply_tests::Fixture;
    use proptest::prelude::*;

    fn entry(values: &[(Tag, &str)]) -> Entry {
        let mut entry = Entry::default();
        for (tag, text) in values {
            entry.put(*tag, *text);
        }
        entry
    }

    #[test]
    fn entries_are_added_found_dumped_and_removed() {
        let f = Fixture::new();
        let mut txn = f.index.write().unwrap();
        let first = entry(&[
            (Tag::ACCESSION_NUMBER, "A1"),
            (Tag::PATIENT_NAME, "M\u{fc}^B"),
        ]);
        let second = entry(&[(Tag::ACCESSION_NUMBER, "A2")]);
        txn.add_worklist(&first, 100).unwrap();
        txn.add_worklist(&second, 100).unwrap();
        txn.commit().unwrap();
        let of = |text: &str| vec![(Tag::ACCESSION_NUMBER, text.to_owned())];
        let page = |exact: &Exact| f.index.read().unwrap().worklist_page(0, exact).unwrap().0;
        assert_eq!(page(&Vec::new()), vec![first.clone(), second.clone()]);
        assert_eq!(page(&of("A2")), vec![second]);
        assert_eq!(page(&of("A3")), Vec::new());
        let rows = f.index.dump_table("DICOMWorkList").unwrap().unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0][0], ("AccessionN".to_owned(), Some("A1".to_owned())));
        assert_eq!(rows[0][1], ("PatientID".to_owned(), None));
        assert_eq!(rows[0].len(), 24 + 4);
        let mut txn = f.index.write().unwrap();
        assert_eq!(txn.remove_worklist(&[of("A2"), of("A9")]).unwrap(), 1);
        assert_eq!(txn.remove_worklist(&[Vec::new()]).unwrap(), 1);
        txn.commit().unwrap();
        assert_eq!(f.index.worklist_count().unwrap(), 0);
    }

    #[test]
    fn values_are_cut_to_their_columns() {
        let widths = widths(&Columns::default());
        let long = entry(&[(Tag::ACCESSION_NUMBER, &"\u{e4}".repeat(40))]);
        let stored = cut(&long, &widths);
        assert_eq!(
            stored.get(Tag::ACCESSION_NUMBER),
            Some("\u{e4}".repeat(16).as_str())
        );
    }

    #[test]
    fn rows_of_bytes_are_in_the_character_set_of_the_answers() {
        let form = RowForm {
            columns: widths(&Columns::default()),
            charset: CharacterSet::latin1(),
            is_raw: true,
        };
        let cell = |text| form.cell(Tag::PATIENT_NAME, text);
        assert_eq!(cell("M\u{fc}"), Cell::Raw(b"M\xfc".to_vec()));
        assert_eq!(cell("\u{151}"), Cell::Raw("\u{151}".as_bytes().to_vec()));
        for name in ["M\u{fc}ller", "\u{151}"] {
            let kept = entry(&[(Tag::PATIENT_NAME, name)]);
            assert_eq!(form.entry(form.row(&kept, 1)), kept);
        }
    }

    proptest! {
        #[test]
        fn damaged_records_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
            let _ = has(&bytes, Tag::PATIENT_ID, "x");
        }
    }
}
