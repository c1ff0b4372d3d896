//! The rows that a query lets out, wherever they are kept: in the index, in a database, or nowhere.
//!
//! A database answers candidates; matching, paging and encoding are those of the index (`joined`), so that a
//! query has the same answers whatever keeps the rows.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use pyserver_proto::tag::Tag;

use crate::archive::Archive;
use crate::driver::{Row, RowPages};
use crate::error::StoreError;
use crate::file_object::open_object;
use crate::find::{FindCursor, FindProgress};
use crate::index::ReadTxn;
use crate::joined::JoinedRow;
use crate::locate::Located;
use crate::pending::PendingId;
use crate::plan::BoundQuery;
use crate::row_query::CellPlan;
use crate::schema::ImageKey;
use crate::walk::{RowView, Walk};

/// A query under way.
pub struct Answers<'a> {
    archive: &'a Archive,
    query: &'a BoundQuery,
    source: Source,
}

enum Source {
    Index(FindCursor),
    Database(Box<Fetched>),
    Nothing,
}

/// Rows on their way from a database.
struct Fetched {
    plan: CellPlan,
    pages: Box<dyn RowPages>,
    waiting: VecDeque<Row>,
    skip: u64,
    left: Option<u64>,
    stamp: u64,
    last: Option<JoinedRow>,
}

impl Archive {
    /// Starts a query; every store acknowledged so far can be found.
    pub fn answers<'a>(&'a self, query: &'a BoundQuery) -> Result<Answers<'a>, StoreError> {
        self.start(query, false)
    }

    /// The same for a query bound with `bind_retrieve`, whose images are to be located.
    pub fn images<'a>(&'a self, query: &'a BoundQuery) -> Result<Answers<'a>, StoreError> {
        self.start(query, true)
    }

    fn start<'a>(&'a self, query: &'a BoundQuery, file: bool) -> Result<Answers<'a>, StoreError> {
        self.flush()?;
        let source = if self.keeps_nothing() {
            Source::Nothing
        } else if let Some(driver) = self.driver() {
            match CellPlan::of(query, self.index().layout(), file) {
                None => Source::Nothing,
                Some(plan) => Source::Database(Box::new(Fetched {
                    pages: driver.find(&plan.query)?,
                    plan,
                    waiting: VecDeque::new(),
                    skip: query.offset,
                    left: query.limit,
                    stamp: 0,
                    last: None,
                })),
            }
        } else {
            Source::Index(FindCursor::default())
        };
        Ok(Answers {
            archive: self,
            query,
            source,
        })
    }
}

impl Answers<'_> {
    /// Lets out at most `limit` rows, or as many as come in one piece; `each` may break off, and the next call
    /// goes on behind the row it broke off at.
    pub fn page(
        &mut self,
        limit: usize,
        each: &mut dyn FnMut(&RowView<'_, '_>) -> ControlFlow<()>,
    ) -> Result<FindProgress, StoreError> {
        match &mut self.source {
            Source::Nothing => Ok(FindProgress::Done),
            Source::Index(cursor) => {
                let txn = self.archive.index().read()?;
                Ok(txn.find(self.query, cursor, limit, each)?)
            }
            Source::Database(fetched) => {
                if fetched.left == Some(0) || !fetched.fill()? {
                    return Ok(FindProgress::Done);
                }
                let txn = self.archive.index().read()?;
                let more = fetched.let_out(self.query, &txn, &mut |view, _| each(view))?;
                Ok(if more {
                    FindProgress::More
                } else {
                    FindProgress::Done
                })
            }
        }
    }

    /// The next images, with what is needed to send them.
    pub fn locate(&mut self, limit: usize) -> Result<(Vec<Located>, FindProgress), StoreError> {
        match &mut self.source {
            Source::Nothing => Ok((Vec::new(), FindProgress::Done)),
            Source::Index(cursor) => {
                let txn = self.archive.index().read()?;
                Ok(txn.locate(self.query, cursor, limit)?)
            }
            Source::Database(fetched) => {
                if !fetched.fill()? {
                    return Ok((Vec::new(), FindProgress::Done));
                }
                let mut found = Vec::new();
                {
                    let txn = self.archive.index().read()?;
                    fetched.let_out(self.query, &txn, &mut |_, row| {
                        found.push((of_index(&txn, row), row.clone()));
                        ControlFlow::Continue(())
                    })?;
                }
                let located = found
                    .into_iter()
                    .map(|(known, row)| match known? {
                        Some(located) => Ok(located),
                        None => Ok(self.archive.of_file(self.query, &row)),
                    })
                    .collect::<Result<_, StoreError>>()?;
                Ok((located, FindProgress::More))
            }
        }
    }
}

