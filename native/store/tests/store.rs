//! The three ways of a store, re-stores, refusals and deletes, on a healthy disk.
#![allow(clippy::unwrap_used)] // tests

mod common;

use common::*;
use pyserver_proto::transfer_syntax::Encoding;
use pyserver_store::apply::Outcome;
use pyserver_store::config::Durability;
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
            let size = if number % 3 == 0 { 80_000 } else { 300 };
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
fn patients_without_name_and_id_get_them_in_file_and_index() {
    use pyserver_proto::element::write_head;
    use pyserver_proto::tag::Tag;
    use pyserver_proto::vr::Vr;
    for durability in BOTH {
        for size in [600, 300_000] {
            let home = tempfile::tempdir().unwrap();
            let archive = open(config(home.path()));
            let sample = Sample::new(1, 1, size);
            let encoding = Encoding::EXPLICIT_LE;
            let expected = {
                let mut named = sample.clone();
                named.patient = "00000000";
                let bytes = named.encode(encoding);
                let mut name = Vec::new();
                write_head(&mut name, Tag::PATIENT_NAME, Vr::Pn, 12, encoding);
                name.extend_from_slice(b"Test^Object ");
                let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
                let mut changed = bytes[..at].to_vec();
                write_head(&mut changed, Tag::PATIENT_NAME, Vr::Pn, 8, encoding);
                changed.extend_from_slice(b"NO NAME ");
                changed.extend_from_slice(&bytes[at + name.len()..]);
                changed
            };
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
            assert!(stored_dataset(&archive, 0, &outcome.file) == expected);
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
