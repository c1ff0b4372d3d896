//! Every point at which power or process can end, and every operation that can fail.
//!
//! A script of stores and deletes runs on a disk that stops at its N-th operation, for each N. The archive is
//! opened again after each kind of loss, and then: what was acknowledged is there and whole, every row has its
//! file, every file its row, nothing is left in the private folder.
#![allow(clippy::unwrap_used, clippy::panic)] // tests

mod common;
#[path = "common/fault_disk.rs"]
mod fault_disk;
#[path = "common/ledger.rs"]
mod ledger;

use std::path::Path;
use std::sync::Arc;

use common::*;
use fault_disk::{Fault, FaultDisk, Loss};
use ledger::{HUGE, LARGE, Ledger, SMALL, Step, sample};
use pyserver_proto::transfer_syntax::Encoding;
use pyserver_store::archive::Archive;
use pyserver_store::config::{ArchiveConfig, Durability};
use pyserver_store::filename::NameSyntax;
use pyserver_store::fsck::FsckOptions;

struct Script {
    name: &'static str,
    syntax: &'static str,
    rename_on_rewrite: bool,
    before: &'static [Step],
    steps: &'static [Step],
}

const SCRIPTS: [Script; 8] = [
    Script {
        name: "new objects",
        syntax: "8",
        rename_on_rewrite: false,
        before: &[],
        steps: &[
            Step::Store(1, "a", SMALL),
            Step::Store(2, "a", LARGE),
            Step::Store(3, "a", SMALL),
            Step::Settle,
        ],
    },
    Script {
        name: "settled objects stored again",
        syntax: "8",
        rename_on_rewrite: false,
        before: &[
            Step::Store(1, "a", SMALL),
            Step::Store(2, "a", LARGE),
            Step::Settle,
        ],
        steps: &[
            Step::Store(1, "bb", SMALL),
            Step::Store(2, "bb", LARGE),
            Step::Settle,
        ],
    },
    Script {
        name: "stored again before they are settled, larger and smaller",
        syntax: "8",
        rename_on_rewrite: false,
        before: &[],
        steps: &[
            Step::Store(1, "a", SMALL),
            Step::Store(1, "bb", LARGE),
            Step::Store(1, "cccc", SMALL),
            Step::Store(2, "a", LARGE),
            Step::Store(2, "bb", LARGE),
            Step::Settle,
        ],
    },
    Script {
        name: "written in pieces",
        syntax: "8",
        rename_on_rewrite: false,
        before: &[],
        steps: &[
            Step::Store(1, "a", HUGE),
            Step::Store(1, "bb", HUGE),
            Step::Settle,
        ],
    },
    Script {
        name: "stored again under another name",
        syntax: "%id/%studydesc/%sopuid.dcm",
        rename_on_rewrite: true,
        before: &[
            Step::Store(1, "a", SMALL),
            Step::Store(2, "a", LARGE),
            Step::Settle,
        ],
        steps: &[
            Step::Store(1, "b", SMALL),
            Step::Store(2, "b", LARGE),
            Step::Settle,
            Step::Store(2, "c", SMALL),
            Step::Reap,
        ],
    },
    Script {
        name: "deleted",
        syntax: "8",
        rename_on_rewrite: false,
        before: &[
            Step::Store(1, "a", SMALL),
            Step::Store(2, "a", LARGE),
            Step::Settle,
        ],
        steps: &[Step::Delete(1), Step::Reap, Step::Delete(2), Step::Reap],
    },
    Script {
        name: "stored, deleted, stored",
        syntax: "8",
        rename_on_rewrite: false,
        before: &[],
        steps: &[
            Step::Store(1, "a", SMALL),
            Step::Delete(1),
            Step::Store(1, "bb", LARGE),
            Step::Store(2, "a", SMALL),
            Step::Reap,
        ],
    },
    Script {
        name: "one name for all",
        syntax: "%id.dcm",
        rename_on_rewrite: false,
        before: &[Step::Store(1, "a", SMALL), Step::Settle],
        steps: &[
            Step::Store(2, "a", LARGE),
            Step::Delete(1),
            Step::Store(3, "a", SMALL),
            Step::Reap,
        ],
    },
];

struct Run {
    disk: Arc<FaultDisk>,
    archive: Option<Archive>,
    durability: Durability,
    ledger: Ledger,
}

