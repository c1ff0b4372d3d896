//! From the header of an object to the values of its four rows.
//!
//! Normalisation follows Conquest's database (trailing spaces go, leading ones stay, too long values are
//! cut and reported) without its faults: dots leave a date before it is cut, an object without study,
//! series or SOP instance UID is refused, a modality is cut before it enters the study's list. Runs on the
//! association's thread; never touches the index.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pyserver_proto::header::Header;
use pyserver_proto::tag::Tag;
use pyserver_proto::uid::is_valid_uid;

use crate::columns::{ColumnType, Columns};
use crate::layout::{Layout, StoredColumn};
use crate::row::put_column;
use crate::schema::Level;

/// Patient ID given to objects without one, unless empty IDs are allowed.
pub const EMPTY_PATIENT_ID: &[u8] = b"00000000";
/// Patient name given to objects without the element.
pub const ABSENT_PATIENT_NAME: &[u8] = b"NO NAME";
/// Longest identifier taken at all, also with `accept_invalid_uids`. LIMIT: LMDB keys end at 511 bytes.
const IDENTIFIER_MAX: usize = 200;

/// A header that values can be read from.
pub trait HeaderSource {
    /// The value of a top-level element as text, padding included; binary numbers as decimal text, several
    /// joined by backslashes. `None` when the element is absent or has no text (sequences, bulk data).
    fn value(&self, tag: Tag) -> Option<Cow<'_, [u8]>>;
}

impl HeaderSource for Header {
    fn value(&self, tag: Tag) -> Option<Cow<'_, [u8]>> {
        let element = self.element(tag)?;
        if element.vr.is_text() {
            self.raw(tag).map(Cow::Borrowed)
        } else {
            self.text_bytes(tag)
        }
    }
}

impl HeaderSource for BTreeMap<Tag, Vec<u8>> {
    fn value(&self, tag: Tag) -> Option<Cow<'_, [u8]>> {
        self.get(&tag).map(|v| Cow::Borrowed(v.as_slice()))
    }
}

/// What the site's configuration says about doubtful objects.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtractPolicy {
    /// `AllowEmptyPatientID`: keep an empty patient ID instead of naming it 00000000.
    pub allow_empty_patient_id: bool,
    /// `AcceptInvalidUIDs`: take malformed (never absent) UIDs as they are.
    pub accept_invalid_uids: bool,
}

/// Why an object cannot be indexed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A study, series or SOP instance UID is absent or empty.
    #[error("{0} is absent or empty")]
    MissingUid(Tag),
    /// A study, series or SOP instance UID is malformed.
    #[error("{tag} is not a valid UID: {value:?}")]
    InvalidUid {
        /// The element.
        tag: Tag,
        /// Its value, unprintable bytes replaced.
        value: String,
    },
}

/// Something worth a line in the log; the object is stored all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A value was cut to the width of its column.
    Truncated {
        /// Column name as in the database.
        column: String,
        /// Bytes received.
        from: usize,
        /// Bytes kept.
        to: usize,
    },
    /// A component of a UID starts with a superfluous zero.
    LeadingZero(Tag),
    /// A row's value was replaced by a different one.
    Inconsistent {
        /// Table of the row.
        level: Level,
        /// Column name as in the database.
        column: String,
        /// Value before.
        old: String,
        /// Value now.
        new: String,
    },
}

/// What one object says about its patient, study, series and image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowValues {
    /// Patient ID as the key of its row, empty only when that is allowed.
    pub patient_id: Vec<u8>,
    /// Study Instance UID.
    pub study_uid: Vec<u8>,
    /// Series Instance UID.
    pub series_uid: Vec<u8>,
    /// SOP Instance UID.
    pub sop_instance: Vec<u8>,
    /// SOP Class UID.
    pub sop_class: Vec<u8>,
    /// Modality, cut to its column.
    pub modality: Vec<u8>,
    /// Specific Character Set, raw.
    pub charset: Vec<u8>,
    /// Whether the patient name was absent and `NO NAME` stands for it.
    pub name_is_default: bool,
    /// Stored columns per level, as `row` writes them.
    pub columns: [Vec<u8>; 4],
    /// What the log should hear.
    pub warnings: Vec<Warning>,
}

