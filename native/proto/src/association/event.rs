//! What an association tells its owner: events, who the peer is, and how it broke the protocol.
//!
//! Every way to break the protocol is one `PeerErrorKind`, with the numbers (limit, got), and knows
//! its A-ABORT reason (PS3.8 table 9-26). No text of the peer's stands in an error message, so that
//! it may go to a log as it is.

use crate::ae::AeTitle;
use crate::dimse::{CommandError, CommandSet, CommandSetError};
use crate::pdu::{AssociateRq, PduError, PduType, Rejection, abort_reason};
use crate::state::State;
use crate::uid::Uid;

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
    #[error("unexpected {} fragment on presentation context {context_id}", fragment(*.command))]
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
    /// A command set without an operation or a message id.
    #[error(transparent)]
    Operation(#[from] CommandError),
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
    pub(super) fn abort_reason(&self) -> u8 {
        match self {
            Self::Pdu(error) => error.abort_reason(),
            Self::UnexpectedPdu { .. } => abort_reason::UNEXPECTED_PDU,
            Self::Operation(CommandError::UnknownCommand(_)) => {
                abort_reason::UNRECOGNIZED_PARAMETER
            }
            Self::UnexpectedFragment { .. } => abort_reason::UNEXPECTED_PARAMETER,
            _ => abort_reason::INVALID_PARAMETER,
        }
    }
}

const fn fragment(command: bool) -> &'static str {
    if command { "command" } else { "data set" }
}
