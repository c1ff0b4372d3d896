//! Does the index stay as fast as it fills? Applies records in groups, as the committer does under
//! load, without files and sockets, and prints the rate over each part of the way as JSON.
//!
//! `cargo run --release -p pyserver-store --example growth -- FOLDER RECORDS [GROUP]`
//!
//! Series have 100 images, studies 4 series, patients 3 studies; every identifier is random, which
//! is the worst order for a tree. The settled entries go as the settling thread would take them.
#![allow(clippy::print_stdout)] // it is a command

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use pyserver_proto::tag::Tag;
use pyserver_store::apply::{BlobFacts, StoreChange, Stored};
use pyserver_store::columns::Columns;
use pyserver_store::extract::{ExtractPolicy, RowValues};
use pyserver_store::index::{Index, IndexOptions};
use pyserver_store::pending::{PendingId, PendingKind};

const IMAGES: u64 = 100;
const SERIES: u64 = 4;
const STUDIES: u64 = 3;
/// Points of the curve.
const PARTS: u64 = 100;
/// Changes in one transaction, as many associations make them.
const GROUP: u64 = 256;
/// Committed stores whose files are taken as synced together.
const SETTLE: usize = 1024;
/// As long as a compressed CT header is.
const HEADER_BYTES: usize = 700;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: growth FOLDER RECORDS [GROUP]";
    let folder = args.next().ok_or(usage)?;
    let records: u64 = args.next().ok_or(usage)?.parse()?;
    let group: u64 = args.next().map_or(Ok(GROUP), |text| text.parse())?;
    let index = Index::open(
        Path::new(&folder),
        &Columns::default(),
        IndexOptions::default(),
        &mut |_, _, _| {},
    )?;
    let (counts, rates) = fill(&index, records, group.max(1))?;
    println!(
        "{{\"records\": {counts:?}, \"rates\": {rates:.1?}, \"index_bytes\": [{}]}}",
        index.used_bytes()
    );
    Ok(())
}

/// Stores the records; the count and the rate at each point.
fn fill(index: &Index, records: u64, group: u64) -> Result<(Vec<u64>, Vec<f64>), Box<dyn Error>> {
    let mut source = Source::new();
    let mut unsettled: Vec<PendingId> = Vec::new();
    let (mut counts, mut rates) = (Vec::new(), Vec::new());
    let part = (records / PARTS).max(group);
    let (mut done, mut done_before, mut since) = (0, 0, Instant::now());
    while done < records {
        // Reading the values of a header is the association threads' work: not timed.
        let batch: Vec<Object> = (0..group.min(records - done))
            .map(|_| source.next(index))
            .collect::<Result<_, _>>()?;
        let began = Instant::now();
        let mut txn = index.write()?;
        for object in &batch {
            let stored: Stored = txn.store(&object.change(&source.header))?;
            unsettled.extend(stored.pending);
        }
        if unsettled.len() >= SETTLE {
            txn.settle(&unsettled)?;
            unsettled.clear();
        }
        txn.commit()?;
        source.busy += began.elapsed().as_secs_f64();
        done += batch.len() as u64;
        if done - done_before >= part {
            counts.push(done);
            rates.push((done - done_before) as f64 / source.busy);
            eprintln!(
                "{done} records, {:.0}/s, {:.0?}",
                rates.last().unwrap_or(&0.0),
                since.elapsed()
            );
            (done_before, source.busy, since) = (done, 0.0, Instant::now());
        }
    }
    Ok((counts, rates))
}

/// Makes objects whose values look like a hospital's.
struct Source {
    random: u64,
    number: u64,
    values: BTreeMap<Tag, Vec<u8>>,
    header: Vec<u8>,
    busy: f64,
}

struct Object {
    rows: RowValues,
    file: String,
    hash: [u8; 32],
}

impl Object {
    fn change<'a>(&'a self, header: &'a [u8]) -> StoreChange<'a> {
        StoreChange {
            rows: &self.rows,
            blob: BlobFacts {
                device: 0,
                file_candidate: &self.file,
                candidate_taken_on_disk: false,
                rename_on_rewrite: false,
                ignore_rewrite: false,
                transfer_syntax: "1.2.840.10008.1.2.1",
                file_bytes: 526_336,
                dataset_offset: 340,
                hash: self.hash,
                pixel: &[0; 16],
            },
            header,
            pending: PendingKind::Temp("0000000000000001.part"),
            calling_ae: "SCANNER",
            called_ae: "ARCHIVE",
            jobs: &[],
            now: 1_700_000_000,
        }
    }
}

impl Source {
    fn new() -> Self {
        let fixed = [
            (Tag::SOP_CLASS_UID, "1.2.840.10008.5.1.4.1.1.2"),
            (Tag::STUDY_DATE, "20240212"),
            (Tag::STUDY_TIME, "100912"),
            (Tag::MODALITY, "CT"),
            (Tag::STUDY_DESCRIPTION, "CT THORAX WITH CONTRAST"),
            (Tag::SERIES_DESCRIPTION, "THORAX 1.0 B31F"),
            (Tag::PATIENT_BIRTH_DATE, "19560417"),
            (Tag::PATIENT_SEX, "F"),
            (Tag::STUDY_ID, "240212017"),
            (Tag::SERIES_NUMBER, "3"),
        ];
        let values = fixed.map(|(tag, text)| (tag, text.as_bytes().to_vec()));
        Self {
            random: 0x5EED,
            number: 0,
            values: values.into_iter().collect(),
            header: vec![0x55; HEADER_BYTES],
            busy: 0.0,
        }
    }

    fn next(&mut self, index: &Index) -> Result<Object, Box<dyn Error>> {
        let number = self.number;
        if number % (IMAGES * SERIES * STUDIES) == 0 {
            let id = self.random() % 100_000_000;
            self.set(Tag::PATIENT_ID, format!("P{id:08}{number}"));
            self.set(Tag::PATIENT_NAME, format!("NAME{id:08}^FIRST"));
        }
        if number % (IMAGES * SERIES) == 0 {
            let uid = self.uid();
            self.set(Tag::STUDY_INSTANCE_UID, uid);
            let accession = self.random() % 100_000_000;
            self.set(Tag::ACCESSION_NUMBER, format!("A{accession}"));
        }
        if number % IMAGES == 0 {
            let uid = self.uid();
            self.set(Tag::SERIES_INSTANCE_UID, uid);
        }
        let uid = self.uid();
        self.set(Tag::SOP_INSTANCE_UID, uid);
        self.set(Tag::INSTANCE_NUMBER, (number % IMAGES + 1).to_string());
        self.number += 1;
        let rows = index
            .extractor()
            .extract(&self.values, ExtractPolicy::default())?;
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let file = format!(
            "{}/{}_{:04}_{:06}_{}.dcm",
            text(&rows.patient_id),
            text(&rows.series_uid),
            3,
            number % IMAGES,
            text(&rows.sop_instance)
        );
        let mut hash = [0; 32];
        for part in hash.chunks_mut(8) {
            part.copy_from_slice(&self.random().to_be_bytes());
        }
        Ok(Object { rows, file, hash })
    }

    fn set(&mut self, tag: Tag, text: String) {
        self.values.insert(tag, text.into_bytes());
    }

    fn uid(&mut self) -> String {
        let mut part = || self.random() % 10_000_000_000_000_000_000;
        format!("2.25.1{:019}{:019}", part(), part())
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
