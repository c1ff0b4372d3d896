//! From a row down to the rows of the wanted level, with the filters of every level on the way.
//!
//! A walk holds the current patient, study and series in place, so that the images of one series cost one
//! look at their ancestors. A row without living ancestors lets nothing out.

use std::ops::ControlFlow;

use pyserver_proto::charset::CharacterSet;
use pyserver_proto::query::MatchRules;

use crate::find::Sink;
use crate::fold::is_plain;
use crate::heads::{FileFacts, ImageHead, ImageRow, ParentHead};
use crate::index::ReadTxn;
use crate::index_error::IndexError;
use crate::joined::JoinedRow;
use crate::layout::SOP_CLASSES;
use crate::lmdb::from_key;
use crate::plan::{BoundQuery, Counted, Filter, Value};
use crate::row::{ColumnIter, column};
use crate::schema::{ImageKey, Level, kid_key, kid_of};

/// Numbers on the way to a row; zero where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Path {
    pub patient: u32,
    pub study: u32,
    pub series: u32,
    pub image: u64,
}

/// A parent row in place.
#[derive(Default)]
struct Loaded<'t> {
    number: u32,
    head: ParentHead,
    values: Vec<Option<&'t [u8]>>,
    /// Alive, with living ancestors, and all filters pass.
    passes: bool,
}

/// The state of one walk through one transaction.
pub(crate) struct Walk<'t> {
    txn: &'t ReadTxn<'t>,
    query: &'t BoundQuery,
    target: Level,
    parents: [Loaded<'t>; 3],
    image_key: ImageKey,
    image_row: ImageRow<'t>,
    image_values: Vec<Option<&'t [u8]>>,
    sop_classes: Vec<u8>,
    wants_sop_classes: bool,
    /// Counts loads of parent rows.
    stamp: u64,
    plain: CharacterSet,
}

/// One matching row and its ancestors, valid during the callback.
pub struct RowView<'v, 't> {
    walk: &'v Walk<'t>,
}

impl<'v, 't> RowView<'v, 't> {
    pub(crate) const fn new(walk: &'v Walk<'t>) -> Self {
        Self { walk }
    }

    /// Changes whenever a row above the image has changed.
    pub fn stamp(&self) -> u64 {
        self.walk.stamp
    }

    /// A value read for the query.
    #[inline]
    pub fn column(&self, level: Level, slot: usize) -> Option<&'t [u8]> {
        self.walk.column(level, slot)
    }

    /// A stored value, wherever it is.
    pub(crate) fn value(&self, value: Value) -> Option<&'t [u8]> {
        match value {
            Value::Column(level, slot) => self.column(level, slot),
            _ => None,
        }
    }

    /// The image row, taken apart; only at image level.
    pub(crate) fn image_row(&self) -> &ImageRow<'t> {
        &self.walk.image_row
    }

    /// Raw Specific Character Set of a row.
    pub fn charset(&self, level: Level) -> &'t [u8] {
        self.walk.column(level, 0).unwrap_or_default()
    }

    /// Number of rows below.
    pub fn count(&self, level: Level, counted: Counted) -> u32 {
        self.walk.count(level, counted)
    }

    /// SOP classes of the study, joined by backslashes.
    pub fn sop_classes(&self) -> &[u8] {
        &self.walk.sop_classes
    }

    /// Place of the image; only at image level.
    pub fn image(&self) -> ImageKey {
        self.walk.image_key
    }

    /// Number of the row's patient, study or series; 0 when there is none.
    pub fn number(&self, level: Level) -> u32 {
        self.walk.parent(level).map_or(0, |row| row.number)
    }

    /// The fixed part of the image row.
    pub(crate) fn image_head(&self) -> ImageHead {
        self.walk.image_row.head
    }

    /// The fixed part of a row above.
    pub(crate) fn head(&self, level: Level) -> ParentHead {
        self.walk
            .parent(level)
            .map_or_else(ParentHead::default, |row| row.head)
    }

    /// Facts about the image's file; only at image level.
    pub fn facts(&self) -> Result<FileFacts<'t>, IndexError> {
        self.walk.image_row.facts()
    }
}

