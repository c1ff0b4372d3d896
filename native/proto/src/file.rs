//! Files: meta information written and read (PS3.10 chapter 7), and what a stored file begins with.
//!
//! Three layouts are read: Part 10 files; data sets with meta information but no preamble; and headerless
//! `.v2` files, which are an implicit little endian stream that may begin with (0002,0010). Written is Part 10
//! and the `.v2` beginning. No application entity titles are written: they are not needed to read a file.

use crate::dataset::{Dataset, DatasetError, DatasetLimits};
use crate::element::{HeadRead, read_head, write_head};
use crate::tag::Tag;
use crate::transfer_syntax::{Encoding, TransferSyntax};
use crate::uid::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, Uid};
use crate::vr::Vr;

/// Length of the preamble and `DICM`.
const PREAMBLE_BYTES: usize = 132;
/// Meta information longer than this is not read; real ones have some hundred bytes.
const META_BYTES_MAX: usize = 1 << 20;

/// What a file is called in its meta information. The UIDs are bytes: an archive may be told to take
/// malformed ones as they are.
#[derive(Debug, Clone, Copy)]
pub struct MetaFields<'a> {
    /// SOP class UID of the data set.
    pub sop_class_uid: &'a [u8],
    /// SOP instance UID of the data set.
    pub sop_instance_uid: &'a [u8],
    /// Transfer syntax of the data set that follows.
    pub transfer_syntax: TransferSyntax,
}

/// Preamble, `DICM` and meta information of a Part 10 file; the data set follows.
pub fn encode_part10(fields: &MetaFields<'_>) -> Vec<u8> {
    let mut meta = Vec::with_capacity(400);
    put(&mut meta, Tag::FILE_META_VERSION, Vr::Ob, &[0, 1]);
    put(
        &mut meta,
        Tag::MEDIA_STORAGE_SOP_CLASS_UID,
        Vr::Ui,
        fields.sop_class_uid,
    );
    put(
        &mut meta,
        Tag::MEDIA_STORAGE_SOP_INSTANCE_UID,
        Vr::Ui,
        fields.sop_instance_uid,
    );
    put(
        &mut meta,
        Tag::TRANSFER_SYNTAX_UID,
        Vr::Ui,
        fields.transfer_syntax.uid().as_bytes(),
    );
    put(
        &mut meta,
        Tag::IMPLEMENTATION_CLASS_UID,
        Vr::Ui,
        IMPLEMENTATION_CLASS_UID.as_bytes(),
    );
    let version = IMPLEMENTATION_VERSION_NAME.as_bytes();
    put(&mut meta, Tag::IMPLEMENTATION_VERSION_NAME, Vr::Sh, version);
    let mut out = Vec::with_capacity(PREAMBLE_BYTES + 12 + meta.len());
    out.resize(PREAMBLE_BYTES - 4, 0);
    out.extend_from_slice(b"DICM");
    put(
        &mut out,
        Tag::FILE_META_GROUP_LENGTH,
        Vr::Ul,
        &(meta.len() as u32).to_le_bytes(),
    );
    out.extend_from_slice(&meta);
    out
}

/// What a headerless `.v2` file begins with: (0002,0010) in implicit little endian. The data set that
/// follows is implicit little endian.
pub fn encode_v2_start() -> Vec<u8> {
    let mut out = Vec::with_capacity(26);
    write_head(
        &mut out,
        Tag::TRANSFER_SYNTAX_UID,
        Vr::Ui,
        18,
        Encoding::IMPLICIT_LE,
    );
    out.extend_from_slice(TransferSyntax::IMPLICIT_LE_UID.as_bytes());
    out.push(0);
    out
}

fn put(out: &mut Vec<u8>, tag: Tag, vr: Vr, value: &[u8]) {
    let padded = value.len() + value.len() % 2;
    write_head(out, tag, vr, padded as u32, Encoding::EXPLICIT_LE);
    out.extend_from_slice(value);
    out.resize(out.len() + padded - value.len(), vr.padding());
}

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileForm {
    /// Preamble, `DICM`, meta information.
    Part10,
    /// Meta information without preamble.
    MetaOnly,
    /// No meta information but perhaps (0002,0010): `.v2`, or a bare data set.
    Headerless,
}

/// What the beginning of a file tells.
#[derive(Debug, Clone)]
pub struct FileLayout {
    /// Which of the layouts it is.
    pub form: FileForm,
    /// Where the data set starts.
    pub dataset_offset: u64,
    /// Transfer syntax of the data set.
    pub syntax: TransferSyntax,
    /// The elements of group 0002; empty for a bare data set.
    pub meta: Dataset,
}

/// Why bytes are no file this crate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Neither of the layouts.
    #[error("not a DICOM file")]
    NotDicom,
    /// The meta information is longer than is read.
    #[error("the meta information is longer than {META_BYTES_MAX} bytes")]
    MetaTooLong,
    /// The meta information is broken.
    #[error("meta information: {0}")]
    Meta(#[from] DatasetError),
}

