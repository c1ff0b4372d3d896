"""SQLite. Text is kept as it came, as Conquest keeps it (`UTF8ToDB = 0`).

The log of the database is written ahead and synced now and then (`WAL`, `synchronous=NORMAL`):
what a power cut may take of it is done again from the archive's own log. `SQLiteStartup` replaces
these settings.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyserver.index import dialect
from pyserver.index.sql import SqlDriver, upsert
from pyserver.index.tables import Schema, Table

STARTUP = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"
# Another program may hold the database for a moment.
BUSY_S = 30.0


def _decoded(value: bytes) -> str:
    """Text of a database that holds UTF-8, or did not always."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _name(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class SqliteDriver(SqlDriver):
    """A database in a file."""

    dialect = dialect.SQLITE
    errors = (sqlite3.Error,)
    begin = "BEGIN IMMEDIATE"

    def __init__(self, schema: Schema, path: Path, startup: str = "", utf8: bool = False) -> None:
        self.path = path
        self.log = path.with_name(path.name + "-wal")
        self.identity = f"sqlite:{path}"
        self._startup = startup or STARTUP
        self._text: Callable[[bytes], str | bytes] = _decoded if utf8 else bytes
        self.text_form = "unicode" if utf8 else "raw"
        super().__init__(schema)

    def _key_lengths(self) -> tuple[int, int, int, int]:
        return 0, 0, 0, 0

    def connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.path, timeout=BUSY_S, check_same_thread=False, isolation_level=None
        )
        connection.text_factory = self._text
        connection.executescript(self._startup)
        return connection

    def is_away(self, error: Exception) -> bool:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN)

    def columns_of(self, connection: Any, table: str) -> list[str]:
        rows = connection.execute(f"PRAGMA table_info({table})").fetchall()
        return [_name(row[1]) for row in rows]

    def has_unique_key(self, connection: Any, table: Table) -> bool:
        for row in connection.execute(f"PRAGMA index_list({table.name})").fetchall():
            name, unique = _name(row[1]), row[2]
            columns = connection.execute(f"PRAGMA index_info('{name}')").fetchall()
            if unique and [_name(c[2]).casefold() for c in columns] == [table.key.casefold()]:
                return True
        return False

    def indexes_of(self, connection: Any, table: str) -> set[str]:
        rows = connection.execute(f"PRAGMA index_list({table})").fetchall()
        return {_name(row[1]).casefold() for row in rows}

    def put_statement(self, table: Table) -> str:
        conflict = f"ON CONFLICT({table.key}) DO UPDATE SET"
        return upsert(
            table, self.insert_statement(table), conflict, lambda name: f"excluded.{name}"
        )
