//! The receiving half: frames PDUs in one reused buffer and turns them into events.
//!
//! Short PDUs and A-ASSOCIATE wait until they are whole; P-DATA-TF never does. Each header is
//! judged as soon as it stands, against the state table and the limits, so that a wrong PDU is
//! refused before its body is waited for. After a protocol error the framing is lost for good and
//! every further byte is dropped.

use std::ops::Range;
use std::time::Instant;

use super::{Answer, Association, Event, PeerError, PeerErrorKind};
use crate::dimse::CommandSet;
use crate::pdu::{
    PDU_HEADER_BYTES, PDV_HEADER_BYTES, Pdu, PduError, PduHeader, PduType, PdvHeader, Rejection,
    abort_reason, abort_source,
};
use crate::state::{Action, Evt, State, step};

/// First receive buffer; a connection that says little costs no more.
const BUFFER_BYTES_IDLE: usize = 8 * 1024;
/// Receive buffer once a read has filled the small one while data flowed.
const BUFFER_BYTES: usize = 256 * 1024;

/// Unread bytes that are moved to the front rather than read behind.
const MOVE_BYTES_MAX: usize = 1024;
/// LIMIT: how far a P-DATA-TF may exceed what we advertised. Some writers count its header in, some
/// do not.
const PDU_BYTES_SLACK: u32 = PDU_HEADER_BYTES as u32;

/// Where the reader stands in the stream.
#[derive(Debug, Clone, Copy)]
enum Reading {
    /// Before a PDU header.
    Header,
    /// Before the body of a PDU that must be whole.
    Whole { pdu_type: PduType, length: u32 },
    /// In a PDU that nobody wants, so many bytes before its end.
    Skip { left: u32 },
    /// Before a presentation data value, so many bytes before the end of its PDU.
    Values { left: u32 },
    /// In a presentation data value whose payload still has `pdv.payload` bytes.
    Value { left: u32, pdv: PdvHeader },
    /// Anywhere: the framing is lost.
    Lost,
}

/// Which message is under way (PS3.7 6.3: one at a time, its fragments in order).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    None,
    Command { context_id: u8 },
    DataSet { context_id: u8 },
}

/// The receive buffer and what its reader remembers.
#[derive(Debug)]
pub(super) struct Receiver {
    buffer: Vec<u8>,
    /// Bytes between `start` and `end` are received and unread.
    start: usize,
    end: usize,
    /// Stream offset of `start`.
    offset: u64,
    /// Stream offset of the header under examination.
    header_offset: u64,
    reading: Reading,
    message: Message,
    /// Fragments of the command set under way.
    command: Vec<u8>,
    /// Data comes faster than the first buffer takes it.
    flowing: bool,
    /// Fragments are long and read to where they are wanted.
    elsewhere: bool,
}

/// One step of the reader, without borrows.
enum Step {
    /// Needs more bytes.
    Wait,
    /// Look again.
    Continue,
    Event(Event<'static>),
    Data {
        context_id: u8,
        range: Range<usize>,
        last: bool,
    },
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES_IDLE],
            start: 0,
            end: 0,
            offset: 0,
            header_offset: 0,
            reading: Reading::Header,
            message: Message::None,
            command: Vec::new(),
            flowing: false,
            elsewhere: false,
        }
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        self.offset += n as u64;
    }

    /// Where to read into: the rest of a buffer of at least `wanted` bytes.
    fn read_space(&mut self, wanted: usize) -> &mut [u8] {
        let unread = self.end - self.start;
        let full = self.end == self.buffer.len();
        if self.start > 0 && (unread <= MOVE_BYTES_MAX || full) {
            self.buffer.copy_within(self.start..self.end, 0);
            self.start = 0;
            self.end = unread;
        }
        let crowded = if unread == self.buffer.len() {
            2 * unread
        } else {
            0
        };
        let flowing = if self.flowing { BUFFER_BYTES } else { 0 };
        let bytes = wanted.max(crowded).max(flowing);
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
        let between = matches!(self.reading, Reading::Header | Reading::Values { .. });
        let most = if self.elsewhere && between && unread == 0 {
            BUFFER_BYTES_IDLE
        } else {
            usize::MAX
        };
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        let length = space.len().min(most);
        space.get_mut(..length).unwrap_or_default()
    }

    /// Moves on by `n` bytes of a value's payload; whether its message is whole now.
    fn take_payload(&mut self, n: usize, left: u32, pdv: PdvHeader) -> bool {
        let (left, payload) = (left - n as u32, pdv.payload - n as u32);
        let whole = payload == 0;
        self.reading = if whole {
            Reading::Values { left }
        } else {
            Reading::Value {
                left,
                pdv: PdvHeader { payload, ..pdv },
            }
        };
        let last = whole && pdv.last;
        if last && !pdv.command {
            self.message = Message::None;
        }
        last
    }

    fn received(&mut self, n: usize, established: bool) {
        self.end = (self.end + n).min(self.buffer.len());
        self.flowing |= established && self.end == self.buffer.len();
    }
}

