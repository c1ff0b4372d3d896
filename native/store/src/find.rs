//! Running a bound query: from the plan's candidates down the hierarchy, page by page.
//!
//! A page is one read transaction; the cursor remembers the last row that came out, and the next page goes
//! on behind it. Rows are looked at in place: nothing is copied or allocated per row. Sorting collects the
//! keys of one level first and then walks the rest in that order.

use std::ops::ControlFlow;

use crate::bytes::Reader;
use crate::index::ReadTxn;
use crate::index_error::IndexError;
use crate::lmdb::from_key;
use crate::parents::parent_table;
use crate::plan::{Access, BoundQuery};
use crate::schema::{ImageKey, Level, SearchKind, search_number, search_prefix};
use crate::search::origin;
use crate::walk::{Path, RowView, Walk};

/// Most rows that are sorted. LIMIT: about 64 bytes each.
const SORTED_MAX: usize = 2_000_000;

/// Where a query goes on. Belongs to one `BoundQuery`.
#[derive(Debug, Default)]
pub struct FindCursor {
    source: Option<Source>,
    /// Position in the source: index into a list, or last number of a scan.
    at: usize,
    /// The last row that came out below the current candidate.
    last: Path,
    /// Rows still to be skipped.
    skip: u64,
    /// Rows that may still come out.
    left: Option<u64>,
    /// Counts loads of parent rows, so that views of different parents have different stamps.
    stamp: u64,
}

#[derive(Debug)]
enum Source {
    List(Vec<Candidate>),
    Scan(Level),
}

/// A row to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Candidate {
    Row(Level, u32),
    Image(ImageKey),
}

/// How a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindProgress {
    /// There may be more; call again with the same cursor.
    More,
    /// Every matching row has come out.
    Done,
}

