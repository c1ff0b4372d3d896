//! Queries, responses, retrieves, dumps and refills over a real environment.

use std::ops::ControlFlow;

use pyserver_proto::charset::CharacterSet;
use pyserver_proto::dataset::{Dataset, DatasetLimits};
use pyserver_proto::header::Header;
use pyserver_proto::query::{InformationModel, Query, QueryOptions};
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::vr::Vr;

use crate::apply::{BlobFacts, Standing, StoreChange};
use crate::apply_tests::{Fixture, options};
use crate::columns::{Columns, DEFAULT_TEXT};
use crate::extract::ExtractPolicy;
use crate::find::{FindCursor, FindProgress};
use crate::headers;
use crate::index::Index;
use crate::pending::PendingKind;
use crate::plan::{BindError, BindOptions, BoundQuery};
use crate::respond::ResponseEncoder;
use crate::schema::Level;

/// Keys of an identifier.
type Keys<'k> = &'k [(Tag, &'k [u8])];

const LEVEL: Tag = Tag::QUERY_RETRIEVE_LEVEL;
const NAME: Tag = Tag::PATIENT_NAME;
const ID: Tag = Tag::PATIENT_ID;
const STUDY: Tag = Tag::STUDY_INSTANCE_UID;
const SERIES: Tag = Tag::SERIES_INSTANCE_UID;
const SOP: Tag = Tag::SOP_INSTANCE_UID;

fn query(model: InformationModel, level: &str, keys: &[(Tag, &[u8])]) -> Query {
    let mut identifier = Dataset::new();
    identifier.put_bytes(LEVEL, Vr::Cs, level.as_bytes());
    for (tag, value) in keys {
        let vr = pyserver_proto::dict::vr(*tag);
        identifier.put_bytes(*tag, vr, value);
    }
    Query::parse(model, &identifier, &QueryOptions::default()).unwrap()
}

fn bind(index: &Index, level: &str, keys: &[(Tag, &[u8])]) -> BoundQuery {
    let options = BindOptions {
        own_ae: "OWN".to_owned(),
        computed_fields: true,
    };
    let query = query(InformationModel::PatientRoot, level, keys);
    BoundQuery::bind(&query, index, &options).unwrap()
}

/// Runs a query in pages of `page` rows; each response decoded.
fn run(index: &Index, bound: &BoundQuery, page: usize) -> Vec<Dataset> {
    let mut cursor = FindCursor::default();
    let mut encoder = ResponseEncoder::new(bound, true);
    let mut found = Vec::new();
    loop {
        let txn = index.read().unwrap();
        let progress = txn.find(bound, &mut cursor, page, &mut |row| {
            let mut bytes = Vec::new();
            encoder.encode(row, &mut bytes);
            let syntax = TransferSyntax::ExplicitLittleEndian;
            found.push(Dataset::decode(&bytes, syntax, &DatasetLimits::default()).unwrap());
            ControlFlow::Continue(())
        });
        if progress.unwrap() == FindProgress::Done {
            return found;
        }
    }
}

fn values(rows: &[Dataset], tag: Tag) -> Vec<String> {
    let text = |row: &Dataset| String::from_utf8_lossy(row.bytes(tag).unwrap_or(b"-")).into_owned();
    rows.iter().map(text).collect()
}

/// Two patients; the first has two studies of two series of three images.
fn filled() -> Fixture {
    let f = Fixture::new();
    for (patient, name, studies) in [("P1", "Doe^John", 2), ("P2", "DOE^Jane=Ideo", 1)] {
        for study in 1..=studies {
            for series in 1..=2 {
                for image in 1..=3 {
                    let study_uid = format!("1.{}.{study}", &patient[1..]);
                    let series_uid = format!("{study_uid}.{series}");
                    let sop = format!("{series_uid}.{image}");
                    let date = format!("2020010{study}");
                    let number = image.to_string();
                    let modality = if series == 1 { "CT" } else { "MR" };
                    f.store(&[
                        (ID, Some(patient)),
                        (NAME, Some(name)),
                        (STUDY, Some(&study_uid)),
                        (SERIES, Some(&series_uid)),
                        (SOP, Some(&sop)),
                        (Tag::STUDY_DATE, Some(&date)),
                        (Tag::INSTANCE_NUMBER, Some(&number)),
                        (Tag::MODALITY, Some(modality)),
                    ])
                    .unwrap();
                }
            }
        }
    }
    f
}

#[test]
fn every_page_size_lets_out_every_row_once() {
    let f = filled();
    let cases: [(&str, Keys<'_>, usize); 9] = [
        ("PATIENT", &[(ID, b"")], 2),
        ("STUDY", &[(STUDY, b"")], 3),
        ("SERIES", &[(SERIES, b"")], 6),
        ("IMAGE", &[(SOP, b"")], 18),
        ("IMAGE", &[(SOP, b""), (ID, b"P1")], 12),
        ("IMAGE", &[(SOP, b""), (STUDY, b"1.1.2")], 6),
        ("IMAGE", &[(SOP, b"1.1.1.1.1\\1.2.1.2.3\\9.9")], 2),
        ("IMAGE", &[(SOP, b""), (NAME, b"")], 18),
        (
            "SERIES",
            &[(SERIES, b""), (NAME, b"doe*"), (Tag::MODALITY, b"MR")],
            3,
        ),
    ];
    for (level, keys, count) in cases {
        let bound = bind(&f.index, level, keys);
        let all = run(&f.index, &bound, 100);
        assert_eq!(all.len(), count, "{level} {keys:?}\n{}", bound.explain());
        for page in 1..5 {
            assert_eq!(
                run(&f.index, &bound, page),
                all,
                "{level} {keys:?} by {page}"
            );
        }
    }
}

#[test]
fn plans_use_what_is_selective() {
    let f = filled();
    let cases: [(&str, Keys<'_>, &str, usize); 9] = [
        ("STUDY", &[(ID, b"P1")], "look up 1 PATIENT", 2),
        ("STUDY", &[(STUDY, b"1.1.1\\1.2.1")], "look up 2 STUDY", 2),
        (
            "IMAGE",
            &[(SERIES, b"1.1.1.2"), (ID, b"P1")],
            "look up 1 SERIES",
            3,
        ),
        (
            "STUDY",
            &[(NAME, b"doe^j*")],
            "StudyPatientName starts with",
            3,
        ),
        ("PATIENT", &[(NAME, b"ideo*")], "PatientName starts with", 1),
        (
            "STUDY",
            &[(Tag::STUDY_DATE, b"20200102-")],
            "StudyDate from",
            1,
        ),
        ("STUDY", &[(Tag::ACCESSION_NUMBER, b"A1")], "Accession =", 3),
        ("PATIENT", &[(ID, b"P*")], "start with", 2),
        (
            "STUDY",
            &[(Tag::STUDY_DESCRIPTION, b"first*")],
            "all rows of level STUDY",
            3,
        ),
    ];
    for (level, keys, plan, count) in cases {
        let bound = bind(&f.index, level, keys);
        assert!(bound.explain().contains(plan), "{}", bound.explain());
        assert_eq!(run(&f.index, &bound, 10).len(), count, "{level} {keys:?}");
    }
}

#[test]
fn counts_modalities_and_sop_classes_are_computed() {
    let f = filled();
    let keys: &[(Tag, &[u8])] = &[
        (STUDY, b"1.1.1"),
        (Tag::MODALITIES_IN_STUDY, b"MR"),
        (Tag::SOP_CLASSES_IN_STUDY, b""),
        (Tag::NUMBER_OF_STUDY_RELATED_SERIES, b""),
        (Tag::NUMBER_OF_STUDY_RELATED_INSTANCES, b""),
        (Tag::NUMBER_OF_PATIENT_RELATED_STUDIES, b""),
        (Tag::RETRIEVE_AE_TITLE, b""),
        (Tag::MODALITY, b"XX"),
        (Tag::REFERENCED_STUDY_SEQUENCE, b""),
    ];
    let rows = run(&f.index, &bind(&f.index, "STUDY", keys), 10);
    assert_eq!(values(&rows, Tag::MODALITIES_IN_STUDY), ["MR\\CT"]);
    assert_eq!(
        values(&rows, Tag::SOP_CLASSES_IN_STUDY),
        ["1.2.840.10008.5.1.4.1.1.2"]
    );
    assert_eq!(values(&rows, Tag::NUMBER_OF_STUDY_RELATED_SERIES), ["2"]);
    assert_eq!(values(&rows, Tag::NUMBER_OF_STUDY_RELATED_INSTANCES), ["6"]);
    assert_eq!(values(&rows, Tag::NUMBER_OF_PATIENT_RELATED_STUDIES), ["-"]);
    assert_eq!(values(&rows, Tag::RETRIEVE_AE_TITLE), ["OWN"]);
    assert_eq!(values(&rows, Tag::MODALITY), ["-"]);
    assert!(rows[0].get(Tag::REFERENCED_STUDY_SEQUENCE).is_some());
}

#[test]
fn order_limit_and_offset_are_honoured() {
    let f = filled();
    let mut q = query(
        InformationModel::StudyRoot,
        "STUDY",
        &[(STUDY, b""), (NAME, b"")],
    );
    let options = BindOptions::default();
    let bound = BoundQuery::bind(&q, &f.index, &options).unwrap();
    assert_eq!(
        values(&run(&f.index, &bound, 1), STUDY),
        ["1.2.1", "1.1.1", "1.1.2"]
    );
    q.sort = Some("StudyDate".to_owned());
    (q.offset, q.limit) = (1, Some(1));
    let bound = BoundQuery::bind(&q, &f.index, &options).unwrap();
    assert_eq!(values(&run(&f.index, &bound, 9), STUDY), ["1.2.1"]);
    q.keys.clear();
    q.offset = 0;
    let bound = BoundQuery::bind(&q, &f.index, &options).unwrap();
    assert_eq!(values(&run(&f.index, &bound, 9), STUDY), ["1.1.1"]);
}

#[test]
fn text_goes_out_with_its_character_set() {
    let f = Fixture::new();
    let store = |id: &str, charset: Option<&str>, name: &[u8]| {
        let mut header = crate::extract::tests::header(&[
            (ID, Some(id)),
            (STUDY, Some(id)),
            (SERIES, Some(id)),
            (SOP, Some(id)),
            (Tag::SPECIFIC_CHARACTER_SET, charset),
        ]);
        header.insert(NAME, name.to_vec());
        let rows = f.index.extractor().extract(&header, f.policy).unwrap();
        store_rows(&f.index, &rows, &[]);
    };
    store("1", Some("ISO_IR 100"), b"M\xFCller");
    store("2", Some("ISO_IR 192"), "Müller".as_bytes());
    store("3", None, b"Miller");
    let rows = run(
        &f.index,
        &bind(&f.index, "STUDY", &[(STUDY, b""), (NAME, b"")]),
        9,
    );
    let charsets = values(&rows, Tag::SPECIFIC_CHARACTER_SET);
    assert_eq!(charsets, ["-", "ISO_IR 192", "ISO_IR 100"]);
    let mut q = query(
        InformationModel::StudyRoot,
        "STUDY",
        &[(STUDY, b""), (NAME, b"m\xC3\xBCl*")],
    );
    q.charset = CharacterSet::parse(b"ISO_IR 192");
    q.charset_given = true;
    if let Some(key) = q.keys.iter_mut().find(|k| k.tag == NAME) {
        key.matcher = pyserver_proto::query::Matcher::parse(Vr::Pn, "MÜL*");
    }
    let bound = BoundQuery::bind(&q, &f.index, &BindOptions::default()).unwrap();
    assert!(bound.explain().contains("mül"), "{}", bound.explain());
    let rows = run(&f.index, &bound, 9);
    assert_eq!(values(&rows, NAME), ["Müller", "Müller"]);
    assert_eq!(
        values(&rows, Tag::SPECIFIC_CHARACTER_SET),
        ["ISO_IR 192", "ISO_IR 192"]
    );
}

fn store_rows(index: &Index, rows: &crate::extract::RowValues, header: &[u8]) {
    let file = String::from_utf8_lossy(&rows.sop_instance).into_owned();
    let mut txn = index.write().unwrap();
    txn.store(&StoreChange {
        rows,
        blob: BlobFacts {
            device: 0,
            file_candidate: &file,
            standing: Standing::Nothing,
            rename_on_rewrite: false,
            ignore_rewrite: false,
            transfer_syntax: "1.2.840.10008.1.2",
            file_bytes: 10,
            dataset_offset: 0,
            hash: [0; 16],
            pixel: b"px",
        },
        header,
        pending: PendingKind::Written,
        calling_ae: "",
        called_ae: "",
        jobs: &[b"job"],
        now: 1,
    })
    .unwrap();
    txn.commit().unwrap();
}

#[test]
fn retrieves_find_files_and_refuse_everything() {
    let f = filled();
    let locate = |level: &str, keys: &[(Tag, &[u8])]| {
        let query = query(InformationModel::StudyRoot, level, keys);
        let bound = BoundQuery::bind_retrieve(&query, &f.index)?;
        let mut cursor = FindCursor::default();
        let mut files = Vec::new();
        loop {
            let txn = f.index.read().unwrap();
            let (found, progress) = txn.locate(&bound, &mut cursor, 2).unwrap();
            files.extend(found.into_iter().map(|l| l.file));
            if progress == FindProgress::Done {
                return Ok(files);
            }
        }
    };
    assert_eq!(
        locate("STUDY", &[(STUDY, b"1.1.1\\1.2.1")]).unwrap().len(),
        12
    );
    assert_eq!(
        locate("SERIES", &[(STUDY, b"1.1.1"), (SERIES, b"1.1.1.2")])
            .unwrap()
            .len(),
        3
    );
    assert_eq!(
        locate("SERIES", &[(STUDY, b"1.1.2"), (SERIES, b"1.1.1.2")])
            .unwrap()
            .len(),
        0
    );
    let one = locate("IMAGE", &[(SOP, b"1.1.1.2.3\\5.5")]).unwrap();
    assert_eq!(one, ["1.1.1.2.3.dcm"]);
    assert_eq!(
        locate("STUDY", &[(STUDY, b"")]),
        Err(BindError::NoIdentifier(STUDY))
    );
    assert_eq!(
        locate("STUDY", &[(STUDY, b"1.*")]),
        Err(BindError::Wildcard(STUDY))
    );

    let txn = f.index.read().unwrap();
    let located = txn.locate_sop(b"1.1.1.2.3").unwrap().unwrap();
    assert_eq!(located.sop_class, "1.2.840.10008.5.1.4.1.1.2");
    assert_eq!(
        txn.owner_of_file(0, "1.1.1.2.3.dcm").unwrap(),
        Some(located)
    );
    assert_eq!(txn.owner_of_file(1, "1.1.1.2.3.dcm").unwrap(), None);
    drop(txn);
    f.delete(Level::Patient, "P1");
    assert_eq!(
        locate("STUDY", &[(STUDY, b"1.1.1\\1.2.1")]).unwrap().len(),
        6
    );
    let txn = f.index.read().unwrap();
    assert_eq!(txn.locate_sop(b"1.1.1.2.3").unwrap(), None);
    assert_eq!(txn.owner_of_file(0, "1.1.1.2.3.dcm").unwrap(), None);
}

#[test]
fn tables_have_the_columns_of_dicom_sql() {
    let f = filled();
    let images = f.index.dump_table("DICOMImages").unwrap().unwrap();
    assert_eq!(images.len(), 18);
    let names: Vec<_> = images[0].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 27);
    assert_eq!(names[19..22], ["ImagePat", "SeriesInst", "AccessTime"]);
    let value = |name: &str| {
        let found = images[0].iter().find(|(n, _)| n == name);
        found.and_then(|(_, v)| v.clone()).unwrap()
    };
    assert_eq!(
        (value("ImagePat"), value("SeriesInst")),
        ("P1".into(), "1.1.1.1".into())
    );
    assert_eq!(value("AccessTime"), (0x5F5E_1000 & !0x1F).to_string());
    assert_eq!(value("ObjectFile"), "1.1.1.1.1.dcm");
    assert_eq!(
        f.index.dump_table("DICOMStudies").unwrap().unwrap().len(),
        3
    );
    assert!(f.index.dump_table("nonsense").unwrap().is_none());
}

/// An implicit little endian data set of text elements.
fn dataset(elements: &[(Tag, &str)]) -> Header {
    let mut dataset = Dataset::new();
    for (tag, value) in elements {
        dataset.put_bytes(*tag, pyserver_proto::dict::vr(*tag), value.as_bytes());
    }
    let mut bytes = Vec::new();
    dataset.encode(TransferSyntax::ImplicitLittleEndian, &mut bytes);
    Header::parse(&bytes, TransferSyntax::ImplicitLittleEndian).unwrap()
}

#[test]
fn a_new_column_is_filled_from_the_header_store() {
    let mut f = Fixture::new();
    for n in ["1", "2", "3"] {
        let header = dataset(&[
            (Tag::SOP_CLASS_UID, "1.2"),
            (SOP, n),
            (STUDY, "7"),
            (SERIES, "8"),
            (ID, "P"),
            (Tag::new(0x0010, 0x4000), "some comment"),
            (Tag::new(0x0020, 0x4000), &format!("image comment {n}")),
            (Tag::STUDY_DESCRIPTION, &"d".repeat(70)),
        ]);
        let values = f
            .index
            .extractor()
            .extract(&header, ExtractPolicy::default());
        store_rows(&f.index, &values.unwrap(), &headers::compress(&header));
    }
    let text = DEFAULT_TEXT
        .replacen(
            "\t{ 0x0010, 0x0030, \"PatientBirthDate\"",
            "\t{ 0x0010, 0x4000, \"PatientComments\", 64, SQL_C_CHAR, DT_STR },\n\t{ 0x0010, 0x0030, \"PatientBirthDate\"",
            1,
        )
        .replacen(
            "\t{ 0x0020, 0x0013, \"ImageNumber\"",
            "\t{ 0x0020, 0x4000, \"ImageComments\", 64, SQL_C_CHAR, DT_STR },\n\t{ 0x0020, 0x0013, \"ImageNumber\"",
            1,
        )
        .replacen("\"StudyDescription\",  64", "\"StudyDescription\", 200", 1);
    let columns = Columns::parse(&text).unwrap();
    drop(f.index);
    let mut told = 0;
    let open = |told: &mut u64| {
        Index::open(f.dir.path(), &columns, options(), &mut |_, done, _| {
            *told = done;
        })
        .unwrap()
    };
    f.index = open(&mut told);
    assert_eq!(told, 6);
    let images = f.index.dump_table("DICOMImages").unwrap().unwrap();
    assert_eq!(images[1][2].1.as_deref(), Some("image comment 2"));
    let patients = f.index.dump_table("DICOMPatients").unwrap().unwrap();
    assert_eq!(patients[0][2].1.as_deref(), Some("some comment"));
    assert_eq!(patients[0][1].1.as_deref(), Some("NO NAME"));
    let studies = f.index.dump_table("DICOMStudies").unwrap().unwrap();
    assert_eq!(studies[0][4].1.as_deref().map(str::len), Some(70));
    drop(f.index);
    told = 0;
    f.index = open(&mut told);
    assert_eq!(told, 0);
    let txn = f.index.read().unwrap();
    let image = txn.find_image(b"2").unwrap().unwrap();
    let header = txn.header(image).unwrap().unwrap();
    assert_eq!(header.text(SOP).as_deref(), Some("2"));
    assert_eq!(txn.jobs(1, 10).unwrap().len(), 2);
}
