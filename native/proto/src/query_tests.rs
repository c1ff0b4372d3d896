//! Tests of identifiers: levels, keys, refusals.

use proptest::prelude::*;

use super::*;
use crate::dataset::DatasetLimits;
use crate::transfer_syntax::TransferSyntax;

fn identifier(level: &str) -> Dataset {
    let mut dataset = Dataset::new();
    dataset.put_text(Tag::QUERY_RETRIEVE_LEVEL, level);
    dataset
}

fn parse(model: InformationModel, dataset: &Dataset) -> Result<Query, QueryError> {
    Query::parse(model, dataset, &QueryOptions::default())
}

#[test]
fn levels_belong_to_models() {
    use InformationModel::{ModalityWorklist, PatientRoot, PatientStudyOnly, StudyRoot};
    let table = [
        (PatientRoot, "PATIENT", Ok(Level::Patient)),
        (PatientRoot, "IMAGE ", Ok(Level::Image)),
        (StudyRoot, "STUDY", Ok(Level::Study)),
        (StudyRoot, "PATIENT", Err(0xA900)),
        (PatientStudyOnly, "STUDY", Ok(Level::Study)),
        (PatientStudyOnly, "SERIES", Err(0xA900)),
        (StudyRoot, "", Err(0xA900)),
        (StudyRoot, "BOGUS", Err(0xA900)),
        (StudyRoot, "study", Err(0xA900)),
        (ModalityWorklist, "", Ok(Level::Worklist)),
    ];
    for (model, level, wanted) in table {
        let found = parse(model, &identifier(level));
        let found = found.map(|query| query.level).map_err(|error| error.status);
        assert_eq!(found, wanted, "{model:?} {level}");
    }
    let error = parse(StudyRoot, &identifier(&"S".repeat(65_536))).unwrap_err();
    assert!(error.text.len() <= 64);
    assert_eq!(error.offending, Some(Tag::QUERY_RETRIEVE_LEVEL));
    for model in [PatientRoot, ModalityWorklist] {
        assert_eq!(parse(model, &Dataset::new()).unwrap_err().status, 0xA900);
    }
}

#[test]
fn what_would_cost_too_much_is_bounded() {
    let model = InformationModel::StudyRoot;
    let with = |tag, vr, value: &[u8]| {
        let mut dataset = identifier("STUDY");
        dataset.put_bytes(tag, vr, value);
        parse(model, &dataset)
    };
    let refused = |tag| {
        Err(QueryError {
            status: 0xC001,
            text: "too many values".into(),
            offending: Some(tag),
        })
    };
    let uids = |n: usize| "1\\".repeat(n - 1).into_bytes();
    let uid = Tag::STUDY_INSTANCE_UID;
    assert!(with(uid, Vr::Ui, &uids(KEYS_MAX)).is_ok());
    assert_eq!(with(uid, Vr::Ui, &uids(KEYS_MAX + 1)), refused(uid));
    let ids = |n: usize| "a\\".repeat(n - 1).into_bytes();
    assert!(with(Tag::PATIENT_ID, Vr::Lo, &ids(VALUES_MAX)).is_ok());
    let many = with(Tag::PATIENT_ID, Vr::Lo, &ids(VALUES_MAX + 1));
    assert_eq!(many, refused(Tag::PATIENT_ID));
    let nothing = |tag, vr, value: &[u8]| {
        let query = with(tag, vr, value).unwrap();
        assert_eq!(query.warnings.len(), 1);
        query.key(tag).unwrap().matcher == Matcher::Nothing
    };
    let long = vec![b'*'; VALUE_BYTES_MAX + 1];
    assert!(nothing(Tag::PATIENT_NAME, Vr::Pn, &long));
    // Numbers of 300 digits each, and not to be made text before they are counted.
    let largest = f64::MAX.to_le_bytes().repeat(VALUE_BYTES_MAX);
    assert!(nothing(Tag(0x0009_1001), Vr::Fd, &largest));
    assert!(nothing(uid, Vr::Fd, &largest));
}

#[test]
fn sop_classes_name_models() {
    assert_eq!(
        InformationModel::from_sop_class("1.2.840.10008.5.1.4.1.2.2.3"),
        Some((InformationModel::StudyRoot, QueryService::Get))
    );
    assert_eq!(InformationModel::from_sop_class("1.2.840.10008.1.1"), None);
}

