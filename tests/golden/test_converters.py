"""scripting/converters.json: converter lines on what a real Conquest recorded.

All cases share one server whose configuration is reloaded for each; those that need another
device or a restart get one of their own.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.golden.cases import GoldenSet
from tests.golden.conftest import Report
from tests.golden.converter_rules import RULES, Facts, deferred
from tests.golden.destination import Destination, ExportRun
from tests.golden.request_steps import Asking
from tests.golden.scripting import Case, ScriptingSet
from tests.golden.verdict import Difference, Verdict, judge
from tests.support.server import Server

FILE = "converters.json"
OWN_SERVER = ("MAGDevices", "SQLServer", "WorkListMode")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    golden = GoldenSet(metafunc.config.getoption("--golden"))
    metafunc.parametrize("case", ScriptingSet(golden).cases(FILE), ids=lambda case: case.id)


def test_converters(
    case: Case, shared: Server, make_server: MakeServer, report_verdicts: Report
) -> None:
    waiting = deferred(case)
    if waiting:
        report_verdicts([Verdict(FILE, case.id, waiting)])
        return
    destination = Destination(case)
    run = ExportRun(case, shared, destination)
    # A rebuild also finds files of the cases before, which go a moment after their rows.
    rebuilds = any("--regen:" in step["op"] for step in case.data["steps"])
    # What it does to file names lasts.
    marks = any("testmode" in line for line in Facts(case).lines())
    if rebuilds or marks or any(name in case.ini("sscscp") for name in OWN_SERVER):
        run = ExportRun(case, make_server(start=False), destination)
        run.configure()
        for name, value in case.ini("sscscp").items():
            if re.fullmatch(r"MAGDevice\d+", name):
                Path(run.text(value)).mkdir(parents=True, exist_ok=True)
        run.server.start()
    if destination.wish:
        destination.start()
    try:
        refused = run.prepare()
        assert not refused, refused
        found = _steps(case, run)
        if destination.wish:
            run.settle()
            found += run.compare_destination()
        found += run.compare()
    finally:
        destination.stop()
    facts = Facts(case)
    report_verdicts([judge(FILE, case.id, found, facts=facts, rules=RULES, masks=case.masks)])


def _steps(case: Case, run: ExportRun) -> list[Difference]:
    found = []
    asking = Asking(run)
    for step in case.data["steps"]:
        verb, *arguments = step["op"]
        if verb != "store":
            found += asking.step(verb, arguments, step["result"])
            continue
        titles = arguments[1] if len(arguments) > 1 else {}
        statuses = run.store(arguments[0], titles)
        if statuses != step["result"]:
            found.append(Difference("steps.result", step["result"], statuses))
    return found
