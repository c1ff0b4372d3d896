//! Typed requests (PS3.7 9.3, 10.3): what a command set asks for, or why it cannot be asked.
//!
//! Fields that decide something are strict: a missing one is 0120, an impossible one 0106, an empty
//! one 0121. Fields that decide nothing are lenient: an unknown priority is medium, an impossible
//! move originator is left out, for refusing an image over them would help nobody.

use super::command_set::Writer;
use super::{
    CommandResponse, CommandSet, DATA_SET_FOLLOWS, NO_DATA_SET, command_field as field, element,
};
use crate::ae::AeTitle;
use crate::status::Status;
use crate::tag::Tag;
use crate::uid::Uid;

/// Priority of a request (PS3.7 9.1); this server serves all alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u16)]
pub enum Priority {
    /// Also what an unknown value means.
    #[default]
    Medium = 0,
    /// Before others.
    High = 1,
    /// After others.
    Low = 2,
}

/// C-ECHO-RQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CEchoRq {
    /// Message id.
    pub message_id: u16,
    /// Affected SOP class.
    pub sop_class_uid: Uid,
}

/// C-STORE-RQ; a data set follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CStoreRq {
    /// Message id.
    pub message_id: u16,
    /// Affected SOP class.
    pub sop_class_uid: Uid,
    /// Affected SOP instance; at most 64 printable characters, not necessarily a legal UID.
    pub sop_instance_uid: Uid,
    /// Priority.
    pub priority: Priority,
    /// AE title of the C-MOVE requestor, in a sub-operation of a C-MOVE.
    pub move_originator_ae: Option<AeTitle>,
    /// Message id of the C-MOVE, likewise.
    pub move_originator_message_id: Option<u16>,
}

/// C-FIND-RQ; an identifier follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CFindRq {
    /// Message id.
    pub message_id: u16,
    /// Affected SOP class.
    pub sop_class_uid: Uid,
    /// Priority.
    pub priority: Priority,
}

/// C-MOVE-RQ; an identifier follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CMoveRq {
    /// Message id.
    pub message_id: u16,
    /// Affected SOP class.
    pub sop_class_uid: Uid,
    /// Priority.
    pub priority: Priority,
    /// Where the objects go.
    pub destination: AeTitle,
}

/// C-GET-RQ; an identifier follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CGetRq {
    /// Message id.
    pub message_id: u16,
    /// Affected SOP class.
    pub sop_class_uid: Uid,
    /// Priority.
    pub priority: Priority,
}

/// C-CANCEL-RQ, which is never answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CCancelRq {
    /// Message id of the operation to end.
    pub message_id_being_responded_to: u16,
}

/// The six operations and notifications on normalised instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NOperation {
    /// N-EVENT-REPORT.
    EventReport,
    /// N-GET.
    Get,
    /// N-SET.
    Set,
    /// N-ACTION.
    Action,
    /// N-CREATE.
    Create,
    /// N-DELETE.
    Delete,
}

/// Any N-service request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NServiceRq {
    /// Which one.
    pub operation: NOperation,
    /// Message id.
    pub message_id: u16,
    /// Requested SOP class; affected SOP class in N-EVENT-REPORT and N-CREATE.
    pub sop_class_uid: Uid,
    /// Its instance; `None` only in N-CREATE, where the performer may choose one.
    pub sop_instance_uid: Option<Uid>,
    /// Event type of N-EVENT-REPORT, action type of N-ACTION, else `None`.
    pub type_id: Option<u16>,
    /// Attributes that N-GET asks for; empty means all.
    pub attributes: Vec<Tag>,
    /// A data set follows.
    pub has_dataset: bool,
}

/// Any request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandRequest {
    /// C-ECHO.
    CEcho(CEchoRq),
    /// C-STORE.
    CStore(CStoreRq),
    /// C-FIND.
    CFind(CFindRq),
    /// C-MOVE.
    CMove(CMoveRq),
    /// C-GET.
    CGet(CGetRq),
    /// C-CANCEL.
    CCancel(CCancelRq),
    /// One of the N-services.
    NService(NServiceRq),
}

