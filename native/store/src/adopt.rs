//! Rows that a database has and the index lacks: those of an archive that Conquest has kept so far.
//!
//! The index decides about clashes, names and deletes, so it must know every row. They are read once, when the
//! numbers of rows say that the two differ otherwise than last time, and entered as stores would be, without
//! looking at files: size, hash and transfer syntax of such an image stay unknown until it is sent.

use crate::apply::{BlobFacts, Standing, StoreChange, StoreRefusal};
use crate::calendar::unix_time;
use crate::driver::Driver;
use crate::error::StoreError;
use crate::extract::RowValues;
use crate::index::{Index, Progress, WriteTxn};
use crate::joined::JoinedRow;
use crate::layout::{CHARSET, Layout, SOP_CLASSES};
use crate::mirror::Mirror;
use crate::pending::PendingKind;
use crate::plan::BoundQuery;
use crate::row::put_column;
use crate::row_query::CellPlan;
use crate::schema::Level;
use pyserver_proto::tag::Tag;

/// Images entered in one transaction.
const PORTION: usize = 4096;
/// Problems told by name.
const PROBLEMS_MAX: usize = 20;

/// What became of the rows of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Adopted {
    /// Images entered.
    pub images: u64,
    /// Images whose rows contradict each other, or name no file of a device.
    pub problems: Vec<String>,
}

/// Brings index and database in step at the start. A database that is away gets what it lacks once it is back;
/// what it has more is looked at by the next start.
pub(crate) fn reconcile(
    mirror: &Mirror,
    index: &Index,
    progress: Progress<'_>,
) -> Result<Adopted, StoreError> {
    let compared = compare(mirror, index, progress);
    match (compared, mirror.may_come_back()) {
        (Err(_), Some(reason)) => Ok(Adopted {
            images: 0,
            problems: vec![format!("{reason}; stores are refused until it answers")],
        }),
        (compared, _) => compared,
    }
}

fn compare(mirror: &Mirror, index: &Index, progress: Progress<'_>) -> Result<Adopted, StoreError> {
    let mut adopted = Adopted::default();
    mirror.follow(index).map_err(|f| StoreError::from(&f))?;
    let mark = mirror.mark();
    let surplus = surplus(mirror, index)?;
    if surplus == mark.surplus {
        return Ok(adopted);
    }
    if surplus.iter().any(|&more| more > 0) {
        adopted = adopt(mirror.driver.as_ref(), index, surplus[3], progress)?;
    }
    let change = index.read()?.counters()?.change;
    mirror.set_mark(change, [0; 4]);
    let mut left = self::surplus(mirror, index)?;
    if left.iter().any(|&more| more < 0) {
        mirror.set_mark(0, [0; 4]);
        mirror.follow(index).map_err(|f| StoreError::from(&f))?;
        left = self::surplus(mirror, index)?;
    }
    mirror.set_mark(change, left);
    Ok(adopted)
}

/// Rows per level that the database has more than the index.
fn surplus(mirror: &Mirror, index: &Index) -> Result<[i64; 4], StoreError> {
    let counted = mirror.driver.counts();
    let theirs = counted.map_err(|error| StoreError::from(&mirror.gone(error)))?;
    let ours = index.read()?.counters()?.alive;
    let mut surplus = [0; 4];
    for (place, (theirs, ours)) in surplus.iter_mut().zip(theirs.into_iter().zip(ours)) {
        *place = theirs as i64 - ours as i64;
    }
    Ok(surplus)
}

