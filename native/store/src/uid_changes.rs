//! Changes the UIDs of objects and changes them back, always alike: the table UIDMODS behind `newuids`.
//!
//! A new UID is `<prefix>.7.<start>.<number>`. The start is a Unix time that no earlier run of the program
//! had, kept in the index before the first use, so no UID is ever made twice, whatever the clock does. A
//! change is committed before anyone sees the new UID: by itself, or with the object that has it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pyserver_proto::instance::{EditError, Instance};
use pyserver_proto::tag::Tag;

use crate::archive::{Archive, Shared};
use crate::calendar::unix_time;
use crate::error::{STATUS_NOT_UNDERSTOOD, StoreError};
use crate::uid_digest::digest_uid;
use crate::uidmods::UidMod;

/// LIMIT: changes kept beside the table before those that are in it are dropped.
const PENDING_MAX: usize = 8192;

/// What is left as it is: elements by tag, values by UID.
#[derive(Debug, Clone, Default)]
pub struct Except {
    /// Elements.
    pub tags: Vec<Tag>,
    /// UIDs.
    pub uids: Vec<String>,
}

impl Except {
    fn covers(&self, tag: Tag, uid: &str) -> bool {
        self.tags.contains(&tag) || self.uids.iter().any(|known| known == uid)
    }
}

/// Makes and remembers UIDs.
pub struct UidChanges {
    /// Weak: whoever closes the archive does not wait for this.
    shared: Weak<Shared>,
    start: Mutex<Option<u64>>,
    number: AtomicU64,
    /// Changes that no commit has seen yet, by old UID and stage: what another object changed a moment ago
    /// is not in the table before that object is.
    pending: Mutex<HashMap<(String, String), UidMod>>,
}

impl UidChanges {
    /// Over the table of this archive.
    pub fn new(archive: &Archive) -> Self {
        Self {
            shared: Arc::downgrade(&archive.shared),
            start: Mutex::new(None),
            number: AtomicU64::new(0),
            pending: Mutex::default(),
        }
    }

    fn shared(&self) -> Result<Arc<Shared>, StoreError> {
        self.shared.upgrade().ok_or(StoreError::Closed)
    }

    /// A UID that nobody has: `<prefix>.<kind>.<start>.<number>`.
    pub fn fresh(&self, prefix: &str, kind: u8) -> Result<String, StoreError> {
        let start = self.start()?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        Ok(format!("{prefix}.{kind}.{start}.{number}"))
    }

    fn start(&self) -> Result<u64, StoreError> {
        let mut start = self.start.lock();
        if let Some(start) = *start {
            return Ok(start);
        }
        let now = unix_time();
        let reserved = self
            .shared()?
            .committer
            .change(move |txn| txn.reserve_uid_start(now))?;
        *start = Some(reserved);
        Ok(reserved)
    }

    /// What each of these becomes in a stage; those that were never changed get a new one. A stage that
    /// begins with `#` needs no table.
    pub fn changed(
        &self,
        prefix: &str,
        uids: &[String],
        stage: &str,
        kind: &str,
    ) -> Result<HashMap<String, String>, StoreError> {
        if stage.starts_with('#') {
            let digest = |uid: &String| (uid.clone(), digest_uid(prefix, uid, stage));
            return Ok(uids.iter().map(digest).collect());
        }
        let (known, fresh) = self.resolve(prefix, uids, stage, kind)?;
        self.commit(fresh)?;
        Ok(known)
    }

