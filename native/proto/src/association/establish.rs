//! The beginning: proposals, acceptance and rejection on both sides (PS3.8 7.1, actions AE-2 to
//! AE-8).
//!
//! Only what the standard leaves no choice about is decided here: protocol version, application
//! context, a maximum length that leaves no room, and replies that answer nothing. Titles and
//! contexts are judged by the caller, with `negotiate`.

use super::{AcceptedContext, Association, PeerErrorKind};
use crate::negotiate::{ContextReply, Roles};
use crate::pdu::{
    AcContext, AssociateAc, AssociateRq, ContextResult, MAX_PDU_WHEN_ABSENT, PDATA_BYTES_MIN, Pdu,
    Rejection, RoleSelection, UserInfo,
};
use crate::state::Evt;
use crate::uid::{APPLICATION_CONTEXT, Uid};

impl Association {
    /// Accepts a request, naming our implementation. Ignored unless a request waits for its answer.
    pub fn accept(&mut self, contexts: &[ContextReply]) {
        self.accept_with(contexts, &UserInfo::ours());
    }

    /// Accepts a request with more user information. The maximum length and the roles in it are
    /// replaced by what the limits and `contexts` say.
    pub fn accept_with(&mut self, contexts: &[ContextReply], info: &UserInfo) {
        let Some(fixed) = self
            .fixed
            .filter(|_| self.apply(Evt::AssociateAccept).is_some())
        else {
            return;
        };
        let mut info = info.clone();
        info.max_pdu = Some(self.limits.pdu_bytes_max);
        info.roles = granted_roles(contexts);
        let reply = |c: &ContextReply| AcContext {
            id: c.id,
            result: c.result,
            transfer_syntax: Some(c.transfer_syntax).filter(|uid| !uid.is_empty()),
        };
        let replies = contexts.iter().map(reply).collect();
        AssociateAc::with_fixed(fixed, replies, info).encode(&mut self.output);
        let accepted = contexts
            .iter()
            .filter(|c| c.result == ContextResult::Accepted);
        self.contexts = accepted
            .map(|c| {
                let roles = c.roles.unwrap_or(Roles::DEFAULT);
                AcceptedContext {
                    id: c.id,
                    abstract_syntax: c.abstract_syntax,
                    transfer_syntax: c.transfer_syntax,
                    scu_role: roles.scu,
                    scp_role: roles.scp,
                }
            })
            .collect();
    }

    /// Rejects a request. Ignored unless a request waits for its answer.
    pub fn reject(&mut self, result: u8, source: u8, reason: u8) {
        if self.apply(Evt::AssociateReject).is_some() {
            Pdu::AssociateRj(Rejection {
                result,
                source,
                reason,
            })
            .encode(&mut self.output);
        }
    }

    pub(super) fn propose(&mut self, request: &AssociateRq) {
        for context in &request.contexts {
            let roles = request.user_info.roles.iter();
            let roles = roles
                .into_iter()
                .find(|r| r.sop_class_uid == context.abstract_syntax);
            self.proposed.push(AcceptedContext {
                id: context.id,
                abstract_syntax: context.abstract_syntax,
                transfer_syntax: Uid::EMPTY,
                scu_role: roles.is_none_or(|r| r.scu),
                scp_role: roles.is_some_and(|r| r.scp),
            });
            self.proposed_syntaxes
                .push(context.transfer_syntaxes.clone());
        }
    }

    /// AE-6: what the upper layer itself must reject is rejected here, the rest is the caller's to
    /// judge.
    pub(super) fn take_request(&mut self, rq: &AssociateRq) -> Result<(), PeerErrorKind> {
        self.peer.called_ae = rq.called_ae;
        self.peer.calling_ae = rq.calling_ae;
        self.peer.implementation_class_uid = rq.user_info.implementation_class_uid;
        self.peer
            .implementation_version
            .clone_from(&rq.user_info.implementation_version);
        if rq.protocol_version & 1 == 0 {
            return Err(PeerErrorKind::ProtocolVersion(rq.protocol_version));
        }
        if rq.application_context != APPLICATION_CONTEXT {
            return Err(PeerErrorKind::ApplicationContext);
        }
        let (count, limit) = (rq.contexts.len(), self.limits.contexts_max);
        if count > usize::from(limit) {
            return Err(PeerErrorKind::TooManyContexts { count, limit });
        }
        self.peer.max_pdu = max_pdu(rq.user_info.max_pdu)?;
        self.fixed = Some(rq.fixed);
        self.apply(Evt::AssociateRqPdu);
        Ok(())
    }

    pub(super) fn take_acceptance(&mut self, ac: &AssociateAc) -> Result<(), PeerErrorKind> {
        self.peer.implementation_class_uid = ac.user_info.implementation_class_uid;
        self.peer
            .implementation_version
            .clone_from(&ac.user_info.implementation_version);
        self.peer.max_pdu = max_pdu(ac.user_info.max_pdu)?;
        for reply in ac
            .contexts
            .iter()
            .filter(|c| c.result == ContextResult::Accepted)
        {
            let mut proposed = self.proposed.iter().zip(&self.proposed_syntaxes);
            let Some((context, syntaxes)) = proposed.find(|(c, _)| c.id == reply.id) else {
                return Err(PeerErrorKind::UnknownContext(reply.id));
            };
            // A syntax that was not proposed cannot be used; the context counts as refused.
            let Some(syntax) = reply.transfer_syntax.filter(|s| syntaxes.contains(s)) else {
                continue;
            };
            let mut context = context.clone();
            context.transfer_syntax = syntax;
            let roles = ac.user_info.roles.iter();
            let granted = roles
                .into_iter()
                .find(|r| r.sop_class_uid == context.abstract_syntax);
            // PS3.7 D.3.3.4: without an answer the default roles hold; an answer cannot grant more
            // than was asked.
            context.scu_role = granted.is_none_or(|r| r.scu && context.scu_role);
            context.scp_role = granted.is_some_and(|r| r.scp && context.scp_role);
            self.contexts.push(context);
        }
        self.apply(Evt::AssociateAcPdu);
        Ok(())
    }
}

/// One role selection item for each abstract syntax that asked.
fn granted_roles(contexts: &[ContextReply]) -> Vec<RoleSelection> {
    let mut granted: Vec<RoleSelection> = Vec::new();
    for context in contexts {
        let known = granted
            .iter()
            .any(|g| g.sop_class_uid == context.abstract_syntax);
        if let (Some(roles), false) = (context.roles, known) {
            let sop_class_uid = context.abstract_syntax;
            granted.push(RoleSelection {
                sop_class_uid,
                scu: roles.scu,
                scp: roles.scp,
            });
        }
    }
    granted
}

/// The peer's maximum length, if it leaves room for data.
fn max_pdu(sent: Option<u32>) -> Result<u32, PeerErrorKind> {
    match sent.unwrap_or(MAX_PDU_WHEN_ABSENT) {
        max @ 1..PDATA_BYTES_MIN => Err(PeerErrorKind::MaxPdu(max)),
        max => Ok(max),
    }
}
