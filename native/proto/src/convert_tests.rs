//! Tests of the conversion: round trips through three encodings, in pieces and whole.

use proptest::prelude::*;

use super::*;
use crate::scan::scan;
use crate::testdata::{head, object, object_with_pixels, put, sequence};

const IMPLICIT: Encoding = Encoding::IMPLICIT_LE;
const EXPLICIT: Encoding = Encoding::EXPLICIT_LE;
const BIG: Encoding = Encoding::EXPLICIT_BE;
const SYNTAXES: [TransferSyntax; 3] = [
    TransferSyntax::ImplicitLittleEndian,
    TransferSyntax::ExplicitLittleEndian,
    TransferSyntax::ExplicitBigEndian,
];

fn stream(
    bytes: &[u8],
    from: TransferSyntax,
    to: TransferSyntax,
    step: usize,
) -> Result<Vec<u8>, ConvertError> {
    let mut converter = DatasetConverter::new(from, to, ScanLimits::default())?;
    let mut out = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        converter.push(piece, &mut out)?;
    }
    converter.finish()?;
    Ok(out)
}

#[test]
fn whole_objects_in_every_direction() {
    for from in SYNTAXES {
        for to in SYNTAXES {
            let source = object(from.encoding());
            let wanted = object(to.encoding());
            let converted = convert_elements(&source, from.encoding(), to.encoding()).unwrap();
            assert_eq!(converted, wanted, "{from:?} to {to:?}");
            for step in [1, 3, 16, 1000] {
                assert_eq!(stream(&source, from, to, step).unwrap(), wanted);
            }
        }
    }
}

#[test]
fn pixels_are_swapped_and_streamed() {
    let mut pixels: Vec<u8> = (0..=255).cycle().take(10_001).collect();
    let mut little = object(EXPLICIT);
    put(&mut little, Tag::PIXEL_DATA, Vr::Ow, &pixels, EXPLICIT);
    put(
        &mut little,
        Tag::new(0xFFFC, 0xFFFC),
        Vr::Ob,
        &[7; 10],
        EXPLICIT,
    );
    let even = pixels.len() - 1;
    pixels[..even].chunks_exact_mut(2).for_each(<[u8]>::reverse);
    let mut big = object(BIG);
    put(&mut big, Tag::PIXEL_DATA, Vr::Ow, &pixels, BIG);
    put(&mut big, Tag::new(0xFFFC, 0xFFFC), Vr::Ob, &[7; 10], BIG);
    let (le, be) = (
        TransferSyntax::ExplicitLittleEndian,
        TransferSyntax::ExplicitBigEndian,
    );
    for step in [1, 7, 4096, 100_000] {
        assert!(stream(&little, le, be, step).unwrap() == big);
        assert!(stream(&big, be, le, step).unwrap() == little);
    }
    let packed = miniz_oxide::deflate::compress_to_vec(&little, 6);
    assert!(stream(&packed, TransferSyntax::Deflated, be, 100).unwrap() == big);
}

#[test]
fn implicit_elements_find_their_vr() {
    let smallest = Tag::new(0x0028, 0x0106);
    let private = Tag::new(0x0009, 0x1001);
    for (signed, vr) in [(0, Vr::Us), (1, Vr::Ss)] {
        let build = |encoding: Encoding, vr: Vr| {
            let mut out = Vec::new();
            put(
                &mut out,
                Tag::new(0x0009, 0x0010),
                Vr::Lo,
                b"ACME",
                encoding,
            );
            put(&mut out, private, Vr::Un, &[1, 0], encoding);
            put(
                &mut out,
                Tag::PIXEL_REPRESENTATION,
                Vr::Us,
                &[signed, 0],
                encoding,
            );
            put(&mut out, smallest, vr, &[0xFE, 0xFF], encoding);
            out
        };
        let converted = convert_elements(&build(IMPLICIT, vr), IMPLICIT, EXPLICIT).unwrap();
        assert_eq!(converted, build(EXPLICIT, vr));
        let (implicit, explicit) = (SYNTAXES[0], SYNTAXES[1]);
        assert_eq!(
            stream(&build(IMPLICIT, vr), implicit, explicit, 5).unwrap(),
            converted
        );
        // A VR that was written stays.
        let same = convert_elements(&build(EXPLICIT, Vr::Us), EXPLICIT, EXPLICIT).unwrap();
        assert_eq!(same, build(EXPLICIT, Vr::Us));
    }
}

