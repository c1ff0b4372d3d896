//! Which service a request is, judged by its command and its presentation context: one row each.

use pyserver_proto::association::Association;
use pyserver_proto::dimse::CommandRequest;
use pyserver_proto::query::{InformationModel, QueryService};
use pyserver_proto::status::Status;
use pyserver_proto::uid;

use crate::error::LinkError;
use crate::session::Session;
use crate::{scp_find, scp_get, scp_move};

/// A service and, where it has one, its information model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Verification.
    Echo,
    /// Storage.
    Store,
    /// Query.
    Find(InformationModel),
    /// Retrieve to a third party.
    Move(InformationModel),
    /// Retrieve on the same association.
    Get(InformationModel),
}

/// SOP classes of query and retrieve (PS3.4 C.6), and of the worklist (PS3.4 K.6).
pub const QUERY_RETRIEVE_CLASSES: [&str; 10] = [
    uid::PATIENT_ROOT_FIND,
    uid::PATIENT_ROOT_MOVE,
    uid::PATIENT_ROOT_GET,
    uid::STUDY_ROOT_FIND,
    uid::STUDY_ROOT_MOVE,
    uid::STUDY_ROOT_GET,
    uid::PATIENT_STUDY_ONLY_FIND,
    uid::PATIENT_STUDY_ONLY_MOVE,
    uid::PATIENT_STUDY_ONLY_GET,
    uid::MODALITY_WORKLIST_FIND,
];

/// Why a well-formed request is not served.
#[derive(Debug)]
pub struct Refusal {
    /// What to answer.
    pub status: Status,
    /// Why, for the log and the error comment.
    pub why: String,
}

impl Service {
    /// Whether only known peers may have it.
    pub const fn needs_trust(self) -> bool {
        matches!(self, Self::Find(_) | Self::Move(_) | Self::Get(_))
    }
}

/// The service that a request on this context asks for.
pub fn service(
    association: &Association,
    context_id: u8,
    request: &CommandRequest,
) -> Result<Service, Refusal> {
    let refusal = |status, why: String| Err(Refusal { status, why });
    let Some(context) = association.context(context_id) else {
        return refusal(
            Status::SOP_CLASS_NOT_SUPPORTED,
            "no such presentation context".into(),
        );
    };
    let class = context.abstract_syntax.as_str();
    if request
        .sop_class_uid()
        .is_some_and(|asked| asked.as_str() != class)
    {
        let why = "SOP class differs from the presentation context's".into();
        return refusal(Status::SOP_CLASS_NOT_SUPPORTED, why);
    }
    match (request, InformationModel::from_sop_class(class)) {
        (CommandRequest::CEcho(_), None) if class == uid::VERIFICATION => Ok(Service::Echo),
        (CommandRequest::CStore(_), None) if class != uid::VERIFICATION => Ok(Service::Store),
        (CommandRequest::CFind(_), Some((model, QueryService::Find))) => Ok(Service::Find(model)),
        (CommandRequest::CMove(_), Some((model, QueryService::Move))) => Ok(Service::Move(model)),
        (CommandRequest::CGet(_), Some((model, QueryService::Get))) => Ok(Service::Get(model)),
        _ => refusal(
            Status::UNRECOGNIZED_OPERATION,
            format!(
                "operation {:04X}H is not one of SOP class {class}",
                request.command_field()
            ),
        ),
    }
}

/// Does what a request with an identifier asks.
pub fn perform(
    session: &mut Session,
    service: Service,
    context_id: u8,
    request: &CommandRequest,
    identifier: &[u8],
) -> Result<(), LinkError> {
    match (service, request) {
        (Service::Find(model), CommandRequest::CFind(request)) => {
            scp_find::perform(session, model, context_id, request, identifier)
        }
        (Service::Move(model), CommandRequest::CMove(request)) => {
            scp_move::perform(session, model, context_id, request, identifier)
        }
        (Service::Get(model), CommandRequest::CGet(request)) => {
            scp_get::perform(session, model, context_id, request, identifier)
        }
        // `service` gives no other pair an identifier.
        _ => Err(LinkError::Unexpected(
            "an identifier for a service without one",
        )),
    }
}
