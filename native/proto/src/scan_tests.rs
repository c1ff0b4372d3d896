//! Tests of the header scanner: every split, every fault, any bytes.

use proptest::prelude::*;

use super::*;
use crate::dataset::{Dataset, DatasetError, DatasetLimits};
use crate::element::UNDEFINED_LENGTH;
use crate::testdata::{head, object, object_with_pixels, put, sequence};
use crate::transfer_syntax::Encoding;
use crate::uid::Uid;

const EXPLICIT: Encoding = Encoding::EXPLICIT_LE;
const SYNTAXES: [TransferSyntax; 3] = [
    TransferSyntax::ImplicitLittleEndian,
    TransferSyntax::ExplicitLittleEndian,
    TransferSyntax::ExplicitBigEndian,
];

fn jpeg() -> TransferSyntax {
    TransferSyntax::Encapsulated(Uid::from_static("1.2.840.10008.1.2.4.70"))
}

fn scan_explicit(bytes: &[u8]) -> Result<Scanned, ScanError> {
    scan(
        bytes,
        TransferSyntax::ExplicitLittleEndian,
        ScanLimits::default(),
    )
}

fn kind_of(bytes: &[u8]) -> ScanErrorKind {
    scan_explicit(bytes).unwrap_err().kind
}

/// Everything a scan tells, for comparing two of them.
fn summary(scanned: &Scanned) -> String {
    let Scanned {
        header,
        dataset_bytes,
        inflated_bytes,
        pixel,
        bulk,
        warnings,
    } = scanned;
    format!(
        "{:?} {:?} {dataset_bytes} {inflated_bytes} {pixel:?} {bulk:?} {warnings:?}",
        header.bytes(),
        header.elements()
    )
}

#[test]
fn three_encodings_give_the_same_values() {
    for syntax in SYNTAXES {
        let bytes = object_with_pixels(syntax.encoding(), 300);
        let scanned = scan(&bytes, syntax, ScanLimits::default()).unwrap();
        let header = &scanned.header;
        assert_eq!(
            header.get(Tag::SOP_INSTANCE_UID),
            Some(b"1.2.3.4".as_slice())
        );
        assert_eq!(header.text(Tag::PATIENT_NAME).unwrap(), "Müller^Hans");
        assert_eq!(header.text(Tag::ROWS).unwrap(), "512");
        assert_eq!(header.u16(Tag::COLUMNS), Some(256));
        assert_eq!(header.get(Tag::PATIENT_BIRTH_DATE), None);
        let value = |path: &str| {
            let path = path.parse().unwrap();
            header
                .path(&path)
                .and_then(|value| value.text_bytes())
                .map(|text| text.to_vec())
        };
        assert_eq!(value("0008,1110/0008,1155").unwrap(), b"1.2.9");
        assert_eq!(value("0008,1120.1/0008,1155").unwrap(), b"1.2.9");
        assert_eq!(value("0008,1120.0/0008,1155"), None);
        assert_eq!(value("0010,0020").unwrap(), b"P1");
        let found = header.search(Tag::REFERENCED_SOP_INSTANCE_UID).unwrap();
        assert_eq!(found.raw(), b"1.2.9\0");
        assert_eq!(header.items(Tag::REFERENCED_PATIENT_SEQUENCE).count(), 2);
        let pixel = scanned.pixel.unwrap();
        assert_eq!(pixel.length, Some(300));
        assert_eq!(pixel.end_offset, bytes.len() as u64);
        assert_eq!(pixel.value_offset, bytes.len() as u64 - 300);
        assert_eq!(scanned.warnings, []);
        assert_eq!(header.bytes(), object(syntax.encoding()));
        let again = Header::parse(header.bytes(), syntax).unwrap();
        assert_eq!(again.elements(), header.elements());
    }
}

fn fragments(out: &mut Vec<u8>, fragments: &[&[u8]]) {
    head(out, Tag::PIXEL_DATA, Vr::Ob, UNDEFINED_LENGTH, EXPLICIT);
    for fragment in fragments {
        put(out, Tag::ITEM, Vr::Un, fragment, EXPLICIT);
    }
    head(out, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, EXPLICIT);
}

