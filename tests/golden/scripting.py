"""Cases of scripting/*.json: configuration, steps, and what a server left behind.

Knows the fields of FORMATS.md, no case. Generated UIDs are compared by their order of
appearance, the time and counter of file names by their form.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue

from pyserver.control import ControlClient
from tests.golden.cases import CALLED, GoldenSet, Mask
from tests.golden.pixels import largest_error
from tests.golden.verdict import Difference
from tests.support.dataset import read_file
from tests.support.dimse import Association, DimseError
from tests.support.server import Server

CALLING = "TESTSCU"
# Elements that a server may add (FORMATS.md).
PIXEL_DATA = "7FE00010"
LOSSY = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
# Of a sample of 12 bits at quality 95; the images of the cases are noise.
LOSSY_ERROR = 200
EXTRA = {"00080005", "00080054", "00282112", "00282114", "00082111"}
_MADE_UID = re.compile(r"99999\.99999\.[67]\.\d{10}\.\d+")
_NUMBERED = re.compile(r"[0-9a-f]{14}|\d{10,16}")


@dataclass(frozen=True)
class Case:
    """One case with its folder."""

    file: str
    data: dict[str, Any]
    masks: tuple[Mask, ...]
    inputs: Path

    @property
    def id(self) -> str:
        return str(self.data["id"])

    def ini(self, section: str) -> dict[str, str]:
        lines: dict[str, str] = self.data.get(f"dicom.ini [{section}]", {})
        return lines

    @property
    def context(self) -> str:
        return str(self.data["context"])


class ScriptingSet:
    """The scripting folder of a golden set; without one there are no cases."""

    def __init__(self, golden: GoldenSet) -> None:
        self.folder = golden.root / "scripting"
        self._masks: dict[tuple[str, str], list[Mask]] = {}
        for path in (golden.root / "known_bugs.json", self.folder / "known_bugs.json"):
            entries = json.loads(path.read_text("utf-8"))["cases"] if path.is_file() else []
            for entry in entries:
                key = (entry["file"].rpartition("/")[2], entry["id"])
                mask = Mask(tuple(entry["fields"]), entry["bug"])
                self._masks.setdefault(key, []).append(mask)

    def cases(self, file: str) -> list[Case]:
        path = self.folder / file
        if not path.is_file():
            return []
        cases = json.loads(path.read_text("utf-8"))["cases"]
        inputs = self.folder / "inputs"
        return [
            Case(file, case, tuple(self._masks.get((file, case["id"]), ())), inputs)
            for case in cases
        ]


class Run:
    """One case on one server, which other cases used before."""

    def __init__(self, case: Case, server: Server) -> None:
        self.case = case
        self.server = server

    def prepare(self, extra: Iterable[str] = ()) -> str:
        """Empties the archive and puts the case's configuration in force; why not, if so."""
        home = self.server.home
        running = ControlClient(home)
        patients = {row["PatientID"] or "" for row in running.call("dump", table="DICOMPatients")}
        if patients:
            running.call("delete", level="patient", uids=sorted(patients))
        running.call("worklist_remove", keys={})
        for path in home.iterdir():
            if path.name.startswith(("aliasfile", "my", "p.sh", "openrem", "in2", "wl")):
                path.unlink()
        shutil.rmtree(home / "out", ignore_errors=True)
        (home / "out").mkdir()
        for name, text in self.case.data.get("files_before", {}).items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text == "<binary>":
                path.write_bytes((self.case.inputs / "ct2.dcm").read_bytes())
            else:
                path.write_text(self.text(text), encoding="latin-1")
        self.configure(extra)
        answer = running.call("reload")
        return "" if answer["reloaded"] else str(answer["reason"])

    def configure(self, extra: Iterable[str] = ()) -> None:
        """Writes the case's dicom.ini."""
        items = {
            "UIDPrefix": "99999.99999",
            "FileNameSyntax": "4",
            "UnknownPeers": "all",
            "EnableComputedFields": "1",
        } | self.case.ini("sscscp")
        lines = [f"{name} = {self.text(value)}" for name, value in items.items()]
        for section in ("scripts", "lua"):
            if self.case.ini(section):
                lines.append(f"[{section}]")
                entries = self.case.ini(section).items()
                lines += [f"{name} = {self.text(value)}" for name, value in entries]
        self.server.configure([*extra, *lines], self.peers())

    def peers(self) -> list[str]:
        """Lines of acrnema.map."""
        return []

    def text(self, text: str) -> str:
        """Placeholders filled in."""
        return text.replace("$RUN", str(self.server.home)).replace("$PORT", str(self.server.port))

    def store(self, files: list[str], titles: dict[str, str]) -> list[str]:
        """All files in one association; a status each."""
        parts = [(self.case.inputs / name).read_bytes() for name in files]
        heads = [dcmread(io.BytesIO(part), stop_before_pixels=True) for part in parts]
        meta = [head.file_meta for head in heads]
        offsets = [
            part.index(b"DICM") + 16 + int(m.FileMetaInformationGroupLength)
            for part, m in zip(parts, meta, strict=True)
        ]
        contexts = {(str(m.MediaStorageSOPClassUID), str(m.TransferSyntaxUID)): None for m in meta}
        statuses: list[str] = []
        try:
            with Association(
                self.server.address,
                [(sop_class, [syntax]) for sop_class, syntax in contexts],
                called=titles.get("called", CALLED),
                calling=titles.get("calling", CALLING),
            ) as peer:
                for part, m, offset in zip(parts, meta, offsets, strict=True):
                    answer = peer.store(
                        str(m.MediaStorageSOPClassUID),
                        str(m.MediaStorageSOPInstanceUID),
                        str(m.TransferSyntaxUID),
                        part[offset:],
                    )
                    statuses.append(f"0x{answer.status:04x}")
        except (OSError, DimseError):
            statuses.append("no-response")
        return statuses

    # What is left behind.

    def compare(self) -> list[Difference]:
        """Stored objects and files under out/ against the recorded result."""
        recorded = self.case.data["result"]
        found = self._compare_stored(recorded.get("stored", []))
        return found + self._compare_files(recorded.get("files", {}))

    def _compare_stored(self, recorded: list[dict[str, Any]]) -> list[Difference]:
        rows = ControlClient(self.server.home).call("dump", table="DICOMImages")
        # Conquest numbers rows as they come; here the files tell the order by their counter.
        observed = [self._stored(row, self._input(recorded, row)) for row in rows]
        expected = [dict(entry) for entry in recorded]
        found = []
        if len(expected) != len(observed):
            seen = [entry["sop"] for entry in observed]
            found.append(Difference("result.stored", [e["sop"] for e in expected], seen))
            return found
        names = Names()
        key = lambda entry: (entry["compared_with"], str(entry["changed"].get("00200013")))  # noqa: E731
        for want, have in zip(sorted(expected, key=key), sorted(observed, key=key), strict=True):
            for field in ("object_file", "device", "sop", "transfer_syntax"):
                if names.of("e", want[field]) != names.of("o", have[field]):
                    found.append(Difference(f"result.stored.{field}", want[field], have[field]))
            changed = same_changes(want["changed"], have["changed"], names)
            if is_encoded(want["transfer_syntax"]) and same_pixels(have):
                changed = [entry for entry in changed if entry[0] != PIXEL_DATA]
            found += [Difference("result.stored.changed", w, h, t) for t, w, h in changed]
        return found

    def _input(self, recorded: list[dict[str, Any]], row: dict[str, Any]) -> Path:
        """The input file that a stored object is to be compared with."""
        sent = [
            name
            for step in self.case.data["steps"]
            if step["op"][0] == "store"
            for name in step["op"][1]
        ]
        uid = row["SOPInstanc"]
        for name in sent:
            if str(read(self.case.inputs / name).SOPInstanceUID) == uid:
                return self.case.inputs / name
        for entry in recorded:
            if " (SOP instance" in entry["compared_with"]:
                return self.case.inputs / entry["compared_with"].split(" ")[0]
        return self.case.inputs / sent[0]

    def _stored(self, row: dict[str, Any], source: Path) -> dict[str, Any]:
        device = row["DeviceName"]
        root = self.server.data if device == "MAG0" else self.server.home / f"data{device[3:]}"
        before, after = read(source), read(root / row["ObjectFile"])
        differs = str(before.SOPInstanceUID) != str(after.get("SOPInstanceUID"))
        return {
            "object_file": row["ObjectFile"],
            "device": device,
            "sop": row["SOPInstanc"],
            "transfer_syntax": str(after.file_meta.TransferSyntaxUID),
            "files": (source, root / row["ObjectFile"]),
            "compared_with": source.name + (" (SOP instance UID differs)" if differs else ""),
            "changed": changes(before, after),
        }

    def _compare_files(self, recorded: dict[str, Any]) -> list[Difference]:
        home = self.server.home
        observed = {
            str(path.relative_to(home)) + ("/" if path.is_dir() else ""): path
            for path in (home / "out").rglob("*")
        }
        found = []
        names = Names()
        for name, want in recorded.items():
            same = next((n for n in observed if names.of("e", name) == names.of("o", n)), name)
            path = observed.pop(same, None)
            if path is None:
                found.append(Difference("result.files", name, None, name))
            else:
                found += self._compare_file(name, want, path, names)
        return found + [Difference("result.files", None, name, name) for name in observed]

    def _compare_file(
        self, name: str, want: dict[str, Any], path: Path, names: Names
    ) -> list[Difference]:
        if want["type"] == "text":
            text = path.read_text(encoding="latin-1")
            expected = self.text(want["text"])
            if names.of("e", expected) != names.of("o", text) and not _same_date(expected, text):
                return [Difference("result.files", expected, text, name)]
        elif want["type"] == "dicom":
            source = self.case.inputs / want["compared_with"].split(" ")[0]
            after = read(path)
            changed = same_changes(want["changed"], changes(read(source), after), names)
            found = [Difference("result.files", w, h, f"{name} {t}") for t, w, h in changed]
            syntax = str(after.file_meta.TransferSyntaxUID)
            if syntax != want["transfer_syntax"]:
                found.append(Difference("result.files", want["transfer_syntax"], syntax, name))
            return found
        elif "width" in want:
            from PIL import Image  # noqa: PLC0415  (only few cases have pictures)

            with Image.open(path) as picture:
                if picture.size != (want["width"], want["height"]):
                    return [Difference("result.files", want, picture.size, name)]
        return []


