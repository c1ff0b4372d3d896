"""Tables that are made here are Conquest's: columns in their order, types, keys and indexes."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pyserver import _native
from pyserver.config.database import DatabaseSettings
from pyserver.config.defaults import default_text
from pyserver.index.dbase import DbaseDriver
from pyserver.index.dbf import DbfFile
from pyserver.index.mariadb import MariadbDriver
from pyserver.index.odbc import OdbcDriver
from pyserver.index.postgres import PostgresDriver
from pyserver.index.sqlite import SqliteDriver
from pyserver.index.tables import Schema, read_schema
from tests.golden.cases import GoldenSet
from tools.databases import SERVERS, Odbc

INT = ("int", "int(11)", "integer")


@dataclass
class Tables:
    """A schema; names in lower case, as databases that fold them tell it."""

    columns: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Name and type of each column per table."""
    keys: dict[str, str] = field(default_factory=dict)
    indexes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Table and columns by the name of the index."""

    def add_column(self, table: str, name: str, kind: str) -> None:
        told = "int" if kind in INT else kind
        self.columns.setdefault(table.lower(), []).append((name.lower(), told))

    def add_index(self, name: str, table: str, columns: Iterable[str]) -> None:
        self.indexes[name.lower()] = (table.lower(), *(column.lower() for column in columns))


def parsed(statements: Iterable[str]) -> Tables:
    """What statements in SQL make."""
    made = Tables()
    for statement in statements:
        if table := re.fullmatch(r"CREATE TABLE (\w+) \((.*)\)", statement):
            for column in re.split(r", ?(?![^(]*\))", table[2]):
                name, kind, *rest = column.split()
                made.add_column(table[1], name, kind)
                if rest:
                    assert rest == ["PRIMARY", "KEY", "not", "null"], column
                    made.keys[table[1].lower()] = name.lower()
        else:
            index = re.fullmatch(r"CREATE INDEX (\w+) ON (\w+) \((.*)\)", statement)
            assert index is not None, statement
            made.add_index(index[1], index[2], re.split(r", ?", index[3]))
    return made


@pytest.fixture
def recorded(golden: GoldenSet) -> Tables:
    return parsed(golden.load("database.json")["schema"])


@pytest.fixture
def schema() -> Schema:
    return read_schema(_native.parse_columns(default_text("dicom.sql")), 10)


def in_sqlite(path: Path) -> Tables:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return parsed(sql for (sql,) in rows)


def test_sqlite(recorded: Tables, schema: Schema, tmp_path: Path) -> None:
    driver = SqliteDriver(schema, tmp_path / "conquest.db3")
    driver.prepare()
    driver.close()
    assert in_sqlite(driver.path) == recorded


def settings_of(lines: list[str]) -> DatabaseSettings:
    """Of the lines that choose a database."""
    items = dict(line.split(" = ", 1) for line in lines)
    host, _, port = items.get("SQLHost", "").partition(":")
    return DatabaseSettings(
        items["Index"],
        host=host,
        port=int(port or 0),
        name=items["SQLServer"],
        user=items.get("Username", ""),
        password=items.get("Password", ""),
    )


def test_odbc(recorded: Tables, schema: Schema) -> None:
    database = Odbc()
    driver = OdbcDriver(schema, settings_of(database.fresh()))
    driver.prepare()
    driver.close()
    assert in_sqlite(database.file) == recorded


# Catalogues of both servers: columns in order, then indexes with their columns in order.
COLUMNS = {
    "postgres": "SELECT table_name, column_name, CASE WHEN character_maximum_length IS NULL "
    "THEN data_type ELSE CASE data_type WHEN 'character' THEN 'char' ELSE 'varchar' END || '(' "
    "|| character_maximum_length || ')' END FROM information_schema.columns "
    "WHERE table_schema = 'public' ORDER BY table_name, ordinal_position",
    "mysql": "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE FROM information_schema.columns "
    "WHERE TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME, ORDINAL_POSITION",
}
INDEXES = {
    "postgres": "SELECT t.relname, i.relname, x.indisprimary, a.attname FROM pg_index x "
    "JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid "
    "JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'public' "
    "CROSS JOIN LATERAL unnest(x.indkey) WITH ORDINALITY AS k(number, place) "
    "JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number ORDER BY 2, k.place",
    "mysql": "SELECT TABLE_NAME, INDEX_NAME, INDEX_NAME = 'PRIMARY', COLUMN_NAME "
    "FROM information_schema.statistics WHERE TABLE_SCHEMA = DATABASE() "
    "ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX",
}


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_servers(server: Any, recorded: Tables, schema: Schema) -> None:
    settings = settings_of(server.fresh())
    kind = {"postgres": PostgresDriver, "mysql": MariadbDriver}[server.name]
    driver = kind(schema, settings)
    driver.prepare()
    driver.close()
    made = Tables()
    connection = server.connect(settings.name)
    cursor = connection.cursor()
    cursor.execute(COLUMNS[server.name])
    for table, name, column_type in cursor.fetchall():
        made.add_column(table, name, column_type)
    cursor.execute(INDEXES[server.name])
    parts: dict[tuple[str, str], list[str]] = {}
    for table, name, is_primary, column in cursor.fetchall():
        if is_primary:
            made.keys[table.lower()] = column.lower()
        else:
            parts.setdefault((name, table), []).append(column)
    for (name, table), columns in parts.items():
        made.add_index(name, table, columns)
    connection.close()
    assert made == recorded


def test_dbase(recorded: Tables, schema: Schema, tmp_path: Path) -> None:
    """Files have neither types nor keys: names and widths; ten characters for a number."""
    driver = DbaseDriver(schema, tmp_path)
    driver.prepare()
    driver.close()
    made = {}
    for path in tmp_path.glob("*.DBF"):
        file = DbfFile(path)
        made[path.stem.lower()] = [(one.name.lower(), one.width, one.kind) for one in file.fields]
        file.close()
    assert made == {
        table: [(name, int(re.sub(r"\D", "", kind) or 10), "C") for name, kind in columns]
        for table, columns in recorded.columns.items()
    }
