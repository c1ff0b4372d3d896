"""One run of converters on one object: where items get their values, what the run has decided."""

import os
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pyserver import _native
from pyserver.policy.paths import ElementPath
from pyserver.policy.problems import CommandError

if TYPE_CHECKING:
    from pyserver.policy.parser import Line

# Levels of log lines, as the native server numbers them.
ERROR, WARNING, INFO, DEBUG = range(4)

PATIENT_ID, STATION, MODALITY = "0010,0020", "0008,1010", "0008,0060"
SOP_INSTANCE, STUDY, SERIES = "0008,0018", "0020,000d", "0020,000e"
ACCESSION = "0008,0050"


class Outcome(Enum):
    """How a line ended."""

    NORMAL = "normal"
    STOP = "stop"
    RETURN = "return"
    DESTROY = "destroy"
    REJECT = "reject"
    DEFER = "defer"
    RETRY = "retry"


class Archive(Protocol):
    """What rules ask the archive."""

    def find(
        self, model: str, level: str, keys: Mapping[str, str], limit: int = ..., offset: int = ...
    ) -> list[dict[str, Any]]: ...

    def locate(self, level: str, uid: str) -> list[dict[str, Any]]: ...

    def delete(self, level: str, uid: str | list[str]) -> dict[str, int]: ...

    def dump_table(self, name: str) -> list[dict[str, Any]]: ...


class WorklistEntries(Protocol):
    """What rules ask the worklist."""

    def of(self, accession: str, modality: str = ...) -> dict[str, str] | None: ...


@dataclass(frozen=True)
class Services:
    """What a run may use of the server."""

    home: Path
    archive: Archive
    native_archive: Any
    uids: _native.UidTable
    log: Callable[[int, str], None]
    processes: Any
    worklist: WorklistEntries | None = None
    # Has a text put behind the names of new files.
    test_mode: Callable[[str], None] | None = None
    forwards: Any = None
    # Queues a record of work that does not come with an image.
    queue: Callable[[bytes], None] | None = None
    folders: tuple[Path, ...] = ()
    shell: bool = False
    devices: int = 1
    codecs: Any = None
    quality: int = 95
    # Of objects that go to another storage folder.
    archive_mode: str = "as"
    # Whether stored files may hold NKI streams.
    keeps_nki: bool = False
    # Lines of CompressionConverter0 to 9, MergeStudiesConverter0 and the like, by name.
    lines: Mapping[str, "Line"] = field(default_factory=dict)
    # Tells that an object may have been sent before: SOP instance UID, to whom, why.
    repeated: Callable[[str, str, str], None] | None = None


