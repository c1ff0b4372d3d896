//! Entering an object's patient, study and series: new rows where there are none, merged values where there
//! are.

use crate::apply::Place;
use crate::changes::{Change, ChangeKind};
use crate::extract::{RowValues, Warning};
use crate::heads::ParentHead;
use crate::index::WriteTxn;
use crate::index_error::IndexError;
use crate::lookup::key_of;
use crate::parents::{Parent, SeriesPath};
use crate::row::merge;
use crate::schema::{ImageKey, Level, kid_key, text_key};
use crate::update::{UpdateRule, inconsistencies};

/// What is entered, and when.
#[derive(Clone, Copy)]
struct Entering<'a> {
    rows: &'a RowValues,
    now: u32,
}

impl WriteTxn<'_> {
    /// Makes sure that patient, study and series rows exist and hold what the object says.
    pub(crate) fn enter_parents(
        &mut self,
        rows: &RowValues,
        now: u32,
        place: Place,
        warnings: &mut Vec<Warning>,
    ) -> Result<SeriesPath, IndexError> {
        let change = Entering { rows, now };
        let patient = self.enter_patient(change, place, warnings)?;
        let study = match place.study {
            Some(study) => {
                self.update(Level::Study, study, change, warnings)?;
                self.adopt(patient, study)?;
                study
            }
            None => self.new_study(change, patient)?,
        };
        let series = match place.series {
            Some(series) => {
                self.update(Level::Series, series, change, warnings)?;
                series
            }
            None => self.new_series(change, patient, study)?,
        };
        let paths = &mut self.state.parents.paths;
        let known = paths.get(&rows.series_uid);
        if let Some(path) = known.filter(|path| path.patient_id == rows.patient_id) {
            return Ok(path.clone());
        }
        let path = SeriesPath {
            series,
            study,
            patient,
            study_uid: rows.study_uid.clone(),
            patient_id: rows.patient_id.clone(),
        };
        paths.insert(rows.series_uid.clone(), path.clone());
        Ok(path)
    }

    /// The patient's number, 0 when there is none.
    fn enter_patient(
        &mut self,
        change: Entering<'_>,
        place: Place,
        warnings: &mut Vec<Warning>,
    ) -> Result<u32, IndexError> {
        let owner = match place.study {
            Some(study) => self.head(Level::Study, study)?.parent,
            None => 0,
        };
        let existing = place.patient.or((owner != 0).then_some(owner));
        if let Some(patient) = existing {
            self.update(Level::Patient, patient, change, warnings)?;
            return Ok(patient);
        }
        if change.rows.patient_id.is_empty() {
            return Ok(0);
        }
        self.counters.patient += 1;
        let number = self.counters.patient;
        let key = text_key(&change.rows.patient_id);
        let lookup = self.index.tables.patient_ids;
        lookup.put(&mut self.txn, &key, &number.to_be_bytes())?;
        self.new_parent(Level::Patient, number, 0, change)?;
        Ok(number)
    }

    fn new_study(&mut self, change: Entering<'_>, patient: u32) -> Result<u32, IndexError> {
        self.counters.study += 1;
        let number = self.counters.study;
        self.enter_uid(Level::Study, &change.rows.study_uid, number);
        let tables = self.index.tables;
        if patient != 0 {
            let key = kid_key(patient, number);
            tables.patient_kids.put(&mut self.txn, &key, &[])?;
            if let Some(row) = self.state.parents.change(Level::Patient, patient) {
                row.head.studies += 1;
            }
        }
        self.new_parent(Level::Study, number, patient, change)?;
        Ok(number)
    }

    fn new_series(
        &mut self,
        change: Entering<'_>,
        patient: u32,
        study: u32,
    ) -> Result<u32, IndexError> {
        self.counters.series += 1;
        let number = self.counters.series;
        self.enter_uid(Level::Series, &change.rows.series_uid, number);
        let tables = self.index.tables;
        let key = kid_key(study, number);
        tables.study_kids.put(&mut self.txn, &key, &[])?;
        for (level, parent) in [(Level::Study, study), (Level::Patient, patient)] {
            if let Some(row) = self.state.parents.change(level, parent) {
                row.head.series += 1;
            }
        }
        self.new_parent(Level::Series, number, study, change)?;
        Ok(number)
    }

    /// Puts a new parent row into memory and its texts into the search table.
    fn new_parent(
        &mut self,
        level: Level,
        number: u32,
        parent: u32,
        change: Entering<'_>,
    ) -> Result<(), IndexError> {
        let values = change.rows.level(level);
        let head = ParentHead {
            layout: self.index.layout_number,
            accessed: change.now,
            parent,
            ..ParentHead::default()
        };
        let row = Parent::new(head, values.to_vec());
        self.state.parents.insert(level, number, row);
        self.state.parents.change(level, number);
        if let Some(alive) = self.counters.alive.get_mut(level.index()) {
            *alive += 1;
        }
        self.move_search(level, number, &[], values)
    }

    /// Merges what the object says into an existing parent row.
    fn update(
        &mut self,
        level: Level,
        number: u32,
        change: Entering<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), IndexError> {
        let values = change.rows.level(level);
        self.parent(level, number)?
            .ok_or(IndexError::Corrupt("parent row"))?;
        let Some(row) = self.state.parents.change(level, number) else {
            return Ok(());
        };
        row.head.accessed = change.now;
        if row.seen == values {
            return Ok(());
        }
        let layout = self.index.layout();
        let rule = UpdateRule::new(layout, level, change.rows);
        let old = rule.recoded(&row.columns);
        let mut columns = Vec::with_capacity(old.len() + 64);
        let choose = &mut |p: usize, was: &[u8], is: &[u8]| rule.choose(p, was, is);
        if merge(&old, values, choose, &mut columns) {
            inconsistencies(layout, level, &old, &columns, warnings);
            let before = std::mem::replace(&mut row.columns, columns.clone());
            self.state.parents.merged += 1;
            self.move_search(level, number, &before, &columns)?;
        } else {
            row.seen = values.to_vec();
        }
        Ok(())
    }

    /// Gives a study that had no patient the one that a later object names.
    fn adopt(&mut self, patient: u32, study: u32) -> Result<(), IndexError> {
        let head = self.head(Level::Study, study)?;
        if head.parent != 0 || patient == 0 {
            return Ok(());
        }
        // The rows below carry the patient's ID in Conquest's tables.
        let layout = self.index.layout();
        let row = self.parent(Level::Study, study)?;
        let key = row.map_or_else(Vec::new, |row| {
            key_of(layout, Level::Study, &row.columns).to_vec()
        });
        self.log(&Change {
            number: 0,
            kind: ChangeKind::Rewritten,
            level: Level::Study,
            time: head.accessed,
            image: ImageKey::default(),
            images: 0,
            key,
            calling_ae: String::new(),
            called_ae: String::new(),
        })?;
        let kids = self.index.tables.patient_kids;
        kids.put(&mut self.txn, &kid_key(patient, study), &[])?;
        if let Some(row) = self.state.parents.change(Level::Study, study) {
            row.head.parent = patient;
        }
        if let Some(row) = self.state.parents.change(Level::Patient, patient) {
            row.head.studies += 1;
            row.head.series += head.series;
            row.head.instances += head.instances;
            row.head.bytes += head.bytes;
        }
        self.state.parents.paths.clear();
        Ok(())
    }
}