#[test]
fn encapsulated_pixel_data_lists_its_fragments() {
    let mut bytes = object(EXPLICIT);
    let start = bytes.len() as u64;
    fragments(&mut bytes, &[b"", b"abcd", b"efghij"]);
    put(
        &mut bytes,
        Tag::new(0xFFFC, 0xFFFC),
        Vr::Ob,
        &[0; 8],
        EXPLICIT,
    );
    let scanned = scan(&bytes, jpeg(), ScanLimits::default()).unwrap();
    let pixel = scanned.pixel.unwrap();
    assert_eq!(pixel.length, None);
    assert_eq!(
        pixel.fragments,
        [(start + 20, 0), (start + 28, 4), (start + 40, 6)]
    );
    assert_eq!(pixel.fragment_count, 3);
    assert_eq!(pixel.end_offset, start + 54);
    assert_eq!(scanned.warnings, []);
    assert!(scanned.header.get(Tag::new(0xFFFC, 0xFFFC)).is_some());
    let limits = ScanLimits {
        fragments_max: 1,
        ..ScanLimits::default()
    };
    let pixel = scan(&bytes, jpeg(), limits).unwrap().pixel.unwrap();
    assert_eq!((pixel.fragments.len(), pixel.fragment_count), (1, 3));
}

#[test]
fn every_split_gives_the_same() {
    let mut encapsulated = object(EXPLICIT);
    fragments(&mut encapsulated, &[b"", b"abcd"]);
    put(
        &mut encapsulated,
        Tag::new(0xFFFC, 0xFFFC),
        Vr::Ob,
        &[0; 8],
        EXPLICIT,
    );
    let mut cases = vec![(jpeg(), encapsulated)];
    for syntax in SYNTAXES {
        cases.push((syntax, object_with_pixels(syntax.encoding(), 40)));
    }
    for (syntax, bytes) in cases {
        let whole = summary(&scan(&bytes, syntax, ScanLimits::default()).unwrap());
        for cut in 0..=bytes.len() {
            let mut scanner = HeaderScanner::new(syntax, ScanLimits::default());
            scanner.push(&bytes[..cut]).unwrap();
            scanner.push(&bytes[cut..]).unwrap();
            assert_eq!(summary(&scanner.finish().unwrap()), whole, "cut at {cut}");
        }
        let mut scanner = HeaderScanner::new(syntax, ScanLimits::default());
        for byte in &bytes {
            scanner.push(&[*byte]).unwrap();
        }
        assert_eq!(summary(&scanner.finish().unwrap()), whole);
    }
}

