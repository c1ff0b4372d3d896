//! Identifiers of C-FIND, C-MOVE and C-GET against a small index.
//!
//! The first byte chooses encoding, model and service. Whatever is asked: the plan can be explained, pages
//! of any size give the same rows, each response is a sound data set with the unique key of its level, and
//! asking for exactly that key finds the row again.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use pyserver_proto::dataset::{Dataset, DatasetLimits};
use pyserver_proto::query::{InformationModel, Query, QueryOptions};
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::vr::Vr;
use pyserver_store::apply::{BlobFacts, Standing, StoreChange};
use pyserver_store::columns::Columns;
use pyserver_store::extract::ExtractPolicy;
use pyserver_store::find::{FindCursor, FindProgress};
use pyserver_store::index::{Index, IndexOptions};
use pyserver_store::pending::PendingKind;
use pyserver_store::plan::{BindOptions, BoundQuery};
use pyserver_store::respond::ResponseEncoder;

use crate::input::Input;

const MODELS: [InformationModel; 4] = [
    InformationModel::PatientRoot,
    InformationModel::StudyRoot,
    InformationModel::PatientStudyOnly,
    InformationModel::ModalityWorklist,
];

/// One identifier.
pub fn query(data: &[u8]) {
    let mut input = Input::new(data);
    let choices = input.byte();
    let explicit = choices & 1 != 0;
    let syntax = if explicit {
        TransferSyntax::ExplicitLittleEndian
    } else {
        TransferSyntax::ImplicitLittleEndian
    };
    let options = QueryOptions {
        combined_datetime: choices & 2 != 0,
    };
    let Some(&model) = MODELS.get(usize::from(choices >> 2 & 3)) else {
        return;
    };
    let limits = DatasetLimits::default();
    let Ok(identifier) = Dataset::decode(input.rest(), syntax, &limits) else {
        return;
    };
    let query = match Query::parse(model, &identifier, &options) {
        Ok(query) => query,
        Err(error) => {
            assert!(matches!(error.status, 0xA900 | 0xC001));
            assert!(error.text.chars().count() <= 64, "{error}");
            return;
        }
    };
    let index = index();
    if choices & 16 != 0 {
        if let Ok(bound) = BoundQuery::bind_retrieve(&query, index) {
            retrieve(index, &bound);
        }
        return;
    }
    let bind = BindOptions {
        own_ae: "OWN".to_owned(),
        computed_fields: choices & 32 != 0,
    };
    let Ok(bound) = BoundQuery::bind(&query, index, &bind) else {
        return;
    };
    assert!(!bound.explain().is_empty());
    let whole = run(index, &bound, 1000, explicit);
    let pages = run(index, &bound, 1 + usize::from(choices >> 6), explicit);
    assert_eq!(whole, pages, "rows depend on the size of pages");
    for response in whole {
        let response = Dataset::decode(&response, syntax, &limits);
        let Ok(response) = response else {
            panic!("a response cannot be decoded: {response:?}");
        };
        let key = query.level.unique_key().and_then(|tag| response.get(tag));
        assert!(key.is_some(), "a response without its unique key");
    }
}

fn run(index: &Index, bound: &BoundQuery, page: usize, explicit: bool) -> Vec<Vec<u8>> {
    let mut cursor = FindCursor::default();
    let mut encoder = ResponseEncoder::new(bound, explicit);
    let mut found = Vec::new();
    loop {
        let Ok(txn) = index.read() else {
            panic!("the index cannot be read");
        };
        let progress = txn.find(bound, &mut cursor, page, &mut |row| {
            let mut bytes = Vec::new();
            encoder.encode(row, &mut bytes);
            found.push(bytes);
            ControlFlow::Continue(())
        });
        match progress {
            Ok(FindProgress::Done) => return found,
            Ok(FindProgress::More) => assert!(found.len() <= 100, "rows without end"),
            Err(error) => panic!("{error}"),
        }
    }
}

