//! Answers to the questions of clonedb: what a peer says about images becomes rows.
//!
//! The first byte chooses the encoding; the rest is answers, each behind two bytes of length, from the lowest
//! level up. Every record that is taken is entered once: added, updated, unchanged or refused; what was added is
//! found again, and entering the same once more changes nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pyserver_proto::header::Header;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_store::clone_rows::CloneOrigin;
use pyserver_store::clone_source::{Answers, CloneBuilder};
use pyserver_store::columns::Columns;
use pyserver_store::extract::ExtractPolicy;
use pyserver_store::index::{Index, IndexOptions, WriteTxn};
use pyserver_store::virtual_device::virtual_device;

use crate::input::Input;

/// Answers that make one record.
const LAYERS: usize = 2;
/// Inputs between two commits.
const HINTS_KEPT: u64 = 4096;
static INPUTS: AtomicU64 = AtomicU64::new(0);

/// One conversation.
pub fn clone(data: &[u8]) {
    let mut input = Input::new(data);
    let choices = input.byte();
    let syntax = if choices & 1 != 0 {
        TransferSyntax::ExplicitLittleEndian
    } else {
        TransferSyntax::ImplicitLittleEndian
    };
    let policy = ExtractPolicy {
        allow_empty_patient_id: choices & 2 != 0,
        accept_invalid_uids: choices & 4 != 0,
    };
    let mut answers = Vec::new();
    let mut rest = input.rest();
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (answer, behind) = behind.split_at(length);
        rest = behind;
        answers.extend(Header::parse(answer, syntax));
    }
    let (index, _folder) = index();
    let mut builder = CloneBuilder::new(index.extractor(), policy);
    let mut taken = 0;
    for record in answers.chunks(LAYERS) {
        let layers: Vec<&Header> = record.iter().collect();
        taken += u64::from(builder.push(&Answers::new(&layers)).is_ok());
    }
    assert_eq!(builder.images() as u64, taken);
    enter(index, &mut builder, taken);
}

fn enter(index: &Index, builder: &mut CloneBuilder<'_>, taken: u64) {
    let series = builder.take();
    let origin = CloneOrigin {
        device: virtual_device(1),
        source_ae: "PEER".to_owned(),
        own_ae: "OURS".to_owned(),
        now: 1_700_000_000,
    };
    let Ok(mut txn) = index.write() else {
        return;
    };
    let report = txn.enter_clones(&series, &origin);
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.images(), taken, "{report:?}");
    let again = txn.enter_clones(&series, &origin);
    let again = again.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (again.images(), again.added),
        (taken, 0),
        "{report:?} {again:?}"
    );
    // Dropped without a commit: the next input finds the index empty. Hints of where images were stay in memory
    // until a commit writes them down.
    drop(txn);
    if INPUTS
        .fetch_add(1, Ordering::Relaxed)
        .is_multiple_of(HINTS_KEPT)
    {
        let written = index.write().and_then(WriteTxn::commit);
        written.unwrap_or_else(|error| panic!("{error}"));
    }
}

fn index() -> &'static (Index, tempfile::TempDir) {
    static INDEX: OnceLock<(Index, tempfile::TempDir)> = OnceLock::new();
    INDEX.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let options = IndexOptions {
            map_bytes: 1 << 28,
            ..IndexOptions::default()
        };
        let columns = Columns::default();
        let index = Index::open(folder.path(), &columns, options, &mut |_, _, _| {});
        (index.unwrap_or_else(|error| panic!("{error}")), folder)
    })
}
