//! In which transfer syntax an object goes to a peer: what is proposed, and what is chosen.
//!
//! An object stored compressed goes out as it is where the peer takes that; else, and for uncompressed
//! ones first, in what acrnema.map says; else uncompressed. On an association that the peer proposed, any
//! other syntax it takes is better than none.

use std::collections::BTreeSet;
use std::sync::Arc;

use pyserver_proto::association::AcceptedContext;
use pyserver_proto::convert::is_convertible;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;
use pyserver_store::codec_pool::CodecPool;
use pyserver_store::conversion::{Conversion, Edit};
use pyserver_store::locate::Located;
use pyserver_store::ready_object::ReadyObject;

use crate::acceptance::UNCOMPRESSED;
use crate::peers::Compression;
use crate::retrieve::Identity;
use crate::scu::{CONTEXTS_MAX, Proposal};

/// Lossy syntaxes, taken only where acrnema.map or nothing else says so.
const LOSSY: [&str; 7] = [
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.53",
    "1.2.840.10008.1.2.4.55",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.203",
];

/// The transfer syntaxes to send an object in, most wanted first.
pub fn wanted_syntaxes(stored: TransferSyntax, compression: &Compression) -> Vec<Uid> {
    let only = compression.only;
    let is_wanted = |uid: &Uid| compression.syntaxes.contains(uid);
    let mut wanted = Vec::new();
    let mut add = |uid: Uid| {
        if !wanted.contains(&uid) {
            wanted.push(uid);
        }
    };
    if stored.is_encapsulated() && (!only || is_wanted(&stored.uid())) {
        add(stored.uid());
    }
    compression.syntaxes.iter().copied().for_each(&mut add);
    if !only || compression.syntaxes.is_empty() {
        add(stored.uid());
        let plain = UNCOMPRESSED.iter().map(|text| Uid::from_static(text));
        plain.for_each(&mut add);
    }
    wanted
}

/// The contexts that objects of these SOP classes and stored syntaxes need.
///
/// What is compressed gets a context for itself, stored or wanted: an acceptor chooses within a context
/// as it likes. The uncompressed forms share one, since receivers such as gdcm's give up when a context
/// lacks implicit VR. The contexts that an object cannot do without come first, should they not all fit.
pub fn proposals(
    kinds: impl Iterator<Item = (Uid, Uid)>,
    compression: &Compression,
    has_codecs: bool,
) -> Vec<Proposal> {
    let kinds: BTreeSet<(Uid, Uid)> = kinds.collect();
    let mut proposals: Vec<Proposal> = Vec::new();
    let mut add = |class: Uid, transfer_syntaxes: Vec<Uid>| {
        let known =
            |p: &Proposal| p.abstract_syntax == class && p.transfer_syntaxes == transfer_syntaxes;
        if !transfer_syntaxes.is_empty() && !proposals.iter().any(known) {
            proposals.push(Proposal {
                abstract_syntax: class,
                transfer_syntaxes,
                as_scp: false,
            });
        }
    };
    let wanted_of = |syntax: &Uid| wanted_syntaxes(TransferSyntax::from_uid(syntax), compression);
    for (class, syntax) in &kinds {
        let stored = TransferSyntax::from_uid(syntax);
        let mut wanted = wanted_of(syntax);
        if stored.is_encapsulated() && wanted.contains(syntax) {
            add(*class, vec![*syntax]);
        }
        wanted.retain(|uid| is_uncompressed(uid) || (uid == syntax && stored.is_deflated()));
        if has_codecs || !stored.is_encapsulated() {
            add(*class, wanted);
        }
    }
    for (class, syntax) in kinds.iter().filter(|_| has_codecs) {
        let wanted = wanted_of(syntax);
        for uid in wanted.into_iter().filter(|uid| !is_uncompressed(uid)) {
            add(*class, vec![uid]);
        }
    }
    proposals.truncate(CONTEXTS_MAX);
    proposals
}

fn is_uncompressed(uid: &Uid) -> bool {
    TransferSyntax::from_uid(uid).is_uncompressed()
}

