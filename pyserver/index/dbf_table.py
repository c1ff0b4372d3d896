"""Tables of dBase files: records by their keys, and the worklist, which has none."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pyserver.index.dbf import ALIVE, NAME_MAX, DbfFile, split
from pyserver.index.dbf_index import MemoryIndex, ScanIndex, TableIndex
from pyserver.index.dbf_query import fitting
from pyserver.index.driver import Query, Row, Value
from pyserver.index.tables import FILE_COLUMNS, IMAGE, PATIENT, Table


class DbaseRecords:
    """The file of a table, and where its columns are."""

    def __init__(self, layout: Table, file: DbfFile) -> None:
        self.layout, self.file = layout, file
        places = file.places()
        self.columns = [places[dbf_name(column.name)] for column in layout.columns]
        names = [dbf_name(name) for name in layout.written]
        at = {name: number for number, name in enumerate(names)}
        self._written = [(at.get(field.name.upper()), field) for field in file.fields]
        of_file = FILE_COLUMNS if layout.level == IMAGE else ()
        self.file_places = [places[dbf_name(name)] for name in of_file]

    def read(self, numbers: Sequence[int]) -> Iterator[bytes]:
        """Records that are alive, those that are side by side with one read."""
        start = 0
        for at in range(1, len(numbers) + 1):
            if at < len(numbers) and numbers[at] == numbers[at - 1] + 1:
                continue
            block = self.file.read(numbers[start], at - start)
            for record in split(block, self.file.record_bytes):
                if record[0] == ALIVE:
                    yield record
            start = at

    def encode(self, row: Row) -> bytes:
        """A row as a record."""
        parts = [b" "]
        for source, field in self._written:
            value = None if source is None else row[source]
            if value is None:
                parts.append(b" " * field.width)
                continue
            data = as_bytes(value)[: field.width]
            parts.append(data.rjust(field.width) if field.kind == "N" else data.ljust(field.width))
        return b"".join(parts)


class DbaseTable(DbaseRecords):
    """One of the four tables, and where its rows are."""

    def __init__(self, layout: Table, file: DbfFile, in_memory: bool) -> None:
        super().__init__(layout, file)
        self.key, self.link = self.columns[0], self.columns[-1]
        if layout.level == PATIENT:
            self.link = slice(0, 0)
        self.index: TableIndex
        if in_memory:
            self.index = MemoryIndex(file, self.key, self.link)
        else:
            self.index = ScanIndex(file, self.key, self.link)

    def put(self, rows: Sequence[Row]) -> None:
        """Enter rows, or change those with their keys."""
        records = [self.encode(row) for row in rows]
        known = self.index.records(self.key_of(record) for record in records)
        fresh: dict[bytes, bytes] = {}
        for record in records:
            key = self.key_of(record)
            if key in known:
                self._change(known[key], key, record)
            else:
                fresh[key] = record
        first = self.file.append(list(fresh.values()))
        for number, (key, record) in enumerate(fresh.items(), first):
            self.index.put(number, key, record[self.link].rstrip(b" "))

    def delete(self, keys: Iterable[bytes]) -> None:
        """Mark the rows with these keys."""
        for key, number in self.index.records(keys).items():
            record = self.file.read(number)
            self.file.delete(number)
            self.index.drop(number, key, record[self.link].rstrip(b" "))

    def key_of(self, record: bytes) -> bytes:
        """The key of a record."""
        return record[self.key].rstrip(b" ")

    def record(self, key: bytes) -> bytes | None:
        """The record with a key."""
        number = self.index.records([key]).get(key)
        return None if number is None else self.file.read(number)

    def _change(self, number: int, key: bytes, record: bytes) -> None:
        """Overwrite a row; columns that are not ours stay."""
        old = self.file.read(number)
        new = bytearray(record)
        at = 1
        for source, field in self._written:
            if source is None:
                new[at : at + field.width] = old[at : at + field.width]
            at += field.width
        was, now = old[self.link].rstrip(b" "), record[self.link].rstrip(b" ")
        self.file.overwrite(number, bytes(new))
        if was != now:
            self.index.drop(number, key, was)
            self.index.put(number, key, now)


class WorklistTable(DbaseRecords):
    """The worklist, which has no keys: all of it is read for each query."""

    def narrowed(self, query: Query) -> Iterator[Row]:
        """The columns that the query wants, of the rows that fit."""
        fits = [(self.columns[at], fitting(kind, v)) for (_, at), kind, v in query.conditions]
        wanted = [self.columns[at] for _, at in query.columns]
        for record in self.read(range(self.file.count)):
            if all(test(record[place].rstrip(b" ")) for place, test in fits):
                yield tuple(record[place].rstrip(b" ") or None for place in wanted)

    def change(self, removed: Sequence[Sequence[tuple[int, Value]]], rows: Sequence[Row]) -> int:
        """Mark the rows with one of these keys, add others; how many went."""
        keys = [[(self.columns[at], as_bytes(value)) for at, value in key] for key in removed]
        gone = []
        for first, block in self.file.blocks() if keys else ():
            for number, record in enumerate(split(block, self.file.record_bytes), first):
                if record[0] == ALIVE and any(_has(record, key) for key in keys):
                    gone.append(number)
        for number in gone:
            self.file.delete(number)
        self.file.append([self.encode(row) for row in rows])
        self.file.write_header()
        self.file.sync()
        return len(gone)


def dbf_name(name: str) -> str:
    """The name of a column in a file."""
    return name[:NAME_MAX].upper()


def as_bytes(value: Any) -> bytes:
    """A value as the files have it."""
    return value if isinstance(value, bytes) else str(value).encode()


def _has(record: bytes, key: Sequence[tuple[slice, bytes]]) -> bool:
    return all(record[place].rstrip(b" ") == value for place, value in key)
