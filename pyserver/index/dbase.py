"""dBase III files, as Conquest's built-in driver keeps them: a file for each table in one folder.

The files know neither keys nor transactions. Keys are looked up in `dbf_index`; what a crash cuts
short the archive's own log tells again, and `sync` is what it waits for before it forgets. Text is
kept as it came. Blanks stand for what was never written, so an empty value is none.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pyserver.index.dbf import ALIVE, NAME_MAX, WIDTH_MAX, DbfError, DbfFile, Field, split
from pyserver.index.dbf_index import MemoryIndex, ScanIndex, TableIndex
from pyserver.index.dbf_query import Joined
from pyserver.index.driver import DatabaseRefused, Query, Row, Value
from pyserver.index.sql import chunks
from pyserver.index.tables import (
    FILE_COLUMNS,
    IMAGE,
    PATIENT,
    SERIES,
    STUDY,
    UIDMODS,
    UIDMODS_TYPES,
    Schema,
    Table,
)

PAGE_ROWS = 1000
# What Conquest makes of its columns of type int.
NUMBER_WIDTH = 10
LOCK_NAME = ".pyserver.lock"

Say = Callable[[str], None]


class DbaseTable:
    """One of the four tables: its file, and where its rows are."""

    def __init__(self, layout: Table, file: DbfFile, in_memory: bool) -> None:
        self.layout, self.file = layout, file
        places = file.places()
        self.columns = [places[dbf_name(column.name)] for column in layout.columns]
        self.key, self.link = self.columns[0], self.columns[-1]
        if layout.level == PATIENT:
            self.link = slice(0, 0)
        names = [dbf_name(name) for name in layout.written]
        at = {name: number for number, name in enumerate(names)}
        self._written = [(at.get(field.name.upper()), field) for field in file.fields]
        of_file = FILE_COLUMNS if layout.level == IMAGE else ()
        self.file_places = [places[dbf_name(name)] for name in of_file]
        self.index: TableIndex
        if in_memory:
            self.index = MemoryIndex(file, self.key, self.link)
        else:
            self.index = ScanIndex(file, self.key, self.link)

    def put(self, rows: Sequence[Row]) -> None:
        """Enter rows, or change those with their keys."""
        records = [self._encode(row) for row in rows]
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

    def _encode(self, row: Row) -> bytes:
        parts = [b" "]
        for source, field in self._written:
            value = None if source is None else row[source]
            if value is None:
                parts.append(b" " * field.width)
                continue
            data = as_bytes(value)[: field.width]
            parts.append(data.rjust(field.width) if field.kind == "N" else data.ljust(field.width))
        return b"".join(parts)


class DbaseDriver:
    """The files of a folder."""

    text_form: Literal["raw", "unicode"] = "raw"

    def __init__(
        self,
        schema: Schema,
        folder: Path,
        *,
        in_memory: bool = True,
        pack: bool = False,
        long_query_ms: int = 0,
        say: Say = lambda _text: None,
    ) -> None:
        self.schema, self.folder = schema, folder
        self.identity = f"dbase:{folder}"
        self.key_lengths: tuple[int, int, int, int] = (0, 0, 0, 0)
        self.tables: tuple[DbaseTable, ...] = ()
        self._in_memory, self._pack = in_memory, pack
        self._long_query_s = long_query_ms / 1000
        self._say = say
        self._lock = threading.Lock()
        self._claimed: int | None = None

    def prepare(self) -> bool:
        """Open the files, make what is missing of them and of their columns, pack and index them.

        Answers whether an existing file got a new column, so that its rows are to be written anew.
        """
        widened = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._claim()
            files = []
            for table in self.schema.tables:
                file, wider = self._open(table.name, table.types())
                widened |= wider
                files.append(file)
            for name, types in (
                (self.schema.worklist.name, self.schema.worklist.types()),
                (UIDMODS, UIDMODS_TYPES),
            ):
                self._open(name, types)[0].close()
            self.tables = tuple(
                DbaseTable(table, file, self._in_memory)
                for table, file in zip(self.schema.tables, files, strict=True)
            )
        except (OSError, DbfError) as error:
            self.close()
            raise _refused(error) from error
        patient, study, series, image = (t.key.stop - t.key.start for t in self.tables)
        self.key_lengths = (patient, study, series, image)
        return widened

    def apply(
        self, deletes: Sequence[tuple[int, Value]], rows: Sequence[Sequence[Row]]
    ) -> list[Value]:
        """See `Driver.apply`."""
        with self._lock:
            try:
                left: set[bytes] = set()
                for level in (PATIENT, STUDY, SERIES, IMAGE):
                    left |= self._delete(level, [as_bytes(k) for at, k in deletes if at == level])
                # From the image upwards, as Conquest does.
                for table, of_level in reversed(list(zip(self.tables, rows, strict=True))):
                    if of_level:
                        table.put(of_level)
                for table in self.tables:
                    table.file.write_header()
            except OSError as error:
                raise _refused(error) from error
        return list(left)

    def sync(self) -> None:
        """See `Driver.sync`."""
        for table in self.tables:
            table.file.sync()

    def find(self, query: Query) -> Iterator[list[Row]]:
        """See `Driver.find`."""
        begun, taken, found = time.monotonic(), 0.0, 0
        for page in self._pages(query):
            taken += time.monotonic() - begun
            found += len(page)
            if page:
                yield page
            begun = time.monotonic()
        taken += time.monotonic() - begun
        if 0 < self._long_query_s < taken:
            name = self.schema.tables[query.level].name
            self._say(f"dBase: a query of {name} took {taken * 1000:.0f} ms ({found} rows)")

    def counts(self) -> tuple[int, int, int, int]:
        """Rows per level."""
        with self._lock:
            patients, studies, series, images = (table.index.count() for table in self.tables)
        return patients, studies, series, images

    def dump(self, table: str) -> list[dict[str, str | None]]:
        """See `Driver.dump`."""
        layout = self.schema.table_named(table)
        if layout is None:
            raise DatabaseRefused(f"there is no table {table}")
        try:
            if layout.level <= IMAGE:
                with self._lock:
                    return _dump(layout, self.tables[layout.level].file)
            file = DbfFile(self._path(layout.name))
            try:
                return _dump(layout, file)
            finally:
                file.close()
        except (OSError, DbfError) as error:
            raise _refused(error) from error

    def close(self) -> None:
        """End the files."""
        with self._lock:
            tables, self.tables = self.tables, ()
            for table in tables:
                table.file.close()
            if self._claimed is not None:
                os.close(self._claimed)
                self._claimed = None

    def _claim(self) -> None:
        """Keep other servers out for as long as this process has the files open."""
        self._claimed = os.open(self.folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._claimed, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DbfError(f"{self.folder} is in use by another process") from error

    def _open(self, name: str, types: dict[str, str]) -> tuple[DbfFile, bool]:
        """A file with these columns, and whether it had to get some of them."""
        wanted = [Field(dbf_name(column), width_of(kind)) for column, kind in types.items()]
        path = self._path(name)
        if not path.exists():
            return DbfFile.create(path, wanted), False
        file = DbfFile(path)
        known = file.places()
        missing = [field for field in wanted if field.name not in known]
        if missing or (self._pack and any(_deleted(file))):
            file = file.rewritten([*file.fields, *missing])
        return file, bool(missing)

    def _path(self, name: str) -> Path:
        """Where a table is; other systems ignore the case of names."""
        wanted = f"{name}.DBF"
        for path in self.folder.iterdir():
            if path.name.casefold() == wanted.casefold():
                return path
        return self.folder / wanted

    def _delete(self, level: int, keys: Sequence[bytes]) -> set[bytes]:
        """Delete rows, all below and parents left empty; answers studies above that stay."""
        if not keys:
            return set()
        table = self.tables[level]
        numbers = sorted(table.index.records(keys).values())
        above = {record[table.link].rstrip(b" ") for record in table.read(numbers)}
        for below in range(IMAGE, level, -1):
            self.tables[below].delete(self._keys_below(level, keys, below))
        table.delete(keys)
        if level == PATIENT:
            return set()
        empty = {key for key in above if not table.index.below([key])}
        left = above - empty if level - 1 == STUDY else set()
        return left | self._delete(level - 1, sorted(empty))

    def _keys_below(self, level: int, keys: Iterable[bytes], wanted: int) -> list[bytes]:
        """Keys of all rows of a lower level below these."""
        found = list(keys)
        for at in range(level + 1, wanted + 1):
            table = self.tables[at]
            found = [table.key_of(record) for record in table.read(table.index.below(found))]
        return found

    def _pages(self, query: Query) -> Iterator[list[Row]]:
        with self._lock:
            narrowed = self._narrowed(query)
        if narrowed is not None and query.file and query.level == IMAGE and query.sort is None:
            # Images of one series together: what they share is encoded once.
            query = replace(query, sort=(SERIES, 0))
        numbers = range(self.tables[query.level].file.count) if narrowed is None else narrowed
        sort = query.sort
        if sort is None:
            for part in chunks(numbers, PAGE_ROWS):
                with self._lock:
                    page = [joined.row() for joined in self._joined(query, part)]
                yield page
            return
        own = (query.level, 0)
        with self._lock:
            ordered = [
                (joined.value(sort), joined.value(own), joined.row())
                for joined in self._joined(query, numbers)
            ]
        ordered.sort(key=lambda found: found[:2])
        yield from ([row for _, _, row in part] for part in chunks(ordered, PAGE_ROWS))

    def _narrowed(self, query: Query) -> list[int] | None:
        """Numbers of the rows that a query by keys can find; none when it has no such keys."""
        by_key = {
            level: values
            for (level, column), kind, values in query.conditions
            if kind == "any" and column == 0 and level <= query.level
        }
        if not by_key:
            return None
        level = max(by_key)
        keys = [value.encode() for value in by_key[level]]
        table = self.tables[query.level]
        if level == query.level:
            return sorted(table.index.records(keys).values())
        return table.index.below(self._keys_below(level, keys, query.level - 1))

    def _joined(self, query: Query, numbers: Sequence[int]) -> Iterator[Joined]:
        """The rows that fit: one object, which is each of them in turn."""
        joined = Joined(self.tables, query)
        for record in self.tables[query.level].read(numbers):
            if joined.take(record):
                yield joined


def dbf_name(name: str) -> str:
    """The name of a column in a file."""
    return name[:NAME_MAX].upper()


def width_of(kind: str) -> int:
    """The width of a column of some type of SQL."""
    _, bracket, width = kind.partition("(")
    return min(int(width.rstrip(") ")), WIDTH_MAX) if bracket else NUMBER_WIDTH


def as_bytes(value: Any) -> bytes:
    """A value as the files have it."""
    return value if isinstance(value, bytes) else str(value).encode()


def _deleted(file: DbfFile) -> Iterator[bool]:
    for _, block in file.blocks():
        yield any(record[0] != ALIVE for record in split(block, file.record_bytes))


def _dump(layout: Table, file: DbfFile) -> list[dict[str, str | None]]:
    places = file.places()
    columns = [(name, places[dbf_name(name)]) for name in layout.types()]
    rows: list[dict[str, str | None]] = []
    for _, block in file.blocks():
        for record in split(block, file.record_bytes):
            if record[0] == ALIVE:
                values = ((name, record[place].rstrip(b" ")) for name, place in columns)
                rows.append({name: value.decode("latin-1") or None for name, value in values})
    return rows


def _refused(error: Exception) -> DatabaseRefused:
    return DatabaseRefused(f"dBase: {error}")