/// Why a command set is no request that can be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No command field: nothing can be answered.
    #[error("no command field")]
    NoCommandField,
    /// No message id: nothing can be answered.
    #[error("no message id")]
    NoMessageId,
    /// A command field that no operation has: nothing can be answered.
    #[error("unknown command field {0:04X}")]
    UnknownCommand(u16),
    /// A response where a request was expected: nothing is to be answered.
    #[error("unexpected response {0:04X}")]
    UnexpectedResponse(u16),
    /// A mandatory element is absent.
    #[error("{0} is missing")]
    Missing(Tag),
    /// A mandatory element is empty.
    #[error("{0} is empty")]
    EmptyValue(Tag),
    /// An element with an impossible value.
    #[error("{0} is invalid")]
    Invalid(Tag),
    /// A move destination that cannot be an AE title.
    #[error("the move destination is no AE title")]
    Destination,
    /// C-STORE without a data set.
    #[error("no data set follows")]
    NoDataset,
    /// C-FIND, C-MOVE or C-GET without an identifier.
    #[error("no identifier follows")]
    NoIdentifier,
}

impl CommandError {
    /// The status to answer with.
    pub const fn status(&self) -> Status {
        match self {
            Self::NoCommandField | Self::NoMessageId | Self::Missing(_) => {
                Status::MISSING_ATTRIBUTE
            }
            Self::UnknownCommand(_) | Self::UnexpectedResponse(_) => Status::UNRECOGNIZED_OPERATION,
            Self::EmptyValue(_) => Status::MISSING_ATTRIBUTE_VALUE,
            Self::Invalid(_) => Status::INVALID_ATTRIBUTE_VALUE,
            Self::Destination => Status::MOVE_DESTINATION_UNKNOWN,
            Self::NoDataset => Status::CANNOT_UNDERSTAND,
            Self::NoIdentifier => Status::DATA_SET_DOES_NOT_MATCH,
        }
    }

    /// The element to name in (0000,0901).
    pub const fn offending(&self) -> Option<Tag> {
        match self {
            Self::NoCommandField | Self::UnknownCommand(_) | Self::UnexpectedResponse(_) => {
                Some(element::COMMAND_FIELD)
            }
            Self::NoMessageId => Some(element::MESSAGE_ID),
            Self::Missing(tag) | Self::EmptyValue(tag) | Self::Invalid(tag) => Some(*tag),
            Self::Destination => Some(element::MOVE_DESTINATION),
            Self::NoDataset | Self::NoIdentifier => Some(element::COMMAND_DATA_SET_TYPE),
        }
    }

    /// The response to send; `None` if there is no way to answer and the association must be
    /// aborted.
    pub fn response(&self, command: &CommandSet) -> Option<CommandResponse> {
        let request_field = command.command_field().filter(|f| is_answerable(*f))?;
        let mut response =
            CommandResponse::new(request_field, command.message_id()?, self.status());
        response.sop_class_uid = command
            .uid(element::AFFECTED_SOP_CLASS_UID)
            .or_else(|| command.uid(element::REQUESTED_SOP_CLASS_UID));
        response.offending.extend(self.offending());
        Some(response.with_comment(&self.to_string()))
    }
}

/// A request that exists and has a response.
const fn is_answerable(request_field: u16) -> bool {
    matches!(
        request_field,
        field::C_STORE_RQ
            | field::C_GET_RQ
            | field::C_FIND_RQ
            | field::C_MOVE_RQ
            | field::C_ECHO_RQ
            | field::N_EVENT_REPORT_RQ
            | field::N_GET_RQ
            | field::N_SET_RQ
            | field::N_ACTION_RQ
            | field::N_CREATE_RQ
            | field::N_DELETE_RQ
    )
}

