//! A row that a database answered, in the form in which matchers and the response encoder read rows.
//!
//! Text that came undecoded is in the character set of its object; where that is not plain, the index is asked
//! for it. Rows that it does not know are taken for Latin-1, as elsewhere.

use crate::driver::{Cell, Row};
use crate::filename::name_of_disk;
use crate::fold::is_plain;
use crate::heads::{FileFacts, ParentHead};
use crate::index::ReadTxn;
use crate::index_error::IndexError;
use crate::layout::CHARSET;
use crate::plan::{Counted, Value};
use crate::row::column;
use crate::row_query::CellPlan;
use crate::schema::{ImageKey, Level};
use crate::virtual_device::virtual_device;

/// Character set of text that was decoded.
const UTF8: &[u8] = b"ISO_IR 192";
/// Start of the names of devices in Conquest's tables.
const DEVICE_PREFIX: &str = "MAG";

/// One row with what it needs of those above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct JoinedRow {
    /// Values read per level, in the order of the query.
    pub values: [Vec<Option<Vec<u8>>>; 4],
    /// Key per level, where known.
    pub keys: [Vec<u8>; 4],
    /// Children of the row.
    pub head: ParentHead,
    /// SOP classes of the study.
    pub sop_classes: Vec<u8>,
    /// Device and path as the database has them, with slashes.
    pub file: Option<(u16, String)>,
    /// `FileFacts` of an image, as far as they are known.
    pub facts: Vec<u8>,
}

impl JoinedRow {
    /// Takes the cells apart.
    pub(crate) fn new(cells: &Row, plan: &CellPlan, txn: &ReadTxn<'_>) -> Result<Self, IndexError> {
        let mut row = Self {
            head: head_of(cells, plan),
            ..Self::default()
        };
        if let Some(at) = plan.file_at {
            row.file = file_of(cells.get(at), cells.get(at + 1));
            row.facts = facts_of(row.file.as_ref());
        }
        if let Some(classes) = plan.sop_classes_at.and_then(|at| cells.get(at).cloned()) {
            row.sop_classes = classes.into_bytes().unwrap_or_default();
        }
        for level in Level::ALL {
            row.take_level(cells, plan, level, txn)?;
        }
        Ok(row)
    }

    /// The values of one level and their character set, which stands first.
    fn take_level(
        &mut self,
        cells: &Row,
        plan: &CellPlan,
        level: Level,
        txn: &ReadTxn<'_>,
    ) -> Result<(), IndexError> {
        let at = level.index();
        let key = plan.keys.get(at).copied().flatten();
        let key = key.and_then(|cell| cells.get(cell).cloned()?.into_bytes());
        let key = key.unwrap_or_default();
        let (mut decoded, mut plain) = (false, true);
        let mut values = Vec::new();
        for cell in plan.values.get(at).map_or(&[][..], Vec::as_slice) {
            let cell = cell.and_then(|cell| cells.get(cell)).unwrap_or(&Cell::Null);
            decoded |= matches!(cell, Cell::Text(text) if !text.is_ascii());
            let value = cell.clone().into_bytes();
            plain &= value.as_deref().is_none_or(is_plain);
            values.push(value);
        }
        let charset = if plain {
            None
        } else if decoded {
            Some(UTF8.to_vec())
        } else {
            charset_in_index(txn, level, &key)?
        };
        if let Some(place) = values.get_mut(CHARSET) {
            *place = charset;
        }
        if let (Some(of), Some(known)) = (self.values.get_mut(at), self.keys.get_mut(at)) {
            *of = values;
            *known = key;
        }
        Ok(())
    }

    /// A value that the query reads.
    pub(crate) fn value(&self, value: Value) -> Option<&[u8]> {
        match value {
            Value::Column(level, slot) => {
                let values = self.values.get(level.index())?;
                values.get(slot)?.as_deref()
            }
            _ => None,
        }
    }

    /// Whether both rows have the same rows above them.
    pub(crate) fn is_beside(&self, other: &Self, level: Level) -> bool {
        let above = level.index();
        self.values.get(..above) == other.values.get(..above)
            && (level == Level::Image || self == other)
    }
}

