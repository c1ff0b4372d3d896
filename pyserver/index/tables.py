"""Conquest's tables as dicom.sql describes them: names, widths, indexes.

Names are cut to `TruncateFieldNames` characters. Tables and indexes are those that Conquest 1.5
makes (golden data, database.json), so that either program opens what the other wrote.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NAMES = ("DICOMPatients", "DICOMStudies", "DICOMSeries", "DICOMImages")
WORKLIST = "DICOMWorkList"
UIDMODS = "UIDMODS"
_LEVELS = {"PATIENT": 0, "STUDY": 1, "SERIES": 2, "IMAGE": 3, "worklist": 4}
PATIENT, STUDY, SERIES, IMAGE, WORKLIST_LEVEL = range(5)

ACCESS_TIME = "AccessTime"
FILE_COLUMNS = ("ObjectFile", "DeviceName")


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    length: int
    is_date: bool
    tag: str

    @property
    def sql_type(self) -> str:
        """Its type, as Conquest writes it."""
        return "char(8)" if self.is_date else f"varchar({self.length})"


@dataclass(frozen=True, slots=True)
class Table:
    """One table; the first column is its key, the last of those from dicom.sql the link upwards."""

    name: str
    columns: tuple[Column, ...]
    level: int

    @property
    def key(self) -> str:
        """Name of the key."""
        return self.columns[0].name

    @property
    def link(self) -> str:
        """Name of the column with the key of the row above."""
        return self.columns[-1].name

    @property
    def written(self) -> tuple[str, ...]:
        """Columns of a row that the store hands over, in its order."""
        names = tuple(column.name for column in self.columns)
        return (*names, ACCESS_TIME, *(FILE_COLUMNS if self.level == IMAGE else ()))

    def types(self) -> dict[str, str]:
        """Names and types of all columns, Conquest's own at the end."""
        found = {column.name: column.sql_type for column in self.columns}
        found |= {ACCESS_TIME: "int", "qTimeStamp": "int", "qFlags": "int"}
        found["qSpare"] = "varchar(64)"
        if self.level == IMAGE:
            found |= {"ObjectFile": "varchar(255)", "DeviceName": "varchar(32)"}
        return found


@dataclass(frozen=True, slots=True)
class Schema:
    """All tables."""

    tables: tuple[Table, Table, Table, Table]
    worklist: Table

    def table(self, level: int) -> Table:
        """The table of a level; the worklist stands by itself."""
        return self.worklist if level == WORKLIST_LEVEL else self.tables[level]

    def table_named(self, name: str) -> Table | None:
        """The table with this name, whatever its case."""
        tables = (*self.tables, self.worklist)
        return next((t for t in tables if t.name.casefold() == name.casefold()), None)

    def indexes(self) -> Iterable[tuple[str, str, tuple[str, ...]]]:
        """Name, table and columns of Conquest's indexes."""
        _, study, series, image = self.tables
        yield "study_lnk", study.name, (study.link,)
        if len(study.columns) > 1:
            yield "idx_patientid", study.name, (study.columns[-2].name,)
        yield "idx_patientid_studyinsta", study.name, (study.link, study.key)
        yield "series_lnk", series.name, (series.link,)
        yield "series_pat", series.name, (series.columns[-2].name,)
        yield "idx_studyinsta_seriesinst", series.name, (series.link, series.key)
        yield "images_lnk", image.name, (image.link,)
        yield "images_pat", image.name, (image.columns[-2].name,)
        yield "idx_seriesinst_sopinstanc", image.name, (image.link, image.key)
        old, stage, new = "OldUID", "Stage", "NewUID"
        yield "mods_old", UIDMODS, (old,)
        yield "mods_stage", UIDMODS, (stage,)
        yield "mods_joint", UIDMODS, (old, stage)
        yield "mods_back", UIDMODS, (new, stage)


UIDMODS_TYPES = {
    "MODTime": "int",
    "OldUID": "varchar(64)",
    "MODType": "varchar(32)",
    "NewUID": "varchar(64)",
    "Stage": "varchar(32)",
    "Annotation": "varchar(64)",
}


def read_schema(columns: Iterable[Mapping[str, Any]], name_length: int) -> Schema:
    """The tables of `pyserver._native.parse_columns`; `name_length` 0 keeps names whole."""
    found: list[list[Column]] = [[], [], [], [], []]
    for column in columns:
        kind = column["dicom_type"]
        if kind in ("DT_STARTSEQUENCE", "DT_ENDSEQUENCE"):
            continue
        name = column["name"][:name_length] if name_length else column["name"]
        found[_LEVELS[column["table"]]].append(
            Column(name, column["length"], kind == "DT_DATE", column["tag"])
        )
    patient, study, series, image = (
        Table(NAMES[level], tuple(found[level]), level) for level in range(4)
    )
    return Schema((patient, study, series, image), Table(WORKLIST, tuple(found[4]), WORKLIST_LEVEL))
