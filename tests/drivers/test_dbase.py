"""dBase files: byte for byte Conquest's, read by others, packed, without an index, widened."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dbfread
import pytest

from pyserver import _native
from pyserver.config.defaults import default_text, denormalised
from pyserver.index import dbf
from pyserver.index.dbase import DbaseDriver
from pyserver.index.dbf import DbfError, DbfFile, Field
from pyserver.index.driver import DatabaseRefused, Query, Row
from pyserver.index.tables import IMAGE, PATIENT, SERIES, STUDY, Schema, read_schema
from tests.conftest import MakeServer
from tests.drivers.test_contract import counts, got, rows
from tests.support.objects import make_series, store
from tools.databases import Dbase

OPEN = "UnknownPeers = all"
DBASE = [OPEN, "SQLServer = dbase/"]


def schema_of(text: str) -> Schema:
    return read_schema(_native.parse_columns(text), 10)


@pytest.fixture
def schema() -> Schema:
    return schema_of(default_text("dicom.sql"))


@pytest.fixture
def driver(schema: Schema, tmp_path: Path) -> Iterator[DbaseDriver]:
    made = DbaseDriver(schema, tmp_path)
    made.prepare()
    yield made
    made.close()


def row(schema: Schema, level: int, key: str, link: str, **values: str) -> Row:
    """A row of a level, with its file when it is an image."""
    columns = schema.tables[level].columns
    cells: list[Any] = [values.get(column.name) for column in columns]
    cells[0], cells[-1] = key, link or key
    return (*cells, 1_700_000_000, *(("a/b.dcm", "MAG0") if level == IMAGE else ()))


def family(schema: Schema, patient: str, images: int) -> list[list[Row]]:
    """One patient with one study, one series and some images."""
    study, series = f"1.{patient}", f"1.{patient}.1"
    return [
        [row(schema, PATIENT, patient, "", PatientNam=f"Name^{patient}")],
        [row(schema, STUDY, study, patient)],
        [row(schema, SERIES, series, study, Modality="CT")],
        [
            row(
                schema, IMAGE, f"{series}.{n}", series, SOPClassUI=f"1.2.{n % 2}", ImageNumbe=str(n)
            )
            for n in range(images)
        ],
    ]


def test_a_file_is_byte_for_byte_that_of_conquest(
    schema: Schema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conquest extracted a patient on 2026-11-21 (golden data, commands.json, `extract`); of the
    file length and hash are recorded, and only this access time has them."""

    class Day(datetime.date):
        @classmethod
        def today(cls) -> Day:
            return cls(2026, 11, 21)

    monkeypatch.setattr(dbf.datetime, "date", Day)
    driver = DbaseDriver(schema, tmp_path)
    driver.prepare()
    driver.apply([], [[("P001", "Doe^John", "19500607", "M", 1795287712)], [], [], []])
    driver.close()
    written = (tmp_path / "DICOMPatients.DBF").read_bytes()
    assert len(written) == 537
    assert hashlib.sha1(written).hexdigest() == "db2feea969d278e9cc710cf08a1777684bdbed51"


def test_others_read_it(driver: DbaseDriver, schema: Schema) -> None:
    driver.apply([], family(schema, "P1", 3))
    driver.apply([(IMAGE, "1.P1.1.1")], [[], [], [], []])
    path = driver.folder / "DICOMImages.DBF"
    images = list(dbfread.DBF(str(path), encoding="latin-1"))
    assert [image["SOPINSTANC"] for image in images] == ["1.P1.1.0", "1.P1.1.2"]
    assert images[0]["OBJECTFILE"] == "a/b.dcm"
    assert images[0]["QSPARE"] == ""
    deleted = dbfread.DBF(str(path), encoding="latin-1").deleted
    assert [image["SOPINSTANC"] for image in deleted] == ["1.P1.1.1"]


def found(driver: DbaseDriver, query: Query) -> list[Row]:
    return [one for page in driver.find(query) for one in page]


@pytest.mark.parametrize("in_memory", [True, False], ids=["index", "scan"])
def test_rows_are_joined_counted_and_narrowed(
    in_memory: bool, schema: Schema, tmp_path: Path
) -> None:
    driver = DbaseDriver(schema, tmp_path, in_memory=in_memory)
    driver.prepare()
    for patient, images in (("P1", 3), ("P2", 2000)):
        driver.apply([], family(schema, patient, images))
    assert driver.counts() == (2, 2, 2, 2003)
    of_p2 = [((PATIENT, 0), "any", ["P2"])]
    wanted = [(IMAGE, 0), (PATIENT, 1)]
    answers = found(driver, Query(IMAGE, wanted, file=True, conditions=of_p2))
    assert len(answers) == 2000
    assert answers[7] == (b"1.P2.1.1003", b"Name^P2", b"a/b.dcm", b"MAG0")
    (study,) = found(driver, Query(STUDY, [(STUDY, 0)], [SERIES, IMAGE], True, conditions=of_p2))
    assert study == (b"1.P2", 1, 2000, b"1.2.0\\1.2.1")
    like = [((PATIENT, 1), "like", ["name^p1*"])]
    assert found(driver, Query(SERIES, [(SERIES, 0)], conditions=like)) == [(b"1.P1.1",)]
    number = (IMAGE, [c.name for c in schema.tables[IMAGE].columns].index("ImageNumbe"))
    between = [(number, "least", ["1997"]), (number, "most", ["1999"])]
    last = found(driver, Query(IMAGE, [number], conditions=between, sort=number))
    assert last == [(b"1997",), (b"1998",), (b"1999",)]
    driver.apply([(PATIENT, "P2")], [[], [], [], []])
    assert driver.counts() == (1, 1, 1, 3)
    # Of a study that has a series left, the store is told.
    second = row(schema, SERIES, "1.P1.2", "1.P1")
    driver.apply([], [[], [], [second], [row(schema, IMAGE, "1.P1.2.1", "1.P1.2")]])
    assert driver.apply([(SERIES, "1.P1.1")], [[], [], [], []]) == [b"1.P1"]
    assert driver.counts() == (1, 1, 1, 1)
    driver.close()