/// Looks at the first bytes of a file. `None`: more bytes are needed; at the end of the file that means
/// that it is cut off.
pub fn probe(first_bytes: &[u8]) -> Result<Option<FileLayout>, FileError> {
    if let Some(rest) = first_bytes.get(PREAMBLE_BYTES..)
        && first_bytes.get(PREAMBLE_BYTES - 4..PREAMBLE_BYTES) == Some(b"DICM")
    {
        return probe_meta(rest, PREAMBLE_BYTES, FileForm::Part10);
    }
    let Some(first) = first_bytes.first_chunk::<8>() else {
        return Ok(None);
    };
    match first {
        [2, 0, _, _, b4, b5, ..] if Vr::from_bytes([*b4, *b5]).is_some() => {
            probe_meta(first_bytes, 0, FileForm::MetaOnly)
        }
        [2, 0, ..] => probe_meta(first_bytes, 0, FileForm::Headerless),
        [4..=0x10, 0, ..] => Ok(Some(bare(0, little_endian(*first), Dataset::new()))),
        [0, 4..=0x10, _, _, b4, b5, ..] if Vr::from_bytes([*b4, *b5]).is_some() => Ok(Some(bare(
            0,
            TransferSyntax::ExplicitBigEndian,
            Dataset::new(),
        ))),
        // A preamble of zeros, or whatever a program left there.
        _ if first_bytes.len() < PREAMBLE_BYTES => Ok(None),
        _ => Err(FileError::NotDicom),
    }
}

/// Explicit or implicit, as the first element looks.
fn little_endian(first: [u8; 8]) -> TransferSyntax {
    let [_, _, _, _, b4, b5, ..] = first;
    match Vr::from_bytes([b4, b5]) {
        Some(_) => TransferSyntax::ExplicitLittleEndian,
        None => TransferSyntax::ImplicitLittleEndian,
    }
}

fn bare(dataset_offset: usize, syntax: TransferSyntax, meta: Dataset) -> FileLayout {
    let dataset_offset = dataset_offset as u64;
    FileLayout {
        form: FileForm::Headerless,
        dataset_offset,
        syntax,
        meta,
    }
}

/// Reads the elements of group 0002 at the start of `bytes`, which stand at `offset` in the file.
fn probe_meta(
    bytes: &[u8],
    offset: usize,
    form: FileForm,
) -> Result<Option<FileLayout>, FileError> {
    // Some writers leave out the VRs here, against the standard.
    let explicit = bytes.get(4..6).is_some_and(|vr| {
        vr.first_chunk::<2>()
            .is_some_and(|vr| Vr::from_bytes(*vr).is_some())
    });
    let encoding = if explicit {
        Encoding::EXPLICIT_LE
    } else {
        Encoding::IMPLICIT_LE
    };
    let Some(length) = group2_bytes(bytes, encoding)? else {
        return Ok(None);
    };
    let syntax = if explicit {
        TransferSyntax::ExplicitLittleEndian
    } else {
        TransferSyntax::ImplicitLittleEndian
    };
    let meta = bytes.get(..length).unwrap_or_default();
    let meta = Dataset::decode(meta, syntax, &DatasetLimits::default())?;
    let named = match meta.uid(Tag::TRANSFER_SYNTAX_UID) {
        Some(Ok(uid)) => Some(TransferSyntax::from_uid(&uid)),
        _ => None,
    };
    let syntax = match named {
        Some(named) if form != FileForm::Headerless && !named.is_big_endian() => named,
        _ => match bytes.get(length..).and_then(<[u8]>::first_chunk::<8>) {
            Some(first) => seen_syntax(named, *first),
            None => return Ok(None),
        },
    };
    Ok(Some(FileLayout {
        form,
        dataset_offset: (offset + length) as u64,
        syntax,
        meta,
    }))
}

/// The syntax named, unless the first element shows that it is not that one: meta information may name
/// none, a `.v2` file may hold what its first element does not say, and Conquest writes little endian data
/// sets under the big endian UID.
fn seen_syntax(named: Option<TransferSyntax>, first: [u8; 8]) -> TransferSyntax {
    let seen = little_endian(first);
    let [group_low, group_high, ..] = first;
    match named {
        Some(named) if named.is_big_endian() => {
            let looks_little = group_high == 0 && (4..=0x10).contains(&group_low);
            if looks_little { seen } else { named }
        }
        Some(named) if named.is_explicit() == seen.is_explicit() => named,
        _ => seen,
    }
}

/// Length of the elements of group 0002; `None` when the bytes end among them.
fn group2_bytes(bytes: &[u8], encoding: Encoding) -> Result<Option<usize>, FileError> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match rest.first_chunk::<2>() {
            None => return Ok(None),
            Some([2, 0]) => {}
            Some(_) => return Ok(Some(at)),
        }
        let head = match read_head(rest, encoding) {
            HeadRead::Head(head) => head,
            HeadRead::Need(_) => return Ok(None),
            HeadRead::BadVr(..) => return Err(FileError::NotDicom),
        };
        at = at
            .saturating_add(usize::from(head.bytes))
            .saturating_add(head.length as usize);
        if at > META_BYTES_MAX {
            return Err(FileError::MetaTooLong);
        }
        if at > bytes.len() {
            return Ok(None);
        }
    }
}

