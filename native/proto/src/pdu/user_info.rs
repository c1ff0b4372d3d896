//! The user information item of A-ASSOCIATE-RQ and -AC and its sub-items (PS3.7 annex D, PS3.8
//! annex D).
//!
//! Every sub-item is parsed; unknown types are skipped as PS3.8 9.3.1 demands. A sub-item whose
//! *frame* runs past its parent refuses the PDU. A sub-item whose *contents* are malformed and
//! which is only a wish (roles, extended negotiation, asynchronous window, identity) refuses the
//! PDU too: the sender's next bytes could not be trusted.

use super::PduError;
use super::items::{Items, expect_uid, once, put_item, put_uid_item, read_uid};
use crate::uid::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, Uid};

/// Largest PDU assumed for a peer that sends no maximum length sub-item; the oldest common default.
pub const MAX_PDU_WHEN_ABSENT: u32 = 16_384;
/// Longest implementation version name (PS3.7 D.3.3.2.3); longer ones are cut, as they only inform.
const VERSION_BYTES_MAX: usize = 16;

const MAXIMUM_LENGTH: u8 = 0x51;
const IMPLEMENTATION_CLASS: u8 = 0x52;
const ASYNC_WINDOW: u8 = 0x53;
const ROLE_SELECTION: u8 = 0x54;
const IMPLEMENTATION_VERSION: u8 = 0x55;
const SOP_CLASS_EXTENDED: u8 = 0x56;
const COMMON_EXTENDED: u8 = 0x57;
const USER_IDENTITY_RQ: u8 = 0x58;
const USER_IDENTITY_AC: u8 = 0x59;

/// Roles that the association requestor proposes, or the acceptor grants, for one SOP class (PS3.7
/// D.3.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSelection {
    /// SOP class.
    pub sop_class_uid: Uid,
    /// The requestor may be SCU.
    pub scu: bool,
    /// The requestor may be SCP.
    pub scp: bool,
}

/// SOP class extended negotiation (PS3.7 D.3.3.5); the application information belongs to the
/// service class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SopClassExtended {
    /// SOP class.
    pub sop_class_uid: Uid,
    /// Bytes whose meaning PS3.4 gives for each service.
    pub information: Vec<u8>,
}

/// SOP class common extended negotiation (PS3.7 D.3.3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommonExtended {
    /// SOP class.
    pub sop_class_uid: Uid,
    /// Service class to which it belongs.
    pub service_class_uid: Uid,
    /// Related general SOP classes.
    pub related: Vec<Uid>,
}

/// User identity (PS3.7 D.3.3.7): parsed for policy to judge, never judged here.
#[derive(Clone, PartialEq, Eq)]
pub struct UserIdentity {
    /// 1 name, 2 name and passcode, 3 Kerberos, 4 SAML, 5 JSON web token; other values are kept.
    pub kind: u8,
    /// The requestor wants a positive response.
    pub response_requested: bool,
    /// User name, ticket, assertion or token.
    pub primary: Vec<u8>,
    /// Passcode, else empty.
    pub secondary: Vec<u8>,
}

impl std::fmt::Debug for UserIdentity {
    /// Secrets never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "UserIdentity {{ kind: {}, {} + {} bytes }}",
            self.kind,
            self.primary.len(),
            self.secondary.len()
        )
    }
}

/// All user information of a request or an acceptance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// Largest P-DATA-TF variable field that the sender of this item receives; 0 no limit; `None`
    /// not sent.
    pub max_pdu: Option<u32>,
    /// Implementation class UID; mandatory, yet missing in the wild.
    pub implementation_class_uid: Option<Uid>,
    /// Implementation version name, printable ASCII; empty if absent.
    pub implementation_version: String,
    /// Role selection.
    pub roles: Vec<RoleSelection>,
    /// Asynchronous operations window: operations invoked, performed; 0 no limit.
    pub async_window: Option<(u16, u16)>,
    /// SOP class extended negotiation.
    pub sop_class_extended: Vec<SopClassExtended>,
    /// SOP class common extended negotiation; only in a request.
    pub common_extended: Vec<CommonExtended>,
    /// User identity; only in a request.
    pub user_identity: Option<UserIdentity>,
    /// Server response to a user identity; only in an acceptance.
    pub user_identity_response: Option<Vec<u8>>,
}

