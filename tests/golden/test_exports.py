"""scripting/export.json: export converters and forwarding on what a real Conquest recorded.

Conquest's retry files are the queue here: a listed file stands for work that waits. What happens
at the destination is recorded by a receiver of pynetdicom's.
"""

from __future__ import annotations

import pytest

from tests.conftest import MakeServer
from tests.golden.cases import GoldenSet
from tests.golden.conftest import Report
from tests.golden.destination import Destination, ExportRun
from tests.golden.export_rules import RULES, deferred
from tests.golden.scripting import Case, ScriptingSet
from tests.golden.verdict import Verdict, judge
from tests.support.server import Server

FILE = "export.json"


def is_slow(case: Case) -> bool:
    """Whether it waits for delays, restarts or a peer, or sends several objects on."""
    verbs = {step["op"][0] for step in case.data["steps"]}
    stores = [step["op"][1] for step in case.data["steps"] if step["op"][0] == "store"]
    if case.data["result"].get("destination") and sum(len(files) for files in stores) > 1:
        return True
    if any(" after " in line for line in case.ini("sscscp").values()):
        return True
    return bool(verbs & {"restart", "dest_start", "hexdump_record"}) or any(
        name in case.ini("sscscp") for name in ("ForwardAssociationCloseDelay", "RetryDelay")
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    golden = GoldenSet(metafunc.config.getoption("--golden"))
    cases = [
        pytest.param(case, id=case.id, marks=[pytest.mark.slow] if is_slow(case) else [])
        for case in ScriptingSet(golden).cases(FILE)
    ]
    metafunc.parametrize("case", cases)


def test_exports(
    case: Case, shared: Server, make_server: MakeServer, report_verdicts: Report
) -> None:
    waiting = deferred(case)
    if waiting:
        report_verdicts([Verdict(FILE, case.id, waiting)])
        return
    destination = Destination(case)
    run = ExportRun(case, make_server(start=False) if is_slow(case) else shared, destination)
    if not destination.wish.get("down"):
        destination.start()
    try:
        run.begin()
        found = run.steps()
        found += run.compare() + run.compare_destination()
    finally:
        destination.stop()
    report_verdicts([judge(FILE, case.id, found, facts=case, rules=RULES, masks=case.masks)])
