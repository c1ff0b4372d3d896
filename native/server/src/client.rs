//! What the command line asks of a peer: echo, find, move; `client_send` and `client_get` the rest.

use std::time::Instant;

use pyserver_proto::ae::AeTitle;
use pyserver_proto::dataset::{Dataset, DatasetLimits};
use pyserver_proto::dimse::{CCancelRq, CFindRq, CMoveRq, CommandRequest, Priority, SubOperations};
use pyserver_proto::query::{InformationModel, QueryService};
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::{self, Uid};

pub use crate::client_clone::{CloneError, CloneOptions, CloneProgress, Cloned, clone_index};
pub use crate::client_get::{GetTarget, get};
pub use crate::client_send::{Progress, SendReport, send};
use crate::error::LinkError;
use crate::peers::Destination;
use crate::scp_table::QUERY_RETRIEVE_CLASSES;
use crate::scu::{Caller, Proposal, Requestor};

/// Largest data set of a response (LIMIT: real ones have a few KB).
const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// How a C-ECHO went.
#[derive(Debug)]
pub struct EchoReport {
    /// Status of the response.
    pub status: u16,
    /// From connecting to the response, in milliseconds.
    pub milliseconds: f64,
    /// What the peer says it is.
    pub implementation: String,
}

/// How a C-MOVE or C-GET went.
#[derive(Debug, Default)]
pub struct RetrieveReport {
    /// Final status.
    pub status: u16,
    /// Error comment of the final response.
    pub comment: String,
    /// Sub-operations that succeeded.
    pub completed: u32,
    /// Sub-operations that failed.
    pub failed: u32,
    /// Sub-operations with a warning.
    pub warning: u32,
}

impl RetrieveReport {
    pub(crate) fn count(&mut self, counts: SubOperations) {
        self.completed = counts.completed.into();
        self.failed = counts.failed.into();
        self.warning = counts.warning.into();
    }
}

/// C-ECHO.
pub fn echo(caller: &Caller, peer: &Destination) -> Result<EchoReport, LinkError> {
    let began = Instant::now();
    let mut requestor = connect(caller, peer, uid::VERIFICATION)?;
    let status = requestor.echo()?;
    let milliseconds = began.elapsed().as_secs_f64() * 1e3;
    let implementation = requestor
        .link
        .association
        .peer()
        .implementation_version
        .clone();
    requestor.release()?;
    Ok(EchoReport {
        status,
        milliseconds,
        implementation,
    })
}

/// C-FIND: the matches, at most `limit` (0: all); the rest is cancelled.
pub fn find(
    caller: &Caller,
    peer: &Destination,
    model: InformationModel,
    identifier: &Dataset,
    limit: usize,
) -> Result<Vec<Dataset>, LinkError> {
    let class = sop_class(model, QueryService::Find)?;
    let mut requestor = connect(caller, peer, class)?;
    let sop_class_uid = Uid::from_static(class);
    let message_id = requestor.next_message_id();
    let priority = Priority::Medium;
    let request = CommandRequest::CFind(CFindRq {
        message_id,
        sop_class_uid,
        priority,
    });
    let (context_id, syntax) = requestor.request(&request, identifier)?;
    let mut matches = Vec::new();
    loop {
        let (response, dataset) = requestor.response(message_id, RESPONSE_BYTES_MAX)?;
        if !response.status.is_pending() {
            requestor.release()?;
            return match response.status.0 {
                0 | 0xFE00 => Ok(matches),
                status => Err(LinkError::Failed {
                    status,
                    comment: response.error_comment,
                }),
            };
        }
        if limit > 0 && matches.len() >= limit {
            continue;
        }
        let bytes = dataset.unwrap_or_default();
        let found = Dataset::decode(&bytes, syntax, &DatasetLimits::default());
        matches.push(found.map_err(|error| LinkError::Protocol(error.to_string()))?);
        if matches.len() == limit {
            let cancel = CommandRequest::CCancel(CCancelRq {
                message_id_being_responded_to: message_id,
            });
            requestor
                .link
                .association
                .send_command(context_id, &cancel.to_bytes());
        }
    }
}

/// C-MOVE: the peer sends to `destination`, which it must know.
pub fn move_to(
    caller: &Caller,
    peer: &Destination,
    model: InformationModel,
    identifier: &Dataset,
    destination: &str,
    progress: Progress<'_>,
) -> Result<RetrieveReport, LinkError> {
    let class = sop_class(model, QueryService::Move)?;
    let destination = AeTitle::new(destination)
        .map_err(|error| LinkError::Protocol(format!("AE {destination}: {error}")))?;
    let mut requestor = connect(caller, peer, class)?;
    let message_id = requestor.next_message_id();
    let request = CommandRequest::CMove(CMoveRq {
        message_id,
        sop_class_uid: Uid::from_static(class),
        priority: Priority::Medium,
        destination,
    });
    requestor.request(&request, identifier)?;
    let mut report = RetrieveReport::default();
    loop {
        let (response, _) = requestor.response(message_id, RESPONSE_BYTES_MAX)?;
        if let Some(counts) = response.sub_operations {
            report.count(counts);
            let done = u64::from(report.completed + report.failed + report.warning);
            progress(done, done + u64::from(counts.remaining.unwrap_or(0)));
        }
        if !response.status.is_pending() {
            report.status = response.status.0;
            report.comment = response.error_comment;
            requestor.release()?;
            return Ok(report);
        }
    }
}

/// The SOP class of a model and a service.
pub(crate) fn sop_class(
    model: InformationModel,
    service: QueryService,
) -> Result<&'static str, LinkError> {
    QUERY_RETRIEVE_CLASSES
        .into_iter()
        .find(|class| InformationModel::from_sop_class(class) == Some((model, service)))
        .ok_or(LinkError::Unexpected(
            "a service that the information model does not have",
        ))
}

fn connect(
    caller: &Caller,
    peer: &Destination,
    class: &'static str,
) -> Result<Requestor, LinkError> {
    let proposal = Proposal {
        abstract_syntax: Uid::from_static(class),
        transfer_syntaxes: vec![
            TransferSyntax::EXPLICIT_LE_UID,
            TransferSyntax::IMPLICIT_LE_UID,
        ],
        as_scp: false,
    };
    let id = format!(">{}", peer.ae);
    Requestor::connect(caller, peer, &[proposal], id)
}