fn retrieve(index: &Index, bound: &BoundQuery) {
    let mut cursor = FindCursor::default();
    let mut count = 0;
    loop {
        let Ok(txn) = index.read() else {
            panic!("the index cannot be read");
        };
        match txn.locate(bound, &mut cursor, 2) {
            Ok((found, progress)) => {
                count += found.len();
                assert!(count <= 100, "objects without end");
                if progress == FindProgress::Done {
                    return;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A dozen images of two patients; made once, its folder removed while it stays open.
fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let Some(index) = make_index() else {
            panic!("no index can be made");
        };
        index
    })
}

fn make_index() -> Option<Index> {
    let folder = tempfile::tempdir().ok()?;
    let options = IndexOptions {
        map_bytes: 1 << 24,
        // Some of the SOP instances in sorted runs, some in memory.
        sop_memory_max: 4,
    };
    let columns = Columns::default();
    let index = Index::open(folder.path(), &columns, options, &mut |_, _, _| {}).ok()?;
    let patients: [(&[u8], &[u8], &[u8]); 2] = [
        (b"P1", b"Doe^John", b""),
        (b"P2", b"M\xFCller^Hans=Ideo", b"ISO_IR 100"),
    ];
    for (number, patient) in (1..).zip(patients) {
        for image in 0..6 {
            store(&index, number, patient, image)?;
        }
    }
    Some(index)
}

fn store(index: &Index, number: u8, patient: (&[u8], &[u8], &[u8]), image: u8) -> Option<()> {
    let study = format!("1.{number}.{}", image / 4);
    let series = format!("{study}.{}", image / 2);
    let sop = format!("{series}.{image}");
    let date = format!("2020010{}", 1 + image / 4);
    let mut object = Dataset::new();
    let (id, name, charset) = patient;
    object.put_bytes(Tag::SPECIFIC_CHARACTER_SET, Vr::Cs, charset);
    object.put_bytes(Tag::PATIENT_ID, Vr::Lo, id);
    object.put_bytes(Tag::PATIENT_NAME, Vr::Pn, name);
    object.put_text(Tag::STUDY_INSTANCE_UID, &study);
    object.put_text(Tag::SERIES_INSTANCE_UID, &series);
    object.put_text(Tag::SOP_INSTANCE_UID, &sop);
    object.put_text(Tag::SOP_CLASS_UID, "1.2.840.10008.5.1.4.1.1.7");
    object.put_text(Tag::STUDY_DATE, &date);
    object.put_text(Tag::STUDY_TIME, "101112.5");
    object.put_text(
        Tag::MODALITY,
        if image.is_multiple_of(2) { "CT" } else { "MR" },
    );
    object.put_text(Tag::INSTANCE_NUMBER, &image.to_string());
    let mut bytes = Vec::new();
    let syntax = TransferSyntax::ExplicitLittleEndian;
    object.encode(syntax, &mut bytes);
    let header = pyserver_proto::header::Header::parse(&bytes, syntax).ok()?;
    let rows = index.extractor().extract(&header, ExtractPolicy::default());
    let file = format!("{sop}.dcm");
    let mut txn = index.write().ok()?;
    let change = StoreChange {
        rows: &rows.ok()?,
        blob: BlobFacts {
            device: 0,
            file_candidate: &file,
            standing: Standing::Nothing,
            rename_on_rewrite: false,
            ignore_rewrite: false,
            transfer_syntax: "1.2.840.10008.1.2.1",
            file_bytes: 1000,
            dataset_offset: 340,
            hash: [1; 16],
            pixel: &[],
        },
        header: &[],
        pending: PendingKind::Temp("1.part"),
        calling_ae: "SCU",
        called_ae: "SCP",
        jobs: &[],
        now: 1_600_000_000,
    };
    txn.store(&change).ok()?;
    txn.commit().ok()
}
