"""What every database has to do: the same as the embedded index, seen from outside.

Rows, clashes, updates and queries are those of the golden cases; the rest is asked with objects
of our own. Nothing here knows which database it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from pyserver.control import ControlClient
from tests.conftest import MakeServer
from tests.drivers.conftest import Report
from tests.golden import test_cfind, test_database, test_scenarios
from tests.golden.cases import GoldenSet, ini_lines
from tests.support import dimse
from tests.support.objects import Ledger, TestObject, make_series, store
from tests.support.server import Server
from tests.support.worklist import find, keys, order, write_orders

# Of all scenarios, those that a database can get wrong; the others run with --slow.
SCENARIOS = ("same_study_other_patient", "allow_empty_patid_fill_later", "rename_on_rewrite")
OPEN = "UnknownPeers = all"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "scenario" not in metafunc.fixturenames:
        return
    cases = GoldenSet(metafunc.config.getoption("--golden")).load(test_scenarios.FILE) or {}
    slow = pytest.mark.slow
    metafunc.parametrize(
        "scenario",
        [pytest.param(case, marks=() if case in SCENARIOS else slow) for case in cases],
    )


@pytest.mark.parametrize("file", test_database.FILES)
def test_rows(
    file: str, told: GoldenSet, make_indexed: MakeServer, report_verdicts: Report
) -> None:
    if told.load(file) is None:
        pytest.skip(f"no {file} in this folder of cases")
    test_database.test_rows(file, told, make_indexed, report_verdicts)


def test_scenario(
    scenario: str, told: GoldenSet, make_indexed: MakeServer, report_verdicts: Report
) -> None:
    test_scenarios.test_scenario(scenario, told, make_indexed, report_verdicts)


def test_queries(golden: GoldenSet, make_indexed: MakeServer, report_verdicts: Report) -> None:
    server = make_indexed(ini=ini_lines({}))
    for sent in test_cfind.population_objects(golden):
        assert sent.store(server) == "0x0000", sent.name
    stage = test_cfind.make_stage(server, golden)
    cases = golden.load(test_cfind.FILE) or []
    report_verdicts([test_cfind.judge_case(case, stage, golden) for case in cases])


def counts(server: Server) -> tuple[int, ...]:
    found = ControlClient(server.home).call("counts")
    return tuple(found[name] for name in ("patients", "studies", "series", "images"))


def rows(server: Server) -> tuple[int, ...]:
    tables = server.tables()
    names = ("DICOMPatients", "DICOMStudies", "DICOMSeries", "DICOMImages")
    return tuple(len(tables[name]) for name in names)


def got(server: Server, objects: Iterable[TestObject]) -> set[str]:
    """Instances that C-GET brings back whole, series by series."""
    wanted = {one.instance: one for one in objects}
    found = set()
    first_of_series = {one.series: one for one in wanted.values()}
    for one in first_of_series.values():
        with dimse.Association(
            server.address,
            [(dimse.STUDY_ROOT_GET, [dimse.IMPLICIT_LE]), (one.sop_class, [one.transfer_syntax])],
            roles=[one.sop_class],
        ) as peer:
            result = peer.get(dimse.STUDY_ROOT_GET, one.keys("SERIES"))
            found |= {
                uid
                for uid, (_, data) in result.objects.items()
                if uid in wanted and data == wanted[uid].data()
            }
    return found


def test_retrieve_and_counts(make_indexed: MakeServer) -> None:
    server = make_indexed(ini=[OPEN])
    objects = make_series([500, 70_000, 500], "P1") + make_series([500], "P2")
    assert list(store(server, objects)) == [0] * 4
    assert counts(server) == rows(server) == (2, 2, 2, 4)
    assert got(server, objects) == {one.instance for one in objects}


def test_worklist(make_indexed: MakeServer, tmp_path: Path) -> None:
    server = make_indexed(ini=[OPEN])
    file = write_orders(
        tmp_path / "orders.hl7",
        order("A1", "M\u00fcller^Jan", "20250131102030"),
        order("A2", "Doe^Jane", "20250201", "MR"),
        order("A3", "\u0150ry^P\u00e9ter", "20250202"),
    )
    control = ControlClient(server.home)
    control.call("worklist_load", path=str(file))

    def names(asked: Dataset) -> list[str]:
        asked.PatientName = asked.get("PatientName", "")
        return sorted(str(answer.PatientName) for answer in find(server, asked)[1])

    day = "ScheduledProcedureStepStartDate"
    assert names(keys()) == ["Doe^Jane", "M\u00fcller^Jan", "\u0150ry^P\u00e9ter"]
    assert names(keys({day: "20250131-20250201"})) == ["Doe^Jane", "M\u00fcller^Jan"]
    assert names(keys({"Modality": "MR"}, PatientName="doe*")) == ["Doe^Jane"]
    assert names(keys(AccessionNumber="A1")) == ["M\u00fcller^Jan"]
    assert names(keys(PatientID="P-A_")) == []
    table = control.call("dump", table="DICOMWorkList")
    assert sorted(row["AccessionN"] for row in table) == ["A1", "A2", "A3"]
    # Neither case nor wildcards reach another entry.
    assert control.call("worklist_remove", keys={"AccessionNumber": "a1"}) == 0
    assert control.call("worklist_remove", keys={"AccessionNumber": "A2"}) == 1
    assert control.call("worklist_load", path=str(file)) == {
        "added": 1,
        "replaced": 2,
        "cancelled": 0,
    }
    server.kill()
    server.start()
    assert len(names(keys())) == 3
    assert ControlClient(server.home).call("worklist_remove", keys={}) == 3
    assert names(keys()) == []


def test_delete(make_indexed: MakeServer) -> None:
    server = make_indexed(ini=[OPEN])
    one, two, three = (make_series([500, 500], name) for name in ("P1", "p1", "P_"))
    assert list(store(server, [*one, *two, *three])) == [0] * 6
    control = ControlClient(server.home)

    def delete(level: str, key: str) -> tuple[int, ...]:
        control.call("delete", level=level, uids=[key])
        assert counts(server) == rows(server)
        return counts(server)

    assert delete("image", one[0].instance) == (3, 3, 3, 5)
    # The last image of a series takes everything above it along.
    assert delete("image", one[1].instance) == (2, 2, 2, 4)
    # Neither case nor wildcards reach another patient.
    assert delete("patient", "P%") == (2, 2, 2, 4)
    assert delete("patient", "P_") == (1, 1, 1, 2)
    assert delete("series", two[0].series) == (0, 0, 0, 0)
    assert list(store(server, two)) == [0, 0]
    assert counts(server) == rows(server) == (1, 1, 1, 2)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_recovery(end: str, make_indexed: MakeServer) -> None:
    """What was acknowledged is there after the process has ended."""
    server = make_indexed(ini=[OPEN])
    objects = make_series([500] * 20, "P1")
    assert list(store(server, objects)) == [0] * 20
    getattr(server, end)()
    server.start()
    assert counts(server) == rows(server) == (1, 1, 1, 20)
    assert got(server, objects) == {one.instance for one in objects}


def test_keys_that_are_no_text(make_indexed: MakeServer) -> None:
    """Quotes, backslashes, control characters and bytes beyond ASCII stay what they are."""
    server = make_indexed(ini=[OPEN])
    names = ["O'Brien;--", 'a"b', "x\\y", "%_!*", "\xe9\xff", "{}", "?:1 $1 %s"]
    answers: dict[str, Any] = {}
    for name in names:
        (one,) = make_series([100], name)
        answers[name] = list(store(server, [one]))
    assert set(map(tuple, answers.values())) == {(0,)}
    found = {row["PatientID"] for row in server.tables()["DICOMPatients"]}
    assert found == {name.encode().decode("latin-1") for name in names}


def test_a_clone_and_its_updates(make_server: MakeServer, make_indexed: MakeServer) -> None:
    """A second clone changes rows: of images, and of a study alone."""
    source = make_server(aet="SOURCE", ini=[OPEN])
    target = make_indexed(ini=[OPEN], peers=[f"SOURCE 127.0.0.1 {source.port} un"])

    def cloned(objects: list[TestObject]) -> dict[str, dict[str | None, dict[str, str | None]]]:
        assert set(store(source, objects)) == {0}
        report = target.cli_json("clonedb", "SOURCE")
        assert (report["failed"], report["refused"]) == (0, 0)
        assert counts(target) == rows(target) == (1, 1, 1, 3)
        tables = target.tables()
        keys = {"DICOMStudies": "StudyInsta", "DICOMImages": "SOPInstanc"}
        return {name: {row[key]: row for row in tables[name]} for name, key in keys.items()}

    objects = make_series([64] * 3, "P1")
    cloned(objects)
    changed = replace(objects[1], number=77)
    image = cloned([changed])["DICOMImages"][changed.instance]
    assert image["ImageNumbe"] == "77"
    described = replace(objects[0], description="better")
    study = cloned([described])["DICOMStudies"][described.study]
    assert study["StudyDescr"] == "better"


def test_ledger(make_indexed: MakeServer) -> None:
    """Several senders at once; every acknowledged object is found and whole."""
    server = make_indexed(ini=[OPEN])
    ledger = Ledger()
    for number in range(4):
        ledger.send(server, make_series([300] * 25, f"P{number}"))
    assert ledger.check(server) == []
