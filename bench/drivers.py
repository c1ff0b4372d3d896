"""The databases that a server can keep its index in: how each is configured, and its size.

One row per driver; `bench clonedb` runs those that this version has (`pyserver.config.database`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pyserver.config.database import BUILT


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
    )
}


def supported() -> list[str]:
    """Drivers of this table that this version of the server has."""
    return [name for name in DRIVERS if name in BUILT]
