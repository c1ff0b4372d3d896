//! The header store's codec: a data set up to its pixel data, compressed, with the syntax it is written in.
//!
//! Record: codec u8 (1: LZ4 block), syntax u8 (0 implicit, 1 explicit little endian, 2 explicit big
//! endian), length of the plain bytes u32, compressed bytes. The header store answers questions that no
//! column answers and fills columns that did not exist when the object came.

use pyserver_proto::header::Header;
use pyserver_proto::transfer_syntax::TransferSyntax;

use crate::bytes::Reader;
use crate::index::ReadTxn;
use crate::index_error::IndexError;
use crate::schema::ImageKey;

const LZ4: u8 = 1;
/// Longest header read back. LIMIT: the scanner's own limit is smaller.
const HEADER_BYTES_MAX: usize = 256 << 20;

/// Compresses a header for `StoreChange::header`.
pub fn compress(header: &Header) -> Vec<u8> {
    let encoding = header.encoding();
    let syntax = match (encoding.explicit, encoding.big_endian) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    let bytes = header.bytes();
    let mut out = Vec::with_capacity(6 + lz4_flex::block::get_maximum_output_size(bytes.len()));
    out.extend_from_slice(&[LZ4, syntax]);
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.resize(out.capacity(), 0);
    let written = out
        .get_mut(6..)
        .and_then(|room| lz4_flex::block::compress_into(bytes, room).ok())
        .unwrap_or(0);
    out.truncate(6 + written);
    out
}

/// Reads a header back; the syntax is one of the three plain ones.
pub fn decompress(record: &[u8]) -> Result<Header, IndexError> {
    let damaged = IndexError::Corrupt("header record");
    let mut r = Reader::new(record);
    let (Some(LZ4), Some(syntax), Some(length)) = (r.u8(), r.u8(), r.u32()) else {
        return Err(damaged);
    };
    let syntax = match syntax {
        0 => TransferSyntax::ImplicitLittleEndian,
        1 => TransferSyntax::ExplicitLittleEndian,
        2 => TransferSyntax::ExplicitBigEndian,
        _ => return Err(damaged),
    };
    let length = length as usize;
    if length > HEADER_BYTES_MAX {
        return Err(damaged);
    }
    let Ok(bytes) = lz4_flex::block::decompress(r.rest(), length) else {
        return Err(damaged);
    };
    Header::parse(&bytes, syntax).map_err(|_| IndexError::Corrupt("header bytes"))
}

impl ReadTxn<'_> {
    /// The stored header of an image; `None` when the image is unknown.
    pub fn header(&self, image: ImageKey) -> Result<Option<Header>, IndexError> {
        let table = self.index.tables.headers;
        let record = table.get(&self.txn, &image.image.to_be_bytes())?;
        record
            .filter(|record| !record.is_empty())
            .map(decompress)
            .transpose()
    }
}
