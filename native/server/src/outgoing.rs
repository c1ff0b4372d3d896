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
use pyserver_store::conversion::Conversion;
use pyserver_store::locate::Located;
use pyserver_store::lookahead::ReadyObject;

use crate::acceptance::UNCOMPRESSED;
use crate::peers::Compression;
use crate::retrieve::Identity;
use crate::scu::{CONTEXTS_MAX, Proposal};

/// Lossy syntaxes, taken only where acrnema.map or nothing else says so.
const LOSSY: [&str; 5] = [
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
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

/// One context for each pair of SOP class and stored syntax, with all that the object may go out in.
/// (Not a context for each form: receivers such as gdcm's give up when one lacks implicit VR.)
pub fn proposals(
    kinds: impl Iterator<Item = (Uid, Uid)>,
    compression: &Compression,
    has_codecs: bool,
) -> Vec<Proposal> {
    let kinds: BTreeSet<(Uid, Uid)> = kinds.collect();
    let can = |stored: TransferSyntax, uid: &Uid| {
        has_codecs || *uid == stored.uid() || !stored.is_encapsulated() && is_uncompressed(uid)
    };
    kinds
        .iter()
        .map(|&(class, syntax)| {
            let stored = TransferSyntax::from_uid(&syntax);
            let mut transfer_syntaxes = wanted_syntaxes(stored, compression);
            transfer_syntaxes.retain(|uid| can(stored, uid));
            Proposal {
                abstract_syntax: class,
                transfer_syntaxes,
                as_scp: false,
            }
        })
        .take(CONTEXTS_MAX)
        .collect()
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
) -> Conversion {
    let quality = match compression.quality {
        0 => lossy_quality,
        quality => quality,
    };
    let targets = move |located: &Located| {
        ranked(&contexts, &Identity::of(located), &compression, |_| true)
            .into_iter()
            .map(|context| context.transfer_syntax)
            .collect()
    };
    Conversion {
        pool,
        targets: Box::new(targets),
        quality,
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
            quality: 0,
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
            let mut proposals = proposals(kinds.into_iter(), &compression, has_codecs);
            proposals.remove(0).transfer_syntaxes
        };
        assert_eq!(proposed(J1, false), [uid(J1)]);
        assert_eq!(proposed(IMPLICIT, false), [uid(IMPLICIT), uid(EXPLICIT)]);
        assert_eq!(proposed(J1, true).len(), 4);
    }
}
