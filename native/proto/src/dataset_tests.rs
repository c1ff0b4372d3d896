//! Tests of owned data sets: round trips in every syntax, limits, any bytes.

use proptest::prelude::*;

use super::*;
use crate::dict;
use crate::element::UNDEFINED_LENGTH;
use crate::testdata::{head, object, put};

const SYNTAXES: [TransferSyntax; 4] = [
    TransferSyntax::ImplicitLittleEndian,
    TransferSyntax::ExplicitLittleEndian,
    TransferSyntax::ExplicitBigEndian,
    TransferSyntax::Deflated,
];

fn decode(bytes: &[u8], syntax: TransferSyntax) -> Result<Dataset, DatasetError> {
    Dataset::decode(bytes, syntax, &DatasetLimits::default())
}

#[test]
fn an_object_decodes_alike_in_every_syntax() {
    for syntax in &SYNTAXES[..3] {
        let dataset = decode(&object(syntax.encoding()), *syntax).unwrap();
        assert_eq!(dataset.text(Tag::SOP_INSTANCE_UID), Some("1.2.3.4"));
        assert_eq!(
            dataset.uid(Tag::STUDY_INSTANCE_UID).unwrap().unwrap(),
            "1.2.3"
        );
        assert_eq!(
            dataset.bytes(Tag::PATIENT_NAME),
            Some(b"M\xFCller^Hans".as_slice())
        );
        assert_eq!(dataset.text(Tag::PATIENT_NAME), None);
        assert_eq!(dataset.u16(Tag::ROWS), Some(512));
        assert_eq!(dataset.items(Tag::REFERENCED_PATIENT_SEQUENCE).len(), 2);
        let item = &dataset.items(Tag::REFERENCED_STUDY_SEQUENCE)[0];
        assert_eq!(item.text(Tag::REFERENCED_SOP_INSTANCE_UID), Some("1.2.9"));
        assert_eq!(dataset.get(Tag::PATIENT_SEX), None);
    }
}

#[test]
fn elements_are_set_changed_and_removed() {
    let mut dataset = Dataset::new();
    dataset.put_text(Tag::PATIENT_ID, "P1");
    dataset.put_text(Tag::PATIENT_NAME, "Doe^John");
    dataset.put_text(Tag::PATIENT_ID, "P2");
    dataset.put_u16(Tag::ROWS, 7);
    dataset.put_items(Tag::REFERENCED_STUDY_SEQUENCE, vec![Dataset::new()]);
    let tags: Vec<Tag> = dataset.iter().map(|element| element.tag).collect();
    assert_eq!(
        tags,
        [
            Tag::REFERENCED_STUDY_SEQUENCE,
            Tag::PATIENT_NAME,
            Tag::PATIENT_ID,
            Tag::ROWS
        ]
    );
    assert_eq!(
        dataset.get(Tag::PATIENT_NAME).map(|element| element.vr),
        Some(Vr::Pn)
    );
    assert_eq!(dataset.text(Tag::PATIENT_ID), Some("P2"));
    dataset.get_mut(Tag::ROWS).unwrap().value = Value::Bytes(vec![8, 0]);
    assert_eq!(dataset.u16(Tag::ROWS), Some(8));
    assert!(dataset.remove(Tag::PATIENT_ID).is_some());
    assert!(dataset.remove(Tag::PATIENT_ID).is_none());
    assert_eq!(dataset.len(), 3);
}

#[test]
fn odd_values_are_padded_by_their_kind() {
    let mut dataset = Dataset::new();
    dataset.put_bytes(Tag::STUDY_INSTANCE_UID, Vr::Ui, b"1.2");
    dataset.put_bytes(Tag::PATIENT_ID, Vr::Lo, b"abc");
    let mut out = Vec::new();
    dataset.encode(TransferSyntax::ExplicitLittleEndian, &mut out);
    assert_eq!(out, b"\x10\0\x20\0LO\x04\0abc \x20\0\x0D\0UI\x04\x001.2\0");
}

#[test]
fn duplicates_disorder_and_group_lengths() {
    let explicit = Encoding::EXPLICIT_LE;
    let mut bytes = Vec::new();
    put(&mut bytes, Tag::PATIENT_ID, Vr::Lo, b"first ", explicit);
    put(
        &mut bytes,
        Tag::new(0x0008, 0),
        Vr::Ul,
        &[1, 0, 0, 0],
        explicit,
    );
    put(&mut bytes, Tag::MODALITY, Vr::Cs, b"CT", explicit);
    put(&mut bytes, Tag::PATIENT_ID, Vr::Lo, b"second", explicit);
    let dataset = decode(&bytes, TransferSyntax::ExplicitLittleEndian).unwrap();
    assert_eq!(dataset.len(), 2);
    assert_eq!(dataset.text(Tag::PATIENT_ID), Some("first"));
}

