use proptest::prelude::*;

use super::*;
use crate::element::write_head;
use crate::scan::{ScanLimits, scan};
use crate::scrub::Scrub;
use crate::transfer_syntax::Encoding;

const SYNTAXES: [TransferSyntax; 3] = [
    TransferSyntax::ImplicitLittleEndian,
    TransferSyntax::ExplicitLittleEndian,
    TransferSyntax::ExplicitBigEndian,
];

fn put(out: &mut Vec<u8>, tag: Tag, vr: Vr, value: &[u8], encoding: Encoding) {
    write_head(out, tag, vr, value.len() as u32, encoding);
    out.extend_from_slice(value);
}

fn code_item(code: &[u8], encoding: Encoding) -> Vec<u8> {
    let mut inner = Vec::new();
    put(&mut inner, Tag::new(0x0008, 0x0100), Vr::Sh, code, encoding);
    let mut item = Vec::new();
    crate::edit_path::put_item(&mut item, &inner, false, encoding);
    item
}

/// UIDs, a name, a sequence of two items, pixels and a trailing element.
fn object(syntax: TransferSyntax) -> Vec<u8> {
    let encoding = syntax.encoding();
    let mut out = Vec::new();
    let uid = b"1.2.840.10008.5.1.4.1.1.2\0";
    put(&mut out, Tag::SOP_CLASS_UID, Vr::Ui, uid, encoding);
    put_instance_uid(&mut out, encoding);
    let items = [code_item(b"AB", encoding), code_item(b"CD", encoding)].concat();
    put(&mut out, Tag::new(0x0008, 0x1032), Vr::Sq, &items, encoding);
    put(
        &mut out,
        Tag::new(0x0009, 0x0010),
        Vr::Lo,
        b"ACME",
        encoding,
    );
    put(&mut out, Tag::PATIENT_NAME, Vr::Pn, b"Doe^John", encoding);
    let rows = if encoding.big_endian {
        [0, 16]
    } else {
        [16, 0]
    };
    put(&mut out, Tag::new(0x0028, 0x0010), Vr::Us, &rows, encoding);
    put(&mut out, Tag::PIXEL_DATA, Vr::Ow, &[7; 1000], encoding);
    put(
        &mut out,
        Tag::new(0xFFFC, 0xFFFC),
        Vr::Ob,
        &[0, 0],
        encoding,
    );
    out
}

fn instance(dataset: &[u8], syntax: TransferSyntax) -> Instance {
    Instance::new(scan(dataset, syntax, ScanLimits::default()).unwrap())
}

fn whole(instance: &Instance, source: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in instance.pieces() {
        match piece {
            Piece::Header(range) => out.extend_from_slice(&instance.header().bytes()[range]),
            Piece::Source(range) => {
                out.extend_from_slice(&source[range.start as usize..range.end as usize]);
            }
        }
    }
    out
}

fn text(instance: &Instance, path: &str) -> Option<String> {
    match instance.get(&path.parse().unwrap()) {
        Found::Text(text) => Some(text.into_owned()),
        Found::Sequence => Some("(sequence)".into()),
        Found::Long => Some("(too long)".into()),
        Found::Nothing => None,
    }
}

/// The SOP Instance UID 1.2.3.
fn put_instance_uid(dataset: &mut Vec<u8>, encoding: Encoding) {
    put(dataset, Tag::SOP_INSTANCE_UID, Vr::Ui, b"1.2.3\0", encoding);
}

#[test]
fn reading() {
    for syntax in SYNTAXES {
        let dataset = object(syntax);
        let object = instance(&dataset, syntax);
        assert_eq!(text(&object, "0010,0010").as_deref(), Some("Doe^John"));
        assert_eq!(text(&object, "0028,0010").as_deref(), Some("16"));
        assert_eq!(
            text(&object, "0008,1032.1/0008,0100").as_deref(),
            Some("CD")
        );
        assert_eq!(text(&object, "0008,1032.2/0008,0100"), None);
        assert_eq!(text(&object, "0008,1032").as_deref(), Some("(sequence)"));
        assert_eq!(text(&object, "7fe0,0010").as_deref(), Some("(too long)"));
        assert_eq!(
            text(&object, "0002,0010").as_deref(),
            Some(syntax.uid().as_str())
        );
        assert_eq!(
            object.search(Tag::new(0x0008, 0x0100)),
            Found::Text("AB".into())
        );
        assert_eq!(whole(&object, &dataset), dataset);
    }
}

