"""Rules for the deviations that docs/deviations.md lists, one predicate each.

A predicate sees the facts of a case (the objects sent, the configuration, what was
stored) and one difference, and says whether the difference is that deviation and
nothing else: it computes what this server must do instead and compares with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.golden.cases import (
    MODALITY,
    PATIENT_ID,
    SERIES_UID,
    SOP_INSTANCE_UID,
    STUDY_UID,
    GoldenObject,
)
from tests.golden.verdict import Difference, Rule
from tests.support.dataset import Part10, differences

_DATE_COLUMNS = {
    "StudyDate": 0x00080020,
    "SeriesDate": 0x00080021,
    "AcqDate": 0x00080022,
    "ImageDate": 0x00080023,
    "PatientBir": 0x00100030,
}
_MODALITY_WIDTH = 16


@dataclass
class Facts:
    """What a rule may look at."""

    config: dict[str, Any]
    objects: Sequence[GoldenObject]
    """Everything sent to this server so far; the object in question is the last."""
    statuses: Sequence[str] = ()
    """What each of `objects` was answered."""
    stored: Part10 | None = None
    """The file written for the last object."""
    expected_tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    observed_tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    """Files now in the storage folder, by name, with some of their elements."""

    @property
    def object(self) -> GoldenObject:
        return self.objects[-1]

    def refused(self) -> list[GoldenObject]:
        pairs = zip(self.objects, self.statuses, strict=True)
        return [sent for sent, status in pairs if not succeeded(status)]


def succeeded(status: str) -> bool:
    return status == "0x0000" or status.startswith("0xb0")


def lacks_parent(sent: GoldenObject) -> bool:
    return not sent.text(STUDY_UID) or not sent.text(SERIES_UID)


# -- objects without Study or Series Instance UID are refused -----------------------------


def _uid_missing(facts: Facts, difference: Difference) -> bool:
    """Conquest files them under the UID "undefined", where strangers meet."""
    if difference.field == "c_store_status":
        return lacks_parent(facts.object) and not succeeded(difference.observed)
    if difference.field in ("path_pattern", "stored", "device", "db_objectfile_matches"):
        return lacks_parent(facts.object) and difference.observed is None
    return False


def _row_of_uid_missing(facts: Facts, difference: Difference) -> bool:
    if not difference.field.endswith(".*") or difference.observed is not None:
        return False
    row = difference.expected
    homeless = [sent for sent in facts.refused() if lacks_parent(sent)]
    return any(_wrote(sent, row) for sent in homeless) and not any(
        _wrote(sent, row) for sent in facts.objects if sent not in homeless
    )


def _wrote(sent: GoldenObject, row: dict[str, Any]) -> bool:
    """Whether this object has the key that a row stands under."""
    if "SOPInstanc" in row:
        return bool(row["SOPInstanc"] == sent.text(SOP_INSTANCE_UID))
    if "SeriesInst" in row:
        return bool(row["SeriesInst"] == (sent.text(SERIES_UID) or "undefined"))
    if "StudyInsta" in row:
        return bool(row["StudyInsta"] == (sent.text(STUDY_UID) or "undefined"))
    return bool(row["PatientID"] == sent.text(PATIENT_ID))


# -- data sets are kept as received -------------------------------------------------------


def _as_received(facts: Facts, difference: Difference) -> bool:
    """Conquest writes group lengths, sequence lengths and missing IDs anew."""
    if difference.field not in ("stored.size", "stored.elements_top") or facts.stored is None:
        return False
    return not differences(facts.object.tree, _without_meta(facts.stored))


def _without_meta(part: Part10) -> dict[int, Any]:
    return {tag: element for tag, element in part.tree().items() if tag >> 16 != 0x0002}


def _file_as_received(facts: Facts, difference: Difference) -> bool:
    """The same, seen in a scenario's list of files."""
    parts = difference.field.split(".")
    if parts[0] != "files" or len(parts) != 2:
        return False
    senders = [sent for sent in facts.objects if sent.text(SOP_INSTANCE_UID)]
    tag = {"PatientID": PATIENT_ID}.get(parts[1])
    return tag is not None and any(sent.text(tag) == difference.observed for sent in senders)


# -- own identity in the meta information -------------------------------------------------


def _own_identity(_: Facts, difference: Difference) -> bool:
    """A file names the program that wrote it (PS3.10 7.1)."""
    return difference.field in {
        "stored.file_meta.(0002,0000)",
        "stored.file_meta.(0002,0012)",
        "stored.file_meta.(0002,0013)",
    } and bool(difference.observed)


# -- dates with dots keep their day -------------------------------------------------------


def _dotted_date(facts: Facts, difference: Difference) -> bool:
    """Conquest cuts to eight characters first and removes the dots then."""
    tag = _DATE_COLUMNS.get(difference.field.rpartition(".")[2])
    if tag is None:
        return False
    return any(
        "." in raw
        and difference.expected == raw[:8].replace(".", "")
        and difference.observed == raw.replace(".", "")[:8]
        for raw in (sent.text(tag) for sent in facts.objects)
    )