#[test]
fn every_truncation_is_found() {
    for syntax in SYNTAXES {
        let bytes = object_with_pixels(syntax.encoding(), 40);
        let whole = scan(&bytes, syntax, ScanLimits::default()).unwrap();
        let mut boundaries: Vec<u64> = whole
            .header
            .elements()
            .iter()
            .map(|e| u64::from(e.offset - u32::from(e.head_bytes)))
            .collect();
        boundaries.push(whole.pixel.unwrap().element_offset);
        for cut in 0..bytes.len() {
            let result = scan(&bytes[..cut], syntax, ScanLimits::default());
            assert_eq!(
                result.is_ok(),
                cut > 0 && boundaries.contains(&(cut as u64)),
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn long_values_are_counted_past() {
    let mut bytes = object(EXPLICIT);
    let document = Tag::new(0x0042, 0x0011);
    put(&mut bytes, document, Vr::Ob, &vec![1; 70_000], EXPLICIT);
    put(
        &mut bytes,
        Tag::new(0x0042, 0x0012),
        Vr::Lo,
        b"application/pdf ",
        EXPLICIT,
    );
    let scanned = scan_explicit(&bytes).unwrap();
    assert_eq!(scanned.bulk.len(), 1);
    assert_eq!(
        (scanned.bulk[0].tag, scanned.bulk[0].length),
        (document, 70_000)
    );
    assert_eq!(scanned.header.get(document), None);
    assert!(scanned.header.get(Tag::new(0x0042, 0x0012)).is_some());
    assert!(scanned.header.bytes().len() < 1000);
}

/// What stands before the faults: a data set up to group 0020.
fn start() -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, Tag::SOP_INSTANCE_UID, Vr::Ui, b"1.2\0", EXPLICIT);
    out
}

#[test]
fn malformed_data_sets_are_refused() {
    use ScanErrorKind as Kind;
    let sq = Tag::new(0x0040, 0x0275);
    let with = |build: &dyn Fn(&mut Vec<u8>)| {
        let mut out = start();
        build(&mut out);
        kind_of(&out)
    };
    let delimiter = |tag| with(&|out| head(out, tag, Vr::Un, 0, EXPLICIT));
    assert_eq!(kind_of(b""), Kind::Empty);
    assert!(matches!(kind_of(b"\0"), Kind::Truncated(_)));
    assert_eq!(
        delimiter(Tag::ITEM_DELIMITATION),
        Kind::Unexpected(Tag::ITEM_DELIMITATION)
    );
    assert_eq!(
        delimiter(Tag::SEQUENCE_DELIMITATION),
        Kind::Unexpected(Tag::SEQUENCE_DELIMITATION)
    );
    assert_eq!(delimiter(Tag::ITEM), Kind::Unexpected(Tag::ITEM));
    let text = Tag::new(0x0040, 0xA160);
    assert_eq!(
        with(&|out| head(out, text, Vr::Ut, UNDEFINED_LENGTH, EXPLICIT)),
        Kind::UndefinedLength(text, Vr::Ut)
    );
    assert_eq!(
        with(&|out| {
            head(out, sq, Vr::Sq, 16, EXPLICIT);
            head(out, Tag::ITEM, Vr::Un, 1000, EXPLICIT);
            out.extend_from_slice(&[0; 8]);
        }),
        Kind::Overrun(Tag::ITEM)
    );
    assert!(matches!(
        with(&|out| {
            head(out, sq, Vr::Sq, 16, EXPLICIT);
            out.extend_from_slice(&[0x34, 0x12, 0x78, 0x56, 8, 0, 0, 0]);
            out.extend_from_slice(&[0; 8]);
        }),
        Kind::Unexpected(_)
    ));
    assert_eq!(
        with(&|out| head(out, sq, Vr::Sq, UNDEFINED_LENGTH, EXPLICIT)),
        Kind::Truncated(sq)
    );
    assert!(matches!(
        with(&|out| out.extend_from_slice(b"\xe0\x7f\x10\0\0\0\x04\0abcd")),
        Kind::BadVr(_)
    ));
    assert_eq!(
        with(&|out| put(out, Tag::SOP_INSTANCE_UID, Vr::Ui, b"1.3\0", EXPLICIT)),
        Kind::Duplicate(Tag::SOP_INSTANCE_UID)
    );
    // The same bytes, but numbers.
    assert_eq!(
        with(&|out| put(out, Tag::SOP_INSTANCE_UID, Vr::Ul, b"1.2\0", EXPLICIT)),
        Kind::Duplicate(Tag::SOP_INSTANCE_UID)
    );
    assert_eq!(
        with(&|out| {
            put(out, Tag::PIXEL_DATA, Vr::Ow, b"ab", EXPLICIT);
            put(out, Tag::PIXEL_DATA, Vr::Ow, b"ab", EXPLICIT);
        }),
        Kind::Duplicate(Tag::PIXEL_DATA)
    );
    let mut meta = Vec::new();
    put(
        &mut meta,
        Tag::TRANSFER_SYNTAX_UID,
        Vr::Ui,
        b"1.2.840.10008.1.2\0",
        EXPLICIT,
    );
    meta.extend(start());
    assert_eq!(
        kind_of(&meta),
        Kind::ForbiddenGroup(Tag::TRANSFER_SYNTAX_UID)
    );
    let mut file = vec![0; 128];
    file.extend_from_slice(b"DICM");
    file.extend(start());
    for syntax in SYNTAXES {
        let error = scan(&file, syntax, ScanLimits::default()).unwrap_err();
        assert_eq!((error.kind, error.status()), (Kind::FileInside, 0xC000));
    }
}

#[test]
fn fragments_in_an_item_are_so_whatever_their_vr() {
    for vr in [b"OB", b"ZZ"] {
        let mut content = Vec::new();
        fragments(&mut content, &[b"", b"abcd"]);
        content[4..6].copy_from_slice(vr);
        let mut bytes = object(EXPLICIT);
        sequence(&mut bytes, Tag::new(0x0088, 0x0200), &content, EXPLICIT);
        let header = scan_explicit(&bytes).unwrap().header;
        assert!(header.search(Tag::ITEM).is_none());
        assert!(header.search(Tag::PIXEL_DATA).is_some());
        let decoded = Dataset::decode(&bytes, SYNTAXES[1], &DatasetLimits::default());
        assert_eq!(decoded, Err(DatasetError::Encapsulated(Tag::PIXEL_DATA)));
    }
}

#[test]
fn malformed_fragments_are_refused() {
    let with = |build: &dyn Fn(&mut Vec<u8>)| {
        let mut out = start();
        head(
            &mut out,
            Tag::PIXEL_DATA,
            Vr::Ob,
            UNDEFINED_LENGTH,
            EXPLICIT,
        );
        put(&mut out, Tag::ITEM, Vr::Un, b"", EXPLICIT);
        build(&mut out);
        scan(&out, jpeg(), ScanLimits::default()).unwrap_err().kind
    };
    assert_eq!(with(&|_| {}), ScanErrorKind::Truncated(Tag::PIXEL_DATA));
    assert_eq!(
        with(&|out| head(out, Tag::ITEM, Vr::Un, UNDEFINED_LENGTH, EXPLICIT)),
        ScanErrorKind::UndefinedLength(Tag::ITEM, Vr::Un)
    );
    assert!(matches!(
        with(&|out| head(out, Tag::ITEM, Vr::Un, 0x7FFF_FFF0, EXPLICIT)),
        ScanErrorKind::Truncated(_)
    ));
    let wrong = Tag::new(0x1234, 0xE000);
    assert!(matches!(
        with(&|out| out.extend_from_slice(b"\x34\x12\0\xe0\x04\0\0\0abcd")),
        ScanErrorKind::Unexpected(tag) if tag == wrong
    ));
}

#[test]
fn the_wrong_transfer_syntax_is_noticed() {
    let implicit = TransferSyntax::ImplicitLittleEndian;
    let error = scan(&object(EXPLICIT), implicit, ScanLimits::default()).unwrap_err();
    assert_eq!(
        error.kind,
        ScanErrorKind::LooksExplicit(Tag::SPECIFIC_CHARACTER_SET)
    );
    assert!(matches!(
        kind_of(&object(Encoding::IMPLICIT_LE)),
        ScanErrorKind::BadVr(_)
    ));
    assert!(scan_explicit(&object(Encoding::EXPLICIT_BE)).is_err());
}

#[test]
fn tolerated_faults_are_warnings() {
    let mut out = Vec::new();
    put(&mut out, Tag::PIXEL_DATA, Vr::Ob, &[0; 255], EXPLICIT);
    put(&mut out, Tag::PATIENT_ID, Vr::Lo, b"P1", EXPLICIT);
    put(&mut out, Tag::SOP_INSTANCE_UID, Vr::Ui, b"1.2\0", EXPLICIT);
    put(&mut out, Tag::SOP_INSTANCE_UID, Vr::Ui, b"1.2 ", EXPLICIT);
    out.extend_from_slice(b"\xe1\x7f\x10\0ZZ\x02\0xx");
    let scanned = scan(&out, jpeg(), ScanLimits::default()).unwrap();
    let wanted = [
        ScanWarning::OddLength(Tag::PIXEL_DATA),
        ScanWarning::NativePixels,
        ScanWarning::OutOfOrder(Tag::PATIENT_ID),
        ScanWarning::OutOfOrder(Tag::SOP_INSTANCE_UID),
        ScanWarning::UnknownVr(Tag::new(0x7FE1, 0x0010)),
        ScanWarning::Duplicate(Tag::SOP_INSTANCE_UID),
    ];
    assert_eq!(scanned.warnings, wanted);
    assert_eq!(
        scanned.header.get(Tag::SOP_INSTANCE_UID),
        Some(b"1.2".as_slice())
    );
    assert_eq!(scanned.pixel.unwrap().header_position, 0);
}

#[test]
fn un_content_is_implicit_or_explicit() {
    let private = Tag::new(0x0043, 0x1010);
    for inner in [Encoding::IMPLICIT_LE, EXPLICIT] {
        let mut out = start();
        let mut content = Vec::new();
        put(&mut content, Tag::PATIENT_ID, Vr::Lo, b"xx", inner);
        let copy = content.clone();
        sequence(&mut content, Tag::REFERENCED_STUDY_SEQUENCE, &copy, inner);
        head(&mut out, private, Vr::Un, UNDEFINED_LENGTH, EXPLICIT);
        head(&mut out, Tag::ITEM, Vr::Un, 0, EXPLICIT);
        put(&mut out, Tag::ITEM, Vr::Un, &content, EXPLICIT);
        head(&mut out, Tag::ITEM, Vr::Un, UNDEFINED_LENGTH, EXPLICIT);
        out.extend_from_slice(&content);
        head(&mut out, Tag::ITEM_DELIMITATION, Vr::Un, 0, EXPLICIT);
        head(&mut out, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, EXPLICIT);
        put(&mut out, Tag::new(0x0043, 0x1011), Vr::Lo, b"yy", EXPLICIT);
        let scanned = scan_explicit(&out).unwrap();
        assert_eq!(scanned.warnings.len(), usize::from(inner.explicit));
        let header = scanned.header;
        assert_eq!(header.items(private).count(), 3);
        assert_eq!(header.search(Tag::PATIENT_ID).unwrap().raw(), b"xx");
        let nested = "0043,1010.2/0008,1110/0010,0020".parse().unwrap();
        assert_eq!(header.path(&nested).unwrap().raw(), b"xx");
        assert_eq!(header.get(Tag::new(0x0043, 0x1011)), Some(b"yy".as_slice()));
    }
}

fn nested(depth: usize, encoding: Encoding) -> Vec<u8> {
    let mut out = start();
    if !encoding.explicit {
        out.clear();
        put(&mut out, Tag::SOP_INSTANCE_UID, Vr::Ui, b"1.2\0", encoding);
    }
    for _ in 0..depth {
        head(
            &mut out,
            Tag::new(0x0040, 0x0275),
            Vr::Sq,
            UNDEFINED_LENGTH,
            encoding,
        );
        head(&mut out, Tag::ITEM, Vr::Un, UNDEFINED_LENGTH, encoding);
    }
    for _ in 0..depth {
        head(&mut out, Tag::ITEM_DELIMITATION, Vr::Un, 0, encoding);
        head(&mut out, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, encoding);
    }
    out
}

#[test]
fn nesting_has_a_limit() {
    for (syntax, encoding) in [
        (TransferSyntax::ExplicitLittleEndian, EXPLICIT),
        (TransferSyntax::ImplicitLittleEndian, Encoding::IMPLICIT_LE),
    ] {
        for (depth, fits) in [(50, true), (64, true), (65, false), (10_000, false)] {
            let result = scan(&nested(depth, encoding), syntax, ScanLimits::default());
            match result {
                Ok(scanned) => {
                    assert!(fits);
                    assert!(scanned.header.search(Tag::PATIENT_ID).is_none());
                }
                Err(error) => assert_eq!((fits, error.kind), (false, ScanErrorKind::TooDeep(64))),
            }
        }
    }
    let mut bytes = Vec::new();
    for _ in 0..3000 {
        let mut outer = Vec::new();
        let mut item = Vec::new();
        put(&mut item, Tag::ITEM, Vr::Un, &bytes, Encoding::IMPLICIT_LE);
        put(
            &mut outer,
            Tag::new(0x0040, 0x0275),
            Vr::Sq,
            &item,
            Encoding::IMPLICIT_LE,
        );
        bytes = outer;
    }
    let error = scan(
        &bytes,
        TransferSyntax::ImplicitLittleEndian,
        ScanLimits::default(),
    )
    .unwrap_err();
    assert_eq!(error.kind, ScanErrorKind::TooDeep(64));
}

#[test]
fn sums_have_limits() {
    let limits = ScanLimits {
        elements_max: 3,
        header_bytes_max: 4096,
        ..ScanLimits::default()
    };
    let check = |bytes: &[u8]| {
        scan(bytes, TransferSyntax::ExplicitLittleEndian, limits)
            .map(drop)
            .map_err(|error| error.kind)
    };
    assert_eq!(
        check(&object(EXPLICIT)),
        Err(ScanErrorKind::TooManyElements(3))
    );
    let mut out = Vec::new();
    put(&mut out, Tag::PATIENT_ID, Vr::Ut, &[b'x'; 4090], EXPLICIT);
    assert_eq!(check(&out), Err(ScanErrorKind::HeaderTooLarge(4096)));
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec(bytes, 6)
}

#[test]
fn deflated_data_sets() {
    let plain = object_with_pixels(EXPLICIT, 100_000);
    let mut packed = deflate(&plain);
    if packed.len() % 2 == 1 {
        packed.push(0);
    }
    for step in [1, 7, packed.len()] {
        let mut scanner = HeaderScanner::new(TransferSyntax::Deflated, ScanLimits::default());
        for piece in packed.chunks(step) {
            scanner.push(piece).unwrap();
        }
        let scanned = scanner.finish().unwrap();
        assert_eq!(scanned.header.bytes(), object(EXPLICIT));
        assert_eq!(scanned.dataset_bytes, packed.len() as u64);
        assert_eq!(scanned.inflated_bytes, plain.len() as u64);
        assert_eq!(scanned.pixel.unwrap().length, Some(100_000));
        assert_eq!(scanned.warnings, []);
    }
    let error = |bytes: &[u8]| {
        scan(bytes, TransferSyntax::Deflated, ScanLimits::default())
            .unwrap_err()
            .kind
    };
    assert_eq!(error(b""), ScanErrorKind::Empty);
    assert_eq!(error(&packed[..packed.len() / 2]), ScanErrorKind::Deflate);
    assert_eq!(error(&[0xFF; 3000]), ScanErrorKind::Deflate);
}

#[test]
fn a_deflate_bomb_is_cut_short() {
    let plain = object_with_pixels(EXPLICIT, 4 << 20);
    let limits = ScanLimits {
        deflate_free_bytes: 1 << 20,
        ..ScanLimits::default()
    };
    let error = scan(&deflate(&plain), TransferSyntax::Deflated, limits).unwrap_err();
    assert_eq!(error.kind, ScanErrorKind::DeflateRatio(100));
    assert!(error.offset < 3 << 20);
}

#[test]
fn an_error_stays() {
    let mut scanner =
        HeaderScanner::new(TransferSyntax::ExplicitLittleEndian, ScanLimits::default());
    let first = scanner.push(&[0xFF; 20]).unwrap_err();
    assert_eq!(scanner.push(&object(EXPLICIT)), Err(first));
    assert_eq!(scanner.finish().unwrap_err(), first);
}

fn any_syntax() -> impl Strategy<Value = TransferSyntax> {
    prop_oneof![
        Just(TransferSyntax::ImplicitLittleEndian),
        Just(TransferSyntax::ExplicitLittleEndian),
        Just(TransferSyntax::ExplicitBigEndian),
        Just(TransferSyntax::Deflated),
        Just(jpeg()),
    ]
}

/// A valid object with some bytes changed, which comes deeper into the code than random bytes do.
fn damaged() -> impl Strategy<Value = (TransferSyntax, Vec<u8>)> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (prop::sample::select(SYNTAXES.to_vec()), changes).prop_map(|(syntax, changes)| {
        let mut bytes = object_with_pixels(syntax.encoding(), 40);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        (syntax, bytes)
    })
}

proptest! {
    #[test]
    fn any_bytes_never_panic(
        syntax in any_syntax(),
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let _ = scan(&bytes, syntax, ScanLimits::default());
    }

    #[test]
    fn damaged_objects_scan_alike_in_pieces((syntax, bytes) in damaged(), step in 1usize..60) {
        let whole = scan(&bytes, syntax, ScanLimits::default());
        let mut scanner = HeaderScanner::new(syntax, ScanLimits::default());
        let pieces: Result<(), ScanError> =
            bytes.chunks(step).try_for_each(|piece| scanner.push(piece).map(drop));
        match (whole, pieces.and_then(|()| scanner.finish())) {
            (Ok(whole), Ok(pieces)) => {
                prop_assert_eq!(summary(&whole), summary(&pieces));
                let header = whole.header;
                for element in header.elements() {
                    let _ = header.text(element.tag);
                    let _ = header.items(element.tag).map(|item| item.elements().count()).sum::<usize>();
                }
                let _ = header.search(Tag(0x7FFF_FFFF));
            }
            (Err(whole), Err(pieces)) => prop_assert_eq!(whole, pieces),
            (whole, pieces) => prop_assert!(false, "{:?} {:?}", whole.err(), pieces.err()),
        }
    }
}