impl RowValues {
    /// Stored columns of one level.
    pub fn level(&self, level: Level) -> &[u8] {
        self.columns.get(level.index()).map_or(&[], Vec::as_slice)
    }
}

/// A set of columns ready to read headers with.
#[derive(Debug, Clone)]
pub struct Extractor {
    layout: Layout,
    modality_width: usize,
}

impl Extractor {
    /// For these columns.
    pub fn new(columns: &Columns) -> Self {
        let layout = Layout::new(columns);
        let modality_width = layout
            .stored(Level::Series)
            .iter()
            .find(|c| c.tag == Tag::MODALITY)
            .map_or(16, |c| usize::from(c.width));
        Self {
            layout,
            modality_width,
        }
    }

    /// The layout the values are written in.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Reads the values of all four rows.
    pub fn extract(
        &self,
        header: &dyn HeaderSource,
        policy: ExtractPolicy,
    ) -> Result<RowValues, Refused> {
        let mut warnings = Vec::new();
        let mut uid = |tag| identifier(header, tag, policy, &mut warnings);
        let study_uid = uid(Tag::STUDY_INSTANCE_UID)?;
        let series_uid = uid(Tag::SERIES_INSTANCE_UID)?;
        let sop_instance = uid(Tag::SOP_INSTANCE_UID)?;
        let charset = header
            .value(Tag::SPECIFIC_CHARACTER_SET)
            .map_or_else(Vec::new, |v| trimmed(&v).to_vec());
        let modality = header.value(Tag::MODALITY).map_or_else(Vec::new, |v| {
            let v = trimmed(&v);
            v.get(..self.modality_width).unwrap_or(v).to_vec()
        });
        let mut values = RowValues {
            patient_id: Vec::new(),
            study_uid,
            series_uid,
            sop_instance,
            sop_class: header
                .value(Tag::SOP_CLASS_UID)
                .map_or_else(Vec::new, |v| trimmed(&v).to_vec()),
            modality,
            charset,
            name_is_default: header.value(Tag::PATIENT_NAME).is_none(),
            columns: Default::default(),
            warnings,
        };
        for level in Level::ALL {
            let mut block = Vec::with_capacity(256);
            for (position, column) in self.layout.stored(level).iter().enumerate() {
                let value = values.column(header, policy, level, position, column);
                if (level, column.tag) == (Level::Patient, Tag::PATIENT_ID) {
                    values.patient_id = value.as_deref().unwrap_or_default().to_vec();
                }
                put_column(&mut block, value.as_deref());
            }
            if let Some(place) = values.columns.get_mut(level.index()) {
                *place = block;
            }
        }
        Ok(values)
    }
}

impl RowValues {
    /// The value of one stored column.
    fn column(
        &mut self,
        header: &dyn HeaderSource,
        policy: ExtractPolicy,
        level: Level,
        position: usize,
        column: &StoredColumn,
    ) -> Option<Vec<u8>> {
        let filled = |bytes: &[u8]| (!bytes.is_empty()).then(|| bytes.to_vec());
        match column.tag {
            _ if position == crate::layout::CHARSET => return filled(&self.charset),
            Tag::SOP_CLASSES_IN_STUDY if level == Level::Series => return filled(&self.sop_class),
            // The study's list starts with the first modality, also when that is empty.
            Tag::MODALITIES_IN_STUDY if level == Level::Study => {
                return Some(self.modality.clone());
            }
            Tag::STUDY_INSTANCE_UID if level == Level::Study => return filled(&self.study_uid),
            Tag::SERIES_INSTANCE_UID if level == Level::Series => return filled(&self.series_uid),
            Tag::SOP_INSTANCE_UID if level == Level::Image => return filled(&self.sop_instance),
            Tag::PATIENT_NAME if self.name_is_default => return Some(ABSENT_PATIENT_NAME.to_vec()),
            _ => {}
        }
        let raw = header.value(column.tag).filter(|raw| !raw.is_empty());
        let value = raw.map(|raw| normalised(&raw, column.kind).to_vec());
        let Some(mut value) = value else {
            let default = column.tag == Tag::PATIENT_ID && !policy.allow_empty_patient_id;
            return default.then(|| EMPTY_PATIENT_ID.to_vec());
        };
        if column.tag == Tag::PATIENT_ID && value.is_empty() {
            return (!policy.allow_empty_patient_id).then(|| EMPTY_PATIENT_ID.to_vec());
        }
        let width = usize::from(column.width);
        if width > 0 && value.len() > width {
            self.warnings.push(Warning::Truncated {
                column: column.name.clone(),
                from: value.len(),
                to: width,
            });
            value.truncate(cut_at(&value, width, &self.charset));
        }
        Some(value)
    }
}

