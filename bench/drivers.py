"""The databases that a server can keep its index in: how each is configured, and its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tools.databases import Dbase, Mariadb, Odbc, Postgres, Sqlite

ODBC, POSTGRES, MARIADB = Odbc(), Postgres(), Mariadb()


@dataclass(frozen=True)
class Driver:
    """One database. `start` returns lines of dicom.ini."""

    name: str
    title: str
    durability: str
    can_share: str
    notes: str
    start: Callable[[], list[str]] = list
    stop: Callable[[], None] = lambda: None
    # Bytes of the database of a server with this home.
    size: Callable[[Path], int] = field(default=lambda _home: 0)
    # Whether what was entered is found again.
    finds: bool = True
    # What has to be installed for it, empty when it is.
    missing: Callable[[], str] = lambda: ""


def folder_bytes(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_blocks * 512 for path in files)


def _lmdb_bytes(home: Path) -> int:
    return (home / "index" / "data.mdb").stat().st_blocks * 512


def _postgres_bytes(_home: Path) -> int:
    # Each run has a database of its own.
    sizes = "SELECT sum(pg_database_size(datname)) FROM pg_database WHERE datname LIKE 'conquest%'"
    with POSTGRES.connect("") as connection:
        row = connection.execute(sizes).fetchone()
    return int(row[0]) if row else 0


def _mariadb_bytes(_home: Path) -> int:
    # Its own statistics lag behind.
    return sum(folder_bytes(folder) for folder in (MARIADB.folder / "data").glob("conquest*"))


DRIVERS = {
    driver.name: driver
    for driver in (
        Driver(
            "lmdb",
            "pyserver LMDB",
            "every commit synced (fdatasync)",
            "no",
            "built in; the default",
            size=_lmdb_bytes,
        ),
        Driver(
            "sqlite",
            "SQLite behind LMDB",
            "WAL, synchronous NORMAL; LMDB every commit synced",
            "for reading",
            "size of the database alone",
            start=Sqlite().fresh,
            size=lambda home: folder_bytes(Sqlite.file(home).parent),
        ),
        Driver(
            "postgres",
            "PostgreSQL behind LMDB",
            "PostgreSQL's defaults; LMDB every commit synced",
            "for reading",
            "size of the database alone",
            start=POSTGRES.fresh,
            stop=POSTGRES.kill,
            size=_postgres_bytes,
            missing=POSTGRES.missing,
        ),
        Driver(
            "mysql",
            "MariaDB behind LMDB",
            "MariaDB's defaults; LMDB every commit synced",
            "for reading",
            "size of the database alone",
            start=MARIADB.fresh,
            stop=MARIADB.kill,
            size=_mariadb_bytes,
            missing=MARIADB.missing,
        ),
        Driver(
            "odbc",
            "ODBC (SQLite's driver) behind LMDB",
            "WAL, synchronous NORMAL; LMDB every commit synced",
            "for reading",
            "size of the database alone",
            start=ODBC.fresh,
            size=lambda _home: folder_bytes(ODBC.file.parent),
            missing=ODBC.missing,
        ),
        Driver(
            "dbase",
            "dBase III files behind LMDB",
            "files synced before LMDB forgets; LMDB every commit synced",
            "no",
            "size of the files alone; keys in memory, read at the start",
            start=lambda: ["Index = dbase"],
            size=lambda home: folder_bytes(Dbase.folder(home)),
        ),
        Driver(
            "null",
            "NULL",
            "nothing is kept",
            "",
            "finds nothing; bound by the source's answers and by reading them",
            start=lambda: ["Index = null"],
            finds=False,
        ),
    )
}