impl CommandSet {
    /// The request that this command set carries.
    pub fn parse(&self) -> Result<CommandRequest, CommandError> {
        let command = self.command_field().ok_or(CommandError::NoCommandField)?;
        if command & field::RESPONSE != 0 {
            return Err(CommandError::UnexpectedResponse(command));
        }
        if command == field::C_CANCEL_RQ {
            let message_id_being_responded_to = self
                .message_id_being_responded_to()
                .ok_or(CommandError::NoMessageId)?;
            return Ok(CommandRequest::CCancel(CCancelRq {
                message_id_being_responded_to,
            }));
        }
        if !is_answerable(command) {
            return Err(CommandError::UnknownCommand(command));
        }
        let message_id = self.message_id().ok_or(CommandError::NoMessageId)?;
        self.u16(element::COMMAND_DATA_SET_TYPE)
            .ok_or(CommandError::Missing(element::COMMAND_DATA_SET_TYPE))?;
        if let Some(operation) = NOperation::from_field(command) {
            return self.parse_n(operation, message_id);
        }
        let sop_class_uid = self.require_uid(element::AFFECTED_SOP_CLASS_UID)?;
        self.parse_c(command, message_id, sop_class_uid)
    }

    fn parse_c(
        &self,
        command: u16,
        message_id: u16,
        sop_class_uid: Uid,
    ) -> Result<CommandRequest, CommandError> {
        let priority = self.priority();
        if command == field::C_ECHO_RQ {
            return Ok(CommandRequest::CEcho(CEchoRq {
                message_id,
                sop_class_uid,
            }));
        }
        if command == field::C_STORE_RQ {
            let sop_instance_uid = self.require_uid(element::AFFECTED_SOP_INSTANCE_UID)?;
            if !self.has_dataset() {
                return Err(CommandError::NoDataset);
            }
            return Ok(CommandRequest::CStore(CStoreRq {
                message_id,
                sop_class_uid,
                sop_instance_uid,
                priority,
                move_originator_ae: self
                    .get(element::MOVE_ORIGINATOR_AE)
                    .and_then(|value| AeTitle::from_value(value).ok()),
                move_originator_message_id: self.u16(element::MOVE_ORIGINATOR_MESSAGE_ID),
            }));
        }
        let destination = self.get(element::MOVE_DESTINATION).unwrap_or_default();
        let destination = AeTitle::from_value(destination).map_err(|_| CommandError::Destination);
        if !self.has_dataset() {
            return Err(CommandError::NoIdentifier);
        }
        Ok(match command {
            field::C_FIND_RQ => CommandRequest::CFind(CFindRq {
                message_id,
                sop_class_uid,
                priority,
            }),
            field::C_GET_RQ => CommandRequest::CGet(CGetRq {
                message_id,
                sop_class_uid,
                priority,
            }),
            field::C_MOVE_RQ => {
                let destination = destination?;
                CommandRequest::CMove(CMoveRq {
                    message_id,
                    sop_class_uid,
                    priority,
                    destination,
                })
            }
            other => return Err(CommandError::UnknownCommand(other)),
        })
    }

    fn parse_n(
        &self,
        operation: NOperation,
        message_id: u16,
    ) -> Result<CommandRequest, CommandError> {
        let sop_class_uid = self.require_uid(operation.class_element())?;
        let sop_instance_uid = match self.require_uid(operation.instance_element()) {
            Err(CommandError::Missing(_) | CommandError::EmptyValue(_))
                if operation == NOperation::Create =>
            {
                None
            }
            uid => Some(uid?),
        };
        let type_id = match operation.type_element() {
            Some(tag) => Some(self.u16(tag).ok_or(CommandError::Missing(tag))?),
            None => None,
        };
        let attributes = self
            .get(element::ATTRIBUTE_IDENTIFIER_LIST)
            .unwrap_or_default();
        Ok(CommandRequest::NService(NServiceRq {
            operation,
            message_id,
            sop_class_uid,
            sop_instance_uid,
            type_id,
            attributes: tags(attributes),
            has_dataset: self.has_dataset(),
        }))
    }

