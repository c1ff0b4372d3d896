//! A query bound to the columns in force: what is compared with what, what is returned, and how to find it.
//!
//! Each key is looked up in the columns of its level and then of the levels above; keys known nowhere and
//! keys of lower levels neither match nor return anything, as Conquest has it and PS3.4 section C.2.2.1.3
//! allows for unsupported optional keys; sequences come back without items. The unique key of the level is always returned. The
//! plan uses the most selective lookup that a key allows and walks the hierarchy from there.

use std::fmt::Write as _;

use pyserver_proto::charset::CharacterSet;
use pyserver_proto::query::{DateTimePair, Matcher};
use pyserver_proto::tag::Tag;
use pyserver_proto::vr::Vr;

use crate::schema::{Level, SearchKind};

/// What the server says about itself and wants of queries.
#[derive(Debug, Clone, Default)]
pub struct BindOptions {
    /// Our AE title, for Retrieve AE Title.
    pub own_ae: String,
    /// `EnableComputedFields`: answer the NumberOf… keys and the like.
    pub computed_fields: bool,
}

/// Why a query cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// A query of the worklist came to the wrong place.
    #[error("this is a query for the worklist")]
    Worklist,
    /// A retrieve without a single identifier would take everything.
    #[error("a retrieve needs the unique key {0}")]
    NoIdentifier(Tag),
    /// Wildcards in identifiers are for queries only.
    #[error("wildcards are not allowed in {0} of a retrieve")]
    Wildcard(Tag),
}

impl BindError {
    /// The C-FIND, C-MOVE or C-GET status that says it.
    pub const fn status(&self) -> u16 {
        0xA900
    }
}

/// Where a value comes from when a row is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A stored value: level, and place among the values that the query reads of that level.
    Column(Level, usize),
    /// Children counted in the row of this level.
    Count(Level, Counted),
    /// SOP classes of the series of the study.
    SopClasses,
    /// Our AE title.
    OwnAe,
    /// `ONLINE`.
    Availability,
    /// Query/Retrieve Level.
    QueryLevel,
    /// Path of the file (9999,0800).
    File,
    /// Device of the file (9999,0801).
    Device,
    /// A sequence without items: asked for, not kept.
    NoItems,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Studies below.
    Studies,
    /// Series below.
    Series,
    /// Images below.
    Instances,
}

/// One comparison.
#[derive(Debug, Clone)]
pub struct Filter {
    /// What is compared.
    pub value: Value,
    /// With what.
    pub matcher: Matcher,
    /// VR of the stored value.
    pub vr: Vr,
    /// DT_ISTR.
    pub ignore_case: bool,
    /// DT_MSTR.
    pub multi_valued: bool,
    pub(crate) tag: Tag,
}

/// One element of the response.
#[derive(Debug, Clone)]
pub struct Returned {
    /// Its tag.
    pub tag: Tag,
    /// Its VR.
    pub vr: Vr,
    /// Its value.
    pub value: Value,
}

/// How candidates are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Rows with these identifiers.
    Keys(Level, Vec<Vec<u8>>),
    /// Patients whose ID starts like this (a `text_key`).
    PatientIds(Vec<u8>),
    /// Entries of the search table between two texts, both included; with `exact`, of one text.
    Search {
        /// Which texts.
        kind: SearchKind,
        /// First text.
        from: String,
        /// Start of the last texts; `None` without upper end.
        to: Option<String>,
        /// Whether only the text itself counts, not what starts with it.
        exact: bool,
    },
    /// All rows of a level.
    Scan(Level),
}

/// A date and a time to match together.
#[derive(Debug, Clone, Copy)]
pub struct BoundPair {
    /// The moments asked for.
    pub pair: DateTimePair,
    /// Where the date is.
    pub date: Value,
    /// Where the time is.
    pub time: Value,
}

/// A query ready to run.
#[derive(Debug, Clone)]
pub struct BoundQuery {
    pub(crate) level: Level,
    /// Stored positions that are read, per level; the first is the character set.
    pub(crate) reads: [Vec<usize>; 4],
    pub(crate) filters: [Vec<Filter>; 4],
    pub(crate) pairs: Vec<BoundPair>,
    pub(crate) returned: Vec<Returned>,
    pub(crate) dumped: Vec<Value>,
    pub(crate) access: Access,
    /// Level and value to sort by.
    pub(crate) sort: Option<(Level, usize)>,
    pub(crate) limit: Option<u64>,
    pub(crate) offset: u64,
    pub(crate) own_ae: String,
    pub(crate) charset: CharacterSet,
    pub(crate) charset_given: bool,
}

impl BoundQuery {
    /// Level of the rows that come out.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The elements of each response.
    pub fn returned(&self) -> &[Returned] {
        &self.returned
    }

    /// How the rows are found, for people.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        let access = match &self.access {
            Access::Keys(level, keys) => {
                format!("look up {} {} by identifier", keys.len(), level.name())
            }
            Access::PatientIds(start) => {
                let start = String::from_utf8_lossy(start);
                format!("patient IDs that start with {start:?}")
            }
            Access::Search {
                kind,
                from,
                to,
                exact,
            } => match (exact, to) {
                (true, _) => format!("index {kind:?} = {from:?}"),
                (false, Some(to)) if to == from => format!("index {kind:?} starts with {from:?}"),
                (false, to) => format!("index {kind:?} from {from:?} to {to:?}"),
            },
            Access::Scan(level) => format!("all rows of level {}", level.name()),
        };
        let _ = writeln!(text, "access: {access}");
        for (level, filters) in Level::ALL.into_iter().zip(&self.filters) {
            for filter in filters {
                let _ = writeln!(
                    text,
                    "filter: {} {} {:?}",
                    level.name(),
                    filter.tag,
                    filter.matcher
                );
            }
        }
        if !self.pairs.is_empty() {
            let _ = writeln!(text, "filter: {} date and time pairs", self.pairs.len());
        }
        if let Some((level, _)) = self.sort {
            let _ = writeln!(text, "sort: by a value of level {}", level.name());
        }
        let _ = writeln!(text, "rows: {}", self.level.name());
        text
    }
}
