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
use pyserver_proto::transfer_syntax::{Encoding, TransferSyntax};
use pyserver_proto::uid::Uid;
use pyserver_proto::vr::Vr;

use crate::codec_pool::{CodecPool, Source, Transcoded, Wish};
use crate::error::StoreError;
use crate::held::Received;
use crate::locate::Located;
use crate::ready_object::ReadyObject;

/// The pixel data of one object beyond this stays NKI, and the object is not sent (LIMIT: memory).
const NKI_BYTES_MAX: u64 = 1 << 30;
/// The header of an NKI object is read by this many bytes, and more where an element does not fit.
const PROBE_BYTES: u64 = 64 * 1024;
const PROBE_GROWTH: u64 = 8;

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

    /// The object in the first of the peer's syntaxes that can carry it, and its SOP Instance UID where that
    /// is a new one; `None`: as it is, or in a form that the sender makes of it without a codec.
    ///
    /// Errors: no syntax can, each with its reason.
    pub(crate) fn convert(
        &self,
        located: &Located,
        file: &File,
        syntax: TransferSyntax,
    ) -> Result<Option<(ReadyObject, Option<Uid>)>, String> {
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
            && let Ok(Transcoded::New(new, derived)) = pool.transcode(&source, mode)
        {
            return Ok(Some((new, derived)));
        }
        let mut reasons = Vec::new();
        for uid in (self.targets)(located) {
            if is_sent(syntax, uid) {
                return Ok(None);
            }
            let quality = self.quality;
            match pool.transcode(&source, &Wish::Syntax { uid, quality }) {
                Ok(Transcoded::Kept) => return Ok(None),
                Ok(Transcoded::New(new, derived)) => return Ok(Some((new, derived))),
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
    let syntax = located.transfer_syntax.parse::<Uid>().unwrap_or_default();
    let syntax = TransferSyntax::from_uid(&syntax);
    if knows_pixels || !syntax.is_uncompressed() {
        return Ok(None);
    }
    let offset = u64::from(located.dataset_offset);
    let length = located.file_bytes.saturating_sub(offset);
    let read = |bytes: &mut [u8], at| file.read_exact_at(bytes, offset + at);
    if !holds_nki(length, syntax.encoding(), read)? {
        return Ok(None);
    }
    let mut dataset = vec![0; length as usize];
    file.read_exact_at(&mut dataset, offset)?;
    native_pixels(&dataset, syntax).map_err(|error| io::Error::other(error.to_string()))
}

/// Whether a data set of this length holds an NKI stream in the place of its pixel data; reads no more of it
/// than what stands before that, and no long values.
fn holds_nki(
    length: u64,
    encoding: Encoding,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<bool> {
    let (mut at, mut window) = (0, PROBE_BYTES);
    while at < length {
        let mut bytes = vec![0; (length - at).min(window) as usize];
        read(&mut bytes, at)?;
        match look(&bytes, encoding) {
            Look::Answer(holds) => return Ok(holds),
            Look::On(0) if length - at <= window => return Ok(false),
            Look::On(0) => window = window.saturating_mul(PROBE_GROWTH),
            Look::On(bytes) => (at, window) = (at.saturating_add(bytes), PROBE_BYTES),
        }
    }
    Ok(false)
}

/// What some elements say of an NKI stream.
enum Look {
    Answer(bool),
    /// Nothing; what follows is to be read, so many bytes on. 0: it does not fit what was read.
    On(u64),
}

fn look(bytes: &[u8], encoding: Encoding) -> Look {
    let mut walked = 0;
    for element in Elements::new(bytes, encoding) {
        let Ok(element) = element else {
            let rest = bytes.get(walked..).unwrap_or_default();
            return match read_head(rest, encoding) {
                HeadRead::Head(head) if head.tag >= NKI_DATA => Look::Answer(head.tag == NKI_DATA),
                HeadRead::Head(head) if !head.is_undefined() => {
                    Look::On(walked as u64 + u64::from(head.bytes) + u64::from(head.length))
                }
                _ => Look::On(walked as u64),
            };
        };
        if element.head.tag >= NKI_DATA {
            return Look::Answer(element.head.tag == NKI_DATA);
        }
        walked = element.end();
    }
    Look::On(bytes.len() as u64)
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
                copied = element.end();
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
    fn a_stream_is_found_behind_any_header() {
        let holds = |parts: &[&[u8]]| {
            let bytes = parts.concat();
            let mut most = 0;
            let found = holds_nki(bytes.len() as u64, SYNTAX.encoding(), |into, at| {
                most = most.max(into.len());
                let from = &bytes[at as usize..at as usize + into.len()];
                into.copy_from_slice(from);
                Ok(())
            });
            (found.unwrap(), most)
        };
        let rows = element(ROWS, &[1, 0]);
        let private = element(Tag::new(0x0029, 0x1010), &vec![0; 200_000]);
        // A sequence until its delimiter, with an item of its own length.
        let item = [&[0xFE, 0xFF, 0x00, 0xE0][..], &100_008_u32.to_le_bytes()].concat();
        let sequence = [
            &[0x08, 0, 0x40, 0x11, 0xFF, 0xFF, 0xFF, 0xFF][..],
            &item,
            &element(Tag::new(0x0009, 0x1001), &vec![0; 100_000]),
            &[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0],
        ]
        .concat();
        for length in [100, 100_000] {
            let nki = element(NKI_DATA, &vec![0; length]);
            let pixels = element(Tag::PIXEL_DATA, &vec![0; length]);
            let empty = &[
                0x08, 0, 0x40, 0x11, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0,
            ];
            let after_sequence = [&empty[..], &private].concat();
            for before in [&[][..], &rows, &private, &sequence, &after_sequence] {
                let within = if before == sequence { 1 << 19 } else { 1 << 16 };
                for (data, expected) in [(&nki, true), (&pixels, false), (&rows, false)] {
                    let (found, most) = holds(&[before, data]);
                    assert_eq!(found, expected, "{} {length}", before.len());
                    assert!(most <= within);
                }
            }
        }
        assert!(!holds(&[&rows[..9]]).0);
        assert!(!holds(&[&sequence[..sequence.len() - 9]]).0);
    }
}
