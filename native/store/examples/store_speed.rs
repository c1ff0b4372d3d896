//! How many stores a second the archive does, without a network: three rows that matter.
//!
//! `cargo run --release -p pyserver-store --example store_speed -- FOLDER [SECONDS] [ROW]`
#![allow(clippy::panic)] // a measurement that cannot be made says so

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pyserver_proto::element::write_head;
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::{Encoding, TransferSyntax};
use pyserver_proto::vr::Vr;
use pyserver_store::archive::Archive;
use pyserver_store::config::{ArchiveConfig, Durability};
use pyserver_store::incoming::{ReceiveContext, StoreTimes};

const SOP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.2";
const PIECE: usize = 64 * 1024;

struct Row {
    name: &'static str,
    threads: u32,
    bytes: usize,
    durability: Durability,
}

const ROWS: [Row; 5] = [
    Row {
        name: "512K-durable-1",
        threads: 1,
        bytes: 512 * 1024,
        durability: Durability::Durable,
    },
    Row {
        name: "512K-relaxed-1",
        threads: 1,
        bytes: 512 * 1024,
        durability: Durability::Relaxed,
    },
    Row {
        name: "3.6K-durable-1",
        threads: 1,
        bytes: 3000,
        durability: Durability::Durable,
    },
    Row {
        name: "3.6K-durable-8",
        threads: 8,
        bytes: 3000,
        durability: Durability::Durable,
    },
    Row {
        name: "3.6K-relaxed-1",
        threads: 1,
        bytes: 3000,
        durability: Durability::Relaxed,
    },
];

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().unwrap_or_else(|| "store-speed".into()));
    let seconds = args
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3.0);
    let only = args.next();
    for row in &ROWS {
        if only.as_deref().is_none_or(|only| row.name.contains(only)) {
            measure(row, &folder, Duration::from_secs_f64(seconds));
        }
    }
}

fn measure(row: &Row, folder: &Path, time: Duration) {
    // A fresh folder: file systems are slow to give inodes out again that were freed a moment ago.
    let home = folder.join(format!("{}-{}", row.name, std::process::id()));
    let (archive, _) = Archive::open(ArchiveConfig::new(&home), &mut |_, _, _| {})
        .unwrap_or_else(|error| panic!("{error}"));
    let stored = AtomicU64::new(0);
    let started = Instant::now();
    let mut latencies = Vec::new();
    let mut spent = StoreTimes::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..row.threads)
            .map(|thread| {
                let (archive, stored) = (&archive, &stored);
                scope.spawn(move || sender(archive, row, thread, started + time, stored))
            })
            .collect();
        for thread in threads {
            let (more, times) = thread.join().unwrap_or_default();
            latencies.extend(more);
            spent.scan += times.scan;
            spent.write += times.write;
            spent.sync += times.sync;
            spent.index += times.index;
            spent.place += times.place;
        }
    });
    let took = started.elapsed().as_secs_f64();
    let count = stored.load(Ordering::Relaxed);
    latencies.sort_unstable();
    let at = |part: f64| {
        latencies
            .get((latencies.len() as f64 * part) as usize)
            .copied()
            .unwrap_or_default()
    };
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    println!(
        "{:16} {:8.0}/s  {:6.0} MB/s  p50 {:?} p99 {:?}  us each: scan {:.0} write {:.0} sync {:.0} index {:.0} place {:.0}  changes/commit {:.1}",
        row.name,
        count as f64 / took,
        (count as usize * row.bytes) as f64 / took / 1e6,
        at(0.5),
        at(0.99),
        each(spent.scan),
        each(spent.write),
        each(spent.sync),
        each(spent.index),
        each(spent.place),
        archive.stats().changes as f64 / archive.stats().commits.max(1) as f64,
    );
    archive.close();
}

