//! Responses (PS3.7 9.3, 10.3): one type for all services, since they differ only in what they
//! leave out.
//!
//! The encoder writes what is set; which optional elements belong into which response is the
//! service's decision.

use super::command_set::Writer;
use super::parse::tags;
use super::{CommandRequest, CommandSet, DATA_SET_FOLLOWS, NO_DATA_SET, command_field, element};
use crate::status::Status;
use crate::tag::Tag;
use crate::uid::Uid;

/// Longest error comment: VR LO (PS3.7 table C.1, PS3.5 6.2).
pub const ERROR_COMMENT_CHARS_MAX: usize = 64;

/// Counts of a C-MOVE or C-GET response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubOperations {
    /// Not begun; only in a pending or cancelled response.
    pub remaining: Option<u16>,
    /// Done.
    pub completed: u16,
    /// Failed.
    pub failed: u16,
    /// Done with a warning.
    pub warning: u16,
}

/// Any response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandResponse {
    /// Command field with the response bit.
    pub command_field: u16,
    /// Message id of the request.
    pub message_id: u16,
    /// Status.
    pub status: Status,
    /// Affected SOP class.
    pub sop_class_uid: Option<Uid>,
    /// Affected SOP instance.
    pub sop_instance_uid: Option<Uid>,
    /// Event type (N-EVENT-REPORT) or action type (N-ACTION).
    pub type_id: Option<u16>,
    /// Counts of C-MOVE and C-GET.
    pub sub_operations: Option<SubOperations>,
    /// Elements that caused the status.
    pub offending: Vec<Tag>,
    /// What went wrong, for people; empty if nothing is to be said.
    pub error_comment: String,
    /// A data set follows.
    pub has_dataset: bool,
}

impl CommandResponse {
    /// A bare response to the request with this command field.
    pub const fn new(request_field: u16, message_id: u16, status: Status) -> Self {
        Self {
            command_field: request_field | command_field::RESPONSE,
            message_id,
            status,
            sop_class_uid: None,
            sop_instance_uid: None,
            type_id: None,
            sub_operations: None,
            offending: Vec::new(),
            error_comment: String::new(),
            has_dataset: false,
        }
    }

    /// A response that repeats the request's SOP class, instance and type.
    pub fn to(request: &CommandRequest, status: Status) -> Self {
        let mut response = Self::new(request.command_field(), request.message_id(), status);
        response.sop_class_uid = request.sop_class_uid().copied();
        response.sop_instance_uid = request.sop_instance_uid().copied();
        if let CommandRequest::NService(rq) = request {
            response.type_id = rq.type_id;
        }
        response
    }

    /// Sets the error comment: printable ASCII, cut at 64 characters.
    #[must_use]
    pub fn with_comment(mut self, comment: &str) -> Self {
        let safe = |c: char| {
            if c == '\\' || !(' '..='~').contains(&c) {
                '_'
            } else {
                c
            }
        };
        self.error_comment = comment
            .chars()
            .take(ERROR_COMMENT_CHARS_MAX)
            .map(safe)
            .collect();
        // A blank at the cut would be padding to the reader.
        let length = self.error_comment.trim_end_matches(' ').len();
        self.error_comment.truncate(length);
        self
    }

    /// Sets the counts of a C-MOVE or C-GET response.
    #[must_use]
    pub const fn with_sub_operations(mut self, counts: SubOperations) -> Self {
        self.sub_operations = Some(counts);
        self
    }

    /// Says that a data set follows.
    #[must_use]
    pub const fn with_dataset(mut self) -> Self {
        self.has_dataset = true;
        self
    }

    /// Appends the command set to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.uid(element::AFFECTED_SOP_CLASS_UID, self.sop_class_uid.as_ref());
        w.u16(element::COMMAND_FIELD, self.command_field);
        w.u16(element::MESSAGE_ID_BEING_RESPONDED_TO, self.message_id);
        let data_set = if self.has_dataset {
            DATA_SET_FOLLOWS
        } else {
            NO_DATA_SET
        };
        w.u16(element::COMMAND_DATA_SET_TYPE, data_set);
        w.u16(element::STATUS, self.status.0);
        if !self.offending.is_empty() {
            w.tags(element::OFFENDING_ELEMENT, &self.offending);
        }
        if !self.error_comment.is_empty() {
            w.text(element::ERROR_COMMENT, &self.error_comment);
        }
        w.uid(
            element::AFFECTED_SOP_INSTANCE_UID,
            self.sop_instance_uid.as_ref(),
        );
        if let (Some(id), Some(tag)) = (self.type_id, self.type_element()) {
            w.u16(tag, id);
        }
        if let Some(counts) = self.sub_operations {
            if let Some(remaining) = counts.remaining {
                w.u16(element::REMAINING_SUB_OPERATIONS, remaining);
            }
            w.u16(element::COMPLETED_SUB_OPERATIONS, counts.completed);
            w.u16(element::FAILED_SUB_OPERATIONS, counts.failed);
            w.u16(element::WARNING_SUB_OPERATIONS, counts.warning);
        }
        w.finish();
    }

    /// The command set.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.encode(&mut out);
        out
    }

    const fn type_element(&self) -> Option<Tag> {
        type_element(self.command_field)
    }
}

const fn type_element(response_field: u16) -> Option<Tag> {
    match response_field & !command_field::RESPONSE {
        command_field::N_EVENT_REPORT_RQ => Some(element::EVENT_TYPE_ID),
        command_field::N_ACTION_RQ => Some(element::ACTION_TYPE_ID),
        _ => None,
    }
}

impl CommandSet {
    /// The response that this command set carries; `None` if it is none or lacks message id or
    /// status.
    pub fn parse_response(&self) -> Option<CommandResponse> {
        let command_field = self
            .command_field()
            .filter(|f| f & command_field::RESPONSE != 0)?;
        let message_id = self.message_id_being_responded_to()?;
        let mut response = CommandResponse::new(command_field, message_id, self.status()?);
        response.sop_class_uid = self.uid(element::AFFECTED_SOP_CLASS_UID);
        response.sop_instance_uid = self.uid(element::AFFECTED_SOP_INSTANCE_UID);
        response.type_id = type_element(command_field).and_then(|tag| self.u16(tag));
        response.offending = tags(self.get(element::OFFENDING_ELEMENT).unwrap_or_default());
        response.has_dataset = self.has_dataset();
        let completed = self.u16(element::COMPLETED_SUB_OPERATIONS);
        let failed = self.u16(element::FAILED_SUB_OPERATIONS);
        let remaining = self.u16(element::REMAINING_SUB_OPERATIONS);
        if completed.or(failed).or(remaining).is_some() {
            response.sub_operations = Some(SubOperations {
                remaining,
                completed: completed.unwrap_or(0),
                failed: failed.unwrap_or(0),
                warning: self.u16(element::WARNING_SUB_OPERATIONS).unwrap_or(0),
            });
        }
        let comment = self.get(element::ERROR_COMMENT).unwrap_or_default();
        Some(response.with_comment(String::from_utf8_lossy(comment).trim_end_matches([' ', '\0'])))
    }
}
