//! One association as a value: bytes in, events and bytes out, time as an argument (PS3.8 7 and
//! 9.2).
//!
//! The caller reads from its socket into `read_space`, says `received`, takes `next_event` until it
//! is `None`, writes `output`, and calls `handle_timeout` when `poll_timeout` has passed. Message
//! fragments are handed out as their bytes arrive, as slices of the receive buffer: a PDU of any
//! size needs no buffer of its size and nothing is copied. Whatever the peer does wrong becomes one
//! `ProtocolError` event whose answer already stands in the output. What may happen when is decided
//! by `state`; which contexts and titles are accepted, by the caller.

mod receive;
mod send;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ae::AeTitle;
use crate::dimse::{CommandSet, CommandSetError};
use crate::negotiate::{ContextReply, Roles};
use crate::pdu::{
    AcContext, AssociateAc, AssociateRq, ContextResult, Fixed, Pdu, PduError, PduType, Rejection,
    RoleSelection, UserInfo, abort_reason, abort_source,
};
use crate::state::{Action, Evt, State, step};
use crate::uid::Uid;

/// Receive buffer before the association stands; a connection that says nothing costs no more.
const BUFFER_BYTES_IDLE: usize = 8 * 1024;
/// Receive buffer once message data arrives that the small one would cut into pieces.
const BUFFER_BYTES: usize = 256 * 1024;

/// Bounds on what a peer may make us hold or wait for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest P-DATA-TF variable field: advertised, enforced, and our own cap when sending to a
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
            pdu_bytes_max: 1024 * 1024,
            associate_bytes_max: 256 * 1024,
            command_bytes_max: 64 * 1024,
            contexts_max: 128,
            artim: Duration::from_secs(30),
            idle: Duration::from_secs(300),
        }
    }
}

/// A presentation context on which messages may flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedContext {
    /// Odd number from 1 to 255.
    pub id: u8,
    /// SOP class or other abstract syntax.
    pub abstract_syntax: Uid,
    /// The one transfer syntax of its data sets.
    pub transfer_syntax: Uid,
    /// The association requestor may send requests.
    pub scu_role: bool,
    /// The association requestor may be sent requests.
    pub scp_role: bool,
}

/// What the peer said about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// AE title that is called.
    pub called_ae: AeTitle,
    /// AE title that calls.
    pub calling_ae: AeTitle,
    /// Implementation class UID, if sent.
    pub implementation_class_uid: Option<Uid>,
    /// Implementation version name, printable; empty if not sent.
    pub implementation_version: String,
    /// Largest P-DATA-TF variable field that the peer receives; 0 no limit.
    pub max_pdu: u32,
}

/// What happened on the association. Borrowed data is valid until the next call.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A peer asks; answer with `accept`, `reject` or `abort`.
    AssociateRequested(Box<AssociateRq>),
    /// Our request was accepted; see `contexts`.
    Associated,
    /// Our request was rejected.
    Rejected {
        /// 1 permanent, 2 transient.
        result: u8,
        /// See `pdu::Rejection`.
        source: u8,
        /// Meaning depends on the source.
        reason: u8,
    },
    /// A command set is whole. If `has_dataset`, data events of the same context follow.
    Command {
        /// Its presentation context, always an accepted one.
        context_id: u8,
        /// The command set.
        command: CommandSet,
    },
    /// A piece of the data set that the last command announced.
    Data {
        /// Its presentation context, the command's.
        context_id: u8,
        /// Bytes as they arrived; may be empty when `last`.
        fragment: &'a [u8],
        /// The data set is whole.
        last: bool,
    },
    /// The peer wants to end; answer with `accept_release`.
    ReleaseRequested,
    /// The peer confirmed our release.
    Released,
    /// The peer aborted.
    Aborted {
        /// See `pdu::abort_source`.
        source: u8,
        /// See `pdu::abort_reason`.
        reason: u8,
    },
    /// The peer broke the protocol; the answer stands in the output and the association is over.
    ProtocolError(PeerError),
    /// The transport connection ended without a release.
    ConnectionClosed,
    /// Patience ended before the association did; an A-ABORT stands in the output if one was due.
    TimedOut,
}

/// What the peer did wrong, where, and what it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (byte {offset} of the stream)")]
pub struct PeerError {
    /// What was wrong.
    pub kind: PeerErrorKind,
    /// Offset in all that the peer ever sent: the header of the PDU or value at fault.
    pub offset: u64,
    /// What was sent in answer.
    pub answer: Answer,
}

/// The answer to a broken protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A-ABORT with source and reason.
    Abort {
        /// See `pdu::abort_source`.
        source: u8,
        /// See `pdu::abort_reason`.
        reason: u8,
    },
    /// A-ASSOCIATE-RJ.
    Reject(Rejection),
}

