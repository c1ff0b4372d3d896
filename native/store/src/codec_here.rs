//! Codecs of our own: safe code that needs no process, on the thread that wants its result.

use std::sync::Arc;

use pyserver_proto::rle_dataset::to_rle;
use pyserver_proto::transfer_syntax::TransferSyntax;

use crate::codec_pool::{CodecError, Source, Transcoded, Wish};
use crate::ready_object::{Content, ReadyObject};
use crate::spare_memory::SpareMemory;

const RLE_MODE: &[u8] = b"r1";

impl Wish {
    /// Whether a codec of our own may be able to do it.
    pub fn is_done_here(&self, syntax: TransferSyntax) -> bool {
        let wanted = match self {
            Self::Mode { name, .. } => {
                let letters = name.trim().as_bytes().get(..RLE_MODE.len());
                letters.is_some_and(|letters| letters.eq_ignore_ascii_case(RLE_MODE))
            }
            Self::Syntax { uid, .. } => *uid == TransferSyntax::RLE_UID,
        };
        wanted && syntax.is_uncompressed()
    }
}

/// A data set in its new form; `None`: that is for a worker.
pub(crate) fn transcode(
    memory: &Arc<SpareMemory>,
    dataset: &[u8],
    syntax: TransferSyntax,
    wish: &Wish,
) -> Option<Transcoded> {
    if !wish.is_done_here(syntax) {
        return None;
    }
    let mut bytes = memory.take();
    to_rle(dataset, syntax, &mut bytes)?;
    let object = ReadyObject {
        syntax: TransferSyntax::Encapsulated(TransferSyntax::RLE_UID),
        length: bytes.len() as u64,
        content: Content::Spare(bytes),
    };
    Some(Transcoded::New(object, None))
}

/// The same for a data set in a file.
pub(crate) fn transcode_file(
    memory: &Arc<SpareMemory>,
    source: &Source<'_>,
    wish: &Wish,
) -> Result<Option<Transcoded>, CodecError> {
    if !wish.is_done_here(source.syntax) {
        return Ok(None);
    }
    let mut dataset = memory.take();
    source.read(&mut dataset)?;
    Ok(transcode(memory, &dataset, source.syntax, wish))
}
