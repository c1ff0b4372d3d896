//! Many threads store, store again, delete and read the same few objects; index and files agree afterwards.
#![allow(clippy::unwrap_used)] // tests

mod common;

use common::*;
use pyserver_proto::transfer_syntax::Encoding;
use pyserver_store::config::Durability;
use pyserver_store::filename::NameSyntax;
use pyserver_store::fsck::FsckOptions;
use pyserver_store::lookahead::LookAhead;
use pyserver_store::ready_object::Content;
use pyserver_store::schema::Level;

const THREADS: u64 = 8;
const ROUNDS: u64 = 150;

fn hammer(syntax: &str, rename_on_rewrite: bool) {
    let home = tempfile::tempdir().unwrap();
    let mut settings = config(home.path());
    settings.file_name_syntax = NameSyntax::parse(syntax).unwrap();
    settings.rename_on_rewrite = rename_on_rewrite;
    let archive = open(settings.clone());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let archive = &archive;
            scope.spawn(move || {
                let mut dice = Dice::new(thread + 1);
                for round in 0..ROUNDS {
                    one_step(archive, &mut dice, thread * ROUNDS + round);
                }
            });
        }
    });
    let options = FsckOptions {
        verify_hash: true,
        repair: false,
    };
    let report = archive.fsck(options, &mut |_, _, _| {}).unwrap();
    assert_eq!(report.faults, []);
    archive.wait_for_reaper();
    let report = archive.fsck(options, &mut |_, _, _| {}).unwrap();
    assert_eq!((report.rows, &report.faults), (report.files, &Vec::new()));
    assert_eq!(report.rows, archive.counts().unwrap().images);
    archive.close();
    let archive = open(settings);
    let again = archive.fsck(options, &mut |_, _, _| {}).unwrap();
    assert_eq!(again, report);
}

fn one_step(archive: &pyserver_store::archive::Archive, dice: &mut Dice, version: u64) {
    let series = dice.roll(3) as u32;
    let number = dice.roll(4) as u32;
    let mut sample = Sample::new(series, number, [50, 3_000, 70_000][dice.roll(3) as usize]);
    sample.description = format!("version {version:06}");
    match dice.roll(10) {
        0 => drop(archive.delete(Level::Image, sample.sop.as_bytes()).unwrap()),
        1 if version.is_multiple_of(5) => drop(
            archive
                .delete(Level::Series, sample.series.as_bytes())
                .unwrap(),
        ),
        2 => {
            archive.flush().unwrap();
            let read = archive.index().read().unwrap();
            let Some(located) = read.locate_sop(sample.sop.as_bytes()).unwrap() else {
                return;
            };
            drop(read);
            for ready in LookAhead::start(archive, vec![located.clone(), located], 2, 1 << 20) {
                // Deleted meanwhile is the only reason not to get it.
                let Ok(object) = ready.object else {
                    continue;
                };
                let length = match object.content {
                    Content::Memory(bytes) => bytes.len() as u64,
                    Content::Spare(bytes) => bytes.len() as u64,
                    Content::Shared(file) => file.metadata().unwrap().len(),
                    Content::File { file, offset } => file.metadata().unwrap().len() - offset,
                };
                assert_eq!(length, object.length);
            }
        }
        roll => {
            let durability = if roll % 2 == 0 {
                Durability::Durable
            } else {
                Durability::Relaxed
            };
            let outcome = store(archive, &sample, durability).unwrap();
            let expected = sample.encode(Encoding::EXPLICIT_LE).len() as u64;
            assert_eq!(outcome.dataset_bytes, expected);
        }
    }
}

#[test]
fn one_file_per_object() {
    hammer("8", false);
}

#[test]
fn a_new_name_with_each_store() {
    hammer("%id/%studydesc/%sopuid.dcm", true);
}

#[test]
fn one_name_for_all_objects() {
    hammer("%id.dcm", false);
}
