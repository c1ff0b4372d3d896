//! What goes wrong between us and a peer.

use std::io;
use std::time::Duration;

use pyserver_proto::association::Event;

/// A conversation that ended before its answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection.
    #[error(
        "cannot connect to {host}:{port}: {error}; is the peer running, and are host and port right?"
    )]
    Connect {
        /// Host asked for.
        host: String,
        /// Port asked for.
        port: u16,
        /// What the system said.
        error: io::Error,
    },
    /// A-ASSOCIATE-RJ.
    #[error("the peer rejected the association: {0}")]
    Rejected(String),
    /// A-ABORT from the peer.
    #[error("the peer aborted the association (source {source_}, reason {reason})")]
    Aborted {
        /// 0 service user, 2 service provider.
        source_: u8,
        /// PS3.8 table 9-26.
        reason: u8,
    },
    /// A-RELEASE-RQ or the end of the connection where an answer was due.
    #[error("the peer {0} before it answered")]
    Ended(&'static str),
    /// PDUs that break the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// A message of another kind than due.
    #[error("unexpected message: {0}")]
    Unexpected(&'static str),
    /// A data set beyond our limit.
    #[error("the data set is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// No accepted presentation context fits.
    #[error("the peer accepted no presentation context for {0}")]
    NoContext(String),
    /// The peer answered with a failure.
    #[error("the peer answered with status {status:04X}H: {comment}")]
    Failed {
        /// Its status.
        status: u16,
        /// Its error comment.
        comment: String,
    },
    /// The socket failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
}

impl LinkError {
    /// What an event means where a message was due.
    pub fn from_event(event: &Event<'_>) -> Self {
        match event {
            Event::Rejected {
                result,
                source,
                reason,
            } => Self::rejected(*result, *source, *reason),
            Event::Aborted { source, reason } => Self::Aborted {
                source_: *source,
                reason: *reason,
            },
            Event::ReleaseRequested | Event::Released => Self::Ended("released the association"),
            Event::ConnectionClosed => Self::Ended("closed the connection"),
            Event::TimedOut => Self::Ended("stayed silent"),
            Event::ProtocolError(error) => Self::Protocol(error.to_string()),
            _ => Self::Unexpected("another event than the answer"),
        }
    }

    /// PS3.8 table 9-21 in words.
    fn rejected(result: u8, source: u8, reason: u8) -> Self {
        let why = match (source, reason) {
            (1, 1) => "no reason given",
            (1, 2) => "application context name not supported",
            (1, 3) => "calling AE title not recognised",
            (1, 7) => "called AE title not recognised",
            (2, 2) => "protocol version not supported",
            (3, 1) => "temporary congestion",
            (3, 2) => "local limit exceeded",
            _ => "unknown reason",
        };
        let lasting = if result == 2 {
            "for now"
        } else {
            "permanently"
        };
        Self::Rejected(format!("{why} ({lasting}; {result}/{source}/{reason})"))
    }
}