impl<'t> Walk<'t> {
    pub fn new(txn: &'t ReadTxn<'_>, query: &'t BoundQuery, target: Level, stamp: u64) -> Self {
        let filters = query.filters.iter().flatten().map(|f| f.value);
        let returned = query.returned.iter().map(|r| r.value);
        let wants_sop_classes = filters.chain(returned).any(|v| v == Value::SopClasses);
        Self {
            txn,
            query,
            target,
            parents: Default::default(),
            image_key: ImageKey::default(),
            image_row: ImageRow {
                head: ImageHead::default(),
                columns: &[],
                facts: &[],
            },
            image_values: Vec::new(),
            sop_classes: Vec::new(),
            wants_sop_classes,
            stamp,
            plain: CharacterSet::default(),
        }
    }

    pub const fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Makes a row that a database answered current; answers whether it matches. `beside`: the rows above are
    /// those of the row before.
    pub fn show(&mut self, row: &'t JoinedRow, beside: bool) -> bool {
        let values = |level: Level| {
            let values = row.values.get(level.index()).map_or(&[][..], Vec::as_slice);
            values.iter().map(Option::as_deref).collect()
        };
        for level in [Level::Patient, Level::Study, Level::Series] {
            let own = level == self.target;
            if let Some(place) = self.parents.get_mut(level.index()) {
                *place = Loaded {
                    number: 0,
                    head: if own { row.head } else { ParentHead::default() },
                    values: values(level),
                    passes: true,
                };
            }
        }
        self.image_values = values(Level::Image);
        self.image_row.facts = &row.facts;
        self.sop_classes.clone_from(&row.sop_classes);
        self.stamp += u64::from(!beside);
        let levels = Level::ALL.into_iter().filter(|&at| at <= self.target);
        levels.into_iter().all(|level| self.passes(level))
    }