/// The accepted contexts of an object's class, by how much their transfer syntaxes are wanted.
pub fn ranked<'a>(
    contexts: &'a [AcceptedContext],
    object: &Identity,
    compression: &Compression,
    usable: impl Fn(&AcceptedContext) -> bool,
) -> Vec<&'a AcceptedContext> {
    let stored = TransferSyntax::from_uid(&object.transfer_syntax);
    let wanted = wanted_syntaxes(stored, compression);
    let rank = |context: &AcceptedContext| {
        let uid = &context.transfer_syntax;
        let position = wanted.iter().position(|wanted| wanted == uid);
        let lossy = LOSSY.iter().any(|lossy| uid == lossy);
        position.unwrap_or(wanted.len() + usize::from(lossy) + usize::from(!is_uncompressed(uid)))
    };
    let mut found: Vec<&AcceptedContext> = contexts
        .iter()
        .filter(|context| context.abstract_syntax == object.sop_class && usable(context))
        .collect();
    found.sort_by_key(|context| rank(context));
    found
}

/// Whether an object as it is now can go out on a context, perhaps converted between uncompressed forms.
pub fn fits(object: &ReadyObject, context: &AcceptedContext) -> bool {
    let target = TransferSyntax::from_uid(&context.transfer_syntax);
    object.syntax == target || is_convertible(object.syntax, target)
}

/// How objects are changed for a peer that accepted these contexts.
pub fn conversion(
    pool: Option<Arc<CodecPool>>,
    contexts: Vec<AcceptedContext>,
    compression: Compression,
    lossy_quality: u8,
    edit: Option<Edit>,
) -> Conversion {
    let quality = compression.quality_or(lossy_quality);
    let mode = compression.first();
    let targets = move |located: &Located| {
        ranked(&contexts, &Identity::of(located), &compression, |_| true)
            .into_iter()
            .map(|context| context.transfer_syntax)
            .collect()
    };
    Conversion {
        edit,
        pool,
        targets: Box::new(targets),
        quality,
        mode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMPLICIT: &str = "1.2.840.10008.1.2";
    const EXPLICIT: &str = "1.2.840.10008.1.2.1";
    const J1: &str = "1.2.840.10008.1.2.4.70";
    const J2: &str = "1.2.840.10008.1.2.4.57";

    fn uid(text: &'static str) -> Uid {
        Uid::from_static(text)
    }

    fn wanted(stored: &'static str, syntaxes: &[&'static str], only: bool) -> Vec<String> {
        let compression = Compression {
            syntaxes: syntaxes.iter().map(|text| uid(text)).collect(),
            only,
            ..Compression::default()
        };
        wanted_syntaxes(TransferSyntax::from_uid(&uid(stored)), &compression)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn what_is_stored_compressed_goes_first_and_uncompressed_last() {
        assert_eq!(wanted(IMPLICIT, &[], false), [IMPLICIT, EXPLICIT]);
        assert_eq!(wanted(J1, &[], false), [J1, EXPLICIT, IMPLICIT]);
        assert_eq!(wanted(J1, &[J2], false), [J1, J2, EXPLICIT, IMPLICIT]);
        assert_eq!(wanted(IMPLICIT, &[J2], false), [J2, IMPLICIT, EXPLICIT]);
        assert_eq!(wanted(IMPLICIT, &[J2], true), [J2]);
        assert_eq!(wanted(J1, &[J2], true), [J2]);
        assert_eq!(wanted(J2, &[J2], true), [J2]);
    }

    #[test]
    fn without_codecs_nothing_is_proposed_that_needs_one() {
        let compression = Compression {
            syntaxes: vec![uid(J2)],
            ..Compression::default()
        };
        let proposed = |stored, has_codecs| {
            let kinds = [(uid("1.2.3"), uid(stored))];
            let proposals = proposals(kinds.into_iter(), &compression, has_codecs);
            let syntaxes = proposals
                .into_iter()
                .map(|proposal| proposal.transfer_syntaxes);
            syntaxes.collect::<Vec<_>>()
        };
        let plain = vec![uid(EXPLICIT), uid(IMPLICIT)];
        assert_eq!(proposed(J1, false), [vec![uid(J1)]]);
        assert_eq!(proposed(EXPLICIT, false), vec![plain.clone()]);
        assert_eq!(
            proposed(J1, true),
            [vec![uid(J1)], plain.clone(), vec![uid(J2)]]
        );
        assert_eq!(proposed(EXPLICIT, true), [plain, vec![uid(J2)]]);
    }
}
