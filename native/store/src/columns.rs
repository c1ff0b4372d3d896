//! `dicom.sql`: which elements are kept as columns of the four levels and of the worklist.
//!
//! The file is Conquest's: five sections `*Patient*` … `*WorkList*`, each a list of
//! `{ 0xgggg, 0xeeee, "Name", length, SQL_C_type, DT_type }`, worklist lines with an HL7 field besides.
//! The first column of a level is its unique key, the last of study, series and image the link upwards.
//! Parsing never guesses: what cannot be read is an error with line and column.

use std::fmt;
use std::sync::Arc;

use pyserver_proto::tag::Tag;

use crate::schema::Level;

/// The layout used when the installation has no `dicom.sql` of its own (revision 19).
pub const DEFAULT_TEXT: &str = include_str!("../../../pyserver/config/data/dicom.sql");

/// Longest column name kept in the database; Conquest cuts the rest.
const DB_NAME_MAX: usize = 10;
/// Most columns per section. LIMIT: SQLite's default is 2000, real files have about 25.
const COLUMNS_MAX: usize = 500;
/// Widest column. LIMIT: rows must stay small beside a 4 KiB page; real files stop at 255.
const WIDTH_MAX: u16 = 2048;

/// How values of a column are compared and returned (the DT_ name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// DT_STR: as it stands.
    Str,
    /// DT_ISTR: case does not matter.
    Istr,
    /// DT_MSTR: several values, each matched alone.
    Mstr,
    /// DT_DATE.
    Date,
    /// DT_TIME.
    Time,
    /// DT_UI.
    Uid,
    /// DT_UINT16 and its relatives: a binary number, kept as decimal text.
    Number,
    /// DT_STARTSEQUENCE: the following worklist columns are in an item of this sequence.
    StartSequence,
    /// DT_ENDSEQUENCE.
    EndSequence,
}

impl ColumnType {
    /// The DT_ name; numbers of every width are kept alike and answer `DT_UINT16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Str => "DT_STR",
            Self::Istr => "DT_ISTR",
            Self::Mstr => "DT_MSTR",
            Self::Date => "DT_DATE",
            Self::Time => "DT_TIME",
            Self::Uid => "DT_UI",
            Self::Number => "DT_UINT16",
            Self::StartSequence => "DT_STARTSEQUENCE",
            Self::EndSequence => "DT_ENDSEQUENCE",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "DT_STR" => Self::Str,
            "DT_ISTR" => Self::Istr,
            "DT_MSTR" => Self::Mstr,
            "DT_DATE" => Self::Date,
            "DT_TIME" => Self::Time,
            "DT_UI" => Self::Uid,
            "DT_UINT8" | "DT_INT8" | "DT_UINT16" | "DT_INT16" | "DT_UINT32" | "DT_INT32"
            | "DT_FL" | "DT_FD" => Self::Number,
            "DT_STARTSEQUENCE" => Self::StartSequence,
            "DT_ENDSEQUENCE" => Self::EndSequence,
            _ => return None,
        })
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The element it is filled from.
    pub tag: Tag,
    /// Name as written.
    pub name: String,
    /// Width in bytes; longer values are cut.
    pub length: u16,
    /// The SQL_C_ name as written; it decides nothing here.
    pub sql_type: String,
    /// How values compare.
    pub kind: ColumnType,
    /// HL7 field of a worklist column.
    pub hl7: Option<String>,
}

impl Column {
    /// Name in the database: at most ten characters.
    pub fn db_name(&self) -> &str {
        self.name
            .char_indices()
            .nth(DB_NAME_MAX)
            .and_then(|(end, _)| self.name.get(..end))
            .unwrap_or(&self.name)
    }

    /// Whether this is one of Conquest's dashed lines around worklist items.
    pub fn is_sequence_mark(&self) -> bool {
        matches!(
            self.kind,
            ColumnType::StartSequence | ColumnType::EndSequence
        )
    }
}

/// The parsed file. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Columns {
    inner: Arc<Inner>,
}

#[derive(PartialEq, Eq)]
struct Inner {
    levels: [Vec<Column>; 4],
    worklist: Vec<Column>,
}

impl fmt::Debug for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.inner.levels.each_ref().map(Vec::len);
        write!(f, "Columns({counts:?}, {})", self.inner.worklist.len())
    }
}

impl Default for Columns {
    /// The built-in layout.
    fn default() -> Self {
        // INVARIANT: DEFAULT_TEXT parses; `the_default_parses` tests it.
        Self::parse(DEFAULT_TEXT).unwrap_or_else(|_| Self {
            inner: Arc::new(Inner {
                levels: [const { Vec::new() }; 4],
                worklist: Vec::new(),
            }),
        })
    }
}

/// What is wrong with a `dicom.sql`, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("dicom.sql line {line}, column {column}: {message}")]
pub struct ColumnError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What was expected or found.
    pub message: String,
}

