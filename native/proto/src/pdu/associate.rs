//! A-ASSOCIATE-RQ and -AC (PS3.8 9.3.2, 9.3.3): fixed fields, application and presentation
//! contexts.
//!
//! Decoding checks frames (no item runs past its parent) and presentation context ids (odd, once
//! each). Protocol version and application context are only read: a wrong one is no broken PDU but
//! a rejection, which `association` sends. An abstract syntax that cannot be a UID becomes the
//! empty one and such transfer syntaxes are dropped, since nothing can match them: the context is
//! refused and its neighbours live.

use super::items::{Items, once, put_item, put_uid_item, read_uid};
use super::{PduError, PduHeader, PduType, UserInfo};
use crate::ae::{AE_BYTES_MAX, AeTitle};
use crate::transfer_syntax::TransferSyntax;
use crate::uid::{APPLICATION_CONTEXT, Uid};

/// Bit 0: the only protocol version there is (PS3.8 table 9-11).
pub const PROTOCOL_VERSION: u16 = 1;

/// Version, reserved, two titles, 32 reserved bytes (PS3.8 table 9-11).
const FIXED_BYTES: usize = 4 + 2 * AE_BYTES_MAX + RESERVED_BYTES;
/// Reserved bytes behind the titles, which an acceptance returns unchanged.
pub(crate) const RESERVED_BYTES: usize = 32;

/// LIMIT: transfer syntaxes that are kept of one proposal; the standard knows about sixty. The rest
/// is dropped, so that a request's memory stays near its size.
const TRANSFER_SYNTAXES_MAX: usize = 128;

const APPLICATION_CONTEXT_ITEM: u8 = 0x10;
const CONTEXT_RQ_ITEM: u8 = 0x20;
const CONTEXT_AC_ITEM: u8 = 0x21;
const ABSTRACT_SYNTAX_ITEM: u8 = 0x30;
const TRANSFER_SYNTAX_ITEM: u8 = 0x40;
const USER_INFO_ITEM: u8 = 0x50;

/// One proposed presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedContext {
    /// Odd number from 1 to 255.
    pub id: u8,
    /// SOP class or other abstract syntax; empty if missing or no UID, so that nothing supports it.
    pub abstract_syntax: Uid,
    /// Transfer syntaxes in the requestor's order.
    pub transfer_syntaxes: Vec<Uid>,
}

/// Request of an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociateRq {
    /// Bit set of versions; bit 0 is version 1.
    pub protocol_version: u16,
    /// Who is called.
    pub called_ae: AeTitle,
    /// Who calls.
    pub calling_ae: AeTitle,
    /// Application context name; empty if missing or no UID.
    pub application_context: Uid,
    /// Proposed presentation contexts.
    pub contexts: Vec<ProposedContext>,
    /// User information.
    pub user_info: UserInfo,
    /// Titles as they came, to be returned unchanged; see `Fixed`.
    pub(crate) fixed: Fixed,
}

/// Result of one presentation context (PS3.8 table 9-18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ContextResult {
    /// Accepted.
    Accepted = 0,
    /// Refused by the application.
    UserRejection = 1,
    /// Refused without a reason.
    NoReason = 2,
    /// The abstract syntax is not supported.
    AbstractSyntaxNotSupported = 3,
    /// None of the transfer syntaxes is supported.
    TransferSyntaxesNotSupported = 4,
}

impl ContextResult {
    /// The result of a byte; values that do not exist are refusals without a reason.
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Accepted,
            1 => Self::UserRejection,
            3 => Self::AbstractSyntaxNotSupported,
            4 => Self::TransferSyntaxesNotSupported,
            _ => Self::NoReason,
        }
    }
}

/// Reply to one proposed context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcContext {
    /// Id of the proposal.
    pub id: u8,
    /// Accepted or why not.
    pub result: ContextResult,
    /// The one chosen syntax; `None` where it has no meaning or is no UID.
    pub transfer_syntax: Option<Uid>,
}

/// Acceptance of an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociateAc {
    /// Bit set of versions; bit 0 is version 1.
    pub protocol_version: u16,
    /// Application context name; empty if missing or no UID.
    pub application_context: Uid,
    /// Replies to the proposed contexts.
    pub contexts: Vec<AcContext>,
    /// User information.
    pub user_info: UserInfo,
    /// Titles and reserved bytes of the request.
    pub(crate) fixed: Fixed,
}

/// The 64 bytes behind the version: titles and reserved bytes. An acceptance sends back what the
/// request had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub(crate) called: [u8; AE_BYTES_MAX],
    pub(crate) calling: [u8; AE_BYTES_MAX],
    pub(crate) reserved: [u8; RESERVED_BYTES],
}