impl FileLayout {
    /// A UID of the meta information, if it is there and fits.
    pub fn meta_uid(&self, tag: Tag) -> Option<Uid> {
        self.meta.uid(tag)?.ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testdata::object;

    fn part10(syntax: TransferSyntax) -> Vec<u8> {
        encode_part10(&MetaFields {
            sop_class_uid: b"1.2.840.10008.5.1.4.1.1.7",
            sop_instance_uid: b"1.2.3.4",
            transfer_syntax: syntax,
        })
    }

    #[test]
    fn part10_round_trip() {
        for syntax in [TransferSyntax::ExplicitBigEndian, TransferSyntax::Deflated] {
            let mut file = part10(syntax);
            let offset = file.len() as u64;
            assert_eq!(offset % 2, 0);
            file.extend(object(syntax.encoding()));
            let layout = probe(&file).unwrap().unwrap();
            assert_eq!(
                (layout.form, layout.dataset_offset),
                (FileForm::Part10, offset)
            );
            assert_eq!(layout.syntax, syntax);
            assert_eq!(
                layout
                    .meta_uid(Tag::MEDIA_STORAGE_SOP_INSTANCE_UID)
                    .unwrap(),
                "1.2.3.4"
            );
            assert_eq!(
                layout.meta.text(Tag::IMPLEMENTATION_VERSION_NAME),
                Some("PYSERVER_010")
            );
            let tags: Vec<u16> = layout
                .meta
                .iter()
                .map(|element| element.tag.element())
                .collect();
            assert_eq!(tags, [1, 2, 3, 0x10, 0x12, 0x13]);
            for cut in 0..=offset as usize {
                assert!(probe(&file[..cut]).unwrap().is_none(), "cut at {cut}");
            }
            let layout = probe(&file[132..]).unwrap().unwrap();
            assert_eq!(
                (layout.form, layout.dataset_offset),
                (FileForm::MetaOnly, offset - 132)
            );
        }
    }

    #[test]
    fn headerless_files() {
        let mut file = encode_v2_start();
        assert_eq!(file[..8], [2, 0, 0x10, 0, 0x12, 0, 0, 0]);
        file.extend(object(Encoding::IMPLICIT_LE));
        let layout = probe(&file).unwrap().unwrap();
        assert_eq!(
            (layout.form, layout.dataset_offset),
            (FileForm::Headerless, 26)
        );
        assert_eq!(layout.syntax, TransferSyntax::ImplicitLittleEndian);
        for (syntax, encoding) in [
            (TransferSyntax::ImplicitLittleEndian, Encoding::IMPLICIT_LE),
            (TransferSyntax::ExplicitLittleEndian, Encoding::EXPLICIT_LE),
            (TransferSyntax::ExplicitBigEndian, Encoding::EXPLICIT_BE),
        ] {
            let layout = probe(&object(encoding)).unwrap().unwrap();
            assert_eq!((layout.syntax, layout.dataset_offset), (syntax, 0));
        }
    }

    #[test]
    fn conquest_names_big_endian_and_writes_little() {
        for (encoding, syntax) in [
            (Encoding::EXPLICIT_LE, TransferSyntax::ExplicitLittleEndian),
            (Encoding::EXPLICIT_BE, TransferSyntax::ExplicitBigEndian),
        ] {
            let mut file = part10(TransferSyntax::ExplicitBigEndian);
            file.extend(object(encoding));
            assert_eq!(probe(&file).unwrap().unwrap().syntax, syntax);
        }
    }

    #[test]
    fn other_files_are_refused() {
        assert_eq!(probe(&[b'x'; 200]).unwrap_err(), FileError::NotDicom);
        assert_eq!(probe(&[0; 200]).unwrap_err(), FileError::NotDicom);
        assert!(probe(b"").unwrap().is_none());
        let mut file = vec![0; 128];
        file.extend_from_slice(b"DICM");
        put(&mut file, Tag::FILE_META_VERSION, Vr::Ob, &[0, 1]);
        file.extend(object(Encoding::EXPLICIT_LE));
        let layout = probe(&file).unwrap().unwrap();
        assert_eq!(layout.syntax, TransferSyntax::ExplicitLittleEndian);
    }

    #[test]
    fn a_transfer_syntax_of_padding_alone_names_none() {
        for vr in [Vr::Ui, Vr::Ob] {
            let mut file = vec![0; 128];
            file.extend_from_slice(b"DICM");
            put(&mut file, Tag::TRANSFER_SYNTAX_UID, vr, &[0, 0]);
            file.extend(object(Encoding::IMPLICIT_LE));
            let layout = probe(&file).unwrap().unwrap();
            assert_eq!(layout.syntax, TransferSyntax::ImplicitLittleEndian);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            start in 0usize..3,
        ) {
            let mut file = match start {
                0 => Vec::new(),
                1 => encode_v2_start()[..4].to_vec(),
                _ => part10(TransferSyntax::ExplicitLittleEndian)[..140].to_vec(),
            };
            file.extend(bytes);
            let _ = probe(&file);
        }
    }
}