impl Fetched {
    /// Makes sure that rows wait; false at the end.
    fn fill(&mut self) -> Result<bool, StoreError> {
        if self.waiting.is_empty() {
            self.waiting.extend(self.pages.next_page()?);
        }
        Ok(!self.waiting.is_empty())
    }

    /// Lets matching rows out of those that wait; answers whether there may be more.
    fn let_out(
        &mut self,
        query: &BoundQuery,
        txn: &ReadTxn<'_>,
        each: &mut dyn FnMut(&RowView<'_, '_>, &JoinedRow) -> ControlFlow<()>,
    ) -> Result<bool, StoreError> {
        let mut rows = Vec::with_capacity(self.waiting.len());
        for cells in &self.waiting {
            rows.push(JoinedRow::new(cells, &self.plan, txn)?);
        }
        let mut walk = Walk::new(txn, query, query.level(), self.stamp);
        let mut before = self.last.take();
        let mut taken = 0;
        for row in &rows {
            taken += 1;
            let last = rows
                .get(taken - 2)
                .filter(|_| taken > 1)
                .or(before.as_ref());
            let beside = last.is_some_and(|last| row.is_beside(last, query.level()));
            if !walk.show(row, beside) {
                continue;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.left = self.left.map(|left| left.saturating_sub(1));
            let flow = each(&RowView::new(&walk), row);
            if flow.is_break() || self.left == Some(0) {
                break;
            }
        }
        self.stamp = walk.stamp();
        before = rows.into_iter().nth(taken.saturating_sub(1));
        self.last = before;
        self.waiting.drain(..taken);
        Ok(self.left != Some(0))
    }
}

/// What the index knows of an image, when it means the same file.
fn of_index(txn: &ReadTxn<'_>, row: &JoinedRow) -> Result<Option<Located>, StoreError> {
    let [.., sop_instance] = &row.keys;
    let known = txn.locate_sop(sop_instance)?;
    Ok(known.filter(|known| {
        let same = row.file.as_ref().is_none_or(|(device, file)| {
            (known.device, known.file.as_str()) == (*device, file.as_str())
        });
        same && known.file_bytes > 0
    }))
}

impl Archive {
    /// An image that only its row in the database tells of: the file says the rest. What cannot be read comes
    /// out as an object that cannot be sent.
    fn of_file(&self, query: &BoundQuery, row: &JoinedRow) -> Located {
        let [.., sop_instance] = &row.keys;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let mut returned = query.returned().iter();
        let class = returned.find(|returned| returned.tag == Tag::SOP_CLASS_UID);
        let class = class.and_then(|class| row.value(class.value));
        let mut located = Located {
            image: ImageKey::default(),
            sop_class: class.map(text).unwrap_or_default(),
            sop_instance: text(sop_instance),
            device: 0,
            file: String::new(),
            transfer_syntax: String::new(),
            file_bytes: 0,
            dataset_offset: 0,
            hash: [0; 16],
            pixel: Vec::new(),
            stored_by: PendingId(0),
        };
        let Some((device, file)) = &row.file else {
            return located;
        };
        located.device = *device;
        located.file.clone_from(file);
        let Some(path) = self.path(*device, file) else {
            return located;
        };
        if let (Ok(facts), Ok(opened)) = (path.metadata(), open_object(&path)) {
            located.file_bytes = facts.len();
            located.dataset_offset = opened.layout.dataset_offset as u32;
            opened
                .layout
                .syntax
                .uid()
                .as_str()
                .clone_into(&mut located.transfer_syntax);
        }
        located
    }
}