/// A UID that must be there.
fn identifier(
    header: &dyn HeaderSource,
    tag: Tag,
    policy: ExtractPolicy,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<u8>, Refused> {
    let value = header.value(tag).unwrap_or_default();
    let value = trimmed(&value);
    if value.is_empty() {
        return Err(Refused::MissingUid(tag));
    }
    let taken =
        is_valid_uid(value) || (policy.accept_invalid_uids && value.len() <= IDENTIFIER_MAX);
    if !taken {
        return Err(Refused::InvalidUid {
            tag,
            value: printable(value),
        });
    }
    let zero = |part: &[u8]| part.len() > 1 && part.starts_with(b"0");
    if value.split(|&b| b == b'.').any(zero) {
        warnings.push(Warning::LeadingZero(tag));
    }
    Ok(value.to_vec())
}

/// Text for messages: at most 80 bytes, what is not printable ASCII becomes a question mark.
pub fn printable(value: &[u8]) -> String {
    let start = value.get(..80).unwrap_or(value);
    start
        .iter()
        .map(|&b| {
            if (0x20..0x7F).contains(&b) {
                char::from(b)
            } else {
                '?'
            }
        })
        .collect()
}

/// Without trailing spaces and NULs.
pub fn trimmed(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|&b| b != b' ' && b != 0);
    end.map_or(&[], |end| value.get(..=end).unwrap_or_default())
}

fn normalised(raw: &[u8], kind: ColumnType) -> Cow<'_, [u8]> {
    let value = trimmed(raw);
    if kind == ColumnType::Date && value.contains(&b'.') {
        // ACR-NEMA wrote 1998.04.14.
        return value
            .iter()
            .copied()
            .filter(|&b| b != b'.')
            .collect::<Vec<_>>()
            .into();
    }
    Cow::Borrowed(value)
}

