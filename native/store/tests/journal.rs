//! What the journal of new stores is for: between its sync and the commit of the index an acknowledged object
//! stands nowhere else.
#![allow(clippy::unwrap_used, clippy::panic)] // tests

mod common;
#[path = "common/fault_disk.rs"]
mod fault_disk;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use fault_disk::{Fault, FaultDisk, Loss};
use pyserver_proto::transfer_syntax::Encoding;
use pyserver_store::archive::Archive;
use pyserver_store::config::{ArchiveConfig, Durability};
use pyserver_store::fsck::FsckOptions;
use pyserver_store::recover::RecoveryReport;
use pyserver_store::schema::Level;

const SMALL: usize = 400;
const LARGE: usize = 90_000;
const LOSSES: [Loss; 3] = [Loss::Nothing, Loss::Unsynced, Loss::Contents];

/// Each loss, with the journal beside the objects and elsewhere.
fn losses() -> impl Iterator<Item = (Loss, bool)> {
    LOSSES
        .into_iter()
        .flat_map(|loss| [(loss, false), (loss, true)])
}

fn open_on(config: ArchiveConfig) -> (Archive, Arc<FaultDisk>) {
    open_on_disk(config, FaultDisk::default())
}

fn open_on_disk(config: ArchiveConfig, disk: FaultDisk) -> (Archive, Arc<FaultDisk>) {
    let disk = Arc::new(disk);
    let on: Arc<FaultDisk> = Arc::clone(&disk);
    let (archive, _) = Archive::open_on(config, on, &mut |_, _, _| {}).unwrap();
    (archive, disk)
}

/// Stores an object and rests.
fn store_and_rest(archive: &Archive, object: &Sample) {
    store(archive, object, Durability::Durable).unwrap();
    rest(archive);
}

/// Waits until everything that wants a commit of its own has had it.
fn rest(archive: &Archive) {
    archive.wait_for_reaper();
    archive.flush().unwrap();
}

/// Opens the archive after a crash; exactly these objects are there, whole, and nothing else.
fn expect(config: ArchiveConfig, home: &Path, objects: &[Sample]) -> RecoveryReport {
    let (archive, report) = Archive::open(config, &mut |_, _, _| {}).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(archive.counts().unwrap().images, objects.len() as u64);
    let options = FsckOptions {
        verify_hash: true,
        repair: false,
    };
    assert_eq!(archive.fsck(options, &mut |_, _, _| {}).unwrap().faults, []);
    for object in objects {
        let read = archive.index().read().unwrap();
        let located = read.locate_sop(object.sop.as_bytes()).unwrap().unwrap();
        drop(read);
        let found = stored_dataset(&archive, located.device, &located.file);
        assert!(found == object.encode(Encoding::EXPLICIT_LE));
    }
    archive.close();
    assert_eq!(
        files(&home.join("data/.pyserver-tmp")),
        Vec::<String>::new()
    );
    report
}

#[test]
fn a_store_that_cannot_be_taken_back_at_once_does_not_come_back() {
    let home = tempfile::tempdir().unwrap();
    let (archive, disk) = open_on(config(home.path()));
    let [first, kept, refused] = [4, 1, 2].map(|series| Sample::new(series, series, LARGE));
    store_and_rest(&archive, &first);
    disk.arm(u64::MAX, Fault::FullIndex);
    store(&archive, &kept, Durability::Relaxed).unwrap();
    let log = disk.log();
    let mark = log.iter().position(|line| line.contains(" link ")).unwrap();
    // No commit falls due between the operations that are counted.
    rest(&archive);
    // The journal holds the second object by then; neither its file nor its taking back finds room.
    disk.arm(mark as u64 + 1, Fault::FullIndex);
    assert!(store(&archive, &refused, Durability::Relaxed).is_err());
    let log = disk.log();
    assert!(log.iter().any(|line| line.contains(" commit ")), "{log:?}");
    disk.arm(u64::MAX, Fault::FullIndex);
    // Where it was committed before, it goes with the next commit, which comes by itself.
    let until = Instant::now() + Duration::from_secs(30);
    while archive.counts().unwrap().images != 2 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    store(&archive, &Sample::new(3, 3, SMALL), Durability::Durable).unwrap();
    archive.flush().unwrap();
    assert_eq!(archive.counts().unwrap().images, 3);
    archive.close();
    expect(
        config(home.path()),
        home.path(),
        &[first, kept, Sample::new(3, 3, SMALL)],
    );
}

