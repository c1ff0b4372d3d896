"""Any database that has an ODBC driver, through pyodbc. Text is kept decoded.

`SQLServer` names the data source; text with `=` in it is a whole connection string. No statement
here is of one database only: what is known is looked up first, then changed or entered. Where the
database is known to take several rows in one statement, it gets them so.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyodbc

from pyserver.config.database import DatabaseSettings
from pyserver.index import dialect
from pyserver.index.driver import Query, Row, Value
from pyserver.index.select import SOP_CLASS_UID, build_select
from pyserver.index.sql import SqlDriver, chunks
from pyserver.index.tables import IMAGE, SERIES, STUDY, Schema, Table

CONNECT_S = 5
# Of the connection, its time limits, or transactions that another one kept from ending.
AWAY_STATES = ("08", "HYT", "40001", "40P01", "57P")
# Some drivers have one state for all: words for a file that others hold, and for a server that has
# gone (SQLite, PostgreSQL, MySQL).
AWAY_WORDS = (
    *("database is locked", "database table is locked", "connection has been lost"),
    *("closed the connection", "gone away", "Lost connection"),
)
# A server that answers in these words will not let us in later either.
REFUSED_WORDS = ("does not exist", "authentication failed", "Access denied", "Login failed")
# These take INSERT with many rows, of no more than so many parameters together.
MANY_ROWS = ("SQLite", "PostgreSQL", "MySQL", "MariaDB", "Microsoft SQL Server")
PARAMETERS_MAX = 2000


class OdbcDriver(SqlDriver):
    """The database of an ODBC data source."""

    dialect = dialect.ODBC
    errors = (pyodbc.Error,)

    def __init__(self, schema: Schema, settings: DatabaseSettings) -> None:
        source = settings.name
        self._source = source if "=" in source else f"DSN={_quoted(source)}"
        if settings.user:
            self._source += f";UID={_quoted(settings.user)}"
        if settings.password:
            self._source += f";PWD={_quoted(settings.password)}"
        self.identity = f"odbc:{source}"
        self._many_rows = False
        super().__init__(schema)

    def connect(self) -> pyodbc.Connection:
        connection = pyodbc.connect(self._source, timeout=CONNECT_S)
        self._many_rows = connection.getinfo(pyodbc.SQL_DBMS_NAME) in MANY_ROWS
        return connection

    def is_away(self, error: Exception) -> bool:
        state, *words = [str(part) for part in error.args] or [""]
        text = " ".join(words)
        if any(known in text for known in REFUSED_WORDS):
            return False
        return state.startswith(AWAY_STATES) or any(known in text for known in AWAY_WORDS)

    def columns_of(self, connection: Any, table: str) -> list[str]:
        with connection.cursor() as cursor:
            for name in _spellings(table):
                if found := [row[3] for row in cursor.columns(table=name)]:
                    return found
        return []

    def has_unique_key(self, connection: Any, table: Table) -> bool:
        unique: dict[str, list[str]] = defaultdict(list)
        for name, column, is_unique in self._index_columns(connection, table.name):
            if is_unique:
                unique[name].append(column.casefold())
        return [table.key.casefold()] in unique.values()

    def indexes_of(self, connection: Any, table: str) -> set[str]:
        return {name.casefold() for name, _, _ in self._index_columns(connection, table)}

    def _index_columns(self, connection: Any, table: str) -> list[tuple[str, str, bool]]:
        """Name of the index, column, whether the index is unique."""
        with connection.cursor() as cursor:
            for name in _spellings(table):
                rows = cursor.statistics(name).fetchall()
                # Rows without a name are about the table itself.
                if found := [(row[5], row[8], not row[3]) for row in rows if row[5] and row[8]]:
                    return found
        return []

    def put_statement(self, table: Table) -> str:
        return self.insert_statement(table)

    def put_rows(self, cursor: Any, table: Table, rows: Sequence[Row]) -> None:
        by_key = {row[0]: row for row in rows}
        known: set[Value] = set()
        for part in chunks(list(by_key)):
            known |= set(self._select(cursor, table.key, table.name, table.key, part))
        if known:
            changed = ", ".join(f"{name} = ?" for name in table.written[1:])
            statement = f"UPDATE {table.name} SET {changed} WHERE {table.key} = ?"
            cursor.executemany(statement, [(*by_key[key][1:], key) for key in known])
        fresh = [row for key, row in by_key.items() if key not in known]
        at_once = PARAMETERS_MAX // len(table.written) if self._many_rows else 1
        insert = self.put_statement(table)
        whole = len(fresh) - len(fresh) % at_once
        if at_once > 1:
            marks = ", ".join(["?"] * len(table.written))
            many = f"{insert}, " + ", ".join([f"({marks})"] * (at_once - 1))
            for rows_at_once in chunks(fresh[:whole], at_once):
                cursor.execute(many, [value for row in rows_at_once for value in row])
            fresh = fresh[whole:]
        if fresh:
            cursor.executemany(insert, fresh)

    def find(self, query: Query) -> Iterator[list[Row]]:
        """See `Driver.find`. No two databases join values of several rows alike, so the SOP classes
        of studies are a query of their own."""
        if not (query.sop_classes and query.level == STUDY):
            yield from super().find(query)
            return
        key = len(query.columns)
        at = key + 1 + len(query.counts)
        with_key = replace(query, columns=[*query.columns, (STUDY, 0)])
        text, parameters = build_select(self.schema, self.dialect, with_key)
        with self.reading() as connection, self._guarded():
            # The answer is read to its end: not every database takes two queries at once.
            pages = list(self.pages(connection, text, parameters))
            for page in pages:
                classes = self._classes(connection, [row[key] for row in page])
                yield [
                    (*row[:key], *row[key + 1 : at], classes.get(row[key]), *row[at + 1 :])
                    for row in page
                ]

    def _classes(self, connection: Any, studies: Sequence[Value]) -> dict[Value, str]:
        """SOP classes of studies, joined by backslashes."""
        image, series = self.schema.tables[IMAGE], self.schema.tables[SERIES]
        names = [column.name for column in image.columns if column.tag == SOP_CLASS_UID]
        if not names:
            return {}
        found: dict[Value, list[str]] = defaultdict(list)
        with connection.cursor() as cursor:
            for part in chunks(studies):
                where, parameters = self._one_of(f"{series.name}.{series.link}", part)
                cursor.execute(
                    f"SELECT DISTINCT {series.name}.{series.link}, {image.name}.{names[0]} "
                    f"FROM {image.name} JOIN {series.name} "
                    f"ON {series.name}.{series.key} = {image.name}.{image.link} WHERE {where}",
                    parameters,
                )
                for study, sop_class in cursor.fetchall():
                    if sop_class:
                        found[study].append(sop_class)
        return {study: "\\".join(classes) for study, classes in found.items()}


def _spellings(table: str) -> tuple[str, str, str]:
    """How catalogues may have the name of a table that was made without quotes."""
    return table, table.lower(), table.upper()


def _quoted(value: str) -> str:
    """A value of a connection string."""
    return "{" + value.replace("}", "}}") + "}"
