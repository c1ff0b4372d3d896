"""One query of dBase tables: rows joined with those above, conditions, what is wanted of them."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyserver.index.driver import Place, Query, Row, Value
from pyserver.index.select import SOP_CLASS_UID
from pyserver.index.tables import IMAGE, PATIENT, STUDY

if TYPE_CHECKING:
    from pyserver.index.dbf_table import DbaseTable

Fits = Callable[[bytes], bool]


class Joined:
    """A row with those above it, one after the other; rows above are read once."""

    def __init__(self, tables: "tuple[DbaseTable, ...]", query: Query) -> None:
        self._tables, self._query = tables, query
        places = [*query.columns, *(place for place, _, _ in query.conditions)]
        places += [query.sort] if query.sort is not None else []
        # A key is in the link of the level below as well.
        needed = [level + (column == 0 and level < query.level) for level, column in places]
        self._top = min([query.level, *needed])
        self._chain: list[bytes | None] = [None] * 4
        self._above: dict[tuple[int, bytes], bytes | None] = {}
        self._fits = [(place, fitting(kind, values)) for place, kind, values in query.conditions]

    def take(self, record: bytes) -> bool:
        """Make this the row; whether its parents are there and the conditions hold."""
        self._chain[self._query.level] = record
        for level in range(self._query.level - 1, self._top - 1, -1):
            below = self._chain[level + 1]
            found = None
            if below is not None:
                found = self._parent(level, below[self._tables[level + 1].link].rstrip(b" "))
            # A study may be without patient (AllowEmptyPatientID).
            if found is None and level != PATIENT:
                return False
            self._chain[level] = found
        return all(fits(self.value(place)) for place, fits in self._fits)

    def value(self, place: Place) -> bytes:
        """A column of the row; the key of a level above what is read stands in the link."""
        level, number = place
        if level < self._top:
            below = self._chain[level + 1]
            return b"" if below is None else below[self._tables[level + 1].link].rstrip(b" ")
        record = self._chain[level]
        if record is None:
            return b""
        return record[self._tables[level].columns[number]].rstrip(b" ")

    def row(self) -> Row:
        """What is wanted of it."""
        query = self._query
        row: list[Value] = [self.value(place) or None for place in query.columns]
        if query.counts or query.sop_classes:
            row += self._summed()
        if query.file:
            record = self._chain[IMAGE]
            places = self._tables[IMAGE].file_places
            row += [None if record is None else record[at].rstrip(b" ") or None for at in places]
        return tuple(row)

    def _parent(self, level: int, key: bytes) -> bytes | None:
        known = (level, key)
        if known not in self._above:
            self._above[known] = self._tables[level].record(key)
        return self._above[known]

    def _summed(self) -> list[Value]:
        """Numbers of rows below, and the SOP classes of a study."""
        query, tables = self._query, self._tables
        wanted = [*query.counts, *([IMAGE] if query.sop_classes else [])]
        numbers: dict[int, list[int]] = {}
        keys = [self.value((query.level, 0))]
        for level in range(query.level + 1, max(wanted) + 1):
            numbers[level] = tables[level].index.below(keys)
            if level < max(wanted):
                records = tables[level].read(numbers[level])
                keys = [tables[level].key_of(record) for record in records]
        summed: list[Value] = [len(numbers.get(level, ())) for level in query.counts]
        if query.sop_classes:
            image = tables[IMAGE]
            tags = [column.tag for column in image.layout.columns]
            classes = set()
            if query.level == STUDY and SOP_CLASS_UID in tags:
                place = image.columns[tags.index(SOP_CLASS_UID)]
                classes = {record[place].rstrip(b" ") for record in image.read(numbers[IMAGE])}
            summed.append(b"\\".join(sorted(classes - {b""})) or None)
        return summed


def fitting(kind: str, values: Sequence[str]) -> Fits:
    """A condition on a value without the blanks behind it."""
    wanted = [value.encode() for value in values]
    if kind == "any":
        several = set(wanted)
        return lambda value: value in several
    if kind == "like":
        pattern = b".*".join(re.escape(part) for part in wanted[0].split(b"*"))
        match = re.compile(pattern, re.IGNORECASE | re.DOTALL).fullmatch
        return lambda value: match(value) is not None
    (bound,) = wanted
    if kind == "least":
        return lambda value: value >= bound
    return lambda value: value <= bound