#[test]
fn power_ends_between_journal_and_commit() {
    for (loss, separate) in losses() {
        let home = tempfile::tempdir().unwrap();
        let (archive, disk) = open_on_disk(config(home.path()), FaultDisk::new(separate));
        let objects = [
            Sample::new(1, 1, SMALL),
            Sample::new(1, 2, LARGE),
            Sample::new(2, 3, SMALL),
        ];
        for object in &objects {
            store(&archive, object, Durability::Durable).unwrap();
        }
        let commits = archive.stats().commits;
        disk.crash();
        archive.close();
        disk.come_up(loss);
        let report = expect(config(home.path()), home.path(), &objects);
        if commits == 0 {
            assert_eq!(report.entered, 3, "{loss:?}");
        }
        let again = expect(config(home.path()), home.path(), &objects);
        assert_eq!((again.entered, again.pending), (0, 0));
    }
}

#[test]
fn a_sync_of_its_file_makes_safe_what_the_journal_holds_before_it() {
    for (loss, separate) in losses() {
        let home = tempfile::tempdir().unwrap();
        let (archive, disk) = open_on_disk(config(home.path()), FaultDisk::new(separate));
        let [first, relaxed] = [1, 2].map(|series| Sample::new(series, series, LARGE));
        let objects = [3, 4].map(|series| Sample::new(series, series, LARGE));
        store_and_rest(&archive, &first);
        let commits = archive.stats().commits;
        store(&archive, &relaxed, Durability::Relaxed).unwrap();
        disk.arm(u64::MAX, Fault::Crash);
        for object in &objects {
            store(&archive, object, Durability::Durable).unwrap();
        }
        let log = disk.log();
        let count = |what| log.iter().filter(|line| line.contains(what)).count();
        let through = count(" sync range ");
        let is_committed = archive.stats().commits > commits;
        assert!(
            is_committed || through == if separate { 0 } else { 2 },
            "{log:?}"
        );
        disk.crash();
        archive.close();
        disk.come_up(loss);
        let (archive, _) = Archive::open(config(home.path()), &mut |_, _, _| {}).unwrap();
        for object in &objects {
            let found = archive.index().read().unwrap();
            let found = found.find_image(object.sop.as_bytes()).unwrap();
            assert!(found.is_some(), "{loss:?} {separate} {is_committed}");
        }
    }
}

#[test]
fn power_ends_before_the_rename() {
    for (loss, separate) in losses() {
        for at in 1.. {
            let home = tempfile::tempdir().unwrap();
            let (archive, disk) = open_on_disk(config(home.path()), FaultDisk::new(separate));
            disk.arm(at, Fault::Crash);
            let object = Sample::new(1, 1, LARGE);
            let done = store(&archive, &object, Durability::Durable).is_ok();
            let log = disk.log();
            disk.crash();
            archive.close();
            disk.come_up(loss);
            let both_synced = log.iter().filter(|line| line.contains(" sync ")).count() == 2
                && !log.last().unwrap().contains(" sync ");
            if both_synced {
                expect(config(home.path()), home.path(), &[object]);
            }
            if done {
                break;
            }
        }
    }
}

#[test]
fn what_was_committed_and_deleted_does_not_come_back() {
    let home = tempfile::tempdir().unwrap();
    let (archive, disk) = open_on(config(home.path()));
    let (kept, gone) = (Sample::new(1, 1, SMALL), Sample::new(1, 2, SMALL));
    store(&archive, &gone, Durability::Durable).unwrap();
    store(&archive, &kept, Durability::Durable).unwrap();
    archive.delete(Level::Image, gone.sop.as_bytes()).unwrap();
    archive.wait_for_reaper();
    disk.crash();
    archive.close();
    disk.come_up(Loss::Unsynced);
    let report = expect(config(home.path()), home.path(), &[kept]);
    assert_eq!(report.entered, 0);
}

#[test]
fn a_full_journal_commits_and_goes_on() {
    for loss in LOSSES {
        let home = tempfile::tempdir().unwrap();
        let settings = ArchiveConfig {
            journal_bytes: 8192,
            ..config(home.path())
        };
        let (archive, disk) = open_on(settings.clone());
        let mut objects: Vec<_> = (0..30).map(|n| Sample::new(1, n, 700)).collect();
        // One that never has room.
        objects.insert(10, Sample::new(2, 99, 20_000));
        for object in &objects {
            store(&archive, object, Durability::Durable).unwrap();
        }
        assert!(archive.stats().commits > 0);
        disk.crash();
        archive.close();
        disk.come_up(loss);
        expect(settings, home.path(), &objects);
    }
}