# -- empty tokens leave no empty folder ---------------------------------------------------


def _empty_token(_: Facts, difference: Difference) -> bool:
    """Conquest's database keeps a leading or double slash that the disk does not have."""
    if difference.field == "db_objectfile_matches":
        return difference.expected is False and difference.observed is True
    if difference.field != "path_pattern" or difference.observed is None:
        return False
    normal = re.sub(r"/+", "/", str(difference.expected)).lstrip("/")
    return difference.observed == normal != difference.expected


# -- two objects never share a file -------------------------------------------------------


def _shared_file(facts: Facts, difference: Difference) -> bool:
    """Where names clash Conquest overwrites the first object; here a suffix parts them."""
    shared = _shared_names(facts.expected_tables)
    if difference.field == "tables.DICOMImages.ObjectFile":
        return difference.expected in shared and _suffixed(difference.expected, difference.observed)
    if difference.field == "files.*" and difference.expected is None:
        return any(_suffixed(name, difference.subject) for name in shared)
    if difference.field.startswith("files."):
        # The shared name still holds the object that came first.
        first = facts.files.get(difference.subject, {}).get("SOPInstanceUID")
        return difference.subject in shared and any(
            sent.text(SOP_INSTANCE_UID) == first for sent in facts.objects
        )
    return False


def _shared_names(tables: dict[str, list[dict[str, Any]]]) -> set[str]:
    names = [row["ObjectFile"] for row in tables.get("DICOMImages", []) if row.get("ObjectFile")]
    return {name for name in names if names.count(name) > 1}


def _suffixed(name: str, other: str) -> bool:
    stem, dot, extension = name.rpartition(".")
    return other != name and other.startswith(stem) and other.endswith(dot + extension)


# -- one SOP instance has one place -------------------------------------------------------


def _moved_instance(facts: Facts, difference: Difference) -> bool:
    """Conquest answers 0000, writes a file and rows, but no image row: refused here."""
    if not _is_moved(facts):
        return False
    if difference.field == "c_store_status":
        return difference.expected == "0x0000" and not succeeded(difference.observed)
    if difference.field.endswith(".*") and difference.observed is None:
        return difference.field == "files.*" or _wrote(facts.object, difference.expected)
    return False


def _is_moved(facts: Facts) -> bool:
    sop = facts.object.text(SOP_INSTANCE_UID)
    parents = [sent.text(SERIES_UID) for sent in facts.objects[:-1] if sent.text(0x00080018) == sop]
    return bool(parents) and facts.object.text(SERIES_UID) not in parents


# -- a vague value does not replace a known one -------------------------------------------


def _known_value_kept(facts: Facts, difference: Difference) -> bool:
    """Conquest's test for this only keeps a line out of the log."""
    column = difference.field.rpartition(".")[2]
    expected, observed = str(difference.expected), str(difference.observed)
    if column == "PatientSex":
        known = [sent.text(0x00100040) for sent in facts.objects]
        return expected == "O" and observed in ("M", "F") and observed in known
    known = [sent.text(0x00100030) for sent in facts.objects]
    return (
        column == "PatientBir"
        and expected.endswith("0101")
        and observed in known
        and not observed.endswith("0101")
    )


# -- a modality is cut to its column ------------------------------------------------------


def _long_modality(facts: Facts, difference: Difference) -> bool:
    """Conquest overruns a buffer and stores stray bytes."""
    if difference.field != "tables.DICOMStudies.StudyModal":
        return False
    long = [sent.text(MODALITY) for sent in facts.objects]
    return any(
        len(modality) > _MODALITY_WIDTH
        and difference.expected not in (modality, modality[:_MODALITY_WIDTH])
        and modality[:_MODALITY_WIDTH] in str(difference.observed).split("\\")
        for modality in long
    )


# -- not built yet ------------------------------------------------------------------------


def is_deferred(config: dict[str, Any]) -> str:
    """The rule under which a whole configuration waits, or an empty text."""
    syntax = str(config.get("FileNameSyntax", config.get("fns", "")))
    if syntax.startswith("lua:"):
        return "lua-file-names"
    incoming = str(config.get("IncomingCompression", config.get("incoming", "un")))
    return "" if incoming in ("un", "as") else "incoming-compression"


STORED = (
    Rule("uid-missing", _uid_missing),
    Rule("as-received", _as_received),
    Rule("own-identity", _own_identity),
    Rule("empty-token", _empty_token),
)
ROWS = (
    Rule("uid-missing", _row_of_uid_missing),
    Rule("uid-missing", _uid_missing),
    Rule("dotted-date", _dotted_date),
    Rule("known-value-kept", _known_value_kept),
    Rule("long-modality", _long_modality),
    Rule("shared-file", _shared_file),
    Rule("moved-instance", _moved_instance),
    Rule("as-received", _file_as_received),
)
DEFERRED = ("lua-file-names", "incoming-compression")
