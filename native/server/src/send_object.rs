//! One stored object onto one link: C-STORE-RQ and data set, from file to socket.
//!
//! Bytes go out as they are stored when the context's transfer syntax is the file's; between the
//! uncompressed forms they are converted on the way. PDU headers and payload leave in large
//! writes: the payload is read straight to its place between the headers.

use std::io::{self, ErrorKind};

use pyserver_proto::convert::DatasetConverter;
use pyserver_proto::dimse::{CStoreRq, CommandRequest};
use pyserver_proto::scan::ScanLimits;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;
use pyserver_store::ready_object::ReadyObject;

use crate::error::LinkError;
use crate::link::Link;
use crate::payload::fill;

/// Payload framed per write (LIMIT: one such buffer per retrieve).
const FRAME_BYTES: usize = 512 * 1024;

/// Bytes of a P-DATA-TF header with one presentation data value (PS3.8 9.3.5).
const PDATA_HEADER_BYTES: usize = 12;

/// Why an object did not go out.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The object cannot be read or converted: the next one may.
    #[error("{0}")]
    Object(String),
    /// The link broke: nothing more can go out on it.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// The reused buffers of one retrieve.
#[derive(Default)]
pub struct Sender {
    frame: Vec<u8>,
    converted: Vec<u8>,
}

impl Sender {
    /// Sends one object on an accepted context whose transfer syntax is `wanted`.
    ///
    /// The response is not awaited. Once the command is out, an object that turns out to be
    /// unreadable leaves the link unusable, which is reported as a link error.
    pub fn send(
        &mut self,
        link: &mut Link,
        (context_id, wanted): (u8, Uid),
        request: CStoreRq,
        object: &ReadyObject,
    ) -> Result<(), SendError> {
        let converter = converter(object.syntax, wanted)?;
        let command = CommandRequest::CStore(request).to_bytes();
        link.association.send_command(context_id, &command);
        match converter {
            None => self.send_as_stored(link, context_id, object)?,
            Some(converter) => self.send_converted(link, context_id, object, converter)?,
        }
        Ok(())
    }

    fn send_as_stored(
        &mut self,
        link: &mut Link,
        context_id: u8,
        object: &ReadyObject,
    ) -> Result<(), LinkError> {
        let chunk_max = link.association.data_chunk_max() as usize;
        let stride = chunk_max + PDATA_HEADER_BYTES;
        let mut at = 0;
        loop {
            let left = object.length - at;
            let payload = usize::try_from(left).unwrap_or(usize::MAX).min(FRAME_BYTES);
            let last = payload as u64 == left;
            let chunks = payload.div_ceil(chunk_max).max(1);
            self.frame.resize(payload + chunks * PDATA_HEADER_BYTES, 0);
            for (n, slot) in self.frame.chunks_mut(stride).enumerate() {
                let length = (slot.len() - PDATA_HEADER_BYTES) as u32;
                let last = last && n + 1 == chunks;
                let header = link.association.pdata_header(context_id, length, last);
                slot[..PDATA_HEADER_BYTES].copy_from_slice(&header);
            }
            fill(object, at, &mut self.frame, stride, PDATA_HEADER_BYTES)?;
            link.write(&self.frame)?;
            at += payload as u64;
            if last {
                return Ok(());
            }
        }
    }

    fn send_converted(
        &mut self,
        link: &mut Link,
        context_id: u8,
        object: &ReadyObject,
        mut converter: DatasetConverter,
    ) -> Result<(), LinkError> {
        let chunk_max = link.association.data_chunk_max() as usize;
        self.converted.clear();
        let mut at = 0;
        loop {
            let left = object.length - at;
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(FRAME_BYTES);
            self.frame.resize(take, 0);
            fill(object, at, &mut self.frame, take.max(1), 0)?;
            converter
                .push(&self.frame, &mut self.converted)
                .map_err(unconvertible)?;
            at += take as u64;
            let last = at == object.length;
            // One chunk stays behind until it is known whether it is the object's last.
            let ready = self.converted.len().saturating_sub(1) / chunk_max * chunk_max;
            for chunk in self.converted[..ready].chunks(chunk_max) {
                write_chunk(link, context_id, chunk, false)?;
            }
            self.converted.drain(..ready);
            if last {
                converter.finish().map_err(unconvertible)?;
                return write_chunk(link, context_id, &self.converted, true);
            }
        }
    }
}

fn unconvertible(error: impl std::fmt::Display) -> LinkError {
    LinkError::Io(io::Error::new(ErrorKind::InvalidData, error.to_string()))
}

fn write_chunk(link: &mut Link, context_id: u8, data: &[u8], last: bool) -> Result<(), LinkError> {
    let header = link
        .association
        .pdata_header(context_id, data.len() as u32, last);
    let slices = &mut [io::IoSlice::new(&header), io::IoSlice::new(data)];
    Ok(link.write_slices(slices)?)
}

/// What turns the stored syntax into the wanted one; `None` sends bytes as they are.
fn converter(stored: TransferSyntax, wanted: Uid) -> Result<Option<DatasetConverter>, SendError> {
    if stored.uid() == wanted {
        return Ok(None);
    }
    let target = TransferSyntax::from_uid(&wanted);
    DatasetConverter::new(stored, target, ScanLimits::default())
        .map(Some)
        .map_err(|_| {
            SendError::Object(format!(
                "stored in {}, the peer takes only {wanted}",
                stored.uid()
            ))
        })
}
