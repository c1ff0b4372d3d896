//! The three ways of a store, re-stores, refusals and deletes, on a healthy disk.
#![allow(clippy::unwrap_used)] // tests

mod common;
#[path = "common/fault_disk.rs"]
mod fault_disk;

use std::sync::Arc;

use common::*;
use fault_disk::{Fault, FaultDisk};
use pyserver_proto::transfer_syntax::Encoding;
use pyserver_store::apply::Outcome;
use pyserver_store::archive::Archive;
use pyserver_store::config::Durability;
use pyserver_store::fsck::FsckOptions;
use pyserver_store::schema::Level;

const BOTH: [Durability; 2] = [Durability::Durable, Durability::Relaxed];

#[test]
fn objects_of_all_sizes_are_stored_whole() {
    for durability in BOTH {
        let home = tempfile::tempdir().unwrap();
        let archive = open(config(home.path()));
        for (number, size) in [10, 60_000, 66_000, 700_000].into_iter().enumerate() {
            let sample = Sample::new(1, number as u32, size);
            for piece in [7_000, 300_000] {
                let outcome = store_pieces(&archive, &sample, durability, piece).unwrap();
                let kind = if piece == 7_000 {
                    Outcome::New
                } else {
                    Outcome::Rewritten
                };
                assert_eq!(outcome.kind, kind);
                assert_eq!(
                    outcome.file,
                    format!("P1/1.2.3.1/1.2.3.1.1/{}.dcm", sample.sop)
                );
                let dataset = sample.encode(Encoding::EXPLICIT_LE);
                assert_eq!(outcome.dataset_bytes, dataset.len() as u64);
                assert_eq!(stored_dataset(&archive, 0, &outcome.file), dataset);
            }
        }
        assert_eq!(archive.counts().unwrap().images, 4);
        archive.close();
        assert_eq!(files(&home.path().join("data")).len(), 4);
        let (archive, report) =
            pyserver_store::archive::Archive::open(config(home.path()), &mut |_, _, _| {}).unwrap();
        assert_eq!((report.pending, report.temporary), (0, 0));
        assert_eq!(archive.counts().unwrap().images, 4);
    }
}

#[test]
fn bytes_read_to_the_files_buffer_are_stored_as_those_handed_in() {
    for durability in BOTH {
        let home = tempfile::tempdir().unwrap();
        let archive = open(config(home.path()));
        for (number, size) in [10, 66_000, 128 * 1024, 700_000].into_iter().enumerate() {
            let sample = Sample::new(1, number as u32, size);
            let dataset = sample.encode(Encoding::EXPLICIT_LE);
            let mut incoming = archive.begin(&sample.context(durability)).unwrap();
            let (first, mut rest) = dataset.split_at(100);
            incoming.write(first).unwrap();
            let mut turn = 0;
            while !rest.is_empty() {
                turn += 1;
                let most = [1_000, 50_000, 400_000][turn % 3].min(rest.len());
                let space = incoming.space().filter(|_| turn % 7 != 0);
                let taken = if let Some(space) = space {
                    let n = (space.capacity() - space.len()).min(most);
                    space.extend_from_slice(&rest[..n]);
                    incoming.filled(n).unwrap();
                    n
                } else {
                    incoming.write(&rest[..most]).unwrap();
                    most
                };
                rest = &rest[taken..];
            }
            let outcome = incoming.finish().unwrap();
            assert_eq!(stored_dataset(&archive, 0, &outcome.file), dataset);
        }
        let options = FsckOptions {
            verify_hash: true,
            repair: false,
        };
        assert_eq!(archive.fsck(options, &mut |_, _, _| {}).unwrap().faults, []);
    }
}

#[test]
fn a_second_process_is_kept_out() {
    let home = tempfile::tempdir().unwrap();
    let archive = open(config(home.path()));
    let second = pyserver_store::archive::Archive::open(config(home.path()), &mut |_, _, _| {});
    assert!(matches!(
        second.err(),
        Some(pyserver_store::error::StoreError::Busy(_))
    ));
    archive.close();
    open(config(home.path())).close();
}

