//! Whether a caller gets an association, on which contexts, and with which rights.
//!
//! AE titles: dgatesop.lst's `LocalAE` and `RemoteAE` lines, acrnema.map and `UnknownPeers`.
//! Contexts: verification, the storage classes and transfer syntaxes of dgatesop.lst, and the
//! query and retrieve classes of three information models.

use std::net::IpAddr;

use pyserver_proto::negotiate::{
    AcceptPolicy, AcceptedSyntax, ContextReply, Preference, negotiate,
};
use pyserver_proto::pdu::{AssociateRq, Rejection};
use pyserver_proto::uid::{self, Uid};

use crate::scp_table::QUERY_RETRIEVE_CLASSES;
use crate::settings::{Settings, UnknownPeers};

/// Implicit VR little endian, the one every peer has, and its explicit form.
pub const UNCOMPRESSED: [&str; 2] = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"];

/// The verdict on one A-ASSOCIATE-RQ.
pub enum Acceptance {
    /// Yes, with these answers.
    Accepted {
        /// One answer for each proposed context.
        contexts: Vec<ContextReply>,
        /// Whether query and retrieve are allowed.
        trusted: bool,
    },
    /// No: PS3.8 table 9-21.
    Rejected {
        /// Result, source and diagnostic.
        rejection: Rejection,
        /// For the log.
        why: &'static str,
    },
}

/// Judges a request by the settings of the moment.
pub fn judge(request: &AssociateRq, address: IpAddr, settings: &Settings) -> Acceptance {
    let (called, calling) = (
        request.called_ae.to_string(),
        request.calling_ae.to_string(),
    );
    let listed = |list: &[String], ae: &str| list.is_empty() || list.iter().any(|a| a == ae);
    // What stands behind a `~` is a compression mode.
    let local = called.split_once('~').map_or(called.as_str(), |(ae, _)| ae);
    if !listed(&settings.local_aes, local) {
        return rejected(
            Rejection::CALLED_AE,
            "the called AE title is no LocalAE of dgatesop.lst",
        );
    }
    if !listed(&settings.remote_aes, &calling) {
        return rejected(
            Rejection::CALLING_AE,
            "the calling AE title is no RemoteAE of dgatesop.lst",
        );
    }
    let known = settings.peers.knows(&calling, address);
    if !known && settings.unknown_peers == UnknownPeers::Refuse {
        let why = "the calling AE title is not in acrnema.map (UnknownPeers = refuse)";
        return rejected(Rejection::CALLING_AE, why);
    }
    Acceptance::Accepted {
        contexts: negotiate(request, &policy(settings)),
        trusted: known || settings.unknown_peers == UnknownPeers::All,
    }
}

const fn rejected(rejection: Rejection, why: &'static str) -> Acceptance {
    Acceptance::Rejected { rejection, why }
}

/// What this server supports, as a table for the negotiation.
fn policy(settings: &Settings) -> AcceptPolicy {
    let mut policy = AcceptPolicy::new();
    policy.preference = Preference::Peers;
    let uncompressed: Vec<Uid> = UNCOMPRESSED
        .iter()
        .map(|text| Uid::from_static(text))
        .collect();
    for class in std::iter::once(uid::VERIFICATION).chain(QUERY_RETRIEVE_CLASSES) {
        let transfer_syntaxes = uncompressed.clone();
        let accepted = AcceptedSyntax {
            transfer_syntaxes,
            requestor_scp: false,
        };
        policy.support(Uid::from_static(class), accepted);
    }
    for class in &settings.storage_classes {
        let transfer_syntaxes = settings.transfer_syntaxes.clone();
        policy.support(
            *class,
            AcceptedSyntax {
                transfer_syntaxes,
                requestor_scp: true,
            },
        );
    }
    policy
}