impl UserInfo {
    /// Who we are, and nothing else.
    pub fn ours() -> Self {
        Self {
            implementation_class_uid: Some(Uid::from_static(IMPLEMENTATION_CLASS_UID)),
            implementation_version: IMPLEMENTATION_VERSION_NAME.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, PduError> {
        let mut info = Self::default();
        let mut items = Items::new(body);
        while let Some((kind, value)) = items.next_item("user information sub-item")? {
            info.decode_item(kind, value)?;
        }
        Ok(info)
    }

    fn decode_item(&mut self, kind: u8, value: &[u8]) -> Result<(), PduError> {
        let mut fields = Fields {
            what: "user information sub-item",
            rest: value,
        };
        match kind {
            MAXIMUM_LENGTH => {
                fields.what = "maximum length";
                once(&mut self.max_pdu, "maximum length", fields.u32()?)?;
            }
            // It only informs: one that is no UID is dropped.
            IMPLEMENTATION_CLASS => self.implementation_class_uid = read_uid(value),
            ASYNC_WINDOW => {
                fields.what = "asynchronous operations window";
                let window = (fields.u16()?, fields.u16()?);
                once(
                    &mut self.async_window,
                    "asynchronous operations window",
                    window,
                )?;
            }
            ROLE_SELECTION => {
                fields.what = "role selection";
                let sop_class_uid = fields.uid()?;
                let (scu, scp) = (fields.u8()? != 0, fields.u8()? != 0);
                self.roles.push(RoleSelection {
                    sop_class_uid,
                    scu,
                    scp,
                });
            }
            IMPLEMENTATION_VERSION => self.implementation_version = version(value),
            SOP_CLASS_EXTENDED => {
                fields.what = "SOP class extended negotiation";
                let sop_class_uid = fields.uid()?;
                let information = fields.rest.to_vec();
                self.sop_class_extended.push(SopClassExtended {
                    sop_class_uid,
                    information,
                });
            }
            COMMON_EXTENDED => {
                fields.what = "SOP class common extended negotiation";
                self.common_extended.push(common_extended(fields)?);
            }
            USER_IDENTITY_RQ => {
                fields.what = "user identity";
                let identity = UserIdentity {
                    kind: fields.u8()?,
                    response_requested: fields.u8()? != 0,
                    primary: fields.counted()?.to_vec(),
                    secondary: fields.counted()?.to_vec(),
                };
                once(&mut self.user_identity, "user identity", identity)?;
            }
            USER_IDENTITY_AC => {
                fields.what = "user identity response";
                let response = fields.counted()?.to_vec();
                once(
                    &mut self.user_identity_response,
                    "user identity response",
                    response,
                )?;
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        if let Some(max) = self.max_pdu {
            put_item(MAXIMUM_LENGTH, out, |out| out.extend(max.to_be_bytes()));
        }
        if let Some(uid) = &self.implementation_class_uid {
            put_uid_item(IMPLEMENTATION_CLASS, uid, out);
        }
        if let Some((invoked, performed)) = self.async_window {
            put_item(ASYNC_WINDOW, out, |out| {
                out.extend(invoked.to_be_bytes());
                out.extend(performed.to_be_bytes());
            });
        }
        for role in &self.roles {
            put_item(ROLE_SELECTION, out, |out| {
                put_counted(role.sop_class_uid.as_bytes(), out);
                out.extend([u8::from(role.scu), u8::from(role.scp)]);
            });
        }
        if !self.implementation_version.is_empty() {
            let version = version(self.implementation_version.as_bytes());
            put_item(IMPLEMENTATION_VERSION, out, |out| {
                out.extend(version.bytes());
            });
        }
        for extended in &self.sop_class_extended {
            put_item(SOP_CLASS_EXTENDED, out, |out| {
                put_counted(extended.sop_class_uid.as_bytes(), out);
                out.extend_from_slice(&extended.information);
            });
        }
        for common in &self.common_extended {
            put_item(COMMON_EXTENDED, out, |out| encode_common(common, out));
        }
        if let Some(identity) = &self.user_identity {
            put_item(USER_IDENTITY_RQ, out, |out| {
                out.extend([identity.kind, u8::from(identity.response_requested)]);
                put_counted(&identity.primary, out);
                put_counted(&identity.secondary, out);
            });
        }
        if let Some(response) = &self.user_identity_response {
            put_item(USER_IDENTITY_AC, out, |out| put_counted(response, out));
        }
    }
}

fn common_extended(mut fields: Fields<'_>) -> Result<CommonExtended, PduError> {
    let sop_class_uid = fields.uid()?;
    let service_class_uid = fields.uid()?;
    let mut inner = Fields {
        what: fields.what,
        rest: fields.counted()?,
    };
    let mut related = Vec::new();
    while !inner.rest.is_empty() {
        related.push(inner.uid()?);
    }
    Ok(CommonExtended {
        sop_class_uid,
        service_class_uid,
        related,
    })
}

fn encode_common(common: &CommonExtended, out: &mut Vec<u8>) {
    put_counted(common.sop_class_uid.as_bytes(), out);
    put_counted(common.service_class_uid.as_bytes(), out);
    let mut related = Vec::new();
    for uid in &common.related {
        put_counted(uid.as_bytes(), &mut related);
    }
    put_counted(&related, out);
}

fn put_counted(value: &[u8], out: &mut Vec<u8>) {
    // LIMIT: callers' values; what does not fit a two byte length is cut rather than breaking the
    // frame.
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    out.extend((value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

/// Makes a version name safe for a log line and at most sixteen characters long.
fn version(value: &[u8]) -> String {
    let printable = |&b: &u8| {
        if (0x20..0x7f).contains(&b) {
            char::from(b)
        } else {
            '_'
        }
    };
    let text: String = value
        .iter()
        .take(VERSION_BYTES_MAX)
        .map(printable)
        .collect();
    text.trim().to_owned()
}

/// Reads the fixed and counted fields of one sub-item.
struct Fields<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], PduError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(PduError::Truncated {
            what: self.what,
            need: n,
            have: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, PduError> {
        Ok(self.take(1)?.iter().fold(0, |_, &b| b))
    }

    fn u16(&mut self) -> Result<u16, PduError> {
        Ok(self.take(2)?.iter().fold(0, |n, &b| n << 8 | u16::from(b)))
    }

    fn u32(&mut self) -> Result<u32, PduError> {
        Ok(self.take(4)?.iter().fold(0, |n, &b| n << 8 | u32::from(b)))
    }

    fn counted(&mut self) -> Result<&'a [u8], PduError> {
        let n = self.u16()?;
        self.take(usize::from(n))
    }

    fn uid(&mut self) -> Result<Uid, PduError> {
        let value = self.counted()?;
        expect_uid(self.what, value)
    }
}