#[test]
fn refused_and_abandoned_objects_leave_nothing() {
    for durability in BOTH {
        let home = tempfile::tempdir().unwrap();
        let archive = open(config(home.path()));
        let sample = Sample::new(1, 1, 200_000);
        let mut other = sample.context(durability);
        other.sop_instance_uid = "1.2.9";
        let mut incoming = archive.begin(&other).unwrap();
        incoming
            .write(&sample.encode(Encoding::EXPLICIT_LE))
            .unwrap();
        assert_eq!(incoming.finish().unwrap_err().status(), 0xA900);

        let mut incoming = archive.begin(&sample.context(durability)).unwrap();
        let dataset = sample.encode(Encoding::EXPLICIT_LE);
        incoming.write(&dataset[..dataset.len() - 1]).unwrap();
        assert_eq!(incoming.finish().unwrap_err().status(), 0xC000);

        let mut incoming = archive.begin(&sample.context(durability)).unwrap();
        incoming.write(&dataset).unwrap();
        drop(incoming);

        let mut invalid = sample.clone();
        invalid.study = "1..2".into();
        let error = store(&archive, &invalid, durability).unwrap_err();
        assert_eq!(error.status(), 0x0110);

        store(&archive, &sample, durability).unwrap();
        let mut stranger = Sample::new(2, 2, 200_000);
        stranger.patient = "P2";
        assert_eq!(
            store(&archive, &stranger, durability).unwrap_err().status(),
            0x0110
        );
        assert_eq!(archive.counts().unwrap().images, 1);
        archive.close();
        assert_eq!(files(&home.path().join("data")).len(), 1);
    }
}

#[test]
fn a_restore_may_be_ignored_or_renamed() {
    for durability in BOTH {
        let home = tempfile::tempdir().unwrap();
        let mut settings = config(home.path());
        settings.ignore_rewrite = true;
        settings.file_name_syntax =
            pyserver_store::filename::NameSyntax::parse("%id/%studydesc/%sopuid.dcm").unwrap();
        let archive = open(settings.clone());
        for size in [500, 200_000] {
            let mut sample = Sample::new(1, size as u32, size);
            let first = store(&archive, &sample, durability).unwrap();
            sample.description = "second".into();
            let again = store(&archive, &sample, durability).unwrap();
            assert_eq!((again.kind, &again.file), (Outcome::Ignored, &first.file));
            settings.ignore_rewrite = false;
            settings.rename_on_rewrite = true;
            archive.reload(settings.clone()).unwrap();
            let renamed = store(&archive, &sample, durability).unwrap();
            assert_eq!(renamed.kind, Outcome::Rewritten);
            assert_eq!(renamed.file, format!("P1/second/{}.dcm", sample.sop));
            let dataset = sample.encode(Encoding::EXPLICIT_LE);
            assert_eq!(stored_dataset(&archive, 0, &renamed.file), dataset);
            settings.ignore_rewrite = true;
            settings.rename_on_rewrite = false;
            archive.reload(settings.clone()).unwrap();
        }
        archive.wait_for_reaper();
        let left = files(&home.path().join("data"));
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.iter().all(|file| file.starts_with("P1/second/")));
    }
}

#[test]
fn two_objects_never_share_a_file() {
    let home = tempfile::tempdir().unwrap();
    let mut settings = config(home.path());
    settings.file_name_syntax = pyserver_store::filename::NameSyntax::parse("%id.dcm").unwrap();
    std::fs::create_dir_all(home.path().join("data")).unwrap();
    std::fs::write(home.path().join("data/P1.dcm"), b"stranger").unwrap();
    let archive = open(settings);
    let mut names = std::collections::HashSet::new();
    for number in 0..4 {
        let durability = BOTH[number % 2];
        let sample = Sample::new(1, number as u32, 100 + number * 90_000);
        let outcome = store(&archive, &sample, durability).unwrap();
        assert_eq!(
            stored_dataset(&archive, 0, &outcome.file),
            sample.encode(Encoding::EXPLICIT_LE)
        );
        assert!(names.insert(outcome.file));
    }
    assert_eq!(
        std::fs::read(home.path().join("data/P1.dcm")).unwrap(),
        b"stranger"
    );
}

