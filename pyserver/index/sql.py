"""What all SQL databases share: tables made, rows put, deletes, queries.

A subclass opens connections, says which of its errors mean that the server is away, and may put
rows in a way of its own. One connection belongs to the committer; queries borrow theirs.
"""

import contextlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pyserver.index.dialect import Dialect
from pyserver.index.driver import DatabaseAway, DatabaseRefused, Query, Row, Value
from pyserver.index.select import build_select
from pyserver.index.tables import IMAGE, PATIENT, SERIES, STUDY, UIDMODS_TYPES, Schema, Table

PAGE_ROWS = 1000
# Keys in one statement; SQLite took 999 parameters at most before 3.32.
KEYS_MAX = 500
# Idle connections that are kept for queries.
IDLE_MAX = 8

T = TypeVar("T")


def chunks(values: Sequence[T], size: int = KEYS_MAX) -> Iterator[Sequence[T]]:
    """Parts of a sequence."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


class SqlDriver(ABC):
    """A database that is spoken to in SQL."""

    text_form: Literal["raw", "unicode"] = "unicode"
    dialect: Dialect
    identity: str
    errors: tuple[type[Exception], ...]
    """What the driver's module raises."""
    begin = ""
    """Statement that begins a transaction, where the module does not by itself."""
    log: Path | None = None
    """A file that commits are written to without a sync."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._writer: Any = None
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._replace: set[str] = set()
        self._prepared = False
        self._preparing = threading.Lock()
        self.key_lengths = self._key_lengths()

    @abstractmethod
    def connect(self) -> Any:
        """A new connection without a transaction under way."""

    @abstractmethod
    def is_away(self, error: Exception) -> bool:
        """Whether an error means that the connection or the server is gone."""

    @abstractmethod
    def columns_of(self, connection: Any, table: str) -> list[str]:
        """Names of the columns of a table; none when it does not exist."""

    @abstractmethod
    def has_unique_key(self, connection: Any, table: Table) -> bool:
        """Whether the key of a table is unique there."""

    @abstractmethod
    def indexes_of(self, connection: Any, table: str) -> set[str]:
        """Names of the indexes of a table, in lower case."""

    @abstractmethod
    def put_statement(self, table: Table) -> str:
        """Statement that enters one row, or changes the one with its key."""

    def _key_lengths(self) -> tuple[int, int, int, int]:
        patient, study, series, image = (t.columns[0].length for t in self.schema.tables)
        return patient, study, series, image

    def prepare(self) -> bool:
        """Connect, make what is missing of tables, columns and indexes.

        Answers whether an existing table got a new column, so that its rows are to be written anew.
        A database that is away now is prepared when it first answers.
        """
        with self._guarded():
            connection = self.connect()
            try:
                widened = self._make_all(connection)
                connection.commit()
            except self.errors:
                with contextlib.suppress(*self.errors):
                    connection.close()
                raise
            self._writer = connection
            self._prepared = True
        return widened

    def _make_all(self, connection: Any) -> bool:
        widened = False
        for table in (*self.schema.tables, self.schema.worklist):
            widened |= self._make(connection, table.name, table.types(), table.key)
        self._make(connection, "UIDMODS", UIDMODS_TYPES, None)
        self._make_indexes(connection)
        for table in self.schema.tables:
            if not self.has_unique_key(connection, table):
                self._replace.add(table.name)
        return widened

    def _prepare_once(self) -> None:
        with self._preparing:
            if not self._prepared:
                self.prepare()

    def apply(
        self, deletes: Sequence[tuple[int, Value]], rows: Sequence[Sequence[Row]]
    ) -> list[Value]:
        """See `Driver.apply`; a connection that broke is made anew once."""
        try:
            return self._apply(deletes, rows)
        except DatabaseAway:
            return self._apply(deletes, rows)

    def sync(self) -> None:
        """See `Driver.sync`; a server's commits are durable unless its administrator thinks not."""
        if self.log is None:
            return
        try:
            handle = os.open(self.log, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            os.fdatasync(handle)
        finally:
            os.close(handle)

    def find(self, query: Query) -> Iterator[list[Row]]:
        """See `Driver.find`."""
        text, parameters = build_select(self.schema, self.dialect, query)
        with self.reading() as connection, self._guarded():
            yield from self.pages(connection, text, parameters)

    def pages(self, connection: Any, text: str, parameters: Sequence[Any]) -> Iterator[list[Row]]:
        """Rows of a statement, a page at a time."""
        cursor = connection.cursor()
        try:
            cursor.execute(text, parameters)
            while page := cursor.fetchmany(PAGE_ROWS):
                yield [tuple(row) for row in page]
        finally:
            cursor.close()

    def change_worklist(
        self, removed: Sequence[Sequence[tuple[int, Value]]], rows: Sequence[Row]
    ) -> int:
        """See `Driver.change_worklist`."""
        table = self.schema.worklist
        gone = 0
        with self.reading() as connection, self._guarded():
            cursor = connection.cursor()
            if self.begin:
                cursor.execute(self.begin)
            for key in removed:
                parts = [self._one_of(table.columns[at].name, [value]) for at, value in key]
                where = f" WHERE {' AND '.join(text for text, _ in parts)}" if parts else ""
                values = [value for _, several in parts for value in several]
                cursor.execute(f"DELETE FROM {table.name}{where}", values)
                gone += max(cursor.rowcount, 0)
            if rows:
                cursor.executemany(self.insert_statement(table), rows)
            connection.commit()
            cursor.close()
        return gone

    def counts(self) -> tuple[int, int, int, int]:
        """Rows per level."""
        texts = (f"(SELECT COUNT(*) FROM {table.name})" for table in self.schema.tables)
        with self.reading() as connection, self._guarded():
            cursor = connection.cursor()
            cursor.execute(f"SELECT {', '.join(texts)}")
            patients, studies, series, images = cursor.fetchone()
            cursor.close()
        return int(patients), int(studies), int(series), int(images)

    def dump(self, table: str) -> list[dict[str, str | None]]:
        """All rows of a table, see `Driver.dump`."""
        known = self.schema.table_named(table)
        if known is None:
            raise DatabaseRefused(f"there is no table {table}")
        names = list(known.types())
        text = f"SELECT {', '.join(names)} FROM {known.name}"
        with self.reading() as connection, self._guarded():
            rows = [row for page in self.pages(connection, text, ()) for row in page]
        return [
            {name: as_text(value) for name, value in zip(names, row, strict=True)} for row in rows
        ]

    def close(self) -> None:
        """Let connections go."""
        with self._lock:
            connections, self._idle = [*self._idle, self._writer], []
        for connection in connections:
            if connection is not None:
                with contextlib.suppress(*self.errors):
                    connection.close()
        self._writer = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        """A connection for one query; one that failed is not kept."""
        self._prepare_once()
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            with self._guarded():
                connection = self.connect()
        keep = False
        try:
            yield connection
            keep = True
        except GeneratorExit:
            keep = True
            raise
        finally:
            self._give_back(connection, keep)

    def _give_back(self, connection: Any, keep: bool) -> None:
        try:
            if keep:
                connection.rollback()
        except self.errors:
            keep = False
        with self._lock:
            keep = keep and len(self._idle) < IDLE_MAX
            if keep:
                self._idle.append(connection)
        if not keep:
            with contextlib.suppress(*self.errors):
                connection.close()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turns the module's errors into ours."""
        try:
            yield
        except self.errors as error:
            text = f"{self.dialect.name}: {' '.join(str(error).split())}"
            if self.is_away(error):
                self.forget_idle()
                raise DatabaseAway(text) from error
            raise DatabaseRefused(text) from error

    def forget_idle(self) -> None:
        """Drop idle connections: the server has gone, and they with it."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(*self.errors):
                connection.close()

    def _apply(
        self, deletes: Sequence[tuple[int, Value]], rows: Sequence[Sequence[Row]]
    ) -> list[Value]:
        self._prepare_once()
        with self._guarded():
            if self._writer is None:
                self._writer = self.connect()
            connection = self._writer
            try:
                cursor = connection.cursor()
                if self.begin:
                    cursor.execute(self.begin)
                left = self._delete_all(cursor, deletes)
                # From the image upwards, as Conquest does.
                for table, of_level in reversed(list(zip(self.schema.tables, rows, strict=True))):
                    if of_level:
                        self._put(cursor, table, of_level)
                connection.commit()
                cursor.close()
            except self.errors as error:
                if self.is_away(error):
                    self._writer = None
                    with contextlib.suppress(*self.errors):
                        connection.close()
                else:
                    connection.rollback()
                raise
        return left

    def _put(self, cursor: Any, table: Table, rows: Sequence[Row]) -> None:
        if table.name in self._replace:
            for part in chunks(rows):
                self._delete_keys(cursor, table.name, table.key, [row[0] for row in part])
            cursor.executemany(self.insert_statement(table), rows)
        else:
            self.put_rows(cursor, table, rows)

    def put_rows(self, cursor: Any, table: Table, rows: Sequence[Row]) -> None:
        """Enter or change rows."""
        cursor.executemany(self.put_statement(table), rows)

    def insert_statement(self, table: Table) -> str:
        """Statement that enters one row."""
        number, text = self.dialect.placeholder, self.dialect.text_parameter
        marks = (number if name == "AccessTime" else text for name in table.written)
        return f"INSERT INTO {table.name} ({', '.join(table.written)}) VALUES ({', '.join(marks)})"

    def _delete_all(self, cursor: Any, deletes: Sequence[tuple[int, Value]]) -> list[Value]:
        left: list[Value] = []
        for level in (PATIENT, STUDY, SERIES, IMAGE):
            keys = [key for at, key in deletes if at == level]
            for part in chunks(keys):
                left += self._delete(cursor, level, part)
        return left

    def _delete(self, cursor: Any, level: int, keys: Sequence[Value]) -> list[Value]:
        """Delete rows, all below and parents left empty; answers studies above that stay."""
        table = self.schema.tables[level]
        above = [] if level == PATIENT else self._links(cursor, table, keys)
        self._delete_below(cursor, level, keys)
        self._delete_keys(cursor, table.name, table.key, keys)
        left: list[Value] = []
        if above:
            parent = self.schema.tables[level - 1]
            filled = set(self._filled(cursor, table, above))
            empty = [key for key in above if key not in filled]
            if parent.level == STUDY:
                left += [key for key in above if key in filled]
            if empty:
                left += self._delete(cursor, level - 1, empty)
        return left

    def _delete_below(self, cursor: Any, level: int, keys: Sequence[Value]) -> None:
        if level == IMAGE:
            return
        below = self.schema.tables[level + 1]
        kids = self._select(cursor, below.key, below.name, below.link, keys)
        for part in chunks(kids):
            self._delete_below(cursor, level + 1, part)
            self._delete_keys(cursor, below.name, below.key, part)

    def _links(self, cursor: Any, table: Table, keys: Sequence[Value]) -> list[Value]:
        found = self._select(cursor, f"DISTINCT {table.link}", table.name, table.key, keys)
        return [key for key in found if key is not None]

    def _filled(self, cursor: Any, table: Table, parents: Sequence[Value]) -> list[Value]:
        """Those of the parents that have rows below."""
        found: list[Value] = []
        for part in chunks(parents):
            wanted = f"DISTINCT {table.link}"
            found += self._select(cursor, wanted, table.name, table.link, part)
        return found

    def _select(
        self, cursor: Any, what: str, table: str, column: str, keys: Sequence[Value]
    ) -> list[Value]:
        where, parameters = self._one_of(column, keys)
        cursor.execute(f"SELECT {what} FROM {table} WHERE {where}", parameters)
        return [row[0] for row in cursor.fetchall()]

    def _delete_keys(self, cursor: Any, table: str, column: str, keys: Sequence[Value]) -> None:
        where, parameters = self._one_of(column, keys)
        cursor.execute(f"DELETE FROM {table} WHERE {where}", parameters)

    def _one_of(self, column: str, keys: Sequence[Value]) -> tuple[str, list[Value]]:
        marks = ", ".join([self.dialect.text_parameter] * len(keys))
        times = self.dialect.exact.count("{1}")
        return self.dialect.exact.format(column, marks), [*keys] * times

    def _make(self, connection: Any, table: str, types: dict[str, str], key: str | None) -> bool:
        """Make a table, or the columns it lacks; answers whether one was added."""
        known = {name.casefold() for name in self.columns_of(connection, table)}
        missing = {name: kind for name, kind in types.items() if name.casefold() not in known}
        cursor = connection.cursor()
        if not known:
            unique = " PRIMARY KEY not null"
            keyed = key if table in {t.name for t in self.schema.tables} else None
            columns = ", ".join(
                f"{name}  {kind}{unique if name == keyed else ''}" for name, kind in types.items()
            )
            cursor.execute(f"CREATE TABLE {table} ({columns}){self.dialect.table_options}")
        else:
            for name, kind in missing.items():
                cursor.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
        cursor.close()
        return bool(known and missing)

    def _make_indexes(self, connection: Any) -> None:
        cursor = connection.cursor()
        known: dict[str, set[str]] = {}
        for name, table, columns in self.schema.indexes():
            if table not in known:
                known[table] = self.indexes_of(connection, table)
            if name.casefold() not in known[table]:
                cursor.execute(f"CREATE INDEX {name} ON {table} ({', '.join(columns)})")
        cursor.close()


def as_text(value: Any) -> str | None:
    """A value as the tables are printed."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value)


def upsert(table: Table, insert: str, conflict: str, new: Callable[[str], str]) -> str:
    """An INSERT that changes the row with the same key; `new` names a value of the new row."""
    changed = (f"{name} = {new(name)}" for name in table.written[1:])
    return f"{insert} {conflict} {', '.join(changed)}"