@dataclass
class Context:
    """The object at hand and everything that converters of one object share."""

    services: Services
    instance: _native.Instance
    calling_ae: str
    called_ae: str
    label: str = "Importconverter"
    station: str | None = None
    file: Path | None = None
    part: int = 0
    depth: int = 0
    variables: dict[str, str] = field(default_factory=dict)
    device: int | None = None
    # Whether a converter chose the compression.
    compressed: bool = False
    jobs: list[bytes] = field(default_factory=list)
    # Changed UIDs that no commit has seen yet: they go with the object, or before it is shown.
    uid_records: list[bytes] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    # How many of the failures are forwards that are done later.
    postponed: int = 0
    association: str = ""
    exporting: bool = False

    def __post_init__(self) -> None:
        # As in Conquest these tell how the object came, whatever converters do to it meanwhile.
        instance = self.instance
        self.arrived = {
            "m": instance.get(MODALITY) or "",
            "s": (instance.get(STATION) or "") if self.station is None else self.station,
            "o": instance.get(SOP_INSTANCE) or "",
            "i": instance.get(PATIENT_ID) or "",
        }

    # Items: see template.Values.

    def letter(self, letter: str) -> str:
        """The value of a % item of one letter."""
        if letter in "xyz":
            return self.variables.get(letter, "")
        known = self.arrived.get(letter)
        return _LETTERS[letter](self) if known is None else known

    def element(self, path: ElementPath) -> str:
        """The text at a path; empty when there is none."""
        if path.plain:
            return self.instance.get(path.steps) or ""
        instance = self.instance
        if path.other is not None:
            uid = self.element(path.other)
            other = self._other_object(uid) if uid else None
            if other is None:
                return ""
            instance = other
        if path.anywhere:
            return instance.search(path.steps) or ""
        # A path that ends with an item is about no value.
        return "" if path.is_item else instance.get(path.steps) or ""

    def changed(self, kind: str, value: str) -> str:
        """`%E`, `%R` and `%A` of a value."""
        if kind == "a":
            return str(checksum(value))
        if not value:
            return ""
        if kind == "e":
            return self.services.uids.changed(value, "", "percente")
        return self.services.uids.original(value) or ""

    def lookup(self, table: str, path: ElementPath) -> str:
        """`%QP`, `%QS`, `%QE`, `%QW`: a value from the index; other letters: an alias file."""
        wanted = _TABLES.get(table)
        if wanted is not None:
            return wanted(self, path.steps)
        value = self.element(path)
        return _alias(self.services.home / f"aliasfileq{table}.txt", value)

    # What the object says.

    def text(self, tag: str) -> str:
        """The text of a top-level element; empty when there is none."""
        return self.instance.get(tag) or ""

    def worklist_entry(self) -> dict[str, str] | None:
        """The worklist entry with the object's accession number."""
        worklist = self.services.worklist
        return None if worklist is None else worklist.of(self.text(ACCESSION), self.text(MODALITY))

    def log(self, level: int, text: str) -> None:
        """A line about this command."""
        self.services.log(level, f"{self.label}.{self.part} {text}")

    def _other_object(self, uid: str) -> _native.Instance | None:
        for found in self.services.archive.locate("image", uid):
            other = _native.Instance.open(Path(found["path"]))
            if (other.get(PATIENT_ID) or "") == self.text(PATIENT_ID):
                return other
        return None

    def commit_uids(self) -> None:
        """Make changed UIDs durable, because someone is about to see them."""
        if self.uid_records:
            records, self.uid_records = self.uid_records, []
            self.services.uids.commit(records)

    def path(self) -> Path:
        """The object's file, or where it would be stored."""
        if self.file is not None:
            return self.file
        found: Path = self.instance.predicted_path(
            self.services.native_archive, self.calling_ae, self.called_ae
        )
        return found


_LETTERS: dict[str, Callable[[Context], str]] = {
    "u": lambda c: c.calling_ae,
    "c": lambda c: c.called_ae,
    "d": lambda _: time.ctime(),
    "g": lambda c: c.services.uids.fresh(),
    "f": lambda c: os.fspath(c.path()),
    "b": lambda c: c.path().stem,
    "p": lambda c: os.fspath(c.path().parent),
}


def checksum(value: str) -> int:
    """Conquest's CRC: polynomial EDB88320, start 0, the end not inverted."""
    try:
        data = value.encode("latin-1")
    except UnicodeEncodeError:
        data = value.encode()
    return zlib.crc32(data, 0xFFFFFFFF) ^ 0xFFFFFFFF


def _from_index(level: str, keys: Callable[[Context], dict[str, str]]) -> Callable[..., str]:
    def look(context: Context, tag: str) -> str:
        wanted = keys(context)
        if not all(wanted.values()):
            return ""
        found = context.services.archive.find("patient", level, {**wanted, tag: ""}, 1)
        if not found:
            return ""
        value = next((v for k, v in found[0].items() if _native.find_tag(k) == tag.upper()), "")
        return value if isinstance(value, str) else "\\".join(value)

    return look


def _from_worklist(context: Context, tag: str) -> str:
    entry = context.worklist_entry()
    return "" if entry is None else entry.get(tag.upper(), "")


_TABLES: dict[str, Callable[[Context, str], str]] = {
    "P": _from_index("PATIENT", lambda c: {"PatientID": c.text(PATIENT_ID)}),
    "S": _from_index(
        "STUDY",
        lambda c: {"PatientID": c.text(PATIENT_ID), "StudyInstanceUID": c.text(STUDY)},
    ),
    "E": _from_index(
        "SERIES",
        lambda c: {
            "PatientID": c.text(PATIENT_ID),
            "StudyInstanceUID": c.text(STUDY),
            "SeriesInstanceUID": c.text(SERIES),
        },
    ),
    "W": _from_worklist,
}


def _alias(path: Path, value: str) -> str:
    """The second column of the line that begins with the value; without one the value itself."""
    try:
        text = path.read_text(encoding="latin-1")
    except FileNotFoundError:
        return value
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    for line in text.splitlines():
        old, tab, new = line.partition("\t")
        if tab and old.casefold() == value.casefold():
            return new
    return value
