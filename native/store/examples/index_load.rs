//! Fills an index with the generated archive (`hospital`), without files and sockets, and measures it.
//!
//! `cargo run --release -p pyserver-store --example index_load -- FOLDER IMAGES [clone|store] [BATCH]`
//!
//! `clone` enters rows as `clonedb` does, many patients in a transaction; `store` as the committer does for
//! received objects, with pending records, file names, headers and a change record each. Prints JSON: records
//! and rate over each part of the way, the last decile's rate to that of an empty index filled in turn with it,
//! latencies of point lookups, bytes, memory. The index stays in FOLDER, so that a server can be started on it.
#![allow(clippy::print_stdout)] // it is a command
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a measuring program may stop"
)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use pyserver_proto::tag::Tag;
use pyserver_store::apply::{BlobFacts, Standing, StoreChange};
use pyserver_store::clone_rows::{CloneOrigin, CloneSeries};
use pyserver_store::clone_source::CloneBuilder;
use pyserver_store::columns::Columns;
use pyserver_store::extract::{ExtractPolicy, RowValues};
use pyserver_store::index::{Index, IndexOptions};
use pyserver_store::pending::{PendingId, PendingKind};
use pyserver_store::virtual_device::virtual_device;

mod hospital;

use hospital::{Hospital, Random, WHOLE};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Points of the curve.
const PARTS: u64 = 100;
/// Images in a transaction: what clonedb takes, and what many associations bring.
const CLONE_BATCH: u64 = 32_768;
const STORE_BATCH: u64 = 256;
/// Committed stores whose files are taken as synced together.
const SETTLE: usize = 1024;
/// As long as a compressed CT header is.
const HEADER_BYTES: usize = 700;
/// Point lookups.
const LOOKUPS: usize = 100_000;
const NOW: u32 = 1_700_000_000;

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: index_load FOLDER IMAGES [clone|store] [BATCH]";
    let folder = args.next().ok_or(usage)?;
    let images: u64 = args.next().ok_or(usage)?.parse()?;
    let clone = match args.next().as_deref() {
        None | Some("clone") => true,
        Some("store") => false,
        Some(_) => return Err(usage.into()),
    };
    let batch = if clone { CLONE_BATCH } else { STORE_BATCH };
    let batch = args.next().map_or(Ok(batch), |text| text.parse())?;
    let index = open(Path::new(&folder))?;
    let beside_folder = Path::new(&folder).join("beside");
    let index_beside = open(&beside_folder)?;
    let (mut full, mut beside) = (Filled::new(&index), Filled::new(&index_beside));
    let mut source = Source {
        hospital: Hospital::new(images as f64 / WHOLE[3] as f64),
        made: 0,
        known: Vec::new(),
    };
    let curve = fill(&mut full, &mut beside, &mut source, batch.max(1), clone)?;
    let sizes = source.hospital.sizes();
    let [p50, p99, worst] = lookups(&index, &source.known)?;
    let bytes = index.used_bytes();
    let alive = index.read()?.counters()?.alive;
    if alive != sizes {
        return Err(format!("{alive:?} rows are there, {sizes:?} were entered").into());
    }
    println!(
        "{{\"series\": {{\"records\": {:?}, \"rates\": {:.1?}}}, \"records_per_second\": {:.1}, \
         \"last_to_empty\": {:.4}, \"sizes\": {sizes:?}, \"index_bytes\": {bytes}, \"bytes_per_million\": {:.0}, \
         \"anonymous_bytes\": {}, \"latency_us\": {{\"p50\": {p50:.2}, \"p99\": {p99:.2}, \"max\": {worst:.2}}}}}",
        curve.counts,
        curve.rates,
        sizes[3] as f64 / full.busy,
        beside.busy / curve.last,
        bytes as f64 * 1e6 / sizes[3] as f64,
        anonymous_bytes()?,
    );
    drop(index_beside);
    std::fs::remove_dir_all(beside_folder)?;
    Ok(())
}

fn open(folder: &Path) -> Outcome<Index> {
    std::fs::create_dir_all(folder)?;
    let options = IndexOptions::default();
    Ok(Index::open(
        folder,
        &Columns::default(),
        options,
        &mut |_, _, _| {},
    )?)
}

#[derive(Default)]
struct Curve {
    counts: Vec<u64>,
    rates: Vec<f64>,
    /// Seconds of the last decile.
    last: f64,
}

/// An index that is filled, and how long it has taken.
struct Filled<'a> {
    index: &'a Index,
    unsettled: Vec<PendingId>,
    /// Seconds spent in the index; making records is not timed.
    busy: f64,
}

impl<'a> Filled<'a> {
    fn new(index: &'a Index) -> Self {
        index.set_changes_followed(u64::MAX);
        Self {
            index,
            unsettled: Vec::new(),
            busy: 0.0,
        }
    }

    fn enter(&mut self, batch: &Batch) -> Outcome<()> {
        let began = Instant::now();
        match batch {
            Batch::Clone(series) => self.clone(series)?,
            Batch::Store(stores) => self.store(stores)?,
        }
        self.busy += began.elapsed().as_secs_f64();
        Ok(())
    }

    fn clone(&self, series: &[CloneSeries]) -> Outcome<()> {
        let origin = CloneOrigin {
            device: virtual_device(0),
            source_ae: "SOURCE".to_owned(),
            own_ae: "TARGET".to_owned(),
            now: NOW,
        };
        let mut txn = self.index.write()?;
        let report = txn.enter_clones(series, &origin)?;
        txn.commit()?;
        match report.refusals.first() {
            Some(reason) => Err(reason.clone().into()),
            None => Ok(()),
        }
    }