impl ReadTxn<'_> {
    /// Lets out at most `limit` rows, in the order of the plan, from where the cursor stands. `each` may
    /// break off; the next call goes on behind the row it broke off at.
    pub fn find(
        &self,
        query: &BoundQuery,
        cursor: &mut FindCursor,
        limit: usize,
        each: &mut dyn FnMut(&RowView<'_, '_>) -> ControlFlow<()>,
    ) -> Result<FindProgress, IndexError> {
        let source = if let Some(source) = cursor.source.take() {
            source
        } else {
            cursor.skip = query.offset;
            cursor.left = query.limit;
            self.source(query)?
        };
        if cursor.left == Some(0) {
            cursor.source = Some(Source::List(Vec::new()));
            return Ok(FindProgress::Done);
        }
        let mut room = limit.max(1);
        let mut walk = Walk::new(self, query, query.level, cursor.stamp);
        let resume = cursor.last;
        let (skip, left, last) = (&mut cursor.skip, &mut cursor.left, &mut cursor.last);
        let mut sink = |walk: &Walk<'_>, path: Path| {
            *last = path;
            if *skip > 0 {
                *skip -= 1;
                return ControlFlow::Continue(());
            }
            room -= 1;
            *left = left.map(|n| n.saturating_sub(1));
            let flow = each(&RowView::new(walk));
            if room == 0 || *left == Some(0) {
                return ControlFlow::Break(());
            }
            flow
        };
        let flow = self.run(&mut walk, &source, &mut cursor.at, resume, &mut sink)?;
        cursor.stamp = walk.stamp();
        cursor.source = Some(source);
        if flow.is_continue() {
            cursor.left = Some(0);
        }
        Ok(if cursor.left == Some(0) {
            FindProgress::Done
        } else {
            FindProgress::More
        })
    }

    /// Walks all candidates from position `at`; `resume` belongs to the first of them.
    fn run<'t>(
        &'t self,
        walk: &mut Walk<'t>,
        source: &Source,
        at: &mut usize,
        mut resume: Path,
        sink: Sink<'_, 't>,
    ) -> Result<ControlFlow<()>, IndexError> {
        match source {
            Source::List(list) => {
                while let Some(candidate) = list.get(*at) {
                    let flow = match *candidate {
                        Candidate::Row(level, number) => walk.from(level, number, resume, sink)?,
                        Candidate::Image(key) => walk.image(key, resume, sink)?,
                    };
                    if flow.is_break() {
                        return Ok(flow);
                    }
                    resume = Path::default();
                    *at += 1;
                }
            }
            Source::Scan(level) => {
                // A scan starts again at the candidate it stopped in.
                let first = (*at as u32).to_be_bytes();
                let table = parent_table(&self.index.tables, *level);
                for item in table.range(&self.txn, &from_key(&first))? {
                    let (key, _) = item?;
                    let number = Reader::new(key)
                        .u32()
                        .ok_or(IndexError::Corrupt("row key"))?;
                    if number as usize != *at {
                        resume = Path::default();
                        *at = number as usize;
                    }
                    let flow = walk.from(*level, number, resume, sink)?;
                    if flow.is_break() {
                        return Ok(flow);
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The candidates, in order when the query wants order.
    fn source(&self, query: &BoundQuery) -> Result<Source, IndexError> {
        let source = self.candidates(query)?;
        let Some((level, slot)) = query.sort else {
            return Ok(source);
        };
        let lowest = match &source {
            Source::List(list) => list.first().map_or(level, |c| c.level()),
            Source::Scan(at) => *at,
        };
        let target = level.max(lowest);
        let mut keyed = Vec::new();
        let mut walk = Walk::new(self, query, target, 0);
        let mut sink = |walk: &Walk<'_>, path: Path| {
            let key = walk.column(level, slot).unwrap_or_default().to_vec();
            keyed.push((key, Candidate::at(target, path)));
            if keyed.len() < SORTED_MAX {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let flow = self.run(&mut walk, &source, &mut 0, Path::default(), &mut sink)?;
        if flow.is_break() {
            return Err(IndexError::TooManyToSort(SORTED_MAX));
        }
        keyed.sort();
        Ok(Source::List(keyed.into_iter().map(|(_, c)| c).collect()))
    }

    /// The candidates in order of their numbers.
    fn candidates(&self, query: &BoundQuery) -> Result<Source, IndexError> {
        let tables = &self.index.tables;
        let mut list = Vec::new();
        match &query.access {
            Access::Scan(level) => return Ok(Source::Scan(*level)),
            Access::Keys(Level::Image, ids) => {
                for id in ids {
                    list.extend(self.sop_entry(id)?.map(Candidate::Image));
                }
            }
            Access::Keys(level, ids) => {
                for id in ids {
                    let number = self.entry(*level, id)?;
                    list.extend(number.map(|number| Candidate::Row(*level, number)));
                }
            }
            Access::PatientIds(start) => {
                for item in tables.patient_ids.prefix_iter(&self.txn, start)? {
                    let number = Reader::new(item?.1).u32();
                    let number = number.ok_or(IndexError::Corrupt("lookup entry"))?;
                    list.push(Candidate::Row(Level::Patient, number));
                }
            }
            Access::Search {
                kind,
                from,
                to,
                exact,
            } => self.search(*kind, from, to.as_deref(), *exact, &mut list)?,
        }
        list.sort_unstable();
        list.dedup();
        Ok(Source::List(list))
    }

    /// Rows whose folded text lies between two texts; the upper one includes all that starts with it.
    fn search(
        &self,
        kind: SearchKind,
        from: &str,
        to: Option<&str>,
        exact: bool,
        list: &mut Vec<Candidate>,
    ) -> Result<(), IndexError> {
        let level = origin(kind).0;
        let (mut first, mut last) = (Vec::new(), Vec::new());
        search_prefix(kind, from.as_bytes(), &mut first);
        search_prefix(kind, to.unwrap_or_default().as_bytes(), &mut last);
        if exact {
            first.push(0);
            last.push(0);
        }
        let table = self.index.tables.search;
        for item in table.range(&self.txn, &from_key(&first))? {
            let (key, _) = item?;
            let within = key.starts_with(&last) || (to.is_some() && key < last.as_slice());
            if !within {
                break;
            }
            let number = search_number(key).ok_or(IndexError::Corrupt("search key"))?;
            list.push(Candidate::Row(level, number));
        }
        Ok(())
    }
}

/// Called for each row that a walk lets out.
pub(crate) type Sink<'s, 't> = &'s mut dyn FnMut(&Walk<'t>, Path) -> ControlFlow<()>;

impl Candidate {
    fn level(self) -> Level {
        match self {
            Self::Row(level, _) => level,
            Self::Image(_) => Level::Image,
        }
    }

    fn at(level: Level, path: Path) -> Self {
        match level {
            Level::Patient => Self::Row(level, path.patient),
            Level::Study => Self::Row(level, path.study),
            Level::Series => Self::Row(level, path.series),
            Level::Image => Self::Image(ImageKey {
                series: path.series,
                image: path.image,
            }),
        }
    }
}