impl Columns {
    /// Reads the text of a `dicom.sql`.
    pub fn parse(text: &str) -> Result<Self, ColumnError> {
        let mut parser = Parser { text, at: 0 };
        let mut sections: [Option<Vec<Column>>; 5] = Default::default();
        while parser.skip_blank()? {
            let start = parser.at;
            let section = parser.section()?;
            let columns = parser.columns(section == 4)?;
            let Some(place) = sections.get_mut(section) else {
                continue;
            };
            if place.is_some() {
                return Err(parser.error_at(start, "this section stands here twice"));
            }
            *place = Some(columns);
        }
        let [patient, study, series, image, worklist] = sections;
        let need = |section: Option<Vec<Column>>, name: &str| {
            section
                .ok_or_else(|| parser.error_at(text.len(), &format!("section *{name}* is missing")))
        };
        let levels = [
            need(patient, "Patient")?,
            need(study, "Study")?,
            need(series, "Series")?,
            need(image, "Image")?,
        ];
        let columns = Self {
            inner: Arc::new(Inner {
                levels,
                worklist: worklist.unwrap_or_default(),
            }),
        };
        columns
            .check()
            .map_err(|message| parser.error_at(text.len(), &message))?;
        Ok(columns)
    }

    /// The first column must be the unique key of its level, the last its link to the level above.
    fn check(&self) -> Result<(), String> {
        for level in Level::ALL {
            let columns = self.level(level);
            let key = unique_key(level);
            if columns.first().map(|c| c.tag) != Some(key) {
                return Err(format!(
                    "the first column of *{}* must be {key}",
                    level.name()
                ));
            }
            let Some(link) = link_key(level) else {
                continue;
            };
            if columns.len() < 2 || columns.last().map(|c| c.tag) != Some(link) {
                return Err(format!(
                    "the last column of *{}* must be {link}",
                    level.name()
                ));
            }
        }
        for level in Level::ALL {
            if let Some(column) = self.level(level).iter().find(|c| c.is_sequence_mark()) {
                return Err(format!("{} may only stand in *WorkList*", column.tag));
            }
        }
        Ok(())
    }

    /// Columns of one level, as written, key first and link last.
    pub fn level(&self, level: Level) -> &[Column] {
        let [patient, study, series, image] = &self.inner.levels;
        match level {
            Level::Patient => patient,
            Level::Study => study,
            Level::Series => series,
            Level::Image => image,
        }
    }

    /// Columns of the worklist, sequence marks included.
    pub fn worklist(&self) -> &[Column] {
        &self.inner.worklist
    }
}

/// Element that identifies a row of a level.
pub const fn unique_key(level: Level) -> Tag {
    match level {
        Level::Patient => Tag::PATIENT_ID,
        Level::Study => Tag::STUDY_INSTANCE_UID,
        Level::Series => Tag::SERIES_INSTANCE_UID,
        Level::Image => Tag::SOP_INSTANCE_UID,
    }
}

/// Element that links a row to the level above.
pub const fn link_key(level: Level) -> Option<Tag> {
    match level {
        Level::Patient => None,
        Level::Study => Some(Tag::PATIENT_ID),
        Level::Series => Some(Tag::STUDY_INSTANCE_UID),
        Level::Image => Some(Tag::SERIES_INSTANCE_UID),
    }
}

