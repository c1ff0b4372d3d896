//! From a stored object to the payload of P-DATA-TF PDUs: bytes read to their places between headers.

use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut};

use pyserver_store::ready_object::{Content, ReadyObject};

/// Gaps given to one `preadv` (LIMIT: IOV_MAX is 1024 on Linux).
const GAPS_PER_READ: usize = 512;

/// Reads the bytes from `at` into the payload gaps of a frame: slots of `stride` bytes, each
/// with a header of `header` bytes that stays untouched.
///
/// Errors: the file is shorter than it was, or cannot be read.
pub fn fill(
    object: &ReadyObject,
    at: u64,
    frame: &mut [u8],
    stride: usize,
    header: usize,
) -> io::Result<()> {
    let gaps = frame
        .chunks_mut(stride)
        .filter_map(|slot| slot.get_mut(header..));
    match &object.content {
        Content::Memory(bytes) => copy_gaps(bytes, at, gaps),
        Content::Spare(bytes) => copy_gaps(bytes, at, gaps),
        Content::Shared(file) => read_gaps(file, at, gaps),
        Content::File { file, offset } => read_gaps(file, offset + at, gaps),
    }
}

/// Copies consecutive bytes from `at` on into the gaps.
fn copy_gaps<'f>(
    bytes: &[u8],
    at: u64,
    gaps: impl Iterator<Item = &'f mut [u8]>,
) -> io::Result<()> {
    let mut rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
    for gap in gaps {
        let (now, later) = rest
            .and_then(|rest| rest.split_at_checked(gap.len()))
            .ok_or(ErrorKind::UnexpectedEof)?;
        gap.copy_from_slice(now);
        rest = Some(later);
    }
    Ok(())
}

/// Reads consecutive bytes at `offset` into the gaps, with as few calls as the system allows.
fn read_gaps<'f>(
    file: &File,
    mut offset: u64,
    gaps: impl Iterator<Item = &'f mut [u8]>,
) -> io::Result<()> {
    let mut gaps = gaps.peekable();
    while gaps.peek().is_some() {
        let mut slices: Vec<IoSliceMut<'_>> = gaps
            .by_ref()
            .take(GAPS_PER_READ)
            .map(IoSliceMut::new)
            .collect();
        let mut rest = slices.as_mut_slice();
        while rest.iter().any(|slice| !slice.is_empty()) {
            let n = rustix::io::preadv(file, rest, offset)?;
            if n == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            offset += n as u64;
            IoSliceMut::advance_slices(&mut rest, n);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pyserver_proto::transfer_syntax::TransferSyntax;

    use super::*;

    fn filled(content: Content) -> Vec<u8> {
        let syntax = TransferSyntax::ImplicitLittleEndian;
        let object = ReadyObject {
            syntax,
            content,
            length: 10,
        };
        let mut frame = vec![b'.'; 9];
        fill(&object, 2, &mut frame, 4, 1).unwrap();
        frame
    }

    #[test]
    fn payload_lands_between_the_headers_from_memory_and_from_a_file() {
        assert_eq!(
            filled(Content::Memory(b"0123456789".to_vec())),
            b".234.567."
        );
        let path = std::env::temp_dir().join(format!("outgoing-{}", std::process::id()));
        std::fs::write(&path, b"xx0123456789").unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(filled(Content::File { file, offset: 2 }), b".234.567.");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        let syntax = TransferSyntax::ImplicitLittleEndian;
        let content = Content::Memory(vec![0; 4]);
        let object = ReadyObject {
            syntax,
            content,
            length: 10,
        };
        assert!(fill(&object, 0, &mut [0; 8], 8, 0).is_err());
    }
}