impl Fixed {
    fn decode(body: &[u8]) -> Result<(u16, Self, &[u8]), PduError> {
        let short = PduError::Truncated {
            what: "A-ASSOCIATE",
            need: FIXED_BYTES,
            have: body.len(),
        };
        let Some((&[v1, v2, _, _], rest)) = body.split_first_chunk() else {
            return Err(short);
        };
        let Some((&called, rest)) = rest.split_first_chunk() else {
            return Err(short);
        };
        let Some((&calling, rest)) = rest.split_first_chunk() else {
            return Err(short);
        };
        let Some((&reserved, rest)) = rest.split_first_chunk() else {
            return Err(short);
        };
        Ok((
            u16::from_be_bytes([v1, v2]),
            Self {
                called,
                calling,
                reserved,
            },
            rest,
        ))
    }

    fn encode(&self, version: u16, out: &mut Vec<u8>) {
        out.extend(version.to_be_bytes());
        out.extend([0, 0]);
        out.extend(self.called);
        out.extend(self.calling);
        out.extend(self.reserved);
    }
}

impl AssociateRq {
    /// A request with DICOM's version and application context and our identity.
    pub fn new(called_ae: AeTitle, calling_ae: AeTitle, contexts: Vec<ProposedContext>) -> Self {
        Self {
            protocol_version: PROTOCOL_VERSION,
            called_ae,
            calling_ae,
            application_context: Uid::from_static(APPLICATION_CONTEXT),
            contexts,
            user_info: UserInfo::ours(),
            fixed: Fixed {
                called: called_ae.to_wire(),
                calling: calling_ae.to_wire(),
                reserved: [0; RESERVED_BYTES],
            },
        }
    }

    /// Decodes the variable field.
    pub fn decode(body: &[u8]) -> Result<Self, PduError> {
        let (protocol_version, fixed, rest) = Fixed::decode(body)?;
        let mut parts = Parts::default();
        let mut contexts = Vec::new();
        let mut ids = IdSet::default();
        let mut items = Items::new(rest);
        while let Some((kind, value)) = items.next_item("A-ASSOCIATE-RQ item")? {
            match kind {
                CONTEXT_RQ_ITEM => {
                    let context = decode_proposed(value)?;
                    ids.insert(context.id)?;
                    contexts.push(context);
                }
                _ => parts.decode_item(kind, value)?,
            }
        }
        Ok(Self {
            protocol_version,
            called_ae: AeTitle::from_wire(&fixed.called),
            calling_ae: AeTitle::from_wire(&fixed.calling),
            application_context: parts.application_context.unwrap_or_default(),
            contexts,
            user_info: parts.user_info.unwrap_or_default(),
            fixed,
        })
    }

    /// Appends the PDU to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_pdu(PduType::AssociateRq, out, |out| {
            let fixed = Fixed {
                called: self.called_ae.to_wire(),
                calling: self.calling_ae.to_wire(),
                ..self.fixed
            };
            fixed.encode(self.protocol_version, out);
            put_application_context(&self.application_context, out);
            for context in &self.contexts {
                put_item(CONTEXT_RQ_ITEM, out, |out| {
                    out.extend([context.id, 0, 0, 0]);
                    put_uid_item(ABSTRACT_SYNTAX_ITEM, &context.abstract_syntax, out);
                    for syntax in &context.transfer_syntaxes {
                        put_uid_item(TRANSFER_SYNTAX_ITEM, syntax, out);
                    }
                });
            }
            put_item(USER_INFO_ITEM, out, |out| self.user_info.encode(out));
        });
    }
}

impl AssociateAc {
    /// An acceptance of `rq`.
    pub fn new(rq: &AssociateRq, contexts: Vec<AcContext>, user_info: UserInfo) -> Self {
        Self::with_fixed(rq.fixed, contexts, user_info)
    }

    pub(crate) fn with_fixed(fixed: Fixed, contexts: Vec<AcContext>, user_info: UserInfo) -> Self {
        let application_context = Uid::from_static(APPLICATION_CONTEXT);
        Self {
            protocol_version: PROTOCOL_VERSION,
            application_context,
            contexts,
            user_info,
            fixed,
        }
    }

    /// Decodes the variable field.
    pub fn decode(body: &[u8]) -> Result<Self, PduError> {
        let (protocol_version, fixed, rest) = Fixed::decode(body)?;
        let mut parts = Parts::default();
        let mut contexts = Vec::new();
        let mut ids = IdSet::default();
        let mut items = Items::new(rest);
        while let Some((kind, value)) = items.next_item("A-ASSOCIATE-AC item")? {
            match kind {
                CONTEXT_AC_ITEM => {
                    let context = decode_reply(value)?;
                    ids.insert(context.id)?;
                    contexts.push(context);
                }
                _ => parts.decode_item(kind, value)?,
            }
        }
        Ok(Self {
            protocol_version,
            application_context: parts.application_context.unwrap_or_default(),
            contexts,
            user_info: parts.user_info.unwrap_or_default(),
            fixed,
        })
    }

