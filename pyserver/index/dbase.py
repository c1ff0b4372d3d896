"""dBase III files, as Conquest's built-in driver keeps them: a file for each table in one folder.

The files know neither keys nor transactions. Keys are looked up in `dbf_index`; what a crash cuts
short the archive's own log tells again, and `sync` is what it waits for before it forgets. Text is
kept as it came. Blanks stand for what was never written, so an empty value is none.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pyserver.index.dbf import ALIVE, WIDTH_MAX, DbfError, DbfFile, Field, split
from pyserver.index.dbf_query import Joined
from pyserver.index.dbf_table import DbaseTable, WorklistTable, as_bytes, dbf_name
from pyserver.index.driver import DatabaseRefused, Query, Row, Value
from pyserver.index.sql import chunks
from pyserver.index.tables import (
    IMAGE,
    PATIENT,
    SERIES,
    STUDY,
    UIDMODS,
    UIDMODS_TYPES,
    WORKLIST_LEVEL,
    Schema,
    Table,
)

PAGE_ROWS = 1000
# What Conquest makes of its columns of type int.
NUMBER_WIDTH = 10
LOCK_NAME = ".pyserver.lock"

Say = Callable[[str], None]


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
        if query.level == WORKLIST_LEVEL:
            with self._lock, self._worklist() as table:
                page = list(table.narrowed(query))
            if page:
                yield page
            return
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

    def change_worklist(
        self, removed: Sequence[Sequence[tuple[int, Value]]], rows: Sequence[Row]
    ) -> int:
        """See `Driver.change_worklist`."""
        with self._lock, self._worklist() as table:
            return table.change(removed, rows)

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

    @contextlib.contextmanager
    def _worklist(self) -> Iterator[WorklistTable]:
        """The worklist, opened for one use: other programs may fill it."""
        try:
            file = DbfFile(self._path(self.schema.worklist.name))
            try:
                yield WorklistTable(self.schema.worklist, file)
            finally:
                file.close()
        except (OSError, DbfError) as error:
            raise _refused(error) from error

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


def width_of(kind: str) -> int:
    """The width of a column of some type of SQL."""
    _, bracket, width = kind.partition("(")
    return min(int(width.rstrip(") ")), WIDTH_MAX) if bracket else NUMBER_WIDTH


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
