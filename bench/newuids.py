"""Changes the UIDs of many headers of one series: HOME COUNT. One thread, one archive.

Each header is a CT's without pixel data, changed through the table UIDMODS as `newuids` does: every
object has a SOP instance UID of its own; study, series, frame of reference and the images referred
to are the same. The changes are committed many at a time, as they are with the objects' stores.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from pyserver import _native
from pyserver.config.defaults import write_defaults
from pyserver.config.settings import load_settings

BATCH = 1000
CT = "1.2.840.10008.5.1.4.1.1.2"


def header() -> Dataset:
    """A CT's header of some 2 KB."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = CT, "1.2.826.0.1.3680043.8.498.1"
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.826.0.1.1", "1.2.826.0.1.1.1"
    image.FrameOfReferenceUID = "1.2.826.0.1.1.9"
    image.PatientID, image.PatientName, image.Modality = "P1", "Bench^Uid", "CT"
    for n in range(40):
        image.add_new((0x0009, 0x1000 + n), "LO", f"a private value of some length {n:04}")
    references = []
    for n in range(4):
        item = Dataset()
        item.ReferencedSOPClassUID = CT
        item.ReferencedSOPInstanceUID = f"1.2.826.0.1.3680043.8.498.0.{n}"
        references.append(item)
    image.ReferencedImageSequence = references
    return image


def main(home: Path, count: int) -> None:
    """Makes the objects a thousand at a time; only what `newuids` does is on the clock."""
    write_defaults(home)
    archive = _native.Archive(load_settings(home).to_native())
    uids = _native.UidTable(archive, "1.2.826.0.1.3680043.2.135.1066")
    file = home / "header.dcm"
    dataset = header()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CT
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(file, enforce_file_format=True)
    original = _native.Instance.open(file)
    seconds = 0.0
    for first in range(0, count, BATCH):
        instances = []
        for number in range(first, min(first + BATCH, count)):
            instance = original.copy()
            instance.set("0008,0018", f"1.2.826.0.1.3680043.8.498.7.{number}")
            instances.append(instance)
        begin = time.perf_counter()
        records: list[bytes] = []
        for instance in instances:
            records += uids.change_with(instance, "", [], [])
        uids.commit(records)
        seconds += time.perf_counter() - begin
    changed = len(archive.dump_table("UIDMODS"))
    archive.close()
    # Everyone's own UID, study, series, frame of reference, four images.
    assert changed == count + 7, f"{changed} UIDs for {count} objects"
    report = {"headers_per_second": count / seconds, "header_bytes": file.stat().st_size}
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
