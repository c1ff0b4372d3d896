"""SQLite beside the index: a database that is new, lost, behind, or has other columns."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pyserver import _native
from pyserver.index import dialect
from pyserver.index.driver import Query
from pyserver.index.select import build_select, like_pattern
from pyserver.index.tables import IMAGE, SERIES, STUDY, read_schema
from tests.conftest import MakeServer
from tests.drivers.test_contract import counts, got, rows
from tests.support.objects import make_series, store
from tools.databases import Sqlite

OPEN = "UnknownPeers = all"
DICOM_SQL = Path(__file__).parents[2] / "pyserver" / "config" / "data" / "dicom.sql"
COLUMN = '{ 0x0028, 0x0102, "HighBit", 5, SQL_C_CHAR, DT_UINT16 },'


def test_an_archive_changes_over(make_server: MakeServer) -> None:
    """From the embedded index to SQLite and back: every row is there each time."""
    server = make_server(ini=[OPEN])
    objects = make_series([500] * 5, "P1")
    assert list(store(server, objects)) == [0] * 5
    server.stop()
    server.configure([OPEN, "SqLite = 1"])
    server.start()
    assert counts(server) == rows(server) == (1, 1, 1, 5)
    more = make_series([500], "P2")
    assert list(store(server, more)) == [0]
    server.stop()
    server.configure([OPEN])
    server.start()
    assert counts(server) == rows(server) == (2, 2, 2, 6)
    assert got(server, [*objects, *more]) == {one.instance for one in [*objects, *more]}


def test_a_lost_database_is_written_anew(make_server: MakeServer) -> None:
    server = make_server(ini=[OPEN, "SqLite = 1"])
    objects = make_series([500] * 5, "P1")
    assert list(store(server, objects)) == [0] * 5
    server.stop()
    for file in Sqlite.file(server.home).parent.iterdir():
        file.unlink()
    server.start()
    assert counts(server) == rows(server) == (1, 1, 1, 5)


def test_a_database_that_is_behind_catches_up(make_server: MakeServer) -> None:
    """An older copy of the database is put back."""
    server = make_server(ini=[OPEN, "SqLite = 1"])
    file = Sqlite.file(server.home)
    assert list(store(server, make_series([500] * 2, "P1"))) == [0] * 2
    server.stop()
    older = file.read_bytes()
    server.start()
    assert list(store(server, make_series([500] * 3, "P2"))) == [0] * 3
    server.stop()
    file.write_bytes(older)
    server.start()
    assert counts(server) == rows(server) == (2, 2, 2, 5)


def test_a_column_is_added_and_filled(make_server: MakeServer) -> None:
    server = make_server(ini=[OPEN, "SqLite = 1"])
    assert list(store(server, make_series([500] * 2, "P1"))) == [0] * 2
    server.stop()
    layout = server.home / "dicom.sql"
    text = layout.read_text()
    at = text.index("{", text.index("BitsStored"))
    layout.write_text(f"{text[:at]}{COLUMN}\n{text[at:]}")
    server.start()
    assert {row["HighBit"] for row in server.tables()["DICOMImages"]} == {"7"}


def test_tables_without_keys_are_kept_in_step(make_server: MakeServer) -> None:
    """Conquest makes such tables with `initializetables:1`."""
    server = make_server(ini=[OPEN, "SqLite = 1"])
    server.stop()
    connection = sqlite3.connect(Sqlite.file(server.home))
    names = ("DICOMPatients", "DICOMStudies", "DICOMSeries", "DICOMImages")
    for name in names:
        (text,) = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = ?", (name,)
        ).fetchone()
        connection.execute(f"DROP TABLE {name}")
        connection.execute(text.replace(" PRIMARY KEY not null", ""))
    connection.close()
    server.start()
    objects = make_series([500] * 3, "P1")
    assert list(store(server, [*objects, *objects])) == [0] * 6
    assert counts(server) == rows(server) == (1, 1, 1, 3)


def test_statements_hold_no_text_from_outside() -> None:
    schema = read_schema(_native.parse_columns(DICOM_SQL.read_text()), 10)
    hostile = "x'; DROP TABLE DICOMPatients; --"
    query = Query(
        IMAGE,
        [(IMAGE, 0), (SERIES, 0), (STUDY, 0)],
        file=True,
        conditions=[((STUDY, 0), "any", [hostile]), ((IMAGE, 1), "like", [f"*{hostile}*"])],
    )
    text, parameters = build_select(schema, dialect.SQLITE, query)
    assert "DROP" not in text
    assert parameters == [hostile, f"%{hostile}%"]
    # The study is known to the series: its own table is not needed.
    assert "DICOMStudies" not in text


def test_patterns_escape_what_is_no_wildcard() -> None:
    assert like_pattern("*a_b%c!*") == "%a!_b!%c!!%"
    connection = sqlite3.connect(":memory:")
    condition = dialect.SQLITE.like.format("?", "?")
    assert connection.execute(f"SELECT {condition}", ("xA_b%C!y", like_pattern("*a_b%c!*")))
    (found,) = connection.execute(f"SELECT {condition}", ("aXb%c!", "%a!_b!%c!!%")).fetchone()
    assert not found
    connection.close()
