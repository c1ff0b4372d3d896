//! Crashes while several senders store, store again and delete at once.
//!
//! Each sender has objects of its own, all share folders, commits and, in one of the runs, a file name. Where
//! the crash falls is thrown with a seed; a failure names it.
#![allow(clippy::unwrap_used, clippy::panic)] // tests

mod common;
#[path = "common/fault_disk.rs"]
mod fault_disk;
#[path = "common/ledger.rs"]
mod ledger;

use std::sync::Arc;

use common::*;
use fault_disk::{Fault, FaultDisk, Loss};
use ledger::{LARGE, Ledger, SMALL, Step};
use pyserver_store::archive::Archive;
use pyserver_store::config::Durability;
use pyserver_store::filename::NameSyntax;

const SENDERS: u32 = 4;
const STEPS: u32 = 14;
const RUNS: u64 = 60;
const VERSIONS: [&str; 4] = ["a", "bb", "cccc", "dddddd"];

fn run(seed: u64, durability: Durability, loss: Loss) {
    let home = scratch();
    let mut settings = config(home.path());
    let syntaxes = ["8", "%id/%studydesc/%sopuid.dcm", "%id.dcm"];
    settings.file_name_syntax = NameSyntax::parse(syntaxes[seed as usize % 3]).unwrap();
    settings.rename_on_rewrite = seed.is_multiple_of(2);
    let disk = Arc::new(FaultDisk::default());
    let on = Arc::clone(&disk);
    let (archive, _) = Archive::open_on(settings.clone(), on, &mut |_, _, _| {}).unwrap();
    let mut dice = Dice::new(seed);
    disk.arm(1 + dice.roll(150), Fault::Crash);
    let mut ledgers: Vec<Ledger> = (0..SENDERS).map(|_| Ledger::default()).collect();
    std::thread::scope(|scope| {
        for (sender, ledger) in (0..SENDERS).zip(&mut ledgers) {
            let archive = &archive;
            scope.spawn(move || {
                let mut dice = Dice::new(seed * 1000 + u64::from(sender) + 1);
                for _ in 0..STEPS {
                    let number = sender * 10 + dice.roll(3) as u32;
                    let version = VERSIONS[dice.roll(4) as usize];
                    let size = [SMALL, SMALL, LARGE][dice.roll(3) as usize];
                    let step = match dice.roll(10) {
                        0 => Step::Settle,
                        1 => Step::Reap,
                        2 => Step::Delete(number),
                        _ => Step::Store(number, version, size),
                    };
                    ledger.step(archive, durability, step);
                }
            });
        }
    });
    disk.crash();
    archive.close();
    disk.come_up(loss);
    let exact = durability == Durability::Durable || loss == Loss::Nothing;
    for (sender, ledger) in ledgers.iter().enumerate() {
        let about = format!(
            "seed {seed}, {durability:?}, {loss:?}, sender {sender}: {:?}",
            disk.log()
        );
        ledger.check(&settings, exact, &about);
    }
}

#[test]
fn durable_senders_lose_nothing() {
    for seed in 1..=RUNS {
        for loss in [Loss::Nothing, Loss::Unsynced, Loss::Contents] {
            run(seed, Durability::Durable, loss);
        }
    }
}

#[test]
fn relaxed_senders_lose_nothing_when_the_process_is_killed() {
    for seed in 1..=RUNS {
        run(seed, Durability::Relaxed, Loss::Nothing);
    }
}

#[test]
fn relaxed_senders_leave_index_and_files_in_step_when_power_fails() {
    for seed in 1..=RUNS {
        for loss in [Loss::Unsynced, Loss::Contents] {
            run(seed, Durability::Relaxed, loss);
        }
    }
}