#[test]
fn limits_hold() {
    let explicit = Encoding::EXPLICIT_LE;
    let syntax = TransferSyntax::ExplicitLittleEndian;
    let mut deep = Vec::new();
    for _ in 0..2000 {
        head(
            &mut deep,
            Tag::REFERENCED_STUDY_SEQUENCE,
            Vr::Sq,
            UNDEFINED_LENGTH,
            explicit,
        );
        head(&mut deep, Tag::ITEM, Vr::Un, UNDEFINED_LENGTH, explicit);
    }
    assert!(decode(&deep, syntax).is_err());
    for _ in 0..2000 {
        head(&mut deep, Tag::ITEM_DELIMITATION, Vr::Un, 0, explicit);
        head(&mut deep, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, explicit);
    }
    assert!(decode(&deep, syntax).is_err());
    let mut deep = Vec::new();
    for depth in 0..70 {
        let mut item = Vec::new();
        put(&mut item, Tag::ITEM, Vr::Un, &deep, explicit);
        deep.clear();
        put(
            &mut deep,
            Tag::REFERENCED_STUDY_SEQUENCE,
            Vr::Sq,
            &item,
            explicit,
        );
        assert_eq!(
            decode(&deep, syntax).err(),
            (depth >= 64).then_some(DatasetError::TooDeep(64))
        );
    }
    let few = DatasetLimits {
        elements_max: 3,
        bytes_max: 10_000,
        ..DatasetLimits::default()
    };
    let error = Dataset::decode(&object(explicit), syntax, &few).unwrap_err();
    assert_eq!(error, DatasetError::TooManyElements(3));
    let packed = miniz_oxide::deflate::compress_to_vec(&vec![0; 100_000], 6);
    let error = Dataset::decode(&packed, TransferSyntax::Deflated, &few).unwrap_err();
    assert_eq!(error, DatasetError::TooLarge(10_000));
    assert_eq!(
        Dataset::decode(&vec![0; 20_000], syntax, &few).unwrap_err(),
        DatasetError::TooLarge(10_000)
    );
    let mut pixels = Vec::new();
    head(
        &mut pixels,
        Tag::PIXEL_DATA,
        Vr::Ob,
        UNDEFINED_LENGTH,
        explicit,
    );
    head(&mut pixels, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, explicit);
    assert_eq!(
        decode(&pixels, syntax),
        Err(DatasetError::Encapsulated(Tag::PIXEL_DATA))
    );
}

/// A data set whose VRs the dictionary knows, so that implicit encoding keeps them.
fn any_dataset() -> impl Strategy<Value = Dataset> {
    let tags = vec![
        Tag::PATIENT_ID,
        Tag::PATIENT_NAME,
        Tag::ROWS,
        Tag::STUDY_INSTANCE_UID,
        Tag::new(0x0018, 0x9087),
        Tag::new(0x0009, 0x1002),
        Tag::new(0x6002, 0x3000),
    ];
    let leaf = (
        prop::sample::select(tags),
        proptest::collection::vec(any::<u8>(), 0..6),
    );
    let leaves = proptest::collection::vec(leaf, 0..5).prop_map(|leaves| {
        let mut dataset = Dataset::new();
        for (tag, bytes) in leaves {
            dataset.put_bytes(tag, dict::vr(tag), &bytes.repeat(8));
        }
        dataset
    });
    leaves.prop_recursive(4, 30, 3, |inner| {
        let tags = vec![Tag::REFERENCED_STUDY_SEQUENCE, Tag::new(0x0040, 0x0275)];
        let items = proptest::collection::vec(inner.clone(), 0..3);
        (inner, prop::sample::select(tags), items).prop_map(|(mut dataset, tag, items)| {
            dataset.put_items(tag, items);
            dataset
        })
    })
}

proptest! {
    #[test]
    fn data_sets_come_back(dataset in any_dataset()) {
        for syntax in SYNTAXES {
            let mut bytes = Vec::new();
            dataset.encode(syntax, &mut bytes);
            let decoded = decode(&bytes, syntax);
            prop_assert_eq!(decoded.as_ref(), Ok(&dataset));
        }
    }

    #[test]
    fn any_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
    ) {
        for syntax in SYNTAXES {
            let _ = decode(&bytes, syntax);
            let mut object = object(syntax.encoding());
            for (index, byte) in &damage {
                let at = index.index(object.len());
                object[at] = *byte;
            }
            if let Ok(dataset) = decode(&object, syntax) {
                let mut bytes = Vec::new();
                dataset.encode(syntax, &mut bytes);
                let again = decode(&bytes, syntax);
                prop_assert!(again.is_ok());
            }
        }
    }
}
