//! DIMSE messages (PS3.7): command sets, the typed requests and responses they carry, and their
//! encoders.
//!
//! A command set is decoded in two steps with different consequences. `CommandSet::decode` checks
//! the frame; what fails there cannot be answered and aborts the association. `CommandSet::parse`
//! gives the operation's meaning; what fails there is a `CommandError` that knows the status to
//! answer with, if it can be answered. Data sets, presentation contexts and services are not judged
//! here.

mod command_set;
mod parse;
mod request;
mod response;

pub use command_set::{CommandSet, CommandSetError};
pub use parse::CommandError;
pub use request::{
    CCancelRq, CEchoRq, CFindRq, CGetRq, CMoveRq, CStoreRq, CommandRequest, NOperation, NServiceRq,
    Priority,
};
pub use response::{CommandResponse, ERROR_COMMENT_CHARS_MAX, SubOperations};

/// Command fields (PS3.7 E.1-1); a response has bit 15 set.
pub mod command_field {
    /// C-STORE-RQ.
    pub const C_STORE_RQ: u16 = 0x0001;
    /// C-GET-RQ.
    pub const C_GET_RQ: u16 = 0x0010;
    /// C-FIND-RQ.
    pub const C_FIND_RQ: u16 = 0x0020;
    /// C-MOVE-RQ.
    pub const C_MOVE_RQ: u16 = 0x0021;
    /// C-ECHO-RQ.
    pub const C_ECHO_RQ: u16 = 0x0030;
    /// N-EVENT-REPORT-RQ.
    pub const N_EVENT_REPORT_RQ: u16 = 0x0100;
    /// N-GET-RQ.
    pub const N_GET_RQ: u16 = 0x0110;
    /// N-SET-RQ.
    pub const N_SET_RQ: u16 = 0x0120;
    /// N-ACTION-RQ.
    pub const N_ACTION_RQ: u16 = 0x0130;
    /// N-CREATE-RQ.
    pub const N_CREATE_RQ: u16 = 0x0140;
    /// N-DELETE-RQ.
    pub const N_DELETE_RQ: u16 = 0x0150;
    /// C-CANCEL-RQ, which has no response.
    pub const C_CANCEL_RQ: u16 = 0x0FFF;
    /// Bit of every response.
    pub const RESPONSE: u16 = 0x8000;
}

/// Elements of a command set (PS3.7 table E.1-1).
pub mod element {
    use crate::tag::Tag;

    /// Length of the elements that follow.
    pub const GROUP_LENGTH: Tag = Tag::new(0, 0x0000);
    /// Affected SOP class UID.
    pub const AFFECTED_SOP_CLASS_UID: Tag = Tag::new(0, 0x0002);
    /// Requested SOP class UID.
    pub const REQUESTED_SOP_CLASS_UID: Tag = Tag::new(0, 0x0003);
    /// Command field.
    pub const COMMAND_FIELD: Tag = Tag::new(0, 0x0100);
    /// Message id.
    pub const MESSAGE_ID: Tag = Tag::new(0, 0x0110);
    /// Message id being responded to.
    pub const MESSAGE_ID_BEING_RESPONDED_TO: Tag = Tag::new(0, 0x0120);
    /// Move destination.
    pub const MOVE_DESTINATION: Tag = Tag::new(0, 0x0600);
    /// Priority.
    pub const PRIORITY: Tag = Tag::new(0, 0x0700);
    /// Command data set type.
    pub const COMMAND_DATA_SET_TYPE: Tag = Tag::new(0, 0x0800);
    /// Status.
    pub const STATUS: Tag = Tag::new(0, 0x0900);
    /// Offending element.
    pub const OFFENDING_ELEMENT: Tag = Tag::new(0, 0x0901);
    /// Error comment.
    pub const ERROR_COMMENT: Tag = Tag::new(0, 0x0902);
    /// Error id.
    pub const ERROR_ID: Tag = Tag::new(0, 0x0903);
    /// Affected SOP instance UID.
    pub const AFFECTED_SOP_INSTANCE_UID: Tag = Tag::new(0, 0x1000);
    /// Requested SOP instance UID.
    pub const REQUESTED_SOP_INSTANCE_UID: Tag = Tag::new(0, 0x1001);
    /// Event type id.
    pub const EVENT_TYPE_ID: Tag = Tag::new(0, 0x1002);
    /// Attribute identifier list.
    pub const ATTRIBUTE_IDENTIFIER_LIST: Tag = Tag::new(0, 0x1005);
    /// Action type id.
    pub const ACTION_TYPE_ID: Tag = Tag::new(0, 0x1008);
    /// Number of remaining sub-operations.
    pub const REMAINING_SUB_OPERATIONS: Tag = Tag::new(0, 0x1020);
    /// Number of completed sub-operations.
    pub const COMPLETED_SUB_OPERATIONS: Tag = Tag::new(0, 0x1021);
    /// Number of failed sub-operations.
    pub const FAILED_SUB_OPERATIONS: Tag = Tag::new(0, 0x1022);
    /// Number of warning sub-operations.
    pub const WARNING_SUB_OPERATIONS: Tag = Tag::new(0, 0x1023);
    /// Move originator application entity title.
    pub const MOVE_ORIGINATOR_AE: Tag = Tag::new(0, 0x1030);
    /// Move originator message id.
    pub const MOVE_ORIGINATOR_MESSAGE_ID: Tag = Tag::new(0, 0x1031);
}

/// Value of (0000,0800) when no data set follows; every other value means that one does.
pub const NO_DATA_SET: u16 = 0x0101;
/// Value that we write when a data set follows.
const DATA_SET_FOLLOWS: u16 = 0x0001;
