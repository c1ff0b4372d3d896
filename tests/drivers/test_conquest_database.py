"""An archive that Conquest 1.5 has kept so far: its database and its files, opened as they are.

The database is made anew from the recorded schema and rows. Paths have backslashes, as a server
on Windows writes them.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pyserver import _native
from pyserver.config.defaults import default_text, denormalised
from pyserver.control import ControlClient
from pyserver.index.dbase import dbf_name, width_of
from pyserver.index.dbf import DbfFile, Field
from pyserver.index.tables import read_schema
from tests.conftest import MakeServer
from tests.drivers.conftest import Report
from tests.drivers.test_contract import counts, rows
from tests.golden import test_cfind
from tests.golden.cases import GoldenObject, GoldenSet, ini_lines
from tests.support import dimse
from tests.support.server import Server
from tools.databases import Sqlite

TABLES = ("DICOMPatients", "DICOMStudies", "DICOMSeries", "DICOMImages")


def write_database(path: Path, schema: list[str], tables: dict[str, Any]) -> None:
    """The file as Conquest leaves it: text as it came, tables and indexes as recorded."""
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    for statement in schema:
        connection.execute(statement)
    for table, recorded in tables.items():
        for row in recorded:
            values = {name: value for name, value in row.items() if name != "_rowid"}
            if "ObjectFile" in values:
                values["ObjectFile"] = values["ObjectFile"].replace("/", "\\")
            marks = ", ".join(["CAST(? AS TEXT)"] * len(values))
            connection.execute(
                f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})",
                [v if v is None else str(v).encode("latin-1") for v in values.values()],
            )
    connection.commit()
    connection.close()


def write_dbase(folder: Path, tables: dict[str, Any]) -> None:
    """The files that Conquest keeps beside its own dicom.sql, which copies columns of the levels
    above; a record that was deleted among them."""
    layout = denormalised(default_text("dicom.sql"))
    (folder.parent / "dicom.sql").write_text(layout)
    folder.mkdir()
    above: dict[str, Any] = {}
    for table in read_schema(_native.parse_columns(layout), 10).tables:
        fields = [Field(dbf_name(name), width_of(kind)) for name, kind in table.types().items()]
        file = DbfFile.create(folder / f"{table.name.upper()}.DBF", fields)
        file.append([b"*" + bytes(file.record_bytes - 1)])
        for row in tables[table.name]:
            # The patient's ID has a name of its own below the study.
            known = {**above.get(row.get(table.link), {}), **row}
            known["ObjectFile"] = str(row.get("ObjectFile", "")).replace("/", "\\")
            above[row[table.key]] = known
            values = [
                str(known.get(name) or "").encode("latin-1").ljust(field.width)
                for name, field in zip(table.types(), fields, strict=True)
            ]
            file.append([b" " + b"".join(values)])
        file.write_header()
        file.close()


@pytest.fixture(params=["sqlite", "dbase"])
def taken_over(
    request: pytest.FixtureRequest, golden: GoldenSet, make_server: MakeServer
) -> Server:
    """A server on such an archive."""
    recorded = golden.load("find_database.json")["tables"]
    tables = {name: recorded[name] for name in TABLES}
    chosen = {"sqlite": "SqLite = 1", "dbase": "SQLServer = dbase/"}[request.param]
    server = make_server(ini=[*ini_lines({}), chosen], start=False)
    if request.param == "dbase":
        write_dbase(server.home / "dbase", tables)
    else:
        schema = golden.load("database.json")["schema"]
        write_database(Sqlite.file(server.home), schema, tables)
    files = {row["SOPInstanc"]: row["ObjectFile"] for row in recorded["DICOMImages"]}
    for sent in test_cfind.population_objects(golden):
        path = server.path(files[sent.text(0x00080018)])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sent.path.read_bytes())
    return server.start()


def retrieved(server: Server, one: GoldenObject) -> bool:
    """Whether C-GET brings the object back."""
    sop_class, instance = one.text(0x00080016), one.text(0x00080018)
    keys = {0x00080052: "IMAGE", 0x00100020: one.text(0x00100020).encode("latin-1")}
    keys |= {0x0020000D: one.text(0x0020000D), 0x0020000E: one.text(0x0020000E)}
    keys |= {0x00080018: instance}
    contexts = [
        (dimse.PATIENT_ROOT_GET, [dimse.IMPLICIT_LE]),
        (sop_class, [one.part.transfer_syntax]),
    ]
    with dimse.Association(server.address, contexts, roles=[sop_class]) as peer:
        result = peer.get(dimse.PATIENT_ROOT_GET, dimse.identifier(keys))
    return instance in result.objects and result.objects[instance][1] == one.part.data


def test_it_answers_and_sends(
    golden: GoldenSet, taken_over: Server, report_verdicts: Report
) -> None:
    stage = test_cfind.make_stage(taken_over, golden)
    cases = golden.load(test_cfind.FILE)
    report_verdicts([test_cfind.judge_case(case, stage, golden) for case in cases])
    objects = test_cfind.population_objects(golden)
    assert all(retrieved(taken_over, one) for one in objects)
    assert counts(taken_over) == rows(taken_over)


def test_it_goes_on(golden: GoldenSet, taken_over: Server) -> None:
    """Clashes are refused, copies replace, deletes delete, and rows of others are not written."""
    before = taken_over.tables()
    objects = test_cfind.population_objects(golden)
    assert objects[0].store(taken_over) == "0x0000"
    assert counts(taken_over) == tuple(len(before[name]) for name in TABLES)
    images = {row["SOPInstanc"]: row for row in taken_over.tables()["DICOMImages"]}
    changed = [row for row in before["DICOMImages"] if row != images[row["SOPInstanc"]]]
    assert [row["SOPInstanc"] for row in changed] == [objects[0].text(0x00080018)]
    clash = golden.object("scen/same_study_other_patient.0.dcm")
    assert clash.store(taken_over) == "0x0000"
    assert golden.object("scen/same_study_other_patient.1.dcm").store(taken_over) == "0x0110"
    for row in before["DICOMPatients"]:
        ControlClient(taken_over.home).call("delete", level="patient", uids=[row["PatientID"]])
    assert rows(taken_over) == counts(taken_over) == (1, 1, 1, 1)
    assert taken_over.restart() is taken_over
    assert rows(taken_over) == counts(taken_over) == (1, 1, 1, 1)