    /// Appends the PDU to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_pdu(PduType::AssociateAc, out, |out| {
            self.fixed.encode(self.protocol_version, out);
            put_application_context(&self.application_context, out);
            for context in &self.contexts {
                put_item(CONTEXT_AC_ITEM, out, |out| {
                    out.extend([context.id, 0, context.result as u8, 0]);
                    // PS3.8 table 9-18: in a refusal any syntax may stand here.
                    let syntax = context
                        .transfer_syntax
                        .unwrap_or(TransferSyntax::IMPLICIT_LE_UID);
                    put_uid_item(TRANSFER_SYNTAX_ITEM, &syntax, out);
                });
            }
            put_item(USER_INFO_ITEM, out, |out| self.user_info.encode(out));
        });
    }
}

/// Items that request and acceptance share.
#[derive(Default)]
struct Parts {
    /// Empty if it is no UID.
    application_context: Option<Uid>,
    user_info: Option<UserInfo>,
}

impl Parts {
    fn decode_item(&mut self, kind: u8, value: &[u8]) -> Result<(), PduError> {
        match kind {
            APPLICATION_CONTEXT_ITEM => {
                let uid = read_uid(value).unwrap_or_default();
                once(&mut self.application_context, "application context", uid)?;
            }
            USER_INFO_ITEM => {
                once(
                    &mut self.user_info,
                    "user information",
                    UserInfo::decode(value)?,
                )?;
            }
            // PS3.8 9.3.1: items of unrecognised types are skipped.
            _ => {}
        }
        Ok(())
    }
}

fn decode_proposed(value: &[u8]) -> Result<ProposedContext, PduError> {
    let what = "presentation context";
    let &[id, _, _, _, ref rest @ ..] = value else {
        return Err(PduError::Truncated {
            what,
            need: 4,
            have: value.len(),
        });
    };
    let mut abstract_syntax = None;
    let mut transfer_syntaxes = Vec::new();
    let mut items = Items::new(rest);
    while let Some((kind, value)) = items.next_item("presentation context sub-item")? {
        match kind {
            ABSTRACT_SYNTAX_ITEM => {
                let uid = read_uid(value).unwrap_or_default();
                once(&mut abstract_syntax, "abstract syntax", uid)?;
            }
            TRANSFER_SYNTAX_ITEM if transfer_syntaxes.len() < TRANSFER_SYNTAXES_MAX => {
                transfer_syntaxes.extend(read_uid(value));
            }
            _ => {}
        }
    }
    Ok(ProposedContext {
        id,
        abstract_syntax: abstract_syntax.unwrap_or_default(),
        transfer_syntaxes,
    })
}

fn decode_reply(value: &[u8]) -> Result<AcContext, PduError> {
    let what = "presentation context reply";
    let &[id, _, result, _, ref rest @ ..] = value else {
        return Err(PduError::Truncated {
            what,
            need: 4,
            have: value.len(),
        });
    };
    let result = ContextResult::from_byte(result);
    let mut transfer_syntax = None;
    // PS3.8 table 9-18: in a refusal the transfer syntax "shall not be tested".
    if result == ContextResult::Accepted {
        let mut items = Items::new(rest);
        while let Some((kind, value)) = items.next_item("presentation context reply sub-item")? {
            if kind == TRANSFER_SYNTAX_ITEM {
                transfer_syntax = read_uid(value);
            }
        }
    }
    Ok(AcContext {
        id,
        result,
        transfer_syntax,
    })
}

/// Presentation context ids seen in one PDU.
#[derive(Default)]
struct IdSet([u64; 4]);

impl IdSet {
    fn insert(&mut self, id: u8) -> Result<(), PduError> {
        if id.is_multiple_of(2) {
            return Err(PduError::Invalid {
                what: "presentation context id",
                value: id.into(),
            });
        }
        let bit = 1 << (id % 64);
        let Some(word) = self.0.get_mut(usize::from(id / 64)) else {
            return Ok(());
        };
        if *word & bit != 0 {
            return Err(PduError::Duplicate("presentation context id"));
        }
        *word |= bit;
        Ok(())
    }
}

fn put_pdu(pdu_type: PduType, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(
        PduHeader {
            pdu_type,
            length: 0,
        }
        .encode(),
    );
    body(out);
    let length = (out.len() - start - super::PDU_HEADER_BYTES) as u32;
    if let Some(field) = out.get_mut(start..start + super::PDU_HEADER_BYTES) {
        field.copy_from_slice(&PduHeader { pdu_type, length }.encode());
    }
}

fn put_application_context(uid: &Uid, out: &mut Vec<u8>) {
    if !uid.is_empty() {
        put_uid_item(APPLICATION_CONTEXT_ITEM, uid, out);
    }
}
