//! Conversion between the uncompressed transfer syntaxes, in pieces and as a whole.
//!
//! The first byte chooses source, target and size of pieces. How the input is cut must not matter; what
//! comes out must be a sound data set of the target syntax; and there and back again must arrive where the
//! first step arrived.

use pyserver_proto::convert::{ConvertError, DatasetConverter, convert_elements};
use pyserver_proto::scan::{ScanLimits, scan};
use pyserver_proto::transfer_syntax::TransferSyntax;

use crate::input::{Input, piece_bytes};

const SYNTAXES: [TransferSyntax; 3] = [
    TransferSyntax::ImplicitLittleEndian,
    TransferSyntax::ExplicitLittleEndian,
    TransferSyntax::ExplicitBigEndian,
];

/// Every pair of syntaxes.
pub fn convert(data: &[u8]) {
    let mut input = Input::new(data);
    let (Some(from), Some(to)) = (input.choose(&SYNTAXES), input.choose(&SYNTAXES)) else {
        return;
    };
    let piece = piece_bytes(input.byte());
    let bytes = input.rest();
    let whole = convert_pieces(bytes, from, to, usize::MAX);
    let pieces = convert_pieces(bytes, from, to, piece);
    assert_eq!(
        whole.is_ok(),
        pieces.is_ok(),
        "a conversion depends on how its bytes are cut: {whole:?} {pieces:?}"
    );
    let at_once = convert_elements(bytes, from.encoding(), to.encoding());
    let Ok(converted) = whole else { return };
    assert_eq!(Ok(&converted), pieces.as_ref());
    let Ok(at_once) = at_once else {
        panic!("a stream is converted, its bytes at once are not: {at_once:?}");
    };
    // They may differ in US and SS only, where the stream comes to Pixel Representation too late.
    assert_eq!(converted.len(), at_once.len());
    if converted.is_empty() {
        return;
    }
    // The scanner judges more than the converter does, such as a second patient ID.
    if scan(bytes, from, ScanLimits::default()).is_ok() {
        let scanned = scan(&converted, to, ScanLimits::default());
        assert!(scanned.is_ok(), "the result is no data set: {scanned:?}");
    }
    let Ok(back) = convert_pieces(&converted, to, from, piece) else {
        panic!("what was converted cannot be converted back");
    };
    let again = convert_pieces(&back, from, to, piece);
    assert_eq!(again, Ok(converted), "there and back is not the same");
}

fn convert_pieces(
    bytes: &[u8],
    from: TransferSyntax,
    to: TransferSyntax,
    piece: usize,
) -> Result<Vec<u8>, ConvertError> {
    let mut converter = DatasetConverter::new(from, to, ScanLimits::default())?;
    let mut out = Vec::new();
    for piece in bytes.chunks(piece) {
        converter.push(piece, &mut out)?;
    }
    converter.finish()?;
    Ok(out)
}
