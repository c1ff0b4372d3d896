//! Data sets in each transfer syntax: the header scanner and the decoder.
//!
//! The first byte chooses limits and the size of pieces. Cut into pieces, a data set must scan to the same
//! header, or to the same fault at the same byte. A header that was scanned must read back as itself, its
//! parts must add up to the data set, and the decoder must agree that the structure is sound.

use pyserver_proto::dataset::{Dataset, DatasetError, DatasetLimits};
use pyserver_proto::header::{ElementRef, Header};
use pyserver_proto::path::Path;
use pyserver_proto::scan::{
    BulkValue, HeaderScanner, PixelInfo, ScanError, ScanErrorKind, ScanLimits, ScanWarning,
    Scanned, scan,
};
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;
use pyserver_store::headers;

use crate::input::{Input, piece_bytes};

/// A choosing byte with this bit scans with limits that small inputs reach.
const TIGHT: u8 = 0x80;
/// A choosing byte with this bit deflates the rest first, so that the fuzzer need not.
const DEFLATE: u8 = 0x40;
/// Most bulk values that a scan remembers.
const BULK_MAX: usize = 1024;

/// Implicit little endian.
pub fn implicit(data: &[u8]) {
    dataset(TransferSyntax::ImplicitLittleEndian, data);
}

/// Explicit little endian.
pub fn explicit(data: &[u8]) {
    dataset(TransferSyntax::ExplicitLittleEndian, data);
}

/// Explicit big endian.
pub fn big_endian(data: &[u8]) {
    dataset(TransferSyntax::ExplicitBigEndian, data);
}

/// Deflated explicit little endian.
pub fn deflated(data: &[u8]) {
    dataset(TransferSyntax::Deflated, data);
}

/// Explicit little endian with pixel data in fragments.
pub fn encapsulated(data: &[u8]) {
    let rle = Uid::from_static("1.2.840.10008.1.2.5");
    dataset(TransferSyntax::Encapsulated(rle), data);
}

fn dataset(syntax: TransferSyntax, data: &[u8]) {
    let mut input = Input::new(data);
    let choices = input.byte();
    let packed;
    let mut bytes = input.rest();
    if syntax.is_deflated() && choices & DEFLATE != 0 {
        packed = miniz_oxide::deflate::compress_to_vec(bytes, 1);
        bytes = &packed;
    }
    let limits = limits(choices);
    let whole = scan(bytes, syntax, limits);
    let pieces = scan_pieces(bytes, syntax, limits, piece_bytes(choices));
    if !is_bomb(&whole) && !is_bomb(&pieces) {
        assert_eq!(
            whole.as_ref().map(facts),
            pieces.as_ref().map(facts),
            "a scan depends on how its bytes are cut"
        );
    }
    let decoded = Dataset::decode(bytes, syntax, &dataset_limits());
    if let Ok(decoded) = &decoded {
        read_back(decoded, syntax);
    }
    let Ok(scanned) = whole else { return };
    add_up(&scanned, bytes);
    reparse(&scanned.header, limits);
    read(&scanned.header);
    if choices & TIGHT == 0 {
        let header = scanned.header.bytes();
        let plain = plain(syntax);
        let decoded = Dataset::decode(header, plain, &DatasetLimits::default());
        // An icon's fragments are no value that the decoder could hold.
        assert!(
            matches!(decoded, Ok(_) | Err(DatasetError::Encapsulated(_))),
            "scanned but not decoded: {decoded:?}"
        );
    }
}

/// How far a deflate stream has grown is looked at wherever a piece of it ends, so that this verdict alone
/// may come elsewhere.
fn is_bomb(scanned: &Result<Scanned, ScanError>) -> bool {
    matches!(scanned, Err(error) if matches!(error.kind, ScanErrorKind::DeflateRatio(_)))
}

fn limits(choices: u8) -> ScanLimits {
    let default = ScanLimits::default();
    if choices & TIGHT == 0 {
        return default;
    }
    ScanLimits {
        depth_max: 4,
        elements_max: 40,
        header_bytes_max: 1000,
        value_bytes_max: 64,
        deflate_ratio_max: 4,
        deflate_free_bytes: 4096,
        fragments_max: 3,
    }
}

/// Inflating is bounded here, or the fuzzer would spend its time on bombs.
fn dataset_limits() -> DatasetLimits {
    DatasetLimits {
        bytes_max: 1 << 20,
        ..DatasetLimits::default()
    }
}

fn plain(syntax: TransferSyntax) -> TransferSyntax {
    match syntax {
        TransferSyntax::Deflated | TransferSyntax::Encapsulated(_) => {
            TransferSyntax::ExplicitLittleEndian
        }
        plain => plain,
    }
}

