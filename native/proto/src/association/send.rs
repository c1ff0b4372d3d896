//! The sending half: messages are cut to the peer's maximum length and appended to one output
//! buffer.
//!
//! Small messages are queued so that several go out in one write. Large data sets do not pass
//! through here: their sender asks for `data_chunk_max`, writes `pdata_header` and the bytes
//! itself.

use super::{Association, PDU_BYTES_DEFAULT};
use crate::pdu::{
    PDATA_BYTES_MIN, PDU_HEADER_BYTES, PDV_HEADER_BYTES, PduHeader, PduType, PdvHeader,
};
use crate::state::Evt;

/// Header bytes of a P-DATA-TF with one presentation data value.
const PDATA_HEADER_BYTES: usize = PDU_HEADER_BYTES + PDV_HEADER_BYTES;

impl Association {
    /// Queues an encoded command set. Ignored when no association stands that could carry it.
    pub fn send_command(&mut self, context_id: u8, command: &[u8]) {
        self.send_fragments(context_id, command, true);
    }

    /// Queues a small data set, encoded in the context's transfer syntax. Ignored like
    /// `send_command`.
    pub fn send_dataset(&mut self, context_id: u8, data: &[u8]) {
        self.send_fragments(context_id, data, false);
    }

    /// Header of one P-DATA-TF with one data set value of `len` bytes, at most `data_chunk_max`,
    /// for callers that write the bytes themselves. What `output` holds must be written first.
    pub fn pdata_header(&self, context_id: u8, len: u32, last: bool) -> [u8; PDATA_HEADER_BYTES] {
        pdata_header(PdvHeader {
            payload: len,
            context_id,
            command: false,
            last,
        })
    }

    /// Payload bytes that one P-DATA-TF may carry to this peer; even where the peer's maximum
    /// permits.
    pub fn data_chunk_max(&self) -> u32 {
        let ours = match self.limits.pdu_bytes_max {
            0 => PDU_BYTES_DEFAULT,
            max => max,
        };
        let peers = match self.peer.max_pdu {
            0 => ours,
            max => max.min(ours),
        };
        let payload = peers.max(PDATA_BYTES_MIN) - PDV_HEADER_BYTES as u32;
        // DCMTK refuses fragments of odd length.
        if payload == 1 { 1 } else { payload & !1 }
    }

    /// Bytes to write to the transport.
    pub fn output(&self) -> &[u8] {
        self.output.get(self.written..).unwrap_or_default()
    }

    /// The transport took the first `n` bytes of `output`.
    pub fn output_written(&mut self, n: usize) {
        self.written += n;
        if self.written >= self.output.len() {
            self.output.clear();
            self.written = 0;
        }
    }

    fn send_fragments(&mut self, context_id: u8, bytes: &[u8], command: bool) {
        if self.apply(Evt::DataRequest).is_none() {
            return;
        }
        let chunk = self.data_chunk_max() as usize;
        let mut rest = bytes;
        loop {
            let (payload, after) = rest.split_at(chunk.min(rest.len()));
            rest = after;
            let last = rest.is_empty();
            let header = PdvHeader {
                payload: payload.len() as u32,
                context_id,
                command,
                last,
            };
            self.output.extend(pdata_header(header));
            self.output.extend_from_slice(payload);
            if last {
                return;
            }
        }
    }
}

fn pdata_header(pdv: PdvHeader) -> [u8; PDATA_HEADER_BYTES] {
    let length = pdv.payload + PDV_HEADER_BYTES as u32;
    let pdu = PduHeader {
        pdu_type: PduType::PData,
        length,
    };
    let mut header = [0; PDATA_HEADER_BYTES];
    let (first, second) = header.split_at_mut(PDU_HEADER_BYTES);
    first.copy_from_slice(&pdu.encode());
    second.copy_from_slice(&pdv.encode());
    header
}