/// Where to cut: at the width, but never inside a UTF-8 character.
fn cut_at(value: &[u8], width: usize, charset: &[u8]) -> usize {
    if charset != b"ISO_IR 192" {
        return width;
    }
    let continues = |at: usize| value.get(at).is_some_and(|b| b & 0xC0 == 0x80);
    (0..=width)
        .rev()
        .find(|&at| !continues(at))
        .unwrap_or(width)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::row::column;

    /// A plausible header, with these elements changed; an empty list of bytes with `None` removes one.
    pub fn header(changes: &[(Tag, Option<&str>)]) -> BTreeMap<Tag, Vec<u8>> {
        let mut header: BTreeMap<Tag, Vec<u8>> = [
            (Tag::SOP_CLASS_UID, "1.2.840.10008.5.1.4.1.1.2"),
            (Tag::SOP_INSTANCE_UID, "1.2.9.1.1.1.1"),
            (Tag::STUDY_DATE, "20200102"),
            (Tag::STUDY_TIME, "101112"),
            (Tag::ACCESSION_NUMBER, "A1"),
            (Tag::MODALITY, "CT"),
            (Tag::STUDY_DESCRIPTION, "first desc"),
            (Tag::SERIES_DESCRIPTION, "ser desc"),
            (Tag::PATIENT_NAME, "Scen^Base"),
            (Tag::PATIENT_ID, "SC1"),
            (Tag::PATIENT_BIRTH_DATE, "19600304"),
            (Tag::PATIENT_SEX, "M"),
            (Tag::STUDY_INSTANCE_UID, "1.2.9.1.1"),
            (Tag::SERIES_INSTANCE_UID, "1.2.9.1.1.1"),
            (Tag::STUDY_ID, "1"),
            (Tag::SERIES_NUMBER, "1"),
            (Tag::INSTANCE_NUMBER, "1"),
            (Tag::ROWS, "8"),
            (Tag::COLUMNS, "8"),
        ]
        .into_iter()
        .map(|(tag, value)| (tag, value.as_bytes().to_vec()))
        .collect();
        for (tag, value) in changes {
            match value {
                Some(value) => drop(header.insert(*tag, value.as_bytes().to_vec())),
                None => drop(header.remove(tag)),
            }
        }
        header
    }

    fn extract(changes: &[(Tag, Option<&str>)]) -> Result<RowValues, Refused> {
        Extractor::new(&Columns::default()).extract(&header(changes), ExtractPolicy::default())
    }

    fn value(values: &RowValues, level: Level, tag: Tag) -> Option<String> {
        let layout = Layout::new(&Columns::default());
        let position = layout.position(level, tag).unwrap();
        column(values.level(level), position).map(|v| String::from_utf8_lossy(v).into_owned())
    }

    #[test]
    fn values_are_normalised() {
        let values = extract(&[
            (Tag::STUDY_DATE, Some("1998.04.14")),
            (Tag::PATIENT_ID, Some("  LEAD1  ")),
            (Tag::STUDY_DESCRIPTION, Some("")),
            (Tag::INSTITUTION_NAME, Some("  ")),
            (Tag::MODALITY, Some("ABCDEFGHIJKLMNOPQRST")),
        ])
        .unwrap();
        let text = |level, tag| value(&values, level, tag);
        assert_eq!(
            text(Level::Study, Tag::STUDY_DATE).as_deref(),
            Some("19980414")
        );
        assert_eq!(values.patient_id, b"  LEAD1");
        assert_eq!(text(Level::Study, Tag::STUDY_DESCRIPTION), None);
        assert_eq!(
            text(Level::Series, Tag::INSTITUTION_NAME).as_deref(),
            Some("")
        );
        assert_eq!(
            text(Level::Series, Tag::MODALITY).as_deref(),
            Some("ABCDEFGHIJKLMNOP")
        );
        let list = text(Level::Study, Tag::MODALITIES_IN_STUDY);
        assert_eq!(list.as_deref(), Some("ABCDEFGHIJKLMNOP"));
        assert_eq!(values.warnings.len(), 1);
    }

    #[test]
    fn absent_patients_get_their_names() {
        let values = extract(&[(Tag::PATIENT_ID, None), (Tag::PATIENT_NAME, None)]).unwrap();
        assert_eq!(values.patient_id, EMPTY_PATIENT_ID);
        let name = value(&values, Level::Study, Tag::PATIENT_NAME);
        assert_eq!(name.as_deref(), Some("NO NAME"));
        let policy = ExtractPolicy {
            allow_empty_patient_id: true,
            ..ExtractPolicy::default()
        };
        let header = header(&[(Tag::PATIENT_ID, Some(" "))]);
        let values = Extractor::new(&Columns::default()).extract(&header, policy);
        assert!(values.unwrap().patient_id.is_empty());
    }

    #[test]
    fn uids_must_be_there_and_valid() {
        let tag = Tag::STUDY_INSTANCE_UID;
        assert_eq!(extract(&[(tag, None)]), Err(Refused::MissingUid(tag)));
        assert_eq!(extract(&[(tag, Some(" "))]), Err(Refused::MissingUid(tag)));
        assert!(matches!(
            extract(&[(tag, Some("1..2"))]),
            Err(Refused::InvalidUid { .. })
        ));
        let zero = extract(&[(tag, Some("1.02"))]).unwrap();
        assert_eq!(zero.warnings, [Warning::LeadingZero(tag)]);
        let policy = ExtractPolicy {
            accept_invalid_uids: true,
            ..ExtractPolicy::default()
        };
        let extractor = Extractor::new(&Columns::default());
        assert!(
            extractor
                .extract(&header(&[(tag, Some("../x"))]), policy)
                .is_ok()
        );
        assert!(
            extractor
                .extract(&header(&[(tag, Some(""))]), policy)
                .is_err()
        );
    }

    #[test]
    fn utf8_is_cut_between_characters() {
        let long = "é".repeat(40);
        let values = extract(&[
            (Tag::SPECIFIC_CHARACTER_SET, Some("ISO_IR 192")),
            (Tag::PATIENT_NAME, Some(&format!("x{long}"))),
        ])
        .unwrap();
        let name = value(&values, Level::Patient, Tag::PATIENT_NAME).unwrap();
        assert_eq!(name.len(), 63);
        assert!(!name.contains('\u{FFFD}'));
    }
}
