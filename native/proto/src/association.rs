//! One association as a value: bytes in, events and bytes out, time as an argument (PS3.8 7 and
//! 9.2).
//!
//! The caller reads from its socket into `read_space`, says `received`, takes `next_event` until it
//! is `None`, writes `output`, and calls `handle_timeout` when `poll_timeout` has passed. Message
//! fragments are handed out as their bytes arrive, as slices of the receive buffer: a PDU of any
//! size needs no buffer of its size and nothing is copied. A caller that wants the rest of a long
//! fragment elsewhere reads it there (`fragment_ahead`, `received_elsewhere`). Whatever the peer does
//! wrong becomes one `ProtocolError` event whose answer already stands in the output. What may
//! happen when is decided by `state`; which contexts and titles are accepted, by the caller.

mod establish;
mod event;
mod receive;
mod send;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use self::event::{AcceptedContext, Answer, Event, PeerError, PeerErrorKind, PeerInfo};
use crate::ae::AeTitle;
use crate::pdu::{AssociateRq, Fixed, PDATA_BYTES_MIN, Pdu, abort_reason, abort_source};
use crate::state::{Action, Evt, State, step};
use crate::uid::Uid;

/// Default of `Limits::pdu_bytes_max`, and what is sent at once when neither side has a limit.
pub const PDU_BYTES_DEFAULT: u32 = 1024 * 1024;

/// Bounds on what a peer may make us hold or wait for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest P-DATA-TF variable field, 0 for no limit: advertised, enforced, and our own cap when sending to a
    /// peer without a limit. Default 1 MiB (DCMTK: 128 KiB at most, Orthanc: 16 KiB, pynetdicom: 16
    /// KiB).
    pub pdu_bytes_max: u32,
    /// Largest A-ASSOCIATE variable field. Default 256 KiB; 128 contexts with 30 syntaxes each need
    /// 110 KiB.
    pub associate_bytes_max: u32,
    /// Largest command set. Default 64 KiB; a real one has 200 bytes.
    pub command_bytes_max: u32,
    /// Most presentation contexts in a request. Default 128, which is all that odd ids allow.
    pub contexts_max: u8,
    /// ARTIM timer (PS3.8 9.1.5): patience for a request, an answer, the close. Default 30 s.
    pub artim: Duration,
    /// Patience with an association on which nothing arrives. Default 300 s.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pdu_bytes_max: PDU_BYTES_DEFAULT,
            associate_bytes_max: 256 * 1024,
            command_bytes_max: 64 * 1024,
            contexts_max: 128,
            artim: Duration::from_secs(30),
            idle: Duration::from_secs(300),
        }
    }
}

/// An association, from the open transport connection to its end.
#[derive(Debug)]
pub struct Association {
    limits: Limits,
    /// We sent the request.
    requestor: bool,
    state: State,
    /// Latest time that any call brought.
    now: Instant,
    /// When ARTIM expires; `None` while stopped.
    artim: Option<Instant>,
    /// When something last arrived or `activity` was called.
    active: Instant,
    receiver: receive::Receiver,
    /// Events that wait to be taken before anything that still lies in the buffer.
    queued: VecDeque<Event<'static>>,
    /// The transport connection has ended; said once the buffer is used up.
    ended: bool,
    /// Our answer to a release collision that must wait for the peer's A-RELEASE-RP (Sta10).
    release_answered: bool,
    contexts: Vec<AcceptedContext>,
    /// Requestor: what we proposed. Empty for an acceptor.
    proposed: Vec<AcceptedContext>,
    /// Requestor: the proposed transfer syntaxes, by the index of `proposed`.
    proposed_syntaxes: Vec<Vec<Uid>>,
    /// Acceptor: titles and reserved bytes to return.
    fixed: Option<Fixed>,
    peer: PeerInfo,
    output: Vec<u8>,
    /// Bytes of `output` that the transport has taken.
    written: usize,
}

impl Association {
    /// An acceptor on a fresh transport connection: Sta2, ARTIM running.
    pub fn acceptor(limits: Limits, now: Instant) -> Self {
        let nobody = AeTitle::from_wire(b"");
        let mut association = Self::new(limits, now, nobody, nobody);
        association.apply(Evt::TransportIndication);
        association
    }

    /// A requestor on a fresh transport connection: the request stands in the output. The maximum
    /// length in `request` is replaced by the limits' one.
    pub fn requestor(limits: Limits, request: &AssociateRq, now: Instant) -> Self {
        let mut association = Self::new(limits, now, request.called_ae, request.calling_ae);
        association.requestor = true;
        association.propose(request);
        association.apply(Evt::AssociateRequest);
        association.apply(Evt::TransportConfirm);
        let mut request = request.clone();
        request.user_info.max_pdu = Some(association.limits.pdu_bytes_max);
        request.encode(&mut association.output);
        association
    }

