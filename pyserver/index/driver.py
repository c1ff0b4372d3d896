"""What the archive asks of a database: rows in, rows out, no DICOM.

The native store has committed a change before a driver hears of it, and tells it again after a
crash or a lost connection, so everything here may be done twice. Calls come from the committer's
thread (`apply`, `sync`) and from the threads of queries (`find`, `counts`, `dump`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pyserver.errors import PyserverError

Value = str | bytes | int | None
Row = tuple[Value, ...]

# Level (4: the worklist), and number in the level's part of dicom.sql.
Place = tuple[int, int]
# Column, kind and values: `any` of them, `like` one with * for any characters whatever the case,
# at `least` or at `most` one.
Condition = tuple[Place, Literal["any", "like", "least", "most"], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Query:
    """Rows of a level joined with those above, as far as columns of these are wanted."""

    level: int
    columns: Sequence[Place]
    counts: Sequence[int] = ()
    """Levels below whose rows are counted."""
    sop_classes: bool = False
    """Whether the SOP classes of the study are wanted, joined by backslashes."""
    file: bool = False
    """Whether file and device of the image are wanted."""
    conditions: Sequence[Condition] = ()
    """All must hold."""
    sort: Place | None = None


class DatabaseAway(PyserverError):
    """The database cannot be reached; it may come back."""


class DatabaseRefused(PyserverError):
    """The database answered with an error."""


class Driver(Protocol):
    """A database with Conquest's tables."""

    text_form: Literal["raw", "unicode"]
    """How text beyond ASCII is kept: bytes as they came, or decoded."""
    identity: str
    """Which database it is; another one has other rows."""
    key_lengths: tuple[int, int, int, int]
    """Longest key per level in characters; 0 sets no limit."""

    def apply(
        self, deletes: Sequence[tuple[int, Value]], rows: Sequence[Sequence[Row]]
    ) -> list[Value]:
        """In one transaction, delete keys of levels with all below, then put whole rows per level.

        Answers the studies above deleted rows that are still there.
        """

    def sync(self) -> None:
        """Make what was applied survive a power cut."""

    def find(self, query: Query) -> Iterator[list[Row]]:
        """Pages of rows, none of them empty: what the query wants, in the order of its fields."""

    def change_worklist(
        self, removed: Sequence[Sequence[tuple[int, Value]]], rows: Sequence[Row]
    ) -> int:
        """In one transaction, take rows out of the worklist, each key naming columns by number and
        their values, then add rows: the columns and the time. How many went."""

    def counts(self) -> tuple[int, int, int, int]:
        """Rows per level."""

    def dump(self, table: str) -> list[dict[str, str | None]]:
        """All rows of a table as text; bytes become the Latin-1 characters of the same number."""

    def close(self) -> None:
        """Let connections go."""