class Names:
    """Generated texts by order of appearance, for the expected and the observed side."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, int]] = {"e": {}, "o": {}}

    def of(self, side: str, text: str) -> str:
        seen = self._seen[side]
        text = text.replace("<time+counter>", "#")
        text = _MADE_UID.sub(lambda m: f"<UID {seen.setdefault(m[0], len(seen))}>", text)
        return _NUMBERED.sub("#", text)


_DATE = re.compile(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}")


def _same_date(expected: str, observed: str) -> bool:
    return _DATE.search(expected) is not None and (
        _DATE.sub("<date>", expected) == _DATE.sub("<date>", observed)
    )


def is_encoded(syntax: str) -> bool:
    """Whether encoders may write other bytes for the same pixels."""
    return not syntax.startswith("1.2.840.10008.1.2") or syntax[17:].startswith((".4.", ".5"))


def same_pixels(entry: dict[str, Any]) -> bool:
    """Whether the pixels of an object are those of its original, as far as its syntax goes."""
    before, after = (read_file(path) for path in entry["files"])
    syntax = entry["transfer_syntax"]
    return largest_error(before, after) <= (LOSSY_ERROR if syntax in LOSSY else 0)


def read(path: Path) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(path, force=True)


def changes(before: Dataset, after: Dataset) -> dict[str, list[Any]]:
    """Elements that differ, as FORMATS.md writes them."""
    found = {}
    tags = {element.tag for element in before} | {element.tag for element in after}
    for tag in sorted(tags):
        pair = [_value(before, tag), _value(after, tag)]
        if pair[0] != pair[1]:
            found[f"{int(tag):08X}"] = pair
    return found


def _value(dataset: Dataset, tag: Any) -> Any:
    if tag not in dataset:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            element = dataset[tag]
            value = element.value
        except Exception as error:  # whatever pydicom says is what the case file holds
            return f"ERR {error}"
    if element.VR == "SQ":
        return [item.to_json_dict() for item in value]
    if isinstance(value, bytes):
        return {"sha1": hashlib.sha1(value).hexdigest(), "length": len(value)}
    if isinstance(value, MultiValue):
        return [str(part) for part in value]
    return str(value)


def same_changes(
    expected: dict[str, Any], observed: dict[str, Any], names: Names
) -> list[tuple[str, Any, Any]]:
    """Tags where the changes differ, with both."""
    found = []
    for tag in sorted({*expected, *observed} - EXTRA):
        want, have = expected.get(tag), observed.get(tag)
        if names.of("e", _plain(want)) != names.of("o", _plain(have)):
            found.append((tag, want, have))
    return found


def _plain(pair: Any) -> str:
    if isinstance(pair, list):
        pair = [
            {k: v for k, v in side.items() if k != "text"} if isinstance(side, dict) else side
            for side in pair
        ]
    # An emptied element and one without a value are the same.
    return json.dumps(pair, sort_keys=True).replace('"None"', '""').replace("null]", '""]')
