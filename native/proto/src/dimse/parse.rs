//! From command set to typed request, or why not.
//!
//! Fields that decide something are strict: a missing one is 0120, an impossible one 0106, an empty
//! one 0121. Fields that decide nothing are lenient: an unknown priority is medium, an impossible
//! move originator is left out, for refusing an image over them would help nobody. What cannot be
//! answered at all (no command field, no message id, no such operation) has no response, and the
//! association must be aborted.

use super::{
    CCancelRq, CEchoRq, CFindRq, CGetRq, CMoveRq, CStoreRq, CommandRequest, CommandResponse,
    CommandSet, NOperation, NServiceRq, Priority, command_field as field, element,
};
use crate::ae::AeTitle;
use crate::status::Status;
use crate::tag::Tag;
use crate::uid::Uid;

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
    /// Why nobody could answer this message: neither its kind nor its id can be told. `association`
    /// refuses such messages, so that the errors of `parse` always have a response, but for
    /// `UnexpectedResponse`.
    pub fn unanswerable(&self) -> Option<CommandError> {
        let Some(command) = self.command_field() else {
            return Some(CommandError::NoCommandField);
        };
        let refers = command == field::C_CANCEL_RQ || command & field::RESPONSE != 0;
        let id = if refers {
            self.message_id_being_responded_to()
        } else {
            self.message_id()
        };
        if command != field::C_CANCEL_RQ && !is_answerable(command & !field::RESPONSE) {
            return Some(CommandError::UnknownCommand(command));
        }
        if id.is_none() {
            Some(CommandError::NoMessageId)
        } else {
            None
        }
    }

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