    fn require_uid(&self, tag: Tag) -> Result<Uid, CommandError> {
        let value = self.get(tag).ok_or(CommandError::Missing(tag))?;
        match Uid::from_value(value) {
            Ok(uid) if uid.is_empty() => Err(CommandError::EmptyValue(tag)),
            Ok(uid) => Ok(uid),
            Err(_) => Err(CommandError::Invalid(tag)),
        }
    }

    fn priority(&self) -> Priority {
        match self.u16(element::PRIORITY) {
            Some(1) => Priority::High,
            Some(2) => Priority::Low,
            _ => Priority::Medium,
        }
    }
}

/// An AT value.
pub(super) fn tags(value: &[u8]) -> Vec<Tag> {
    let word = |pair: &[u8]| pair.iter().rev().fold(0, |n, &b| n << 8 | u16::from(b));
    let tag = |four: &[u8]| {
        four.split_at_checked(2)
            .map(|(g, e)| Tag::new(word(g), word(e)))
    };
    value.chunks_exact(4).filter_map(tag).collect()
}

impl NOperation {
    const ALL: [(u16, Self); 6] = [
        (field::N_EVENT_REPORT_RQ, Self::EventReport),
        (field::N_GET_RQ, Self::Get),
        (field::N_SET_RQ, Self::Set),
        (field::N_ACTION_RQ, Self::Action),
        (field::N_CREATE_RQ, Self::Create),
        (field::N_DELETE_RQ, Self::Delete),
    ];

    fn from_field(command: u16) -> Option<Self> {
        Self::ALL
            .iter()
            .find_map(|&(f, operation)| (f == command).then_some(operation))
    }

    /// Command field of the request.
    pub const fn command_field(self) -> u16 {
        match self {
            Self::EventReport => field::N_EVENT_REPORT_RQ,
            Self::Get => field::N_GET_RQ,
            Self::Set => field::N_SET_RQ,
            Self::Action => field::N_ACTION_RQ,
            Self::Create => field::N_CREATE_RQ,
            Self::Delete => field::N_DELETE_RQ,
        }
    }

    const fn is_affected(self) -> bool {
        matches!(self, Self::EventReport | Self::Create)
    }

    const fn class_element(self) -> Tag {
        if self.is_affected() {
            element::AFFECTED_SOP_CLASS_UID
        } else {
            element::REQUESTED_SOP_CLASS_UID
        }
    }

    const fn instance_element(self) -> Tag {
        if self.is_affected() {
            element::AFFECTED_SOP_INSTANCE_UID
        } else {
            element::REQUESTED_SOP_INSTANCE_UID
        }
    }

    const fn type_element(self) -> Option<Tag> {
        match self {
            Self::EventReport => Some(element::EVENT_TYPE_ID),
            Self::Action => Some(element::ACTION_TYPE_ID),
            _ => None,
        }
    }
}

impl CommandRequest {
    /// Command field of the request.
    pub const fn command_field(&self) -> u16 {
        match self {
            Self::CEcho(_) => field::C_ECHO_RQ,
            Self::CStore(_) => field::C_STORE_RQ,
            Self::CFind(_) => field::C_FIND_RQ,
            Self::CMove(_) => field::C_MOVE_RQ,
            Self::CGet(_) => field::C_GET_RQ,
            Self::CCancel(_) => field::C_CANCEL_RQ,
            Self::NService(rq) => rq.operation.command_field(),
        }
    }

    /// Message id; for C-CANCEL the one of the operation to end.
    pub const fn message_id(&self) -> u16 {
        match self {
            Self::CEcho(rq) => rq.message_id,
            Self::CStore(rq) => rq.message_id,
            Self::CFind(rq) => rq.message_id,
            Self::CMove(rq) => rq.message_id,
            Self::CGet(rq) => rq.message_id,
            Self::CCancel(rq) => rq.message_id_being_responded_to,
            Self::NService(rq) => rq.message_id,
        }
    }

