//! What a sender knows of its objects, held against what an archive has after a crash.
#![allow(dead_code)] // no test file needs all of it

use std::collections::HashMap;

use pyserver_proto::transfer_syntax::Encoding;
use pyserver_store::archive::Archive;
use pyserver_store::config::{ArchiveConfig, Durability};
use pyserver_store::fsck::FsckOptions;
use pyserver_store::schema::Level;

use crate::common::{Sample, files, store, stored_dataset};

/// Bytes of pixels of an object that is journalled.
pub const SMALL: usize = 400;
/// And of one that has a file of its own while it arrives.
pub const LARGE: usize = 90_000;

/// And of one that the writers take pieces of.
pub const HUGE: usize = 500_000;

/// One step of a script.
#[derive(Clone, Copy)]
pub enum Step {
    /// Store object `number` with this description and size.
    Store(u32, &'static str, usize),
    Delete(u32),
    /// Settle what is stored so far.
    Settle,
    Reap,
}

/// What the sender knows of an object.
#[derive(Default, Clone)]
struct Known {
    /// The version acknowledged last; `None` after an acknowledged delete.
    acknowledged: Option<Vec<u8>>,
    /// Versions that may be there instead, because their store was not answered with success.
    possible: Vec<Vec<u8>>,
    /// Whether it may be gone: never acknowledged, or a delete was not answered.
    may_be_gone: bool,
    /// Whether it was durable when the script began, and every version since: what a power cut leaves of
    /// relaxed stores is one of these.
    settled: bool,
    versions: Vec<Vec<u8>>,
}

/// Everything one sender knows.
#[derive(Default)]
pub struct Ledger {
    known: HashMap<u32, Known>,
}

/// Object `number` in a version of its own.
pub fn sample(number: u32, description: &str, size: usize) -> Sample {
    let mut sample = Sample::new(1, number, size + description.len() * 2);
    sample.description = description.into();
    sample
}

impl Ledger {
    /// Everything stored so far is durable.
    pub fn all_settled(&mut self) {
        for known in self.known.values_mut() {
            known.settled = true;
        }
    }

    /// Runs one step; whether it was acknowledged.
    pub fn step(&mut self, archive: &Archive, durability: Durability, step: Step) -> bool {
        match step {
            Step::Store(number, description, size) => {
                let sample = sample(number, description, size);
                let done = store(archive, &sample, durability).is_ok();
                self.stored(number, sample.encode(Encoding::EXPLICIT_LE), done);
                done
            }
            Step::Delete(number) => {
                let sop = sample(number, "", 0).sop;
                let done = archive.delete(Level::Image, sop.as_bytes()).is_ok();
                let known = self.known.entry(number).or_default();
                known.may_be_gone = true;
                known.settled = false;
                if done {
                    known.acknowledged = None;
                    known.possible.clear();
                }
                done
            }
            Step::Settle => {
                archive.settle();
                true
            }
            Step::Reap => {
                archive.settle();
                archive.wake_reaper();
                true
            }
        }
    }

    fn stored(&mut self, number: u32, bytes: Vec<u8>, done: bool) {
        let known = self.known.entry(number).or_insert_with(|| Known {
            may_be_gone: true,
            ..Known::default()
        });
        known.versions.push(bytes.clone());
        if done {
            known.acknowledged = Some(bytes);
            known.possible.clear();
            known.may_be_gone = false;
        } else {
            known.possible.push(bytes);
        }
    }

    /// Opens the archive on a healthy disk and holds it against what the sender knows. `exact`: everything
    /// acknowledged must be there, not only what was durable before.
    pub fn check(&self, settings: &ArchiveConfig, exact: bool, about: &str) {
        let (archive, report) = Archive::open(settings.clone(), &mut |_, _, _| {})
            .unwrap_or_else(|e| panic!("{about}: {e}"));
        assert_eq!(report.problems, Vec::<String>::new(), "{about}");
        archive.wait_for_reaper();
        let options = FsckOptions {
            verify_hash: true,
            repair: false,
        };
        let faults = archive.fsck(options, &mut |_, _, _| {}).unwrap();
        assert_eq!(faults.faults, [], "{about}: {report:?}");
        for (number, known) in &self.known {
            Self::check_object(&archive, *number, known, exact, about);
        }
        archive.close();
        for device in &settings.devices {
            let temp = files(&device.join(".pyserver-tmp"));
            assert_eq!(temp, Vec::<String>::new(), "{about}");
        }
    }

    fn check_object(archive: &Archive, number: u32, known: &Known, exact: bool, about: &str) {
        let sop = sample(number, "", 0).sop;
        let read = archive.index().read().unwrap();
        let Some(located) = read.locate_sop(sop.as_bytes()).unwrap() else {
            let lost = if exact {
                !known.may_be_gone
            } else {
                known.settled
            };
            assert!(!lost, "{about}: object {number} is lost");
            return;
        };
        let found = stored_dataset(archive, located.device, &located.file);
        let mut possible = known.possible.iter().chain(&known.acknowledged);
        let good = if exact {
            possible.any(|version| *version == found)
        } else {
            known.versions.contains(&found)
        };
        assert!(good, "{about}: object {number} is another version");
    }
}
