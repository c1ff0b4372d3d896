"""Index tables compared with recorded ones, row by row and column by column."""

from __future__ import annotations

from typing import Any

from tests.golden.cases import is_access_time, matches
from tests.golden.verdict import Difference

KEYS = {
    "DICOMPatients": "PatientID",
    "DICOMStudies": "StudyInsta",
    "DICOMSeries": "SeriesInst",
    "DICOMImages": "SOPInstanc",
}
Rows = list[dict[str, Any]]


def compare_tables(
    expected: dict[str, Rows], observed: dict[str, Rows], started: float
) -> list[Difference]:
    """Differences of the four levels; fields read `tables.TABLE.COLUMN`.

    A row that only one side has is a difference of the column `*`.
    """
    found = []
    for table, key in KEYS.items():
        old = {row[key]: row for row in expected.get(table, [])}
        new = {row[key]: row for row in observed.get(table, [])}
        if len(new) != len(observed.get(table, [])):
            found.append(Difference(f"tables.{table}.*", "unique keys", "a key twice"))
        for value in sorted(old.keys() | new.keys()):
            one, other = old.get(value), new.get(value)
            if one is None or other is None:
                found.append(Difference(f"tables.{table}.*", one, other, value))
            else:
                found.extend(_compare_row(table, value, one, other, started))
    return found


def _compare_row(
    table: str, key: str, old: dict[str, Any], new: dict[str, Any], started: float
) -> list[Difference]:
    found = []
    for column in sorted(old.keys() | new.keys()):
        expected, observed = old.get(column), new.get(column)
        if column == "_rowid" or _same(column, expected, observed, started):
            continue
        found.append(Difference(f"tables.{table}.{column}", expected, observed, key))
    return found


def _same(column: str, expected: Any, observed: Any, started: float) -> bool:
    if column == "AccessTime":
        return expected is None or is_access_time(observed, started)
    if expected is None or observed is None:
        return expected is observed
    return matches(str(expected), str(observed), started)