#[test]
fn deleted_objects_free_files_and_folders() {
    for durability in BOTH {
        let home = tempfile::tempdir().unwrap();
        let archive = open(config(home.path()));
        for number in 0..30 {
            let size = if number % 5 == 0 { 80_000 } else { 300 };
            store(&archive, &Sample::new(number % 2, number, size), durability).unwrap();
        }
        let gone = archive.delete(Level::Series, b"1.2.3.1.1").unwrap();
        assert_eq!(gone.rows[Level::Image.index()], 15);
        assert_eq!(archive.counts().unwrap().images, 15);
        archive.wait_for_reaper();
        assert_eq!(files(&home.path().join("data")).len(), 15);
        assert!(!home.path().join("data/P1/1.2.3.1/1.2.3.1.1").exists());
        let again = store(&archive, &Sample::new(1, 1, 300), durability).unwrap();
        assert_eq!(again.kind, Outcome::New);
        archive.delete(Level::Patient, b"P1").unwrap();
        archive.wait_for_reaper();
        assert_eq!(files(&home.path().join("data")), Vec::<String>::new());
        assert_eq!(archive.counts().unwrap().file_bytes, 0);
        assert_eq!(archive.delete(Level::Patient, b"P1").unwrap().bytes, 0);
    }
}

#[test]
fn uncompressed_objects_are_kept_in_the_form_the_name_says() {
    use pyserver_proto::file::{FileForm, probe};
    use pyserver_proto::transfer_syntax::TransferSyntax as Ts;
    let cases = [
        (
            "8",
            Ts::ExplicitBigEndian,
            FileForm::Part10,
            Ts::ExplicitLittleEndian,
        ),
        (
            "6",
            Ts::ExplicitBigEndian,
            FileForm::Headerless,
            Ts::ImplicitLittleEndian,
        ),
        (
            "6",
            Ts::ExplicitLittleEndian,
            FileForm::Headerless,
            Ts::ImplicitLittleEndian,
        ),
        (
            "6",
            Ts::ImplicitLittleEndian,
            FileForm::Headerless,
            Ts::ImplicitLittleEndian,
        ),
        (
            "8",
            Ts::ImplicitLittleEndian,
            FileForm::Part10,
            Ts::ImplicitLittleEndian,
        ),
    ];
    for (syntax, received, form, stored) in cases {
        for durability in BOTH {
            let home = tempfile::tempdir().unwrap();
            let mut settings = config(home.path());
            settings.file_name_syntax =
                pyserver_store::filename::NameSyntax::parse(syntax).unwrap();
            let archive = open(settings);
            for size in [600, 300_000] {
                let mut sample = Sample::new(1, size as u32, size);
                let mut context = sample.context(durability);
                context.transfer_syntax = received;
                let mut incoming = archive.begin(&context).unwrap();
                for piece in sample.encode(received.encoding()).chunks(9_001) {
                    incoming.write(piece).unwrap();
                }
                let outcome = incoming.finish().unwrap();
                let file = std::fs::read(archive.path(0, &outcome.file).unwrap()).unwrap();
                assert_eq!(file.len() as u64, outcome.file_bytes);
                let layout = probe(&file).unwrap().unwrap();
                assert_eq!((layout.form, layout.syntax), (form, stored));
                if received.is_big_endian() {
                    let swap = |pair: &[u8]| [pair[1], pair[0]];
                    sample.pixels = sample.pixels.chunks(2).flat_map(swap).collect();
                }
                let dataset = &file[layout.dataset_offset as usize..];
                assert!(dataset == sample.encode(stored.encoding()));
                let v2 = outcome.file.rsplit('.').next() == Some("v2");
                assert_eq!(v2, form == FileForm::Headerless);
            }
        }
    }
}

#[test]
fn patients_without_name_and_id_are_kept_as_received_and_named_in_the_index() {
    for durability in BOTH {
        for size in [600, 300_000] {
            let home = tempfile::tempdir().unwrap();
            let archive = open(config(home.path()));
            let sample = Sample::new(1, 1, size);
            let encoding = Encoding::EXPLICIT_LE;
            let bytes = sample.encode(encoding);
            let from = bytes
                .windows(4)
                .position(|w| w == [0x10, 0, 0x10, 0])
                .unwrap();
            let to = bytes
                .windows(4)
                .position(|w| w == [0x20, 0, 0x0D, 0])
                .unwrap();
            let anonymous = [&bytes[..from], &bytes[to..]].concat();
            let mut incoming = archive.begin(&sample.context(durability)).unwrap();
            for piece in anonymous.chunks(50) {
                incoming.write(piece).unwrap();
            }
            let outcome = incoming.finish().unwrap();
            assert_eq!(
                outcome.file,
                format!("00000000/1.2.3.1/1.2.3.1.1/{}.dcm", sample.sop)
            );
            assert!(stored_dataset(&archive, 0, &outcome.file) == anonymous);
        }
    }
}