#[test]
fn a_failed_journal_refuses_and_keeps_what_was_acknowledged() {
    for (at, fault) in [
        (1, Fault::Once(5)),
        (2, Fault::Once(5)),
        (1, Fault::Syncs),
        (2, Fault::Once(28)),
    ] {
        let home = tempfile::tempdir().unwrap();
        let (archive, disk) = open_on(config(home.path()));
        let (first, second) = (Sample::new(1, 1, SMALL), Sample::new(1, 2, SMALL));
        store(&archive, &first, Durability::Durable).unwrap();
        disk.arm(at, fault);
        let refused = store(&archive, &second, Durability::Durable);
        if disk.log()[0].contains("commit") {
            // The machine is so slow that the commit came first.
            continue;
        }
        let error = refused.unwrap_err();
        assert_eq!(error.status(), 0xA700, "{at} {fault:?}: {error}");
        disk.arm(u64::MAX, Fault::Crash);
        assert_eq!(archive.counts().unwrap().images, 1, "{at} {fault:?}");
        assert!(archive.stats().index_read_only, "{at} {fault:?}");
        disk.crash();
        archive.close();
        disk.come_up(Loss::Nothing);
        let report = expect(config(home.path()), home.path(), &[first]);
        assert_eq!(report.entered, 0);
    }
}

#[test]
fn a_failed_commit_keeps_what_was_acknowledged() {
    for crash in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let (archive, disk) = open_on(config(home.path()));
        let objects = [Sample::new(1, 1, SMALL), Sample::new(1, 2, LARGE)];
        disk.arm(1, Fault::Commits);
        for object in &objects {
            // On a very slow machine the commit is tried, and fails, before the second object comes.
            if store(&archive, object, Durability::Durable).is_err() {
                return;
            }
        }
        assert!(archive.flush().is_err());
        let later = Sample::new(1, 3, SMALL);
        store(&archive, &later, Durability::Durable).unwrap_err();
        if !crash {
            disk.arm(u64::MAX, Fault::Crash);
            archive.flush().unwrap();
            assert_eq!(archive.counts().unwrap().images, 2);
        }
        disk.crash();
        archive.close();
        disk.come_up(Loss::Unsynced);
        let report = expect(config(home.path()), home.path(), &objects);
        assert_eq!(report.entered, if crash { 2 } else { 0 });
    }
}

#[test]
fn no_space_for_the_journal_passes() {
    let home = tempfile::tempdir().unwrap();
    let (archive, disk) = open_on(config(home.path()));
    let objects = [Sample::new(1, 1, SMALL), Sample::new(1, 2, SMALL)];
    store(&archive, &objects[0], Durability::Durable).unwrap();
    disk.arm(1, Fault::Full);
    let error = store(&archive, &objects[1], Durability::Durable).unwrap_err();
    assert_eq!(error.status(), 0xA700);
    disk.arm(u64::MAX, Fault::Full);
    store(&archive, &objects[1], Durability::Durable).unwrap();
    disk.crash();
    archive.close();
    disk.come_up(Loss::Unsynced);
    expect(config(home.path()), home.path(), &objects);
}

#[test]
fn queued_work_comes_back_once_and_a_store_is_found_at_once() {
    let home = tempfile::tempdir().unwrap();
    let (archive, disk) = open_on(config(home.path()));
    let object = Sample::new(1, 1, SMALL);
    let mut incoming = archive.begin(&object.context(Durability::Durable)).unwrap();
    incoming.queue(b"work".to_vec());
    let bytes = object.encode(Encoding::EXPLICIT_LE);
    incoming.write(&bytes).unwrap();
    incoming.finish().unwrap();
    disk.crash();
    archive.close();
    disk.come_up(Loss::Unsynced);
    for _ in 0..2 {
        let archive = open(config(home.path()));
        let work = archive.index().read().unwrap().jobs(0, 10).unwrap();
        assert_eq!(work.len(), 1);
        store(&archive, &Sample::new(1, 2, SMALL), Durability::Durable).unwrap();
        assert_eq!(archive.counts().unwrap().images, 2);
    }
}
