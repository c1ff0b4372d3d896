"""Golden case files: where they are, what they say, how their text is to be read.

Knows the layout and the placeholders of FORMATS.md and nothing of any case: neither
names nor values. Every file is optional, so another folder may hold only some.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.dataset import ParseError, Part10, Tree, parse, read_file, values
from tests.support.dimse import EXPLICIT_LE, IMPLICIT_LE, Association, DimseError
from tests.support.server import Server

SOP_CLASS_UID, SOP_INSTANCE_UID, MODALITY = 0x00080016, 0x00080018, 0x00080060
PATIENT_ID, STUDY_UID, SERIES_UID = 0x00100020, 0x0020000D, 0x0020000E

CALLING, CALLED = "GOLDSCU", "CONQUESTSRV1"


@dataclass(frozen=True)
class Mask:
    """One entry of known_bugs.json: parts of a case that record a fault or a free choice."""

    fields: tuple[str, ...]
    reason: str

    def below(self, prefix: str) -> Mask:
        """The same mask for fields that are named with a prefix."""
        fields = (field if field == "*" else f"{prefix}.{field}" for field in self.fields)
        return Mask(tuple(fields), self.reason)

    def inside(self, prefix: str) -> Mask:
        """The same mask for fields that are named without a prefix."""
        fields = ("*" if f == prefix else f.removeprefix(f"{prefix}.") for f in self.fields)
        return Mask(tuple(fields), self.reason)

    def covers(self, field: str) -> bool:
        return any(mask in ("*", field) or field.startswith(f"{mask}.") for mask in self.fields)


class GoldenObject:
    """An input file: what is sent, and what its elements say."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path

    @cached_property
    def part(self) -> Part10:
        return read_file(self.path)

    @cached_property
    def tree(self) -> Tree:
        try:
            return self.part.tree()
        except ParseError:
            return {}

    @cached_property
    def values(self) -> dict[int, str]:
        return values(self.tree)

    def text(self, tag: int) -> str:
        return self.values.get(tag, "")

    def store(self, server: Server) -> str:
        """Sends the file's bytes as they are; the status as FORMATS.md writes it."""
        sop_class = self.text(SOP_CLASS_UID)
        transfer = self.part.transfer_syntax
        try:
            with Association(
                server.address, [(sop_class, [transfer])], called=CALLED, calling=CALLING
            ) as peer:
                answer = peer.store(
                    sop_class, self.text(SOP_INSTANCE_UID), transfer, self.part.data
                )
        except (OSError, DimseError):
            return "no-response"
        return f"0x{answer.status:04x}"


class GoldenSet:
    """One folder of golden files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.storage = root / "storage" if (root / "storage").is_dir() else root

    def load(self, name: str) -> Any:
        """A case file, or None where the folder has none."""
        path = self.storage / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def object(self, name: str) -> GoldenObject:
        inputs = self.storage / "inputs"
        for candidate in (inputs / name, inputs / "find" / name, inputs / "scen" / name):
            if candidate.is_file():
                return GoldenObject(name, candidate)
        raise FileNotFoundError(f"no input {name} below {inputs}")

    def masks(self, file: str, case: str) -> list[Mask]:
        return self._masks.get((file, case), [])

    @cached_property
    def _masks(self) -> dict[tuple[str, str], list[Mask]]:
        found: dict[tuple[str, str], list[Mask]] = {}
        path = self.root / "known_bugs.json"
        if not path.is_file():
            return found
        for entry in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            key = (entry["file"].rpartition("/")[2], entry["id"])
            mask = Mask(tuple(entry["fields"]), entry["bug"])
            found.setdefault(key, []).append(mask)
        return found


_PLACEHOLDERS = {
    "<TIME>": r"(?P<time>\d{10})",
    "<COUNTER>": r"[0-9a-f]{4}",
    "<YYYYMMDD>": r"(?P<date>\d{8})",
}


def matches(pattern: str, text: str, started: float) -> bool:
    """Whether a text fits a golden text with placeholders; times must be those of the run."""
    expression = re.escape(pattern)
    for placeholder, form in _PLACEHOLDERS.items():
        expression = expression.replace(re.escape(placeholder), form, 1)
    found = re.fullmatch(expression, text)
    if not found:
        return False
    groups = found.groupdict()
    if groups.get("time") and not started - 1 <= int(groups["time"]) <= time.time() + 1:
        return False
    return not groups.get("date") or groups["date"] in _dates(started)


def _dates(started: float) -> set[str]:
    return {time.strftime("%Y%m%d", time.localtime(moment)) for moment in (started, time.time())}


def is_access_time(text: str | None, started: float) -> bool:
    """Unix time of the run, with the low five bits cleared."""
    if text is None or not str(text).isdigit():
        return False
    moment = int(text)
    return moment % 32 == 0 and started - 64 <= moment <= time.time()


def ini_lines(config: dict[str, Any]) -> list[str]:
    """The lines of dicom.ini that a case asks for, whichever way its file spells them."""
    syntax = config.get("FileNameSyntax", config.get("fns", 8))
    incoming = config.get("IncomingCompression", config.get("incoming", "un"))
    lines = [
        f"FileNameSyntax = {syntax}",
        f"IncomingCompression = {incoming}",
        "EnableComputedFields = 1",
        "UnknownPeers = all",
    ]
    extra = config.get("extra", "")
    return lines + [line for line in extra.splitlines() if line.strip()]


def encoding_of(part: Part10) -> str:
    """FORMATS.md's words for a file without meta information."""
    for syntax, words in ((IMPLICIT_LE, "implicit"), (EXPLICIT_LE, "explicit")):
        try:
            parse(part.data, syntax)
        except (ParseError, KeyError):
            continue
        return f"{words} VR little endian"
    return "unreadable"