#[test]
fn files_are_added_by_the_same_rules() {
    let home = tempfile::tempdir().unwrap();
    let archive = open(config(home.path()));
    let sample = Sample::new(1, 1, 200_000);
    let first = store(&archive, &sample, Durability::Durable).unwrap();
    let copy = home.path().join("copy");
    std::fs::copy(archive.path(0, &first.file).unwrap(), &copy).unwrap();
    archive.delete(Level::Image, sample.sop.as_bytes()).unwrap();
    archive.wait_for_reaper();
    let added = archive.add_file(&copy, "IMPORT").unwrap();
    assert_eq!((added.kind, &added.file), (Outcome::New, &first.file));
    assert!(copy.exists());
    let bytes = std::fs::read(&copy).unwrap();
    std::fs::write(&copy, &bytes[..bytes.len() - 10]).unwrap();
    assert_eq!(
        archive.add_file(&copy, "IMPORT").unwrap_err().status(),
        0xC000
    );
    std::fs::write(&copy, b"no object").unwrap();
    assert_eq!(
        archive.add_file(&copy, "IMPORT").unwrap_err().status(),
        0xC000
    );
    std::fs::write(&copy, b"").unwrap();
    assert_eq!(
        archive.add_file(&copy, "IMPORT").unwrap_err().status(),
        0xC000
    );
}

#[test]
fn objects_come_out_ahead_in_order_and_missing_ones_as_errors() {
    use pyserver_store::lookahead::LookAhead;
    use pyserver_store::ready_object::Content;
    let home = tempfile::tempdir().unwrap();
    let archive = open(config(home.path()));
    let sizes = [300, 200_000, 90_000, 400_000, 64, 150_000];
    let samples: Vec<_> = sizes
        .iter()
        .zip(0..)
        .map(|(size, number)| Sample::new(1, number, *size))
        .collect();
    for (sample, durability) in samples.iter().zip(BOTH.into_iter().cycle()) {
        store(&archive, sample, durability).unwrap();
    }
    archive.flush().unwrap();
    let located: Vec<_> = samples
        .iter()
        .map(|sample| {
            let read = archive.index().read().unwrap();
            read.locate_sop(sample.sop.as_bytes()).unwrap().unwrap()
        })
        .collect();
    std::fs::remove_file(archive.path(0, &located[2].file).unwrap()).unwrap();
    // The fifth is stored again under another size while the list is old.
    let mut again = samples[4].clone();
    again.pixels.extend_from_slice(&[7; 100]);
    store(&archive, &again, Durability::Durable).unwrap();
    for (objects, bytes) in [
        (0, 1 << 20),
        (1, 1 << 20),
        (5, 1 << 20),
        (5, 1000),
        (100, u64::MAX),
    ] {
        let ahead = LookAhead::start(&archive, located.clone(), objects, bytes);
        let mut seen = 0;
        for (ready, sample) in ahead.zip(&samples) {
            assert_eq!(ready.located.sop_instance, sample.sop);
            let expected = if seen == 4 { &again } else { sample };
            seen += 1;
            if seen == 3 {
                assert!(ready.object.is_err());
                continue;
            }
            let object = ready.object.unwrap();
            let dataset = match object.content {
                Content::Memory(bytes) => bytes,
                Content::Spare(_) | Content::Shared(_) => panic!("nothing was to be changed"),
                Content::File { file, offset } => {
                    use std::os::unix::fs::FileExt;
                    let mut bytes = vec![0; object.length as usize];
                    file.read_exact_at(&mut bytes, offset).unwrap();
                    bytes
                }
            };
            assert!(dataset == expected.encode(Encoding::EXPLICIT_LE));
        }
        assert_eq!(seen, samples.len());
    }
    // Dropped half-way, it ends its thread.
    let mut ahead = LookAhead::start(&archive, located, 2, 1000);
    assert!(ahead.next().is_some());
}