#[test]
fn un_sequences_become_sequences() {
    let private = Tag::new(0x0009, 0x1001);
    let mut content = Vec::new();
    put(&mut content, Tag::ROWS, Vr::Us, &[2, 0], IMPLICIT);
    let mut source = Vec::new();
    head(&mut source, private, Vr::Un, UNDEFINED_LENGTH, BIG);
    put(&mut source, Tag::ITEM, Vr::Un, &content, IMPLICIT);
    head(&mut source, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, IMPLICIT);
    let mut wanted = Vec::new();
    head(&mut wanted, private, Vr::Sq, UNDEFINED_LENGTH, BIG);
    let mut content = Vec::new();
    put(&mut content, Tag::ROWS, Vr::Us, &[0, 2], BIG);
    put(&mut wanted, Tag::ITEM, Vr::Un, &content, BIG);
    head(&mut wanted, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, BIG);
    assert_eq!(convert_elements(&source, BIG, BIG).unwrap(), wanted);
}

#[test]
fn a_value_that_would_become_a_sequence_without_its_vr_is_refused() {
    let tag = Tag::REFERENCED_STUDY_SEQUENCE;
    let (implicit, explicit) = (SYNTAXES[0], SYNTAXES[1]);
    let refused = Err(ElementError::NoSequence(tag));
    for (vr, value) in [
        (Vr::Ui, b"1.2.3\0".as_slice()),
        (Vr::Un, b"no items"),
        (Vr::Ob, &[7; 5000]),
    ] {
        let mut source = Vec::new();
        put(&mut source, tag, vr, value, EXPLICIT);
        assert_eq!(convert_elements(&source, EXPLICIT, IMPLICIT), refused);
        assert!(convert_elements(&source, EXPLICIT, BIG).is_ok());
        let streamed = stream(&source, explicit, implicit, 100);
        let error = ConvertError::Element(ElementError::NoSequence(tag));
        assert_eq!(streamed, Err(error));
    }
    // What a gateway that did not know the sequence sent as UN is one again.
    let (mut content, mut source, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    put(&mut content, Tag::ROWS, Vr::Us, &[2, 0], IMPLICIT);
    let mut items = Vec::new();
    put(&mut items, Tag::ITEM, Vr::Un, &content, IMPLICIT);
    put(&mut source, tag, Vr::Un, &items, BIG);
    put(&mut wanted, tag, Vr::Sq, &items, IMPLICIT);
    assert_eq!(convert_elements(&source, BIG, IMPLICIT), Ok(wanted));
}

#[test]
fn group_lengths_are_left_out_and_long_texts_become_un() {
    let mut source = Vec::new();
    put(
        &mut source,
        Tag::new(0x0008, 0x0000),
        Vr::Ul,
        &[9, 0, 0, 0],
        IMPLICIT,
    );
    put(
        &mut source,
        Tag::STUDY_DESCRIPTION,
        Vr::Lo,
        &vec![b'x'; 70_000],
        IMPLICIT,
    );
    let mut wanted = Vec::new();
    put(
        &mut wanted,
        Tag::STUDY_DESCRIPTION,
        Vr::Un,
        &vec![b'x'; 70_000],
        EXPLICIT,
    );
    assert!(convert_elements(&source, IMPLICIT, EXPLICIT).unwrap() == wanted);
    assert!(stream(&source, SYNTAXES[0], SYNTAXES[1], 999).unwrap() == wanted);
}

#[test]
fn what_cannot_be_converted_is_refused() {
    let jpeg = TransferSyntax::Encapsulated("1.2.840.10008.1.2.4.50".parse().unwrap());
    let (explicit, big) = (SYNTAXES[1], SYNTAXES[2]);
    for (from, to) in [
        (jpeg, explicit),
        (explicit, jpeg),
        (explicit, TransferSyntax::Deflated),
    ] {
        assert!(!is_convertible(from, to));
        let error = stream(&[], from, to, 1).unwrap_err();
        assert_eq!(error, ConvertError::Unsupported);
    }
    let mut bytes = object(EXPLICIT);
    head(
        &mut bytes,
        Tag::PIXEL_DATA,
        Vr::Ob,
        UNDEFINED_LENGTH,
        EXPLICIT,
    );
    put(&mut bytes, Tag::ITEM, Vr::Un, b"", EXPLICIT);
    head(&mut bytes, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, EXPLICIT);
    assert_eq!(
        stream(&bytes, explicit, big, 50),
        Err(ConvertError::Encapsulated)
    );
    let whole = object_with_pixels(EXPLICIT, 5000);
    for cut in [whole.len() - 1, whole.len() - 5003, 150] {
        assert!(matches!(
            stream(&whole[..cut], explicit, big, 64),
            Err(ConvertError::Scan(_))
        ));
    }
}

/// An element tree, encoded the same way in any encoding.
#[derive(Debug, Clone)]
enum Node {
    Plain(Tag, Vr, Vec<u8>),
    Sequence(Tag, bool, Vec<(bool, Vec<Node>)>),
}

fn encode(nodes: &[Node], encoding: Encoding, out: &mut Vec<u8>) {
    for node in nodes {
        match node {
            Node::Plain(tag, vr, value) => {
                let mut value = value.clone();
                if encoding.big_endian {
                    swap_words(&mut value, vr.word_bytes());
                }
                put(out, *tag, *vr, &value, encoding);
            }
            Node::Sequence(tag, undefined, items) => {
                let mut content = Vec::new();
                for (undefined, nodes) in items {
                    let mut item = Vec::new();
                    encode(nodes, encoding, &mut item);
                    let length = if *undefined {
                        UNDEFINED_LENGTH
                    } else {
                        item.len() as u32
                    };
                    head(&mut content, Tag::ITEM, Vr::Un, length, encoding);
                    content.extend(item);
                    if *undefined {
                        head(&mut content, Tag::ITEM_DELIMITATION, Vr::Un, 0, encoding);
                    }
                }
                let length = if *undefined {
                    UNDEFINED_LENGTH
                } else {
                    content.len() as u32
                };
                head(out, *tag, Vr::Sq, length, encoding);
                out.extend(content);
                if *undefined {
                    head(out, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, encoding);
                }
            }
        }
    }
}

/// Elements of the dictionary whose VR implicit encoding finds again.
fn plain() -> impl Strategy<Value = Node> {
    let table = [
        (Tag::STUDY_DESCRIPTION, 1),
        (Tag::ROWS, 2),
        (Tag::new(0x0008, 0x1197), 2),
        (Tag::new(0x0018, 0x9087), 8),
        (Tag::new(0x0018, 0x1271), 4),
        (Tag::new(0x0009, 0x1002), 1),
        (Tag::new(0x6002, 0x3000), 2),
        (Tag::new(0x0042, 0x0011), 1),
        (Tag::new(0x0028, 0x9002), 4),
    ];
    (
        prop::sample::select(table.to_vec()),
        proptest::collection::vec(any::<u8>(), 0..5),
    )
        .prop_map(|((tag, words), bytes)| {
            let value = bytes.repeat(words * 2);
            Node::Plain(tag, dict::vr(tag), value)
        })
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let leaf = proptest::collection::vec(plain(), 0..4);
    leaf.prop_recursive(4, 40, 4, |inner| {
        let items = proptest::collection::vec((any::<bool>(), inner), 0..3);
        let tags = vec![Tag::REFERENCED_STUDY_SEQUENCE, Tag::new(0x0040, 0x0275)];
        let sequence = (prop::sample::select(tags), any::<bool>(), items)
            .prop_map(|(tag, undefined, items)| Node::Sequence(tag, undefined, items));
        proptest::collection::vec(prop_oneof![2 => plain(), 1 => sequence], 0..4)
    })
}

proptest! {
    #[test]
    fn trees_go_around(nodes in nodes(), step in 1usize..100) {
        let mut encoded = Vec::new();
        for syntax in SYNTAXES {
            let mut bytes = Vec::new();
            encode(&nodes, syntax.encoding(), &mut bytes);
            encoded.push(bytes);
        }
        for (from, source) in SYNTAXES.iter().zip(&encoded) {
            for (to, wanted) in SYNTAXES.iter().zip(&encoded) {
                let whole = convert_elements(source, from.encoding(), to.encoding());
                prop_assert_eq!(whole.as_ref(), Ok(wanted));
                if !source.is_empty() {
                    let streamed = stream(source, *from, *to, step);
                    prop_assert_eq!(streamed.as_ref(), Ok(wanted));
                }
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        step in 1usize..50,
    ) {
        for from in SYNTAXES {
            let mut object = object_with_pixels(from.encoding(), 40);
            for (index, byte) in &damage {
                let at = index.index(object.len());
                object[at] = *byte;
            }
            for to in SYNTAXES {
                for bytes in [&bytes, &object] {
                    let _ = convert_elements(bytes, from.encoding(), to.encoding());
                    let converted = stream(bytes, from, to, step);
                    let scanned = scan(bytes, from, ScanLimits::default());
                    if scanned.is_ok_and(|scanned| scanned.pixel.is_none_or(|p| p.length.is_some())) {
                        let lossy = matches!(
                            converted,
                            Err(ConvertError::Element(ElementError::NoSequence(_)))
                        );
                        prop_assert!(lossy || converted.is_ok());
                    }
                }
            }
        }
    }
}

#[test]
fn sequences_of_undefined_length_stay_so() {
    let mut source = Vec::new();
    let mut content = Vec::new();
    put(&mut content, Tag::ROWS, Vr::Us, &[1, 0], EXPLICIT);
    sequence(
        &mut source,
        Tag::REFERENCED_STUDY_SEQUENCE,
        &content,
        EXPLICIT,
    );
    let there = convert_elements(&source, EXPLICIT, IMPLICIT).unwrap();
    assert_eq!(
        convert_elements(&there, IMPLICIT, EXPLICIT).unwrap(),
        source
    );
}
