//! Typed requests of all DIMSE services (PS3.7 9.3, 10.3) and their encoder.
//!
//! A request here is complete: what is mandatory is no `Option`. The C-services have a type each,
//! the six N-services share one, since they differ only in which elements they name. `parse` makes
//! requests from command sets; nothing here judges whether a SOP class or a context fits.

use super::command_set::Writer;
use super::{DATA_SET_FOLLOWS, NO_DATA_SET, command_field as field, element};
use crate::ae::AeTitle;
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

impl NOperation {
    const ALL: [(u16, Self); 6] = [
        (field::N_EVENT_REPORT_RQ, Self::EventReport),
        (field::N_GET_RQ, Self::Get),
        (field::N_SET_RQ, Self::Set),
        (field::N_ACTION_RQ, Self::Action),
        (field::N_CREATE_RQ, Self::Create),
        (field::N_DELETE_RQ, Self::Delete),
    ];

    pub(super) fn from_field(command: u16) -> Option<Self> {
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

    pub(super) const fn class_element(self) -> Tag {
        if self.is_affected() {
            element::AFFECTED_SOP_CLASS_UID
        } else {
            element::REQUESTED_SOP_CLASS_UID
        }
    }

    pub(super) const fn instance_element(self) -> Tag {
        if self.is_affected() {
            element::AFFECTED_SOP_INSTANCE_UID
        } else {
            element::REQUESTED_SOP_INSTANCE_UID
        }
    }

    pub(super) const fn type_element(self) -> Option<Tag> {
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
