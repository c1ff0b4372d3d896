"""The files that pydicom ships as test data, as far as they are storable objects.

Storable: the data set is whole and readable in the transfer syntax it declares, is not a
directory, and names its study, series and instance with valid UIDs. What falls out for
the lack of UIDs, or because it is cut off, is kept apart: the server must refuse it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pydicom

from tests.support.dataset import PIXEL_DATA, ParseError, Part10, read_file, values

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_SKIPPED = {".py", ".pyc", ".json", ".txt", ".md", ".dump", ".gz", ".icc"}


@dataclass(frozen=True)
class CorpusFile:
    """One file and the identifiers it is stored under."""

    path: Path
    transfer_syntax: str
    sop_class: str
    sop_instance: str
    study: str
    series: str
    patient_id: str
    regular: bool
    """Encapsulated pixel data is OB (PS3.5 A.4); dcmtk and Orthanc cannot read it as OW."""

    @property
    def part(self) -> Part10:
        return read_file(self.path)

    @property
    def has_meta(self) -> bool:
        return bool(self.part.meta)

    def __str__(self) -> str:
        return self.path.name


def _read(path: Path) -> CorpusFile | None:
    part = read_file(path)
    try:
        tree = part.tree()
        found = values(tree)
    except (ParseError, UnicodeDecodeError):
        return None
    texts = (found.get(tag, "") for tag in (0x00080016, 0x00080018, 0x0020000D, 0x0020000E))
    pixels = tree.get(PIXEL_DATA)
    regular = pixels is None or pixels.fragments is None or pixels.vr == b"OB"
    patient_id = found.get(0x00100020, "")
    return CorpusFile(path, part.transfer_syntax, *texts, patient_id, regular)


def _is_storable(file: CorpusFile) -> bool:
    uids = (file.sop_class, file.sop_instance, file.study, file.series)
    valid = all(_UID.fullmatch(uid) and len(uid) <= 64 for uid in uids)
    return valid and file.sop_class != MEDIA_DIRECTORY


def _all() -> Iterator[Path]:
    # Never pydicom.data.get_testdata_files: it fetches what it lacks from the network.
    root = Path(pydicom.__file__).parent / "data"
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix not in _SKIPPED:
            yield path


@cache
def storable() -> tuple[CorpusFile, ...]:
    """Every storable object, in the order of its path."""
    return tuple(file for file in map(_read, _all()) if file and _is_storable(file))


@cache
def homeless() -> tuple[CorpusFile, ...]:
    """Whole objects of a storage class that do not name their study or series."""
    return tuple(
        file
        for file in map(_read, _all())
        if file and file.sop_instance and not (file.study and file.series)
    )


def rounds(files: Iterable[CorpusFile]) -> list[list[CorpusFile]]:
    """Groups in which no object comes twice and no identifier has two parents.

    The corpus holds one image in nine transfer syntaxes and one study under two
    patients; a group can be stored on one server without one file replacing another.
    """
    groups: list[list[CorpusFile]] = []
    links: list[dict[str, str]] = []
    for file in files:
        wanted = {  # which name may have only which parent or content
            f"instance {file.sop_instance}": str(file.path),
            f"series {file.series}": file.study,
            f"study {file.study}": file.patient_id,
        }
        number = next(
            (n for n, known in enumerate(links) if _fits(known, wanted)),
            len(groups),
        )
        if number == len(groups):
            groups.append([])
            links.append({})
        groups[number].append(file)
        links[number].update(wanted)
    return groups


def _fits(known: dict[str, str], wanted: dict[str, str]) -> bool:
    return all(known.get(key, value) == value for key, value in wanted.items())


def by_transfer_syntax(files: Iterable[CorpusFile]) -> dict[str, list[CorpusFile]]:
    groups: dict[str, list[CorpusFile]] = {}
    for file in files:
        groups.setdefault(file.transfer_syntax, []).append(file)
    return groups


def summary(files: Iterable[CorpusFile]) -> str:
    count = Counter(file.transfer_syntax for file in files)
    return ", ".join(f"{uid}: {number}" for uid, number in sorted(count.items()))
