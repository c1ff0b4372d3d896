//! Files: what their first bytes say.

use pyserver_proto::file::{FileForm, FileLayout, MetaFields, encode_part10, probe as look};
use pyserver_proto::scan::{ScanLimits, scan};
use pyserver_proto::tag::Tag;

/// Bytes from which on more bytes cannot change what kind of file it is.
const DECIDED_BYTES: usize = 132;

/// The beginning of a file: the answer must lie inside the bytes, must not change when more bytes are shown,
/// and meta information of our own must be read for what was understood.
pub fn probe(data: &[u8]) {
    let whole = look(data);
    if let Ok(Some(layout)) = &whole {
        assert!(layout.dataset_offset <= data.len() as u64);
        let dataset = usize::try_from(layout.dataset_offset).unwrap_or(usize::MAX);
        let dataset = data.get(dataset..).unwrap_or_default();
        let _sound = scan(dataset, layout.syntax, ScanLimits::default()).is_ok();
        rewrite(layout);
    }
    let step = (data.len() / 16).max(1);
    for end in (DECIDED_BYTES..data.len()).step_by(step) {
        match (look(data.get(..end).unwrap_or_default()), &whole) {
            (Ok(None), _) => {}
            (Ok(Some(early)), Ok(Some(late))) => {
                assert_eq!(
                    (early.form, early.dataset_offset, early.syntax),
                    (late.form, late.dataset_offset, late.syntax),
                    "more bytes changed the answer"
                );
            }
            (Err(early), Err(late)) => assert_eq!(early, *late),
            (early, late) => panic!("more bytes changed {early:?} to {late:?}"),
        }
    }
}

fn rewrite(layout: &FileLayout) {
    let value = |tag| {
        let value = layout.meta.bytes(tag).unwrap_or_default();
        let end = value.iter().rposition(|byte| !matches!(byte, 0 | b' '));
        value
            .get(..end.map_or(0, |last| last + 1))
            .unwrap_or_default()
    };
    let class = value(Tag::MEDIA_STORAGE_SOP_CLASS_UID);
    let instance = value(Tag::MEDIA_STORAGE_SOP_INSTANCE_UID);
    if class.len() > 64 || instance.len() > 64 {
        return;
    }
    let mut file = encode_part10(&MetaFields {
        sop_class_uid: class,
        sop_instance_uid: instance,
        transfer_syntax: layout.syntax,
    });
    let end = file.len() as u64;
    // Any element: big endian is only believed when the data set looks like it.
    file.extend_from_slice(&[0, 8, 0, 5, b'C', b'S', 0, 0]);
    let Ok(Some(again)) = look(&file) else {
        panic!("our own meta information cannot be read");
    };
    assert_eq!((again.form, again.dataset_offset), (FileForm::Part10, end));
    assert_eq!(again.syntax, layout.syntax);
    assert_eq!(
        again.meta.bytes(Tag::MEDIA_STORAGE_SOP_INSTANCE_UID),
        Some(instance)
    );
}
