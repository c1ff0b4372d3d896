"""Files of dBase III as Conquest writes them: a header, then records of one length.

    header   32 bytes: 03, date of the last change (YY MM DD), records, length of the header,
             length of a record, at byte 16 the number of changes
    fields   32 bytes each: name (10 characters, upper case), type, at byte 16 the width; 0D ends
    records  a mark (blank, or * for deleted), then the fields, filled up with blanks
    end      1A behind the last record, when the file was closed

All fields that Conquest makes are text (type C). There is no NULL: blanks are what was never
written. Records stay where they are until `pack`; a record number is good until then.
"""

import datetime
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = 0x03
DELETED = ord("*")
ALIVE = ord(" ")
END = b"\x1a"
NAME_MAX = 10
WIDTH_MAX = 255
# One byte of the header's length field is the sign in some readers.
FIELDS_MAX = 1000
# Records read at once where all are wanted.
BLOCK_BYTES = 1 << 20

_HEADER = struct.Struct("<4BIHH")
_CHANGES_AT = 16


class DbfError(Exception):
    """A file is not what it should be."""


@dataclass(frozen=True, slots=True)
class Field:
    """One column."""

    name: str
    width: int
    kind: str = "C"


class DbfFile:
    """One table. A file that a crash has left with records beyond the header's count loses them,
    as in any program that reads it: what wrote them does so again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = os.open(path, os.O_RDWR)
        try:
            self._read_header()
        except BaseException:
            os.close(self._handle)
            raise

    @classmethod
    def create(cls, path: Path, fields: Sequence[Field]) -> "DbfFile":
        """Make an empty file; one that is there is replaced at once or not at all."""
        names = [field.name.upper() for field in fields]
        if len(set(names)) != len(names):
            double = sorted({name for name in names if names.count(name) > 1})
            raise DbfError(f"{path.name}: two columns are called {', '.join(double)}")
        wide = [f.name for f in fields if len(f.name) > NAME_MAX or not 0 < f.width <= WIDTH_MAX]
        if wide or len(fields) > FIELDS_MAX:
            raise DbfError(f"{path.name}: dBase has no such columns: {', '.join(wide)}")
        temporary = path.with_name(f".{path.name}.new")
        head = bytearray(32)
        size = 1 + sum(field.width for field in fields)
        _HEADER.pack_into(head, 0, MARK, *_today(), 0, 32 * (len(fields) + 1) + 1, size)
        for field in fields:
            entry = bytearray(32)
            name = field.name.upper().encode("latin-1", "replace")
            entry[: len(name)] = name
            entry[11] = ord(field.kind)
            entry[16] = field.width
            head += entry
        temporary.write_bytes(head + b"\r" + END)
        _replace(temporary, path)
        return cls(path)

    def _read_header(self) -> None:
        head = os.pread(self._handle, 32, 0)
        if len(head) < 32 or head[0] & 0x07 != MARK:
            raise DbfError(f"{self.path.name} is no file of dBase III")
        _, _, _, _, told, length, self.record_bytes = _HEADER.unpack_from(head)
        self.changes = int.from_bytes(head[_CHANGES_AT : _CHANGES_AT + 4], "little")
        self._start = length
        entries = os.pread(self._handle, length - 32, 32)
        fields = []
        for at in range(0, len(entries) - 31, 32):
            entry = entries[at : at + 32]
            if entry[0] == ord("\r"):
                break
            name = entry[:11].partition(b"\0")[0].decode("latin-1").strip()
            fields.append(Field(name, entry[16], chr(entry[11])))
        self.fields = tuple(fields)
        if 1 + sum(field.width for field in fields) != self.record_bytes:
            raise DbfError(f"{self.path.name}: widths of columns and records do not agree")
        present = (os.fstat(self._handle).st_size - self._start) // self.record_bytes
        self.count: int = min(told, max(0, present))

    def places(self) -> dict[str, slice]:
        """Where in a record each column is, by its name in upper case."""
        places, at = {}, 1
        for field in self.fields:
            places[field.name.upper()] = slice(at, at + field.width)
            at += field.width
        return places

    def read(self, number: int, count: int = 1) -> bytes:
        """Records one after the other."""
        at = self._start + number * self.record_bytes
        data: bytes = os.pread(self._handle, count * self.record_bytes, at)
        return data

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """All records there are now, many at once, each time with the number of the first."""
        at_once = max(1, BLOCK_BYTES // self.record_bytes)
        end = self.count
        for first in range(0, end, at_once):
            yield first, self.read(first, min(at_once, end - first))

    def append(self, records: Sequence[bytes]) -> int:
        """Add records; the number of the first. `write_header` makes them count."""
        first = self.count
        self._write(first, b"".join(records))
        self.count += len(records)
        self.changes += len(records)
        return first

    def overwrite(self, number: int, record: bytes) -> None:
        """Change one record."""
        self._write(number, record)
        self.changes += 1

    def delete(self, number: int) -> None:
        """Mark one record."""
        os.pwrite(self._handle, b"*", self._start + number * self.record_bytes)
        self.changes += 1

    def write_header(self) -> None:
        """Have the file say what is in it."""
        head = bytearray(os.pread(self._handle, 32, 0))
        told = (self.count, self._start, self.record_bytes)
        _HEADER.pack_into(head, 0, head[0], *_today(), *told)
        changes = (self.changes & 0xFFFFFFFF).to_bytes(4, "little")
        head[_CHANGES_AT : _CHANGES_AT + 4] = changes
        os.pwrite(self._handle, head, 0)

    def sync(self) -> None:
        """Make what was written survive a power cut."""
        os.fdatasync(self._handle)

    def close(self) -> None:
        """End the file as programs expect it."""
        end = self._start + self.count * self.record_bytes
        os.pwrite(self._handle, END, end)
        os.ftruncate(self._handle, end + 1)
        os.close(self._handle)

    def rewritten(self, fields: Sequence[Field] | None = None) -> "DbfFile":
        """The same file without its deleted records, with other columns if these are given; this
        object is closed."""
        fields = self.fields if fields is None else tuple(fields)
        places = self.places()
        kept = [places.get(field.name.upper(), slice(0, 0)) for field in fields]
        temporary = self.path.with_name(f".{self.path.name}.packed")
        made = DbfFile.create(temporary, fields)
        for _, block in self.blocks():
            records = []
            for record in split(block, self.record_bytes):
                if record[0] == ALIVE:
                    cells = zip(kept, fields, strict=True)
                    values = [record[place].ljust(field.width) for place, field in cells]
                    records.append(b" " + b"".join(values))
            made.append(records)
        made.changes = self.changes + 1
        made.write_header()
        made.close()
        os.close(self._handle)
        _replace(temporary, self.path)
        return DbfFile(self.path)

    def _write(self, number: int, data: bytes) -> None:
        at = self._start + number * self.record_bytes
        while data:
            written = os.pwrite(self._handle, data, at)
            at += written
            data = data[written:]


def _replace(temporary: Path, path: Path) -> None:
    """Give a file its name, whole whatever happens."""
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def split(block: bytes, size: int) -> Iterator[bytes]:
    """The records of a block."""
    for at in range(0, len(block) - size + 1, size):
        yield block[at : at + size]


def _today() -> tuple[int, int, int]:
    today = datetime.date.today()
    return today.year % 100, today.month, today.day
