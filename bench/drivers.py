"""The databases that a server can keep its index in: how each is configured, and its size.

One row per driver; `bench clonedb` runs those that this version has (`pyserver.config.database`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pyserver.config.database import BUILT
from tools.databases import Mariadb, Postgres, Sqlite

POSTGRES, MARIADB = Postgres(), Mariadb()


@dataclass(frozen=True)
class Driver:
    """One database. `start` gets the folder it may use and returns lines of dicom.ini."""

    name: str
    title: str
    durability: str
    can_share: str
    notes: str
    start: Callable[[Path], list[str]] = lambda _folder: []
    stop: Callable[[Path], None] = lambda _folder: None
    # Bytes of the database of a server with this home and folder.
    size: Callable[[Path, Path], int] = field(default=lambda _home, _folder: 0)


def folder_bytes(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_blocks * 512 for path in files)


def _lmdb_bytes(home: Path, _folder: Path) -> int:
    return (home / "index" / "data.mdb").stat().st_blocks * 512


def _sqlite_bytes(home: Path, _folder: Path) -> int:
    return folder_bytes(Sqlite.file(home).parent)


def _postgres_bytes(_home: Path, _folder: Path) -> int:
    # Each run has a database of its own.
    sizes = "SELECT sum(pg_database_size(datname)) FROM pg_database WHERE datname LIKE 'conquest%'"
    with POSTGRES.connect("") as connection:
        row = connection.execute(sizes).fetchone()
    return int(row[0]) if row else 0


def _mariadb_bytes(_home: Path, _folder: Path) -> int:
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
            start=lambda _folder: Sqlite().fresh(),
            size=_sqlite_bytes,
        ),
        Driver(
            "postgres",
            "PostgreSQL behind LMDB",
            "PostgreSQL's defaults; LMDB every commit synced",
            "for reading",
            "size of the database alone",
            start=lambda _folder: POSTGRES.fresh(),
            stop=lambda _folder: POSTGRES.kill(),
            size=_postgres_bytes,
        ),
        Driver(
            "mysql",
            "MariaDB behind LMDB",
            "MariaDB's defaults; LMDB every commit synced",
            "for reading",
            "size of the database alone",
            start=lambda _folder: MARIADB.fresh(),
            stop=lambda _folder: MARIADB.kill(),
            size=_mariadb_bytes,
        ),
    )
}


def supported() -> list[str]:
    """Drivers of this table that this version of the server has."""
    return [name for name in DRIVERS if name in BUILT]
