"""db_scenarios.json: what a second, changed or clashing copy does to rows and files.

A fresh server per scenario; rows and files are compared after each step.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.conftest import MakeServer
from tests.golden.cases import GoldenSet, ini_lines, matches
from tests.golden.conftest import Report
from tests.golden.rows import compare_tables
from tests.golden.rules import ROWS, Facts, is_deferred
from tests.golden.verdict import Difference, Verdict, judge
from tests.support.dataset import read_file, values
from tests.support.server import Server
from tests.support.waiting import comes_true

FILE = "db_scenarios.json"
_TAGS = {
    "SOPInstanceUID": 0x00080018,
    "PatientID": 0x00100020,
    "StudyDescription": 0x00081030,
}

REPLACED_GOES_S = 5.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases = GoldenSet(metafunc.config.getoption("--golden")).load(FILE) or {}
    metafunc.parametrize("scenario", list(cases))


def test_scenario(
    scenario: str, golden: GoldenSet, make_server: MakeServer, report_verdicts: Report
) -> None:
    recorded = golden.load(FILE)[scenario]
    waiting = is_deferred(recorded["config"])
    if waiting:
        report_verdicts([Verdict(FILE, scenario, [waiting])])
        return
    server = make_server(ini=ini_lines(recorded["config"]))
    started = time.time()
    verdict = Verdict(FILE, scenario)
    objects, statuses = [], []
    for number, step in enumerate(recorded["steps"]):
        objects.append(golden.object(step["file"]))
        statuses.append(objects[-1].store(server))
        facts = Facts(
            recorded["config"],
            list(objects),
            list(statuses),
            expected_tables=step["tables"],
            observed_tables=_without_empty(server.tables()),
            files=_files(server),
        )
        part = judge(
            FILE,
            f"{scenario} step {number}",
            _differences(step, facts, server, started),
            facts=facts,
            rules=ROWS,
            masks=[mask.inside("steps") for mask in golden.masks(FILE, scenario)],
        )
        verdict.deviations += part.deviations
        verdict.failures += part.failures
    report_verdicts([verdict])


def _differences(
    step: dict[str, Any], facts: Facts, server: Server, started: float
) -> list[Difference]:
    """Fields are named as known_bugs.json names those of a step."""
    found = []
    status = facts.statuses[-1]
    if status != step["c_store_status"]:
        found.append(Difference("c_store_status", step["c_store_status"], status))
    found += compare_tables(facts.expected_tables, facts.observed_tables, started)
    found += _compare_files(step["files"], facts.files, started)
    if not server.alive():
        found.append(Difference("alive", step["alive"], False))
    return found


def _without_empty(tables: dict[str, Any]) -> dict[str, Any]:
    """Rows as the file writes them: columns never written are left out."""
    return {
        table: [{name: value for name, value in row.items() if value is not None} for row in rows]
        for table, rows in tables.items()
    }


def _files(server: Server) -> dict[str, dict[str, str]]:
    """The files and their elements. One that a re-store replaced under another name goes when the
    new one is settled: it is given a moment."""
    rows = {row["ObjectFile"] for row in server.tables()["DICOMImages"]}
    comes_true(lambda: not set(server.files()) - rows, REPLACED_GOES_S)
    found = {}
    for name in server.files():
        elements = values(read_file(server.path(name)).tree())
        found[name] = {keyword: elements.get(tag, "None") for keyword, tag in _TAGS.items()}
    return found


def _compare_files(
    expected: dict[str, dict[str, str]], observed: dict[str, dict[str, str]], started: float
) -> list[Difference]:
    found = []
    left = dict(observed)
    for pattern, elements in expected.items():
        name = next((name for name in left if matches(pattern, name, started)), None)
        if name is None:
            found.append(Difference("files.*", elements, None, pattern))
            continue
        actual = left.pop(name)
        found += [
            Difference(f"files.{keyword}", elements[keyword], actual[keyword], name)
            for keyword in elements
            if elements[keyword] != actual[keyword]
        ]
    return found + [Difference("files.*", None, left[name], name) for name in left]