    fn new(mut limits: Limits, now: Instant, called_ae: AeTitle, calling_ae: AeTitle) -> Self {
        if limits.pdu_bytes_max != 0 {
            limits.pdu_bytes_max = limits.pdu_bytes_max.max(PDATA_BYTES_MIN);
        }
        Self {
            limits,
            requestor: false,
            state: State::Sta1,
            now,
            artim: None,
            active: now,
            receiver: receive::Receiver::new(),
            queued: VecDeque::new(),
            ended: false,
            release_answered: false,
            contexts: Vec::new(),
            proposed: Vec::new(),
            proposed_syntaxes: Vec::new(),
            fixed: None,
            peer: PeerInfo {
                called_ae,
                calling_ae,
                implementation_class_uid: None,
                implementation_version: String::new(),
                max_pdu: 0,
            },
            output: Vec::new(),
            written: 0,
        }
    }

    /// The state (PS3.8 9.2.1), for logs and tests.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The limits in force.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the peer said about itself; the titles are known once a request was received or made.
    pub const fn peer(&self) -> &PeerInfo {
        &self.peer
    }

    /// All accepted contexts, in the order of the proposals.
    pub fn contexts(&self) -> &[AcceptedContext] {
        &self.contexts
    }

    /// The accepted context of an id.
    pub fn context(&self, id: u8) -> Option<&AcceptedContext> {
        self.contexts.iter().find(|context| context.id == id)
    }

    /// True when the transport connection should be closed as soon as the output is written.
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Sta1 | State::Sta13)
    }

    /// Asks the peer to end the association. Ignored unless it stands.
    pub fn request_release(&mut self) {
        if self.apply(Evt::ReleaseRequest).is_some() {
            Pdu::ReleaseRq.encode(&mut self.output);
        }
    }

    /// Answers the peer's wish to end. In a collision the acceptor's answer waits for the peer's,
    /// as the standard demands; the caller need not care.
    pub fn accept_release(&mut self) {
        if self.state == State::Sta10 {
            self.release_answered = true;
        } else if self.apply(Evt::ReleaseResponse).is_some() {
            Pdu::ReleaseRp.encode(&mut self.output);
        }
    }

    /// Ends the association at once. A reason counts only from the service provider (PS3.8 table
    /// 9-26).
    pub fn abort(&mut self, source: u8, reason: u8) {
        let reason = if source == abort_source::SERVICE_USER {
            0
        } else {
            reason
        };
        match self.apply(Evt::AbortRequest) {
            Some(Action::Aa1) => Pdu::Abort { source, reason }.encode(&mut self.output),
            Some(_) => {}
            // Nothing stands yet or any more: only the transport connection is left to close.
            None => self.enter(State::Sta1),
        }
    }

    /// The transport connection has ended. What lies in the buffer is still delivered first.
    pub fn connection_closed(&mut self) {
        self.ended = true;
    }

    /// Restarts the idle timer: the caller was busy for the peer and did not listen.
    pub fn activity(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.active = self.now;
    }

    /// When `handle_timeout` is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Sta1 => None,
            State::Sta2 | State::Sta13 => self.artim,
            State::Sta4 | State::Sta5 | State::Sta7 | State::Sta10 | State::Sta11 => {
                Some(self.active + self.limits.artim)
            }
            _ => Some(self.active + self.limits.idle),
        }
    }

    /// Ends what has waited too long; nothing happens before `poll_timeout`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if self.poll_timeout().is_none_or(|due| self.now < due) {
            return;
        }
        let over = self.state == State::Sta13;
        if self.apply(Evt::ArtimExpired).is_none() {
            self.abort(abort_source::SERVICE_PROVIDER, abort_reason::NOT_SPECIFIED);
        }
        if !over {
            self.queued.push_back(Event::TimedOut);
        }
    }

    /// Looks the event up, changes the state and tells the action to carry out; `None` if it cannot
    /// happen now.
    fn apply(&mut self, event: Evt) -> Option<Action> {
        let (action, next) = step(self.state, event)?;
        let collided_acceptor = action == Action::Ar8 && !self.requestor;
        self.enter(if collided_acceptor {
            State::Sta10
        } else {
            next
        });
        Some(action)
    }

    /// Enters a state and runs ARTIM where the state wants it (PS3.8 9.1.5).
    fn enter(&mut self, state: State) {
        let entered = state != self.state;
        self.state = state;
        match state {
            State::Sta2 | State::Sta13 if entered => {
                self.artim = Some(self.now + self.limits.artim);
            }
            State::Sta2 | State::Sta13 => {}
            _ => self.artim = None,
        }
    }
}
