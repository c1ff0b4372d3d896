"""What a C-FIND must answer by the standard, computed from the index tables.

A second, slow and simple opinion (PS3.4 C.2.2.2): it joins the rows of the four levels
and matches them one by one. The golden runner asks it only where an answer is not as
Conquest's, to tell a listed deviation from a fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import translate
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")
TABLES = ("DICOMPatients", "DICOMStudies", "DICOMSeries", "DICOMImages")
UNIQUE = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
LINKS = (
    ("DICOMStudies", "PatientID"),
    ("DICOMSeries", "StudyInsta"),
    ("DICOMImages", "SeriesInst"),
)
MODEL_LEVELS = {
    "PatientRoot": LEVELS,
    "StudyRoot": LEVELS[1:],
    "PatientStudyOnly": LEVELS[:2],
}
COUNTS = {
    "NumberOfPatientRelatedStudies": ("PATIENT", "STUDY"),
    "NumberOfPatientRelatedSeries": ("PATIENT", "SERIES"),
    "NumberOfPatientRelatedInstances": ("PATIENT", "IMAGE"),
    "NumberOfStudyRelatedSeries": ("STUDY", "SERIES"),
    "NumberOfStudyRelatedInstances": ("STUDY", "IMAGE"),
    "NumberOfSeriesRelatedInstances": ("SERIES", "IMAGE"),
}
_COLUMN = re.compile(r'\{\s*0x(\w{4}),\s*0x(\w{4}),\s*"(\w+)"')

Rows = list[dict[str, Any]]


def valid_level(model: str, level: str | None) -> bool:
    return level in MODEL_LEVELS.get(model, ())


def vr_of(keyword: str) -> str:
    tag = tag_for_keyword(keyword)
    return dictionary_VR(tag) if tag is not None else "LO"


def is_wildcard(value: Any) -> bool:
    return isinstance(value, str) and ("*" in value or "?" in value)


@dataclass
class Population:
    """The joined rows of an index, and which column holds which attribute."""

    tables: dict[str, Rows]
    columns: dict[str, dict[int, str]]
    """Per table: tag to column name as the dump has it (ten characters)."""

    @classmethod
    def read(cls, tables: dict[str, Rows], dicom_sql: str) -> Population:
        text = re.sub(r"/\*.*?\*/", "", dicom_sql, flags=re.S)
        sections = re.split(r"\*(\w+)\*", text)[1:]
        columns = {}
        for name, body in zip(sections[::2], sections[1::2], strict=True):
            found = _COLUMN.findall(body)
            columns[name] = {int(g + e, 16): column[:10] for g, e, column in found}
        return cls(tables, {t: columns[n] for t, n in zip(TABLES, _SECTIONS, strict=True)})

    def records(self, level: str) -> list[dict[int, str]]:
        """One record per row of a level, with the attributes of the levels above."""
        depth = LEVELS.index(level)
        rows: list[list[dict[str, Any]]] = [[row] for row in self.tables[TABLES[0]]]
        for child, link in LINKS[:depth]:
            parent_table = TABLES[TABLES.index(child) - 1]
            key = next(iter(self.columns[parent_table].values()))
            rows = [
                [*above, row]
                for above in rows
                for row in self.tables[child]
                if row.get(link) == above[-1].get(key)
            ]
        return [self._record(chain) for chain in rows]

    def _record(self, chain: list[dict[str, Any]]) -> dict[int, str]:
        record: dict[int, str] = {}
        for table, row in zip(TABLES, chain, strict=False):
            for tag, column in self.columns[table].items():
                record[tag] = row.get(column) or record.get(tag, "")
        return record

    def below(self, record: dict[int, str], level: str, lower: str) -> int:
        tag = tag_for_keyword(UNIQUE[LEVELS.index(level)])
        return sum(1 for other in self.records(lower) if other[tag] == record[tag])


_SECTIONS = ("Patient", "Study", "Series", "Image")


def answer(population: Population, level: str, request: dict[str, Any]) -> list[dict[str, str]]:
    """The identifiers of all matching records, without order, limit or level element."""
    keys = {name: value for name, value in request.items() if not name.startswith("_")}
    found = []
    for record in population.records(level):
        if all(_matches(record, name, value) for name, value in keys.items()):
            found.append(_identifier(population, level, record, keys))
    return found


def _identifier(
    population: Population, level: str, record: dict[int, str], keys: Iterable[str]
) -> dict[str, str]:
    identifier = {}
    for name in keys:
        tag = tag_for_keyword(name)
        if name in COUNTS:
            if COUNTS[name][0] == level:
                identifier[name] = str(population.below(record, level, COUNTS[name][1]))
        elif tag in record:
            identifier[name] = record[tag]
    return identifier


def _matches(record: dict[int, str], name: str, value: Any) -> bool:
    tag = tag_for_keyword(name)
    if tag not in record or value in ("", [], None) or name in COUNTS:
        return True
    stored, vr = record[tag], vr_of(name)
    if isinstance(value, list):
        return any(_single(vr, str(one), stored) for one in value)
    return _single(vr, str(value), stored)


def _single(vr: str, value: str, stored: str) -> bool:
    """One value against a stored one, which may have several (PS3.4 C.2.2.2.1)."""
    value = value.rstrip(" ")
    if value.strip("* ") == "":
        return True
    if vr in ("DA", "TM", "DT"):
        return _time_matcher(vr, value)(stored)
    whole = [stored] if "\\" in value else [stored, *stored.split("\\")]
    if is_wildcard(value):
        flags = re.I if vr == "PN" else 0
        pattern = re.compile(translate(value.replace("[", "[[]")), flags | re.S)
        return any(pattern.match(one) for one in whole)
    return value in whole


def _time_matcher(vr: str, value: str) -> Callable[[str], bool]:
    if is_wildcard(value):  # not allowed by the standard, answered as Conquest does
        pattern = re.compile(translate(value))
        return lambda stored: bool(pattern.match(stored))
    if "-" in value:
        low, _, high = value.partition("-")
        return lambda stored: stored != "" and _from(low, stored) and _to(high, stored)
    if vr == "TM":  # a value without a fraction stands for its whole second
        return lambda stored: (
            stored == value or ("." not in value and stored.partition(".")[0] == value)
        )
    return lambda stored: stored == value


def _from(low: str, stored: str) -> bool:
    return not low or stored >= low


def _to(high: str, stored: str) -> bool:
    return not high or stored[: len(high)] <= high


def is_malformed_range(name: str, value: Any) -> bool:
    """A date or time key that is neither a value nor a range of values."""
    if not isinstance(value, str) or vr_of(name) not in ("DA", "TM", "DT"):
        return False
    return re.fullmatch(r"[0-9.:*? ]*(-[0-9.: ]*)?", value) is None