    /// The new UIDs, and the changes among them that no commit has seen yet.
    fn resolve(
        &self,
        prefix: &str,
        uids: &[String],
        stage: &str,
        kind: &str,
    ) -> Result<(HashMap<String, String>, Vec<UidMod>), StoreError> {
        let shared = self.shared()?;
        let start = self.start()?;
        // Held throughout: two threads that meet the same UID must change it alike.
        let mut pending = self.pending.lock();
        let txn = shared.index.read()?;
        if pending.len() > PENDING_MAX {
            let mut kept = HashMap::new();
            for (key, change) in pending.drain() {
                if txn.uid_mod(&change.old, &change.stage)?.is_none() {
                    kept.insert(key, change);
                }
            }
            *pending = kept;
        }
        let mut known = HashMap::new();
        let mut fresh = Vec::new();
        for uid in uids {
            if known.contains_key(uid) {
                continue;
            }
            if let Some(found) = txn.uid_mod(uid, stage)? {
                known.insert(uid.clone(), found.new);
                continue;
            }
            let key = (uid.clone(), stage.to_owned());
            let change = pending.entry(key).or_insert_with(|| {
                let number = self.number.fetch_add(1, Ordering::Relaxed);
                UidMod {
                    time: unix_time() as u32,
                    old: uid.clone(),
                    kind: kind.to_owned(),
                    new: format!("{prefix}.7.{start}.{number}"),
                    stage: stage.to_owned(),
                    annotation: String::new(),
                }
            });
            known.insert(uid.clone(), change.new.clone());
            fresh.push(change.clone());
        }
        Ok((known, fresh))
    }

    /// Makes changes durable.
    fn commit(&self, changes: Vec<UidMod>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let records: Vec<_> = changes.iter().map(UidMod::record).collect();
        self.shared()?.committer.change(move |txn| {
            let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
            txn.put_jobs(&records)
        })?;
        let mut pending = self.pending.lock();
        for change in changes {
            pending.remove(&(change.old, change.stage));
        }
        Ok(())
    }

    /// Makes changes durable that `change_with` gave out, before anyone sees the object.
    pub fn commit_records(&self, records: &[Vec<u8>]) -> Result<(), StoreError> {
        let changes = records
            .iter()
            .filter_map(|record| UidMod::from_record(record));
        self.commit(changes.collect())
    }

    /// What a UID was before it was changed in a stage.
    pub fn original(&self, new: &str, stage: &str) -> Result<Option<String>, StoreError> {
        Ok(self.shared()?.index.read()?.original_uid(new, stage)?)
    }

    /// Changes the UIDs of an object; how many values changed.
    pub fn change(
        &self,
        instance: &mut Instance,
        prefix: &str,
        stage: &str,
        except: &Except,
    ) -> Result<usize, StoreError> {
        let (count, records) = self.change_with(instance, prefix, stage, except)?;
        self.commit_records(&records)?;
        Ok(count)
    }

    /// The same, without a commit: the records that come back must be queued with the object
    /// (`Incoming::queue`), or committed before anyone sees it.
    pub fn change_with(
        &self,
        instance: &mut Instance,
        prefix: &str,
        stage: &str,
        except: &Except,
    ) -> Result<(usize, Vec<Vec<u8>>), StoreError> {
        let mut wanted: Vec<String> = Vec::new();
        for (tag, uid) in instance.uids().map_err(|error| refused(&error))? {
            if !except.covers(tag, &uid) && !wanted.contains(&uid) {
                wanted.push(uid);
            }
        }
        let (new, fresh) = if stage.starts_with('#') || stage.contains(char::is_control) {
            (self.changed(prefix, &wanted, stage, "newuids")?, Vec::new())
        } else {
            self.resolve(prefix, &wanted, stage, "newuids")?
        };
        let count = put(instance, &new, except)?;
        Ok((count, fresh.iter().map(UidMod::record).collect()))
    }

    /// Gives the UIDs of an object back; how many values changed. Those never changed stay.
    pub fn change_back(
        &self,
        instance: &mut Instance,
        stage: &str,
        except: &Except,
    ) -> Result<usize, StoreError> {
        let mut old = HashMap::new();
        for (_, uid) in instance.uids().map_err(|error| refused(&error))? {
            if let Some(original) = self.original(&uid, stage)? {
                old.insert(uid, original);
            }
        }
        put(instance, &old, except)
    }
}

