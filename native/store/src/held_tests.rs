use std::path::Path;

use pyserver_proto::element::write_head;
use pyserver_proto::vr::Vr;

use super::*;
use crate::config::ArchiveConfig;

const SYNTAX: TransferSyntax = TransferSyntax::ExplicitLittleEndian;
const CLASS: &str = "1.2.840.10008.5.1.4.1.1.2";

fn dataset(pixel_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, vr, value) in [
        (
            Tag::SOP_CLASS_UID,
            Vr::Ui,
            &b"1.2.840.10008.5.1.4.1.1.2\0"[..],
        ),
        (Tag::SOP_INSTANCE_UID, Vr::Ui, b"1.2.3\0"),
        (Tag::PATIENT_NAME, Vr::Pn, b"Doe^John"),
        (Tag::PATIENT_ID, Vr::Lo, b"P1"),
        (Tag::STUDY_INSTANCE_UID, Vr::Ui, b"1.2.4\0"),
        (Tag::SERIES_INSTANCE_UID, Vr::Ui, b"1.2.5\0"),
    ] {
        write_head(&mut out, tag, vr, value.len() as u32, SYNTAX.encoding());
        out.extend_from_slice(value);
    }
    let pixels: Vec<u8> = (0..pixel_bytes).map(|n| (n % 251) as u8).collect();
    write_head(
        &mut out,
        Tag::PIXEL_DATA,
        Vr::Ow,
        pixel_bytes as u32,
        SYNTAX.encoding(),
    );
    out.extend(pixels);
    out
}

fn open(folder: &Path) -> Archive {
    let config = ArchiveConfig::new(folder);
    Archive::open(config, &mut |_, _, _| {}).unwrap().0
}

fn received(archive: &Archive, dataset: &[u8]) -> Received {
    let mut holder = archive.hold(SYNTAX).unwrap();
    for piece in dataset.chunks(100_000) {
        holder.write(piece).unwrap();
    }
    holder.finish(CLASS, "1.2.3").unwrap()
}

const SENDER: Sender<'_> = Sender {
    calling_ae: "SCU",
    called_ae: "SCP",
    durability: None,
};

#[test]
fn an_object_is_stored_with_its_changes() {
    for pixel_bytes in [512, MEMORY_BYTES + 70_000] {
        let folder = tempfile::tempdir().unwrap();
        let archive = open(folder.path());
        let dataset = dataset(pixel_bytes);
        let mut object = received(&archive, &dataset);
        assert_eq!(object.dataset().unwrap(), dataset);
        let path = "0010,0010".parse().unwrap();
        object.instance.set(&path, "Somebody^Else").unwrap();
        let uid = "0008,0018".parse().unwrap();
        object.instance.set(&uid, "9.8.7").unwrap();
        let jobs = vec![b"job".to_vec()];
        let stored = archive.store_received(&object, SENDER, None, jobs).unwrap();
        assert_eq!(stored.sop_instance_uid, "9.8.7");
        archive.flush().unwrap();
        let file = archive.path(stored.device, &stored.file).unwrap();
        let again = Received::open(&file).unwrap();
        assert_eq!(again.dataset().unwrap(), object.dataset().unwrap());
        assert_eq!(again.dataset().unwrap().len(), dataset.len() + 6);
        let queued = archive.index().read().unwrap().jobs(0, 9).unwrap();
        assert_eq!(queued.len(), 1);
        let left = std::fs::read_dir(folder.path().join("data/.pyserver-tmp"));
        let held = left.unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("held")
        });
        assert_eq!(held.count(), 0);
    }
}

#[test]
fn saving_replaces_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let archive = open(folder.path());
    let mut object = received(&archive, &dataset(64));
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("a.dcm");
    object.save(&path).unwrap();
    let id = "0010,0020".parse().unwrap();
    object.instance.set(&id, "P2").unwrap();
    object.save(&path).unwrap();
    let again = Received::open(&path).unwrap();
    assert_eq!(again.dataset().unwrap(), object.dataset().unwrap());
    assert!(object.save(&out.path().join("absent/a.dcm")).is_err());
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
}

#[test]
fn another_object_than_announced_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let archive = open(folder.path());
    let mut holder = archive.hold(SYNTAX).unwrap();
    holder.write(&dataset(16)).unwrap();
    let refused = holder.finish(CLASS, "1.2.4").unwrap_err();
    assert_eq!(refused.status(), STATUS_MISMATCH);
    let mut holder = archive.hold(SYNTAX).unwrap();
    holder.write(&dataset(16)[..60]).unwrap();
    let cut = holder.finish(CLASS, "1.2.3").unwrap_err();
    assert_eq!(cut.status(), STATUS_NOT_UNDERSTOOD);
}
