//! Queued work as its workers see it: list, finish, put back changed. Records are committed like images.

use crate::archive::Archive;
use crate::error::StoreError;
use crate::uidmods::is_uid_record;

/// Changed or finished together in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueEdit {
    /// Records that are done with.
    pub done: Vec<u64>,
    /// Records with another payload, under the same number.
    pub changed: Vec<(u64, Vec<u8>)>,
    /// New records.
    pub added: Vec<Vec<u8>>,
}

impl Archive {
    /// Records with numbers above `after`, at most `limit`: number and payload. Stores that were answered
    /// but are not committed yet are waited for.
    pub fn jobs(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.flush()?;
        Ok(self.shared.index.read()?.jobs(after, limit)?)
    }

    /// Makes changes in one transaction; they are durable when this returns.
    pub fn edit_queue(&self, edit: QueueEdit) -> Result<(), StoreError> {
        self.shared.committer.change(move |txn| {
            for number in &edit.done {
                txn.job_done(*number)?;
            }
            for (number, payload) in &edit.changed {
                txn.change_job(*number, payload)?;
            }
            let added: Vec<&[u8]> = edit.added.iter().map(Vec::as_slice).collect();
            txn.put_jobs(&added)
        })
    }
}

/// Work that is to be queued with an object, for that object under another SOP Instance UID. Records of changed
/// UIDs are no work and stay.
pub fn retargeted(jobs: &[Vec<u8>], old: &str, new: &str) -> Vec<Vec<u8>> {
    let field = |field: &[u8]| {
        let uid = if field == old.as_bytes() {
            new.as_bytes()
        } else {
            field
        };
        uid.to_vec()
    };
    let job = |job: &Vec<u8>| {
        if is_uid_record(job) {
            return job.clone();
        }
        let fields: Vec<_> = job.split(|byte| *byte == b'\t').map(field).collect();
        fields.join(&b'\t')
    };
    jobs.iter().map(job).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ArchiveConfig;

    #[test]
    fn work_outlives_the_process_until_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let config = ArchiveConfig::new(folder.path());
            Archive::open(config, &mut |_, _, _| {}).unwrap().0
        };
        let archive = open();
        let added = ["a", "b", "c"]
            .map(|text| text.as_bytes().to_vec())
            .to_vec();
        archive
            .edit_queue(QueueEdit {
                added,
                ..QueueEdit::default()
            })
            .unwrap();
        let numbers: Vec<u64> = archive
            .jobs(0, 9)
            .unwrap()
            .iter()
            .map(|job| job.0)
            .collect();
        archive
            .edit_queue(QueueEdit {
                done: vec![numbers[0]],
                changed: vec![(numbers[1], b"B".to_vec()), (999, b"gone".to_vec())],
                added: Vec::new(),
            })
            .unwrap();
        drop(archive);
        let left = open().jobs(0, 9).unwrap();
        let expected = [(numbers[1], b"B".to_vec()), (numbers[2], b"c".to_vec())];
        assert_eq!(left, expected);
    }

    #[test]
    fn work_follows_an_object_to_another_uid() {
        let jobs = [
            b"export\t1\t1.2.3\tA\tB\t9".to_vec(),
            b"mirror\t0\t1.2.30\tA".to_vec(),
        ];
        let wanted = [b"export\t1\t2.25.7\tA\tB\t9".to_vec(), jobs[1].clone()];
        assert_eq!(retargeted(&jobs, "1.2.3", "2.25.7"), wanted);
    }
}
