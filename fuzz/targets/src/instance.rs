//! Objects that rules change: whatever scans can be edited, and what is edited scans again.

use pyserver_proto::edit_path::EditPath;
use pyserver_proto::instance::{Instance, Piece};
use pyserver_proto::scan::{ScanLimits, scan};
use pyserver_proto::scrub::Scrub;
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;

/// The first byte chooses the syntax, the second the edit; the rest is the data set.
pub fn edit(data: &[u8]) {
    let (Some(&which), Some(&how)) = (data.first(), data.get(1)) else {
        return;
    };
    let dataset = data.get(2..).unwrap_or_default();
    let syntax = match which % 3 {
        0 => TransferSyntax::ImplicitLittleEndian,
        1 => TransferSyntax::ExplicitLittleEndian,
        _ => TransferSyntax::ExplicitBigEndian,
    };
    let Ok(scanned) = scan(dataset, syntax, ScanLimits::default()) else {
        return;
    };
    let mut object = Instance::new(scanned);
    assert_eq!(whole(&object, dataset), dataset, "not the same unedited");
    let tags: Vec<Tag> = object.header().elements().iter().map(|e| e.tag).collect();
    let tag = tags.get(usize::from(how) % tags.len().max(1));
    let tag = tag.copied().unwrap_or(Tag::PATIENT_ID);
    let paths = [format!("{tag}"), format!("{tag}.{}/0008,0100", how % 3)];
    let done = match how % 5 {
        0 => paths[0]
            .parse::<EditPath>()
            .is_ok_and(|p| object.set(&p, "X1").is_ok()),
        1 => paths[1]
            .parse::<EditPath>()
            .is_ok_and(|p| object.set(&p, "X1").is_ok()),
        2 => paths[1]
            .parse::<EditPath>()
            .is_ok_and(|p| object.delete(&p).is_ok()),
        3 => object
            .change_uids(&mut |_, uid| Some(format!("{uid}.1")))
            .is_ok(),
        _ => "-SQ,0008"
            .parse::<Scrub>()
            .is_ok_and(|list| object.scrub(&list).is_ok()),
    };
    let edited = whole(&object, dataset);
    if !done || edited.is_empty() {
        return;
    }
    // Edits do not make duplicates or reserved groups that were not there, so the result scans.
    let again = scan(&edited, syntax, ScanLimits::default());
    let Ok(again) = again else {
        panic!("edit {how} of {syntax:?} does not scan: {again:?}");
    };
    assert_eq!(
        again.header.bytes(),
        object.header().bytes(),
        "read back otherwise than held"
    );
}

fn whole(object: &Instance, source: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in object.pieces() {
        out.extend_from_slice(match piece {
            Piece::Header(range) => object.header().bytes().get(range).unwrap_or_default(),
            Piece::Source(range) => source
                .get(range.start as usize..range.end as usize)
                .unwrap_or_default(),
        });
    }
    out
}