/// A cursor over the text.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error_at(&self, at: usize, message: &str) -> ColumnError {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        ColumnError {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |s| s.chars().count()) + 1,
            message: message.to_owned(),
        }
    }

    fn error(&self, message: &str) -> ColumnError {
        self.error_at(self.at, message)
    }

    /// Skips white space, `/* … */` and `#` lines; answers whether anything is left.
    fn skip_blank(&mut self) -> Result<bool, ColumnError> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if let Some(comment) = trimmed.strip_prefix("/*") {
                let Some(end) = comment.find("*/") else {
                    return Err(self.error("this comment never ends"));
                };
                self.at += end + 4;
            } else if trimmed.starts_with('#') || trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else {
                return Ok(!trimmed.is_empty());
            }
        }
    }

    fn symbol(&mut self, symbol: char) -> Result<(), ColumnError> {
        self.skip_blank()?;
        if !self.rest().starts_with(symbol) {
            return Err(self.error(&format!("expected '{symbol}'")));
        }
        self.at += symbol.len_utf8();
        Ok(())
    }

    fn word(&mut self) -> Result<&'a str, ColumnError> {
        self.skip_blank()?;
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        if end == 0 {
            return Err(self.error("expected a word or a number"));
        }
        self.at += end;
        Ok(rest.get(..end).unwrap_or_default())
    }

    /// `*Patient*`
    fn section(&mut self) -> Result<usize, ColumnError> {
        const NAMES: [&str; 5] = ["Patient", "Study", "Series", "Image", "WorkList"];
        self.symbol('*')?;
        let start = self.at;
        let name = self.word()?;
        let Some(section) = NAMES.iter().position(|n| n.eq_ignore_ascii_case(name)) else {
            return Err(self.error_at(start, &format!("no section is called *{name}*")));
        };
        self.symbol('*')?;
        Ok(section)
    }

    fn columns(&mut self, worklist: bool) -> Result<Vec<Column>, ColumnError> {
        let mut columns = Vec::new();
        while self.skip_blank()? && self.rest().starts_with('{') {
            if columns.len() == COLUMNS_MAX {
                return Err(self.error(&format!("more than {COLUMNS_MAX} columns")));
            }
            columns.push(self.column(worklist)?);
            self.skip_blank()?;
            if self.rest().starts_with(',') {
                self.at += 1;
            }
        }
        if columns.is_empty() {
            return Err(self.error("expected '{'"));
        }
        Ok(columns)
    }

    /// `{ 0x0010, 0x0020, "PatientID", 64, SQL_C_CHAR, DT_STR }`
    fn column(&mut self, worklist: bool) -> Result<Column, ColumnError> {
        self.symbol('{')?;
        let group = self.number()?;
        self.symbol(',')?;
        let element = self.number()?;
        self.symbol(',')?;
        let name = self.quoted()?;
        self.symbol(',')?;
        self.skip_blank()?;
        let width_at = self.at;
        let length = self.number()?;
        self.symbol(',')?;
        let sql_type = self.word()?.to_owned();
        self.symbol(',')?;
        self.skip_blank()?;
        let kind_at = self.at;
        let kind = self.word()?;
        let Some(kind) = ColumnType::parse(kind) else {
            return Err(self.error_at(kind_at, &format!("unknown type {kind}")));
        };
        self.skip_blank()?;
        let mut hl7 = None;
        if worklist && self.rest().starts_with(',') {
            self.at += 1;
            hl7 = Some(self.quoted()?);
        }
        self.symbol('}')?;
        let column = Column {
            tag: Tag::new(group, element),
            name,
            length,
            sql_type,
            kind,
            hl7,
        };
        if length > WIDTH_MAX || (length == 0 && !column.is_sequence_mark()) {
            let message = format!("the width must be 1 to {WIDTH_MAX}");
            return Err(self.error_at(width_at, &message));
        }
        Ok(column)
    }

    fn number(&mut self) -> Result<u16, ColumnError> {
        self.skip_blank()?;
        let start = self.at;
        let word = self.word()?;
        let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
        let number = match hex {
            Some(digits) => u16::from_str_radix(digits, 16),
            None => word.parse(),
        };
        number.map_err(|_| self.error_at(start, &format!("{word} is not a number up to 65535")))
    }

    fn quoted(&mut self) -> Result<String, ColumnError> {
        self.symbol('"')?;
        let rest = self.rest();
        // The manual's own listing lacks a closing quote once; the brace ends such a name.
        let Some(end) = rest.find(['"', '}', '\n']) else {
            return Err(self.error("this name never ends"));
        };
        let name = rest.get(..end).unwrap_or_default();
        self.at += end;
        if rest.as_bytes().get(end) == Some(&b'"') {
            self.at += 1;
        }
        if name.trim().is_empty() {
            return Err(self.error("a column needs a name"));
        }
        Ok(name.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_parses() {
        let columns = Columns::parse(DEFAULT_TEXT).unwrap();
        assert_eq!(columns, Columns::default());
        assert_eq!(columns.level(Level::Patient).len(), 4);
        assert_eq!(columns.level(Level::Study).len(), 14);
        assert_eq!(columns.level(Level::Series).len(), 17);
        assert_eq!(columns.level(Level::Image).len(), 21);
        let names: Vec<_> = columns
            .worklist()
            .iter()
            .filter(|c| !c.is_sequence_mark())
            .map(Column::db_name)
            .collect();
        assert_eq!(names.len(), 24);
        assert_eq!(names.first(), Some(&"AccessionN"));
        assert!(names.contains(&"SchedStati"));
    }

    #[test]
    fn errors_name_their_place() {
        let bad = DEFAULT_TEXT.replace(
            "\"StudyDate\",          8, SQL_C_DATE, DT_DATE",
            "\"StudyDate\", 8, SQL_C_DATE, DT_DATUM",
        );
        let error = Columns::parse(&bad).unwrap_err();
        assert!(error.line > 20 && error.column > 20, "{error}");
        assert!(error.message.contains("DT_DATUM"), "{error}");
        assert!(
            Columns::parse("")
                .unwrap_err()
                .message
                .contains("*Patient*")
        );
        assert!(Columns::parse("/* x").is_err());
        let moved = DEFAULT_TEXT.replacen("0x0020, 0x000d", "0x0020, 0x0010", 1);
        assert!(
            Columns::parse(&moved)
                .unwrap_err()
                .message
                .contains("first column")
        );
    }

    proptest! {
        #[test]
        fn damaged_text_never_panics(cut in 0..DEFAULT_TEXT.len(), junk in ".{0,20}") {
            let mut text: String = DEFAULT_TEXT.chars().take(cut).collect();
            text.push_str(&junk);
            let _ = Columns::parse(&text);
        }
    }
}
