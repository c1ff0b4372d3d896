//! What a retrieve does to an object before it is sent: NKI is undone, and a compression that the peer
//! does not take is changed.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use pyserver_proto::convert::is_convertible;
use pyserver_proto::element::{Elements, HeadRead, read_head, write_head};
use pyserver_proto::nki;
use pyserver_proto::pixel_data::NKI_DATA;
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;
use pyserver_proto::vr::Vr;

use crate::codec_pool::{CodecPool, Source, Transcoded, Wish};
use crate::error::StoreError;
use crate::held::Received;
use crate::locate::Located;
use crate::ready_object::ReadyObject;

/// The pixel data of one object beyond this stays NKI, and the object is not sent (LIMIT: memory).
const NKI_BYTES_MAX: u64 = 1 << 30;
/// What the names of files without meta information end in.
const HEADERLESS: &[u8] = b".v2";
/// The header of an NKI object is looked for in the file's first bytes.
const PROBE_BYTES: usize = 64 * 1024;

/// The transfer syntaxes a peer takes an object in, most wanted first.
pub type Targets = Box<dyn Fn(&Located) -> Vec<Uid> + Send + Sync>;

/// Rules that change copies of objects on their way out. An error keeps the object here.
pub type Edit = Box<dyn Fn(Received) -> Result<Received, String> + Send + Sync>;

/// How objects are changed on their way out.
pub struct Conversion {
    /// What a site's rules do first, where it has some.
    pub edit: Option<Edit>,
    /// Who does it; `None` changes nothing that needs a codec.
    pub pool: Option<Arc<CodecPool>>,
    /// What the peer takes.
    pub targets: Targets,
    /// Quality in lossy syntaxes.
    pub quality: u8,
    /// A mode that objects go through first, and that leaves them uncompressed.
    pub mode: Option<Wish>,
}

impl Conversion {
    /// How many objects can be changed at once.
    pub(crate) fn workers(&self) -> usize {
        self.pool.as_ref().map_or(0, |pool| pool.workers())
    }

    /// Whether a codec has to change an object.
    pub(crate) fn needs_codec(&self, located: &Located) -> bool {
        let Ok(uid) = located.transfer_syntax.parse::<Uid>() else {
            return false;
        };
        let first = (self.targets)(located).into_iter().next();
        let is_new_syntax = |target| !is_sent(TransferSyntax::from_uid(&uid), target);
        self.pool.is_some() && (self.mode.is_some() || first.is_some_and(is_new_syntax))
    }

    /// The object as rules leave it: its data set in memory, with what is now known of it in `located`.
    /// `None`: there are no rules.
    pub(crate) fn edited(
        &self,
        located: &mut Located,
        object: Received,
    ) -> Result<Option<File>, StoreError> {
        let Some(edit) = &self.edit else {
            return Ok(None);
        };
        let object = edit(object).map_err(StoreError::Codec)?;
        let (file, length) = object.memory_file()?;
        let uid = |tag| object.instance.uid(tag).to_string();
        located.sop_class = uid(Tag::SOP_CLASS_UID);
        located.sop_instance = uid(Tag::SOP_INSTANCE_UID);
        located.transfer_syntax = object.instance.syntax().uid().to_string();
        located.file_bytes = length;
        located.dataset_offset = 0;
        Ok(Some(file))
    }

    /// Whether rules see the objects.
    pub(crate) fn edits(&self) -> bool {
        self.edit.is_some()
    }