fn scan_pieces(
    bytes: &[u8],
    syntax: TransferSyntax,
    limits: ScanLimits,
    piece: usize,
) -> Result<Scanned, ScanError> {
    let mut scanner = HeaderScanner::new(syntax, limits);
    for piece in bytes.chunks(piece) {
        scanner.push(piece)?;
        let _incomplete = scanner.value(Tag::SOP_INSTANCE_UID);
    }
    scanner.finish()
}

type Facts<'s> = (
    &'s [u8],
    &'s [ElementRef],
    u64,
    u64,
    Option<&'s PixelInfo>,
    &'s [BulkValue],
    &'s [ScanWarning],
);

fn facts(scanned: &Scanned) -> Facts<'_> {
    (
        scanned.header.bytes(),
        scanned.header.elements(),
        scanned.dataset_bytes,
        scanned.inflated_bytes,
        scanned.pixel.as_ref(),
        &scanned.bulk,
        &scanned.warnings,
    )
}

/// Header, bulk values and pixel data together are the whole data set.
fn add_up(scanned: &Scanned, bytes: &[u8]) {
    assert_eq!(scanned.dataset_bytes, bytes.len() as u64);
    let kept = scanned.header.bytes().len() as u64;
    let mut sum = kept;
    let mut last = 0;
    for bulk in &scanned.bulk {
        assert!(bulk.element_offset >= last && u64::from(bulk.header_position) <= kept);
        last = bulk.value_offset + bulk.length;
        sum += last - bulk.element_offset;
    }
    if let Some(pixel) = &scanned.pixel {
        assert!(pixel.value_offset <= pixel.end_offset);
        assert!(pixel.end_offset <= scanned.inflated_bytes);
        assert!(u64::from(pixel.header_position) <= kept);
        assert!(pixel.fragments.len() as u64 <= pixel.fragment_count);
        let mut at = pixel.value_offset;
        for &(offset, length) in &pixel.fragments {
            assert!(offset >= at, "fragments overlap");
            at = offset + u64::from(length);
            assert!(
                at <= pixel.end_offset,
                "a fragment runs past the pixel data"
            );
        }
        sum += pixel.end_offset - pixel.element_offset;
    }
    assert!(
        sum == scanned.inflated_bytes || scanned.bulk.len() == BULK_MAX,
        "the parts have {sum} bytes, the whole {}",
        scanned.inflated_bytes
    );
}

/// A header is a data set of its own, and survives the header store.
fn reparse(header: &Header, limits: ScanLimits) {
    if header.bytes().is_empty() {
        return;
    }
    let again = Header::parse(header.bytes(), header.syntax());
    let Ok(again) = again else {
        panic!("a scanned header cannot be read: {again:?} {limits:?}");
    };
    assert_eq!(again.bytes(), header.bytes());
    assert_eq!(again.elements(), header.elements());
    let stored = headers::decompress(&headers::compress(header));
    assert!(stored.is_ok_and(|stored| stored.elements() == header.elements()));
}

/// Every way to ask a header for something.
fn read(header: &Header) {
    let inner = Tag::REFERENCED_SOP_INSTANCE_UID;
    for element in header.elements() {
        let tag = element.tag;
        assert!(header.raw(tag).is_some(), "{tag} lies outside the header");
        let _value = (header.get(tag), header.text_bytes(tag), header.text(tag));
        let _number = (header.uid(tag).map(|uid| uid.is_ok()), header.u16(tag));
        let _items = header.items(tag).count();
        if let Ok(path) = format!("{tag}.0/{inner}").parse::<Path>() {
            let _inner = header.path(&path).map(|value| value.text_bytes());
        }
    }
    let _found = header
        .search(inner)
        .map(|value| value.text(&header.charset()));
}

/// What was decoded is encoded so that it decodes to the same.
fn read_back(dataset: &Dataset, syntax: TransferSyntax) {
    let mut bytes = Vec::new();
    dataset.encode(syntax, &mut bytes);
    let again = Dataset::decode(&bytes, syntax, &DatasetLimits::default());
    let Ok(again) = again else {
        panic!("what was encoded cannot be decoded: {again:?}");
    };
    let mut twice = Vec::new();
    again.encode(syntax, &mut twice);
    assert_eq!(bytes, twice, "encoding is not stable");
    let tags = |dataset: &Dataset| dataset.iter().map(|e| e.tag).collect::<Vec<_>>();
    assert_eq!(tags(dataset), tags(&again), "elements were lost");
}
