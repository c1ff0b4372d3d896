//! The seam to a database server: what the store asks of one, in rows and conditions, never in SQL.
//!
//! The index in LMDB is committed first and decides what may be stored; a driver keeps Conquest's four tables in
//! step with it (`mirror`) and answers queries (`answers`). Calls may block: none is made while a lock or a
//! transaction that others wait for is held, apart from the committer's own turn.

use crate::plan::Counted;
use crate::schema::Level;

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// SQL's NULL: never written.
    Null,
    /// Bytes in the character set of their object.
    Raw(Vec<u8>),
    /// Text that has been decoded.
    Text(String),
    /// A number.
    Number(i64),
}

impl Cell {
    /// Its bytes; numbers as decimal text.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Null => None,
            Self::Raw(bytes) => Some(bytes),
            Self::Text(text) => Some(text.into_bytes()),
            Self::Number(number) => Some(number.to_string().into_bytes()),
        }
    }
}

/// Values in the order that was asked for.
pub type Row = Vec<Cell>;

/// In which form a database keeps text beyond ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextForm {
    /// As it came, in the character set of each object (Conquest with `UTF8ToDB = 0`).
    Raw,
    /// Decoded.
    Unicode,
}

/// What one transaction of the database does: the deletes first, then the rows, each under its key whether it
/// is there or not. Doing it twice gives the same rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverBatch {
    /// Rows that go, with all below: level and key.
    pub deletes: Vec<(Level, Cell)>,
    /// Whole rows per level: the columns of `dicom.sql` in order, the access time, and for images file and
    /// device.
    pub rows: [Vec<Row>; 4],
}

impl DriverBatch {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.rows.iter().all(Vec::is_empty)
    }
}

/// What a value must be like for its row to come out. Rows that do not fit the query may come as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// One of these.
    AnyOf(Vec<String>),
    /// Text with `*` for any characters, case ignored.
    Like(String),
    /// Not below.
    AtLeast(String),
    /// Not above.
    AtMost(String),
}

/// A column: level, and number in that level's part of `dicom.sql`.
pub type ColumnPlace = (Level, usize);

/// Rows of a level joined with those above, as far as columns of these are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowQuery {
    /// Level of the rows.
    pub level: Level,
    /// Columns wanted, in the order of the cells.
    pub columns: Vec<ColumnPlace>,
    /// Children to count, one cell each, behind the columns.
    pub counts: Vec<Counted>,
    /// Whether the SOP classes of the study are wanted: one cell, joined by backslashes.
    pub sop_classes: bool,
    /// Whether file and device of the image are wanted: two cells.
    pub file: bool,
    /// All must hold.
    pub conditions: Vec<(ColumnPlace, Condition)>,
    /// Column to sort by, bytewise.
    pub sort: Option<ColumnPlace>,
}

/// Why a database did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// It cannot be reached; it may come back.
    #[error("the database is away: {0}")]
    Away(String),
    /// It answered, and refused.
    #[error("the database refused: {0}")]
    Refused(String),
}

/// Rows that come a page at a time; dropping it ends the query.
pub trait RowPages: Send {
    /// The next rows, some number of them; none at the end.
    fn next_page(&mut self) -> Result<Vec<Row>, DriverError>;
}

/// A database with Conquest's tables.
pub trait Driver: Send + Sync + 'static {
    /// Which database it is; another one has other rows.
    fn identity(&self) -> String;

    /// How it keeps text.
    fn text_form(&self) -> TextForm;

    /// Longest key of a level in characters; 0 sets no limit.
    fn key_length_max(&self, level: Level) -> usize;

    /// Does a batch in one transaction. Answers the studies above deleted rows that are still there, whose rows
    /// may have to change.
    fn apply(&self, batch: &DriverBatch) -> Result<Vec<Vec<u8>>, DriverError>;

    /// Makes what was done so far survive a power cut, where the database does not do so by itself.
    fn sync(&self) -> Result<(), DriverError>;

    /// Starts a query.
    fn find(&self, query: &RowQuery) -> Result<Box<dyn RowPages>, DriverError>;

    /// Starts to read the worklist: the first so many columns, in the order of `dicom.sql`; conditions name
    /// columns by number.
    fn worklist(
        &self,
        columns: usize,
        conditions: &[(usize, Condition)],
    ) -> Result<Box<dyn RowPages>, DriverError>;

    /// In one transaction, takes out entries of the worklist, each key naming columns and their values, and adds
    /// others: their columns, and the time. Answers how many went.
    fn change_worklist(
        &self,
        removed: &[Vec<(usize, Cell)>],
        added: &[Row],
    ) -> Result<u64, DriverError>;

    /// Rows per level.
    fn counts(&self) -> Result<[u64; 4], DriverError>;
}
