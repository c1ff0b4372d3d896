"""PostgreSQL, through psycopg 3. Text is kept decoded; the database must exist.

All rows of a level go in one statement, as arrays, whatever their number.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg.adapt import Loader

from pyserver.config.database import DatabaseSettings
from pyserver.index import dialect
from pyserver.index.driver import Row
from pyserver.index.sql import PAGE_ROWS, SqlDriver, upsert
from pyserver.index.tables import Schema, Table

DATABASE = "conquest"
CONNECT_S = 5
# Of the server, not of a statement: shut down, crashed, not up yet, too many connections; and
# transactions that another one kept from ending (appendix A of PostgreSQL's manual).
AWAY_STATES = ("57P01", "57P02", "57P03", "53300", "40001", "40P01")
# A connection that fails has no state: a server that answers says FATAL, and these words when it
# may let us in later.
ANSWERED = "FATAL"
NOT_NOW = ("starting up", "shutting down", "recovery", "too many", "connection slots")


class _TextOfAnySet(Loader):
    """Text of a database without an encoding: UTF-8 as we write it, or what others wrote."""

    def load(self, data: Any) -> str:
        raw = bytes(data)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw.decode("latin-1")


class PostgresDriver(SqlDriver):
    """A database of a PostgreSQL server."""

    dialect = dialect.POSTGRES
    errors = (psycopg.Error,)

    def __init__(self, schema: Schema, settings: DatabaseSettings) -> None:
        self._parameters: dict[str, Any] = {
            "host": settings.host,
            "dbname": settings.name or DATABASE,
            "connect_timeout": CONNECT_S,
            "application_name": "pyserver",
            "client_encoding": "UTF8",
        }
        given = {"port": settings.port, "user": settings.user, "password": settings.password}
        self._parameters |= {name: value for name, value in given.items() if value}
        where = f"{settings.host}:{settings.port or 5432}"
        self.identity = f"postgres:{where}/{self._parameters['dbname']}"
        super().__init__(schema)

    def connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(**self._parameters)
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            for kind in ("text", "varchar", "bpchar"):
                connection.adapters.register_loader(kind, _TextOfAnySet)
        return connection

    def is_away(self, error: Exception) -> bool:
        if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
            return False
        state, text = error.sqlstate, str(error)
        if state is None:
            return ANSWERED not in text or any(words in text for words in NOT_NOW)
        return state.startswith("08") or state in AWAY_STATES

    def pages(self, connection: Any, text: str, parameters: Sequence[Any]) -> Iterator[list[Row]]:
        with connection.cursor() as cursor:
            rows = cursor.stream(text, parameters)
            while page := list(itertools.islice(rows, PAGE_ROWS)):
                yield page

    def columns_of(self, connection: Any, table: str) -> list[str]:
        rows = connection.execute(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND table_name = lower(%s)",
            (table,),
        )
        return [name for (name,) in rows]

    def has_unique_key(self, connection: Any, table: Table) -> bool:
        rows = connection.execute(
            "SELECT 1 FROM pg_index i JOIN pg_attribute a "
            "ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
            "WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indnatts = 1 "
            "AND a.attname = lower(%s)",
            (table.name.lower(), table.key),
        )
        return rows.fetchone() is not None

    def indexes_of(self, connection: Any, table: str) -> set[str]:
        rows = connection.execute(
            "SELECT indexname FROM pg_indexes "
            "WHERE schemaname = current_schema() AND tablename = lower(%s)",
            (table,),
        )
        return {name for (name,) in rows}

    def put_statement(self, table: Table) -> str:
        kinds = ("%s::int[]" if name == "AccessTime" else "%s::text[]" for name in table.written)
        insert = (
            f"INSERT INTO {table.name} ({', '.join(table.written)}) "
            f"SELECT * FROM unnest({', '.join(kinds)})"
        )
        conflict = f"ON CONFLICT ({table.key}) DO UPDATE SET"
        return upsert(table, insert, conflict, lambda name: f"excluded.{name}")

    def put_rows(self, cursor: Any, table: Table, rows: Sequence[Row]) -> None:
        # PostgreSQL takes no NUL in text.
        columns = [
            [v.replace("\0", "") if isinstance(v, str) and "\0" in v else v for v in column]
            for column in zip(*rows, strict=True)
        ]
        cursor.execute(self.put_statement(table), columns)
