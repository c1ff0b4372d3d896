//! Measures the index alone: stores in batches, queries of one patient's images, lookups.
//!
//! `cargo run --release -p pyserver-store --example index_bench -- [IMAGES] [FOLDER] [BATCH]`
//! A folder on tmpfs shows the cost without the disk. Prints one line per tenth of the images, so that
//! growth shows, then queries and lookups on what is there.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pyserver_proto::dataset::Dataset;
use pyserver_proto::header::Header;
use pyserver_proto::query::{InformationModel, Query, QueryOptions};
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::vr::Vr;
use pyserver_store::apply::{BlobFacts, Standing, StoreChange};
use pyserver_store::columns::Columns;
use pyserver_store::extract::{ExtractPolicy, RowValues};
use pyserver_store::find::{FindCursor, FindProgress};
use pyserver_store::headers;
use pyserver_store::index::{Index, IndexOptions};
use pyserver_store::pending::{PendingId, PendingKind};
use pyserver_store::plan::{BindOptions, BoundQuery};
use pyserver_store::respond::ResponseEncoder;

/// Images of a series, series of a study, studies of a patient.
const SHAPE: [u64; 3] = [100, 2, 5];
/// Settled entries are dropped this many at a time, as a running server does.
const SETTLE: usize = 1024;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let mut args = std::env::args().skip(1);
    let images: u64 = args.next().map_or(Ok(100_000), |a| a.parse())?;
    let folder = args.next().map(PathBuf::from);
    let batch: u64 = args.next().map_or(Ok(64), |a| a.parse())?;
    let scratch = tempfile::tempdir()?;
    let folder = folder.unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&folder)?;
    let index = Index::open(
        &folder,
        &Columns::default(),
        IndexOptions::default(),
        &mut |_, _, _| {},
    )?;
    ingest(&index, images, batch)?;
    println!("index: {} MB", index.used_bytes() >> 20);
    query(&index, images)?;
    lookups(&index, images)
}

