"""Write pyserver/config/data/dgatesop.lst from the UID tables of pydicom and pynetdicom.

Run it after an update of either; a test says when it is due.
"""

from pathlib import Path

from pydicom._uid_dict import UID_dictionary
from pynetdicom import sop_class

TARGET = Path(__file__).resolve().parents[1] / "pyserver/config/data/dgatesop.lst"

HEAD = """\
#
# DICOM Application / sop / transfer UID list.
#
# What this server accepts. Take a line away, or put a # before it, to refuse a SOP class or a
# transfer syntax. Kinds: sop, transfer, RemoteAE (a calling AE title that may come in), LocalAE
# (a called AE title that is answered). Without RemoteAE or LocalAE lines any title may.
# Transfer syntaxes are taken in the order of this list when a peer offers several.
#
#None                           none                    RemoteAE
#None                           none                    LocalAE
"""

SERVICES = {
    "Verification": "1.2.840.10008.1.1",
    "PatientRootQuery": "1.2.840.10008.5.1.4.1.2.1.1",
    "PatientRootRetrieve": "1.2.840.10008.5.1.4.1.2.1.2",
    "PatientRootGet": "1.2.840.10008.5.1.4.1.2.1.3",
    "StudyRootQuery": "1.2.840.10008.5.1.4.1.2.2.1",
    "StudyRootRetrieve": "1.2.840.10008.5.1.4.1.2.2.2",
    "StudyRootGet": "1.2.840.10008.5.1.4.1.2.2.3",
    "PatientStudyOnlyQuery": "1.2.840.10008.5.1.4.1.2.3.1",
    "PatientStudyOnlyRetrieve": "1.2.840.10008.5.1.4.1.2.3.2",
    "PatientStudyOnlyGet": "1.2.840.10008.5.1.4.1.2.3.3",
}

# Private classes of Conquest's own list. GE's two stay off, so that its scanners send the
# standard's images, which other viewers can handle.
PRIVATE = {
    "#GEMRStorage": "1.2.840.113619.4.2",
    "#GECTStorage": "1.2.840.113619.4.3",
    "GE3DModelObjectStorage": "1.2.840.113619.4.26",
    "GERTPlanStorage": "1.2.840.113619.5.249",
    "GERTPlanStorage2": "1.2.840.113619.4.5.249",
    "GESaturnTDSObjectStorage": "1.2.840.113619.5.253",
    "SiemensCSANonImageStorage": "1.3.12.2.1107.5.9.1",
    "Philips3DVolumeStorage": "1.2.46.670589.5.0.1",
    "Philips3DObjectStorage": "1.2.46.670589.5.0.2",
    "PhilipsSurfaceStorage": "1.2.46.670589.5.0.3",
    "PhilipsCompositeObjectStorage": "1.2.46.670589.5.0.4",
    "PhilipsMRCardioProfileStorage": "1.2.46.670589.5.0.7",
    "PhilipsMRCardioImageStorage": "1.2.46.670589.5.0.8",
}

NOT_STORAGE = ("Commitment", "Directory", "StorageManagement")

# Explicit first: only there private elements keep their VR. Compressed syntaxes come last, so
# that a peer that can send an object plain does so.
FIRST = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
# Not data sets, or pixel data that is only a reference to another place.
NO_SYNTAX = ("JPIP", "RFC2557", "XMLEncoding", "SMPTE", "Papyrus")


def storage_classes() -> dict[str, str]:
    """UID to name of every storage class that either library knows."""
    found = {}
    for uid, (_, kind, _, state, keyword) in UID_dictionary.items():
        if kind != "SOP Class" or "Storage" not in keyword:
            continue
        if any(word in keyword for word in NOT_STORAGE):
            continue
        found[uid] = f"RETIRED_{keyword}" if state == "Retired" else keyword
    for keyword, uid in sop_class._STORAGE_CLASSES.items():
        found.setdefault(uid, keyword)
    return found


def transfer_syntaxes() -> dict[str, str]:
    """UID to name of every transfer syntax that can be kept as it comes."""
    found = {uid: UID_dictionary[uid][4] for uid in FIRST}
    for uid, (_, kind, _, _, keyword) in UID_dictionary.items():
        if kind == "Transfer Syntax" and not any(word in keyword for word in NO_SYNTAX):
            found.setdefault(uid, keyword)
    return found


def _sort_key(uid: str) -> list[int]:
    return [int(part) for part in uid.split(".")]


def write() -> str:
    """The whole file."""
    lines = [HEAD]

    def add(name: str, uid: str, kind: str) -> None:
        lines.append(f"{name:<65} {uid:<46} {kind}\n")

    for name, uid in SERVICES.items():
        add(name, uid, "sop")
    classes = storage_classes()
    for uid in sorted(classes, key=_sort_key):
        add(classes[uid], uid, "sop")
    for name, uid in PRIVATE.items():
        add(name, uid, "sop")
    for uid, name in transfer_syntaxes().items():
        add(name, uid, "transfer")
    return "".join(lines)


if __name__ == "__main__":
    TARGET.write_text(write(), encoding="ascii")
