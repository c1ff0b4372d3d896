//! NKI: any stream, any pixel data.

use pyserver_proto::nki::{Mode, decode, encode};

/// Decoded bytes that are allowed: more than any input here can hold without a run.
const BYTES_MAX: u64 = 1 << 20;
/// So many bytes more that no code is near the end, and all are decoded the fast way.
const ROOM: usize = 300;

/// A stream as it came; then the same bytes as pixel data, which every mode gives back. What decodes
/// has the length that the stream announces, and decodes the same when more bytes follow.
pub fn nki(data: &[u8]) {
    if let Ok(pixels) = decode(data, BYTES_MAX) {
        let claimed = data
            .first_chunk()
            .map_or(0, |count| u32::from_le_bytes(*count));
        assert_eq!(pixels.len() as u64, u64::from(claimed) * 2);
        let longer = [data, &[0; ROOM]].concat();
        assert_eq!(decode(&longer, BYTES_MAX), Ok(pixels));
    }
    let even = &data[..data.len() & !1];
    if even.is_empty() {
        return;
    }
    for mode in [Mode::N1, Mode::N2, Mode::N3, Mode::N4] {
        let stream = encode(mode, even);
        let back = stream.and_then(|stream| decode(&stream, even.len() as u64));
        assert_eq!(back.as_deref(), Ok(even), "{mode:?}");
    }
}