#[test]
fn an_edited_object_is_the_object_with_the_edit() {
    for syntax in SYNTAXES {
        let dataset = object(syntax);
        let mut object = instance(&dataset, syntax);
        let edits = [
            ("0010,0010", "Roe", "Roe"),
            ("0008,1032.1/0008,0100", "LONGER", "LONGER"),
            ("0008,1032.*/0008,0104", "new", "new"),
            ("0040,0275/0032,1064.0/0008,0100", "X", "X"),
            ("0028,0010", "17abc", "17"),
            ("0018,9073", "1.5", "1.5"),
            ("0028,0120", "-5", "65531"),
        ];
        for (path, value, read) in &edits {
            object.set(&path.parse().unwrap(), value).unwrap();
            let path = path.replace(".*", ".2");
            assert_eq!(text(&object, &path).as_deref(), Some(*read), "{path}");
            // What is written reads the same as what was spliced.
            let written = whole(&object, &dataset);
            let again = instance(&written, syntax);
            assert_eq!(again.header().bytes(), object.header().bytes());
            assert_eq!(again.header().elements(), object.header().elements());
            assert_eq!(text(&again, &path).as_deref(), Some(*read));
        }
        object.delete(&"0010,0010".parse().unwrap()).unwrap();
        assert_eq!(text(&object, "0010,0010"), None);
        object.set(&"7fe0,0010".parse().unwrap(), "").unwrap();
        let written = whole(&object, &dataset);
        assert!(
            instance(&written, syntax)
                .header()
                .element(Tag::PIXEL_DATA)
                .is_none()
        );
        assert!(written.len() < dataset.len() - 900);
    }
}

#[test]
fn what_is_replaced_or_removed_stays_in_no_repeated_element() {
    for syntax in SYNTAXES {
        let encoding = syntax.encoding();
        let item = [b"AB", b"CD"].map(|code| {
            let mut inner = Vec::new();
            put(&mut inner, Tag::new(0x0008, 0x0100), Vr::Sh, code, encoding);
            inner
        });
        let mut sequence = Vec::new();
        crate::edit_path::put_item(&mut sequence, &item.concat(), false, encoding);
        let mut dataset = Vec::new();
        put(&mut dataset, Tag::SOP_CLASS_UID, Vr::Ui, b"1.2\0", encoding);
        for _ in 0..3 {
            put_instance_uid(&mut dataset, encoding);
            put(
                &mut dataset,
                Tag::new(0x0008, 0x1032),
                Vr::Sq,
                &sequence,
                encoding,
            );
            put(
                &mut dataset,
                Tag::PATIENT_NAME,
                Vr::Pn,
                b"Doe^John",
                encoding,
            );
        }
        let mut edited = instance(&dataset, syntax);
        edited.set(&"0008,0018".parse().unwrap(), "1.2.4").unwrap();
        edited
            .set(&"0008,1032.0/0008,0100".parse().unwrap(), "EF")
            .unwrap();
        edited.delete(&"0010,0010".parse().unwrap()).unwrap();
        let again = instance(&whole(&edited, &dataset), syntax);
        assert_eq!(again.header().bytes(), edited.header().bytes());
        assert_eq!(again.header().elements(), edited.header().elements());
        assert_eq!(text(&again, "0008,0018").as_deref(), Some("1.2.4"));
        assert_eq!(text(&again, "0010,0010"), None);
        let found = |wanted: &[u8]| {
            let bytes = again.header().bytes();
            bytes
                .windows(wanted.len())
                .filter(|part| *part == wanted)
                .count()
        };
        assert_eq!((found(b"1.2.3\0"), found(b"Doe^John")), (0, 0));
        // Of the first sequence, no trace of either; the others were not named.
        assert_eq!((found(b"EF"), found(b"AB"), found(b"CD")), (1, 2, 2));
    }
}

#[test]
fn refused_edits_change_nothing() {
    let syntax = TransferSyntax::ExplicitLittleEndian;
    let dataset = object(syntax);
    let mut object = instance(&dataset, syntax);
    let inside_name = "0010,0010/0008,0100".parse().unwrap();
    let no_sequence = object.set(&inside_name, "x");
    assert_eq!(no_sequence, Err(EditError::NoSequence(Tag::PATIENT_NAME)));
    let japanese = object.set(&"0010,0010".parse().unwrap(), "山田");
    assert_eq!(japanese, Err(EditError::Charset(Tag::PATIENT_NAME)));
    assert!(object.set(&"0002,0010".parse().unwrap(), "1.2").is_err());
    assert_eq!(whole(&object, &dataset), dataset);
    object.set(&"0010,0010".parse().unwrap(), "Müller").unwrap();
    assert_eq!(
        object.header().get(Tag::PATIENT_NAME),
        Some(&b"M\xfcller"[..])
    );
}

