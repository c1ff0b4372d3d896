//! One file into another compression, outside any archive.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use pyserver_proto::convert::{ConvertError, DatasetConverter};
use pyserver_proto::file::{FileForm, MetaFields, encode_part10, encode_v2_start};
use pyserver_proto::scan::ScanLimits;
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;

use crate::codec_pool::{CodecPool, Source, Transcoded, Wish};
use crate::error::StoreError;
use crate::file_object::read_object;

/// Writes the object of `path` to `target` in the form that is wanted; `None` when it has that form already and
/// nothing was written. The result is a DICOM file, or headerless (`.v2`) as the source where that can carry it. The two may be the same file: the new one takes its
/// place only when it is whole and on the disk.
///
/// Errors: `path` is no object, the codecs cannot change it (`Codec`), or a file operation failed.
pub fn recompress_file(
    pool: &CodecPool,
    path: &Path,
    target: &Path,
    wish: &Wish,
) -> Result<Option<TransferSyntax>, StoreError> {
    let object = read_object(path, ScanLimits::default())?;
    let file = File::open(path).map_err(|error| StoreError::io("open", path, error))?;
    let offset = object.layout.dataset_offset;
    let source = Source {
        file: file.as_fd(),
        offset,
        length: object.file_bytes.saturating_sub(offset),
        syntax: object.layout.syntax,
    };
    let worked = pool.transcode(&source, wish);
    let Transcoded::New(new, uid) = worked.map_err(|error| StoreError::Codec(error.to_string()))?
    else {
        return Ok(None);
    };
    let header = object.scanned.header;
    let value = |tag| header.get(tag).unwrap_or_default();
    let failed = |error| StoreError::io("write", target, error);
    if object.layout.form == FileForm::Headerless && new.syntax.is_uncompressed() {
        let implicit = TransferSyntax::ImplicitLittleEndian;
        let mut converter = DatasetConverter::new(new.syntax, implicit, ScanLimits::default())
            .map_err(not_convertible)?;
        let mut dataset = Vec::with_capacity(new.length as usize);
        new.pieces(|piece| converter.push(piece, &mut dataset).map_err(not_convertible))?;
        converter.finish().map_err(not_convertible)?;
        let put = |file: &mut File| file.write_all(&dataset);
        replace(target, &encode_v2_start(), put).map_err(failed)?;
        return Ok(Some(implicit));
    }
    let start = encode_part10(&MetaFields {
        sop_class_uid: value(Tag::SOP_CLASS_UID),
        sop_instance_uid: uid
            .as_ref()
            .map_or(value(Tag::SOP_INSTANCE_UID), Uid::as_bytes),
        transfer_syntax: new.syntax,
    });
    replace(target, &start, |file| new.copy_to(file)).map_err(failed)?;
    Ok(Some(new.syntax))
}

fn not_convertible(error: ConvertError) -> StoreError {
    StoreError::Codec(error.to_string())
}

/// Writes beside the target, then takes its place.
fn replace(
    target: &Path,
    start: &[u8],
    put: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    let beside = target.with_file_name(name);
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(start)?;
        put(&mut file)?;
        file.sync_data()?;
        std::fs::rename(&beside, target)
    };
    let written = write();
    if written.is_err() {
        // What is left of the attempt is worth nothing, and may not be there.
        let _gone = std::fs::remove_file(&beside);
    }
    written
}