fn sender(
    archive: &Archive,
    row: &Row,
    thread: u32,
    until: Instant,
    stored: &AtomicU64,
) -> (Vec<Duration>, StoreTimes) {
    let mut latencies = Vec::new();
    let mut spent = StoreTimes::default();
    let mut number = 0_u64;
    let series = |number: u64| format!("1.2.826.0.1.3680043.9.{thread:02}.{:06}", number / 100);
    let (mut object, sop_at, series_at) = template(row.bytes, &series(0));
    while Instant::now() < until {
        let began = Instant::now();
        let series = series(number);
        let sop = format!("{series}.{number:010}");
        patch(&mut object, sop_at, &sop);
        patch(&mut object, series_at, &series);
        let context = ReceiveContext {
            calling_ae: "BENCH",
            called_ae: "ARCHIVE",
            transfer_syntax: TransferSyntax::ExplicitLittleEndian,
            sop_class_uid: SOP_CLASS,
            sop_instance_uid: &sop,
            durability: Some(row.durability),
        };
        let outcome = archive.begin(&context).and_then(|mut incoming| {
            for piece in object.chunks(PIECE) {
                incoming.write(piece)?;
            }
            incoming.finish()
        });
        match outcome {
            Ok(outcome) => {
                spent.scan += outcome.times.scan;
                spent.write += outcome.times.write;
                spent.sync += outcome.times.sync;
                spent.index += outcome.times.index;
                spent.place += outcome.times.place;
            }
            Err(error) => {
                println!("{error}");
                break;
            }
        }
        latencies.push(began.elapsed());
        stored.fetch_add(1, Ordering::Relaxed);
        number += 1;
    }
    (latencies, spent)
}

fn patch(object: &mut [u8], at: usize, text: &str) {
    if let Some(place) = object.get_mut(at..at + text.len()) {
        place.copy_from_slice(text.as_bytes());
    }
}

/// An object with a header of a usual size; where its SOP instance and series UID stand.
fn template(pixel_bytes: usize, series: &str) -> (Vec<u8>, usize, usize) {
    let mut out = Vec::new();
    let mut put = |tag, vr: Vr, value: &[u8]| {
        let padded = value.len() + value.len() % 2;
        write_head(&mut out, tag, vr, padded as u32, Encoding::EXPLICIT_LE);
        let at = out.len();
        out.extend_from_slice(value);
        out.resize(at + padded, vr.padding());
        at
    };
    put(Tag::IMAGE_TYPE, Vr::Cs, b"ORIGINAL\\PRIMARY\\AXIAL");
    put(Tag::SOP_CLASS_UID, Vr::Ui, SOP_CLASS.as_bytes());
    let sop_at = put(
        Tag::SOP_INSTANCE_UID,
        Vr::Ui,
        format!("{series}.0000000000").as_bytes(),
    );
    put(Tag::STUDY_DATE, Vr::Da, b"20240102");
    put(Tag::STUDY_TIME, Vr::Tm, b"101112");
    put(Tag::ACCESSION_NUMBER, Vr::Sh, b"A123456");
    put(Tag::MODALITY, Vr::Cs, b"CT");
    put(Tag::MANUFACTURER, Vr::Lo, b"Some Manufacturer");
    put(Tag::STUDY_DESCRIPTION, Vr::Lo, b"CT of something");
    put(Tag::SERIES_DESCRIPTION, Vr::Lo, b"5 mm axial");
    put(Tag::PATIENT_NAME, Vr::Pn, b"Bench^Patient");
    put(Tag::PATIENT_ID, Vr::Lo, b"BENCH1");
    put(Tag::PATIENT_BIRTH_DATE, Vr::Da, b"19700101");
    put(Tag::PATIENT_SEX, Vr::Cs, b"O");
    for element in 0x1000..0x1014 {
        put(
            Tag::new(0x0019, element),
            Vr::Lo,
            b"some private value of a scanner",
        );
    }
    put(Tag::STUDY_INSTANCE_UID, Vr::Ui, b"1.2.826.0.1.3680043.9.1");
    let series_at = put(Tag::SERIES_INSTANCE_UID, Vr::Ui, series.as_bytes());
    put(Tag::SERIES_NUMBER, Vr::Is, b"1");
    put(Tag::INSTANCE_NUMBER, Vr::Is, b"12");
    put(Tag::ROWS, Vr::Us, &[0, 2]);
    put(Tag::COLUMNS, Vr::Us, &[0, 2]);
    let pixels: Vec<u8> = (0..pixel_bytes).map(|n| ((n * 7919) >> 5) as u8).collect();
    put(Tag::PIXEL_DATA, Vr::Ow, &pixels);
    (out, sop_at, series_at)
}