/// Enters every image of the database that the index lacks.
fn adopt(
    driver: &dyn Driver,
    index: &Index,
    expected: i64,
    progress: Progress<'_>,
) -> Result<Adopted, StoreError> {
    let layout = index.layout();
    let mut query = BoundQuery::all_images(index);
    query.returned.clear();
    query.reads = Level::ALL.map(|level| (0..layout.stored(level).len()).collect());
    let mut adopted = Adopted::default();
    let Some(plan) = CellPlan::of(&query, layout, true) else {
        return Ok(adopted);
    };
    let mut pages = driver.find(&plan.query)?;
    let expected = u64::try_from(expected).unwrap_or(0);
    loop {
        let mut rows = Vec::new();
        let mut last = false;
        while rows.len() < PORTION && !last {
            let page = pages.next_page()?;
            last = page.is_empty();
            let txn = index.read()?;
            for cells in &page {
                rows.push(JoinedRow::new(cells, &plan, &txn)?);
            }
        }
        let mut txn = index.write()?;
        let mut settled = Vec::new();
        for row in rows {
            match txn.adopt_row(row, layout)? {
                Ok(pending) => settled.extend(pending),
                Err(problem) if adopted.problems.len() < PROBLEMS_MAX => {
                    adopted.problems.push(problem);
                }
                Err(_) => {}
            }
        }
        adopted.images += settled.len() as u64;
        txn.settle(&settled)?;
        txn.commit()?;
        progress("database", adopted.images, expected.max(adopted.images));
        if last {
            return Ok(adopted);
        }
    }
}

type AdoptedRow = Result<Option<crate::pending::PendingId>, String>;

impl WriteTxn<'_> {
    /// Enters one image unless it is known; the inner error says what is wrong with its rows.
    fn adopt_row(&mut self, row: JoinedRow, layout: &Layout) -> Result<AdoptedRow, StoreError> {
        let [.., sop_instance] = &row.keys;
        let name = String::from_utf8_lossy(sop_instance).into_owned();
        if self.live_image(sop_instance)?.is_some() {
            return Ok(Ok(None));
        }
        let Some((device, file)) = row.file.clone() else {
            return Ok(Err(format!("image {name} names no file of a device")));
        };
        let rows = row_values(row, layout);
        let change = StoreChange {
            rows: &rows,
            blob: BlobFacts {
                device,
                file_candidate: &file,
                standing: Standing::Object,
                rename_on_rewrite: false,
                ignore_rewrite: false,
                transfer_syntax: "",
                file_bytes: 0,
                dataset_offset: 0,
                hash: [0; 16],
                pixel: &[],
            },
            header: &[],
            pending: PendingKind::Written,
            calling_ae: "",
            called_ae: "",
            jobs: &[],
            now: unix_time() as u32,
        };
        match self.store(&change) {
            Ok(stored) => Ok(Ok(stored.pending)),
            Err(StoreRefusal::Index(error)) => Err(error.into()),
            Err(refusal) => Ok(Err(refusal.to_string())),
        }
    }
}

/// The values of an object as its rows in a database tell them.
fn row_values(row: JoinedRow, layout: &Layout) -> RowValues {
    let JoinedRow { values, keys, .. } = row;
    let [patient_id, study_uid, series_uid, sop_instance] = keys;
    let value = |level: Level, tag| {
        let position = layout.position(level, tag)?;
        values.get(level.index())?.get(position)?.clone()
    };
    let sop_class = value(Level::Image, Tag::SOP_CLASS_UID).unwrap_or_default();
    let modality = value(Level::Series, Tag::MODALITY).unwrap_or_default();
    let [_, study, ..] = &values;
    let charset = study.get(CHARSET).cloned().flatten().unwrap_or_default();
    let mut columns: [Vec<u8>; 4] = Default::default();
    for level in Level::ALL {
        let (Some(out), Some(values)) = (columns.get_mut(level.index()), values.get(level.index()))
        else {
            continue;
        };
        for (position, value) in values.iter().enumerate() {
            let hidden = level == Level::Series && position == SOP_CLASSES;
            let value = if hidden {
                Some(&sop_class)
            } else {
                value.as_ref()
            };
            put_column(out, value.map(Vec::as_slice));
        }
    }
    RowValues {
        patient_id,
        study_uid,
        series_uid,
        sop_instance,
        sop_class,
        modality,
        charset,
        name_is_default: false,
        columns,
        warnings: Vec::new(),
    }
}