impl Run {
    fn start(home: &Path, script: &Script, durability: Durability, disk: FaultDisk) -> Self {
        let disk = Arc::new(disk);
        let settings = settings(home, script);
        let on = Arc::clone(&disk);
        let (archive, _) = Archive::open_on(settings, on, &mut |_, _, _| {}).unwrap();
        let mut run = Self {
            disk,
            archive: Some(archive),
            durability,
            ledger: Ledger::default(),
        };
        for step in script.before {
            assert!(run.step(*step));
        }
        run.ledger.all_settled();
        run
    }

    /// Runs one step; whether it was acknowledged.
    fn step(&mut self, step: Step) -> bool {
        let archive = self.archive.as_ref().unwrap();
        self.ledger.step(archive, self.durability, step)
    }
}

fn settings(home: &Path, script: &Script) -> ArchiveConfig {
    ArchiveConfig {
        file_name_syntax: NameSyntax::parse(script.syntax).unwrap(),
        rename_on_rewrite: script.rename_on_rewrite,
        ..config(home)
    }
}

/// Runs a script with a crash at each of its operations.
fn crash_everywhere(script: &Script, durability: Durability, loss: Loss, separate: bool) {
    let mut at = 1;
    loop {
        let home = scratch();
        let disk = FaultDisk::new(separate);
        let mut run = Run::start(home.path(), script, durability, disk);
        run.disk.arm(at, Fault::Crash);
        for step in script.steps {
            run.step(*step);
        }
        let archive = run.archive.take().unwrap();
        let over = run.disk.operations() < at;
        run.disk.crash();
        archive.close();
        run.disk.come_up(loss);
        let exact = durability == Durability::Durable || loss == Loss::Nothing;
        let about = format!(
            "{} {durability:?} {loss:?}, crash at {at}: {:?}",
            script.name,
            run.disk.log()
        );
        run.ledger
            .check(&settings(home.path(), script), exact, &about);
        if over {
            return;
        }
        at += 1;
        assert!(at < 500, "the script does not end");
    }
}

macro_rules! crashes {
    ($($name:ident: $durability:ident, $loss:ident, $separate:literal;)*) => {$(
        #[test]
        fn $name() {
            for script in &SCRIPTS {
                crash_everywhere(script, Durability::$durability, Loss::$loss, $separate);
            }
        }
    )*};
}

crashes! {
    durable_and_killed: Durable, Nothing, false;
    durable_and_unsynced_lost: Durable, Unsynced, false;
    durable_and_contents_lost: Durable, Contents, false;
    durable_beside_another_disk: Durable, Unsynced, true;
    relaxed_and_killed: Relaxed, Nothing, false;
    relaxed_and_unsynced_lost: Relaxed, Unsynced, false;
    relaxed_and_contents_lost: Relaxed, Contents, false;
}

/// Runs a script with each of its operations failing; the archive goes on.
fn fail_everywhere(script: &Script, fault: Fault) {
    let mut at = 1;
    loop {
        let home = scratch();
        let mut run = Run::start(
            home.path(),
            script,
            Durability::Durable,
            FaultDisk::default(),
        );
        run.disk.arm(at, fault);
        for step in script.steps {
            run.step(*step);
        }
        let archive = run.archive.take().unwrap();
        let over = run.disk.operations() < at;
        let about = format!("{} {fault:?} at {at}: {:?}", script.name, run.disk.log());
        run.disk.arm(u64::MAX, Fault::Crash);
        // A thread in the background may hear of its failure only now; the second store is judged.
        let _first = store(&archive, &sample(98, "later", SMALL), Durability::Durable);
        let next = store(&archive, &sample(99, "later", SMALL), Durability::Durable);
        let read_only = archive
            .stats()
            .devices
            .iter()
            .any(|device| device.read_only.is_some());
        let read_only = read_only || archive.stats().index_read_only;
        match next {
            Ok(_) => assert!(!read_only, "{about}"),
            Err(error) => {
                assert_eq!(error.status(), 0xA700, "{about}");
                assert!(read_only, "{about}: {error}");
            }
        }
        archive.close();
        run.disk.come_up(Loss::Unsynced);
        run.ledger
            .check(&settings(home.path(), script), true, &about);
        if over {
            return;
        }
        at += 1;
        assert!(at < 500, "the script does not end");
    }
}