fn head_of(cells: &Row, plan: &CellPlan) -> ParentHead {
    let mut head = ParentHead::default();
    for (number, counted) in plan.query.counts.iter().enumerate() {
        let Some(Cell::Number(count)) = cells.get(plan.counts_at + number) else {
            continue;
        };
        let count = u32::try_from(*count).unwrap_or(u32::MAX);
        match counted {
            Counted::Studies => head.studies = count,
            Counted::Series => head.series = count,
            Counted::Instances => head.instances = count,
        }
    }
    head
}

/// Device and path; both kinds of slashes separate folders in tables that were written on Windows.
fn file_of(file: Option<&Cell>, device: Option<&Cell>) -> Option<(u16, String)> {
    let text = |cell: Option<&Cell>| match cell? {
        Cell::Raw(bytes) => Some(name_of_disk(bytes)),
        Cell::Text(text) => Some(index_name(text)),
        Cell::Null | Cell::Number(_) => None,
    };
    let device = text(device)?;
    let number = device.trim().strip_prefix(DEVICE_PREFIX)?;
    let device = match number.split_once('.') {
        Some((_, server)) => virtual_device(server.parse().ok()?),
        None => number.parse().ok()?,
    };
    Some((device, text(file)?.trim_end().replace('\\', "/")))
}

/// A path as the index spells it, one character for each byte on the disk.
fn index_name(text: &str) -> String {
    if text.chars().all(|c| u32::from(c) <= 0xFF) {
        return text.to_owned();
    }
    name_of_disk(text.as_bytes())
}

fn facts_of(file: Option<&(u16, String)>) -> Vec<u8> {
    let mut facts = Vec::new();
    if let Some((device, file)) = file {
        let known = FileFacts {
            device: *device,
            dataset_offset: 0,
            file_bytes: 0,
            hash: [0; 16],
            transfer_syntax: "",
            file,
            pixel: &[],
        };
        known.put(&mut facts);
    }
    facts
}

/// The character set that the index has for a row.
fn charset_in_index(
    txn: &ReadTxn<'_>,
    level: Level,
    key: &[u8],
) -> Result<Option<Vec<u8>>, IndexError> {
    let owned = |columns: &[u8]| column(columns, CHARSET).map(<[u8]>::to_vec);
    if level == Level::Image {
        let Some(image) = txn.find_image(key)? else {
            return Ok(None);
        };
        return txn.image_columns(image, owned);
    }
    let number = txn.entry(level, key)?;
    let Some(number) = number else {
        return Ok(None);
    };
    let row = txn.parent_row(level, number)?;
    Ok(row.and_then(|(_, columns)| owned(columns)))
}

impl ReadTxn<'_> {
    /// Looks at the columns of an image row.
    fn image_columns<T>(
        &self,
        image: ImageKey,
        look: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, IndexError> {
        let row = self.index.tables.images.get(&self.txn, &image.encode())?;
        let row = row.map(crate::heads::ImageRow::split).transpose()?;
        Ok(row.and_then(|row| look(row.columns)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_windows_tables_are_found() {
        let cell = |text: &[u8]| Cell::Raw(text.to_vec());
        let of = |file: &[u8], device: &[u8]| file_of(Some(&cell(file)), Some(&cell(device)));
        assert_eq!(
            of(b"P1\\1.2\\x.dcm", b"MAG0"),
            Some((0, "P1/1.2/x.dcm".into()))
        );
        assert_eq!(of(b"P1/x.dcm ", b"MAG12 "), Some((12, "P1/x.dcm".into())));
        let elsewhere = Some((virtual_device(2), "x.dcm".into()));
        assert_eq!(of(b"x.dcm", b"MAG0.2"), elsewhere);
        assert_eq!(of(b"x.dcm", b"JUKEBOX1"), None);
        assert_eq!(file_of(Some(&Cell::Null), Some(&cell(b"MAG0"))), None);
    }
}
