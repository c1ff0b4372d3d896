//! The hash by which stored bytes are known again: XXH3 with 128 bits, big endian.
//!
//! It finds damage: a torn write, a rotten sector, a file that is not the one that was stored. It keeps no
//! secret and decides nothing that a sender could turn against others, so it need not resist one; what does is
//! hashed with BLAKE3 (see `schema`). It runs five times as fast, and every byte that arrives goes through it.

use twox_hash::XxHash3_128;

/// Bytes of a hash.
pub(crate) const HASH_BYTES: usize = 16;

/// Hash of an object's data set. Zeros stand for one that was never taken.
pub type ContentHash = [u8; HASH_BYTES];

/// The hash of bytes that come in pieces.
#[derive(Default)]
pub(crate) struct ContentHasher(XxHash3_128);

impl ContentHasher {
    /// Takes the next piece.
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.0.write(piece);
    }

    /// The hash of all pieces so far.
    pub(crate) fn finish(&self) -> ContentHash {
        self.0.finish_128().to_be_bytes()
    }
}

/// The hash of bytes that are all there.
pub(crate) fn hash(bytes: &[u8]) -> ContentHash {
    XxHash3_128::oneshot(bytes).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_xxh3() {
        let hex = |hash: ContentHash| hash.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(hex(hash(b"")), "99aa06d3014798d86001c324468d497f");
        assert_eq!(hex(hash(b"a")), "a96faf705af16834e6c632b61e964e1f");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes: Vec<u8>, at in 0_usize..4096) {
            let (start, rest) = bytes.split_at(at.min(bytes.len()));
            let mut hasher = ContentHasher::default();
            hasher.update(start);
            hasher.update(rest);
            prop_assert_eq!(hasher.finish(), hash(&bytes));
        }
    }
}
