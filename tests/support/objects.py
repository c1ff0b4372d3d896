"""Objects made for a test: any size, own identifiers, contents that can be checked."""

from __future__ import annotations

import hashlib
import random
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.dimse import EXPLICIT_LE, SECONDARY_CAPTURE, Association, identifier
from tests.support.server import Server


def new_uid() -> str:
    """A UID that nobody else has (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


@dataclass(frozen=True)
class TestObject:
    """A secondary capture image; its pixels follow from its UID and size."""

    __test__ = False

    patient: str
    study: str
    series: str
    instance: str
    pixel_bytes: int
    number: int = 1
    description: str = "made for a test"
    sop_class: str = SECONDARY_CAPTURE
    transfer_syntax: str = EXPLICIT_LE

    def header(self) -> bytes:
        """Everything before the pixel data's value, in explicit VR little endian."""
        columns = 256
        texts = [
            (0x00080016, b"UI", self.sop_class),
            (0x00080018, b"UI", self.instance),
            (0x00080020, b"DA", "20240102"),
            (0x00080030, b"TM", "101112"),
            (0x00080050, b"SH", "A1"),
            (0x00080060, b"CS", "OT"),
            (0x00081030, b"LO", self.description),
            (0x00100010, b"PN", f"Test^{self.patient}"),
            (0x00100020, b"LO", self.patient),
            (0x0020000D, b"UI", self.study),
            (0x0020000E, b"UI", self.series),
            (0x00200010, b"SH", "1"),
            (0x00200011, b"IS", "1"),
            (0x00200013, b"IS", str(self.number)),
        ]
        numbers = [
            (0x00280002, 1),
            (0x00280010, max(self.pixel_bytes // columns, 1) & 0xFFFF),
            (0x00280011, columns),
            (0x00280100, 8),
            (0x00280101, 8),
            (0x00280102, 7),
            (0x00280103, 0),
        ]
        data = b"".join(_short(tag, vr, text.encode()) for tag, vr, text in texts)
        data += _short(0x00280002, b"US", struct.pack("<H", 1))
        data += _short(0x00280004, b"CS", b"MONOCHROME2")
        data += b"".join(
            _short(tag, b"US", struct.pack("<H", number)) for tag, number in numbers[1:]
        )
        return data + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, self.pixel_bytes)

    def pixels(self) -> bytes:
        return random.Random(self.instance).randbytes(self.pixel_bytes)

    def data(self) -> bytes:
        return self.header() + self.pixels()

    def digest(self) -> str:
        return hashlib.sha256(self.data()).hexdigest()

    def keys(self, level: str) -> bytes:
        """The identifier that retrieves this object, or its series or study."""
        keys: dict[int, bytes | str] = {0x00080052: level, 0x0020000D: self.study}
        if level in ("SERIES", "IMAGE"):
            keys[0x0020000E] = self.series
        if level == "IMAGE":
            keys[0x00080018] = self.instance
        return identifier(keys)


def _short(tag: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def make_series(sizes: list[int], patient: str = "T1") -> list[TestObject]:
    """Objects of one new series, one for each size."""
    study, series = new_uid(), new_uid()
    return [
        TestObject(patient, study, series, f"{series}.{number}", size, number)
        for number, size in enumerate(sizes, 1)
    ]


STORAGE = [(SECONDARY_CAPTURE, [EXPLICIT_LE])]


def store(server: Server, objects: list[TestObject], timeout: float = 20.0) -> Iterator[int]:
    """Stores objects on one association; yields each status."""
    with Association(server.address, STORAGE, called=server.aet, timeout=timeout) as peer:
        for one in objects:
            answer = peer.store(one.sop_class, one.instance, one.transfer_syntax, one.data())
            yield answer.status


@dataclass
class Ledger:
    """What was sent, and which contents each instance may have after the answers."""

    statuses: list[str] = field(default_factory=list)
    _promised: dict[str, list[TestObject]] = field(default_factory=dict)
    """Acknowledged: one of these contents, without exception."""
    _possible: dict[str, list[TestObject]] = field(default_factory=dict)
    """Not answered: one of these whole, or nothing."""

    def send(self, server: Server, objects: list[TestObject]) -> None:
        """Sends each object on an association of its own, whatever becomes of it."""
        for one in objects:
            try:
                status = next(store(server, [one]))
            except Exception as error:  # any way a connection may break
                self.statuses.append(type(error).__name__)
                known = self._promised if one.instance in self._promised else self._possible
                known.setdefault(one.instance, []).append(one)
                continue
            self.statuses.append(f"{status:04x}")
            if status == 0 or status & 0xF000 == 0xB000:
                self._promised[one.instance] = [one]
                self._possible.pop(one.instance, None)

    def acknowledged(self) -> set[str]:
        """Instances that were."""
        return set(self._promised)

    def check(self, server: Server) -> list[str]:
        """Broken promises: lost, changed, half there, or there though refused."""
        rows = {str(row["SOPInstanc"]): row for row in server.tables()["DICOMImages"]}
        wrong = [
            f"acknowledged {instance} is not in the index"
            for instance in self._promised.keys() - rows.keys()
        ]
        for instance, row in rows.items():
            allowed = self._promised.get(instance) or self._possible.get(instance)
            if allowed is None:
                wrong.append(f"{instance} was refused but is in the index")
            elif not any(_whole(server, row, one) for one in allowed):
                wrong.append(f"{instance} has no good file")
        known = {str(row["ObjectFile"]) for row in rows.values()}
        wrong += [f"file without row: {name}" for name in server.files() if name not in known]
        wrong += [f"left behind: {path}" for path in server.temporary_files()]
        return wrong


def _whole(server: Server, row: dict[str, str | None], one: TestObject) -> bool:
    path = server.path(str(row["ObjectFile"]))
    return path.is_file() and path.read_bytes().endswith(one.data())