impl Association {
    /// Where to read into; never empty.
    pub fn read_space(&mut self) -> &mut [u8] {
        let wanted = match self.receiver.reading {
            Reading::Whole { length, .. } => length as usize,
            _ => 0,
        };
        self.receiver.read_space(wanted)
    }

    /// The first `n` bytes of `read_space` were filled.
    pub fn received(&mut self, n: usize, now: Instant) {
        self.activity(now);
        let established = self.state >= State::Sta6 && self.state < State::Sta13;
        self.receiver.received(n, established);
    }

    /// Bytes that are still to come of the data set's fragment under way, once everything received is handed out;
    /// else 0. So many may be read to another place than `read_space`; then say `received_elsewhere`.
    pub fn fragment_ahead(&self) -> usize {
        match self.receiver.reading {
            Reading::Value { pdv, .. }
                if !pdv.command && self.queued.is_empty() && self.receiver.unread().is_empty() =>
            {
                pdv.payload as usize
            }
            _ => 0,
        }
    }

    /// The next `n` bytes, at most `fragment_ahead`, were read to another place. Returns whether the data set is whole
    /// with them.
    pub fn received_elsewhere(&mut self, n: usize, now: Instant) -> bool {
        let n = n.min(self.fragment_ahead());
        self.activity(now);
        let receiver = &mut self.receiver;
        receiver.elsewhere = true;
        receiver.offset += n as u64;
        match receiver.reading {
            Reading::Value { left, pdv } if n > 0 => receiver.take_payload(n, left, pdv),
            _ => false,
        }
    }

