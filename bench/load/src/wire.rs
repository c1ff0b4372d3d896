//! The bytes of PS3.8 (PDUs) and PS3.7 (command sets) that a load generator needs, and a reader
//! that frames messages and throws data sets away.
//!
//! Deliberately small and strict: anything unexpected from the peer ends the run with an error,
//! because a figure from a broken conversation is worth nothing.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::net::{RecvFlags, sockopt};

use crate::error::{Error, Result};

/// Implicit VR little endian.
pub const IMPLICIT_LE: &str = "1.2.840.10008.1.2";
/// Explicit VR little endian.
pub const EXPLICIT_LE: &str = "1.2.840.10008.1.2.1";
/// Verification SOP class.
pub const VERIFICATION: &str = "1.2.840.10008.1.1";
/// CT Image Storage.
pub const CT_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.2";

/// PDU header (6 bytes) and PDV header (6 bytes) before each fragment.
pub const FRAGMENT_HEADER: usize = 12;
/// PDV header bytes that count against the peer's maximum PDU length.
const PDV_HEADER: usize = 6;
/// Receive buffer: large enough that one read drains a socket buffer.
const READ_BUFFER: usize = 256 * 1024;
/// No command set is near this long; more means that framing was lost.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// Command field values (0000,0100).
pub mod command {
    pub const STORE_RQ: u16 = 0x0001;
    pub const STORE_RSP: u16 = 0x8001;
    pub const GET_RQ: u16 = 0x0010;
    pub const GET_RSP: u16 = 0x8010;
    pub const FIND_RQ: u16 = 0x0020;
    pub const FIND_RSP: u16 = 0x8020;
    pub const MOVE_RQ: u16 = 0x0021;
    pub const MOVE_RSP: u16 = 0x8021;
    pub const ECHO_RQ: u16 = 0x0030;
    pub const ECHO_RSP: u16 = 0x8030;
}

/// (0000,0800): no data set follows.
pub const NO_DATASET: u16 = 0x0101;
/// (0000,0800): a data set follows.
pub const WITH_DATASET: u16 = 0x0000;

/// One element of a command set that is to be encoded.
pub enum Field<'a> {
    /// A UI value, padded with a zero byte.
    Uid(u16, &'a str),
    /// A US value.
    Number(u16, u16),
    /// An AE value, padded with a space.
    Ae(u16, &'a str),
}

/// Encodes a command set; fields must come in the order of their element numbers.
pub fn command_set(fields: &[Field<'_>]) -> Vec<u8> {
    let mut body = Vec::with_capacity(256);
    for field in fields {
        let (element, value) = match field {
            Field::Uid(element, uid) => (*element, padded(uid, 0)),
            Field::Ae(element, title) => (*element, padded(title, b' ')),
            Field::Number(element, number) => (*element, number.to_le_bytes().to_vec()),
        };
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&element.to_le_bytes());
        body.extend_from_slice(&(value.len() as u32).to_le_bytes());
        body.extend_from_slice(&value);
    }
    let mut set = vec![0, 0, 0, 0, 4, 0, 0, 0];
    set.extend_from_slice(&(body.len() as u32).to_le_bytes());
    set.extend_from_slice(&body);
    set
}

/// Text padded to even length.
pub fn padded(text: &str, pad: u8) -> Vec<u8> {
    let mut value = text.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(pad);
    }
    value
}

/// PDV message control header bits.
pub const COMMAND_BIT: u8 = 1;
/// Last fragment of the command or data set.
pub const LAST_BIT: u8 = 2;

/// The largest even fragment that fits a peer's maximum PDU length; 0 means that it has none.
pub fn fragment_max(peer_pdu: u32, own_cap: u32) -> usize {
    let limit = if peer_pdu == 0 {
        own_cap
    } else {
        peer_pdu.min(own_cap)
    } as usize;
    (limit.max(PDV_HEADER + 2) - PDV_HEADER) & !1
}

/// The 12 bytes before one fragment that stands alone in its P-DATA-TF PDU.
pub fn fragment_header(context_id: u8, control: u8, len: usize) -> [u8; FRAGMENT_HEADER] {
    let pdv = (len as u32 + 2).to_be_bytes();
    let pdu = (len as u32 + PDV_HEADER as u32).to_be_bytes();
    [
        4, 0, pdu[0], pdu[1], pdu[2], pdu[3], pdv[0], pdv[1], pdv[2], pdv[3], context_id, control,
    ]
}

/// Appends a whole command or data set as P-DATA-TF PDUs.
pub fn push_fragments(out: &mut Vec<u8>, context_id: u8, kind: u8, bytes: &[u8], max: usize) {
    let mut chunks = bytes.chunks(max.max(1)).peekable();
    while let Some(chunk) = chunks.next() {
        let control = kind | if chunks.peek().is_none() { LAST_BIT } else { 0 };
        out.extend_from_slice(&fragment_header(context_id, control, chunk.len()));
        out.extend_from_slice(chunk);
    }
}