#[test]
fn a_check_finds_what_is_wrong_on_both_sides() {
    use pyserver_store::fsck::FaultKind;
    let home = tempfile::tempdir().unwrap();
    let mut settings = config(home.path());
    settings.devices.push(home.path().join("second"));
    let archive = open(settings);
    let quiet = &mut |_: &str, _, _| {};
    let mut files = Vec::new();
    for number in 0..6 {
        let sample = Sample::new(1, number, 80_000 * (number as usize % 2) + 100);
        files.push(
            store(&archive, &sample, BOTH[number as usize % 2])
                .unwrap()
                .file,
        );
    }
    let options = FsckOptions {
        verify_hash: true,
        repair: false,
    };
    let report = archive.fsck(options, quiet).unwrap();
    assert_eq!((report.rows, report.files, report.fault_count), (6, 6, 0));
    let path = |n: usize| archive.path(0, &files[n]).unwrap();
    std::fs::remove_file(path(0)).unwrap();
    std::fs::write(path(1), b"short").unwrap();
    let mut bytes = std::fs::read(path(2)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path(2), bytes).unwrap();
    std::fs::create_dir_all(home.path().join("second/x")).unwrap();
    std::fs::copy(path(3), home.path().join("second/x/copy.dcm")).unwrap();
    std::fs::write(home.path().join("data/notes.txt"), b"not an object").unwrap();
    let lost = Sample::new(2, 1, 500);
    let outcome = store(&archive, &lost, Durability::Durable).unwrap();
    std::fs::rename(
        archive.path(0, &outcome.file).unwrap(),
        home.path().join("lost"),
    )
    .unwrap();
    archive.delete(Level::Image, lost.sop.as_bytes()).unwrap();
    archive.wait_for_reaper();
    std::fs::rename(home.path().join("lost"), home.path().join("second/lost")).unwrap();

    let report = archive.fsck(options, quiet).unwrap();
    let count = |kind| report.count(kind);
    assert_eq!(report.fault_count, 6, "{report:#?}");
    assert_eq!(count(FaultKind::MissingFile), 1);
    assert_eq!(count(FaultKind::WrongSize), 1);
    assert_eq!(count(FaultKind::WrongHash), 1);
    assert_eq!(count(FaultKind::NoRow), 2);
    assert_eq!(count(FaultKind::Stranger), 1);
    let repair = FsckOptions {
        verify_hash: true,
        repair: true,
    };
    let report = archive.fsck(repair, quiet).unwrap();
    assert_eq!(
        report.faults.iter().filter(|fault| fault.repaired).count(),
        2
    );
    archive.wait_for_reaper();
    let report = archive.fsck(options, quiet).unwrap();
    assert_eq!((report.rows, report.fault_count), (6, 4));
}

#[test]
fn an_index_is_rebuilt_from_its_files() {
    use pyserver_store::regen::RegenScope;
    let quiet = &mut |_: &str, _, _| {};
    let home = tempfile::tempdir().unwrap();
    let archive = open(config(home.path()));
    for number in 0..40 {
        let sample = Sample::new(number % 3, number, 80_000 * (number as usize % 2) + 100);
        store(&archive, &sample, Durability::Durable).unwrap();
    }
    let before = archive.counts().unwrap();
    archive.close();
    std::fs::remove_dir_all(home.path().join("index")).unwrap();
    std::fs::write(home.path().join("data/empty.dcm"), b"").unwrap();
    std::fs::create_dir_all(home.path().join("data/incoming")).unwrap();
    std::fs::write(home.path().join("data/incoming/x.dcm"), b"").unwrap();
    let archive = open(config(home.path()));
    assert_eq!(archive.counts().unwrap().images, 0);
    let one = home
        .path()
        .join("data/P1/1.2.3.1/1.2.3.1.0/1.2.3.1.0.0.dcm");
    let report = archive.regen(&RegenScope::File(one), quiet).unwrap();
    assert_eq!((report.files, report.entered), (1, 1));
    let folder = RegenScope::Folder(0, "P1/1.2.3.1/1.2.3.1.0".into());
    let report = archive.regen(&folder, quiet).unwrap();
    assert_eq!((report.files, report.entered, report.updated), (14, 13, 1));
    let report = archive.regen(&RegenScope::All, quiet).unwrap();
    assert_eq!((report.files, report.entered, report.updated), (41, 26, 14));
    assert_eq!(report.refused_count, 1);
    assert_eq!(report.refused[0].0, "empty.dcm");
    assert_eq!(archive.counts().unwrap(), before);
    let check = FsckOptions {
        verify_hash: true,
        repair: false,
    };
    assert_eq!(archive.fsck(check, quiet).unwrap().fault_count, 1);
    // A moved file takes its row along, a copy does not.
    let from = home
        .path()
        .join("data/P1/1.2.3.1/1.2.3.1.0/1.2.3.1.0.0.dcm");
    std::fs::copy(&from, home.path().join("data/copy.dcm")).unwrap();
    let report = archive
        .regen(&RegenScope::File("copy.dcm".into()), quiet)
        .unwrap();
    assert_eq!((report.duplicates, report.entered), (1, 0));
    std::fs::remove_file(from).unwrap();
    let report = archive
        .regen(&RegenScope::File("copy.dcm".into()), quiet)
        .unwrap();
    assert_eq!((report.duplicates, report.entered), (0, 1));
    assert!(
        archive
            .regen(&RegenScope::File("/etc/passwd".into()), quiet)
            .is_err()
    );
    assert!(archive.regen(&RegenScope::Device(7), quiet).is_err());
    archive.wait_for_reaper();
    assert_eq!(archive.fsck(check, quiet).unwrap().fault_count, 1);
}