    /// The next event; `None` means read more.
    pub fn next_event(&mut self) -> Option<Event<'_>> {
        if let Some(event) = self.queued.pop_front() {
            return Some(event);
        }
        loop {
            match self.advance() {
                Ok(Step::Continue) => {}
                Ok(Step::Wait) => return self.end_of_stream(),
                Ok(Step::Event(event)) => return Some(event),
                Ok(Step::Data {
                    context_id,
                    range,
                    last,
                }) => {
                    let fragment = self.receiver.buffer.get(range).unwrap_or_default();
                    return Some(Event::Data {
                        context_id,
                        fragment,
                        last,
                    });
                }
                Err(kind) => return Some(self.refuse(kind)),
            }
        }
    }

    fn end_of_stream(&mut self) -> Option<Event<'static>> {
        if !self.ended {
            return None;
        }
        self.ended = false;
        self.apply(Evt::TransportClosed)
            .map(|_| Event::ConnectionClosed)
    }

    fn advance(&mut self) -> Result<Step, PeerErrorKind> {
        if self.state == State::Sta1 {
            self.receiver.reading = Reading::Lost;
        }
        match self.receiver.reading {
            Reading::Header => self.read_header(),
            Reading::Whole { pdu_type, length } => self.read_whole(pdu_type, length as usize),
            Reading::Skip { left } => Ok(self.skip(left)),
            Reading::Values { left: 0 } => {
                self.receiver.reading = Reading::Header;
                Ok(Step::Continue)
            }
            Reading::Values { left } => self.read_value_header(left),
            Reading::Value { left, pdv } => self.read_value(left, pdv),
            Reading::Lost => {
                let n = self.receiver.unread().len();
                self.receiver.consume(n);
                Ok(Step::Wait)
            }
        }
    }

    fn read_header(&mut self) -> Result<Step, PeerErrorKind> {
        self.receiver.header_offset = self.receiver.offset;
        let Some(header) = PduHeader::decode(self.receiver.unread())? else {
            return Ok(Step::Wait);
        };
        let PduHeader { pdu_type, length } = header;
        let unexpected = PeerErrorKind::UnexpectedPdu {
            pdu_type,
            state: self.state,
        };
        match step(self.state, event_of(pdu_type)) {
            None | Some((Action::Aa1 | Action::Aa7 | Action::Aa8, _)) => return Err(unexpected),
            Some((Action::Aa6, _)) => self.receiver.reading = Reading::Skip { left: length },
            Some(_) if pdu_type == PduType::PData => {
                let limit = self.limits.pdu_bytes_max;
                if limit != 0 && length > limit.saturating_add(PDU_BYTES_SLACK) {
                    return Err(PeerErrorKind::PduTooLong { length, limit });
                }
                if length == 0 {
                    return Err(PduError::EmptyPData.into());
                }
                self.receiver.reading = Reading::Values { left: length };
            }
            Some(_) => {
                header.check_length(self.limits.associate_bytes_max)?;
                self.receiver.reading = Reading::Whole { pdu_type, length };
            }
        }
        self.receiver.consume(PDU_HEADER_BYTES);
        Ok(Step::Continue)
    }

    fn skip(&mut self, left: u32) -> Step {
        let n = self.receiver.unread().len().min(left as usize);
        self.receiver.consume(n);
        let left = left - n as u32;
        self.receiver.reading = if left == 0 {
            Reading::Header
        } else {
            Reading::Skip { left }
        };
        if left == 0 {
            Step::Continue
        } else {
            Step::Wait
        }
    }

    fn read_value_header(&mut self, left: u32) -> Result<Step, PeerErrorKind> {
        self.receiver.header_offset = self.receiver.offset;
        let Some(pdv) = PdvHeader::decode(self.receiver.unread(), left)? else {
            return Ok(Step::Wait);
        };
        let (context_id, command) = (pdv.context_id, pdv.command);
        let expected = match self.receiver.message {
            Message::None => command,
            Message::Command { context_id: open } => command && open == context_id,
            Message::DataSet { context_id: open } => !command && open == context_id,
        };
        let begins = self.receiver.message == Message::None;
        if (begins || !expected) && self.context(context_id).is_none() {
            return Err(PeerErrorKind::UnknownContext(context_id));
        }
        if !expected {
            return Err(PeerErrorKind::UnexpectedFragment {
                context_id,
                command,
            });
        }
        let receiver = &mut self.receiver;
        if begins {
            receiver.message = Message::Command { context_id };
        }
        let limit = self.limits.command_bytes_max;
        let bytes = receiver.command.len() as u64 + u64::from(pdv.payload);
        if command && bytes > u64::from(limit) {
            return Err(PeerErrorKind::CommandTooLong { bytes, limit });
        }
        receiver.consume(PDV_HEADER_BYTES);
        receiver.reading = Reading::Value {
            left: left - PDV_HEADER_BYTES as u32,
            pdv,
        };
        Ok(Step::Continue)
    }

    /// Takes what has arrived of a value's payload.
    fn read_value(&mut self, left: u32, pdv: PdvHeader) -> Result<Step, PeerErrorKind> {
        let receiver = &mut self.receiver;
        let n = receiver.unread().len().min(pdv.payload as usize);
        if n == 0 && pdv.payload > 0 {
            return Ok(Step::Wait);
        }
        let range = receiver.start..receiver.start + n;
        receiver.consume(n);
        let last = receiver.take_payload(n, left, pdv);
        if pdv.command {
            return self.take_command(range, pdv.context_id, last);
        }
        if n == 0 && !last {
            return Ok(Step::Continue);
        }
        Ok(Step::Data {
            context_id: pdv.context_id,
            range,
            last,
        })
    }

    fn take_command(
        &mut self,
        range: Range<usize>,
        context_id: u8,
        last: bool,
    ) -> Result<Step, PeerErrorKind> {
        let receiver = &mut self.receiver;
        let piece = receiver.buffer.get(range).unwrap_or_default();
        if !last {
            receiver.command.extend_from_slice(piece);
            return Ok(Step::Continue);
        }
        let command = if receiver.command.is_empty() {
            CommandSet::decode(piece)?
        } else {
            receiver.command.extend_from_slice(piece);
            let command = CommandSet::decode(&receiver.command)?;
            receiver.command.clear();
            command
        };
        if let Some(error) = command.unanswerable() {
            return Err(error.into());
        }
        let data_set = command.has_dataset();
        receiver.message = if data_set {
            Message::DataSet { context_id }
        } else {
            Message::None
        };
        Ok(Step::Event(Event::Command {
            context_id,
            command,
        }))
    }

    fn read_whole(&mut self, pdu_type: PduType, length: usize) -> Result<Step, PeerErrorKind> {
        let Some(body) = self.receiver.unread().get(..length) else {
            return Ok(Step::Wait);
        };
        let pdu = Pdu::decode_body(pdu_type, body)?;
        self.receiver.consume(length);
        self.receiver.reading = Reading::Header;
        match pdu {
            Pdu::AssociateRq(rq) => {
                self.take_request(&rq)?;
                Ok(Step::Event(Event::AssociateRequested(rq)))
            }
            Pdu::AssociateAc(ac) => {
                self.take_acceptance(&ac)?;
                Ok(Step::Event(Event::Associated))
            }
            Pdu::AssociateRj(rejection) => {
                self.apply(Evt::AssociateRjPdu);
                let Rejection {
                    result,
                    source,
                    reason,
                } = rejection;
                Ok(Step::Event(Event::Rejected {
                    result,
                    source,
                    reason,
                }))
            }
            Pdu::ReleaseRq => {
                self.apply(Evt::ReleaseRqPdu);
                Ok(Step::Event(Event::ReleaseRequested))
            }
            Pdu::ReleaseRp => Ok(self.take_release_confirmation()),
            Pdu::Abort { source, reason } => {
                self.apply(Evt::AbortPdu);
                Ok(Step::Event(Event::Aborted { source, reason }))
            }
            Pdu::PData(_) => Ok(Step::Continue),
        }
    }

    fn take_release_confirmation(&mut self) -> Step {
        let action = self.apply(Evt::ReleaseRpPdu);
        if action == Some(Action::Ar10) && self.release_answered {
            self.accept_release();
        }
        Step::Event(Event::Released)
    }

    /// Ends the association because of `kind`: the answer goes to the output, everything after it
    /// is dropped.
    fn refuse(&mut self, kind: PeerErrorKind) -> Event<'static> {
        self.receiver.reading = Reading::Lost;
        let answer = self.answer(&kind);
        match answer {
            Answer::Reject(rejection) => Pdu::AssociateRj(rejection).encode(&mut self.output),
            Answer::Abort { source, reason } => {
                Pdu::Abort { source, reason }.encode(&mut self.output);
            }
        }
        self.enter(State::Sta13);
        let offset = self.receiver.header_offset;
        Event::ProtocolError(PeerError {
            kind,
            offset,
            answer,
        })
    }

    fn answer(&self, kind: &PeerErrorKind) -> Answer {
        let rejection = match kind {
            PeerErrorKind::ProtocolVersion(_) => Some(Rejection::PROTOCOL_VERSION),
            PeerErrorKind::ApplicationContext => Some(Rejection::APPLICATION_CONTEXT),
            PeerErrorKind::TooManyContexts { .. } => Some(Rejection::LOCAL_LIMIT_PERMANENT),
            PeerErrorKind::MaxPdu(_) if !self.requestor => Some(Rejection::NO_REASON),
            _ => None,
        };
        if let Some(rejection) = rejection {
            return Answer::Reject(rejection);
        }
        match step(self.state, Evt::InvalidPdu) {
            // AA-1 aborts as service user, which has no reasons.
            Some((Action::Aa1, _)) => Answer::Abort {
                source: abort_source::SERVICE_USER,
                reason: abort_reason::NOT_SPECIFIED,
            },
            _ => Answer::Abort {
                source: abort_source::SERVICE_PROVIDER,
                reason: kind.abort_reason(),
            },
        }
    }
}

const fn event_of(pdu_type: PduType) -> Evt {
    match pdu_type {
        PduType::AssociateRq => Evt::AssociateRqPdu,
        PduType::AssociateAc => Evt::AssociateAcPdu,
        PduType::AssociateRj => Evt::AssociateRjPdu,
        PduType::PData => Evt::DataPdu,
        PduType::ReleaseRq => Evt::ReleaseRqPdu,
        PduType::ReleaseRp => Evt::ReleaseRpPdu,
        PduType::Abort => Evt::AbortPdu,
    }
}