/// Decimal digits that look random but are the same in each run.
fn digits(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn uid(kind: u64, number: u64) -> String {
    format!("2.25.{}{}", digits(number << 2 | kind), digits(!number))
}

/// Identifiers of image `n`: patient, study, series, SOP instance.
fn identifiers(n: u64) -> [String; 4] {
    let [per_series, per_study, per_patient] = SHAPE;
    let series = n / per_series;
    let study = series / per_study;
    let patient = study / per_patient;
    [
        format!("PAT{patient:07}"),
        uid(1, study),
        uid(2, series),
        uid(3, n),
    ]
}

/// A CT header of ordinary size.
fn header(n: u64) -> Result<Header, Box<dyn Error>> {
    let [patient, study, series, sop] = identifiers(n);
    let number = (n % SHAPE[0]).to_string();
    let location = format!("{}.5", n % SHAPE[0]);
    let elements: [(Tag, &str); 28] = [
        (Tag::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\AXIAL"),
        (Tag::SOP_CLASS_UID, "1.2.840.10008.5.1.4.1.1.2"),
        (Tag::SOP_INSTANCE_UID, &sop),
        (Tag::STUDY_DATE, "20240115"),
        (Tag::SERIES_DATE, "20240115"),
        (Tag::ACQUISITION_DATE, "20240115"),
        (Tag::CONTENT_DATE, "20240115"),
        (Tag::STUDY_TIME, "101500"),
        (Tag::SERIES_TIME, "101512.000"),
        (Tag::ACQUISITION_TIME, "101530.120"),
        (Tag::CONTENT_TIME, "101531.120"),
        (Tag::ACCESSION_NUMBER, "ACC0001"),
        (Tag::MODALITY, "CT"),
        (Tag::MANUFACTURER, "Maker of scanners"),
        (Tag::INSTITUTION_NAME, "General hospital"),
        (Tag::STUDY_DESCRIPTION, "Thorax and abdomen"),
        (Tag::SERIES_DESCRIPTION, "Thin slices"),
        (Tag::PATIENT_NAME, "Family^Given"),
        (Tag::PATIENT_ID, &patient),
        (Tag::PATIENT_BIRTH_DATE, "19600304"),
        (Tag::PATIENT_SEX, "F"),
        (Tag::STUDY_INSTANCE_UID, &study),
        (Tag::SERIES_INSTANCE_UID, &series),
        (Tag::STUDY_ID, "S1"),
        (Tag::SERIES_NUMBER, "2"),
        (Tag::INSTANCE_NUMBER, &number),
        (Tag::FRAME_OF_REFERENCE_UID, "1.2.3.4.5.6.7"),
        (Tag::new(0x0020, 0x1041), &location),
    ];
    let mut dataset = Dataset::new();
    for (tag, value) in elements {
        dataset.put_bytes(tag, pyserver_proto::dict::vr(tag), value.as_bytes());
    }
    for (tag, value) in [
        (Tag::ROWS, 512),
        (Tag::COLUMNS, 512),
        (Tag::BITS_STORED, 12),
    ] {
        dataset.put_u16(tag, value);
    }
    let mut bytes = Vec::new();
    dataset.encode(TransferSyntax::ExplicitLittleEndian, &mut bytes);
    Ok(Header::parse(&bytes, TransferSyntax::ExplicitLittleEndian)?)
}

/// What an association's thread prepares.
struct Prepared {
    rows: RowValues,
    header: Vec<u8>,
    file: String,
}

fn prepare(index: &Index, n: u64) -> Result<Prepared, Box<dyn Error>> {
    let header = header(n)?;
    let rows = index
        .extractor()
        .extract(&header, ExtractPolicy::default())?;
    let [patient, _, series, _] = identifiers(n);
    let file = format!("{patient}/{series}_0002_{:06}_{:014x}.dcm", n % SHAPE[0], n);
    Ok(Prepared {
        rows,
        header: headers::compress(&header),
        file,
    })
}

fn ingest(index: &Index, images: u64, batch: u64) -> Outcome {
    let tenth = (images / 10).max(1);
    let mut settled: Vec<PendingId> = Vec::new();
    let (mut preparing, mut applying, mut committing) =
        (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut from = 0;
    println!("images      prepare us  apply us  commit us  images/s without prepare");
    let mut next = 0;
    while next < images {
        let end = (next + batch).min(images);
        let start = Instant::now();
        let work = (next..end).map(|n| prepare(index, n));
        let work = work.collect::<Result<Vec<_>, _>>()?;
        preparing += start.elapsed();
        let start = Instant::now();
        let mut txn = index.write()?;
        if settled.len() >= SETTLE {
            txn.settle(&settled)?;
            settled.clear();
        }
        for prepared in &work {
            let stored = txn.store(&change(prepared))?;
            settled.extend(stored.pending);
        }
        applying += start.elapsed();
        let start = Instant::now();
        txn.commit()?;
        committing += start.elapsed();
        next = end;
        if next - from >= tenth || next == images {
            let count = next - from;
            let us = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
            let rate = count as f64 / (applying + committing).as_secs_f64();
            println!(
                "{next:>10}  {:>10.2}  {:>8.2}  {:>9.2}  {rate:>10.0}",
                us(preparing),
                us(applying),
                us(committing)
            );
            (preparing, applying, committing) = Default::default();
            from = next;
        }
    }
    Ok(())
}

fn change(prepared: &Prepared) -> StoreChange<'_> {
    StoreChange {
        rows: &prepared.rows,
        blob: BlobFacts {
            device: 0,
            file_candidate: &prepared.file,
            standing: Standing::Nothing,
            rename_on_rewrite: false,
            ignore_rewrite: false,
            transfer_syntax: "1.2.840.10008.1.2.1",
            file_bytes: 526_000,
            dataset_offset: 400,
            hash: [7; 16],
            pixel: &[0; 12],
        },
        header: &prepared.header,
        pending: PendingKind::Temp("12345.part"),
        calling_ae: "SENDER",
        called_ae: "ARCHIVE",
        jobs: &[],
        now: 1_700_000_000,
    }
}

/// C-FIND at image level for the images of one patient.
fn query(index: &Index, images: u64) -> Outcome {
    let rounds = 200;
    let [per_series, per_study, per_patient] = SHAPE;
    let patients = (images / (per_series * per_study * per_patient)).max(1);
    let (mut rows, mut bytes) = (0_u64, 0_u64);
    let mut out = Vec::with_capacity(1 << 20);
    let start = Instant::now();
    for round in 0..rounds {
        let mut identifier = Dataset::new();
        let patient = format!("PAT{:07}", digits(round) % patients);
        identifier.put_bytes(Tag::QUERY_RETRIEVE_LEVEL, Vr::Cs, b"IMAGE");
        identifier.put_bytes(Tag::PATIENT_ID, Vr::Lo, patient.as_bytes());
        for tag in [
            Tag::SOP_INSTANCE_UID,
            Tag::SERIES_INSTANCE_UID,
            Tag::STUDY_INSTANCE_UID,
            Tag::INSTANCE_NUMBER,
        ] {
            identifier.put_bytes(tag, pyserver_proto::dict::vr(tag), b"");
        }
        let model = InformationModel::PatientRoot;
        let query = Query::parse(model, &identifier, &QueryOptions::default())?;
        let bound = BoundQuery::bind(&query, index, &BindOptions::default())?;
        let mut encoder = ResponseEncoder::new(&bound, false);
        let mut cursor = FindCursor::default();
        loop {
            out.clear();
            let txn = index.read()?;
            let progress = txn.find(&bound, &mut cursor, 256, &mut |row| {
                encoder.encode(row, &mut out);
                rows += 1;
                ControlFlow::Continue(())
            })?;
            bytes += out.len() as u64;
            if progress == FindProgress::Done {
                break;
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "find: {rounds} queries, {rows} records, {:.2} M records/s, {:.0} ns each, {} bytes each",
        rows as f64 / seconds / 1e6,
        seconds * 1e9 / rows.max(1) as f64,
        bytes / rows.max(1)
    );
    Ok(())
}

/// By SOP Instance UID, at random.
fn lookups(index: &Index, images: u64) -> Outcome {
    let rounds = 200_000;
    let uids: Vec<String> = (0..rounds).map(|n| uid(3, digits(n) % images)).collect();
    let mut found = 0;
    let start = Instant::now();
    for uids in uids.chunks(64) {
        let txn = index.read()?;
        for uid in uids {
            found += u64::from(txn.find_image(uid.as_bytes())?.is_some());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "lookups: {found} of {rounds} found, {:.2} us each",
        seconds * 1e6 / rounds as f64
    );
    Ok(())
}
