//! Storing without an index (Conquest's NULL driver): the file is all that is kept.
//!
//! Without rows nothing says who owns a name. An object that stands under the name is replaced when it is the
//! same instance; another one keeps its name and the new one gets a number. Names are chosen one at a time.
//! Nothing can be taken back after a crash, and nothing has to be: what is whole under a final name stays, what
//! was on its way is removed. An acknowledged durable object is on the disk: one sync of the device for all that
//! wait for it.

use parking_lot::{Condvar, Mutex};

use crate::apply::{Outcome, Stored};
use crate::blob::Disk;
use crate::config::{ArchiveConfig, Durability};
use crate::device::Device;
use crate::error::StoreError;
use crate::file_object::read_object;
use crate::finish::Store;
use crate::job::{JobPending, StoreJob};
use crate::place::Place;
use crate::schema::ImageKey;
use crate::temp_file::TempFile;
use pyserver_proto::tag::Tag;

/// Fields of a record of work (`pyserver/policy/jobs.py`).
const FIELDS_BEFORE_FILE: usize = 7;

/// How often a name is varied before giving up.
const TRIES_MAX: u32 = 100_000;

/// What stores without an index share.
#[derive(Default)]
pub(crate) struct Unindexed {
    /// Held while a name is chosen and taken.
    naming: Mutex<()>,
    rounds: Mutex<Rounds>,
    changed: Condvar,
}

/// Syncs of all devices, counted.
#[derive(Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    running: bool,
}

impl Unindexed {
    /// Makes a device durable together with everyone who asks meanwhile: waits for a round that begins after
    /// this call.
    fn sync(&self, disk: &dyn Disk, devices: &[std::sync::Arc<Device>]) {
        let mut rounds = self.rounds.lock();
        let wanted = rounds.begun + 1;
        while rounds.ended < wanted {
            if rounds.running {
                self.changed.wait(&mut rounds);
                continue;
            }
            rounds.running = true;
            rounds.begun += 1;
            drop(rounds);
            for device in devices {
                // A failure makes the device read-only, which is asked by whoever stored on it.
                let _read_only = device.sync_all(disk);
            }
            rounds = self.rounds.lock();
            rounds.running = false;
            rounds.ended = rounds.begun;
            self.changed.notify_all();
        }
    }
}

impl Store {
    /// Puts the file in its place and makes it as durable as was promised.
    pub(crate) fn unindexed(&mut self, job: &StoreJob) -> Result<Stored, StoreError> {
        let incoming = &self.incoming;
        let shared = &incoming.shared;
        let durable = incoming.durability == Durability::Durable;
        incoming.temp.as_ref().map_or(Ok(()), TempFile::wait)?;
        let (file, replaces) = {
            let _one_at_a_time = shared.unindexed.naming.lock();
            let (file, replaces) = free_name(&incoming.device, job, &incoming.config)?;
            self.take_place(job, &file, replaces, durable)?;
            (file, replaces)
        };
        if durable {
            shared.unindexed.sync(shared.disk.as_ref(), &shared.devices);
            if let Some(reason) = incoming.device.read_only() {
                return Err(StoreError::ReadOnly(reason));
            }
        }
        if !job.jobs.is_empty() {
            let path = incoming.device.path(&file);
            let path = path.to_string_lossy();
            let jobs: Vec<_> = job.jobs.iter().map(|job| with_file(job, &path)).collect();
            shared.committer.change(move |txn| {
                let jobs: Vec<&[u8]> = jobs.iter().map(Vec::as_slice).collect();
                txn.put_jobs(&jobs)
            })?;
        }
        Ok(Stored {
            pending: None,
            image: ImageKey::default(),
            device: job.device,
            file,
            follows: None,
            overwrites: replaces,
            replaced: None,
            outcome: if replaces {
                Outcome::Rewritten
            } else {
                Outcome::New
            },
            warnings: Vec::new(),
        })
    }

    /// Writes or renames the file; one that replaces another is on the disk before it does.
    fn take_place(
        &self,
        job: &StoreJob,
        file: &str,
        replaces: bool,
        durable: bool,
    ) -> Result<(), StoreError> {
        let incoming = &self.incoming;
        let place = Place {
            disk: &incoming.shared.disk,
            device: &incoming.device,
            file,
            replace: replaces,
        };
        let sync = replaces && durable;
        match (&incoming.temp, &job.pending) {
            (Some(temp), _) => {
                if sync {
                    temp.sync()?;
                }
                place.renamed(&incoming.device.temp_path(&temp.name))
            }
            (None, JobPending::Journal(bytes)) => place.bytes(bytes, sync),
            (None, JobPending::Temp(_) | JobPending::Written) => {
                place.bytes(&incoming.gathered, sync)
            }
        }
    }
}

/// A record of queued work with the object's file as its last field: no index tells where it is.
fn with_file(job: &[u8], path: &str) -> Vec<u8> {
    let fields = job.split(|byte| *byte == b'\t').count();
    let mut record = job.to_vec();
    record.resize(
        record.len() + FIELDS_BEFORE_FILE.saturating_sub(fields) + 1,
        b'\t',
    );
    record.extend_from_slice(path.as_bytes());
    record
}

/// The name that the syntax gives, or a variation of it, and whether it replaces an older copy.
fn free_name(
    device: &Device,
    job: &StoreJob,
    config: &ArchiveConfig,
) -> Result<(String, bool), StoreError> {
    for attempt in 0..TRIES_MAX {
        let name = varied(&job.file_candidate, attempt);
        let path = device.path(&name);
        if path.symlink_metadata().is_err() {
            return Ok((name, false));
        }
        let owner = read_object(&path, config.scan_limits);
        let uid = owner.map(|owner| {
            let uid = owner.scanned.header.get(Tag::SOP_INSTANCE_UID);
            uid.map(<[u8]>::to_vec)
        });
        if matches!(uid, Ok(Some(uid)) if uid == job.rows.sop_instance) {
            return Ok((name, true));
        }
    }
    Err(StoreError::refused(
        job.refusal_status,
        format!("{TRIES_MAX} files are named like {}", job.file_candidate),
    ))
}

/// The name with a number before its extension; the first is the name itself.
fn varied(candidate: &str, attempt: u32) -> String {
    if attempt == 0 {
        return candidate.to_owned();
    }
    let folder = candidate.rfind('/').map_or(0, |slash| slash + 1);
    let dot = candidate.rfind('.').filter(|&dot| dot > folder);
    let (stem, extension) = candidate.split_at(dot.unwrap_or(candidate.len()));
    format!("{stem}_{attempt}{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_eighth_field_of_a_record() {
        assert_eq!(
            with_file(b"a\t1\t2\t3\t4\t5", "/x"),
            b"a\t1\t2\t3\t4\t5\t\t/x"
        );
        assert_eq!(
            with_file(b"a\t1\t2\t3\t4\t5\tt", "/x"),
            b"a\t1\t2\t3\t4\t5\tt\t/x"
        );
    }

    #[test]
    fn names_are_varied_before_their_extension() {
        assert_eq!(varied("a.b/c", 0), "a.b/c");
        assert_eq!(varied("a.b/c", 2), "a.b/c_2");
        assert_eq!(varied("a.b/c.dcm", 1), "a.b/c_1.dcm");
    }
}
