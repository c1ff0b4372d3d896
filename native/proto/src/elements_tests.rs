//! Tests of element headers and of the walk in memory, also against the scanner.

use proptest::prelude::*;

use super::*;
use crate::element::{UNDEFINED_LENGTH, write_head};
use crate::scan::{ScanLimits, scan};
use crate::testdata::{head, object, object_with_pixels, put, sequence};
use crate::transfer_syntax::TransferSyntax;

const ENCODINGS: [Encoding; 3] = [
    Encoding::IMPLICIT_LE,
    Encoding::EXPLICIT_LE,
    Encoding::EXPLICIT_BE,
];
const EXPLICIT: Encoding = Encoding::EXPLICIT_LE;

fn any_head() -> impl Strategy<Value = (Tag, Vr, u32)> {
    (
        any::<u32>(),
        prop::sample::select(Vr::ALL.to_vec()),
        any::<u32>(),
    )
        .prop_map(|(tag, vr, length)| (Tag(tag), vr, length))
}

proptest! {
    #[test]
    fn heads_come_back((tag, vr, length) in any_head(), encoding in 0usize..3) {
        let encoding = ENCODINGS[encoding];
        let mut bytes = Vec::new();
        write_head(&mut bytes, tag, vr, length, encoding);
        let HeadRead::Head(head) = read_head(&bytes, encoding) else {
            return Err(TestCaseError::fail("no head"));
        };
        prop_assert_eq!((head.tag, head.length, usize::from(head.bytes)), (tag, length, bytes.len()));
        if encoding.explicit && !tag.is_delimiter() {
            let long = vr.has_long_length() || length > 0xFFFF;
            prop_assert_eq!(head.vr, if long && !vr.has_long_length() { Vr::Un } else { vr });
            prop_assert_eq!(head.bytes, if long { 12 } else { 8 });
        }
        for cut in 0..bytes.len() {
            let read = read_head(&bytes[..cut], encoding);
            prop_assert!(matches!(read, HeadRead::Need(bytes) if bytes > cut));
        }
    }

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for encoding in ENCODINGS {
            for element in Elements::new(&bytes, encoding).map_while(Result::ok) {
                let _ = Items::new(&element).map_while(Result::ok).count();
            }
        }
    }

    #[test]
    fn the_walk_agrees_with_the_scanner(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        encoding in 0usize..3,
    ) {
        let encoding = ENCODINGS[encoding];
        let syntax = match encoding {
            Encoding::IMPLICIT_LE => TransferSyntax::ImplicitLittleEndian,
            Encoding::EXPLICIT_LE => TransferSyntax::ExplicitLittleEndian,
            _ => TransferSyntax::ExplicitBigEndian,
        };
        let mut bytes = object_with_pixels(encoding, 20);
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(scanned) = scan(&bytes, syntax, ScanLimits::default()) {
            let walked: Result<Vec<_>, _> = Elements::new(scanned.header.bytes(), encoding).collect();
            let walked = walked.map(|walked| walked.len());
            prop_assert_eq!(walked, Ok(scanned.header.elements().len()));
        }
    }
}

#[test]
fn values_leave_their_delimiter_out() {
    for encoding in ENCODINGS {
        let bytes = object(encoding);
        let elements: Vec<RawElement<'_>> = Elements::new(&bytes, encoding)
            .map(Result::unwrap)
            .collect();
        let tags: Vec<Tag> = elements.iter().map(|element| element.head.tag).collect();
        assert_eq!(tags.len(), 12);
        let sequence = elements
            .iter()
            .find(|e| e.head.tag == Tag::REFERENCED_STUDY_SEQUENCE)
            .unwrap();
        let items: Vec<RawItem<'_>> = Items::new(sequence).map(Result::unwrap).collect();
        assert_eq!(items.len(), 1);
        assert!(items[0].undefined && sequence.head.is_undefined());
        assert_eq!(items[0].elements().count(), 2);
    }
}

#[test]
fn faults_are_named_and_end_the_walk() {
    let walk = |bytes: &[u8]| {
        let mut elements = Elements::new(bytes, EXPLICIT);
        let error = elements.find_map(Result::err);
        assert!(elements.next().is_none());
        error
    };
    let build = |build: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        build(&mut out);
        out
    };
    let study = Tag::REFERENCED_STUDY_SEQUENCE;
    let open = build(&|out| head(out, study, Vr::Sq, UNDEFINED_LENGTH, EXPLICIT));
    assert_eq!(walk(&open), Some(ElementError::Truncated));
    let text = build(&|out| head(out, Tag::PATIENT_ID, Vr::Ut, UNDEFINED_LENGTH, EXPLICIT));
    let wanted = ElementError::UndefinedLength(Tag::PATIENT_ID, Vr::Ut);
    assert_eq!(walk(&text), Some(wanted));
    let item = build(&|out| head(out, Tag::ITEM, Vr::Un, 0, EXPLICIT));
    assert_eq!(walk(&item), Some(ElementError::Unexpected(Tag::ITEM)));
    assert_eq!(
        walk(b"\x10\0\x20\0\x01\x02\0\0"),
        Some(ElementError::BadVr(Tag::PATIENT_ID))
    );
    assert_eq!(
        walk(b"\x10\0\x20\0LO\x09\0abc"),
        Some(ElementError::Truncated)
    );
    let mut deep = Vec::new();
    for _ in 0..2000 {
        head(&mut deep, study, Vr::Sq, UNDEFINED_LENGTH, EXPLICIT);
        head(&mut deep, Tag::ITEM, Vr::Un, UNDEFINED_LENGTH, EXPLICIT);
    }
    assert_eq!(walk(&deep), Some(ElementError::TooDeep));
    let mut nested = Vec::new();
    put(&mut nested, Tag::PATIENT_ID, Vr::Lo, b"xx", EXPLICIT);
    let inner = nested.clone();
    sequence(&mut nested, study, &inner, EXPLICIT);
    assert_eq!(walk(&nested), None);
}