    /// A value read for the query.
    #[inline]
    pub fn column(&self, level: Level, slot: usize) -> Option<&'t [u8]> {
        let values = match level {
            Level::Image => &self.image_values,
            _ => &self.parent(level)?.values,
        };
        values.get(slot).copied().flatten()
    }

    fn parent(&self, level: Level) -> Option<&Loaded<'t>> {
        self.parents.get(level.index())
    }

    fn count(&self, level: Level, counted: Counted) -> u32 {
        let head = self
            .parent(level)
            .map_or_else(ParentHead::default, |row| row.head);
        match counted {
            Counted::Studies => head.studies,
            Counted::Series => head.series,
            Counted::Instances => head.instances,
        }
    }

    /// Lets out what matches at or below a parent row.
    pub fn from(
        &mut self,
        level: Level,
        number: u32,
        resume: Path,
        sink: Sink<'_, 't>,
    ) -> Result<ControlFlow<()>, IndexError> {
        if !self.enter(level, number)? {
            return Ok(ControlFlow::Continue(()));
        }
        if level == self.target {
            let out = match level {
                Level::Patient => resume.patient,
                Level::Study => resume.study,
                Level::Series | Level::Image => resume.series,
            };
            // The row that the last page ended with.
            if out == number {
                return Ok(ControlFlow::Continue(()));
            }
            let path = self.path();
            return Ok(sink(self, path));
        }
        match level {
            Level::Patient => self.kids(level, number, resume.study, resume, sink),
            Level::Study => self.kids(level, number, resume.series, resume, sink),
            Level::Series | Level::Image => self.images(number, resume, sink),
        }
    }

    /// The children of a patient or study, from `first` on.
    fn kids(
        &mut self,
        level: Level,
        number: u32,
        first: u32,
        resume: Path,
        sink: Sink<'_, 't>,
    ) -> Result<ControlFlow<()>, IndexError> {
        let txn = self.txn;
        let tables = &txn.index.tables;
        let (table, below) = match level {
            Level::Patient => (tables.patient_kids, Level::Study),
            _ => (tables.study_kids, Level::Series),
        };
        for item in table.range(&txn.txn, &from_key(&kid_key(number, first)))? {
            let (key, _) = item?;
            if !key.starts_with(&number.to_be_bytes()) {
                break;
            }
            let kid = kid_of(key).ok_or(IndexError::Corrupt("child key"))?;
            let resume = if kid == first {
                resume
            } else {
                Path::default()
            };
            let flow = self.from(below, kid, resume, sink)?;
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The images of a series that has been entered.
    fn images(
        &mut self,
        series: u32,
        resume: Path,
        sink: Sink<'_, 't>,
    ) -> Result<ControlFlow<()>, IndexError> {
        let txn = self.txn;
        let behind = if resume.series == series {
            resume.image
        } else {
            0
        };
        let first = ImageKey {
            series,
            image: behind + 1,
        };
        let prefix = series.to_be_bytes();
        let images = txn.index.tables.images;
        for item in images.range(&txn.txn, &from_key(&first.encode()))? {
            let (key, row) = item?;
            if !key.starts_with(&prefix) {
                break;
            }
            self.image_key = ImageKey::decode(key).ok_or(IndexError::Corrupt("image key"))?;
            if self.take_image(row)? {
                let path = self.path();
                let flow = sink(self, path);
                if flow.is_break() {
                    return Ok(flow);
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// One image that was looked up.
    pub fn image(
        &mut self,
        key: ImageKey,
        resume: Path,
        sink: Sink<'_, 't>,
    ) -> Result<ControlFlow<()>, IndexError> {
        let go_on = ControlFlow::Continue(());
        if resume.image == key.image || !self.enter(Level::Series, key.series)? {
            return Ok(go_on);
        }
        let txn = self.txn;
        let Some(row) = txn.index.tables.images.get(&txn.txn, &key.encode())? else {
            return Ok(go_on);
        };
        self.image_key = key;
        if !self.take_image(row)? {
            return Ok(go_on);
        }
        let path = self.path();
        Ok(sink(self, path))
    }

    fn path(&self) -> Path {
        let [patient, study, series] = self.parents.each_ref().map(|row| row.number);
        Path {
            patient,
            study: if self.target >= Level::Study {
                study
            } else {
                0
            },
            series: if self.target >= Level::Series {
                series
            } else {
                0
            },
            image: if self.target == Level::Image {
                self.image_key.image
            } else {
                0
            },
        }
    }

    /// Makes an image row current; answers whether it matches.
    #[inline]
    fn take_image(&mut self, row: &'t [u8]) -> Result<bool, IndexError> {
        self.image_row = ImageRow::split(row)?;
        let reads = &self.query.reads[Level::Image.index()];
        pick(self.image_row.columns, reads, &mut self.image_values);
        Ok(self.passes(Level::Image))
    }

    /// Makes a parent row and its ancestors current; answers whether all are alive and match.
    fn enter(&mut self, level: Level, number: u32) -> Result<bool, IndexError> {
        if let Some(row) = self.parent(level)
            && row.number == number
        {
            return Ok(row.passes);
        }
        self.stamp += 1;
        let loaded = match self.txn.parent_row(level, number)? {
            Some((head, columns)) => {
                let mut values = Vec::new();
                let reads = self.query.reads.get(level.index());
                pick(columns, reads.map_or(&[], Vec::as_slice), &mut values);
                Loaded {
                    number,
                    head,
                    values,
                    passes: true,
                }
            }
            None => Loaded {
                number,
                ..Loaded::default()
            },
        };
        let (alive, parent) = (loaded.passes, loaded.head.parent);
        if let Some(place) = self.parents.get_mut(level.index()) {
            *place = loaded;
        }
        let above = match level {
            Level::Patient => true,
            Level::Study => self.enter_patient_of(parent)?,
            Level::Series | Level::Image => self.enter(Level::Study, parent)?,
        };
        let mut passes = alive && above;
        if passes && level == Level::Study && self.wants_sop_classes {
            self.collect_sop_classes(number)?;
        }
        passes = passes && self.passes(level);
        if let Some(place) = self.parents.get_mut(level.index()) {
            place.passes = passes;
        }
        Ok(passes)
    }

    /// The patient of a study; a study without one has a patient without values.
    fn enter_patient_of(&mut self, patient: u32) -> Result<bool, IndexError> {
        if patient != 0 {
            return self.enter(Level::Patient, patient);
        }
        let [place, ..] = &mut self.parents;
        *place = Loaded::default();
        Ok(self.passes(Level::Patient))
    }

    /// SOP classes of the living series of a study.
    fn collect_sop_classes(&mut self, study: u32) -> Result<(), IndexError> {
        self.sop_classes.clear();
        let txn = self.txn;
        let kids = txn.index.tables.study_kids;
        for item in kids.prefix_iter(&txn.txn, &study.to_be_bytes())? {
            let series = kid_of(item?.0).ok_or(IndexError::Corrupt("child key"))?;
            let Some((_, columns)) = txn.parent_row(Level::Series, series)? else {
                continue;
            };
            let classes = column(columns, SOP_CLASSES).unwrap_or_default();
            for class in classes.split(|&b| b == b'\\').filter(|c| !c.is_empty()) {
                let known = self.sop_classes.split(|&b| b == b'\\').any(|c| c == class);
                if !known {
                    if !self.sop_classes.is_empty() {
                        self.sop_classes.push(b'\\');
                    }
                    self.sop_classes.extend_from_slice(class);
                }
            }
        }
        Ok(())
    }

    /// Whether all filters of a level accept the current row.
    #[inline]
    fn passes(&self, level: Level) -> bool {
        let filters = self.query.filters.get(level.index());
        filters.is_none_or(|filters| filters.iter().all(|f| self.accepts(f, level)))
            && (self.query.pairs.is_empty() || self.pairs_match(level))
    }

    fn accepts(&self, filter: &Filter, level: Level) -> bool {
        match filter.value {
            Value::Column(at, slot) => {
                let value = self.column(at, slot).unwrap_or_default();
                let charset;
                let charset = if is_plain(value) {
                    &self.plain
                } else {
                    charset = CharacterSet::parse(self.column(at, 0).unwrap_or_default());
                    &charset
                };
                filter.matcher.matches(value, &rules(filter, charset))
            }
            Value::Count(at, counted) => {
                let count = self.count(at, counted).to_string();
                filter
                    .matcher
                    .matches_text(&count, &rules(filter, &self.plain))
            }
            Value::SopClasses if level == Level::Study => filter
                .matcher
                .matches(&self.sop_classes, &rules(filter, &self.plain)),
            _ => true,
        }
    }

    /// Dates and times that are matched as one, where the lower of the two is at this level.
    fn pairs_match(&self, level: Level) -> bool {
        let place = |value| match value {
            Value::Column(at, slot) => (at, self.column(at, slot).unwrap_or_default()),
            _ => (Level::Patient, [].as_slice()),
        };
        self.query.pairs.iter().all(|bound| {
            let ((date_at, date), (time_at, time)) = (place(bound.date), place(bound.time));
            date_at.max(time_at) != level || bound.pair.matches(date, time)
        })
    }
}

fn rules<'c>(filter: &Filter, charset: &'c CharacterSet) -> MatchRules<'c> {
    MatchRules {
        charset,
        vr: filter.vr,
        ignore_case: filter.ignore_case,
        multi_valued: filter.multi_valued,
    }
}

/// Takes the wanted values out of a row's columns in one pass.
#[inline]
fn pick<'t>(columns: &'t [u8], wanted: &[usize], values: &mut Vec<Option<&'t [u8]>>) {
    values.clear();
    values.resize(wanted.len(), None);
    let last = wanted.iter().copied().max().unwrap_or(0);
    for (position, value) in ColumnIter::new(columns).enumerate().take(last + 1) {
        if value.is_none() {
            continue;
        }
        for (slot, _) in wanted.iter().enumerate().filter(|(_, w)| **w == position) {
            if let Some(place) = values.get_mut(slot) {
                *place = value;
            }
        }
    }
}
