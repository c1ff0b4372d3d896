//! One object on its way through the committer: everything the index stores about it, owned.

use std::sync::Arc;

use crate::apply::{BlobFacts, Standing, StoreChange, StoreRefusal, Stored};
use crate::content_hash::ContentHash;
use crate::extract::RowValues;
use crate::index::WriteTxn;
use crate::journal::{Record, Safety};
use crate::pending::{PendingId, PendingKind};

/// How the file comes to stand under its final name.
#[derive(Debug)]
pub(crate) enum JobPending {
    /// The file's bytes ride in the transaction; the file is written afterwards.
    Journal(Arc<Vec<u8>>),
    /// The file is in the device's private folder under this name.
    Temp(String),
    /// The file is written after the answer, or stands already; only the system has it.
    Written,
}

/// One store.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "they are those of the index's `StoreChange`"
)]
pub(crate) struct StoreJob {
    /// SOP Instance UID.
    pub uid: String,
    /// Values of its rows.
    pub rows: RowValues,
    /// Device number.
    pub device: u16,
    /// Name that the syntax gives.
    pub file_candidate: String,
    /// What stands there already.
    pub standing: Standing,
    /// `RenameOnRewrite`.
    pub rename_on_rewrite: bool,
    /// `IgnoreRewrite`.
    pub ignore_rewrite: bool,
    /// Transfer syntax of the data set in the file.
    pub transfer_syntax: String,
    /// Size of the file.
    pub file_bytes: u64,
    /// Where the data set begins in it.
    pub dataset_offset: u32,
    /// Hash of the data set.
    pub hash: ContentHash,
    /// Where the pixel data is, see `pixel`.
    pub pixel: Vec<u8>,
    /// Compressed header.
    pub header: Vec<u8>,
    /// How the file gets its name.
    pub pending: JobPending,
    /// The sender.
    pub calling_ae: String,
    /// Whom it called.
    pub called_ae: String,
    /// Work to queue in the same transaction.
    pub jobs: Vec<Vec<u8>>,
    /// Unix time in seconds.
    pub now: u32,
    /// What the journal is to do before a new object's store is answered.
    pub safety: Safety,
    /// Status for an object whose links disagree with what is stored.
    pub refusal_status: u16,
}

impl StoreJob {
    /// Applies the store in a transaction.
    pub(crate) fn apply(&self, txn: &mut WriteTxn<'_>) -> Result<Stored, StoreRefusal> {
        let jobs: Vec<&[u8]> = self.jobs.iter().map(Vec::as_slice).collect();
        txn.store(&StoreChange {
            rows: &self.rows,
            blob: BlobFacts {
                device: self.device,
                file_candidate: &self.file_candidate,
                standing: self.standing,
                rename_on_rewrite: self.rename_on_rewrite,
                ignore_rewrite: self.ignore_rewrite,
                transfer_syntax: &self.transfer_syntax,
                file_bytes: self.file_bytes,
                dataset_offset: self.dataset_offset,
                hash: self.hash,
                pixel: &self.pixel,
            },
            header: &self.header,
            pending: self.content(),
            calling_ae: &self.calling_ae,
            called_ae: &self.called_ae,
            jobs: &jobs,
            now: self.now,
        })
    }

    /// Where the file's bytes are.
    fn content(&self) -> PendingKind<'_> {
        match &self.pending {
            JobPending::Journal(bytes) => PendingKind::Journal(bytes),
            JobPending::Temp(name) => PendingKind::Temp(name),
            JobPending::Written => PendingKind::Written,
        }
    }

    /// What the journal says about it once it is applied.
    pub(crate) fn record<'a>(&'a self, stored: &'a Stored, pending: PendingId) -> Record<'a> {
        Record {
            image: stored.image.image,
            pending: pending.0,
            now: self.now,
            device: self.device,
            dataset_offset: self.dataset_offset,
            file_bytes: self.file_bytes,
            hash: self.hash,
            file: &stored.file,
            calling_ae: &self.calling_ae,
            called_ae: &self.called_ae,
            jobs: self.jobs.iter().map(Vec::as_slice).collect(),
            content: self.content(),
        }
    }

    /// Applies an acknowledged store again, in a transaction that lacks it, under the numbers and the name it
    /// was given.
    pub(crate) fn apply_as(
        &mut self,
        txn: &mut WriteTxn<'_>,
        image: u64,
        pending: u64,
        file: &str,
    ) -> Result<Stored, StoreRefusal> {
        txn.number_from(image, pending);
        file.clone_into(&mut self.file_candidate);
        self.standing = Standing::Nothing;
        self.apply(txn)
    }
}