    fn store(&mut self, stores: &[(RowValues, String)]) -> Outcome<()> {
        let header = [0x55; HEADER_BYTES];
        let mut txn = self.index.write()?;
        for (rows, file) in stores {
            let stored = txn.store(&StoreChange {
                rows,
                blob: BlobFacts {
                    device: 0,
                    file_candidate: file,
                    standing: Standing::Nothing,
                    rename_on_rewrite: false,
                    ignore_rewrite: false,
                    transfer_syntax: "1.2.840.10008.1.2.1",
                    file_bytes: 526_336,
                    dataset_offset: 340,
                    hash: digest(&rows.sop_instance),
                    pixel: &[0; 16],
                },
                header: &header,
                pending: PendingKind::Temp("0000000000000001.part"),
                calling_ae: "SCANNER",
                called_ae: "ARCHIVE",
                jobs: &[],
                now: NOW,
            })?;
            self.unsettled.extend(stored.pending);
        }
        if self.unsettled.len() >= SETTLE {
            txn.settle(&self.unsettled)?;
            self.unsettled.clear();
        }
        txn.commit()?;
        Ok(())
    }
}

/// What one transaction takes.
enum Batch {
    Clone(Vec<CloneSeries>),
    Store(Vec<(RowValues, String)>),
}

/// Makes the batches.
struct Source {
    hospital: Hospital,
    made: u64,
    /// Some of the SOP instances, for lookups.
    known: Vec<Vec<u8>>,
}

impl Source {
    fn next(&mut self, index: &Index, batch: u64, clone: bool) -> Outcome<Batch> {
        let every = self.hospital.sizes()[3] / LOOKUPS as u64 + 1;
        let mut builder = CloneBuilder::new(index.extractor(), ExtractPolicy::default());
        let mut stores = Vec::new();
        let end = self.made + batch;
        while self.made < end {
            let Some(values) = self.hospital.next() else {
                break;
            };
            if self.made.is_multiple_of(every) {
                self.known.push(values[&Tag::SOP_INSTANCE_UID].clone());
            }
            if clone {
                builder.push(values)?;
            } else {
                let rows = index
                    .extractor()
                    .extract(values, ExtractPolicy::default())?;
                let name = file_name(&rows);
                stores.push((rows, name));
            }
            self.made += 1;
        }
        Ok(if clone {
            Batch::Clone(builder.take())
        } else {
            Batch::Store(stores)
        })
    }
}

/// Fills the index. The last decile goes into `beside`, which is empty, as well, batch by batch: how much slower
/// the full one is shows in the same moments.
fn fill(
    full: &mut Filled<'_>,
    beside: &mut Filled<'_>,
    source: &mut Source,
    batch: u64,
    clone: bool,
) -> Outcome<Curve> {
    let images = source.hospital.sizes()[3];
    let part = (images / PARTS).max(batch);
    let mut curve = Curve::default();
    let (mut done, mut busy) = (0, 0.0);
    while source.made < images {
        // A batch that reaches into it counts, so that there always is one.
        let last_decile = (source.made + batch) * 10 > images * 9;
        let made = source.next(full.index, batch, clone)?;
        let before = full.busy;
        full.enter(&made)?;
        if last_decile {
            curve.last += full.busy - before;
            beside.enter(&made)?;
        }
        if source.made - done >= part || source.made == images {
            let rate = (source.made - done) as f64 / (full.busy - busy);
            curve.counts.push(source.made);
            curve.rates.push(rate);
            eprintln!("{} records, {rate:.0}/s", source.made);
            (done, busy) = (source.made, full.busy);
        }
    }
    Ok(curve)
}

/// As the default syntax makes it.
fn file_name(rows: &RowValues) -> String {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let (patient, series) = (text(&rows.patient_id), text(&rows.series_uid));
    let [.., a, b] = digest(&rows.sop_instance);
    let number = u64::from(a) << 8 | u64::from(b);
    format!("{patient}/{series}_0003_{number:06}_17952877320000.dcm")
}

/// 16 bytes that look like a hash.
fn digest(text: &[u8]) -> [u8; 16] {
    let sum = text
        .iter()
        .fold(0_u64, |sum, &b| sum.wrapping_mul(31) + u64::from(b));
    let mut random = Random::of(8, sum & ((1 << 56) - 1));
    let mut hash = [0; 16];
    for part in hash.chunks_mut(8) {
        part.copy_from_slice(&random.next().to_be_bytes());
    }
    hash
}

/// Microseconds of lookups by SOP Instance UID, at random: p50, p99, worst.
fn lookups(index: &Index, known: &[Vec<u8>]) -> Outcome<[f64; 3]> {
    let mut random = Random::of(10, 0);
    let mut times = Vec::with_capacity(LOOKUPS);
    for _ in 0..LOOKUPS.min(known.len() * 10) {
        let sop = random.one(known);
        let began = Instant::now();
        let found = index.read()?.find_image(sop)?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
        found.ok_or("an image that was entered is not found")?;
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok([at(0.5), at(0.99), at(1.0)])
}

/// Anonymous memory of this process now.
fn anonymous_bytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: u64 = line
        .ok_or("no RssAnon")?
        .trim()
        .trim_end_matches(" kB")
        .parse()?;
    Ok(kib * 1024)
}