/// Ways to break the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerErrorKind {
    /// A PDU that cannot be read.
    #[error(transparent)]
    Pdu(#[from] PduError),
    /// A PDU that has no place in this state.
    #[error("unexpected {pdu_type:?} PDU in {state:?}")]
    UnexpectedPdu {
        /// Type of the PDU.
        pdu_type: PduType,
        /// State it came in.
        state: State,
    },
    /// A P-DATA-TF larger than we said we receive.
    #[error("P-DATA-TF of {length} bytes, the limit is {limit}")]
    PduTooLong {
        /// Its length field.
        length: u32,
        /// What we advertised.
        limit: u32,
    },
    /// Data on a presentation context that was not accepted.
    #[error("presentation context {0} was not accepted")]
    UnknownContext(u8),
    /// A fragment that continues nothing: data before its command, a command inside another
    /// message, a context change.
    #[error("unexpected {} fragment on presentation context {context_id}", if *.command { "command" } else { "data set" })]
    UnexpectedFragment {
        /// Its presentation context.
        context_id: u8,
        /// Command or data set.
        command: bool,
    },
    /// A command set over the limit.
    #[error("command set of {bytes} bytes or more, the limit is {limit}")]
    CommandTooLong {
        /// Bytes announced so far.
        bytes: u64,
        /// The limit.
        limit: u32,
    },
    /// A command set with a broken frame.
    #[error(transparent)]
    Command(#[from] CommandSetError),
    /// No protocol version that we know.
    #[error("protocol version {0:#06x} is not supported")]
    ProtocolVersion(u16),
    /// Not DICOM's application context.
    #[error("application context name is missing or not DICOM's")]
    ApplicationContext,
    /// More presentation contexts than allowed.
    #[error("{count} presentation contexts, the limit is {limit}")]
    TooManyContexts {
        /// How many were proposed.
        count: usize,
        /// The limit.
        limit: u8,
    },
    /// A maximum length in which no data fits (PS3.8 D.1).
    #[error("maximum length {0} leaves no room for data")]
    MaxPdu(u32),
}

impl PeerErrorKind {
    fn abort_reason(&self) -> u8 {
        match self {
            Self::Pdu(error) => error.abort_reason(),
            Self::UnexpectedPdu { .. } => abort_reason::UNEXPECTED_PDU,
            Self::UnexpectedFragment { .. } => abort_reason::UNEXPECTED_PARAMETER,
            _ => abort_reason::INVALID_PARAMETER,
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

    fn new(limits: Limits, now: Instant, called_ae: AeTitle, calling_ae: AeTitle) -> Self {
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

    fn propose(&mut self, request: &AssociateRq) {
        for context in &request.contexts {
            let roles = request.user_info.roles.iter();
            let roles = roles
                .into_iter()
                .find(|r| r.sop_class_uid == context.abstract_syntax);
            self.proposed.push(AcceptedContext {
                id: context.id,
                abstract_syntax: context.abstract_syntax,
                transfer_syntax: Uid::EMPTY,
                scu_role: roles.is_none_or(|r| r.scu),
                scp_role: roles.is_some_and(|r| r.scp),
            });
            self.proposed_syntaxes
                .push(context.transfer_syntaxes.clone());
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

    /// Accepts a request, naming our implementation. Ignored unless a request waits for its answer.
    pub fn accept(&mut self, contexts: &[ContextReply]) {
        self.accept_with(contexts, &UserInfo::ours());
    }

    /// Accepts a request with more user information. The maximum length and the roles in it are replaced by what the
    /// limits and `contexts` say.
    pub fn accept_with(&mut self, contexts: &[ContextReply], info: &UserInfo) {
        let Some(fixed) = self
            .fixed
            .filter(|_| self.apply(Evt::AssociateAccept).is_some())
        else {
            return;
        };
        let mut info = info.clone();
        info.max_pdu = Some(self.limits.pdu_bytes_max);
        info.roles = granted_roles(contexts);
        let reply = |c: &ContextReply| AcContext {
            id: c.id,
            result: c.result,
            transfer_syntax: Some(c.transfer_syntax).filter(|uid| !uid.is_empty()),
        };
        let replies = contexts.iter().map(reply).collect();
        AssociateAc::with_fixed(fixed, replies, info).encode(&mut self.output);
        let accepted = contexts
            .iter()
            .filter(|c| c.result == ContextResult::Accepted);
        self.contexts = accepted
            .map(|c| {
                let roles = c.roles.unwrap_or(Roles::DEFAULT);
                AcceptedContext {
                    id: c.id,
                    abstract_syntax: c.abstract_syntax,
                    transfer_syntax: c.transfer_syntax,
                    scu_role: roles.scu,
                    scp_role: roles.scp,
                }
            })
            .collect();
    }

    /// Rejects a request. Ignored unless a request waits for its answer.
    pub fn reject(&mut self, result: u8, source: u8, reason: u8) {
        if self.apply(Evt::AssociateReject).is_some() {
            Pdu::AssociateRj(Rejection {
                result,
                source,
                reason,
            })
            .encode(&mut self.output);
        }
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

/// One role selection item for each abstract syntax that asked.
fn granted_roles(contexts: &[ContextReply]) -> Vec<RoleSelection> {
    let mut granted: Vec<RoleSelection> = Vec::new();
    for context in contexts {
        let known = granted
            .iter()
            .any(|g| g.sop_class_uid == context.abstract_syntax);
        if let (Some(roles), false) = (context.roles, known) {
            let sop_class_uid = context.abstract_syntax;
            granted.push(RoleSelection {
                sop_class_uid,
                scu: roles.scu,
                scp: roles.scp,
            });
        }
    }
    granted
}