def test_what_a_crash_left_half_written_does_not_count(driver: DbaseDriver, schema: Schema) -> None:
    """Records behind those of the header, and some that never reached the disk."""
    driver.apply([], family(schema, "P1", 3))
    path = driver.folder / "DICOMImages.DBF"
    data = path.read_bytes()
    size = driver.tables[IMAGE].file.record_bytes
    driver.close()
    for cut in (data[:-5], data[:-size] + bytes(size)):
        path.write_bytes(cut)
        again = DbaseDriver(schema, driver.folder)
        again.prepare()
        assert again.counts()[IMAGE] == 2
        again.apply([], family(schema, "P1", 3))
        assert again.counts()[IMAGE] == 3
        again.close()


def test_columns_are_added_and_deleted_records_packed(driver: DbaseDriver, schema: Schema) -> None:
    driver.apply([], family(schema, "P1", 5))
    driver.apply([(IMAGE, "1.P1.1.1"), (IMAGE, "1.P1.1.3")], [[], [], [], []])
    driver.close()
    kept = DbaseDriver(schema, driver.folder)
    assert kept.prepare() is False
    assert kept.tables[IMAGE].file.count == 5
    kept.close()
    packed = DbaseDriver(
        schema_of(denormalised(default_text("dicom.sql"))), driver.folder, pack=True
    )
    assert packed.prepare() is True
    assert packed.tables[IMAGE].file.count == 3
    numbers = [image["ImageNumbe"] for image in packed.dump("DICOMImages")]
    assert numbers == ["0", "2", "4"]
    assert "PatientNam" in packed.dump("DICOMImages")[0]
    packed.close()


def test_columns_that_are_not_ours_stay(driver: DbaseDriver, schema: Schema) -> None:
    driver.apply([], family(schema, "P1", 1))
    file = driver.tables[PATIENT].file
    place = file.places()["QSPARE"]
    record = bytearray(file.read(0))
    record[place] = b"kept".ljust(64)
    file.overwrite(0, bytes(record))
    driver.apply([], [[row(schema, PATIENT, "P1", "", PatientNam="Other")], [], [], []])
    (patient,) = driver.dump("DICOMPatients")
    assert (patient["PatientNam"], patient["qSpare"]) == ("Other", "kept")


def test_what_is_no_such_file_is_refused(driver: DbaseDriver, schema: Schema) -> None:
    driver.close()
    (driver.folder / "DICOMSeries.DBF").write_bytes(b"\x30" + bytes(100))
    with pytest.raises(DatabaseRefused, match=r"DICOMSeries\.DBF is no file of dBase III"):
        DbaseDriver(schema, driver.folder).prepare()
    with pytest.raises(DbfError, match="two columns are called PATIENTNAM"):
        DbfFile.create(driver.folder / "X.DBF", [Field("PatientNam", 5), Field("PATIENTNAM", 5)])


def test_two_servers_do_not_share_the_files(driver: DbaseDriver, schema: Schema) -> None:
    with pytest.raises(DatabaseRefused, match="in use by another process"):
        DbaseDriver(schema, driver.folder, pack=True).prepare()


def test_long_queries_are_told(schema: Schema, tmp_path: Path) -> None:
    said: list[str] = []
    driver = DbaseDriver(schema, tmp_path, long_query_ms=1, say=said.append)
    driver.prepare()
    driver.apply([], family(schema, "P1", 3000))
    found(driver, Query(IMAGE, [(IMAGE, 0)], sort=(IMAGE, 2)))
    driver.close()
    assert len(said) == 1
    assert "a query of DICOMImages took" in said[0]


def test_a_new_home_gets_the_table_that_needs_no_joins(make_server: MakeServer) -> None:
    server = make_server(ini=DBASE)
    objects = make_series([500] * 3, "P1")
    assert list(store(server, objects)) == [0] * 3
    (first, *_) = server.tables()["DICOMImages"]
    assert first["StudyInsta"] == objects[0].study
    assert {"PatientNam", "SeriesNumb", "FrameOfRef"} <= first.keys()
    server.stop()
    server.configure([*DBASE, "IndexDBF = 0", "PackDBF = 1"])
    server.start()
    assert counts(server) == rows(server) == (1, 1, 1, 3)
    assert got(server, objects) == {one.instance for one in objects}
    assert len(dbfread.DBF(str(Dbase.folder(server.home) / "DICOMImages.DBF"))) == 3
