//! From the columns of `dicom.sql` to the values that are really stored.
//!
//! Links and copies of an ancestor's key (StudyInstanceUID in a series, SeriesPat, ImagePat, …) are not
//! stored but looked up in the ancestor, so they can never disagree with it. Two hidden values come first:
//! the Specific Character Set of the row's text, and in series the SOP classes seen.

use pyserver_proto::tag::Tag;

use crate::bytes::{Reader, put_varint};
use crate::columns::{Column, ColumnType, Columns, unique_key};
use crate::schema::Level;

/// Position of the hidden character set value at every level.
pub const CHARSET: usize = 0;
/// Position of the hidden SOP classes value in series rows.
pub const SOP_CLASSES: usize = 1;

/// A value that is stored in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredColumn {
    /// Element it is filled from; the hidden ones carry the element they answer.
    pub tag: Tag,
    /// Widest value in bytes; 0 means any.
    pub width: u16,
    /// How it is normalised and compared.
    pub kind: ColumnType,
    /// Name for messages.
    pub name: String,
}

/// Where the value of a `dicom.sql` column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnSource {
    /// A stored value of the row itself.
    Stored(usize),
    /// The unique key of an ancestor.
    KeyOf(Level),
}

/// The stored values of the four levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    stored: [Vec<StoredColumn>; 4],
    sources: [Vec<ColumnSource>; 4],
}

fn hidden(tag: Tag, name: &str) -> StoredColumn {
    StoredColumn {
        tag,
        width: 0,
        kind: ColumnType::Mstr,
        name: name.to_owned(),
    }
}

impl Layout {
    /// Works out what to store for these columns.
    pub fn new(columns: &Columns) -> Self {
        let mut layout = Self {
            stored: Default::default(),
            sources: Default::default(),
        };
        for level in Level::ALL {
            let mut stored = vec![hidden(Tag::SPECIFIC_CHARACTER_SET, "CharacterSet")];
            if level == Level::Series {
                stored.push(hidden(Tag::SOP_CLASSES_IN_STUDY, "SOPClasses"));
            }
            let sources = columns
                .level(level)
                .iter()
                .map(|column| source_of(level, column, &mut stored))
                .collect();
            if let Some(place) = layout.stored.get_mut(level.index()) {
                *place = stored;
            }
            if let Some(place) = layout.sources.get_mut(level.index()) {
                *place = sources;
            }
        }
        layout
    }

    /// Stored values of a level, in stored order.
    pub fn stored(&self, level: Level) -> &[StoredColumn] {
        self.stored.get(level.index()).map_or(&[], Vec::as_slice)
    }

    /// Sources of the `dicom.sql` columns of a level, in the file's order.
    pub fn sources(&self, level: Level) -> &[ColumnSource] {
        self.sources.get(level.index()).map_or(&[], Vec::as_slice)
    }

    /// Position of the first stored value of this element.
    pub fn position(&self, level: Level, tag: Tag) -> Option<usize> {
        self.stored(level).iter().position(|c| c.tag == tag)
    }

    /// Position of the value that identifies a row of this level.
    pub fn key_position(&self, level: Level) -> usize {
        self.position(level, unique_key(level)).unwrap_or(0)
    }

    /// The record in `meta` that lets another program version, or another `dicom.sql`, read the rows:
    /// number, then per level a count and for each value tag and width.
    pub fn encode(&self, number: u16) -> Vec<u8> {
        let mut out = number.to_be_bytes().to_vec();
        for level in Level::ALL {
            let stored = self.stored(level);
            put_varint(&mut out, stored.len());
            for column in stored {
                out.extend_from_slice(&column.tag.0.to_be_bytes());
                out.extend_from_slice(&column.width.to_be_bytes());
            }
        }
        out
    }
}

fn source_of(level: Level, column: &Column, stored: &mut Vec<StoredColumn>) -> ColumnSource {
    let ancestor = Level::ALL
        .into_iter()
        .find(|&above| above < level && unique_key(above) == column.tag);
    if let Some(above) = ancestor {
        return ColumnSource::KeyOf(above);
    }
    stored.push(StoredColumn {
        tag: column.tag,
        // A key is never cut: two objects whose identifiers differ at the end are two objects.
        width: if unique_key(level) == column.tag && level != Level::Patient {
            0
        } else {
            column.length
        },
        kind: column.kind,
        name: column.db_name().to_owned(),
    });
    ColumnSource::Stored(stored.len() - 1)
}

/// A layout as `meta` keeps it: tags and widths per level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutRecord {
    /// Number that rows written with it carry.
    pub number: u16,
    /// Tags and widths per level, in stored order.
    pub levels: [Vec<(Tag, u16)>; 4],
}

impl LayoutRecord {
    /// Reads the record.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let number = reader.u16()?;
        let mut levels: [Vec<(Tag, u16)>; 4] = Default::default();
        for level in &mut levels {
            for _ in 0..reader.varint()? {
                level.push((Tag(reader.u32()?), reader.u16()?));
            }
        }
        Some(Self { number, levels })
    }

    /// Whether rows of this layout can be read with `layout` as they are.
    pub fn fits(&self, layout: &Layout) -> bool {
        Self::decode(&layout.encode(self.number)).as_ref() == Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_copies_are_not_stored() {
        let layout = Layout::new(&Columns::default());
        assert!(layout.position(Level::Study, Tag::PATIENT_ID).is_none());
        assert!(layout.position(Level::Image, Tag::PATIENT_ID).is_none());
        assert!(
            layout
                .position(Level::Image, Tag::SERIES_INSTANCE_UID)
                .is_none()
        );
        assert_eq!(layout.position(Level::Patient, Tag::PATIENT_ID), Some(1));
        assert_eq!(layout.key_position(Level::Study), 1);
        assert_eq!(
            layout.sources(Level::Image).last(),
            Some(&ColumnSource::KeyOf(Level::Series))
        );
    }

    proptest::proptest! {
        #[test]
        fn damaged_records_are_no_layouts(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120)
        ) {
            let _ = LayoutRecord::decode(&bytes);
        }
    }

    #[test]
    fn the_record_comes_back() {
        let layout = Layout::new(&Columns::default());
        let record = LayoutRecord::decode(&layout.encode(7)).unwrap();
        assert_eq!(record.number, 7);
        assert!(record.fits(&layout));
        let wider =
            crate::columns::DEFAULT_TEXT.replace("\"PatientSex\",        16", "\"PatientSex\", 20");
        let other = Layout::new(&Columns::parse(&wider).unwrap());
        assert!(!record.fits(&other));
    }
}
