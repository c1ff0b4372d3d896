//! Rows of the index as rows of Conquest's tables.
//!
//! Each row comes once into a batch, whichever of its images asked for it. Links upwards, and copies of the
//! patient's ID, are looked up in the rows above, as everywhere.

use std::collections::{HashMap, HashSet};

use pyserver_proto::charset::CharacterSet;
use pyserver_proto::vr::Vr;

use crate::delete::kids;
use crate::driver::{Cell, DriverBatch, Row, TextForm};
use crate::filename::disk_name;
use crate::heads::ImageRow;
use crate::index::ReadTxn;
use crate::index_error::IndexError;
use crate::layout::{CHARSET, ColumnSource};
use crate::row::ColumnIter;
use crate::schema::{ImageKey, Level};
use crate::virtual_device::device_name;

/// Conquest clears these bits of its access times.
const ACCESS_TIME_STEP: u32 = 31;
/// Text that names no character set.
const FALLBACK: &[u8] = b"ISO_IR 100";

/// Gathers the rows of one batch.
pub(crate) struct RowMaker<'t> {
    txn: &'t ReadTxn<'t>,
    form: TextForm,
    images: HashSet<ImageKey>,
    parents: HashMap<(Level, u32), Option<Above>>,
    rows: [Vec<Row>; 4],
}

/// What rows below need of a parent row.
#[derive(Debug, Clone)]
struct Above {
    /// Keys of the row and of those above it, from the patient down.
    keys: [Cell; 3],
}

impl<'t> RowMaker<'t> {
    pub(crate) fn new(txn: &'t ReadTxn<'_>, form: TextForm) -> Self {
        Self {
            txn,
            form,
            images: HashSet::new(),
            parents: HashMap::new(),
            rows: Default::default(),
        }
    }

    /// Adds an image and the rows above it; false when it is not there any more.
    pub(crate) fn image(&mut self, key: ImageKey) -> Result<bool, IndexError> {
        if self.images.contains(&key) {
            return Ok(true);
        }
        let table = self.txn.index.tables.images;
        let Some(row) = table.get(&self.txn.txn, &key.encode())? else {
            return Ok(false);
        };
        let Some(above) = self.parent(Level::Series, key.series)? else {
            return Ok(false);
        };
        let row = ImageRow::split(row)?;
        let facts = row.facts()?;
        let mut cells = self.cells(Level::Image, row.columns, &above.keys, row.head.accessed);
        cells.push(file_cell(facts.file, self.form));
        cells.push(Cell::Text(device_name(facts.device)));
        self.images.insert(key);
        let [.., images] = &mut self.rows;
        images.push(cells);
        Ok(true)
    }

    /// Adds those that are still there of images with consecutive numbers in one series.
    pub(crate) fn images(&mut self, first: ImageKey, count: u32) -> Result<(), IndexError> {
        for image in first.image..first.image.saturating_add(u64::from(count)) {
            self.image(ImageKey { image, ..first })?;
        }
        Ok(())
    }

    /// Adds a study and its patient, if they are there.
    pub(crate) fn study(&mut self, uid: &[u8]) -> Result<(), IndexError> {
        if let Some(study) = self.txn.find_row(Level::Study, uid)? {
            self.parent(Level::Study, study)?;
        }
        Ok(())
    }

    /// Adds a study and everything below it; false when it is not there any more.
    pub(crate) fn whole_study(&mut self, uid: &[u8]) -> Result<bool, IndexError> {
        let txn = self.txn;
        let tables = &txn.index.tables;
        let Some(study) = txn.find_row(Level::Study, uid)? else {
            return Ok(false);
        };
        for series in kids(tables.study_kids, &txn.txn, study, usize::MAX)? {
            for item in tables.images.prefix_iter(&txn.txn, &series.to_be_bytes())? {
                let key = ImageKey::decode(item?.0).ok_or(IndexError::Corrupt("image key"))?;
                self.image(key)?;
            }
        }
        Ok(true)
    }

    /// The batch, with these deletes before the rows.
    pub(crate) fn finish(self, deletes: Vec<(Level, Cell)>) -> DriverBatch {
        DriverBatch {
            deletes,
            rows: self.rows,
        }
    }

    /// Adds a parent row and those above it; none when it is not alive.
    fn parent(&mut self, level: Level, number: u32) -> Result<Option<Above>, IndexError> {
        if let Some(known) = self.parents.get(&(level, number)) {
            return Ok(known.clone());
        }
        let above = self.new_parent(level, number)?;
        self.parents.insert((level, number), above.clone());
        Ok(above)
    }

    fn new_parent(&mut self, level: Level, number: u32) -> Result<Option<Above>, IndexError> {
        let txn = self.txn;
        let Some((head, columns)) = txn.parent_row(level, number)? else {
            return Ok(None);
        };
        let nothing = Above {
            keys: [const { Cell::Null }; 3],
        };
        let over = match level {
            Level::Patient => Some(nothing),
            Level::Study if head.parent == 0 => Some(nothing),
            Level::Study => self.parent(Level::Patient, head.parent)?,
            Level::Series | Level::Image => self.parent(Level::Study, head.parent)?,
        };
        let Some(mut above) = over else {
            return Ok(None);
        };
        let cells = self.cells(level, columns, &above.keys, head.accessed);
        if let (Some(place), Some(key)) = (above.keys.get_mut(level.index()), cells.first()) {
            place.clone_from(key);
        }
        if let Some(rows) = self.rows.get_mut(level.index()) {
            rows.push(cells);
        }
        Ok(Some(above))
    }

    /// The columns of `dicom.sql` and the access time.
    fn cells(&self, level: Level, columns: &[u8], above: &[Cell; 3], accessed: u32) -> Row {
        let values: Vec<Option<&[u8]>> = ColumnIter::new(columns).collect();
        let charset = values.get(CHARSET).copied().flatten().unwrap_or_default();
        let sources = self.txn.index.layout().sources(level);
        let mut cells = Row::with_capacity(sources.len() + 3);
        for source in sources {
            cells.push(match *source {
                ColumnSource::Stored(position) => {
                    let value = values.get(position).copied().flatten();
                    value.map_or(Cell::Null, |value| self.text(value, charset))
                }
                ColumnSource::KeyOf(over) => above.get(over.index()).cloned().unwrap_or(Cell::Null),
            });
        }
        cells.push(Cell::Number(i64::from(accessed & !ACCESS_TIME_STEP)));
        cells
    }

    fn text(&self, value: &[u8], charset: &[u8]) -> Cell {
        if value.is_ascii() && (self.form == TextForm::Raw || !value.contains(&0x1B)) {
            return Cell::Text(String::from_utf8_lossy(value).into_owned());
        }
        match self.form {
            TextForm::Raw => Cell::Raw(value.to_vec()),
            TextForm::Unicode => {
                let charset = if charset.is_empty() {
                    FALLBACK
                } else {
                    charset
                };
                let charset = CharacterSet::parse(charset);
                Cell::Text(charset.decode(value, Vr::Pn).into_owned())
            }
        }
    }
}

/// A path: raw as its bytes on the disk, decoded with one character for each of them.
fn file_cell(file: &str, form: TextForm) -> Cell {
    if file.is_ascii() || form == TextForm::Unicode {
        return Cell::Text(file.to_owned());
    }
    Cell::Raw(disk_name(file).into_os_string().into_encoded_bytes())
}
