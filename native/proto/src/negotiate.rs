//! Presentation context negotiation (PS3.8 7.1.1.13, PS3.7 D.3.3.4): which proposals an acceptor
//! takes.
//!
//! One proposal, one reply, judged alone: the abstract syntax must be in the policy, and the
//! transfer syntax is the policy's first that was also proposed (or the peer's first that the
//! policy has, if the policy says so). Explicit VR big endian, retired since 2006, is taken only
//! when nothing else is common. Roles are granted per abstract syntax. Titles, limits and the
//! number of associations are not judged here.

use std::collections::HashMap;

use crate::pdu::{AssociateRq, ContextResult, ProposedContext};
use crate::transfer_syntax::TransferSyntax;
use crate::uid::Uid;

/// Whose order of transfer syntaxes decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preference {
    /// The policy's order.
    #[default]
    Ours,
    /// The order in which the peer proposed.
    Peers,
}

/// What an acceptor does for one abstract syntax.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AcceptedSyntax {
    /// Transfer syntaxes, best first.
    pub transfer_syntaxes: Vec<Uid>,
    /// The requestor may be SCP if it asks to (storage classes, so that C-GET can send to it).
    pub requestor_scp: bool,
}

/// Abstract syntaxes that an acceptor supports.
#[derive(Debug, Clone, Default)]
pub struct AcceptPolicy {
    syntaxes: HashMap<Uid, AcceptedSyntax>,
    /// For abstract syntaxes that are not listed; `None` refuses them.
    pub other: Option<AcceptedSyntax>,
    /// Whose order of transfer syntaxes decides.
    pub preference: Preference,
}

/// Roles of the association *requestor* under one context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// It may send requests.
    pub scu: bool,
    /// It may be sent requests.
    pub scp: bool,
}

impl Roles {
    /// The roles without role selection: the requestor is SCU.
    pub const DEFAULT: Self = Self {
        scu: true,
        scp: false,
    };
}

/// Answer to one proposed presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextReply {
    /// Id of the proposal.
    pub id: u8,
    /// Abstract syntax of the proposal.
    pub abstract_syntax: Uid,
    /// Accepted, or why not.
    pub result: ContextResult,
    /// The chosen syntax if accepted, else the first proposed one, which has no meaning.
    pub transfer_syntax: Uid,
    /// Roles to answer; `None` if the request held no role selection for this abstract syntax.
    pub roles: Option<Roles>,
}

impl AcceptPolicy {
    /// A policy that supports nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces one abstract syntax.
    pub fn support(&mut self, abstract_syntax: Uid, accepted: AcceptedSyntax) -> &mut Self {
        self.syntaxes.insert(abstract_syntax, accepted);
        self
    }

    /// What is done for an abstract syntax.
    pub fn accepted(&self, abstract_syntax: &Uid) -> Option<&AcceptedSyntax> {
        self.syntaxes
            .get(abstract_syntax)
            .or_else(|| self.other.as_ref().filter(|_| abstract_syntax.is_valid()))
    }

    fn choose(&self, accepted: &AcceptedSyntax, proposed: &[Uid]) -> Option<Uid> {
        let (first, second) = match self.preference {
            Preference::Ours => (accepted.transfer_syntaxes.as_slice(), proposed),
            Preference::Peers => (proposed, accepted.transfer_syntaxes.as_slice()),
        };
        let mut common = first.iter().filter(|uid| second.contains(uid));
        let best = common
            .clone()
            .find(|uid| **uid != TransferSyntax::EXPLICIT_BE_UID);
        best.or_else(|| common.next()).copied()
    }
}

/// Answers every proposed context, in the order of the request.
pub fn negotiate(rq: &AssociateRq, policy: &AcceptPolicy) -> Vec<ContextReply> {
    rq.contexts
        .iter()
        .map(|context| reply(context, rq, policy))
        .collect()
}