/// The numbers and identifiers of a received command set that a load generator looks at.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// (0000,0100).
    pub field: u16,
    /// (0000,0110).
    pub message_id: u16,
    /// (0000,0120).
    pub responded_to: u16,
    /// (0000,0900).
    pub status: u16,
    /// Whether a data set follows.
    pub has_dataset: bool,
    /// (0000,0002), padding removed.
    pub sop_class: String,
    /// (0000,1000), padding removed.
    pub sop_instance: String,
    /// (0000,1021) to (0000,1023): completed, failed, warning.
    pub sub_operations: [u16; 3],
}

impl Command {
    /// Decodes an implicit VR little endian command set.
    pub fn decode(mut bytes: &[u8]) -> Result<Self> {
        let mut command = Self::default();
        while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
            let [_, _, e0, e1, n0, n1, n2, n3] = *head;
            let len = u32::from_le_bytes([n0, n1, n2, n3]) as usize;
            let Some((value, rest)) = rest.split_at_checked(len) else {
                return Err(Error::new("command element runs past the end of its set"));
            };
            let number = value
                .first_chunk()
                .map_or(0, |two| u16::from_le_bytes(*two));
            match u16::from_le_bytes([e0, e1]) {
                0x0002 => command.sop_class = uid_text(value),
                0x0100 => command.field = number,
                0x0110 => command.message_id = number,
                0x0120 => command.responded_to = number,
                0x0800 => command.has_dataset = number != NO_DATASET,
                0x0900 => command.status = number,
                0x1000 => command.sop_instance = uid_text(value),
                0x1021 => command.sub_operations[0] = number,
                0x1022 => command.sub_operations[1] = number,
                0x1023 => command.sub_operations[2] = number,
                _ => {}
            }
            bytes = rest;
        }
        Ok(command)
    }

    /// Pending responses are FF00 and FF01.
    pub fn is_pending(&self) -> bool {
        self.status & 0xFF00 == 0xFF00
    }
}

fn uid_text(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .trim_end_matches(['\0', ' '])
        .to_owned()
}

/// What the peer said next.
pub enum Incoming {
    /// A command, with its data set counted and thrown away.
    Message {
        context_id: u8,
        command: Command,
        dataset_bytes: u64,
    },
    /// A-RELEASE-RQ.
    ReleaseRequested,
    /// A-RELEASE-RP.
    Released,
    /// The connection was closed between two PDUs.
    Closed,
}

/// A connection with a receive buffer.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    command: Vec<u8>,
    /// Bytes of data sets are dropped by the kernel instead of being copied here.
    pub discard_in_kernel: bool,
}

