//! Enters a file that already stands on a device: for `regen`, and for acknowledged stores that a crash left
//! without a row.

use pyserver_proto::header::Header;
use pyserver_proto::tag::Tag;

use crate::apply::Standing;
use crate::calendar::unix_time;
use crate::config::ArchiveConfig;
use crate::edit::{Edits, splice};
use crate::error::{STATUS_NOT_UNDERSTOOD, StoreError};
use crate::extract::{ExtractPolicy, Extractor};
use crate::file_object::FileObject;
use crate::headers;
use crate::job::{JobPending, StoreJob};
use crate::journal::Safety;
use crate::pixel;

/// The job that enters an object whose file is `file` on `device`.
pub(crate) fn job_in_place(
    object: FileObject,
    device: u16,
    file: String,
    calling_ae: &str,
    extractor: &Extractor,
    config: &ArchiveConfig,
) -> Result<Box<StoreJob>, StoreError> {
    let deflated = object.layout.syntax.is_deflated();
    let pixel = if deflated {
        Vec::new()
    } else {
        pixel::pack(object.scanned.pixel.as_ref(), 0)
    };
    let header = corrected(object.scanned.header, config)?;
    let policy = ExtractPolicy {
        allow_empty_patient_id: config.allow_empty_patient_id,
        accept_invalid_uids: config.accept_invalid_uids,
    };
    let rows = extractor
        .extract(&header, policy)
        .map_err(|e| StoreError::refused(config.store_failed_status, e.to_string()))?;
    Ok(Box::new(StoreJob {
        uid: String::from_utf8_lossy(&rows.sop_instance).into_owned(),
        rows,
        device,
        file_candidate: file,
        standing: Standing::Object,
        rename_on_rewrite: false,
        ignore_rewrite: false,
        transfer_syntax: object.layout.syntax.uid().as_str().to_owned(),
        file_bytes: object.file_bytes,
        dataset_offset: object.layout.dataset_offset as u32,
        hash: object.hash,
        pixel,
        header: headers::compress(&header),
        pending: JobPending::Written,
        calling_ae: calling_ae.to_owned(),
        called_ae: String::new(),
        jobs: Vec::new(),
        now: unix_time() as u32,
        safety: Safety::Synced,
        refusal_status: config.store_failed_status,
    }))
}

/// The header with the corrections that a received object would have got.
fn corrected(header: Header, config: &ArchiveConfig) -> Result<Header, StoreError> {
    let wanted = Edits::wanted(config, header.get(Tag::PATIENT_ID));
    if wanted.is_empty() {
        return Ok(header);
    }
    let bytes = splice(header.bytes(), header.encoding(), &wanted);
    Header::parse(&bytes, header.syntax())
        .map_err(|e| StoreError::refused(STATUS_NOT_UNDERSTOOD, e.to_string()))
}