fn reply(context: &ProposedContext, rq: &AssociateRq, policy: &AcceptPolicy) -> ContextReply {
    let accepted = policy.accepted(&context.abstract_syntax);
    let chosen = accepted.map(|a| policy.choose(a, &context.transfer_syntaxes));
    let (result, transfer_syntax) = match chosen {
        None => (ContextResult::AbstractSyntaxNotSupported, None),
        Some(None) => (ContextResult::TransferSyntaxesNotSupported, None),
        Some(chosen) => (ContextResult::Accepted, chosen),
    };
    let asked = rq
        .user_info
        .roles
        .iter()
        .find(|r| r.sop_class_uid == context.abstract_syntax);
    let may_be_scp = accepted.is_some_and(|a| a.requestor_scp);
    ContextReply {
        id: context.id,
        abstract_syntax: context.abstract_syntax,
        result,
        transfer_syntax: transfer_syntax
            .or_else(|| context.transfer_syntaxes.first().copied())
            .unwrap_or_default(),
        roles: asked.map(|r| Roles {
            scu: r.scu,
            scp: r.scp && may_be_scp,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ae::AeTitle;
    use crate::pdu::RoleSelection;

    const CLASS: Uid = Uid::from_static("1.2.840.10008.5.1.4.1.1.2");
    const OTHER: Uid = Uid::from_static("1.2.3.4");
    const A: Uid = Uid::from_static("1.2.840.10008.1.2");
    const B: Uid = Uid::from_static("1.2.840.10008.1.2.1");
    const C: Uid = Uid::from_static("1.2.840.10008.1.2.4.50");

    fn request(contexts: &[(Uid, &[Uid])]) -> AssociateRq {
        let contexts = contexts.iter().zip((1..).step_by(2));
        let contexts = contexts.map(|((abstract_syntax, syntaxes), id)| ProposedContext {
            id,
            abstract_syntax: *abstract_syntax,
            transfer_syntaxes: syntaxes.to_vec(),
        });
        let title = AeTitle::from_wire(b"X");
        AssociateRq::new(title, title, contexts.collect())
    }

    fn policy(requestor_scp: bool) -> AcceptPolicy {
        let mut policy = AcceptPolicy::new();
        let transfer_syntaxes = vec![B, A];
        policy.support(
            CLASS,
            AcceptedSyntax {
                transfer_syntaxes,
                requestor_scp,
            },
        );
        policy
    }

    #[test]
    fn each_proposal_is_judged_alone() {
        let rq = request(&[
            (CLASS, &[A, B]),
            (OTHER, &[A]),
            (CLASS, &[C]),
            (CLASS, &[]),
            (CLASS, &[A]),
            (Uid::EMPTY, &[A]),
        ]);
        let replies = negotiate(&rq, &policy(false));
        let replies: Vec<_> = replies
            .iter()
            .map(|r| (r.id, r.result, r.transfer_syntax))
            .collect();
        assert_eq!(
            replies,
            [
                (1, ContextResult::Accepted, B),
                (3, ContextResult::AbstractSyntaxNotSupported, A),
                (5, ContextResult::TransferSyntaxesNotSupported, C),
                (7, ContextResult::TransferSyntaxesNotSupported, Uid::EMPTY),
                (9, ContextResult::Accepted, A),
                (11, ContextResult::AbstractSyntaxNotSupported, A),
            ]
        );
    }

    #[test]
    fn big_endian_is_taken_when_nothing_else_is_common() {
        let mut policy = AcceptPolicy::new();
        policy.preference = Preference::Peers;
        let big = TransferSyntax::EXPLICIT_BE_UID;
        let transfer_syntaxes = vec![B, big];
        policy.support(
            CLASS,
            AcceptedSyntax {
                transfer_syntaxes,
                requestor_scp: false,
            },
        );
        let replies = negotiate(&request(&[(CLASS, &[big, B]), (CLASS, &[big, C])]), &policy);
        let chosen: Vec<_> = replies.iter().map(|r| r.transfer_syntax).collect();
        assert_eq!(chosen, [B, big]);
    }

    #[test]
    fn the_peers_order_decides_if_the_policy_says_so() {
        let mut policy = policy(false);
        policy.preference = Preference::Peers;
        let replies = negotiate(&request(&[(CLASS, &[C, A, B])]), &policy);
        assert_eq!(replies.first().map(|r| r.transfer_syntax), Some(A));
    }

    #[test]
    fn unlisted_classes_follow_the_other_rule_if_they_are_legal() {
        let mut policy = policy(false);
        policy.other = policy.accepted(&CLASS).cloned();
        let rq = request(&[
            (OTHER, &[A]),
            (Uid::from_static("../x"), &[A]),
            (Uid::EMPTY, &[A]),
        ]);
        let accepted: Vec<_> = negotiate(&rq, &policy)
            .iter()
            .map(|r| r.result == ContextResult::Accepted)
            .collect();
        assert_eq!(accepted, [true, false, false]);
    }

    #[test]
    fn roles_are_granted_only_where_asked_and_allowed() {
        let mut rq = request(&[(CLASS, &[A]), (OTHER, &[A])]);
        let roles = |rq: &AssociateRq, scp| negotiate(rq, &policy(scp)).first().map(|r| r.roles);
        assert_eq!(roles(&rq, true), Some(None), "the defaults hold");
        rq.user_info.roles.push(RoleSelection {
            sop_class_uid: CLASS,
            scu: false,
            scp: true,
        });
        assert_eq!(
            roles(&rq, true),
            Some(Some(Roles {
                scu: false,
                scp: true
            }))
        );
        assert_eq!(
            roles(&rq, false),
            Some(Some(Roles {
                scu: false,
                scp: false
            }))
        );
    }
}