impl Wire {
    /// Wraps a connected socket: Nagle off, and delayed ACKs off from here on.
    pub fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; READ_BUFFER],
            start: 0,
            end: 0,
            command: Vec::new(),
            discard_in_kernel: false,
        })
    }

    /// Writes all bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads one PDU of an association's negotiation: its type and body.
    pub fn read_negotiation(&mut self) -> Result<(u8, Vec<u8>)> {
        let Some((kind, len)) = self.pdu_header()? else {
            return Err(Error::new("connection closed during negotiation"));
        };
        if len > COMMAND_BYTES_MAX {
            return Err(Error::new(format!("negotiation PDU of {len} bytes")));
        }
        let mut body = Vec::with_capacity(len);
        self.take(len, Some(&mut body))?;
        Ok((kind, body))
    }

    /// Reads until a command and the data set that belongs to it are complete.
    pub fn next(&mut self) -> Result<Incoming> {
        let mut command: Option<(u8, Command)> = None;
        let mut dataset_bytes = 0;
        self.command.clear();
        loop {
            let Some((kind, mut left)) = self.pdu_header()? else {
                return Ok(Incoming::Closed);
            };
            match kind {
                4 => {}
                5 => return self.take(left, None).map(|()| Incoming::ReleaseRequested),
                6 => return self.take(left, None).map(|()| Incoming::Released),
                7 => {
                    let mut body = Vec::new();
                    self.take(left, Some(&mut body))?;
                    return Err(Error::new(format!(
                        "peer aborted the association: {body:?}"
                    )));
                }
                _ => return Err(Error::new(format!("unexpected PDU of type {kind}"))),
            }
            while left > 0 {
                let header = self.array::<PDV_HEADER>()?;
                let [n0, n1, n2, n3, context_id, control] = header;
                let len = (u32::from_be_bytes([n0, n1, n2, n3]) as usize)
                    .checked_sub(2)
                    .filter(|len| len + PDV_HEADER <= left)
                    .ok_or_else(|| Error::new("PDV length does not fit its PDU"))?;
                left -= len + PDV_HEADER;
                if control & COMMAND_BIT == 0 {
                    dataset_bytes += len as u64;
                    self.take(len, None)?;
                } else {
                    let mut bytes = std::mem::take(&mut self.command);
                    self.take(len, Some(&mut bytes))?;
                    self.command = bytes;
                    if self.command.len() > COMMAND_BYTES_MAX {
                        return Err(Error::new("command set without end"));
                    }
                }
                if control & LAST_BIT == 0 {
                    continue;
                }
                if control & COMMAND_BIT != 0 {
                    let decoded = Command::decode(&self.command)?;
                    if !decoded.has_dataset {
                        return Ok(Incoming::Message {
                            context_id,
                            command: decoded,
                            dataset_bytes,
                        });
                    }
                    command = Some((context_id, decoded));
                } else if let Some((context_id, command)) = command.take() {
                    return Ok(Incoming::Message {
                        context_id,
                        command,
                        dataset_bytes,
                    });
                } else {
                    return Err(Error::new("data set without command"));
                }
            }
        }
    }

    /// Type and length of the next PDU; `None` when the peer closed instead.
    fn pdu_header(&mut self) -> Result<Option<(u8, usize)>> {
        if self.start == self.end && !self.fill()? {
            return Ok(None);
        }
        let [kind, _, n0, n1, n2, n3] = self.array::<6>()?;
        Ok(Some((kind, u32::from_be_bytes([n0, n1, n2, n3]) as usize)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        loop {
            let have = self
                .buffer
                .get(self.start..self.end)
                .and_then(<[u8]>::first_chunk);
            if let Some(bytes) = have {
                let bytes = *bytes;
                self.start += N;
                return Ok(bytes);
            }
            if !self.fill()? {
                return Err(Error::new("connection closed inside a PDU"));
            }
        }
    }

    /// Takes `len` bytes out of the stream, into `kept` or nowhere.
    fn take(&mut self, mut len: usize, mut kept: Option<&mut Vec<u8>>) -> Result<()> {
        loop {
            let have = (self.end - self.start).min(len);
            if let Some(kept) = kept.as_deref_mut() {
                kept.extend_from_slice(
                    self.buffer
                        .get(self.start..self.start + have)
                        .unwrap_or_default(),
                );
            }
            self.start += have;
            len -= have;
            if len == 0 {
                return Ok(());
            }
            if self.discard_in_kernel && kept.is_none() {
                len -= self.discard(len)?;
            } else if !self.fill()? {
                return Err(Error::new("connection closed inside a PDU"));
            }
        }
    }

    /// Lets the kernel drop up to `len` bytes (`MSG_TRUNC`), so that a sink costs one core less
    /// than the sender it measures.
    fn discard(&mut self, len: usize) -> Result<usize> {
        sockopt::set_tcp_quickack(&self.stream, true)?;
        let want = len.min(self.buffer.len());
        let into = self.buffer.get_mut(..want).unwrap_or_default();
        (self.start, self.end) = (0, 0);
        match rustix::net::recv(&self.stream, into, RecvFlags::TRUNC)? {
            (_, 0) => Err(Error::new("connection closed inside a PDU")),
            (_, dropped) => Ok(dropped),
        }
    }

    /// Reads what the socket has; false at the end of the stream.
    fn fill(&mut self) -> Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // Linux falls back to delayed ACKs by itself, so this is set before every read: a peer
        // that answers in two small writes with Nagle on would otherwise look 40 ms slower.
        sockopt::set_tcp_quickack(&self.stream, true)?;
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = self.stream.read(free)?;
        self.end += read;
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, Field, command, command_set, fragment_max, push_fragments};

    #[test]
    fn a_command_set_survives_encoding_and_decoding() {
        let bytes = command_set(&[
            Field::Uid(0x0002, "1.2.3"),
            Field::Number(0x0100, command::STORE_RQ),
            Field::Number(0x0110, 7),
            Field::Number(0x0800, 0),
            Field::Uid(0x1000, "1.2.3.4"),
        ]);
        assert_eq!(bytes.len() % 2, 0);
        let decoded = Command::decode(&bytes).unwrap();
        assert_eq!(decoded.field, command::STORE_RQ);
        assert_eq!(decoded.message_id, 7);
        assert_eq!(decoded.sop_class, "1.2.3");
        assert_eq!(decoded.sop_instance, "1.2.3.4");
        assert!(decoded.has_dataset);
        assert!(Command::decode(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn fragments_are_even_and_fit_the_peer() {
        assert_eq!(fragment_max(16_384, 1 << 20), 16_378);
        assert_eq!(fragment_max(0, 1 << 20), (1 << 20) - 6);
        assert_eq!(fragment_max(1, 1 << 20), 2);
        let mut out = Vec::new();
        push_fragments(&mut out, 1, 0, &[9; 25], 10);
        assert_eq!(out.len(), 25 + 3 * 12);
        assert_eq!(out[11], 0);
        assert_eq!(out[2 * 22 + 11], 2);
    }
}