    /// The object in the first of the peer's syntaxes that can carry it; `None`: as it is, or in a form
    /// that the sender makes of it without a codec.
    ///
    /// Errors: no syntax can, each with its reason.
    pub(crate) fn convert(
        &self,
        located: &Located,
        file: &File,
        syntax: TransferSyntax,
    ) -> Result<Option<ReadyObject>, String> {
        let Some(pool) = &self.pool else {
            return Ok(None);
        };
        let offset = u64::from(located.dataset_offset);
        let source = Source {
            file: file.as_fd(),
            offset,
            length: located.file_bytes.saturating_sub(offset),
            syntax,
        };
        // What the mode cannot change goes as it is.
        if let Some(mode) = &self.mode
            && let Ok(Transcoded::New(new, _)) = pool.transcode(&source, mode)
        {
            return Ok(Some(new));
        }
        let mut reasons = Vec::new();
        for uid in (self.targets)(located) {
            if is_sent(syntax, uid) {
                return Ok(None);
            }
            let quality = self.quality;
            match pool.transcode(&source, &Wish::Syntax { uid, quality }) {
                Ok(Transcoded::Kept) => return Ok(None),
                Ok(Transcoded::New(new, _)) => return Ok(Some(new)),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        reasons.dedup();
        if reasons.is_empty() {
            Ok(None)
        } else {
            Err(reasons.join("; "))
        }
    }
}

/// Whether an object can go out in a syntax without a codec.
fn is_sent(stored: TransferSyntax, target: Uid) -> bool {
    stored.uid() == target || is_convertible(stored, TransferSyntax::from_uid(&target))
}

/// An object whose pixel data is an NKI stream, as a data set with native pixel data; `None` for all others.
///
/// Errors: the file cannot be read, or the stream is damaged.
pub(crate) fn without_nki(located: &Located, file: &File) -> io::Result<Option<Vec<u8>>> {
    // A row that knows where the pixel data is has no NKI stream in its place.
    let knows_pixels = located.pixel.first().is_some_and(|kind| *kind != 0);
    let headerless = located.file.as_bytes().ends_with(HEADERLESS);
    if knows_pixels {
        return Ok(None);
    }
    let syntax = located.transfer_syntax.parse::<Uid>().unwrap_or_default();
    let syntax = TransferSyntax::from_uid(&syntax);
    let offset = u64::from(located.dataset_offset);
    let length = located.file_bytes.saturating_sub(offset);
    let mut start = vec![0; length.min(PROBE_BYTES as u64) as usize];
    file.read_exact_at(&mut start, offset)?;
    if !syntax.is_uncompressed() || !may_hold_nki(&start, syntax, length, headerless) {
        return Ok(None);
    }
    let mut dataset = vec![0; length as usize];
    file.read_exact_at(&mut dataset, offset)?;
    native_pixels(&dataset, syntax).map_err(|error| io::Error::other(error.to_string()))
}

/// Whether elements up to the pixel data name an NKI stream. Where the bytes at hand do not tell, files without
/// meta information may: all that was ever stored as NKI is in those. In others a peer may have sent one.
fn may_hold_nki(start: &[u8], syntax: TransferSyntax, length: u64, headerless: bool) -> bool {
    let mut walked = 0;
    for element in Elements::new(start, syntax.encoding()) {
        match element {
            Ok(element) if element.head.tag >= NKI_DATA => {
                return element.head.tag == NKI_DATA;
            }
            Ok(element) => {
                walked = element.offset + usize::from(element.head.bytes) + element.value.len();
            }
            Err(_) => {
                let rest = start.get(walked..).unwrap_or_default();
                return match read_head(rest, syntax.encoding()) {
                    HeadRead::Head(head) if !head.is_undefined() => head.tag == NKI_DATA,
                    _ => headerless,
                };
            }
        }
    }
    headerless && length > start.len() as u64
}

fn native_pixels(dataset: &[u8], syntax: TransferSyntax) -> Result<Option<Vec<u8>>, NkiFault> {
    let encoding = syntax.encoding();
    let mut out = Vec::with_capacity(dataset.len() * 3);
    let mut copied = 0;
    let mut pixels = None;
    for element in Elements::new(dataset, encoding) {
        let element = element?;
        match element.head.tag {
            NKI_DATA => {
                pixels = Some(nki::decode(element.value, NKI_BYTES_MAX)?);
                out.extend_from_slice(&dataset[copied..element.offset]);
                copied = element.offset + usize::from(element.head.bytes) + element.value.len();
            }
            // An object that has pixel data keeps it; as in Conquest the stream is left alone.
            Tag::PIXEL_DATA => return Ok(None),
            tag if tag > Tag::PIXEL_DATA => break,
            _ => {}
        }
    }
    let Some(pixels) = pixels else {
        return Ok(None);
    };
    let tail = Elements::new(dataset.get(copied..).unwrap_or_default(), encoding)
        .map_while(Result::ok)
        .find(|element| element.head.tag > Tag::PIXEL_DATA)
        .map_or(dataset.len(), |element| copied + element.offset);
    out.extend_from_slice(&dataset[copied..tail]);
    write_head(
        &mut out,
        Tag::PIXEL_DATA,
        Vr::Ow,
        pixels.len() as u32,
        encoding,
    );
    out.extend_from_slice(&pixels);
    out.extend_from_slice(&dataset[tail..]);
    Ok(Some(out))
}

#[derive(Debug, thiserror::Error)]
enum NkiFault {
    #[error(transparent)]
    Stream(#[from] nki::NkiError),
    #[error(transparent)]
    Dataset(#[from] pyserver_proto::element::ElementError),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use super::*;

    const SYNTAX: TransferSyntax = TransferSyntax::ImplicitLittleEndian;
    const ROWS: Tag = Tag::new(0x0028, 0x0010);
    const PADDING: Tag = Tag::new(0xFFFC, 0xFFFC);

    fn element(tag: Tag, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_head(&mut out, tag, Vr::Ow, value.len() as u32, SYNTAX.encoding());
        out.extend_from_slice(value);
        out
    }

    #[test]
    fn a_stream_becomes_pixel_data_in_its_place() {
        let pixels = [1, 0, 2, 0, 9, 9];
        let stream = nki::encode(nki::Mode::N2, &pixels).unwrap();
        let around = [element(ROWS, &[1, 0]), element(PADDING, &[0, 0])];
        let nki = [&around[0][..], &element(NKI_DATA, &stream), &around[1]].concat();
        let native = [
            &around[0][..],
            &element(Tag::PIXEL_DATA, &pixels),
            &around[1],
        ]
        .concat();
        assert_eq!(native_pixels(&nki, SYNTAX).unwrap().unwrap(), native);
        assert!(native_pixels(&native, SYNTAX).unwrap().is_none());
        assert!(native_pixels(&around.concat(), SYNTAX).unwrap().is_none());
        let damaged = [&around[0][..], &element(NKI_DATA, &stream[..22])].concat();
        assert!(native_pixels(&damaged, SYNTAX).is_err());
    }

    #[test]
    fn the_start_of_a_file_tells_whether_it_holds_a_stream() {
        let rows = element(ROWS, &[1, 0]);
        let long = [&rows[..], &element(NKI_DATA, &[0; 100])].concat();
        let holds = |bytes: &[u8], length| may_hold_nki(bytes, SYNTAX, length, true);
        assert!(holds(&long[..40], long.len() as u64));
        assert!(holds(&long, long.len() as u64));
        let other = [&rows[..], &element(Tag::PIXEL_DATA, &[0; 100])].concat();
        assert!(!holds(&other[..40], other.len() as u64));
        assert!(!holds(&rows, rows.len() as u64));
        assert!(holds(&rows, 1000));
        assert!(!may_hold_nki(&rows, SYNTAX, 1000, false));
        assert!(may_hold_nki(&long[..40], SYNTAX, long.len() as u64, false));
    }
}
