"""clonedb_virtualserver.json: the rows that clonedb makes of another server's index.

The source holds the population of find_database.json, as when the case was recorded; the target is
fresh, with the line of dicom.ini that the case names. Only the columns recorded are compared.
"""

from __future__ import annotations

import time

import pytest

from tests.conftest import MakeServer
from tests.golden.cases import GoldenSet, ini_lines, matches
from tests.golden.conftest import Report
from tests.golden.verdict import Difference, judge

FILE = "clonedb_virtualserver.json"
POPULATION = "find_database.json"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    golden = GoldenSet(metafunc.config.getoption("--golden"))
    metafunc.parametrize("file", [FILE] if golden.load(FILE) and golden.load(POPULATION) else [])


def test_cloned_rows(
    file: str, golden: GoldenSet, make_server: MakeServer, report_verdicts: Report
) -> None:
    recorded = golden.load(file)
    source_ae = recorded["config"].partition("=")[2].strip()
    source = make_server(aet=source_ae, ini=[*ini_lines({}), "UnknownPeers = all"])
    for name in golden.load(POPULATION)["store_order"]:
        assert golden.object(name).store(source) == "0x0000", name
    target = make_server(
        ini=[*ini_lines({}), recorded["config"]],
        peers=[f"{source_ae} 127.0.0.1 {source.port} un"],
    )
    started = time.time()
    target.cli("clonedb", source_ae)
    tables = target.tables()
    images = {row["SOPInstanc"]: row for row in tables["DICOMImages"]}
    verdicts = []
    for table, count in recorded["counts"].items():
        found = len(tables.get(table, []))
        differences = [] if found == count else [Difference(f"counts.{table}", count, found)]
        verdicts.append(judge(file, f"count of {table}", differences, facts=None, rules=()))
    for number, expected in enumerate(recorded["images"]):
        observed = images.get(expected["SOPInstanc"], {})
        differences = [
            Difference(f"images.{number}.{column}", value, observed.get(column))
            for column, value in expected.items()
            if value is not None and not matches(value, str(observed.get(column)), started)
        ]
        verdicts.append(
            judge(file, f"image {expected['SOPInstanc']}", differences, facts=None, rules=())
        )
    report_verdicts(verdicts)