macro_rules! failures {
    ($($name:ident: $fault:expr;)*) => {$(
        #[test]
        fn $name() {
            for script in &SCRIPTS {
                fail_everywhere(script, $fault);
            }
        }
    )*};
}

failures! {
    one_operation_fails: Fault::Once(5);
    one_operation_finds_no_space: Fault::Once(28);
    syncs_fail: Fault::Syncs;
    space_ends: Fault::Full;
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    for size in [SMALL, LARGE] {
        for durability in [Durability::Durable, Durability::Relaxed] {
            let home = scratch();
            let mut run = Run::start(home.path(), &SCRIPTS[0], durability, FaultDisk::default());
            run.disk.arm(1, Fault::Full);
            let archive = run.archive.take().unwrap();
            let error = store(&archive, &sample(1, "a", size), durability).unwrap_err();
            assert_eq!(error.status(), 0xA700, "{size} {durability:?}");
            run.disk.arm(u64::MAX, Fault::Full);
            store(&archive, &sample(1, "a", size), durability).unwrap();
            assert_eq!(archive.counts().unwrap().images, 1);
            let options = FsckOptions {
                verify_hash: true,
                repair: false,
            };
            assert_eq!(archive.fsck(options, &mut |_, _, _| {}).unwrap().faults, []);
        }
    }
}

#[test]
fn a_failed_sync_takes_the_store_back_and_stops_the_device() {
    let home = scratch();
    let mut run = Run::start(
        home.path(),
        &SCRIPTS[1],
        Durability::Durable,
        FaultDisk::default(),
    );
    run.disk.arm(1, Fault::Syncs);
    let archive = run.archive.take().unwrap();
    let error = store(&archive, &sample(2, "bb", LARGE), Durability::Durable).unwrap_err();
    assert_eq!(error.status(), 0xA700);
    let located = archive
        .index()
        .read()
        .unwrap()
        .locate_sop(b"1.2.3.1.1.2")
        .unwrap()
        .unwrap();
    let found = stored_dataset(&archive, located.device, &located.file);
    assert!(found == sample(2, "a", LARGE).encode(Encoding::EXPLICIT_LE));
    run.disk.arm(u64::MAX, Fault::Crash);
    let error = store(&archive, &sample(3, "a", SMALL), Durability::Durable).unwrap_err();
    assert_eq!(error.status(), 0xA700);
    assert!(archive.stats().devices[0].read_only.is_some());
    archive.close();
    let archive = open(settings(home.path(), &SCRIPTS[1]));
    store(&archive, &sample(3, "a", SMALL), Durability::Durable).unwrap();
    assert_eq!(archive.counts().unwrap().images, 3);
}

#[test]
fn a_full_device_spills_to_the_next() {
    let home = scratch();
    let mut settings = config(home.path());
    settings.devices = ["one", "two"].map(|name| home.path().join(name)).to_vec();
    settings.full_threshold_mb = 30;
    let disk = Arc::new(FaultDisk::default());
    let on = Arc::clone(&disk);
    // Room for one object of 90 KB before the threshold, as long as the system is not asked again.
    disk.set_free("one", (30 << 20) + 100_000);
    disk.set_free("two", (30 << 20) + 100_000);
    let (archive, _) = Archive::open_on(settings.clone(), on, &mut |_, _, _| {}).unwrap();
    let devices: Vec<u16> = (1..=4)
        .map(|number| store(&archive, &sample(number, "a", LARGE), Durability::Durable))
        .take_while(Result::is_ok)
        .map(|outcome| outcome.unwrap().device)
        .collect();
    assert_eq!(devices, [0, 0, 1, 1]);
    let full = store(&archive, &sample(9, "a", SMALL), Durability::Durable).unwrap_err();
    assert_eq!(full.status(), 0xA700);
    // A re-store that lands on another device leaves no copy behind.
    archive.close();
    disk.set_free("one", 0);
    disk.set_free("two", 1 << 30);
    let (archive, _) = Archive::open_on(settings, disk, &mut |_, _, _| {}).unwrap();
    let again = store(&archive, &sample(1, "bb", LARGE), Durability::Durable).unwrap();
    assert_eq!(again.device, 1);
    archive.wait_for_reaper();
    let options = FsckOptions {
        verify_hash: true,
        repair: false,
    };
    let report = archive.fsck(options, &mut |_, _, _| {}).unwrap();
    assert_eq!((report.rows, report.files, report.fault_count), (4, 4, 0));
}