#[test]
fn uids_are_changed_everywhere_but_classes() {
    for syntax in SYNTAXES {
        let encoding = syntax.encoding();
        let mut inner = Vec::new();
        put(
            &mut inner,
            Tag::new(0x0008, 0x1155),
            Vr::Ui,
            b"1.2.9\0",
            encoding,
        );
        if encoding.explicit {
            // A VR of no edition, in the short form: written back as UN, in the long one.
            put(
                &mut inner,
                Tag::new(0x0009, 0x1001),
                Vr::Cs,
                b"ab",
                encoding,
            );
            let letters = inner.len() - 6;
            inner[letters..letters + 2].copy_from_slice(b"ZZ");
        }
        for undefined in [false, true] {
            let mut items = Vec::new();
            crate::edit_path::put_item(&mut items, &inner, undefined, encoding);
            let mut dataset = Vec::new();
            let class = b"1.2.840.10008.5.1.4.1.1.2\0";
            put(&mut dataset, Tag::SOP_CLASS_UID, Vr::Ui, class, encoding);
            put_instance_uid(&mut dataset, encoding);
            let sequence = Tag::new(0x0008, 0x1110);
            if undefined {
                write_head(&mut dataset, sequence, Vr::Sq, 0xFFFF_FFFF, encoding);
                dataset.extend(&items);
                write_head(
                    &mut dataset,
                    Tag::SEQUENCE_DELIMITATION,
                    Vr::Un,
                    0,
                    encoding,
                );
            } else {
                put(&mut dataset, sequence, Vr::Sq, &items, encoding);
            }
            let mut object = instance(&dataset, syntax);
            assert_eq!(object.uids().unwrap().len(), 2);
            let changed = object.change_uids(&mut |_, uid| Some(format!("{uid}.77")));
            assert_eq!(changed, Ok(2));
            assert_eq!(text(&object, "0008,0018").as_deref(), Some("1.2.3.77"));
            assert_eq!(
                text(&object, "0008,1110/0008,1155").as_deref(),
                Some("1.2.9.77")
            );
            let written = whole(&object, &dataset);
            let again = instance(&written, syntax);
            assert_eq!(
                text(&again, "0008,1110/0008,1155").as_deref(),
                Some("1.2.9.77")
            );
        }
    }
}

#[test]
fn scrubbing() {
    let syntax = TransferSyntax::ImplicitLittleEndian;
    let dataset = object(syntax);
    let left = |list: &str| {
        let mut object = instance(&dataset, syntax);
        object.scrub(&list.parse::<Scrub>().unwrap()).unwrap();
        let written = whole(&object, &dataset);
        let scanned = scan(&written, syntax, ScanLimits::default()).unwrap();
        let tags: Vec<u32> = scanned.header.elements().iter().map(|e| e.tag.0).collect();
        (tags, scanned.pixel.is_some())
    };
    let (tags, pixels) = left("-SQ,00100010");
    assert!(pixels && !tags.contains(&0x0008_1032) && !tags.contains(&0x0010_0010));
    assert!(!tags.contains(&0x0009_0010));
    assert_eq!(left("+UI").0, [0x0008_0016, 0x0008_0018]);
    assert!(!left("+UI").1);
    assert!(!left("-7FE0").1);
    assert!(!left("-private").0.contains(&0x0009_0010));
    for wrong in ["UI", "-XYZ", "", "+001000100"] {
        assert!(wrong.parse::<Scrub>().is_err(), "{wrong}");
    }
}

proptest! {
    /// Any edit of any object that scans leaves an object that scans, with the value in it.
    #[test]
    fn edits_hold_in_any_order(
        edits in proptest::collection::vec(
            (0u16..0x40, 0u16..0x40, "[A-Z]{0,9}", proptest::option::of(0usize..3)), 1..12),
        which in 0usize..3,
    ) {
        let syntax = SYNTAXES[which];
        let dataset = object(syntax);
        let mut object = instance(&dataset, syntax);
        for (group, element, value, item) in edits {
            let tag = format!("{:04x},{:04x}", 8 + 2 * group, 0x5000 + element);
            let path = match item {
                None => tag,
                Some(item) => format!("0040,0275.{item}/{tag}"),
            };
            let edited = path.parse().unwrap();
            if value.len() == 9 {
                object.delete(&edited).unwrap();
            } else {
                object.set(&edited, &value).unwrap();
            }
            let written = whole(&object, &dataset);
            let again = instance(&written, syntax);
            prop_assert_eq!(again.header().elements(), object.header().elements());
            prop_assert_eq!(again.header().bytes(), object.header().bytes());
            prop_assert_eq!(again.pieces().len(), object.pieces().len());
        }
    }

    /// Hostile bytes that scan can be edited or not, but never break.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), path in "[0-9a-f]{4},[0-9a-f]{4}") {
        for syntax in SYNTAXES {
            let Ok(scanned) = scan(&bytes, syntax, ScanLimits::default()) else { continue };
            let mut object = Instance::new(scanned);
            if let Ok(path) = path.parse::<EditPath>() {
                let _refused = object.set(&path, "x");
            }
            let _refused = object.change_uids(&mut |_, _| Some("1.2".into()));
            let _pieces = object.pieces();
        }
    }
}
