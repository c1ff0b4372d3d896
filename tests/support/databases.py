"""Databases for a server under test: a fresh one each time it is asked for."""

from __future__ import annotations

from pathlib import Path


class Database:
    """One kind of database; the embedded index is one of them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fresh(self) -> list[str]:
        """The lines of dicom.ini that choose a database without rows."""
        return [f"Index = {self.name}"]


class Sqlite(Database):
    """A file in the server's home folder."""

    def __init__(self) -> None:
        super().__init__("sqlite")

    @staticmethod
    def file(home: Path) -> Path:
        """The file that a server keeps its rows in."""
        return home / "dbase" / "conquest.db3"


EMBEDDED = (Database("lmdb"), Sqlite())