#[test]
fn keys_are_typed() {
    let mut dataset = identifier("IMAGE");
    dataset.put_text(Tag::SPECIFIC_CHARACTER_SET, "ISO_IR 100");
    dataset.put_bytes(Tag::PATIENT_NAME, Vr::Pn, b"M\xFCl*");
    dataset.put_text(Tag::STUDY_DATE, "20100101-20101231");
    dataset.put_u16(Tag::COLUMNS, 8);
    dataset.put_text(Tag::STUDY_INSTANCE_UID, "");
    dataset.put_bytes(Tag::CONQUEST_FILE_KEY, Vr::Lo, b"");
    dataset.put_bytes(Tag::CONQUEST_SORT_KEY, Vr::Lo, b"StudyDate");
    dataset.put_bytes(Tag::CONQUEST_LIMIT_KEY, Vr::Un, b"2 ");
    dataset.put_bytes(Tag::CONQUEST_OFFSET_KEY, Vr::Lo, b"1");
    let query = parse(InformationModel::PatientRoot, &dataset).unwrap();
    let tags: Vec<Tag> = query.keys.iter().map(|key| key.tag).collect();
    assert_eq!(
        tags,
        [
            Tag::STUDY_DATE,
            Tag::PATIENT_NAME,
            Tag::STUDY_INSTANCE_UID,
            Tag::COLUMNS,
            Tag::CONQUEST_FILE_KEY
        ]
    );
    let Some(Matcher::Wildcard(name)) = query.key(Tag::PATIENT_NAME).map(|key| &key.matcher) else {
        panic!("no pattern");
    };
    assert_eq!(&*name.text, "Mül*");
    let Some(Matcher::Single(columns)) = query.key(Tag::COLUMNS).map(|key| &key.matcher) else {
        panic!("no value");
    };
    assert_eq!(&*columns.text, "8");
    assert!(
        query
            .key(Tag::STUDY_INSTANCE_UID)
            .unwrap()
            .matcher
            .is_universal()
    );
    assert_eq!(query.key(Tag::MODALITY), None);
    assert_eq!(query.sort.as_deref(), Some("StudyDate"));
    assert_eq!((query.limit, query.offset), (Some(2), 1));
    assert!(query.charset_given && query.warnings.is_empty());
}

#[test]
fn sequences_hold_keys() {
    let mut item = Dataset::new();
    item.put_text(Tag::MODALITY, "CT");
    let mut dataset = Dataset::new();
    dataset.put_items(Tag::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![item]);
    dataset.put_items(Tag::REFERENCED_STUDY_SEQUENCE, Vec::new());
    let query = parse(InformationModel::ModalityWorklist, &dataset).unwrap();
    let key = query.key(Tag::SCHEDULED_PROCEDURE_STEP_SEQUENCE).unwrap();
    let Matcher::Sequence(keys) = &key.matcher else {
        panic!("no sequence")
    };
    assert_eq!(keys.len(), 1);
    let key = query.key(Tag::REFERENCED_STUDY_SEQUENCE).unwrap();
    assert_eq!(key.matcher, Matcher::Sequence(Vec::new()));
}

#[test]
fn malformed_values_are_warnings() {
    let mut dataset = identifier("STUDY");
    dataset.put_text(Tag::STUDY_DATE, "20100101-' or '1'='1");
    dataset.put_bytes(Tag::CONQUEST_LIMIT_KEY, Vr::Lo, b"many");
    let query = parse(InformationModel::StudyRoot, &dataset).unwrap();
    assert_eq!(
        query.key(Tag::STUDY_DATE).unwrap().matcher,
        Matcher::Nothing
    );
    assert_eq!((query.limit, query.warnings.len()), (None, 2));
}

#[test]
fn dates_and_times_combine_when_agreed() {
    let mut dataset = identifier("STUDY");
    dataset.put_text(Tag::STUDY_DATE, "20100115-20100116");
    dataset.put_text(Tag::STUDY_TIME, "1200-1300");
    let options = QueryOptions {
        combined_datetime: true,
    };
    let query = Query::parse(InformationModel::StudyRoot, &dataset, &options).unwrap();
    let [pair] = query.date_times.as_slice() else {
        panic!("no pair")
    };
    assert!(query.key(Tag::STUDY_TIME).unwrap().matcher.is_universal());
    let table: [(&[u8], &[u8], bool); 6] = [
        (b"20100115", b"110000", false),
        (b"20100115", b"235959", true),
        (b"20100116", b"000000", true),
        (b"20100116", b"130059", true),
        (b"20100116", b"1301", false),
        (b"20100116", b"", true),
    ];
    for (date, time, wanted) in table {
        assert_eq!(pair.matches(date, time), wanted, "{date:?} {time:?}");
    }
    let apart = parse(InformationModel::StudyRoot, &dataset).unwrap();
    assert!(apart.date_times.is_empty());
    assert!(!apart.key(Tag::STUDY_TIME).unwrap().matcher.is_universal());
}

#[test]
fn broken_identifiers_cannot_be_processed() {
    let bytes = b"\x08\0\x52\0\xF0\xFF\xFF\xFFSTUDY ";
    let syntax = TransferSyntax::ImplicitLittleEndian;
    let error = Dataset::decode(bytes, syntax, &DatasetLimits::default()).unwrap_err();
    assert_eq!(QueryError::from(error).status, 0xC001);
}

proptest! {
    #[test]
    fn any_identifier_parses_or_is_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
        tag in any::<u32>(),
        vr in prop::sample::select(Vr::ALL.to_vec()),
    ) {
        let mut dataset = identifier("STUDY");
        dataset.put_bytes(Tag(tag), vr, &bytes);
        dataset.put_bytes(Tag::PATIENT_NAME, Vr::Pn, &bytes);
        dataset.put_bytes(Tag::SPECIFIC_CHARACTER_SET, Vr::Cs, &bytes);
        let _ = parse(InformationModel::StudyRoot, &dataset);
    }
}