/// Puts the UIDs of a table in place of others; how many values changed.
fn put(
    instance: &mut Instance,
    table: &HashMap<String, String>,
    except: &Except,
) -> Result<usize, StoreError> {
    let mut change = |tag: Tag, uid: &str| {
        if except.covers(tag, uid) {
            return None;
        }
        table.get(uid).cloned()
    };
    instance
        .change_uids(&mut change)
        .map_err(|error| refused(&error))
}

fn refused(error: &EditError) -> StoreError {
    StoreError::refused(STATUS_NOT_UNDERSTOOD, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ArchiveConfig;

    fn open(folder: &std::path::Path) -> Archive {
        Archive::open(ArchiveConfig::new(folder), &mut |_, _, _| {})
            .unwrap()
            .0
    }

    #[test]
    fn changes_are_remembered_by_stage_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let uids = ["1.2.3".to_owned(), "1.2.4".to_owned(), "1.2.3".to_owned()];
        let first = {
            let archive = open(folder.path());
            let changes = UidChanges::new(&archive);
            let a = changes.changed("9.9", &uids, "", "t").unwrap();
            let b = changes.changed("9.9", &uids, "B", "t").unwrap();
            assert_eq!(a.len(), 2);
            assert_ne!(a["1.2.3"], a["1.2.4"]);
            assert_ne!(a["1.2.3"], b["1.2.3"]);
            assert_eq!(changes.changed("9.9", &uids, "", "t").unwrap(), a);
            let back = |uid: &str, stage: &str| changes.original(uid, stage).unwrap();
            assert_eq!(back(&a["1.2.3"], "").as_deref(), Some("1.2.3"));
            assert_eq!(back(&a["1.2.3"], "B"), None);
            assert_eq!(back("1.2.3", ""), None);
            a
        };
        let archive = open(folder.path());
        let changes = UidChanges::new(&archive);
        assert_eq!(changes.changed("9.9", &uids, "", "t").unwrap(), first);
        // A start within the same second, or after the clock was set back, repeats nothing.
        let other = changes
            .changed("9.9", &["1.5".to_owned()], "", "t")
            .unwrap();
        assert!(first.values().all(|known| *known != other["1.5"]));
        assert!(other["1.5"].starts_with("9.9.7."));
        let rows = archive.index().dump_table("UIDMODS").unwrap().unwrap();
        assert_eq!(rows.len(), 5);
    }

    #[test]
    fn changes_without_a_commit_agree_and_are_kept_by_their_records() {
        let folder = tempfile::tempdir().unwrap();
        let archive = open(folder.path());
        let changes = UidChanges::new(&archive);
        let uids = ["1.2".to_owned()];
        let (first, records) = changes.resolve("9.9", &uids, "A", "t").unwrap();
        // Nobody has committed it, and everybody changes the UID alike.
        let rows = || archive.index().dump_table("UIDMODS").unwrap().unwrap();
        assert!(rows().is_empty());
        assert_eq!(changes.changed("9.9", &uids, "A", "t").unwrap(), first);
        assert_eq!(rows().len(), 1);
        let records: Vec<_> = records.iter().map(UidMod::record).collect();
        changes.commit_records(&records).unwrap();
        assert_eq!(rows().len(), 1);
        assert_eq!(
            changes.original(&first["1.2"], "A").unwrap().as_deref(),
            Some("1.2")
        );
        // A record that is queued with an object goes to the table, not to the queue.
        let edit = crate::queue::QueueEdit {
            added: vec![records[0].clone(), b"export".to_vec()],
            ..Default::default()
        };
        archive.edit_queue(edit).unwrap();
        let jobs = archive.jobs(0, 9).unwrap();
        assert_eq!(
            jobs.iter().map(|job| &job.1[..]).collect::<Vec<_>>(),
            [b"export"]
        );
    }

    #[test]
    fn racing_changes_agree() {
        let folder = tempfile::tempdir().unwrap();
        let archive = open(folder.path());
        let changes = UidChanges::new(&archive);
        let uids: Vec<String> = (0..20).map(|n| format!("1.{n}")).collect();
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| changes.changed("9.9", &uids, "", "t").unwrap()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(made.iter().all(|one| *one == made[0]));
    }
}