    /// SOP class that the request is about; `None` for C-CANCEL.
    pub const fn sop_class_uid(&self) -> Option<&Uid> {
        match self {
            Self::CEcho(rq) => Some(&rq.sop_class_uid),
            Self::CStore(rq) => Some(&rq.sop_class_uid),
            Self::CFind(rq) => Some(&rq.sop_class_uid),
            Self::CMove(rq) => Some(&rq.sop_class_uid),
            Self::CGet(rq) => Some(&rq.sop_class_uid),
            Self::CCancel(_) => None,
            Self::NService(rq) => Some(&rq.sop_class_uid),
        }
    }

    /// SOP instance that the request is about, where it names one.
    pub const fn sop_instance_uid(&self) -> Option<&Uid> {
        match self {
            Self::CStore(rq) => Some(&rq.sop_instance_uid),
            Self::NService(rq) => rq.sop_instance_uid.as_ref(),
            _ => None,
        }
    }

    /// Appends the command set to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        let (affected, requested) = match self {
            Self::NService(rq) if !rq.operation.is_affected() => (None, self.sop_class_uid()),
            _ => (self.sop_class_uid(), None),
        };
        w.uid(element::AFFECTED_SOP_CLASS_UID, affected);
        w.uid(element::REQUESTED_SOP_CLASS_UID, requested);
        w.u16(element::COMMAND_FIELD, self.command_field());
        let cancel = matches!(self, Self::CCancel(_));
        let id = if cancel {
            element::MESSAGE_ID_BEING_RESPONDED_TO
        } else {
            element::MESSAGE_ID
        };
        w.u16(id, self.message_id());
        match self {
            Self::CStore(CStoreRq { priority, .. })
            | Self::CFind(CFindRq { priority, .. })
            | Self::CGet(CGetRq { priority, .. }) => w.u16(element::PRIORITY, *priority as u16),
            Self::CMove(rq) => {
                w.text(element::MOVE_DESTINATION, rq.destination.as_str());
                w.u16(element::PRIORITY, rq.priority as u16);
            }
            _ => {}
        }
        let has_dataset = match self {
            Self::CEcho(_) | Self::CCancel(_) => false,
            Self::NService(rq) => rq.has_dataset,
            _ => true,
        };
        let data_set = if has_dataset {
            DATA_SET_FOLLOWS
        } else {
            NO_DATA_SET
        };
        w.u16(element::COMMAND_DATA_SET_TYPE, data_set);
        match self {
            Self::CStore(rq) => encode_store(rq, &mut w),
            Self::NService(rq) => encode_n(rq, &mut w),
            _ => {}
        }
        w.finish();
    }

    /// The command set.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.encode(&mut out);
        out
    }
}

fn encode_store(rq: &CStoreRq, w: &mut Writer<'_>) {
    w.uid(
        element::AFFECTED_SOP_INSTANCE_UID,
        Some(&rq.sop_instance_uid),
    );
    if let Some(ae) = &rq.move_originator_ae {
        w.text(element::MOVE_ORIGINATOR_AE, ae.as_str());
    }
    if let Some(id) = rq.move_originator_message_id {
        w.u16(element::MOVE_ORIGINATOR_MESSAGE_ID, id);
    }
}

fn encode_n(rq: &NServiceRq, w: &mut Writer<'_>) {
    w.uid(
        rq.operation.instance_element(),
        rq.sop_instance_uid.as_ref(),
    );
    let type_id = |tag| {
        rq.type_id
            .filter(|_| rq.operation.type_element() == Some(tag))
    };
    if let Some(id) = type_id(element::EVENT_TYPE_ID) {
        w.u16(element::EVENT_TYPE_ID, id);
    }
    if !rq.attributes.is_empty() {
        w.tags(element::ATTRIBUTE_IDENTIFIER_LIST, &rq.attributes);
    }
    if let Some(id) = type_id(element::ACTION_TYPE_ID) {
        w.u16(element::ACTION_TYPE_ID, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_n_operation_has_one_field() {
        for (command, operation) in NOperation::ALL {
            assert_eq!(operation.command_field(), command);
            assert_eq!(NOperation::from_field(command), Some(operation));
        }
    }
}