/// Whatever adds rows from files passes over those that only wait for the reaper, also after a kill.
#[test]
fn files_of_deleted_objects_are_not_entered_again() {
    use pyserver_store::regen::RegenScope;
    let quiet = &mut |_: &str, _, _| {};
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    for killed in [false, true] {
        let disk = Arc::new(FaultDisk::default());
        disk.arm(1, Fault::Removes);
        let opened = Archive::open_on(config(home.path()), disk.clone(), quiet);
        let archive = opened.unwrap().0;
        if !killed {
            for number in 0..12 {
                let sample = Sample::new(number % 3, number, 100 + 70_000 * (number as usize % 2));
                store(&archive, &sample, Durability::Durable).unwrap();
            }
            archive.delete(Level::Series, b"1.2.3.1.0").unwrap();
            archive.delete(Level::Image, b"1.2.3.1.1.1").unwrap();
        }
        assert_eq!(files(&data).len(), 12);
        let dead = data.join("P1/1.2.3.1/1.2.3.1.1/1.2.3.1.1.1.dcm");
        let alive = data.join("P1/1.2.3.1/1.2.3.1.1/1.2.3.1.1.4.dcm");
        assert!(archive.is_being_removed(&dead).unwrap());
        assert!(!archive.is_being_removed(&alive).unwrap());
        assert!(!archive.is_being_removed(home.path()).unwrap());
        for scope in [RegenScope::All, RegenScope::File(dead)] {
            let report = archive.regen(&scope, quiet).unwrap();
            assert_eq!((report.entered, report.refused_count), (0, 0), "{killed}");
        }
        let repair = FsckOptions {
            verify_hash: true,
            repair: true,
        };
        assert_eq!(archive.fsck(repair, quiet).unwrap().fault_count, 0);
        assert_eq!(archive.counts().unwrap().images, 7);
        disk.crash();
        drop(archive);
    }
    let archive = open(config(home.path()));
    archive.wait_for_reaper();
    assert_eq!(files(&data).len(), 7);
}

#[test]
fn an_index_with_space_behind_it_opens_again() {
    let home = tempfile::tempdir().unwrap();
    let archive = open(config(home.path()));
    for number in 0..60 {
        // Journalled: the bytes ride in the index until they are settled.
        let sample = Sample::new(number / 10, number, 60_000);
        store(&archive, &sample, Durability::Durable).unwrap();
    }
    let data = home.path().join("index/data.mdb");
    let length = std::fs::metadata(&data).unwrap().len();
    assert!(
        length > archive.stats().index_bytes + (100 << 10),
        "{length}"
    );
    archive.close();
    let archive = open(config(home.path()));
    let options = FsckOptions {
        verify_hash: true,
        repair: false,
    };
    let report = archive.fsck(options, &mut |_, _, _| {}).unwrap();
    assert_eq!((report.rows, report.files, report.fault_count), (60, 60, 0));
    store(&archive, &Sample::new(90, 9, 1500), Durability::Durable).unwrap();
}
